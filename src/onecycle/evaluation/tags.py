"""What single tags can do: precision against recall at every threshold, and which tags go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from onecycle.errors import ArgumentError
from onecycle.evaluation.scores import average_precision, ranked_counts


@dataclass(frozen=True, kw_only=True)
class TagCurve:
    """Precision and recall of one tag at every threshold that makes a difference."""

    name: str  # of the tag
    thresholds: np.ndarray  # float (K,), rising
    precision: np.ndarray  # float (K,), of the pictures with a probability from the threshold on
    recall: np.ndarray  # float (K,), falling
    average_precision: float
    positives: int  # pictures that have the tag
    n: int  # pictures


def tag_curves(truth: np.ndarray, probs: np.ndarray, names: Sequence[object]) -> list[TagCurve]:
    """Return the curve of each tag that some picture has, in the order of ``names``.

    Args:
        truth: 0/1 ``(N, C)``.
        probs: float ``(N, C)``.
        names: C tags.

    Raises:
        ArgumentError: shapes that do not fit.
    """
    _check(truth, probs, names)
    curves = []
    for name, own, scores in zip(names, truth.T > 0, probs.T, strict=True):
        if own.any():
            thresholds, (hits,), (seen,) = ranked_counts(own, scores)
            curve = TagCurve(
                name=str(name),
                thresholds=thresholds[::-1],
                precision=(hits / seen)[::-1],
                recall=(hits / hits[-1])[::-1],
                average_precision=average_precision(own, scores),
                positives=int(own.sum()),
                n=len(own),
            )
            curves.append(curve)
    return curves


def co_occurrence(truth: np.ndarray, given: np.ndarray, names: Sequence[object]) -> pd.DataFrame:
    """Count for each pair of tags the pictures that have the one (rows) and are given the other (columns).

    The diagonal counts hits. A cell next to it that is far above the count of pictures that have both tags says that
    the model takes the one as a sign of the other; ``unfounded_pairs`` lists those.

    Args:
        truth: 0/1 ``(N, C)``.
        given: bool ``(N, C)``.
        names: C tags.

    Returns:
        int64 ``(C, C)``, rows the true tags, columns the given ones.

    Raises:
        ArgumentError: shapes that do not fit.
    """
    _check(truth, given, names)
    rows, columns = (pd.Index([str(name) for name in names], name=of) for of in ("true", "given"))
    return pd.DataFrame((truth > 0).astype(np.int64).T @ given.astype(np.int64), index=rows, columns=columns)


def unfounded_pairs(
    truth: np.ndarray, given: np.ndarray, names: Sequence[object], *, min_val: int = 1
) -> list[tuple[str, str, int, int]]:
    """Return pairs of tags that are given together more often than they are together, the largest excess first.

    Args:
        truth: 0/1 ``(N, C)``.
        given: bool ``(N, C)``.
        names: C tags.
        min_val: least excess, in pictures.

    Returns:
        (tag, other tag, pictures given both, pictures that have both).
    """
    _check(truth, given, names)
    both_true, both_given = ((v > 0).astype(np.int64).T @ (v > 0).astype(np.int64) for v in (truth, given))
    above = np.argwhere(np.triu(both_given - both_true >= min_val, k=1))
    pairs = [(str(names[i]), str(names[j]), int(both_given[i, j]), int(both_true[i, j])) for i, j in above.tolist()]
    return sorted(pairs, key=lambda p: (p[3] - p[2], p[0], p[1]))


def _check(truth: np.ndarray, other: np.ndarray, names: Sequence[object]) -> None:
    if truth.ndim != 2 or truth.shape != other.shape or truth.shape[1] != len(names):
        raise ArgumentError(
            "tags are compared as two arrays (pictures, tags) of one shape, and a name a tag; received "
            f"{truth.shape}, {other.shape} and {len(names)} names"
        )
