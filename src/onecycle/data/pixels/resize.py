"""The size that pictures are brought to: scaling, then a window cut or filled around the centre."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np
import PIL.Image

from onecycle.errors import ArgumentError
from onecycle.text import option

PaddingMode = Literal["reflection", "border", "zeros"]

_NUMPY_PAD = {"reflection": "reflect", "border": "edge", "zeros": "constant"}

# A decoder halves by averaging blocks of pixels. With at least two of those for each pixel of the result, the resize
# that follows still does its own antialiasing (Pillow's ``thumbnail`` keeps the same distance, its reducing_gap=2).
_KEPT_PER_PX = 2
_SMALLEST_SCALED_PX = 64  # below it there is nothing to gain
MOST_WINDOWS = 8  # that an enlarged picture keeps: 65,000 × 1 px at 224 px would take 9.8 GB otherwise


class ResizeMethod(Enum):
    """How a picture is brought to ``size``.

    ``CROP`` scales the short side and cuts the rest off; ``PAD`` scales the long side and fills up;
    ``SQUISH`` ignores the aspect; ``NO`` leaves the picture as it is.
    """

    CROP = 1
    PAD = 2
    SQUISH = 3
    NO = 4


@dataclass(frozen=True)
class ResizeSpec:
    """The size that pictures are brought to, and how: the settings of the one evaluation preprocess."""

    size: tuple[int, int] | None = None  # (height, width) in px, None for NO
    method: ResizeMethod = ResizeMethod.NO  # scaling
    padding_mode: PaddingMode = "reflection"  # what fills a window that is larger than the picture
    scaled_decode: bool = True  # decode a JPEG at 1/2, 1/4 or 1/8 where the result is far smaller than the picture

    @classmethod
    def make(
        cls,
        size: int | tuple[int, int] | None,
        method: ResizeMethod | str | None = None,
        *,
        padding_mode: str = "reflection",
        mult: int | None = None,
        scaled_decode: bool = True,
    ) -> ResizeSpec:
        """Read the user's arguments as fastai v1 did.

        Args:
            size: px; a number means CROP by default, a (height, width) pair SQUISH, None no resizing.
            method: overrides that default; a ``ResizeMethod`` or its name.
            padding_mode: ``reflection``, ``border`` or ``zeros``.
            mult: round the size to a multiple of this number.
            scaled_decode: see the attribute.

        Raises:
            ArgumentError: a size below 1, an unknown padding mode, or a method without a size.
        """
        if padding_mode not in _NUMPY_PAD:
            raise ArgumentError(f"padding_mode must be one of {sorted(_NUMPY_PAD)}; received {padding_mode!r}")
        names = [m.name for m in ResizeMethod]
        if method is not None and not isinstance(method, ResizeMethod):
            if str(method).upper() not in names:
                known = f"ResizeMethod.{', '.join(names)} (or the name)"
                raise ArgumentError(f"resize_method is {known}; received {method!r}")
            method = ResizeMethod[str(method).upper()]
        if size is None:
            if method not in (None, ResizeMethod.NO):
                raise ArgumentError(f"resize_method={method.name} needs a size; pass {option('size', 224)}, say")
            return cls(None, ResizeMethod.NO, padding_mode, scaled_decode)  # type: ignore[arg-type]
        default = ResizeMethod.SQUISH if isinstance(size, (tuple, list)) else ResizeMethod.CROP
        height, width = as_size(size)
        if mult:
            height, width = (max(mult, int(s / mult + 0.5) * mult) for s in (height, width))
        chosen = default if method is None else method
        pair = None if chosen is ResizeMethod.NO else (height, width)
        return cls(pair, chosen, padding_mode, scaled_decode)  # type: ignore[arg-type]

    def at_size(self, size: int | tuple[int, int] | None) -> ResizeSpec:
        """Return the same settings for another size; from or to None, the method is what ``make`` chooses."""
        method = None if self.size is None or size is None else self.method
        return self.make(size, method, padding_mode=self.padding_mode, scaled_decode=self.scaled_decode)

    def stored_shape(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) that a picture is stored with, before any window is cut.

        That is its scaled shape, but what is enlarged to ``CROP`` it has at most as many pixels as the picture, or as
        eight windows: of a long thin one, both ends are left out.
        """
        scaled = self.scaled_shape(height, width)
        if self.size is None or self.method is not ResizeMethod.CROP:
            return scaled
        most = max(height * width, MOST_WINDOWS * self.size[0] * self.size[1])
        # By an even number of pixels, so that the centre stays where it was.
        longest = [s - max(0, s - most // other + 1) // 2 * 2 for s, other in zip(scaled, scaled[::-1], strict=True)]
        return max(longest[0], self.size[0]), max(longest[1], self.size[1])

    def scaled_shape(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) that scaling gives a whole picture."""
        if self.size is None:
            return height, width
        if self.method is ResizeMethod.SQUISH:
            return self.size
        ratios = self.size[0] / height, self.size[1] / width
        scale = max(ratios) if self.method is ResizeMethod.CROP else min(ratios)
        new = round(height * scale), round(width * scale)
        if self.method is ResizeMethod.CROP:
            return max(new[0], self.size[0]), max(new[1], self.size[1])
        return min(max(new[0], 1), self.size[0]), min(max(new[1], 1), self.size[1])


def as_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return ``size`` as height and width in pixels.

    Raises:
        ArgumentError: not one or two whole numbers above 0.
    """
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2 or not all(isinstance(s, (int, np.integer)) and s >= 1 for s in pair):
        raise ArgumentError(f"size is a side or (height, width) in pixels, each at least 1; received {size!r}")
    return int(pair[0]), int(pair[1])


def decode_factor(shape: tuple[int, int], spec: ResizeSpec) -> int:
    """Return 1, 2, 4 or 8: at which fraction of its (height, width) a JPEG may be decoded for this spec."""
    wanted = spec.stored_shape(*shape)
    if not spec.scaled_decode or min(shape) < _SMALLEST_SCALED_PX:
        return 1
    fits = (f for f in (8, 4, 2) if all(-(-s // f) >= _KEPT_PER_PX * w for s, w in zip(shape, wanted, strict=True)))
    return next(fits, 1)


def resize_pixels(pixels: np.ndarray, spec: ResizeSpec) -> np.ndarray:
    """Scale uint8 ``(H, W, C)`` to the spec's stored shape: bilinear with antialiasing, on 8-bit values."""
    height, width = pixels.shape[0], pixels.shape[1]
    wanted, scaled = spec.stored_shape(height, width), spec.scaled_shape(height, width)
    visible = height * (wanted[0] / scaled[0]), width * (wanted[1] / scaled[1])
    return scale_to(pixels, wanted, visible=visible, start=((height - visible[0]) / 2, (width - visible[1]) / 2))


def scale_to(
    pixels: np.ndarray,
    wanted: tuple[int, int],
    *,
    visible: tuple[float, float],
    start: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Scale uint8 ``(H, W, C)`` to ``wanted`` (height, width): bilinear with antialiasing, on 8-bit values.

    Widths first, then heights, as two calls: in one, Pillow orders the passes by the picture's shape, and which one
    rounds to 8 bits first changes pixels by a grey level. In this order plain ONNX operators give the same bytes.

    Args:
        pixels: a picture; its last row and column may be there in part only.
        wanted: px.
        visible: height and width of what is scaled, in px of the picture.
        start: its upper left corner, row and column.
    """
    if (*wanted, *wanted) == (*pixels.shape[:2], *visible):
        return pixels
    if pixels.shape[2:] not in ((), (3,)):  # Pillow would take a fourth channel for transparency
        channels = (pixels[..., i] for i in range(pixels.shape[2]))
        return np.stack([scale_to(c, wanted, visible=visible, start=start) for c in channels], axis=2)
    most = MOST_WINDOWS * max(len(pixels) * pixels.shape[1], wanted[0] * wanted[1])
    return _in_two_passes(pixels, wanted, visible, start, most)


def _in_two_passes(
    pixels: np.ndarray, wanted: tuple[int, int], visible: tuple[float, float], start: tuple[float, float], most: int
) -> np.ndarray:
    """Scale widths, then heights, with at most so many pixels in between: those of 1 × 10,000,000 took 1.8 GB."""
    top, left = start
    if wanted[1] * len(pixels) > most:
        pixels, top = _rows_seen(pixels, wanted[0], visible[0], top)
    if wanted[1] * len(pixels) > most and wanted[0] > 1:
        n = wanted[0] // 2
        share = visible[0] * n / wanted[0]
        upper = _in_two_passes(pixels, (n, wanted[1]), (share, visible[1]), (top, left), most)
        rest = (wanted[0] - n, wanted[1]), (visible[0] - share, visible[1]), (top + share, left)
        return np.concatenate((upper, _in_two_passes(pixels, *rest, most)))
    height, how = len(pixels), PIL.Image.Resampling.BILINEAR
    columns = (left, 0.0, left + visible[1], float(height))
    narrowed = PIL.Image.fromarray(pixels).resize((wanted[1], height), how, columns)
    rows = (0.0, top, float(wanted[1]), top + visible[0])
    return np.array(narrowed.resize((wanted[1], wanted[0]), how, rows))


def _rows_seen(pixels: np.ndarray, wanted: int, visible: float, top: float) -> tuple[np.ndarray, float]:
    """Return the rows that scaled ones depend on, and where the visible ones begin in them."""
    reach = math.ceil(max(1.0, visible / wanted)) + 1  # of the bilinear filter, to each side
    first = max(0, math.floor(top) - reach)
    return pixels[first : math.ceil(top + visible) + reach], top - first


def centre_window(pixels: np.ndarray, spec: ResizeSpec) -> np.ndarray:
    """Cut or fill uint8 ``(H, W, C)`` to the spec's size around the centre, without interpolation."""
    if spec.size is None or pixels.shape[:2] == spec.size:
        return pixels
    for axis, wanted in enumerate(spec.size):
        spare = pixels.shape[axis] - wanted
        if spare > 0:
            start = (spare + 1) // 2  # v1's int((spare + 1) · 0.5)
            pixels = pixels[start : start + wanted] if axis == 0 else pixels[:, start : start + wanted]
        elif spare < 0:
            before = -spare // 2
            widths = [(0, 0)] * 3
            widths[axis] = (before, -spare - before)
            pixels = np.pad(pixels, widths, mode=_NUMPY_PAD[spec.padding_mode])  # type: ignore[call-overload]
    return np.ascontiguousarray(pixels)
