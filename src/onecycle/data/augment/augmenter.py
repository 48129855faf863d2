"""Apply drawn transforms to a whole batch: one sampling for all geometry, one pass for light.

A batch is a uint8 canvas that holds every picture in its top left corner, and the pictures' shapes. Pictures
whose view moves whole pixels only (flips, quarter turns, windows) are copied, not interpolated. So
validation, which only cuts a window, gets exactly the pixels that are there.

A processor works through a batch a few pictures at a time, so that all passes over them find them in its cache, and
puts pictures together that need the same passes; what that gains is said in ``threads``. A GPU takes the whole batch:
see ``on_device``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from onecycle.data.augment import warp
from onecycle.data.augment.draws import Bools, Draws, crop_size, draw_batch
from onecycle.data.augment.on_device import (
    LOGIT_EPS,
    NEAREST_HORIZON,
    Prepared,
    channel_noise,
    jitter_shifts,
    transformed,
)
from onecycle.data.augment.threads import chunk_length, in_threads
from onecycle.data.augment.transforms import PADDING_MODES, Size, Transforms, crop_pad, flatten
from onecycle.data.augment.warp import Floats, Ints
from onecycle.data.pixels.resize import as_size
from onecycle.errors import ArgumentError
from onecycle.text import option

MODES = ("bilinear", "nearest", "bicubic")
WHOLE_PIXEL_TOLERANCE_PX = 1e-3

PixelFunction = Callable[[torch.Tensor], object]
"""Changes float pixels (n, 3, h, w) in place, each picture on its own."""


class BatchAugmenter:
    """A list of transforms, ready to be drawn for and applied to batches.

    Args:
        tfms: transforms; None or an empty list only cuts the centred window.
        size: side, or rows and columns, of the result; None keeps the pictures' common shape, or takes the
            size of an explicit ``crop`` (``rand_resize_crop``, ``rand_pad``).
        padding_mode: what lies outside a picture: its mirror image, its edge, or black. A ``pad`` transform
            brings its own mode, which then holds for all geometry.
        mode: interpolation, ``bilinear``, ``nearest`` or ``bicubic``.

    Raises:
        ArgumentError: an unknown mode or something that is not a transform.
    """

    whole_batch: ClassVar[bool] = True  # whether a GPU can do it by what ``prepare`` returns

    def __init__(
        self, tfms: Transforms, *, size: Size | None = None, padding_mode: str = "reflection", mode: str = "bilinear"
    ) -> None:
        listed = flatten(tfms)
        cuts = any(t.name == "crop_pad" for t in listed)
        own_sizes = [t for t in listed if t.name == "crop"]
        pads = [t for t in listed if t.name == "pad"]
        self.tfms = listed if cuts else [*listed, crop_pad()]
        self.size = None if size is None else as_size(size)
        if self.size is None and own_sizes and not cuts:
            self.size = crop_size(own_sizes[-1])
        self.padding_mode = str(pads[-1].param("mode")) if pads else padding_mode
        self.mode = mode
        for name, value, known in (("padding_mode", self.padding_mode, PADDING_MODES), ("mode", mode, MODES)):
            if value not in known:
                raise ArgumentError(f"{name} must be one of {', '.join(known)}; received {value!r}")

    def __repr__(self) -> str:
        how = f"size={self.size}, padding_mode={self.padding_mode!r}, mode={self.mode!r}"
        return f"BatchAugmenter({self.tfms}, {how})"

    def draw(self, rng: np.random.Generator, shapes: NDArray[np.integer]) -> Draws:
        """Draw every transform for every picture.

        Args:
            rng: the only source of chance.
            shapes: (N, 2) rows and columns of the pictures.

        Raises:
            ArgumentError: no ``size`` and pictures of different shapes.
        """
        checked = _checked_shapes(shapes)
        return draw_batch(self.tfms, rng, checked, self.size or _common_shape(checked))

    def apply(
        self,
        pixels: torch.Tensor,
        shapes: NDArray[np.integer],
        draws: Draws | Prepared,
        *,
        then: PixelFunction | None = None,
    ) -> torch.Tensor:
        """Apply draws to a batch.

        Args:
            pixels: uint8 (N, 3, H, W); picture i fills the top left ``shapes[i]``, the rest is not looked at.
            shapes: (N, 2) rows and columns of the pictures.
            draws: for the same N pictures; prepared ones lie on the device of ``pixels``.
            then: called last on every chunk of the batch, while it is in the processor's cache.

        Returns:
            float32 (N, 3, h, w), before ``then`` in [0, 1], on the device of ``pixels``.

        Raises:
            ArgumentError: pixels, shapes and draws that do not belong together.
        """
        if isinstance(draws, Prepared):
            return transformed(pixels, draws, then)
        checked = _checked_shapes(shapes)
        _check_batch(pixels, checked, draws)
        if pixels.device.type != "cpu":
            prepared = self.prepare(draws, checked, (pixels.shape[2], pixels.shape[3]))
            return transformed(pixels, prepared.each(lambda t: t.to(pixels.device, non_blocking=True)), then)
        maps, whole = _whole_pixels(draws, checked)

        def finished(rows: Ints) -> torch.Tensor:
            """Do all that is to do with some pictures: all of them move whole pixels or none, are lit or none."""
            mine, shape = draws.select(rows), checked[rows]
            seen = pixels
            if len(rows) < len(pixels):
                # Channels last, as they lie in memory, whole pictures are copied in one go: 10 µs each instead of 100.
                taken = pixels.permute(0, 2, 3, 1).index_select(0, torch.from_numpy(rows))
                seen = taken.permute(0, 3, 1, 2)
            if whole[rows[0]]:
                chunk = _copy(seen, shape, maps[rows], draws.size, self.padding_mode)
            else:
                chunk = _sample(seen, shape, mine, self.padding_mode, self.mode)
            _change_pixels_(chunk, mine)
            if then is not None:
                then(chunk)
            return chunk

        return _in_chunks(whole * 2 + draws.lit, finished, pixels, draws.size)

    def prepare(self, draws: Draws, shapes: NDArray[np.integer], canvas: tuple[int, int]) -> Prepared:
        """Work out what a GPU needs to apply draws, on the CPU.

        Args:
            draws: for N pictures.
            shapes: (N, 2) rows and columns of the pictures.
            canvas: rows and columns of the pixels that they lie in.
        """
        checked = _checked_shapes(shapes)
        maps, whole = _whole_pixels(draws, checked)
        window = _common_window(np.round(maps).astype(np.int64), checked, draws.size) if whole.all() else None
        how = {"mode": self.mode, "padding_mode": self.padding_mode}
        return Prepared.of(draws, checked, canvas, window=window, **how)

    def __call__(self, pixels: torch.Tensor, shapes: NDArray[np.integer], rng: np.random.Generator) -> torch.Tensor:
        """Draw and apply."""
        return self.apply(pixels, shapes, self.draw(rng, shapes))


def augmenter_of(tfms: Transforms, **how: Any) -> BatchAugmenter:
    """Return what applies a list of transforms: the usual augmenter, or the one that a transform in it needs.

    Args:
        tfms: transforms.
        how: keywords of ``BatchAugmenter``.
    """
    needed = next((t.augmenter for t in flatten(tfms) if t.augmenter is not None), BatchAugmenter)
    return needed(tfms, **how)


# ---- chunks of a batch ----


def _in_chunks(
    kind: Ints, make: Callable[[Ints], torch.Tensor], pixels: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """Make pictures of one kind together, a few at a time on a processor; return them all in their order."""
    shape = (len(pixels), pixels.shape[1], *size)
    at_once = chunk_length(len(pixels), 4 * math.prod(shape[1:]))
    groups = [np.flatnonzero(kind == k) for k in np.unique(kind)]
    chunks = [g[i : i + at_once] for g in groups for i in range(0, len(g), at_once)]
    if len(chunks) == 1:
        return make(chunks[0])
    out = torch.empty(shape, memory_format=torch.channels_last)

    def put(rows: Ints) -> None:
        for row, picture in zip(rows.tolist(), make(rows), strict=True):
            out[row].copy_(picture)

    in_threads(chunks, put)
    return out


# ---- geometry ----


def _whole_pixels(draws: Draws, shapes: Ints) -> tuple[Floats, Bools]:
    """Return the matrices from output to input pixels, (N, 3, 3), and which pictures they only copy, (N,)."""
    maps = warp.to_pixels(draws.matrices, shapes, draws.size)
    jittered = np.any([j.spread.any(axis=(1, 2)) for j in draws.jitter], axis=0)
    return maps, _moves_whole_pixels(maps, draws.size) & ~jittered


def _moves_whole_pixels(maps: Floats, size: tuple[int, int]) -> Bools:
    """Say which pixel matrices only flip, turn by quarters and shift by whole pixels, (N,)."""
    rounded = np.round(maps)
    off = np.abs(maps - rounded) @ np.array([size[1], size[0], 1])
    turns = np.abs(rounded[:, :2, :2])
    one_each = (turns.sum(axis=1) == 1).all(axis=1) & (turns.sum(axis=2) == 1).all(axis=1)
    flat = (rounded[:, 2] == np.array([0, 0, 1])).all(axis=1)
    whole: Bools = one_each & flat & (off < WHOLE_PIXEL_TOLERANCE_PX).all(axis=1)
    return whole


def _copy(pixels: torch.Tensor, shapes: Ints, maps: Floats, size: tuple[int, int], padding_mode: str) -> torch.Tensor:
    """Copy whole pixels; ``maps`` run from output to input pixels."""
    whole = np.round(maps).astype(np.int64)
    window = _common_window(whole, shapes, size)
    if window is not None:
        row, col = window
        return pixels[:, :, row : row + size[0], col : col + size[1]].float().div_(255)
    if _stays_inside(whole, shapes, size):
        out = torch.empty((len(pixels), pixels.shape[1], *size), memory_format=torch.channels_last)
        for i in range(len(pixels)):
            out[i] = _turned(pixels[i : i + 1], whole[i], size)[0]
        return out.div_(255)
    return _gather(pixels, shapes, whole, size, padding_mode).float().div_(255)


def _common_window(whole: Ints, shapes: Ints, size: tuple[int, int]) -> tuple[int, int] | None:
    """Return first row and column where all pictures are only cut, inside and at one place; else None."""
    row, col = int(whole[0, 1, 2]), int(whole[0, 0, 2])
    shift = np.array([[1, 0, col], [0, 1, row], [0, 0, 1]])
    end = np.array([row + size[0], col + size[1]])
    return (row, col) if (whole == shift).all() and min(row, col) >= 0 and (end <= shapes).all() else None


def _turned(picture: torch.Tensor, m: Ints, size: tuple[int, int]) -> torch.Tensor:
    """Show ``size`` pixels of one picture (1, C, H, W) by flips and a transposition: 10 times as fast as by index."""
    swapped = m[0, 0] == 0
    axes = []
    for row, n in enumerate(size if swapped else size[::-1]):  # x, then y, of the picture
        step, start = int(m[row, 0] + m[row, 1]), int(m[row, 2])
        axes.append((slice(start, start + n) if step > 0 else slice(start - n + 1, start + 1), step < 0))
    (cols, mirrored), (rows, upended) = axes
    window = picture[:, :, rows, cols].contiguous(memory_format=torch.channels_last)
    window = window.flip([axis for axis, turned in ((2, upended), (3, mirrored)) if turned])
    return window.transpose(2, 3) if swapped else window


def _gather(pixels: torch.Tensor, shapes: Ints, maps: Ints, size: tuple[int, int], padding_mode: str) -> torch.Tensor:
    m = torch.from_numpy(maps)[:, :2, :, None, None]
    last = torch.from_numpy(shapes - 1)[:, :, None, None]
    rows, cols = (torch.arange(k) for k in size)
    x, y = (m[:, i, 0] * cols + m[:, i, 1] * rows[:, None] + m[:, i, 2] for i in (0, 1))
    if _stays_inside(maps, shapes, size):  # saves half of the time
        at_x, at_y = x, y
    else:
        at_x, at_y = _fold(x, last[:, 1], padding_mode), _fold(y, last[:, 0], padding_mode)
    height, width = pixels.shape[2:]
    which = torch.arange(len(pixels))[:, None, None]
    flat = pixels.permute(0, 2, 3, 1).reshape(-1, pixels.shape[1])
    out = flat.index_select(0, ((which * height + at_y) * width + at_x).flatten())
    out = out.view(len(pixels), *size, -1).permute(0, 3, 1, 2)
    if padding_mode == "zeros":
        out = out * ((at_x == x) & (at_y == y))[:, None]
    return out


def _stays_inside(maps: Ints, shapes: Ints, size: tuple[int, int]) -> bool:
    """Say whether every output pixel shows a pixel of its picture; the outermost ones are at the corners."""
    rows, cols = size[0] - 1, size[1] - 1
    corners = maps[:, :2] @ np.array([[0, cols, 0, cols], [0, 0, rows, rows], [1, 1, 1, 1]])
    return bool((corners >= 0).all() and (corners < shapes[:, ::-1, None]).all())


def _fold(positions: torch.Tensor, last: torch.Tensor, padding_mode: str) -> torch.Tensor:
    """Bring pixel positions into [0, last]: mirrored at the outer pixels' centres, or moved to the edge."""
    if padding_mode == "reflection":
        period = (2 * last).clamp_min(1)
        along = positions.remainder(period)
        positions = torch.minimum(along, period - along)
    return torch.minimum(positions, last).clamp_min(0)


def _sample(pixels: torch.Tensor, shapes: Ints, draws: Draws, padding_mode: str, mode: str) -> torch.Tensor:
    """Interpolate at the positions that the matrices give."""
    height, width = (int(v) for v in shapes[0])
    if (shapes == shapes[0]).all():
        positions = _positions(draws)
        return _interpolate(pixels[:, :, :height, :width], positions, padding_mode, mode)
    if mode == "bicubic":  # its wider neighbourhood would reach past a picture's edge into the canvas
        rows = [slice(i, i + 1) for i in range(len(draws))]
        return torch.cat([_sample(pixels[r], shapes[r], draws.select(r), padding_mode, mode) for r in rows])
    return _sample_ragged(pixels, shapes, _positions(draws), padding_mode, mode)


def _interpolate(pixels: torch.Tensor, positions: torch.Tensor, padding_mode: str, mode: str) -> torch.Tensor:
    # The planar layout of positions is what grid_sample reads fastest.
    grid = positions.permute(0, 2, 3, 1)
    out = F.grid_sample(pixels.float(), grid, mode=mode, padding_mode=padding_mode, align_corners=True)
    return out.div_(255)


def _sample_ragged(
    pixels: torch.Tensor, shapes: Ints, positions: torch.Tensor, padding_mode: str, mode: str
) -> torch.Tensor:
    """Interpolate pictures of different shapes: fold positions into each picture, then read the canvas."""
    last = torch.from_numpy(shapes[:, ::-1] - 1.0).to(positions)[:, :, None, None]
    in_pixels = (positions + 1) * (last / 2)
    inside = _fold(in_pixels, last, padding_mode)
    canvas = torch.tensor([pixels.shape[3] - 1, pixels.shape[2] - 1]).clamp_min(1).to(positions)[:, None, None]
    out = _interpolate(pixels, inside * (2 / canvas) - 1, "border", mode)
    if padding_mode == "zeros":  # the share of the outer pixel that is left within one pixel outside of it
        away = (in_pixels - inside).abs_()
        share = (1 - away).clamp_min_(0) if mode == "bilinear" else (away <= 0.5).float()
        out *= share.prod(dim=1, keepdim=True)
    return out


def _positions(draws: Draws) -> torch.Tensor:
    """Return input positions x, y for every output pixel, float32 (N, 2, h, w), each picture in [−1, 1]."""
    h, w = draws.size
    m = torch.from_numpy(draws.matrices.astype(np.float32))
    x, y = torch.linspace(-1, 1, w), torch.linspace(-1, 1, h)
    along_x = m[:, :, 0, None, None] * x
    along_y = m[:, :, 1, None, None] * y[:, None] + m[:, :, 2, None, None]
    positions = along_x[:, :2] + along_y[:, :2]
    if np.abs(draws.matrices[:, 2] - np.array([0, 0, 1])).max() > 0:
        positions /= (along_x[:, 2:] + along_y[:, 2:]).clamp_min_(NEAREST_HORIZON)
    for jitter in draws.jitter:
        positions += torch.from_numpy(jitter_shifts(jitter, draws.size))
    return positions


# ---- light and pixels, in place ----


def _change_pixels_(chunk: torch.Tensor, draws: Draws) -> None:
    if draws.lit[0]:  # sigmoid(gain · logit(x) + offset)
        values = (torch.from_numpy(v.astype(np.float32)) for v in (draws.gain, draws.offset))
        gain, offset = (v[:, None, None, None] for v in values)
        chunk.logit_(LOGIT_EPS).mul_(gain).add_(offset).sigmoid_()
    else:
        chunk.clamp_(0, 1)  # what interpolation leaves a little outside; light brings its own limits
    for noise in draws.channel_noise:
        for i in np.flatnonzero(noise.channel >= 0).tolist():
            chunk[i, noise.channel[i]] = torch.from_numpy(channel_noise(noise, i, draws.size))
    if draws.holes.size:
        _black_out_(chunk, draws.holes)


def _black_out_(out: torch.Tensor, holes: Ints) -> None:
    edges = torch.from_numpy(holes)
    rows, cols = (torch.arange(k) for k in out.shape[2:])
    for hole in range(holes.shape[1]):
        top, bottom, left, right = edges[:, hole, :, None].unbind(1)
        tall, wide = (rows >= top) & (rows < bottom), (cols >= left) & (cols < right)
        out.masked_fill_((tall[:, :, None] & wide[:, None, :])[:, None], 0)


# ---- checks ----


def _common_shape(shapes: Ints) -> tuple[int, int]:
    if len(shapes) and (shapes != shapes[0]).any():
        other = shapes[int((shapes != shapes[0]).any(axis=1).argmax())]
        raise ArgumentError(
            f"pictures of one batch have shapes {tuple(shapes[0].tolist())} and {tuple(other.tolist())} "
            f"(rows, columns), so the batch needs a size; pass {option('size', 224)}, say"
        )
    return int(shapes[0, 0]), int(shapes[0, 1])


def _checked_shapes(shapes: NDArray[np.integer]) -> Ints:
    checked = np.asarray(shapes, dtype=np.int64)
    if checked.ndim != 2 or checked.shape[1] != 2 or len(checked) == 0 or checked.min() < 1:
        raise ArgumentError(f"shapes holds rows and columns of each picture, (N, 2), 1 or more; received {shapes!r}")
    return checked


def _check_batch(pixels: torch.Tensor, shapes: Ints, draws: Draws) -> None:
    if pixels.ndim != 4 or pixels.dtype != torch.uint8:
        raise ArgumentError(f"expected uint8 pixels (N, 3, H, W); received {pixels.dtype} {tuple(pixels.shape)}")
    lengths = len(pixels), len(shapes), len(draws)
    if len(set(lengths)) != 1:
        raise ArgumentError(f"pixels, shapes and draws must belong to the same pictures; received {lengths} of them")
    if (shapes > np.array(pixels.shape[2:])).any():
        largest, canvas = tuple(shapes.max(axis=0).tolist()), tuple(pixels.shape[2:])
        raise ArgumentError(f"pictures of {largest} (rows, columns) do not fit into the canvas of {canvas}")
