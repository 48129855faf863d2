"""From a list of transforms to the numbers of one batch: every random choice of augmentation is made here.

All draws are vectorised numpy on the CPU and depend on the generator and the shapes alone, so they are the
same on every device and for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onecycle.data.augment import warp
from onecycle.data.augment.transforms import ORDERS, Param, Transform
from onecycle.data.augment.warp import Floats, Ints
from onecycle.errors import ArgumentError

if TYPE_CHECKING:
    import torch

Bools = NDArray[np.bool_]
CHANNELS = 3


@dataclass(frozen=True)
class Jitter:
    """Noise on the sampling positions: uniform numbers in [−1, 1]² from ``seeds``, times ``spread``."""

    seeds: Ints  # (N,) one generator seed a picture
    spread: Floats  # (N, 2, 2) from noise to a shift of the input position; zeros leave a picture alone


@dataclass(frozen=True)
class ChannelNoise:
    """One channel replaced by uniform noise in [0, ``level``)."""

    seeds: Ints  # (N,) one generator seed a picture
    channel: Ints  # (N,) which channel; −1 leaves a picture alone
    level: Floats  # (N,) upper end of the noise, 0 to 1


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Everything that was drawn for the N pictures of a batch."""

    size: tuple[int, int]  # rows and columns of the result
    matrices: Floats  # (N, 3, 3) output to input positions, each picture in its own [−1, 1] coordinates
    gain: Floats  # (N,) factor in logit space
    offset: Floats  # (N,) added in logit space after the factor
    lit: Bools  # (N,) whether a lighting transform was drawn; others keep their pixels
    holes: Ints  # (N, K, 4) first row, end row, first column, end column of blacked-out squares in the result
    jitter: tuple[Jitter, ...] = ()  # noise on the positions
    channel_noise: tuple[ChannelNoise, ...] = ()  # channels that are replaced by noise

    def __len__(self) -> int:
        return len(self.matrices)

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Draws:
        """Return these as they are: they hold no tensors to be pinned or sent, and stay on the CPU."""
        return self

    def select(self, rows: Ints | slice | Sequence[int]) -> Draws:
        """Return the draws of the given pictures."""
        index = np.arange(len(self))[rows]
        jitter = tuple(Jitter(j.seeds[index], j.spread[index]) for j in self.jitter)
        noise = tuple(ChannelNoise(c.seeds[index], c.channel[index], c.level[index]) for c in self.channel_noise)
        arrays = {name: getattr(self, name)[index] for name in ("matrices", "gain", "offset", "lit", "holes")}
        return replace(self, **arrays, jitter=jitter, channel_noise=noise)


def draw_batch(tfms: Sequence[Transform], rng: np.random.Generator, shapes: Ints, size: tuple[int, int]) -> Draws:
    """Draw every transform for every picture of a batch.

    Args:
        tfms: transforms; they take effect in the order of ``Transform.order``, then of the list.
        rng: the only source of chance.
        shapes: (N, 2) rows and columns of each picture.
        size: rows and columns that ``crop_pad`` cuts; without one, what the transforms themselves end at.

    Returns:
        The draws, with all geometry composed into one matrix a picture:
        padding · affine (product in list order) · warp · what happens to the sampled picture.
    """
    kinds = {kind: [t for t in tfms if t.kind == kind] for kind in ORDERS}
    padded, inner = _pad(kinds["pad"], shapes)
    warped, jitter = _draw_coords(kinds["coord"], rng, inner)
    affine = _draw_affine(kinds["affine"], rng, len(shapes))
    around = padded @ warp.keep_angles(affine, inner)
    gain, offset, lit = _draw_lighting(kinds["lighting"], rng, len(shapes))
    sampled = _Sampled(around @ warped, inner, np.zeros((len(shapes), 0, 4), dtype=np.int64))
    for tfm in (*kinds["pixel"], *kinds["cutout"]):
        sampled = _AFTER_SAMPLING[tfm.name](tfm, rng, sampled)
    for tfm in kinds["crop"]:
        sampled = _cut(sampled, *_placed(tfm, rng, len(shapes)), size)
    return Draws(
        size=size,
        matrices=sampled.view,
        gain=gain,
        offset=offset,
        lit=lit,
        holes=sampled.holes,
        jitter=tuple(replace(j, spread=around[:, :2, :2] @ j.spread) for j in jitter),
        channel_noise=sampled.channel_noise,
    )


# ---- numbers for one parameter ----


def _uniform(rng: np.random.Generator, value: Param, n: int, k: int | None = None) -> Floats:
    """Draw (n,) or (n, k) numbers from a range; a fixed number, or k of them, are repeated."""
    shape = (n,) if k is None else (n, k)
    if isinstance(value, tuple) and len(value) == 2:
        return rng.uniform(value[0], value[1], shape)
    return np.broadcast_to(np.asarray(value, dtype=np.float64), shape).copy()


def _log_uniform(rng: np.random.Generator, value: Param, n: int) -> Floats:
    logs = tuple(np.log(value)) if isinstance(value, tuple) else float(np.log(_number(value)))
    return np.exp(_uniform(rng, logs, n))


def _integers(rng: np.random.Generator, value: Param, n: int) -> Ints:
    """Draw (n,) whole numbers from a range, both ends included."""
    if isinstance(value, tuple):
        return rng.integers(int(value[0]), int(value[1]), n, endpoint=True)
    return np.full(n, int(_number(value)), dtype=np.int64)


def _number(value: Param) -> float:
    if not isinstance(value, (int, float)):
        raise ArgumentError(f"expected a number, received {value!r}")
    return float(value)


def crop_size(tfm: Transform) -> tuple[int, int]:
    """Return rows and columns that a ``crop`` cuts."""
    return int(_number(tfm.param("rows"))), int(_number(tfm.param("cols")))


def _position(rng: np.random.Generator, tfm: Transform, n: int) -> tuple[Floats, Floats]:
    return _uniform(rng, tfm.param("row_pct"), n), _uniform(rng, tfm.param("col_pct"), n)


def _runs(rng: np.random.Generator, tfm: Transform, n: int) -> Bools:
    """Draw for which pictures a transform runs, (N,)."""
    return rng.random(n) < tfm.p


def _where_run(run: Bools, matrices: Floats) -> Floats:
    return np.where(run[:, None, None], matrices, np.eye(3))


def _seeds(rng: np.random.Generator, n: int) -> Ints:
    return rng.integers(0, 2**63 - 1, n)


# ---- geometry that is sampled ----


def _pad(tfms: Sequence[Transform], shapes: Ints) -> tuple[Floats, Ints]:
    """Return the matrices that look at the padded pictures and the padded shapes."""
    padding = sum(int(_number(t.param("padding"))) for t in tfms)
    if padding == 0:
        return warp.identity(len(shapes)), shapes
    scale = (shapes + 2 * padding - 1) / np.maximum(shapes - 1, 1)
    zero = np.zeros(len(shapes))
    return warp.scale_shift(scale[:, 1], scale[:, 0], zero, zero), shapes + 2 * padding


_Matrices = Callable[[Transform, np.random.Generator, int], Floats]

_AFFINE: dict[str, _Matrices] = {
    "rotate": lambda tfm, rng, n: warp.rotation(_uniform(rng, tfm.param("degrees"), n)),
    "zoom": lambda tfm, rng, n: warp.magnification(_uniform(rng, tfm.param("scale"), n), *_position(rng, tfm, n)),
    "squish": lambda tfm, rng, n: warp.squishing(_uniform(rng, tfm.param("scale"), n), *_position(rng, tfm, n)),
    "flip_affine": lambda _tfm, _rng, n: warp.square_position(np.ones(n, dtype=np.int64)),
    "dihedral_affine": lambda tfm, rng, n: warp.square_position(_integers(rng, tfm.param("k"), n)),
}


def _draw_affine(tfms: Sequence[Transform], rng: np.random.Generator, n: int) -> Floats:
    product = warp.identity(n)
    for tfm in tfms:
        drawn = _AFFINE[tfm.name](tfm, rng, n)
        product = product @ _where_run(_runs(rng, tfm, n), drawn)
    return product


def _zoom_squish(tfm: Transform, rng: np.random.Generator, shapes: Ints) -> Floats:
    """Take the first of several windows that lies inside the picture, else the largest centred square."""
    n, tries = len(shapes), int(_number(tfm.param("tries")))
    side = 1 / np.sqrt(_uniform(rng, tfm.param("scale"), n, tries))
    ratio = np.sqrt(_uniform(rng, tfm.param("squish"), n, tries))
    ratio = np.where(rng.random((n, tries)) < _number(tfm.param("invert")), 1 / ratio, ratio)
    row, col = _position(rng, tfm, n)
    widths, heights = side * ratio, side / ratio
    fits = (widths <= 1) & (heights <= 1)
    first = (np.arange(n), fits.argmax(axis=1))
    height_over_width = shapes[:, 0] / shapes[:, 1]
    fitting = fits.any(axis=1)
    width = np.where(fitting, widths[first], np.minimum(height_over_width, 1))
    height = np.where(fitting, heights[first], 1 / np.maximum(height_over_width, 1))
    return warp.window(width, height, np.where(fitting, row, 0.5), np.where(fitting, col, 0.5))


_CORNER_TARGETS: dict[str, _Matrices] = {
    "symmetric_warp": lambda tfm, rng, n: warp.symmetric_targets(_uniform(rng, tfm.param("magnitude"), n, 4)),
    "perspective_warp": lambda tfm, rng, n: warp.shifted_corners(_uniform(rng, tfm.param("magnitude"), n, 8)),
    "tilt": lambda tfm, rng, n: warp.tilt_targets(*_direction_and_magnitude(tfm, rng, n)),
    "skew": lambda tfm, rng, n: warp.skew_targets(*_direction_and_magnitude(tfm, rng, n)),
}
"""Where each change of the point of view moves the corners, (n, 4, 2)."""


def _direction_and_magnitude(tfm: Transform, rng: np.random.Generator, n: int) -> tuple[Ints, Floats]:
    return _integers(rng, tfm.param("direction"), n), _uniform(rng, tfm.param("magnitude"), n)


def _draw_coords(
    tfms: Sequence[Transform], rng: np.random.Generator, shapes: Ints
) -> tuple[Floats, tuple[Jitter, ...]]:
    """Draw the warps, later ones of the list acting later; position noise is added after them all."""
    n, product = len(shapes), warp.identity(len(shapes))
    jitter: list[Jitter] = []
    for tfm in tfms:
        if tfm.name == "jitter":
            magnitude = _uniform(rng, tfm.param("magnitude"), n) * _runs(rng, tfm, n)
            jitter.append(Jitter(_seeds(rng, n), magnitude[:, None, None] * np.eye(2)))
            continue
        if tfm.name == "zoom_squish":
            drawn = _zoom_squish(tfm, rng, shapes)
        else:
            drawn = warp.perspective(_CORNER_TARGETS[tfm.name](tfm, rng, n))
        product = _where_run(_runs(rng, tfm, n), drawn) @ product
    return product, tuple(jitter)


# ---- light ----


def _draw_lighting(tfms: Sequence[Transform], rng: np.random.Generator, n: int) -> tuple[Floats, Floats, Bools]:
    """Return factor, offset and which pictures are lit; brightness and contrast act in list order."""
    gain, offset, lit = np.ones(n), np.zeros(n), np.zeros(n, dtype=np.bool_)
    for tfm in tfms:
        if tfm.name == "brightness":
            change = _uniform(rng, tfm.param("change"), n)
            run = _runs(rng, tfm, n)
            offset = offset + np.where(run, np.log(change / (1 - change)), 0)
        else:
            scale = _log_uniform(rng, tfm.param("scale"), n)
            run = _runs(rng, tfm, n)
            factor = np.where(run, scale, 1)
            gain, offset = gain * factor, offset * factor
        lit = lit | run
    return gain, offset, lit


# ---- what happens to the sampled picture ----


@dataclass(frozen=True)
class _Sampled:
    """The sampled pictures: how each is seen, how large it is, and which squares of it are blacked out."""

    view: Floats
    shapes: Ints
    holes: Ints
    channel_noise: tuple[ChannelNoise, ...] = ()


def _flip(tfm: Transform, rng: np.random.Generator, now: _Sampled) -> _Sampled:
    n = len(now.view)
    k = _integers(rng, 2.0 if tfm.name == "flip_lr" else tfm.param("k"), n) * _runs(rng, tfm, n)
    shapes = np.where((k & 4)[:, None] > 0, now.shapes[:, ::-1], now.shapes)
    return replace(now, view=now.view @ warp.flip_then_transpose(k), shapes=shapes)


def _cut(now: _Sampled, row_pct: Floats, col_pct: Floats, size: tuple[int, int]) -> _Sampled:
    starts = [warp.window_start(now.shapes[:, i], size[i], pct) for i, pct in enumerate((row_pct, col_pct))]
    start = np.stack(starts, axis=1)
    shapes = np.broadcast_to(np.array(size, dtype=np.int64), now.shapes.shape)
    holes = now.holes - np.repeat(start, 2, axis=1)[:, None, :]
    view = now.view @ warp.pixel_window(now.shapes, start, size)
    return replace(now, view=view, shapes=shapes, holes=holes)


def _placed(tfm: Transform, rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    row, col = _position(rng, tfm, n)
    run = _runs(rng, tfm, n)
    return np.where(run, row, 0.5), np.where(run, col, 0.5)


def _rgb_randomize(tfm: Transform, rng: np.random.Generator, now: _Sampled) -> _Sampled:
    n, fixed = len(now.view), tfm.param("channel")
    drawn = rng.integers(0, CHANNELS, n) if fixed is None else _integers(rng, fixed, n)
    level = rng.uniform(0, 1, n) * _number(tfm.param("thresh"))
    channel = np.where(_runs(rng, tfm, n), drawn, -1)
    return replace(now, channel_noise=(*now.channel_noise, ChannelNoise(_seeds(rng, n), channel, level)))


def _cutout(tfm: Transform, rng: np.random.Generator, now: _Sampled) -> _Sampled:
    """Draw centres anywhere in the picture; squares are clipped to it. Holes that are not used are empty."""
    n, wanted = len(now.view), tfm.param("n_holes")
    count = _integers(rng, wanted, n) * _runs(rng, tfm, n)
    most = int(wanted[1]) if isinstance(wanted, tuple) else int(_number(wanted))
    half = _integers(rng, tfm.param("length"), n)[:, None, None] / 2
    rows_cols = now.shapes[:, None, :]
    centre = rng.integers(0, np.broadcast_to(rows_cols, (n, most, 2)))
    first, end = (np.clip(centre + sign * half, 0, rows_cols).astype(np.int64) for sign in (-1, 1))
    end = np.where((np.arange(most) < count[:, None])[:, :, None], end, first)
    holes = np.stack([first[..., 0], end[..., 0], first[..., 1], end[..., 1]], axis=-1)
    return replace(now, holes=np.concatenate([now.holes, holes], axis=1))


_AFTER_SAMPLING: dict[str, Callable[[Transform, np.random.Generator, _Sampled], _Sampled]] = {
    "flip_lr": _flip,
    "dihedral": _flip,
    "crop": lambda tfm, rng, now: _cut(now, *_placed(tfm, rng, len(now.view)), crop_size(tfm)),
    "rgb_randomize": _rgb_randomize,
    "cutout": _cutout,
}
