"""What single tags can do: precision against recall at every threshold, and which tags go together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from onecycle.evaluation.predictions import Predictions
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


def tag_curves(p: Predictions) -> list[TagCurve]:
    """Return the curve of each tag that some picture has, in the order of the class list."""
    curves = []
    for name, truth, scores in zip(p.classes, p.truth.T, p.probs.T, strict=True):
        if truth.any():
            thresholds, (hits,), (seen,) = ranked_counts(truth, scores)
            curve = TagCurve(
                name=name,
                thresholds=thresholds[::-1],
                precision=(hits / seen)[::-1],
                recall=(hits / hits[-1])[::-1],
                average_precision=average_precision(truth, scores),
                positives=int(truth.sum()),
                n=len(truth),
            )
            curves.append(curve)
    return curves


def co_occurrence(p: Predictions) -> pd.DataFrame:
    """Count for each pair of tags the pictures that have the one (rows) and are predicted the other (columns).

    The diagonal counts hits. A cell next to it that is far above the count of pictures that have both tags says that
    the model takes the one as a sign of the other; ``unfounded_pairs`` lists those.

    Returns:
        int64 ``(C, C)``, rows the true tags, columns the predicted ones.
    """
    rows, columns = (pd.Index(p.classes, name=of) for of in ("true", "predicted"))
    return pd.DataFrame(p.truth.astype(np.int64).T @ p.predicted.astype(np.int64), index=rows, columns=columns)


def unfounded_pairs(p: Predictions, *, min_val: int = 1) -> list[tuple[str, str, int, int]]:
    """Return pairs of tags that are predicted together more often than they occur together, the largest excess first.

    Args:
        p: predictions of labelled pictures.
        min_val: least excess, in pictures.

    Returns:
        (tag, other tag, pictures predicted both, pictures that have both).
    """
    both_true, both_predicted = (v.astype(np.int64).T @ v.astype(np.int64) for v in (p.truth, p.predicted))
    above = np.argwhere(np.triu(both_predicted - both_true >= min_val, k=1)).tolist()
    pairs = [(p.classes[i], p.classes[j], int(both_predicted[i, j]), int(both_true[i, j])) for i, j in above]
    return sorted(pairs, key=lambda pair: (pair[3] - pair[2], pair[0], pair[1]))
