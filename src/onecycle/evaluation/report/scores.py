"""The scores of a report: the headline, further ones, and calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace

from onecycle.evaluation.certainty.calibration import calibration_report
from onecycle.evaluation.certainty.intervals import Estimate, estimate, micro_precision, micro_recall, sample_fbeta
from onecycle.evaluation.certainty.reliability import Reliability, ece_score, reliability_curve, top_class
from onecycle.evaluation.headline import Headline, estimate_decisions, headline, other_scores
from onecycle.evaluation.predictions import Predictions

TOO_MANY = 100_000
"""With more decisions (pictures × tags) than this, calibrated probabilities are not judged on other folds."""


@dataclass(frozen=True)
class Scores:
    """How good a model is."""

    headline: Headline
    others: tuple[Estimate, ...]


@dataclass(frozen=True)
class CalibrationFacts:
    """Whether probabilities mean what they say."""

    ece: Estimate  # expected calibration error, of the probabilities that are shown
    by_chance: float  # the error that perfect probabilities would show on so many pictures
    curve: Reliability  # what the reliability diagram draws
    calibrated: bool  # whether they were calibrated after training
    held_out: bool  # whether they were judged on pictures that did not calibrate them
    n_true: int  # pictures whose most probable class is right; for tags, decisions where the tag is there


def measure(p: Predictions) -> Scores:
    """Return the headline and the other scores; for tags these have precision and recall as ``predict`` decides."""
    first, others = headline(p), other_scores(p)
    if not p.is_multi:
        return Scores(first, tuple(others))
    in_use = [micro_precision(0.5), micro_recall(0.5)]
    if p.thresholds is None:
        in_use.insert(0, sample_fbeta(p.beta, 0.5))
    at = "at the thresholds in use" if p.thresholds is not None else f"at {float(p.limits[0]):g}"
    decided = [
        replace(e, name=f"{e.name.removesuffix(' at 0.5')} {at}") for e in (estimate_decisions(s, p) for s in in_use)
    ]
    return Scores(first, (*decided, *others))


def calibration_facts(p: Predictions) -> CalibrationFacts:
    """Judge the probabilities that are shown; calibrated ones on other folds than calibrated them, if that is quick."""
    calibrated, shown, targets = p.shown is not None, p.shown_probs, p.known_targets
    n_true = int(top_class(shown, targets)[1].sum())
    if calibrated and not (p.is_multi and p.probs.size > TOO_MANY) and len(p) >= 2:
        report = calibration_report(p.probs, targets, classes=p.classes, groups=p.groups)
        return CalibrationFacts(report.after, report.by_chance, report.curve_after, True, True, n_true)
    curve = reliability_curve(*top_class(shown, targets))
    ece = estimate(ece_score(), shown, targets, groups=p.groups)
    return CalibrationFacts(ece, curve.ece_by_chance, curve, calibrated, not calibrated, n_true)
