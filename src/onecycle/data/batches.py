"""The epoch iterator: order, pixels, device, augmentation, normalisation.

The order of samples and every random draw are functions of (seed, epoch, step) and of nothing else,
so a run is repeatable, resumable at any step and the same for any number of loading threads.

While the network works on one batch, a thread gathers the next ones and makes their draws. To a GPU they go from pinned
memory, and are augmented there one batch ahead, on a stream of their own; a processor augments in chunks that stay in
its cache.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from onecycle.data.augment.threads import chunk_length, in_threads
from onecycle.data.datasets import ImageDataset
from onecycle.data.pixels.resize import ResizeSpec, centre_window
from onecycle.data.pixels.store import PicturesInMemory, on_one_canvas
from onecycle.errors import ArgumentError, DataError
from onecycle.text import option
from onecycle.train.device.machine import naming_what_lacks

if TYPE_CHECKING:
    from onecycle.data.augment.augmenter import BatchAugmenter, PixelFunction
    from onecycle.data.augment.draws import Draws
    from onecycle.data.augment.on_device import Prepared
    from onecycle.data.labels.items import Label
    from onecycle.data.pixels.image import Image
    from onecycle.data.pixels.picture_file import Source
    from onecycle.data.pixels.reading import Reading

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
    """One batch on the device; unpacks as ``x, y``."""

    x: torch.Tensor  # float32 (n, 3, H, W), normalised, channels-last in memory; of other readings (n, channels, H, W)
    y: torch.Tensor  # int64 (n,) class indices, or float32 (n, C) 0/1
    indices: torch.Tensor  # int64 (n,) on the CPU: positions in the dataset
    stats: Stats | None = None  # what x is normalised with; None where pixels are in [0, 1]

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter((self.x, self.y))

    def __getitem__(self, index: int) -> torch.Tensor:
        return (self.x, self.y)[index]

    def __len__(self) -> int:
        return 2


View = tuple["BatchAugmenter | None", int]
"""What augments the pictures of a batch, and the epoch of its draws."""

DrawnView = tuple["BatchAugmenter", "Draws | Prepared"]
"""What augments, and what it drew; for a GPU what follows from that."""


@dataclass(frozen=True)
class _Gathered:
    """A batch before augmentation: pixels uint8 ``(n, 3, H, W)``, sizes ``(n, 2)`` of the pictures in it, targets."""

    pixels: torch.Tensor
    shapes: np.ndarray
    y: torch.Tensor
    positions: np.ndarray
    views: tuple[DrawnView, ...] = ()  # to make of it; none is the evaluation preprocess

    def pinned(self) -> _Gathered:
        return self._each(torch.Tensor.pin_memory)

    def to(self, device: torch.device) -> _Gathered:
        return self._each(lambda t: t.to(device, non_blocking=True))

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> _Gathered:
        views = tuple((augmenter, drawn.each(change)) for augmenter, drawn in self.views)
        return replace(self, pixels=change(self.pixels), y=change(self.y), views=views)


Finish = Callable[[_Gathered], list[Batch]]
"""Makes the views of a batch that is on its device."""


def _on_device(batches: Iterator[_Gathered], device: torch.device, finish: Finish) -> Iterator[Batch]:
    """Return finished batches in their order; on a GPU the next one is sent and finished meanwhile.

    There that runs (from pinned memory) on a stream of its own, beside the network's work. The stream that uses a batch
    waits for that batch alone, and its memory is not given to another batch before it is done with it.
    """
    if device.type != "cuda":
        for gathered in batches:
            yield from finish(gathered.to(device))
        return
    stream = _copy_stream(device)
    made: deque[tuple[list[Batch], torch.cuda.Event]] = deque()
    for batch in chain(batches, [None]):
        if batch is not None:
            with torch.cuda.stream(stream):
                views = finish(batch.to(device))
            made.append((views, stream.record_event()))
        while len(made) > (batch is not None):  # the latest one stays in the making, until there are no more
            ready, finished = made.popleft()
            user = torch.cuda.current_stream(device)
            user.wait_event(finished)
            for view in ready:
                view.x.record_stream(user)
                view.y.record_stream(user)
            yield from ready


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream on which the batches of a GPU are made."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def check_stats(stats: Sequence[Sequence[float]], channels: int = 3) -> Stats:
    """Return (means, stds) as tuples of as many as there are channels, three at least.

    Raises:
        ArgumentError: not two groups of one number or one a channel, or a deviation that is not positive.
    """
    n, words = max(channels, 3), {3: "three"}.get(max(channels, 3), str(channels))
    try:
        mean, std = (tuple(float(v) for v in values) for values in stats)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"stats is (means, stds), each one or {words} numbers for pixels in [0, 1]; received {stats!r}"
        ) from error
    mean, std = (v * n if len(v) == 1 else v for v in (mean, std))
    if len(mean) != n or len(std) != n or min(std) <= 0:
        raise ArgumentError(f"stats is (means, stds), each one or {words} numbers, stds above 0; received {stats!r}")
    return mean, std


class BatchLoader:
    """Batches of one part of the data, an epoch at a time.

    Args:
        dataset: pictures and targets of one part of the data.
        bs: pictures in a batch.
        augmenter: draws and applies the transforms; None gives the evaluation preprocess.
        shuffle: draw a new order in every epoch.
        drop_last: leave out a last batch that is not full (never the only one).
        stats: normalisation; None leaves pixels in [0, 1].
        device: where batches go.
        seed: of the order and the draws.
        dl_tfms: called on ``(x, y)`` of each batch, in turn, before normalisation.
        weights: float64 ``(n,)``, how often a shuffled epoch draws each picture, relative to one another; None: once.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        *,
        bs: int,
        augmenter: BatchAugmenter | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        stats: Stats | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        dl_tfms: Sequence[BatchTransform] = (),
        weights: np.ndarray | None = None,
    ) -> None:
        if not isinstance(bs, int) or bs < 1:
            raise ArgumentError(f"bs is the number of pictures in a batch, at least 1; received {bs!r}")
        self.dataset, self.bs, self.augmenter, self.shuffle = dataset, bs, augmenter, shuffle
        self.drop_last, self.stats, self.device, self.seed = drop_last, stats, torch.device(device), seed
        self.dl_tfms = tuple(dl_tfms)
        self.weights = weights
        self.epoch = 0
        self._last_order: tuple[object, np.ndarray] | None = None  # and what it was made for

    @property
    def batch_size(self) -> int:
        """Pictures in a batch: ``bs`` (v1's name)."""
        return self.bs

    @property
    def n_items(self) -> int:
        """Pictures in this part, dropped ones included."""
        return len(self.dataset.rows)

    @property
    def n_dropped(self) -> int:
        """Pictures that an epoch leaves out because the last batch is not full."""
        return self.n_items % self.bs if self.drop_last and self.n_items >= self.bs else 0

    def __len__(self) -> int:
        return -(-(self.n_items - self.n_dropped) // self.bs)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and draws the next iteration gives."""
        self.epoch = epoch

    def replace(self, **changes: object) -> BatchLoader:
        """Return a copy with some of ``stats, augmenter, bs, shuffle, drop_last, device, weights`` changed."""
        other = copy.copy(self)
        other._last_order = None
        for name, value in changes.items():
            if name not in ("stats", "augmenter", "bs", "shuffle", "drop_last", "device", "weights"):
                raise ArgumentError(f"a loader has no setting {name!r}")
            setattr(other, name, value)
        return other

    def order(self, epoch: int) -> np.ndarray:
        """Return the positions that an epoch visits, int64, dropped ones left out; made once, not to be written to."""
        made_for = (epoch, self.seed, self.shuffle, self.n_items, self.n_dropped)
        if self._last_order is None or self._last_order[0] != made_for:
            self._last_order = made_for, self._order(epoch)
        return self._last_order[1]

    def _order(self, epoch: int) -> np.ndarray:
        positions = np.arange(self.n_items)
        if self.shuffle:
            rng = np.random.default_rng([self.seed, epoch, _ORDER])
            positions = rng.permutation(self.n_items)
            if self.weights is not None:
                positions = weighted_order(self.weights, rng)
        return positions[: self.n_items - self.n_dropped]

    def batch_at(self, epoch: int, step: int) -> Batch:
        """Make one batch of one epoch, without the others."""
        positions = self.order(epoch)[step * self.bs : (step + 1) * self.bs]
        batch = self._gather(positions, step, [(self.augmenter, epoch)])
        return self._finish(batch.to(self.device))[0]

    def __iter__(self) -> Iterator[Batch]:
        return self.from_step(0)

    def from_step(self, step: int, end: int | None = None) -> Iterator[Batch]:
        """Give this epoch's batches from one on (and before another), as an iteration does, without making the rest."""
        return self._batches(self.epoch, [(self.augmenter, self.epoch)], step, end)

    def views(self, augmenters: Sequence[BatchAugmenter], first: int = 0, end: int | None = None) -> Iterator[Batch]:
        """Yield each batch of this epoch once for each augmenter in turn; its pixels are gathered once.

        Batches before ``first``, and from ``end`` on, are left out.
        View number ``v`` is what an iteration of epoch ``v`` with ``augmenters[v]`` gives for these pictures.
        """
        return self._batches(self.epoch, [(augmenter, view) for view, augmenter in enumerate(augmenters)], first, end)

    def _batches(self, epoch: int, views: Sequence[View], first: int = 0, end: int | None = None) -> Iterator[Batch]:
        """Return an epoch's batches on the device, each in all views; a thread gathers the next ones meanwhile."""
        order = self.order(epoch)
        chunks = [order[i : i + self.bs] for i in range(0, len(order), self.bs)][:end]
        with ThreadPoolExecutor(1) as ahead:

            def gather(step: int) -> _Gathered:
                for later in chunks[step + _BATCHES_AHEAD : step + _BATCHES_AHEAD + 1]:
                    self.dataset.store.will_need(self.dataset.rows[later])
                return self._gather(chunks[step], step, views)

            soon = range(first, min(first + _BATCHES_AHEAD, len(chunks)))
            waiting = deque(ahead.submit(gather, step) for step in soon)

            def gathered() -> Iterator[_Gathered]:
                for step in range(first, len(chunks)):
                    batch = waiting.popleft().result()
                    if step + _BATCHES_AHEAD < len(chunks):
                        waiting.append(ahead.submit(gather, step + _BATCHES_AHEAD))
                    yield batch

            yield from _on_device(gathered(), self.device, self._finish)

    def _gather(self, positions: np.ndarray, step: int, views: Sequence[View]) -> _Gathered:
        """Collect the pixels of some pictures on the CPU, the evaluation window or all that is stored, and draw."""
        rows, to_gpu = self.dataset.rows[positions], self.device.type == "cuda"
        if all(augmenter is None for augmenter, _ in views):
            spec = self.dataset.store.spec
            pictures = [centre_window(p, spec) for p in self.dataset.store.read_many(rows)]
            shapes = np.array([p.shape[:2] for p in pictures], dtype=np.int64)
            self.check_one_shape(shapes, rows)
            pixels = on_one_canvas(pictures, shapes, pinned=to_gpu)
            drawn: tuple[DrawnView, ...] = ()
        else:
            pixels, shapes = self.dataset.store.gather(rows, pinned=to_gpu)
            canvas = pixels.shape[2], pixels.shape[3]
            drawn = tuple((a, self._draw(a, e, step, shapes, canvas, rows)) for a, e in views if a is not None)
        batch = _Gathered(pixels, shapes, self.dataset.targets[positions], positions, drawn)
        return batch.pinned() if to_gpu else batch

    def _draw(
        self,
        augmenter: BatchAugmenter,
        epoch: int,
        step: int,
        shapes: np.ndarray,
        canvas: tuple[int, int],
        rows: np.ndarray,
    ) -> Draws | Prepared:
        """Draw the transforms of a batch, and work out what follows from them where the batch goes to a GPU."""
        if augmenter.size is None:
            self.check_one_shape(shapes, rows)
        draws = augmenter.draw(np.random.default_rng([self.seed, epoch, _AUGMENT, step]), shapes)
        on_cpu = self.device.type == "cpu" or not augmenter.whole_batch
        return draws if on_cpu else augmenter.prepare(draws, shapes, canvas)

    def check_one_shape(self, shapes: np.ndarray, rows: np.ndarray) -> None:
        """Refuse rows of the store whose shapes, int ``(n, 2)``, differ: they make no batch.

        Raises:
            DataError: two of them, named.
        """
        odd = np.flatnonzero((shapes != shapes[0]).any(axis=1))
        if len(odd):
            paths = self.dataset.store.paths
            one, other = (f"{paths[rows[i]]} is {shapes[i][0]}×{shapes[i][1]} px" for i in (0, int(odd[0])))
            raise DataError(
                f"pictures of one batch differ in size: {one} and {other} (height × width); "
                f"pass {option('size', 224)}, say"
            )

    def _finish(self, batch: _Gathered) -> list[Batch]:
        """Augment on the device, scale to float and normalise; one batch a view."""
        with naming_what_lacks(self.device, "the augmentation" if batch.views else "a batch", self._instead(batch)):
            return [self._view(batch, view) for view in batch.views or (None,)]

    def _instead(self, batch: _Gathered) -> str:
        """Name the option that may ask for what a device lacks."""
        if any(augmenter.mode != "bilinear" for augmenter, _ in batch.views):
            return f"interpolate by {option('mode', 'bilinear')}"
        return f"leave out the transform that uses it ({option('ds_tfms')})"

    def _view(self, batch: _Gathered, view: DrawnView | None) -> Batch:
        if self.stats is not None and len(self.stats[0]) != batch.pixels.shape[1]:
            raise DataError(
                f"pictures have {batch.pixels.shape[1]} channels, and statistics are for {len(self.stats[0])}: "
                "data.normalize() measures them, data.normalize((means, stds)) takes one of each a channel"
            )
        normalise = None if self.stats is None else partial(normalise_, stats=self.stats)
        inside = None if self.dl_tfms else normalise  # with each chunk of the batch, while it is in the cache
        if view is None:
            x = to_float(batch.pixels, then=inside)
        else:
            x = view[0].apply(batch.pixels, batch.shapes, view[1], then=inside)
        y = batch.y.clone() if self.dl_tfms else batch.y  # a transform may write into it, and views share it
        for transform in self.dl_tfms:
            x, y = _transformed(transform, x, y)
        x = x.contiguous(memory_format=torch.channels_last)
        if normalise is not None and inside is None:
            normalise(x)
        x = x[:, : self.dataset.store.reading.channels]  # of grey pictures, the first is all
        return Batch(x, y, torch.from_numpy(np.ascontiguousarray(batch.positions)), self.stats)


def _transformed(transform: BatchTransform, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Call a function of the user's on one batch.

    Raises:
        ArgumentError: it does not give pictures and targets, as many as it got.
    """
    given: Any = transform((x, y))
    lengths = [len(v) if isinstance(v, torch.Tensor) and v.ndim else None for v in given] if _is_pair(given) else []
    if lengths != [len(x)] * 2:
        name = getattr(transform, "__name__", type(transform).__name__)
        raise ArgumentError(
            f"{name} of dl_tfms takes a batch (x, y) and returns one, with as many pictures and targets ({len(x)}); "
            f"received {type(given).__name__}{f' of lengths {lengths}' if lengths else ''}"
        )
    return given[0], given[1]


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def weighted_order(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw as many positions as there are weights, in random order, each as often as its weight says.

    Position i comes ``n · weights[i] / sum`` times, rounded up or down at random so that this is the mean
    (systematic sampling): no rare picture is missed by bad luck.

    Args:
        weights: float ``(n,)``, above 0.
        rng: of this epoch.

    Returns:
        int64 ``(n,)``.
    """
    n = len(weights)
    mixed = rng.permutation(n)
    ends = np.cumsum(weights[mixed])
    marks = (np.arange(n) + rng.random()) * ends[-1] / n
    drawn = mixed[np.searchsorted(ends, marks, side="right").clip(max=n - 1)]
    return rng.permutation(drawn)


def to_float(pixels: torch.Tensor, then: PixelFunction | None = None) -> torch.Tensor:
    """Return uint8 ``(n, 3, H, W)`` as float32 in [0, 1], channels-last; then call ``then`` on every chunk of it."""
    if pixels.device.type != "cpu":
        x = pixels.div(255)  # one pass from bytes to floats
        if then is not None:
            then(x)
        return x
    x = torch.empty(pixels.shape, memory_format=torch.channels_last)

    def scale(rows: np.ndarray) -> None:
        chunk = x[rows[0] : rows[-1] + 1]
        chunk.copy_(pixels[rows[0] : rows[-1] + 1]).div_(255)
        if then is not None:
            then(chunk)

    length = chunk_length(len(pixels), 4 * pixels[0].numel())
    in_threads([np.arange(i, min(i + length, len(pixels))) for i in range(0, len(pixels), length)], scale)
    return x


def normalise_(x: torch.Tensor, stats: Stats) -> torch.Tensor:
    """Subtract the means and divide by the deviations, in place; ``x`` is float ``(n, 3, H, W)``."""
    if x.device.type != "cpu":  # one pass; made on the CPU and sent along, as one made there from a list would wait
        factors = torch.tensor(
            [[1 / s for s in stats[1]], [-m / s for m, s in zip(*stats, strict=True)]], dtype=x.dtype
        )
        scale, shift = factors.to(x.device, non_blocking=True)[..., None, None]
        return torch.addcmul(shift, x, scale, out=x)
    mean, std = (torch.tensor(values, dtype=x.dtype) for values in stats)
    if x.is_contiguous(memory_format=torch.channels_last):
        # Whole rows against one row of constants: 3 channels at a time keep a processor's vector units idle.
        n, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).view(n * height, width * channels)
        rows.sub_(mean.repeat(width)).div_(std.repeat(width))
        return x
    return x.sub_(mean.view(1, -1, 1, 1)).div_(std.view(1, -1, 1, 1))


def picture_batches(
    pictures: Sequence[Image | Source | np.ndarray],
    spec: ResizeSpec,
    classes: Sequence[Label],
    *,
    is_multi: bool,
    reading: Reading | None = None,
    **settings: Any,
) -> BatchLoader:
    """Return batches of given pictures, in order, with the one evaluation preprocess; their targets are zeros.

    Args:
        pictures: files or Images, or pixels that are decoded and resized already, see ``PicturesInMemory``.
        spec: the preprocess.
        classes: the class list.
        is_multi: whether targets have one column a class.
        reading: how files are read.
        settings: of ``BatchLoader``.
    """
    part = ImageDataset(
        PicturesInMemory(pictures, spec, reading), np.arange(len(pictures)), None, list(classes), is_multi=is_multi
    )
    return BatchLoader(part, **settings)
