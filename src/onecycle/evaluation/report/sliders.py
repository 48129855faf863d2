"""Threshold sliders: what the page needs to recompute precision, recall and F exactly as Python does.

The page never sees a probability. For each picture and tag it gets how many thresholds of that tag's grid the
probability reaches, compared here, in the number format in which ``predict`` compares. Whether a tag is predicted at
the i-th threshold is then the comparison of two small whole numbers.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np

from onecycle.evaluation.predictions import Predictions

STEPS = 200
"""The common grid is 0, 0.005, …, 1."""


@dataclass(frozen=True)
class Sliders:
    """Ranks of N pictures' probabilities on each tag's grid."""

    ranks: np.ndarray  # uint8 (N, C): how many of the tag's thresholds the probability reaches
    grids: tuple[tuple[float, ...], ...]  # C, rising: the common grid, and the threshold in use where that is another
    in_use: tuple[int, ...]  # for each tag the place of the threshold in use in its grid
    fixed: tuple[int, ...] = ()  # tags that no threshold decides (the most probable of a group is predicted)


def make_sliders(p: Predictions) -> Sliders | None:
    """Return ranks and grids for predictions of tags; None where no thresholds decide.

    The thresholds in use are compared in double precision, as chosen ones are, the common grid in single precision, as
    ``thresh=`` is.
    """
    if p.limits is None:
        return None
    grids, compared, in_use = zip(*map(_grid, p.limits.tolist()), strict=True)
    columns = zip(compared, p.compared.T.astype(np.float64), strict=True)
    ranks = np.stack([np.searchsorted(grid, probs, side="right") for grid, probs in columns], axis=1).astype(np.uint8)
    groups = () if p.thresholds is None else p.thresholds.exactly_one
    fixed = tuple(sorted(tag for group in groups for tag in group))
    return Sliders(ranks, tuple(tuple(grid.tolist()) for grid in grids), in_use, fixed)


def as_text(values: np.ndarray) -> str:
    """Return bytes as base64 for the page."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def packed_bits(flags: np.ndarray) -> str:
    """Return bool ``(N, C)`` as base64 of bits, the first in the highest bit of the first byte, row after row."""
    return as_text(np.packbits(flags.ravel()))


def _grid(own: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Return thresholds as shown, as compared (float64), and the place of the one in use."""
    shown = np.arange(STEPS + 1) / STEPS
    compared = shown.astype(np.float32).astype(np.float64)
    near = round(own * STEPS)
    if abs(shown[near] - own) < 1e-9:
        compared[near] = own
        return shown, compared, near
    place = int(np.searchsorted(shown, own))
    return np.insert(shown, place, own), np.insert(compared, place, own), place
