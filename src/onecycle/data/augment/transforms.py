"""Named transforms as plain values: what may be drawn for a picture, and how often.

A parameter is a ``(low, high)`` pair, drawn anew for every picture, or a plain number, which is fixed.
Nothing here touches pixels: :mod:`onecycle.data.augment.draws` turns a list of these into numbers for a batch, and
:mod:`onecycle.data.augment.augmenter` applies the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Literal, NamedTuple

from onecycle.data.pixels.resize import as_size
from onecycle.errors import ArgumentError, OnecycleWarning, warn

Kind = Literal["pad", "coord", "affine", "lighting", "pixel", "cutout", "crop"]
Param = float | str | tuple[float, ...] | None
Range = float | tuple[float, float]
Size = int | tuple[int, int]

ORDERS: dict[Kind, int] = {"pad": -10, "coord": 4, "affine": 5, "lighting": 8, "pixel": 10, "cutout": 20, "crop": 99}
PADDING_MODES = ("reflection", "border", "zeros")
RANDOM_POSITION = (0.0, 1.0)


@dataclass(frozen=True)
class Transform:
    """One transform: its name, parameters and probability."""

    augmenter: ClassVar[type[Any] | None] = None  # that applies a list with this one; None: the usual one

    name: str  # the constructor's name in NAMED
    kind: Kind  # which step of the pipeline it belongs to; decides when it is applied, not its place in the list
    params: tuple[tuple[str, Param], ...] = ()  # pairs of parameter name and range or fixed value
    p: float = 1.0  # probability of being applied to a picture, 0 to 1

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ArgumentError(f"{self.name}: p is a probability, 0 <= p <= 1; received {self.p}")

    @property
    def tfm(self) -> Callable[..., Transform | list[Transform]]:
        """The function of its name that makes one (v1's attribute)."""
        return NAMED[self.name]

    @property
    def order(self) -> int:
        """Position in the pipeline, as in fastai v1; equal positions keep the order of the list."""
        return ORDERS[self.kind]

    def param(self, name: str) -> Param:
        """Return the parameter called ``name``."""
        return dict(self.params)[name]

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in (*self.params, ("p", self.p))]
        return f"{self.name}({', '.join(shown)})"

    def to_dict(self) -> dict[str, object]:
        """Return name, parameters and probability as values that JSON can hold."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in self.params}
        return {"name": self.name, "params": values, "p": self.p}


Transforms = Transform | Sequence["Transform | Sequence[Transform]"] | None


def flatten(tfms: Transforms) -> list[Transform]:
    """Return one flat list from None, one transform, or lists that hold lists (``zoom_crop`` returns one).

    Raises:
        ArgumentError: something that is not a transform; a constructor that was not called is named.
    """
    if tfms is None:
        return []
    if isinstance(tfms, Transform):
        return [tfms]
    if not isinstance(tfms, (list, tuple)):
        called = getattr(tfms, "__name__", "")
        hint = f"; call it: {called}(...)" if called in NAMED else ""
        raise ArgumentError(f"expected a transform or a list of transforms, received {tfms!r}{hint}")
    return [tfm for item in tfms for tfm in flatten(item)]


# ---- geometry ----


def rotate(degrees: Range = (-10.0, 10.0), *, p: float = 1.0) -> Transform:
    """Rotate about the centre; positive degrees turn the picture's content counter-clockwise."""
    return _spec("rotate", "affine", p, degrees=(degrees, _ANY))


def zoom(scale: Range = (1.0, 1.1), *, row_pct: Range = 0.5, col_pct: Range = 0.5, p: float = 1.0) -> Transform:
    """Magnify by ``scale`` about the point ``(row_pct, col_pct)``, 0 = top or left, 1 = bottom or right."""
    return _spec("zoom", "affine", p, scale=(scale, _ABOVE_0), row_pct=(row_pct, _SHARE), col_pct=(col_pct, _SHARE))


def rand_zoom(scale: Range = (1.0, 1.1), *, p: float = 1.0) -> Transform:
    """Magnify by ``scale`` about a random point."""
    return zoom(scale, row_pct=RANDOM_POSITION, col_pct=RANDOM_POSITION, p=p)


def squish(scale: Range = (0.75, 1.33), *, row_pct: Range = 0.5, col_pct: Range = 0.5, p: float = 1.0) -> Transform:
    """Stretch the width by ``1/scale`` where ``scale <= 1``, else the height by ``scale``."""
    return _spec("squish", "affine", p, scale=(scale, _ABOVE_0), row_pct=(row_pct, _SHARE), col_pct=(col_pct, _SHARE))


def flip_affine(*, p: float = 1.0) -> Transform:
    """Mirror left and right, as part of the one sampling."""
    return _spec("flip_affine", "affine", p)


def dihedral_affine(k: int | None = None, *, p: float = 1.0) -> Transform:
    """Turn and mirror into one of the 8 positions of a square.

    ``k&1`` negates x, ``k&2`` negates y, ``k&4`` swaps the axes.

    Args:
        k: 0 to 7; None draws one for every picture.
        p: probability.
    """
    return _spec("dihedral_affine", "affine", p, k=((0, 7) if k is None else k, _whole(0, 7)))


def flip_lr(*, p: float = 1.0) -> Transform:
    """Mirror left and right, after all other geometry."""
    return _spec("flip_lr", "pixel", p)


def dihedral(k: int | None = None, *, p: float = 1.0) -> Transform:
    """Flip and transpose, after all other geometry.

    ``k&1`` reverses the rows, ``k&2`` the columns, then ``k&4`` swaps rows and columns.

    Args:
        k: 0 to 7; None draws one for every picture.
        p: probability.
    """
    return _spec("dihedral", "pixel", p, k=((0, 7) if k is None else k, _whole(0, 7)))


def symmetric_warp(magnitude: Range | Sequence[float] = (-0.2, 0.2), *, p: float = 1.0) -> Transform:
    """Change the point of view: opposite sides grow or shrink about their middle.

    Args:
        magnitude: a range from which four numbers are drawn, one number for all four, or the four themselves
            (right side, left side, bottom side, top side), each above −1 and below 1.
        p: probability.
    """
    return _spec("symmetric_warp", "coord", p, magnitude=_magnitudes("symmetric_warp", magnitude, 4))


def perspective_warp(magnitude: Range | Sequence[float] = (-0.2, 0.2), *, p: float = 1.0) -> Transform:
    """Move each corner on its own.

    Args:
        magnitude: a range from which eight numbers are drawn, one number for all, or the eight themselves:
            x and y shifts of the corners (−1,−1), (−1,1), (1,−1), (1,1), each above −1 and below 1.
        p: probability.
    """
    return _spec("perspective_warp", "coord", p, magnitude=_magnitudes("perspective_warp", magnitude, 8))


def tilt(direction: Range = (0, 3), magnitude: Range = (-0.2, 0.2), *, p: float = 1.0) -> Transform:
    """Grow or shrink one side: direction 0 right, 1 left, 2 bottom, 3 top."""
    return _spec("tilt", "coord", p, direction=(direction, _whole(0, 3)), magnitude=(magnitude, _WITHIN_1))


def skew(direction: Range = (0, 7), magnitude: Range = (-0.2, 0.2), *, p: float = 1.0) -> Transform:
    """Move one corner outwards (or inwards) along one axis.

    Args:
        direction: 0 to 7; ``direction // 2`` is the corner (top left, bottom left, top right, bottom
            right); an even number moves it along x, an odd one along y.
        magnitude: how far, in half-sides of the picture, above −1 and below 1.
        p: probability.
    """
    return _spec("skew", "coord", p, direction=(direction, _whole(0, 7)), magnitude=(magnitude, _WITHIN_1))


def jitter(magnitude: Range = (0.0, 0.02), *, p: float = 1.0) -> Transform:
    """Replace every pixel by a random neighbour up to ``magnitude`` half-sides of the picture away."""
    return _spec("jitter", "coord", p, magnitude=(magnitude, _ANY))


def zoom_squish(
    scale: Range = (1.0, 2.0),
    squish: Range = (0.75, 1.33),
    *,
    invert: float = 0.5,
    tries: int = 8,
    row_pct: Range = RANDOM_POSITION,
    col_pct: Range = RANDOM_POSITION,
    p: float = 1.0,
) -> Transform:
    """Look at a window of ``1/scale`` of the area and aspect ratio ``squish``.

    The first of ``tries`` windows that fits inside the picture is used, else the largest centred square.
    """
    if tries < 1:
        raise ArgumentError(f"zoom_squish: tries must be 1 or more; received {tries}")
    window = {"scale": (scale, _ABOVE_0), "squish": (squish, _ABOVE_0), "invert": (invert, _SHARE)}
    place = {"row_pct": (row_pct, _SHARE), "col_pct": (col_pct, _SHARE)}
    return _spec("zoom_squish", "coord", p, **window, tries=tries, **place)


# ---- size ----


def crop_pad(*, row_pct: Range = 0.5, col_pct: Range = 0.5, p: float = 1.0) -> Transform:
    """Cut the window of the wanted size, or pad up to it, last of all; centred where ``p`` fails."""
    return _spec("crop_pad", "crop", p, row_pct=(row_pct, _SHARE), col_pct=(col_pct, _SHARE))


def rand_crop(*, p: float = 1.0) -> Transform:
    """Cut the window of the wanted size at a random position, last of all."""
    return crop_pad(row_pct=RANDOM_POSITION, col_pct=RANDOM_POSITION, p=p)


def crop(size: Size, *, row_pct: Range = 0.5, col_pct: Range = 0.5, p: float = 1.0) -> Transform:
    """Cut a window of ``size`` (side, or height and width) pixels; where ``p`` fails, it is centred."""
    rows, cols = as_size(size)
    return _spec("crop", "pixel", p, rows=rows, cols=cols, row_pct=(row_pct, _SHARE), col_pct=(col_pct, _SHARE))


def pad(padding: int, *, mode: str = "reflection") -> Transform:
    """Add ``padding`` pixels on every side, before all else; ``mode`` as in :data:`PADDING_MODES`."""
    if padding < 0:
        raise ArgumentError(f"pad: padding is a number of pixels, 0 or more; received {padding}")
    if mode not in PADDING_MODES:
        raise ArgumentError(f"pad: mode must be one of {', '.join(PADDING_MODES)}; received {mode!r}")
    return _spec("pad", "pad", 1.0, padding=int(padding), mode=mode)


def rand_pad(padding: int, size: Size, mode: str = "reflection") -> list[Transform]:
    """Pad by ``padding`` pixels, then cut a window of ``size`` at a random position."""
    return [pad(padding, mode=mode), crop(size, row_pct=RANDOM_POSITION, col_pct=RANDOM_POSITION)]


def rand_resize_crop(size: Size, max_scale: float = 2.0, ratios: tuple[float, float] = (0.75, 1.33)) -> list[Transform]:
    """Look at a random window of at least ``1/max_scale`` of the area, then cut to ``size``."""
    return [zoom_squish((1.0, max_scale), ratios), crop(size)]


def zoom_crop(scale: Range, do_rand: bool = False, *, p: float = 1.0) -> list[Transform]:
    """Magnify and cut to the wanted size, both centred or, with ``do_rand``, both at random."""
    return [rand_zoom(scale, p=p), rand_crop()] if do_rand else [zoom(scale, p=p), crop_pad()]


# ---- light and pixels ----


def brightness(change: Range = (0.4, 0.6), *, p: float = 1.0) -> Transform:
    """Add ``logit(change)`` in logit space: below 0.5 darkens, above brightens."""
    return _spec("brightness", "lighting", p, change=(change, _Limits(0, 1)))


def contrast(scale: Range = (0.8, 1.25), *, p: float = 1.0) -> Transform:
    """Multiply by ``scale`` in logit space, drawn uniformly on a log scale."""
    return _spec("contrast", "lighting", p, scale=(scale, _ABOVE_0))


def rgb_randomize(channel: int | None = None, thresh: float = 0.3, *, p: float = 1.0) -> Transform:
    """Fill one channel (None: any) with noise between 0 and a level drawn from 0 to ``thresh``."""
    if channel not in (None, 0, 1, 2):
        raise ArgumentError(f"rgb_randomize: channel is 0, 1, 2 or None for any; received {channel!r}")
    return _spec("rgb_randomize", "pixel", p, channel=channel, thresh=(thresh, _SHARE))


def cutout(n_holes: Range = 1, length: Range = 40, *, p: float = 1.0) -> Transform:
    """Black out ``n_holes`` squares of ``length`` pixels at random places."""
    limits = {"n_holes": (n_holes, _whole(0, math.inf)), "length": (length, _whole(1, math.inf))}
    return _spec("cutout", "cutout", p, **limits)


NAMED: dict[str, Callable[..., Transform | list[Transform]]] = {
    f.__name__: f
    for f in (
        *(rotate, zoom, rand_zoom, squish, flip_affine, dihedral_affine, flip_lr, dihedral),
        *(symmetric_warp, perspective_warp, tilt, skew, jitter, zoom_squish),
        *(crop_pad, rand_crop, crop, pad, rand_pad, rand_resize_crop, zoom_crop),
        *(brightness, contrast, rgb_randomize, cutout),
    )
}
"""Every transform constructor by name."""


# ---- lists ----


def get_transforms(
    do_flip: bool = True,
    flip_vert: bool = False,
    max_rotate: float | None = 10.0,
    max_zoom: float | None = 1.1,
    max_lighting: float | None = 0.2,
    max_warp: float | None = 0.2,
    p_affine: float = 0.75,
    p_lighting: float = 0.75,
    xtra_tfms: Transforms = None,
) -> tuple[list[Transform], list[Transform]]:
    """Return the usual transforms for training and for validation.

    Args:
        do_flip: mirror left and right for half of the pictures.
        flip_vert: with ``do_flip``, all 8 positions of a square instead (satellite, microscope).
        max_rotate: rotate by up to so many degrees either way; 0 or None: not at all.
        max_zoom: magnify by 1 to ``max_zoom``; 1, less or None: not at all.
        max_lighting: brightness and contrast, 0 <= max_lighting < 1; 0 or None: not at all.
        max_warp: change of the point of view, 0 <= max_warp < 1; 0 or None: not at all.
        p_affine: probability of each of rotation, zoom and warp.
        p_lighting: probability of each of brightness and contrast.
        xtra_tfms: more transforms for training.

    Returns:
        The training list and the validation list; the latter only cuts a centred window.

    Raises:
        ArgumentError: a range that cannot work.
    """
    turn, light, warp = (v or 0.0 for v in (max_rotate, max_lighting, max_warp))
    largest = 1.0 if max_zoom is None else max_zoom
    if turn < 0:
        raise ArgumentError(f"max_rotate is in degrees, 0 or more; received {turn}")
    if largest < 1:
        warn(
            f"max_zoom={largest} is below 1, so no picture is zoomed: it is the largest magnification", OnecycleWarning
        )
    for name, value in (("max_lighting", light), ("max_warp", warp)):
        if not 0 <= value < 1:
            raise ArgumentError(f"{name} must be 0 or more and below 1; received {value}")
    train = [rand_crop()]
    if do_flip:
        train.append(dihedral_affine() if flip_vert else flip_lr(p=0.5))
    if warp:
        train.append(symmetric_warp((-warp, warp), p=p_affine))
    if turn:
        train.append(rotate((-turn, turn), p=p_affine))
    if largest > 1:
        train.append(rand_zoom((1.0, largest), p=p_affine))
    if light:
        train.append(brightness((0.5 * (1 - light), 0.5 * (1 + light)), p=p_lighting))
        train.append(contrast((1 - light, 1 / (1 - light)), p=p_lighting))
    return train + flatten(xtra_tfms), [crop_pad()]


def tta_view(tfms: Transforms, *, corner: tuple[int, int], flip: bool = False, scale: float = 1.35) -> list[Transform]:
    """Return the transforms of one test-time view: a window at a corner, magnified where training zooms.

    Training's other transforms stay; its window, mirroring and zoom give way to the fixed ones.

    Args:
        tfms: the training list.
        corner: row and column, each 0 (top, left) or 1 (bottom, right).
        flip: mirror left and right.
        scale: magnification, where training zooms.
    """
    row, col = (float(v) for v in corner)
    others = [t for t in flatten(tfms) if t.name not in ("crop_pad", "flip_lr", "dihedral", "zoom")]
    zooms = _largest(tfms, ("zoom", "zoom_squish"), "scale") > 1
    moves = zooms or _largest(tfms, ("crop_pad",), "row_pct") > 0.5
    view = [*others, *([zoom(scale, row_pct=row, col_pct=col)] if zooms else [])]
    view.append(crop_pad(row_pct=row, col_pct=col) if moves else crop_pad())
    return [*view, flip_lr()] if flip else view


def tta_views(tfms: Transforms, scale: float = 1.35) -> list[list[Transform]]:
    """Return the test-time views: four corners, each plain and then, where training mirrors left and right, mirrored.

    They do nothing that training does not: a digit or a road sign is another one in the mirror.
    """
    flips = (False, True) if mirrored_views(tfms) > 1 else (False,)
    return [tta_view(tfms, corner=(i & 1, i >> 1), flip=flip, scale=scale) for flip in flips for i in range(4)]


def mirrored_views(tfms: Transforms) -> int:
    """Return how many views of a picture training takes for the same: 1, 2 (left and right), 4 (up and down, too)."""
    largest = _largest(tfms, ("dihedral", "dihedral_affine"), "k")
    if largest == 7:
        return 4
    mirrors = any(t.name in ("flip_lr", "flip_affine") and t.p > 0 for t in flatten(tfms))
    return 2 if mirrors or largest == 1 else 1


def _largest(tfms: Transforms, names: Sequence[str], param: str) -> float:
    """Return the largest value of a parameter that these transforms are ever applied with; 0 where none is."""
    values: list[Any] = [t.param(param) for t in flatten(tfms) if t.name in names and t.p > 0]
    return max((float(value[1] if isinstance(value, tuple) else value) for value in values), default=0.0)


# ---- checks ----


class _Limits(NamedTuple):
    """What a number, or both ends of a range, must lie between."""

    low: float
    high: float
    closed: bool = False  # whether the limits themselves are allowed
    whole: bool = False  # whether it must be a whole number


_ANY, _ABOVE_0, _WITHIN_1 = _Limits(-math.inf, math.inf), _Limits(0, math.inf), _Limits(-1, 1)
_SHARE = _Limits(0, 1, closed=True)


def _whole(low: float, high: float) -> _Limits:
    return _Limits(low, high, closed=True, whole=True)


def _spec(name: str, kind: Kind, p: float, **params: Param | tuple[Range, _Limits]) -> Transform:
    """Make a transform; a parameter that comes with limits is checked."""
    checked = {
        param: _checked(f"{name}: {param}", value[0], value[1])
        if isinstance(value, tuple) and isinstance(value[-1], _Limits)
        else value
        for param, value in params.items()
    }
    return Transform(name, kind, tuple(checked.items()), p)


def _checked(what: str, value: Range, limits: _Limits) -> float | tuple[float, float]:
    """Return a number or a range with two ends, or raise an error that names ``what`` it is."""
    numbers: tuple[Any, ...] = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(numbers) != 2 or not all(isinstance(v, Real) and math.isfinite(v) for v in numbers):
        raise ArgumentError(f"{what} is a number or a pair (low, high); received {value!r}")
    low, high = float(numbers[0]), float(numbers[1])
    if low > high:
        raise ArgumentError(f"{what} is a pair (low, high) with low <= high; received {value!r}")
    if not (limits.low <= low and high <= limits.high) or (not limits.closed and {low, high} & set(limits[:2])):
        words = ("from {} to {}" if limits.closed else "above {} and below {}").format(limits.low, limits.high)
        raise ArgumentError(f"{what} must lie {words}; received {value!r}")
    if limits.whole and not (low.is_integer() and high.is_integer()):
        raise ArgumentError(f"{what} is a whole number or a pair of them; received {value!r}")
    return low if low == high else (low, high)


def _magnitudes(name: str, value: Range | Sequence[float], n: int) -> Param:
    """Check the magnitude of a warp: a number, a range, or ``n`` numbers."""
    what = f"{name}: magnitude"
    if not isinstance(value, Sequence) or len(value) == 2:
        return _checked(what, value, _WITHIN_1)  # type: ignore[arg-type]
    if len(value) != n:
        raise ArgumentError(f"{what} is a number, a pair, or {n} numbers; received {value!r}")
    return tuple(float(_checked(what, v, _WITHIN_1)) for v in value)  # type: ignore[arg-type]
