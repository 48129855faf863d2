"""Pictures for the report: small copies inside the page, within a budget of bytes, and heat maps laid over them."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image, features

BUDGET_BYTES = 3_600_000
"""Of all pictures of a page as text; with tables and ranks that keeps 1,000 pictures below 5 MB."""

LARGE_PX, MEDIUM_PX = 224, 144
QUALITY = 62
_AT_ONCE, _THREADS = 32, min(4, os.cpu_count() or 1)
_LEFT_OUT = "Left out to keep this page small."
_HEAT = np.array([[20, 11, 53], [101, 21, 110], [187, 55, 84], [249, 142, 9], [252, 255, 164]], dtype=float)
"""Five colours from dark to light that also differ in grey and to most colour-blind eyes."""

Read = Callable[[int], np.ndarray | None]
"""From a position to pixels ``(H, W, 3)``, float in [0, 1] or uint8; None where the picture cannot be read."""


@dataclass(frozen=True)
class Shot:
    """A picture inside the page."""

    src: str  # a data URL; empty where there is no picture
    width: int  # px
    height: int  # px
    note: str = ""  # why there is none


@dataclass
class PagePictures:
    """Makes small copies until the budget is spent."""

    read: Read
    budget: int = BUDGET_BYTES  # bytes that are left
    left_out: set[int] = field(default_factory=set)  # positions whose picture did not fit, once each
    gone: set[int] = field(default_factory=set)  # positions whose picture cannot be read

    def shot(self, index: int, side: int, *, heat: np.ndarray | None = None) -> Shot:
        """Return picture ``index`` with its longer side at most ``side`` px, with a heat map ``(h, w)`` if given."""
        return self._within_budget(index, side, self._small(index, side, heat))

    def shots(self, indices: Iterable[int], side: int) -> dict[int, Shot]:
        """Return each of these pictures, in the given order; after one that does not fit the others are not read."""
        wanted, made = list(dict.fromkeys(indices)), dict[int, Shot]()
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(wanted), _AT_ONCE):
                some = wanted[start : start + _AT_ONCE]
                if self.left_out.intersection(made):
                    self.left_out.update(wanted[start:])
                    return made | {i: Shot("", side, side, _LEFT_OUT) for i in wanted[start:]}
                for i, small in zip(some, pool.map(lambda i: self._small(i, side), some), strict=True):
                    made[i] = self._within_budget(i, side, small)
        return made

    def _small(self, index: int, side: int, heat: np.ndarray | None = None) -> Shot | None:
        """Read and shrink a picture; None where it cannot be read."""
        pixels = self.read(index)
        if pixels is None:
            return None
        picture = Image.fromarray(as_bytes(pixels) if heat is None else blended(as_bytes(pixels), heat))
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        return Shot(_data_url(picture), *picture.size)

    def _within_budget(self, index: int, side: int, small: Shot | None) -> Shot:
        if small is None:
            self.gone.add(index)
            return Shot("", side, side, "The file cannot be read.")
        if len(small.src) > self.budget:
            self.left_out.add(index)
            return replace(small, src="", note=_LEFT_OUT)
        self.budget -= len(small.src)
        return small

    def thumbnails(self, indices: Iterable[int], side: int) -> dict[int, str]:
        """Return data URLs of as many pictures as fit, in the given order."""
        return {i: shot.src for i, shot in self.shots(indices, side).items() if shot.src}


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    """Return pixels as uint8, from floats in [0, 1] or bytes."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.asarray(np.clip(pixels * 255 + 0.5, 0, 255), dtype=np.uint8)


def thumbnail_px(n: int) -> int:
    """Return the size of the pictures behind tables: the more there are, the smaller."""
    return 160 if n <= 250 else 128 if n <= 600 else 112


def blended(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay a heat map ``(h, w)`` over uint8 ``(H, W, 3)``: the higher, the more opaque."""
    h, w = pixels.shape[:2]
    peak = float(heat.max())
    scaled = np.asarray(heat, dtype=np.float32) / (peak if peak > 0 else 1.0)
    large = np.asarray(Image.fromarray(scaled).resize((w, h), Image.Resampling.BICUBIC)).clip(0, 1)
    place = large * (len(_HEAT) - 1)
    low = np.minimum(place.astype(int), len(_HEAT) - 2)
    above = (place - low)[..., None]
    colour = _HEAT[low] * (1 - above) + _HEAT[low + 1] * above
    opacity = (0.25 + 0.45 * large)[..., None]
    return as_bytes((pixels * (1 - opacity) + colour * opacity) / 255)


def _data_url(picture: Image.Image) -> str:
    kind = "webp" if features.check("webp") else "jpeg"
    out, effort = io.BytesIO(), {"method": 2} if kind == "webp" else {"optimize": True}
    picture.save(out, kind, quality=QUALITY, **effort)
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
