"""Validation pictures whose features are close to a training picture's: the same scene, perhaps, from another angle."""

from __future__ import annotations

import numpy as np

from onecycle.data.labels.splits import Split
from onecycle.errors import ArgumentError

MIN_COSINE = 0.95
_BLOCK = 1024  # validation pictures at a time
_MOST_EACH = 5  # training pictures named for one validation picture


def feature_neighbours(
    features: np.ndarray, split: Split, *, min_cosine: float = MIN_COSINE
) -> list[tuple[int, int, float]]:
    """Return pairs of a validation and a training picture with close features.

    Features are centred first: those of a backbone are positive and share a large mean, which alone makes the cosine
    of any two pictures high.

    Args:
        features: float ``(N, D)``, one row a picture of the table.
        split: which rows train and which validate.
        min_cosine: least cosine of a pair, above 0 up to 1.

    Returns:
        ``(valid row, train row, cosine)``, the closest first; for each validation picture its five closest at most.

    Raises:
        ArgumentError: features that are not a finite matrix, or do not cover the split; a cosine out of range.
    """
    if not 0 < min_cosine <= 1:
        raise ArgumentError(f"min_cosine is above 0 and at most 1; received {min_cosine}")
    matrix = _checked(features, split)
    if not len(split.valid) or not len(split.train):
        return []
    centred = matrix - matrix[split.train].mean(axis=0, dtype=np.float64).astype(np.float32)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    train, pairs = unit[split.train], []
    for start in range(0, len(split.valid), _BLOCK):
        rows = split.valid[start : start + _BLOCK]
        cosines = unit[rows] @ train.T
        k = min(_MOST_EACH, cosines.shape[1])
        best = np.argpartition(cosines, -k, axis=1)[:, -k:]
        close = np.take_along_axis(cosines, best, axis=1)
        for i, j in np.argwhere(close >= min_cosine).tolist():
            pairs.append((int(rows[i]), int(split.train[best[i, j]]), min(float(close[i, j]), 1.0)))
    return sorted(pairs, key=lambda p: (-p[2], p[0], p[1]))


def _checked(features: np.ndarray, split: Split) -> np.ndarray:
    found = np.asarray(features, dtype=np.float32)
    last = max((int(part.max()) for part in (split.train, split.valid) if len(part)), default=-1)
    if found.ndim != 2 or len(found) <= last:
        raise ArgumentError(
            f"features is a matrix with one row a picture of the table, at least {last + 1}; "
            f"received shape {found.shape}"
        )
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
        raise ArgumentError(f"features must be finite numbers, but row {row} has NaN or infinity")
    return found
