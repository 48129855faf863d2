"""What is kept of each picture to recognise its copies: 2 kB, made in the pass that decodes it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import PIL.Image

GRID = 32
"""Rows and columns of a thumbnail."""

_FREQUENCIES = 8


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of N pictures, 2 kB each; rows of unreadable pictures stay empty."""

    digests: list[bytes]  # of size and pixels; b"" where there is no picture
    thumbs: np.ndarray  # grey pictures of GRID × GRID cells, float16 (N, GRID, GRID), less their mean
    colours: np.ndarray  # mean red, green and blue, float32 (N, 3), 0 to 255

    @classmethod
    def empty(cls, n: int) -> Self:
        """Return room for ``n`` pictures."""
        return cls([b""] * n, np.zeros((n, GRID, GRID), np.float16), np.zeros((n, 3), np.float32))

    def put(self, position: int, pixels: np.ndarray) -> None:
        """Keep the fingerprint of one picture, uint8 ``(H, W, 3)``; threads may put different ones at a time."""
        shape = np.array(pixels.shape, dtype=np.int64).tobytes()
        digest = hashlib.blake2b(shape, digest_size=16)
        digest.update(np.ascontiguousarray(pixels).data)
        self.digests[position] = digest.digest()
        picture = PIL.Image.fromarray(pixels)
        # In floating point: at 8 bits, rounding alone would hide the texture of a hazy picture.
        grey = picture.convert("L").convert("F").resize((GRID, GRID), PIL.Image.Resampling.BILINEAR)
        thumb = np.asarray(grey, dtype=np.float32)
        self.thumbs[position] = thumb - thumb.mean()
        self.colours[position] = picture.resize((1, 1), PIL.Image.Resampling.BOX).getpixel((0, 0))


def descriptors(thumbs: np.ndarray) -> np.ndarray:
    """Describe thumbnails by their coarse structure, so that the dot product of two says how alike they are.

    The lowest 8 × 8 cosine frequencies, without the mean, each weighted by the root of its frequency: in natural
    pictures the amplitude falls as one over the frequency, and without the weights two hazy pictures would be alike for
    their gradient alone; with more, a slight crop would change too much.

    Args:
        thumbs: ``(n, GRID, GRID)``.

    Returns:
        float32 ``(n, 64)`` of length 1 (0 for a picture of one grey), by rows of frequencies.

    Source: Field, "Relations between the statistics of natural images and the response properties of cortical
    cells", JOSA A 1987, for the amplitudes; the cosine transform is DCT-II.
    """
    basis = _cosines()
    spectrum = basis @ thumbs.astype(np.float32) @ basis.T
    frequency = np.arange(_FREQUENCIES, dtype=np.float32)
    weighted = (spectrum * np.sqrt(np.hypot(frequency[:, None], frequency))).reshape(len(thumbs), _FREQUENCIES**2)
    length = np.linalg.norm(weighted, axis=1, keepdims=True)
    return np.asarray(weighted / np.maximum(length, 1e-6), dtype=np.float32)


def unoriented(descriptions: np.ndarray) -> np.ndarray:
    """Return descriptors that the eight symmetries of the square leave as they are, float32 ``(n, 64)`` of length 1.

    A flip changes the sign of the odd frequencies, a transpose swaps rows and columns.

    Args:
        descriptions: ``(n, 64)``, see ``descriptors``.
    """
    spectrum = descriptions.reshape(-1, _FREQUENCIES, _FREQUENCIES)
    odd = np.arange(_FREQUENCIES) % 2 > 0
    spectrum = np.where(odd[:, None] | odd, np.abs(spectrum), spectrum)
    swapped = spectrum.transpose(0, 2, 1)
    lower = np.tri(_FREQUENCIES, dtype=bool)
    folded = np.where(lower, np.maximum(spectrum, swapped), np.minimum(spectrum, swapped))
    return np.asarray(folded.reshape(descriptions.shape))


@cache
def _cosines() -> np.ndarray:
    """Return the first rows of the orthonormal DCT-II, float32 ``(_FREQUENCIES, GRID)``."""
    angle = np.pi * np.arange(_FREQUENCIES)[:, None] * (np.arange(GRID) + 0.5) / GRID
    scale = np.where(np.arange(_FREQUENCIES) == 0, 1.0, np.sqrt(2.0))[:, None] / np.sqrt(GRID)
    return np.asarray(np.cos(angle) * scale, dtype=np.float32)


@dataclass(frozen=True)
class Turn:
    """One of the eight symmetries of a square: first transpose, then flip rows, then flip columns."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def __call__(self, thumbs: np.ndarray) -> np.ndarray:
        """Turn pictures ``(n, h, w)``."""
        turned = thumbs.transpose(0, 2, 1) if self.transpose else thumbs
        turned = turned[:, ::-1] if self.flip_rows else turned
        return turned[:, :, ::-1] if self.flip_columns else turned

    def of_descriptors(self, descriptions: np.ndarray) -> np.ndarray:
        """Return what ``descriptors`` says of turned pictures, from what it said of them upright, ``(n, 64)``."""
        spectrum = descriptions.reshape(-1, _FREQUENCIES, _FREQUENCIES)
        sign = np.where(np.arange(_FREQUENCIES) % 2, -1, 1).astype(np.float32)
        turned = spectrum.transpose(0, 2, 1) if self.transpose else spectrum
        turned = turned * sign[:, None] if self.flip_rows else turned
        return (turned * sign if self.flip_columns else turned).reshape(descriptions.shape)


UPRIGHT = Turn()
TURNS = tuple(Turn(t, r, c) for t in (False, True) for r in (False, True) for c in (False, True))[1:]
"""The seven symmetries other than leaving the picture as it is."""


def edges(thumbs: np.ndarray) -> np.ndarray:
    """Return the fine structure of thumbnails: Sobel's two gradients of the inner cells, in grey levels a cell.

    Args:
        thumbs: ``(n, GRID, GRID)``.

    Returns:
        float32 ``(n, 2, GRID − 2, GRID − 2)``.
    """
    t = thumbs.astype(np.float32)
    smooth_rows = (t[:, :-2] + 2 * t[:, 1:-1] + t[:, 2:]) / 4
    smooth_columns = (t[:, :, :-2] + 2 * t[:, :, 1:-1] + t[:, :, 2:]) / 4
    across = (smooth_rows[:, :, 2:] - smooth_rows[:, :, :-2]) / 2
    down = (smooth_columns[:, 2:] - smooth_columns[:, :-2]) / 2
    return np.stack([across, down], axis=1)
