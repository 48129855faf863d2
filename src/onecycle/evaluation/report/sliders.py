"""Threshold sliders: what the page needs to recompute precision, recall and F2 exactly as Python does.

The page never sees a probability. For each picture and tag it gets how many thresholds of that tag's grid the
probability reaches, compared here, in the number format in which ``predict`` compares. Whether a tag is given at the
i-th threshold is then the comparison of two small whole numbers.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np

STEPS = 200
"""The common grid is 0, 0.005, …, 1."""

_SAME = 1e-9


@dataclass(frozen=True)
class Sliders:
    """Ranks of N pictures' probabilities on each tag's grid."""

    ranks: np.ndarray  # uint8 (N, C): how many of the tag's thresholds the probability reaches
    grids: tuple[tuple[float, ...], ...]  # C, rising: the common grid, and the threshold in use where that is another
    in_use: tuple[int, ...]  # for each tag the place of the threshold in use in its grid
    fixed: tuple[int, ...] = ()  # tags that no threshold decides (the most probable of a group is given)


def make_sliders(decided: np.ndarray, thresholds: np.ndarray, *, exact: bool, fixed: tuple[int, ...] = ()) -> Sliders:
    """Return ranks and grids.

    Args:
        decided: float32 ``(N, C)``, what thresholds are compared with.
        thresholds: float64 ``(C,)``, those in use.
        exact: those in use are compared in double precision, as chosen ones are; False for single precision, as
            ``thresh=`` is. The common grid is always compared in single precision.
        fixed: tags that no threshold decides.
    """
    ranks = np.empty(decided.shape, dtype=np.uint8)
    grids, in_use = [], []
    for c, own in enumerate(thresholds.tolist()):
        grid, compared, place = _grid(own, exact=exact)
        ranks[:, c] = np.searchsorted(compared, decided[:, c].astype(np.float64), side="right")
        grids.append(tuple(grid.tolist()))
        in_use.append(place)
    return Sliders(ranks, tuple(grids), tuple(in_use), fixed)


def as_text(values: np.ndarray) -> str:
    """Return bytes as base64 for the page."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def packed_bits(flags: np.ndarray) -> str:
    """Return bool ``(N, C)`` as base64 of bits, the first in the highest bit of the first byte, row after row."""
    return as_text(np.packbits(flags.ravel()))


def _grid(own: float, *, exact: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """Return thresholds as shown, as compared (float64), and the place of the one in use."""
    shown = np.arange(STEPS + 1) / STEPS
    compared = shown.astype(np.float32).astype(np.float64)
    value = own if exact else float(np.float32(own))
    near = round(own * STEPS)
    if abs(shown[near] - own) < _SAME:
        compared[near] = value
        return shown, compared, near
    place = int(np.searchsorted(shown, own))
    return np.insert(shown, place, own), np.insert(compared, place, value), place
