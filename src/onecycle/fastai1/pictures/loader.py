"""fastai v1's loader of batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from onecycle.data.labels.items import DatasetType

__all__ = ["DeviceDataLoader"]


class DeviceDataLoader:
    """Batches ``(x, y)`` of one part; a list of transforms that is set on its ``dataset`` is used from then on.

    Args:
        data: the bunch.
        ds_type: which part.
    """

    def __init__(self, data: Any, ds_type: DatasetType) -> None:
        self.dl, self.data = data.loader(ds_type), data
        self.dataset, self.device = self.dl.dataset, self.dl.device
        self._made_with, self._epoch = self.dataset.tfms, -1

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
        loader = self.dl
        if self.dataset.tfms is not self._made_with:
            lists = replace(self.data.lists, tfms=(self.dataset.tfms, self.dataset.tfms))
            loader = loader.replace(augmenter=lists.augmenters()[0])
        loader.set_epoch(self._epoch)
        return iter(loader)
