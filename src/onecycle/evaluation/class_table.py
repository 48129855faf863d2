"""Each class by itself: how many pictures, precision, recall, F and average precision, with their intervals.

The one table of classes: the report, ``evaluate``, ``compare``, ``tag_report`` and the last screen of ``train`` show
rows of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from onecycle.evaluation.certainty.intervals import LEAST_POSITIVES, MacroAveragePrecision, estimate, group_numbers
from onecycle.evaluation.certainty.spans import Span, ratio_spans
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.scores import average_precision, count_classes

FEWER_DRAWS = 200

MOST_INTERVALS = 60
"""With more classes than this, average precision has no interval: the page would take minutes."""


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class or tag, by what is decided.

    How each number is made, and how often it was right in simulation: ``docs/how-numbers-are-made.md``.
    """

    index: int  # in the class list
    name: str
    support: int  # pictures that have it
    absent: int  # pictures that do not
    groups: int | None  # groups of pictures that belong together that have it; None: each picture stands alone
    share: float  # support / N
    train: int  # training pictures that have it; 0 where nothing is known of them
    tp: int  # pictures that have it and get it
    fp: int  # that get it wrongly
    fn: int  # that have it and do not get it
    precision: Span
    recall: Span
    specificity: Span  # of the pictures that do not have it, the share that does not get it
    fbeta: Span  # by the predictions' beta, F2 for tags and F1 for classes, unless another was asked for
    ap: Span  # average precision of the model's own probabilities
    threshold: float  # from which probability on it is predicted; NaN for classes and where sets of tags decide


def class_rows(p: Predictions, *, beta: float | None = None, intervals: bool = True) -> tuple[ClassRow, ...]:
    """Return a row for each class, in the order of the class list.

    Args:
        p: predictions of labelled pictures.
        beta: weight of recall against precision in F; default that of the predictions.
        intervals: draw that of average precision, too, which takes half-samples.
    """
    beta = p.beta if beta is None else beta
    truth, predicted = p.truth, p.predicted
    counts, spans = count_classes(truth, predicted), _spans(truth, predicted, beta, p.groups)
    groups = None if p.groups is None else _groups_with(truth, p.groups)
    limits, drawn = p.limits, intervals and len(p.classes) <= MOST_INTERVALS

    def row(c: int) -> ClassRow:
        support = int(counts.support[c])
        return ClassRow(
            index=c,
            name=p.classes[c],
            support=support,
            absent=len(p) - support,
            groups=None if groups is None else int(groups[c]),
            share=support / max(len(p), 1),
            train=0 if p.train_counts is None else int(p.train_counts[c]),
            tp=int(counts.tp[c]),
            fp=int(counts.fp[c]),
            fn=int(counts.fn[c]),
            **{name: of_classes[c] for name, of_classes in spans.items()},
            ap=_average_precision(p, c, drawn=drawn and support >= LEAST_POSITIVES),
            threshold=math.nan if limits is None else float(limits[c]),
        )

    return tuple(row(c) for c in range(len(p.classes)))


def _spans(truth: np.ndarray, predicted: np.ndarray, beta: float, groups: np.ndarray | None) -> dict[str, list[Span]]:
    """Return the scores of decisions by their names, from bool ``(N, C)``."""
    right, wrong, missed = truth & predicted, ~truth & predicted, truth & ~predicted
    costs = (1 / (1 + beta**2), wrong), (beta**2 / (1 + beta**2), missed)
    return {
        "precision": ratio_spans(right, (1.0, wrong), groups=groups),
        "recall": ratio_spans(right, (1.0, missed), groups=groups),
        "specificity": ratio_spans(~truth & ~predicted, (1.0, wrong), groups=groups),
        "fbeta": ratio_spans(right, *costs, groups=groups),
    }


def _groups_with(truth: np.ndarray, groups: np.ndarray) -> list[int]:
    """Return how many groups have each class, from bool ``(N, C)`` and ids ``(N,)``."""
    numbers = group_numbers(groups)
    return [len(np.unique(numbers[flags])) for flags in truth.T]


def _average_precision(p: Predictions, c: int, *, drawn: bool) -> Span:
    flags = p.truth[:, c]
    if not drawn:
        return Span(average_precision(flags, p.probs[:, c]))
    column, targets = p.probs[:, c, None], flags[:, None].astype(np.int64)
    e = estimate(MacroAveragePrecision(), column, targets, groups=p.groups, n_boot=FEWER_DRAWS)
    return Span(e.value, e.low, e.high)


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
