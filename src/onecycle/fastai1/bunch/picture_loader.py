"""fastai v1's loader of pictures: onecycle's, with v1's names, and another order at each pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Self

import numpy as np

from onecycle.data.batches import Batch, BatchLoader
from onecycle.data.bunch import LabeledLists
from onecycle.errors import ArgumentError
from onecycle.fastai1.pictures.dataset import PictureList
from onecycle.fastai1.pictures.in_batches import to_product

__all__ = ["PictureLoader"]

_SETTINGS = {"batch_size": "bs", "bs": "bs", "shuffle": "shuffle", "drop_last": "drop_last"}
_IDLE = ("num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context")
"""Of torch's loaders: they change nothing of the batches."""


def as_set(lists: LabeledLists, loader: BatchLoader) -> BatchLoader:
    """Return a loader with the transforms that were set on its data set, where any were."""
    dataset = loader.dataset
    if not (isinstance(dataset, PictureList) and dataset.changed):
        return loader
    tfms = to_product(dataset.tfms)
    return loader.replace(augmenter=replace(lists, tfms=(tfms, tfms)).augmenters()[0])


class PictureLoader(BatchLoader):
    """Batches ``(x, y)`` of one part; made by a bunch.

    Where nobody sets the epoch, each pass has the next one's order and draws. What torch's loader inside was in v1,
    ``.dl``, is this object itself.
    """

    _passed = False  # whether the epoch that is set was gone through

    @classmethod
    def of(cls, loader: BatchLoader, lists: LabeledLists, earlier: PictureLoader | None = None) -> Self:
        """Take a loader of some lists as it is; its passes go on from those of an earlier one."""
        made = cls.__new__(cls)
        made.__dict__.update(loader.__dict__)
        made.changes, made._lists = {}, lists
        if earlier is not None:
            made.epoch, made._passed = earlier.epoch, earlier._passed
        return made

    _lists: LabeledLists
    changes: dict[str, Any]
    """What ``new`` changed."""

    @property
    def dl(self) -> Self:
        """This loader."""
        return self

    @property
    def num_workers(self) -> int:
        """The threads that decode; setting it changes nothing."""
        return int(self.dataset.store.threads)

    @num_workers.setter
    def num_workers(self, value: int) -> None:
        """Leave the threads as they are: they never change a batch."""

    @property
    def tfms(self) -> list[Callable[[Any], Any]]:
        """The functions that are called on each batch."""
        return list(self.dl_tfms)

    def new(self, **settings: Any) -> Self:
        """Return a loader with other settings of torch's; assign it to ``data.train_dl`` for training to use it.

        Raises:
            ArgumentError: a ``sampler`` without weights, a ``collate_fn``, or another setting that cannot be followed.
        """
        changes = dict(self.changes)
        for name, value in settings.items():
            if name == "sampler" and hasattr(value, "weights"):
                changes |= {"weights": np.asarray(value.weights, dtype=np.float64), "shuffle": True}
            elif name in _SETTINGS:
                changes[_SETTINGS[name]] = value
            elif value is not None and name not in _IDLE:
                raise ArgumentError(
                    f"new({name}=...) is not known here: of a loader batch_size, shuffle and drop_last can be changed, "
                    "and a sampler can be one that draws by weights (WeightedRandomSampler)"
                )
        made = type(self).of(self.replace(**changes), self._lists, self)
        made.changes = changes
        return made

    def replace(self, **changes: object) -> BatchLoader:
        """Return a plain loader of the same part, with some settings changed, at its first epoch."""
        plain = BatchLoader.__new__(BatchLoader)
        plain.__dict__.update(self.__dict__)
        plain.epoch = 0
        return plain.replace(**changes)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and draws the next pass gives."""
        super().set_epoch(epoch)
        self._passed = False

    def __iter__(self) -> Iterator[Batch]:
        self.epoch += self._passed
        self._passed = True
        loader = as_set(self._lists, self.replace())  # transforms may have been set on the data set meanwhile
        loader.set_epoch(self.epoch)
        return iter(loader)

    def one_batch(self) -> Batch:
        """Return the first batch."""
        return self.batch_at(self.epoch, 0)
