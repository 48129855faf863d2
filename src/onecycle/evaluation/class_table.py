"""Each class by itself: how many pictures, precision, recall, F and average precision, with their intervals.

The one table of classes: the report, ``evaluate``, ``compare``, ``tag_report`` and the last screen of ``train`` show
rows of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from onecycle.evaluation.certainty.intervals import MacroAveragePrecision, WeightedScore, estimate, macro_fbeta, wilson
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.scores import average_precision, count_classes, ratio

FEWER_DRAWS = 200

LEAST_FOR_INTERVAL = 5
"""With fewer pictures of a class, F and average precision have no interval: a bootstrap of so few is too sure."""

MOST_INTERVALS = 60
"""With more classes than this, F and average precision have no interval: the page would take minutes."""


@dataclass(frozen=True)
class Span:
    """A number with its 95 % interval; NaN where it is 0/0, or where no interval was drawn."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there is a number at all."""
        return not math.isnan(self.value)

    @property
    def has_interval(self) -> bool:
        """Whether both ends are known."""
        return not (math.isnan(self.low) or math.isnan(self.high))


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class or tag, by what is decided."""

    index: int  # in the class list
    name: str
    support: int  # pictures that have it
    absent: int  # pictures that do not
    share: float  # support / N
    train: int  # training pictures that have it; 0 where nothing is known of them
    tp: int  # pictures that have it and get it
    fp: int  # that get it wrongly
    fn: int  # that have it and do not get it
    precision: Span  # Wilson's interval
    recall: Span  # Wilson's interval
    fbeta: Span  # by the predictions' beta, F2 for tags and F1 for classes, unless another was asked for
    ap: Span  # average precision of the model's own probabilities
    threshold: float  # from which probability on it is predicted; NaN for classes


def class_rows(p: Predictions, *, beta: float | None = None, intervals: bool = True) -> tuple[ClassRow, ...]:
    """Return a row for each class, in the order of the class list.

    Args:
        p: predictions of labelled pictures.
        beta: weight of recall against precision in F; default that of the predictions.
        intervals: draw those of F and average precision, too, which takes half-samples.
    """
    beta = p.beta if beta is None else beta
    truth, predicted = p.truth, p.predicted
    counts = count_classes(truth, predicted)
    precision, recall = (share_spans(counts.tp, counts.tp + other) for other in (counts.fp, counts.fn))
    few = len(p.classes) <= MOST_INTERVALS and intervals
    fbeta = counts.fbeta(beta)

    def row(c: int) -> ClassRow:
        support = int(counts.support[c])
        drawn, flags = few and support >= LEAST_FOR_INTERVAL, truth[:, c]
        ap = average_precision(flags, p.probs[:, c])
        return ClassRow(
            index=c,
            name=p.classes[c],
            support=support,
            absent=len(p) - support,
            share=support / max(len(p), 1),
            train=0 if p.train_counts is None else int(p.train_counts[c]),
            tp=int(counts.tp[c]),
            fp=int(counts.fp[c]),
            fn=int(counts.fn[c]),
            precision=precision[c],
            recall=recall[c],
            fbeta=_drawn(macro_fbeta(beta, 0.5), predicted[:, c], flags, p) if drawn else Span(float(fbeta[c])),
            ap=_drawn(MacroAveragePrecision(), p.probs[:, c], flags, p) if drawn else Span(ap),
            threshold=float(p.limits[c]) if p.is_multi else math.nan,
        )

    return tuple(row(c) for c in range(len(p.classes)))


def ranked_by(row: ClassRow, *, is_multi: bool) -> float:
    """Return the score by which classes are ranked and compared: the F of a tag, the recall of a class."""
    return (row.fbeta if is_multi else row.recall).value


def worst_first(rows: tuple[ClassRow, ...], *, is_multi: bool) -> list[ClassRow]:
    """Return the classes that occur, the lowest score first."""
    return sorted((r for r in rows if r.support), key=lambda r: ranked_by(r, is_multi=is_multi))


def as_frame(rows: tuple[ClassRow, ...]) -> pd.DataFrame:
    """Return the numbers of tags without their intervals, a row a tag."""
    return pd.DataFrame(
        {
            "tag": r.name,
            **{name: getattr(r, name) for name in ("support", "tp", "fp", "fn")},
            "tn": r.absent - r.fp,
            **{name: getattr(r, name).value for name in ("precision", "recall", "fbeta")},
            "average_precision": r.ap.value,
        }
        for r in rows
    )


def share_spans(hits: np.ndarray, total: np.ndarray) -> list[Span]:
    """Return hits / total with Wilson's intervals, from int ``(C,)`` each; 0/0 is NaN."""
    values, known = ratio(hits, total), total > 0
    low, high = np.full(len(values), math.nan), np.full(len(values), math.nan)
    low[known], high[known] = wilson(values[known], total[known])
    return [Span(*map(float, ends)) for ends in zip(values, low, high, strict=True)]


def _drawn(score: WeightedScore, values: np.ndarray, truth: np.ndarray, p: Predictions) -> Span:
    """Return the score of one class, float or bool ``(N,)`` against bool ``(N,)``, with its interval."""
    column, targets = values[:, None].astype(float), truth[:, None].astype(np.int64)
    e = estimate(score, column, targets, groups=p.groups, n_boot=FEWER_DRAWS)
    return Span(e.value, e.low, e.high)
