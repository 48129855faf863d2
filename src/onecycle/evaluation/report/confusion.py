"""What is taken for what: the matrix of classes, pairs that are confused, and the pictures behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onecycle.evaluation.interpretation import confusion_counts, swap_counts
from onecycle.evaluation.report.evidence import Evidence

MOST_CLASSES = 30
"""With more classes, the matrix shows those that are confused most."""

LEVELS = 9
MOST_PAIRS, PICTURES_A_PAIR = 8, 3


@dataclass(frozen=True)
class Matrix:
    """A table of truth against prediction.

    Attributes:
        classes: int, which classes are shown, in class order.
        names: of them.
        counts: int64 ``(K, K)``, rows actual, columns predicted.
        levels: int ``(K, K)``, 0 to 9: the share of the row, for the shade.
        left_out: classes that are not shown.
        errors, errors_shown: wrong pictures in all, and those inside the table.
    """

    classes: tuple[int, ...]
    names: tuple[str, ...]
    counts: np.ndarray
    levels: np.ndarray
    left_out: int
    errors: int
    errors_shown: int


@dataclass(frozen=True)
class Pair:
    """Two classes that are confused.

    Attributes:
        actual, predicted: class numbers; for tags the missed one and the one given though not true.
        actual_name, predicted_name: their names.
        count: pictures in which it happened.
        pictures: positions of the first of them, the largest loss first.
        like_actual, like_predicted: a picture each that is right about the one and the other; None where there is none.
    """

    actual: int
    predicted: int
    actual_name: str
    predicted_name: str
    count: int
    pictures: tuple[int, ...]
    like_actual: int | None
    like_predicted: int | None


def confusion_table(evidence: Evidence) -> Matrix:
    """Return the matrix of single labels; of many classes those with most mistakes in their row and column."""
    counts = confusion_counts(evidence.targets, evidence.predicted(), len(evidence.classes))
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    kept = np.arange(len(counts))
    if len(counts) > MOST_CLASSES:
        kept = _most_confused(wrong)
    part = counts[np.ix_(kept, kept)]
    totals = counts.sum(axis=1)[kept]
    shares = np.divide(part, totals[:, None], out=np.zeros(part.shape), where=totals[:, None] > 0)
    levels = np.where(part > 0, np.maximum(1, np.ceil(shares * LEVELS)), 0).astype(np.int64)
    return Matrix(
        tuple(kept.tolist()),
        tuple(evidence.classes[c] for c in kept),
        part,
        levels,
        len(counts) - len(kept),
        int(wrong.sum()),
        int(wrong[np.ix_(kept, kept)].sum()),
    )


def _most_confused(wrong: np.ndarray) -> np.ndarray:
    """Return classes, ascending: those of the largest wrong cells of ``(C, C)``, then those with most mistakes."""
    rows, columns = np.nonzero(wrong)
    cells = np.argsort(-wrong[rows, columns], kind="stable")
    by_mistakes = np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")
    chosen: dict[int, None] = {}
    for pair in zip(rows[cells].tolist(), columns[cells].tolist(), strict=True):
        if len(chosen.keys() | set(pair)) <= MOST_CLASSES:
            chosen |= dict.fromkeys(pair)
    for c in by_mistakes.tolist():
        if len(chosen) < MOST_CLASSES:
            chosen.setdefault(c)
    return np.array(sorted(chosen))


def confused_pairs(evidence: Evidence, most: int = MOST_PAIRS) -> tuple[Pair, ...]:
    """Return the pairs that are confused most, with pictures; pairs of a single picture come last."""
    truth, given = evidence.truth(), evidence.given()
    counts = swap_counts(truth, given)
    rows, columns = np.nonzero(counts)
    order = np.argsort(-counts[rows, columns], kind="stable")[:most]
    return tuple(_pair(evidence, truth, given, int(rows[i]), int(columns[i])) for i in order)


def _pair(evidence: Evidence, truth: np.ndarray, given: np.ndarray, a: int, p: int) -> Pair:
    both = truth[:, a] & ~given[:, a] & ~truth[:, p] & given[:, p]
    found = np.flatnonzero(both)
    ranked = found[np.argsort(-evidence.losses[found], kind="stable")]
    return Pair(
        a,
        p,
        evidence.classes[a],
        evidence.classes[p],
        len(found),
        tuple(ranked[:PICTURES_A_PAIR].tolist()),
        _typical(evidence, truth, given, a, without=p),
        _typical(evidence, truth, given, p, without=a),
    )


def _typical(evidence: Evidence, truth: np.ndarray, given: np.ndarray, c: int, *, without: int) -> int | None:
    """Return the picture that is right about one class with the highest probability, and is not of the other."""
    right = np.flatnonzero(truth[:, c] & given[:, c] & ~truth[:, without])
    return int(right[np.argmax(evidence.probs[right, c])]) if len(right) else None
