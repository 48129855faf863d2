"""fastai v1's transforms of a picture, one at a time; the matrices are those of the transforms of batches."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onecycle.data.augment import warp
from onecycle.errors import ArgumentError
from onecycle.fastai1.pictures.tfms import FlowField, RandTransform, TfmAffine, TfmCoord, TfmCrop, TfmLighting, TfmPixel
from onecycle.fastai1.torch_core import log_uniform, rand_bool, uniform, uniform_int

__all__ = [
    "brightness", "contrast", "crop", "crop_pad", "cutout", "dihedral", "dihedral_affine", "flip_affine", "flip_lr",
    "jitter", "pad", "perspective_warp", "rand_crop", "rand_pad", "rand_resize_crop", "rand_zoom",
    "rgb_randomize", "rotate", "skew", "squish", "symmetric_warp", "tilt", "tis2hw", "zoom", "zoom_crop",
]  # fmt: skip

_PADDING = {"reflection": "reflect", "zeros": "constant", "border": "edge"}
_PLACE = {"row_pct": uniform, "col_pct": uniform}
_ANYWHERE: dict[str, Any] = {"row_pct": (0, 1), "col_pct": (0, 1)}


def _row(*values: Any) -> tuple[np.ndarray, ...]:
    """Return each value as an array of one."""
    return tuple(np.atleast_1d(np.asarray(v)) for v in values)


# -- light -----------------------------------------------------------------------------------------------------------


def _brightness(x: Tensor, change: float) -> Tensor:
    """Add ``logit(change)``: below 0.5 darkens, above brightens."""
    return x.add_(math.log(change / (1 - change)))


def _contrast(x: Tensor, scale: float) -> Tensor:
    """Multiply by ``scale``."""
    return x.mul_(scale)


brightness = TfmLighting(_brightness, draws={"change": uniform})
contrast = TfmLighting(_contrast, draws={"scale": log_uniform})


# -- matrices --------------------------------------------------------------------------------------------------------


def _rotate(degrees: float) -> Any:
    """Rotate; positive degrees turn what is seen counter-clockwise."""
    return warp.rotation(*_row(degrees))[0]


def _zoom(scale: float = 1.0, row_pct: float = 0.5, col_pct: float = 0.5) -> Any:
    """Magnify about a point."""
    return warp.magnification(*_row(scale, row_pct, col_pct))[0]


def _squish(scale: float = 1.0, row_pct: float = 0.5, col_pct: float = 0.5) -> Any:
    """Stretch the width by ``1/scale`` where ``scale <= 1``, else the height by ``scale``."""
    return warp.squishing(*_row(scale, row_pct, col_pct))[0]


def _flip_affine() -> Any:
    """Mirror left and right, as part of the one sampling."""
    return warp.square_position(*_row(1))[0]


def _dihedral_affine(k: int) -> Any:
    """Turn and mirror into one of the 8 positions of a square, as part of the one sampling."""
    return warp.square_position(*_row(k))[0]


rotate = TfmAffine(_rotate, draws={"degrees": uniform})
zoom = TfmAffine(_zoom, draws={"scale": uniform, **_PLACE})
squish = TfmAffine(_squish, draws={"scale": uniform, **_PLACE})
flip_affine = TfmAffine(_flip_affine)


def _one_of_eight(k: int | None = None, high: int | None = None) -> Any:
    """Draw a position of a square: any, the given one, or one between two."""
    return uniform_int(0, 7) if k is None else uniform_int(k, k if high is None else high)


dihedral_affine = TfmAffine(_dihedral_affine, draws={"k": _one_of_eight})


# -- positions -------------------------------------------------------------------------------------------------------


def _seen_through(c: FlowField, matrix: np.ndarray, invert: bool = False) -> FlowField:
    """Take positions through a perspective."""
    m = torch.tensor(np.linalg.inv(matrix) if invert else matrix, dtype=c.flow.dtype)
    points = torch.addmm(m[:, 2], c.flow.reshape(-1, 2), m[:, :2].t())
    return FlowField(c.size, (points[:, :2] / points[:, 2:]).view(c.flow.shape))


def _perspective_warp(c: FlowField, magnitude: Any = 0, invert: bool = False) -> FlowField:
    """Move each corner on its own."""
    shifts = np.broadcast_to(np.asarray(magnitude, dtype=np.float64), 8)[None]
    return _seen_through(c, warp.perspective(warp.shifted_corners(shifts))[0], invert)


def _symmetric_warp(c: FlowField, magnitude: Any = 0, invert: bool = False) -> FlowField:
    """Let opposite sides grow or shrink about their middle."""
    four = np.broadcast_to(np.asarray(magnitude, dtype=np.float64), 4)[None]
    return _seen_through(c, warp.perspective(warp.symmetric_targets(four))[0], invert)


def _tilt(c: FlowField, direction: int, magnitude: float = 0, invert: bool = False) -> FlowField:
    """Let one side grow or shrink: 0 right, 1 left, 2 bottom, 3 top."""
    return _seen_through(c, warp.perspective(warp.tilt_targets(*_row(direction, magnitude)))[0], invert)


def _skew(c: FlowField, direction: int, magnitude: float = 0, invert: bool = False) -> FlowField:
    """Move one corner along one axis."""
    return _seen_through(c, warp.perspective(warp.skew_targets(*_row(direction, magnitude)))[0], invert)


def _jitter(c: FlowField, magnitude: float) -> FlowField:
    """Take every pixel from a neighbour up to ``magnitude`` away."""
    c.flow = c.flow + (torch.rand_like(c.flow) - 0.5) * magnitude * 2
    return c


def _zoom_squish(
    c: FlowField, scale: Any = 1.0, squish: Any = 1.0, invert: Any = False, row_pct: float = 0.5, col_pct: float = 0.5
) -> FlowField:
    """Look at the first of several windows that fits into the picture, else at the largest centred square."""
    scales, ratios, turned = (np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in (scale, squish, invert))
    side, ratio = 1 / np.sqrt(scales), np.sqrt(ratios)
    ratio = np.where(turned > 0, 1 / ratio, ratio)
    widths, heights = side * ratio, side / ratio
    fits = np.flatnonzero((widths <= 1) & (heights <= 1))
    h_over_w = c.size[0] / c.size[1]
    if len(fits):
        seen = warp.window(*_row(widths[fits[0]], heights[fits[0]], row_pct, col_pct))[0]
    else:
        seen = warp.window(*_row(min(h_over_w, 1), 1 / max(h_over_w, 1), 0.5, 0.5))[0]
    return _seen_through(c, seen)


def _numbers(n: int, *given: float) -> Any:
    """Draw ``n`` numbers between two, or take ``n`` given ones."""
    return torch.tensor(given) if len(given) == n else uniform(given[0], given[-1], n)


perspective_warp = TfmCoord(_perspective_warp, draws={"magnitude": partial(_numbers, 8)})
symmetric_warp = TfmCoord(_symmetric_warp, draws={"magnitude": partial(_numbers, 4)})
tilt = TfmCoord(_tilt, draws={"direction": uniform_int, "magnitude": uniform})
skew = TfmCoord(_skew, draws={"direction": uniform_int, "magnitude": uniform})
jitter = TfmCoord(_jitter, draws={"magnitude": uniform})
zoom_squish = TfmCoord(_zoom_squish, draws={"scale": uniform, "squish": uniform, "invert": rand_bool, **_PLACE})


def tis2hw(size: Any) -> list[int]:
    """Return a size as [height, width]: a number is both, of a longer sequence the last two count.

    Raises:
        ArgumentError: text.
    """
    if isinstance(size, str):
        raise ArgumentError(f"a size is a number or a pair (height, width); received the text {size!r}")
    return [size, size] if isinstance(size, int) else [int(v) for v in list(size)[-2:]]


# -- pixels ----------------------------------------------------------------------------------------------------------


def _flip_lr(x: Tensor) -> Tensor:
    """Mirror left and right."""
    return x.flip(2)


def _dihedral(x: Tensor, k: int) -> Tensor:
    """Flip rows where ``k&1``, columns where ``k&2``, then swap them where ``k&4``."""
    flipped = x.flip([axis for axis in (1, 2) if k & axis])
    return (flipped.transpose(1, 2) if k & 4 else flipped).contiguous()


def _padded(x: Tensor, rows: int, cols: int, mode: str) -> Tensor:
    """Return pixels with a margin of so many rows and columns on each side, however wide."""
    if not rows and not cols:
        return x
    around = np.pad(x.detach().cpu().numpy(), ((0, 0), (rows, rows), (cols, cols)), mode=_PADDING[mode])  # type: ignore[call-overload]
    return torch.from_numpy(around).to(x.device)


def _pad(x: Tensor, padding: int, mode: str = "reflection") -> Tensor:
    """Add ``padding`` pixels on every side."""
    return _padded(x, padding, padding, mode)


def _crop(x: Tensor, size: Any, row_pct: float = 0.5, col_pct: float = 0.5) -> Tensor:
    """Cut a window of ``size`` pixels."""
    rows, cols = tis2hw(size)
    row, col = (int((n - k + 1) * min(pct, 1 - 1e-7)) for n, k, pct in
                ((x.shape[1], rows, row_pct), (x.shape[2], cols, col_pct)))  # fmt: skip
    return x[:, row : row + rows, col : col + cols].contiguous()


def _crop_pad(
    x: Tensor, size: Any, padding_mode: str = "reflection", row_pct: float = 0.5, col_pct: float = 0.5
) -> Tensor:
    """Cut a window of ``size`` pixels, or pad up to it."""
    rows, cols = (max((k - n + 1) // 2, 0) for n, k in zip(x.shape[1:], tis2hw(size), strict=True))
    return _crop(_padded(x, rows, cols, padding_mode), size, row_pct, col_pct)


def _cutout(x: Tensor, n_holes: int = 1, length: int = 40) -> Tensor:
    """Black out squares of ``length`` pixels at random places."""
    for _ in range(n_holes):
        (top, bottom), (left, right) = (
            np.clip(np.random.randint(0, n) + np.array([-length / 2, length / 2]), 0, n).astype(int)
            for n in x.shape[1:]
        )
        x[:, top:bottom, left:right] = 0
    return x


def _rgb_randomize(x: Tensor, channel: int | None = None, thresh: float = 0.3) -> Tensor:
    """Fill one channel with noise between 0 and a level drawn from 0 to ``thresh``."""
    at = np.random.randint(0, x.shape[0]) if channel is None else channel
    x[at] = torch.rand(x.shape[1:]) * np.random.uniform(0, thresh)
    return x


flip_lr = TfmPixel(_flip_lr)
dihedral = TfmPixel(_dihedral, draws={"k": _one_of_eight})
pad = TfmPixel(_pad, order=-10, draws={})
crop = TfmPixel(_crop, draws=_PLACE)
cutout = TfmPixel(_cutout, order=20, draws={"n_holes": uniform_int, "length": uniform_int})
rgb_randomize = TfmPixel(_rgb_randomize, draws={})
crop_pad = TfmCrop(_crop_pad, draws=_PLACE)


# -- lists -----------------------------------------------------------------------------------------------------------


def rand_zoom(scale: Any = 1.0, p: float = 1.0) -> Any:
    """Magnify about a random point."""
    return zoom(scale=scale, **_ANYWHERE, p=p)


def rand_crop(*args: Any, padding_mode: str = "reflection", p: float = 1.0) -> Any:
    """Cut at a random position."""
    return crop_pad(*args, **_ANYWHERE, padding_mode=padding_mode, p=p)


def rand_pad(padding: int, size: Any, mode: str = "reflection") -> list[RandTransform]:
    """Pad, then cut at a random position."""
    return [pad(padding=padding, mode=mode), crop(size=size, **_ANYWHERE)]


def zoom_crop(scale: Any, do_rand: bool = False, p: float = 1.0) -> list[RandTransform]:
    """Magnify and cut, both centred or, with ``do_rand``, both at random."""
    return [rand_zoom(scale, p=p), rand_crop()] if do_rand else [zoom(scale=scale, p=p), crop_pad()]


def rand_resize_crop(
    size: Any, max_scale: float = 2.0, ratios: tuple[float, float] = (0.75, 1.33)
) -> list[RandTransform]:
    """Look at a random window, then cut to ``size``."""
    window = zoom_squish(scale=(1.0, max_scale, 8), squish=(*ratios, 8), invert=(0.5, 8), **_ANYWHERE)
    return [window, crop(size=size)]
