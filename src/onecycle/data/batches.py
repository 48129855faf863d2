"""The epoch iterator: order, pixels, device, augmentation, normalisation.

The order of samples and every random draw are functions of (seed, epoch, step) and of nothing else,
so a run is repeatable, resumable at any step and the same for any number of loading threads.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from onecycle.data.augment.augmenter import BatchAugmenter
from onecycle.data.pixels.resize import centre_window
from onecycle.data.pixels.store import PixelStore
from onecycle.errors import ArgumentError, DataError

Stats = tuple[tuple[float, ...], tuple[float, ...]]
"""Channel means and standard deviations of pixels in [0, 1]."""

imagenet_stats: Stats = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
cifar_stats: Stats = ((0.491, 0.482, 0.447), (0.247, 0.243, 0.261))
mnist_stats: Stats = ((0.131,) * 3, (0.308,) * 3)

BatchTransform = Callable[[tuple[torch.Tensor, torch.Tensor]], tuple[torch.Tensor, torch.Tensor]]

_ORDER, _AUGMENT = 0, 1  # purposes that keep the two streams of random numbers apart
_BATCHES_AHEAD = 2


@dataclass
class Batch:
    """One batch on the device; unpacks as ``x, y``.

    Attributes:
        x: float32 ``(n, 3, H, W)``, normalised, channels-last in memory.
        y: int64 ``(n,)`` class indices, or float32 ``(n, C)`` 0/1.
        indices: int64 ``(n,)`` on the CPU: positions in the dataset.
    """

    x: torch.Tensor
    y: torch.Tensor
    indices: torch.Tensor

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter((self.x, self.y))

    def __getitem__(self, index: int) -> torch.Tensor:
        return (self.x, self.y)[index]

    def __len__(self) -> int:
        return 2


class PicturePart(Protocol):
    """What a loader needs of a dataset: pixels, which rows of them, and encoded targets."""

    store: PixelStore
    rows: np.ndarray

    @property
    def targets(self) -> torch.Tensor: ...


def check_stats(stats: Sequence[Sequence[float]]) -> Stats:
    """Return (means, stds) as tuples of three.

    Raises:
        ArgumentError: not two groups of one or three numbers, or a deviation that is not positive.
    """
    try:
        mean, std = (tuple(float(v) for v in part) for part in stats)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"stats is (means, stds), each one or three numbers for pixels in [0, 1]; received {stats!r}"
        ) from error
    mean, std = (part * 3 if len(part) == 1 else part for part in (mean, std))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ArgumentError(
            f"stats is (means, stds), each one or three numbers, stds above 0; received {stats!r}"
        )
    return mean, std


class BatchLoader:
    """Batches of one part of the data, an epoch at a time.

    Args:
        part: the dataset.
        bs: pictures in a batch.
        augmenter: draws and applies the transforms; None gives the evaluation preprocess.
        shuffle: draw a new order in every epoch.
        drop_last: leave out a last batch that is not full (never the only one).
        stats: normalisation; None leaves pixels in [0, 1].
        device: where batches go.
        seed: of the order and the draws.
        dl_tfms: called on ``(x, y)`` of each batch, in turn, before normalisation.
    """

    def __init__(
        self,
        part: PicturePart,
        *,
        bs: int,
        augmenter: BatchAugmenter | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        stats: Stats | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        dl_tfms: Sequence[BatchTransform] = (),
    ) -> None:
        if not isinstance(bs, int) or bs < 1:
            raise ArgumentError(f"bs is the number of pictures in a batch, at least 1; received {bs!r}")
        self.part, self.bs, self.augmenter, self.shuffle = part, bs, augmenter, shuffle
        self.drop_last, self.stats, self.device, self.seed = drop_last, stats, torch.device(device), seed
        self.dl_tfms = tuple(dl_tfms)
        self.epoch = 0

    @property
    def n_items(self) -> int:
        """Pictures in this part, dropped ones included."""
        return len(self.part.rows)

    @property
    def n_dropped(self) -> int:
        """Pictures that an epoch leaves out because the last batch is not full."""
        return self.n_items % self.bs if self.drop_last and self.n_items >= self.bs else 0

    @property
    def dataset(self) -> PicturePart:
        """The dataset (v1's name)."""
        return self.part

    def __len__(self) -> int:
        return -(-(self.n_items - self.n_dropped) // self.bs)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and draws the next iteration gives."""
        self.epoch = epoch

    def replace(self, **changes: object) -> BatchLoader:
        """Return a copy with some of ``stats, augmenter, bs, shuffle, drop_last, device`` changed."""
        other = copy.copy(self)
        for name, value in changes.items():
            if name not in ("stats", "augmenter", "bs", "shuffle", "drop_last", "device"):
                raise ArgumentError(f"a loader has no setting {name!r}")
            setattr(other, name, value)
        return other

    def order(self, epoch: int) -> np.ndarray:
        """Return the positions that an epoch visits, int64, dropped ones left out."""
        positions = np.arange(self.n_items)
        if self.shuffle:
            positions = np.random.default_rng([self.seed, epoch, _ORDER]).permutation(self.n_items)
        return positions[: self.n_items - self.n_dropped]

    def batch_at(self, epoch: int, step: int) -> Batch:
        """Make one batch of one epoch, without the others."""
        positions = self.order(epoch)[step * self.bs : (step + 1) * self.bs]
        return self._finish(positions, *self._pixels(positions), epoch, step)

    def __iter__(self) -> Iterator[Batch]:
        epoch, order = self.epoch, self.order(self.epoch)
        parts = [order[i : i + self.bs] for i in range(0, len(order), self.bs)]
        with ThreadPoolExecutor(1) as ahead:  # gathers the next batches while the device works on this one
            waiting: list[Future[tuple[torch.Tensor, np.ndarray]]] = []
            waiting += [ahead.submit(self._pixels, p) for p in parts[:_BATCHES_AHEAD]]
            for step, positions in enumerate(parts):
                pixels, shapes = waiting.pop(0).result()
                if step + _BATCHES_AHEAD < len(parts):
                    waiting.append(ahead.submit(self._pixels, parts[step + _BATCHES_AHEAD]))
                yield self._finish(positions, pixels, shapes, epoch, step)

    def _pixels(self, positions: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        rows = self.part.rows[positions]
        if self.augmenter is not None:
            pixels, shapes = self.part.store.gather(rows)
        else:
            pixels, shapes = self._evaluation_pixels(rows)
        return (pixels.pin_memory() if self.device.type == "cuda" else pixels), shapes

    def _evaluation_pixels(self, rows: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        spec = self.part.store.spec
        pictures = [centre_window(p, spec) for p in self.part.store.read_many(rows)]
        shapes = np.array([p.shape[:2] for p in pictures], dtype=np.int64)
        self._check_one_shape(shapes, rows)
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2), shapes

    def _check_one_shape(self, shapes: np.ndarray, rows: np.ndarray) -> None:
        odd = np.flatnonzero((shapes != shapes[0]).any(axis=1))
        if len(odd):
            paths, i = self.part.store.paths, int(odd[0])
            raise DataError(
                f"pictures of one batch differ in size: {paths[rows[0]]} is {_by(shapes[0])} px and "
                f"{paths[rows[i]]} is {_by(shapes[i])} px (height × width); pass size=224, say"
            )

    def _finish(
        self, positions: np.ndarray, pixels: torch.Tensor, shapes: np.ndarray, epoch: int, step: int
    ) -> Batch:
        """Move to the device, augment, scale to float and normalise."""
        pixels = pixels.to(self.device, non_blocking=True)
        if self.augmenter is None:
            x = pixels.float().div_(255)
        else:
            if self.augmenter.size is None:
                self._check_one_shape(shapes, self.part.rows[positions])
            rng = np.random.default_rng([self.seed, epoch, _AUGMENT, step])
            x = self.augmenter.apply(pixels, shapes, self.augmenter.draw(rng, shapes))
        y = self.part.targets[positions].to(self.device, non_blocking=True)
        for transform in self.dl_tfms:
            x, y = transform((x, y))
        return Batch(self._normalised(x), y, torch.from_numpy(np.ascontiguousarray(positions)))

    def _normalised(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        return x if self.stats is None else normalise_(x, self.stats)


def normalise_(x: torch.Tensor, stats: Stats) -> torch.Tensor:
    """Subtract the means and divide by the deviations, in place; ``x`` is float ``(n, 3, H, W)``."""
    # Made on the CPU and sent along: a tensor made on a GPU from a list would wait for the device.
    mean, std = (
        torch.tensor(part, dtype=x.dtype).view(1, -1, 1, 1).to(x.device, non_blocking=True) for part in stats
    )
    return x.sub_(mean).div_(std)


def _by(shape: np.ndarray) -> str:
    return f"{shape[0]}×{shape[1]}"
