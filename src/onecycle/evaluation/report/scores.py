"""The scores of a report: the headline, further ones, and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onecycle.evaluation.certainty.calibration import Calibration, cross_fit, fit_calibration, make_folds
from onecycle.evaluation.certainty.decisions import F2, Measure
from onecycle.evaluation.certainty.intervals import Estimate, micro_precision, micro_recall
from onecycle.evaluation.certainty.reliability import (
    PER_BIN,
    TOLERANCE,
    ProbabilityError,
    Reliability,
    probability_error,
    reliability_curve,
    top_class,
)
from onecycle.evaluation.headline import Headline, estimate_decisions, headline, other_scores
from onecycle.evaluation.predictions import Predictions

TOO_MANY = 100_000
"""With more decisions (pictures × tags) than this, calibrated probabilities are not judged on other folds."""

JUDGING_FOLDS = 10
NOTED = 0.02
"""An error whose lower end is below this is not called one."""


@dataclass(frozen=True)
class Scores:
    """How good a model is."""

    headline: Headline
    others: tuple[Estimate, ...]
    measure: Measure = F2  # what decisions about tags are made for


@dataclass(frozen=True)
class WrongShare:
    """A tag whose yes is shown to be off."""

    name: str
    said: float  # mean probability of its yes decisions
    observed: float  # share of them that is right
    n: int  # yes decisions


@dataclass(frozen=True, kw_only=True)
class CalibrationFacts:
    """Whether probabilities mean what they say: those of the most probable class or, of tags, of each yes.

    How that is judged, and how often it was right in simulation: ``docs/how-numbers-are-made.md``.
    """

    error: ProbabilityError | None  # None where there is no yes at all
    curve: Reliability | None  # what the reliability diagram draws
    wrong: tuple[WrongShare, ...]  # tags that are shown to be off, each by itself, at 5 % for all together
    few: int  # tags with too few yes decisions to be judged by themselves
    calibrated: bool  # whether they were calibrated after training
    held_out: bool  # whether they were judged on pictures that did not calibrate them
    n: int  # pictures
    n_true: int  # probabilities of what came true


def measure(p: Predictions) -> Scores:
    """Return the headline and the other scores; for tags these have precision and recall as ``predict`` decides."""
    first, others = headline(p), other_scores(p)
    if not p.is_multi:
        return Scores(first, tuple(others))
    in_use = [estimate_decisions(score, p) for score in (micro_precision(None), micro_recall(None))]
    decided = [replace(e, name=f"{e.name} as decided") for e in in_use]
    return Scores(first, (*decided, *others), p.decisions.reported)


def calibration_facts(p: Predictions) -> CalibrationFacts:
    """Judge the probabilities that are shown; calibrated ones on other folds than calibrated them, if that is quick."""
    calibrated, shown, targets = p.shown is not None, p.shown_probs, p.known_targets
    units = len(p) if p.groups is None else len(set(p.groups))
    other_folds = calibrated and units >= 2 and not (p.is_multi and p.probs.size > TOO_MANY)
    if other_folds:
        folds = make_folds(targets, JUDGING_FOLDS, groups=p.groups)
        shown = cross_fit(fit_calibration, Calibration.apply, p.probs, targets, folds)
    if p.is_multi:
        rows, kinds = np.nonzero(p.predicted)
        confidence, outcome = shown[rows, kinds].astype(float), p.truth[rows, kinds]
    else:
        rows, kinds = np.arange(len(p)), None
        confidence, outcome = top_class(shown, targets)
    groups = rows if p.groups is None else np.asarray(p.groups)[rows]
    judged = len(confidence) > 0
    return CalibrationFacts(
        error=probability_error(confidence, outcome, kinds=kinds, groups=groups) if judged else None,
        curve=reliability_curve(confidence, outcome) if judged else None,
        wrong=() if kinds is None else _wrong_shares(confidence, outcome, kinds, groups, p.classes),
        few=0 if kinds is None else int((np.bincount(kinds, minlength=len(p.classes)) < PER_BIN).sum()),
        calibrated=calibrated,
        held_out=not calibrated or other_folds,
        n=len(p),
        n_true=int(outcome.sum()),
    )


def _wrong_shares(
    confidence: np.ndarray, outcome: np.ndarray, kinds: np.ndarray, groups: np.ndarray, classes: Sequence[str]
) -> tuple[WrongShare, ...]:
    """Return the tags whose yes is shown to be off, the farthest first (Bonferroni over those that are judged)."""
    judged = np.flatnonzero(np.bincount(kinds, minlength=len(classes)) >= PER_BIN)
    found: list[tuple[float, WrongShare]] = []
    for tag in judged.tolist():
        mine = kinds == tag
        e = probability_error(confidence[mine], outcome[mine], groups=groups[mine], level=1 - 0.05 / len(judged))
        if e.low > NOTED and e.high >= TOLERANCE:
            found.append((-e.low, WrongShare(classes[tag], e.said, e.observed, e.n)))
    return tuple(wrong for _, wrong in sorted(found, key=lambda pair: pair[0]))
