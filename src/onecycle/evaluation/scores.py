"""Each score's formula, once, in numpy; training's metrics, intervals, tables and reports call these.

Labels are bool ``(N, C)``, a column a class (single labels one-hot), or int ``(N,)`` class indices where that is said.
A ratio over nothing is ``empty``: NaN in tables, 0 in training's metrics (as in fastai v1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onecycle.errors import ArgumentError

Thresh = float | Sequence[float] | np.ndarray
"""From which probability on a tag is predicted: one for all tags, or one for each."""


def ratio(hits: np.ndarray | float, total: np.ndarray | float, *, empty: float = math.nan) -> np.ndarray:
    """Return hits / total, and ``empty`` where the total is 0, float64 of their common shape."""
    out = np.full(np.broadcast(hits, total).shape, empty)
    return np.asarray(np.divide(hits, total, out=out, where=np.asarray(total) > 0))


def mean_without_nan(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean of what is not NaN along an axis; NaN where nothing is."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis))


def one_hot(targets: np.ndarray, c: int) -> np.ndarray:
    """Return labels, int ``(N,)`` or 0/1 ``(N, C)``, as bool ``(N, C)``."""
    return np.asarray(targets > 0 if targets.ndim == 2 else targets[:, None] == np.arange(c))


# -- counts of each class ------------------------------------------------------------------------------------


def precision_score(tp: np.ndarray, fp: np.ndarray, *, empty: float = math.nan) -> np.ndarray:
    """Return of what is predicted as a class the share that is of it: tp / (tp + fp)."""
    return ratio(tp, tp + fp, empty=empty)


def recall_score(tp: np.ndarray, fn: np.ndarray, *, empty: float = math.nan) -> np.ndarray:
    """Return of what is of a class the share that is predicted as it: tp / (tp + fn)."""
    return ratio(tp, tp + fn, empty=empty)


def fbeta_score(
    tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, *, beta: float, eps: float = 0.0, empty: float = math.nan
) -> np.ndarray:
    """Return F-beta = (1+β²)·tp / ((1+β²)·tp + β²·fn + fp + eps): 0 for a class that occurs and is never predicted."""
    weighted = (1 + beta**2) * tp
    return ratio(weighted, weighted + beta**2 * fn + fp + eps, empty=empty)


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """Pictures of each class by truth and prediction, int64 ``(C,)`` each."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    @property
    def support(self) -> np.ndarray:
        """Pictures that have the class."""
        return np.asarray(self.tp + self.fn)

    @property
    def precision(self) -> np.ndarray:
        """float64 ``(C,)``; NaN for a class that is never predicted."""
        return precision_score(self.tp, self.fp)

    @property
    def recall(self) -> np.ndarray:
        """float64 ``(C,)``; NaN for a class that never occurs."""
        return recall_score(self.tp, self.fn)

    @property
    def tables(self) -> np.ndarray:
        """int64 ``(C, 2, 2)``: ``[[tn, fp], [fn, tp]]`` of each class."""
        return np.stack([np.stack([self.tn, self.fp], axis=-1), np.stack([self.fn, self.tp], axis=-1)], axis=-2)

    def fbeta(self, beta: float) -> np.ndarray:
        """Return F-beta, float64 ``(C,)``; NaN for a class that neither occurs nor is predicted."""
        return fbeta_score(self.tp, self.fp, self.fn, beta=beta)


def count_classes(truth: np.ndarray, predicted: np.ndarray) -> ClassCounts:
    """Count pictures of each class from bool ``(N, C)`` each."""
    pairs = {"tp": truth & predicted, "fp": ~truth & predicted, "fn": truth & ~predicted, "tn": ~truth & ~predicted}
    return ClassCounts(**{name: hits.sum(axis=0).astype(np.int64) for name, hits in pairs.items()})


def averaged(scores: np.ndarray, tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, average: str) -> float:
    """Return the mean of a score over classes, ``macro`` (over those that occur or are predicted) or ``weighted``."""
    weights = tp + fn if average == "weighted" else (tp + fp + fn > 0).astype(float)
    return float(ratio((scores * weights).sum(), weights.sum(), empty=0.0))


# -- of each picture -----------------------------------------------------------------------------------------


def sample_fbeta_score(predicted: np.ndarray, truth: np.ndarray, beta: float, *, eps: float = 0.0) -> np.ndarray:
    """Return F-beta of each picture's tags, float64 ``(...)``, from bool ``(..., C)``; 0 for a picture without any.

    (1+β²)·P·R / (β²·P + R + eps) with P = tp/(predicted + eps), R = tp/(true + eps), multiplied out so that it has a
    value for eps = 0, too; Planet's score with beta = 2.
    """
    tp = (predicted & truth).sum(axis=-1).astype(float)
    said, true = predicted.sum(axis=-1) + eps, truth.sum(axis=-1) + eps
    return ratio((1 + beta**2) * tp**2, tp * (beta**2 * true + said) + eps * said * true, empty=0.0)


def exact_matches(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return which pictures are predicted exactly their tags, bool ``(...)``, from bool ``(..., C)``."""
    return np.asarray((predicted == truth).all(axis=-1))


def top_k_hits(scores: np.ndarray, targets: np.ndarray, k: int) -> np.ndarray:
    """Return whether the true class, int ``(N,)``, is among the k highest scores ``(N, C)``; ties go to the lower.

    Raises:
        ArgumentError: ``k`` below 1.
    """
    if k < 1:
        raise ArgumentError(f"top_k_accuracy expects k >= 1, got {k}")
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < targets[:, None]
    return np.asarray(((scores > own) | ((scores == own) & earlier)).sum(axis=1) < k)


# -- from the confusion matrix -------------------------------------------------------------------------------


def confusion_counts(y_true: np.ndarray, y_pred: np.ndarray, c: int) -> np.ndarray:
    """Count pictures by actual and predicted class, from int ``(N,)`` each in 0..c−1.

    Returns:
        int64 ``(c, c)``, rows actual, columns predicted, absent classes included; the sum is N.
    """
    return np.asarray(np.bincount(y_true * c + y_pred, minlength=c * c).reshape(c, c).astype(np.int64))


def normalize_rows(matrix: np.ndarray) -> np.ndarray:
    """Divide each row by its sum, float64; a row without any item stays 0."""
    return ratio(matrix, matrix.sum(axis=-1, keepdims=True), empty=0.0)


def swap_counts(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Count, for each pair of tags, pictures in which the first was missed and the second predicted wrongly.

    A picture that misses m tags and has w wrong ones counts once in each of m·w pairs; a picture that only
    misses tags, or only has too many, counts in none. Truth and prediction are bool ``(N, C)``.

    Returns:
        int64 ``(C, C)``: rows the missed tag, columns the tag predicted though not true; the diagonal is 0.
    """
    missed, wrong = (y_true & ~y_pred).astype(np.int64), (~y_true & y_pred).astype(np.int64)
    return np.asarray(missed.T @ wrong)


def ranked_pairs(matrix: np.ndarray, names: Sequence[Any], min_val: int = 1) -> list[tuple[Any, Any, int]]:
    """List off-diagonal cells of ``(C, C)`` with at least ``min_val``, most first, ties in row order.

    Raises:
        ArgumentError: ``min_val`` below 1, which would list every pair that never occurred.
    """
    if min_val < 1:
        raise ArgumentError(f"min_val is the smallest count to list, at least 1; received {min_val}")
    rows, columns = np.nonzero((matrix >= min_val) & ~np.eye(len(matrix), dtype=bool))
    order = np.argsort(-matrix[rows, columns], kind="stable")
    return [(names[rows[i]], names[columns[i]], int(matrix[rows[i], columns[i]])) for i in order]


def kappa(counts: np.ndarray, weights: str | None = None) -> float:
    """Return Cohen's kappa from a confusion matrix ``(C, C)``; 0 for 0/0.

    Args:
        counts: of ``confusion_counts``.
        weights: None (all errors cost the same), ``linear`` or ``quadratic`` in the distance of the indices.
    """
    counts = counts.astype(float)
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    index = np.arange(len(counts), dtype=float)
    distance = np.abs(index[:, None] - index)
    cost = distance ** {None: 0, "linear": 1, "quadratic": 2}[weights] * (distance > 0)
    by_chance = (cost * expected).sum()
    return float(ratio(by_chance - (cost * counts).sum(), by_chance, empty=0.0))


def matthews(counts: np.ndarray) -> float:
    """Return Matthews' correlation from a confusion matrix ``(C, C)``, for any number of classes; 0 for 0/0.

    Source: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient".
    """
    counts = counts.astype(float)
    true, predicted, n = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    spread = (n**2 - true @ true) * (n**2 - predicted @ predicted)
    return float(ratio(counts.trace() * n - true @ predicted, math.sqrt(spread), empty=0.0))


# -- rankings of one class -----------------------------------------------------------------------------------


def ranked_counts(
    truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what is taken from each distinct score on, the highest first.

    Args:
        truth: bool ``(N,)``.
        scores: float ``(N,)``.
        weights: float ``(B, N)``, how often each picture counts in each of B samples; default once.

    Returns:
        K distinct scores ``(K,)``, falling; the positives taken ``(B, K)``; all that is taken ``(B, K)``.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    counted = np.ones((1, len(scores))) if weights is None else weights[:, order]
    return ranked[ends], np.cumsum(counted * truth[order], axis=1)[:, ends], np.cumsum(counted, axis=1)[:, ends]


def average_precisions(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return Σ (Rᵢ − Rᵢ₋₁)·Pᵢ over the distinct scores for each row of weights, ``(B,)``; NaN without a positive.

    Only scores that a positive has count: what lies between two of them is added up at once, which takes a quarter of
    the time of ``ranked_counts`` where a fifth is positive.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, positive = scores[order], np.flatnonzero(truth[order])
    n_rows = 1 if weights is None else len(weights)
    if not len(positive):
        return np.full(n_rows, np.nan)
    level = np.cumsum(np.append(False, ranked[1:] != ranked[:-1]))
    levels, first = np.unique(level[positive], return_index=True)
    ends = np.searchsorted(level, levels, side="right")
    counted = np.ones((1, ends[-1])) if weights is None else weights[:, order[: ends[-1]]]
    seen = np.add.reduceat(counted, np.append(0, ends[:-1]), axis=1).cumsum(axis=1)
    gained = np.add.reduceat(counted[:, positive], first, axis=1)
    hits = gained.cumsum(axis=1)
    return ratio((gained * ratio(hits, seen, empty=0.0)).sum(axis=1), hits[:, -1])


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return Σ (Rᵢ − Rᵢ₋₁)·Pᵢ over the distinct scores ``(N,)``, highest first; NaN without a positive."""
    return float(average_precisions(truth, scores)[0]) if len(truth) else math.nan


def roc_points(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false-positive and true-positive rates at each distinct score, from (0, 0) to (1, 1)."""
    _, (hits,), (seen,) = ranked_counts(truth, scores)
    wrong = seen - hits
    return np.concatenate([[0.0], wrong / wrong[-1]]), np.concatenate([[0.0], hits / hits[-1]])


def auroc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve; both truths must occur."""
    fpr, tpr = roc_points(truth, scores)
    return float((np.diff(fpr) * (tpr[1:] + tpr[:-1])).sum() / 2)
