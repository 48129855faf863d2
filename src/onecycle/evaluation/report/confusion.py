"""What is taken for what: the matrix of classes, pairs that are confused, and the pictures behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.scores import confusion_counts, normalize_rows, ranked_pairs, swap_counts

MOST_CLASSES = 30
"""With more classes, the matrix shows those that are confused most."""

LEVELS = 9
MOST_PAIRS, PICTURES_A_PAIR = 8, 3


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A table of truth against prediction."""

    classes: tuple[int, ...]  # which are shown, in class order
    names: tuple[str, ...]  # of them
    counts: np.ndarray  # int64 (K, K), rows actual, columns predicted
    levels: np.ndarray  # int (K, K), 0 to 9: the share of the row, for the shade
    left_out: int  # classes that are not shown
    errors: int  # wrong pictures
    errors_shown: int  # those inside the table


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two classes that are confused."""

    actual: int  # class; for tags the missed one
    predicted: int  # class; for tags the one predicted though not true
    count: int  # pictures in which it happened
    pictures: tuple[int, ...]  # positions of the first of them, the largest loss first
    like_actual: int | None  # a picture that is right about the one; None where there is none
    like_predicted: int | None  # and about the other

    @property
    def positions(self) -> list[int]:
        """All of its pictures."""
        return [i for i in (*self.pictures, self.like_actual, self.like_predicted) if i is not None]


def confusion_table(p: Predictions) -> Matrix:
    """Return the matrix of single labels; of many classes those with most mistakes in their row and column."""
    counts = confusion_counts(p.known_targets, p.decided, len(p.classes))
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    chosen = _most_confused(wrong) if len(counts) > MOST_CLASSES else np.arange(len(counts))
    inside = np.ix_(chosen, chosen)
    shares = normalize_rows(counts)[inside]
    return Matrix(
        classes=tuple(chosen.tolist()),
        names=tuple(p.classes[c] for c in chosen),
        counts=counts[inside],
        levels=np.where(counts[inside] > 0, np.maximum(1, np.ceil(shares * LEVELS)), 0).astype(np.int64),
        left_out=len(counts) - len(chosen),
        errors=int(wrong.sum()),
        errors_shown=int(wrong[inside].sum()),
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


def confused_pairs(p: Predictions, most: int = MOST_PAIRS) -> tuple[Pair, ...]:
    """Return the pairs that are confused most, with pictures; pairs of a single picture come last."""
    pairs = ranked_pairs(swap_counts(p.truth, p.predicted), range(len(p.classes)))
    return tuple(_pair(p, actual, predicted) for actual, predicted, _ in pairs[:most])


def _pair(p: Predictions, actual: int, predicted: int) -> Pair:
    truth, said = p.truth, p.predicted
    both = np.flatnonzero(truth[:, actual] & ~said[:, actual] & ~truth[:, predicted] & said[:, predicted])
    ranked = both[np.argsort(-p.known_losses[both], kind="stable")]
    return Pair(
        actual=actual,
        predicted=predicted,
        count=len(both),
        pictures=tuple(ranked[:PICTURES_A_PAIR].tolist()),
        like_actual=_typical(p, actual, without=predicted),
        like_predicted=_typical(p, predicted, without=actual),
    )


def _typical(p: Predictions, c: int, *, without: int) -> int | None:
    """Return the picture that is right about one class with the highest probability, and is not of the other."""
    right = np.flatnonzero(p.truth[:, c] & p.predicted[:, c] & ~p.truth[:, without])
    return int(right[np.argmax(p.probs[right, c])]) if len(right) else None
