"""fastai v1's loader of a notebook's own data: batches of a loader of PyTorch's, as the training loop takes them."""

from __future__ import annotations

import random
from abc import ABCMeta
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, default_collate

from onecycle.data.batches import Batch
from onecycle.data.labels.splits import DEFAULT_SEED
from onecycle.errors import ArgumentError, check_keywords
from onecycle.fastai1 import core
from onecycle.fastai1.bunch.picture_loader import PictureLoader
from onecycle.fastai1.torch_core import data_collate, to_device
from onecycle.train.device.machine import checked_device
from onecycle.train.device.random_state import mix_seed

__all__ = ["DeviceDataLoader"]

_OTHERS = ("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context")
"""Settings of PyTorch's loader that say neither what is in a batch nor in which order."""


class DeviceDataLoader(metaclass=ABCMeta):  # noqa: B024 (for register: batches of pictures are one, too)
    """Batches ``(x, y)`` of a loader of PyTorch's on a device; batches of pictures count as one, too.

    What the loader draws, its order above all, and what the data set draws in this process are functions of (seed,
    epoch, step). Where nobody sets the epoch, each pass is the next one. Other names are the loader's, or its data
    set's, as in v1.

    Args:
        dl: a ``DataLoader``, or anything of a known length that gives batches ``(x, y)``.
        device: where batches go; default the GPU where there is one.
        tfms: called on each batch in turn, on the device.
        collate_fn: makes a batch of items; default the loader's own, or v1's.
        seed: of the draws.

    Raises:
        ArgumentError: it has no length.
    """

    def __init__(
        self, dl: Any, device: Any = None, tfms: Any = None, collate_fn: Any = None, *, seed: int = DEFAULT_SEED
    ) -> None:
        self.dl, self.tfms, self.seed = dl, core.listify(tfms), seed
        self.device = checked_device(default_device() if device is None else device)
        if collate_fn is not None or getattr(dl, "collate_fn", None) is default_collate:
            dl.collate_fn = collate_fn or data_collate
        self.epoch, self._passed = 0, False
        _ = len(self)

    @classmethod
    def create(
        cls, dataset: Any, bs: int = 64, shuffle: bool = False, device: Any = None, tfms: Any = None,
        num_workers: int = 0, collate_fn: Any = None, **options: Any,
    ) -> Self:  # fmt: skip
        """Make the batches of a data set; ``options`` are those of PyTorch's ``DataLoader``."""
        dl: Any = DataLoader(dataset, batch_size=bs, shuffle=shuffle, num_workers=num_workers, **options)
        return cls(dl, device, tfms, collate_fn)

    @property
    def dataset(self) -> Any:
        """The data set; of a loader that has none the loader itself."""
        return getattr(self.dl, "dataset", self.dl)

    @property
    def batch_size(self) -> Any:
        """Items in a batch; None where the loader alone knows."""
        return getattr(self.dl, "batch_size", None)

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        self.dl = self.new(batch_size=value).dl

    @property
    def bs(self) -> Any:
        """Items in a batch, by onecycle's name."""
        return self.batch_size

    def add_tfm(self, tfm: Callable[[Any], Any]) -> None:
        """Call a function on each batch from now on."""
        self.tfms.append(tfm)

    def remove_tfm(self, tfm: Callable[[Any], Any]) -> None:
        """Call it no more."""
        if tfm in self.tfms:
            self.tfms.remove(tfm)

    def new(self, **changes: Any) -> Self:
        """Return batches of the same data set with other settings of PyTorch's ``DataLoader``.

        Raises:
            ArgumentError: the loader inside is of another kind.
        """
        if not isinstance(self.dl, DataLoader):
            kind = type(self.dl).__name__
            raise ArgumentError(f"a DataLoader of PyTorch can be made anew with other settings, this is of kind {kind}")
        made = type(self.dl)(self.dl.dataset, **(_settings(self.dl, changes) | changes))
        return type(self)(made, self.device, list(self.tfms), seed=self.seed)

    def replace(self, **changes: Any) -> Self:
        """Return itself: pixel statistics and draws by class, which None leaves out, are for pictures alone.

        Raises:
            ArgumentError: one of them is asked for.
        """
        check_keywords("replace", changes, ["stats", "weights"])
        if asked := [name for name, value in changes.items() if value is not None]:
            raise ArgumentError(f"{asked[0]}= is for pictures that onecycle reads; {OWN}")
        return self

    # -- passes -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        try:
            return len(self.dl)
        except TypeError as error:
            kind = type(self.dl).__name__
            raise ArgumentError(f"a fit needs to know its number of batches, and this {kind} has no length") from error

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and draws the next pass gives."""
        self.epoch, self._passed = epoch, False

    def __iter__(self) -> Iterator[Batch]:
        self.epoch += self._passed
        self._passed = True
        return self._batches(self.epoch)

    def batch_at(self, epoch: int, step: int) -> Batch:
        """Return one batch of one epoch; those before it are made, too."""
        return next(islice(self._batches(epoch), step, None))

    def one_batch(self) -> Batch:
        """Return the first batch."""
        return self.batch_at(self.epoch, 0)

    def _batches(self, epoch: int) -> Iterator[Batch]:
        done, batches = 0, None
        for step in range(len(self)):
            with drawing(mix_seed(self.seed, epoch, step)):
                batches = iter(self.dl) if batches is None else batches
                made = next(batches, None)
            if made is None:
                return
            batch = self._batch(made, done)
            done += len(batch.x)
            yield batch

    def _batch(self, made: Any, done: int) -> Batch:
        made = to_device(made, self.device)
        for tfm in self.tfms:
            made = tfm(made)
        if not (isinstance(made, (tuple, list)) and len(made) == 2 and all(isinstance(part, Tensor) for part in made)):
            parts = ", ".join(type(part).__name__ for part in made) if isinstance(made, (tuple, list)) else ""
            raise ArgumentError(
                f"a batch is (x, y), a tensor each; received {type(made).__name__}{f' of {parts}' if parts else ''}: "
                "collate_fn= makes batches of items"
            )
        x, y = made
        return Batch(x, y, torch.arange(done, done + len(x)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "dl":
            raise AttributeError(name)
        return getattr(self.dl, name) if hasattr(self.dl, name) else getattr(self.dataset, name)

    def __repr__(self) -> str:
        return f"DeviceDataLoader over {self.dl!r} on {self.device}"


DeviceDataLoader.register(PictureLoader)

OWN = "these are data sets or loaders of your own"
"""How sentences begin about what cannot be done with them."""


def as_loader(dl: Any, device: Any, seed: int = DEFAULT_SEED) -> Any:
    """Return batches of a loader; those that are on their device already as they are."""
    return dl if isinstance(dl, DeviceDataLoader) else DeviceDataLoader(dl, device, seed=seed)


def default_device() -> Any:
    """Return the device that the notebook set, None for the usual one."""
    return getattr(core.defaults, "device", None)


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Have Python, numpy and PyTorch draw from a seed inside; afterwards they are as before."""
    before = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def _settings(dl: DataLoader[Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return what makes a loader anew, without what ``changes`` take the place of."""
    kept = {name: getattr(dl, name) for name in _OTHERS}
    if type(dl.batch_sampler) is not BatchSampler and not {"batch_size", "shuffle", "sampler"} & changes.keys():
        return kept | {"batch_sampler": dl.batch_sampler} if dl.batch_sampler else kept | {"batch_size": None}
    order: dict[str, Any] = {"shuffle": isinstance(dl.sampler, RandomSampler)}
    if not isinstance(dl.sampler, (RandomSampler, SequentialSampler)):
        order = {"sampler": dl.sampler}
    if {"sampler", "batch_sampler"} & changes.keys():
        order = {}
    sizes = {} if "batch_sampler" in changes else {"batch_size": dl.batch_size, "drop_last": dl.drop_last}
    return kept | order | sizes
