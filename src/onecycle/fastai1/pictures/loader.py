"""fastai v1's loader of batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from onecycle.data.batches import BatchLoader
from onecycle.data.bunch import LabeledLists
from onecycle.data.labels.items import DatasetType
from onecycle.fastai1.pictures.dataset import PictureList
from onecycle.fastai1.pictures.in_batches import to_product

__all__ = ["DeviceDataLoader"]


def as_set(lists: LabeledLists, loader: BatchLoader) -> BatchLoader:
    """Return a loader with the transforms that were set on its data set, where any were."""
    dataset = loader.dataset
    if not (isinstance(dataset, PictureList) and dataset.changed):
        return loader
    tfms = to_product(dataset.tfms)
    return loader.replace(augmenter=replace(lists, tfms=(tfms, tfms)).augmenters()[0])


class DeviceDataLoader:
    """Batches ``(x, y)`` of one part; a list of transforms that is set on its ``dataset`` is used from then on.

    Args:
        data: the bunch.
        ds_type: which part.
    """

    def __init__(self, data: Any, ds_type: DatasetType) -> None:
        self.dl, self.data = data.loader(ds_type), data
        self.dataset, self.device = self.dl.dataset, self.dl.device
        self._epoch = -1

    @property
    def batch_size(self) -> int:
        """Pictures in a batch."""
        return int(self.dl.bs)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and draws the next iteration gives."""
        self._epoch = epoch - 1

    def __len__(self) -> int:
        return len(self.dl)

    def __iter__(self) -> Any:
        self._epoch += 1
        loader = as_set(self.data.lists, self.dl)
        loader.set_epoch(self._epoch)
        return iter(loader)
