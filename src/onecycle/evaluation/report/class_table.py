"""Each class by itself: how many pictures, precision, recall, F and average precision, with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onecycle.evaluation.certainty.intervals import MacroAveragePrecision, estimate, macro_fbeta, ratio, wilson
from onecycle.evaluation.interpretation import average_precision
from onecycle.evaluation.report.evidence import FEWER_DRAWS, Evidence

LEAST_FOR_INTERVAL = 5
"""With fewer pictures of a class, F and average precision have no interval: a bootstrap of so few looks too sure."""

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


@dataclass(frozen=True)
class ClassRow:
    """One class or tag.

    Attributes:
        index: in the class list.
        name: of the class.
        support: validation pictures that have it.
        train: training pictures that have it.
        share: of the validation pictures, ``support`` / N.
        tp, fp, fn: pictures that have it and get it, get it wrongly, have it and do not get it.
        precision, recall: Wilson's intervals.
        fbeta: F2 for tags, F1 for classes.
        ap: average precision.
        threshold: from which probability on it is given; NaN for classes.
        absent: validation pictures that do not have it.
    """

    index: int
    name: str
    support: int
    train: int
    share: float
    tp: int
    fp: int
    fn: int
    precision: Span
    recall: Span
    fbeta: Span
    ap: Span
    threshold: float
    absent: int


def beta_of(evidence: Evidence) -> float:
    """Return the weight of recall in F: 2 for tags, 1 for classes."""
    return 2.0 if evidence.is_multi else 1.0


def class_rows(evidence: Evidence) -> tuple[ClassRow, ...]:
    """Return a row for each class, in the order of the class list."""
    truth, given = evidence.truth(), evidence.given()
    tp, fp, fn = ((a & b).sum(axis=0) for a, b in ((truth, given), (~truth, given), (truth, ~given)))
    precision, recall = share_spans(tp, tp + fp), share_spans(tp, tp + fn)
    rows = []
    for c, name in enumerate(evidence.classes):
        enough = len(evidence.classes) <= MOST_INTERVALS and truth[:, c].sum() >= LEAST_FOR_INTERVAL
        rows.append(
            ClassRow(
                c,
                name,
                support=int(truth[:, c].sum()),
                train=int(evidence.train_counts[c]),
                share=float(truth[:, c].mean()),
                tp=int(tp[c]),
                fp=int(fp[c]),
                fn=int(fn[c]),
                precision=precision[c],
                recall=recall[c],
                fbeta=_f_span(evidence, truth[:, c], given[:, c], interval=enough),
                ap=_ap_span(evidence, truth[:, c], c, interval=enough),
                threshold=float(evidence.thresholds[c]) if evidence.is_multi else math.nan,
                absent=int((~truth[:, c]).sum()),
            )
        )
    return tuple(rows)


def share_spans(part: np.ndarray, whole: np.ndarray) -> list[Span]:
    """Return part / whole with Wilson's intervals, from int ``(C,)`` each; 0/0 is NaN."""
    values = ratio(part, whole)
    known = whole > 0
    low, high = np.full(len(values), math.nan), np.full(len(values), math.nan)
    low[known], high[known] = wilson(values[known], whole[known])
    return [Span(*map(float, ends)) for ends in zip(values, low, high, strict=True)]


def _f_span(evidence: Evidence, truth: np.ndarray, given: np.ndarray, *, interval: bool) -> Span:
    beta = beta_of(evidence)
    hits, wrong, missed = (truth & given).sum(), (~truth & given).sum(), (truth & ~given).sum()
    weighted = (1 + beta**2) * hits
    whole = weighted + wrong + beta**2 * missed
    if not whole:
        return Span(math.nan)
    if not interval:
        return Span(float(weighted / whole))
    found = estimate(
        macro_fbeta(beta, 0.5),
        given[:, None].astype(float),
        truth[:, None].astype(np.int64),
        groups=evidence.groups,
        n_boot=FEWER_DRAWS,
    )
    return Span(found.value, found.low, found.high)


def _ap_span(evidence: Evidence, truth: np.ndarray, c: int, *, interval: bool) -> Span:
    scores = evidence.probs[:, c]
    if not truth.any() or not interval:
        return Span(average_precision(truth, scores))
    found = estimate(
        MacroAveragePrecision(),
        scores[:, None],
        truth[:, None].astype(np.int64),
        groups=evidence.groups,
        n_boot=FEWER_DRAWS,
    )
    return Span(found.value, found.low, found.high)
