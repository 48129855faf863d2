"""The scores of a report: the headline with its interval and baseline, further ones, and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onecycle.evaluation.certainty.calibration import (
    Reliability,
    calibration_report,
    ece_score,
    reliability_curve,
    top_class,
)
from onecycle.evaluation.certainty.intervals import (
    Estimate,
    default_scores,
    estimate,
    micro_precision,
    micro_recall,
    sample_fbeta,
)
from onecycle.evaluation.certainty.thresholds import ThresholdReport, choose_thresholds
from onecycle.evaluation.report.evidence import Evidence

HELD_OUT = "held out"
SAME_PICTURES = "same pictures"
FIXED = "fixed"

BLIND = "blind guess"
"""Name of the baseline that names any of K classes, each as likely."""

AT_CHOSEN = "sample-F2 at chosen thresholds"


@dataclass(frozen=True)
class Scores:
    """How good a model is.

    Attributes:
        headline: the score that comes first, with its interval and its baseline.
        chosen_on: for the headline's thresholds: ``fixed`` (not chosen from data), ``held out`` (each fold decided by
            thresholds chosen on the others), ``same pictures`` (measured where they were chosen: too good).
        others: further scores.
        beta: weight of recall in the page's F.
    """

    headline: Estimate
    chosen_on: str
    others: tuple[Estimate, ...]


@dataclass(frozen=True)
class CalibrationFacts:
    """Whether probabilities mean what they say.

    Attributes:
        ece: expected calibration error, of the probabilities that are shown.
        by_chance: the error that perfect probabilities would show on so many pictures.
        curve: what the reliability diagram draws.
        calibrated: whether they were calibrated after training.
        held_out: whether they were judged on pictures that did not calibrate them.
        n_true: pictures whose most probable class is right; for tags, decisions where the tag is there.
    """

    ece: Estimate
    by_chance: float
    curve: Reliability
    calibrated: bool
    held_out: bool
    n_true: int


def measure(evidence: Evidence, held_out: Estimate | None = None) -> Scores:
    """Return the headline and the other scores.

    Classes: accuracy. Tags: sample-F2 at thresholds that were chosen on other folds; else at 0.2, the field's custom,
    with the default thresholds of ``predict`` among the others.

    Args:
        evidence: predictions and truth.
        held_out: the score of chosen thresholds on folds that did not choose them, where it is known; else it is
            found again, where the same choice can be made again.
    """
    others = [_estimate(evidence, s) for s in default_scores(len(evidence.classes), is_multi=evidence.is_multi)]
    if not evidence.is_multi:
        first, *rest = against_guesses(others, len(evidence.classes))
        return Scores(first, FIXED, tuple(rest))
    in_use = [_decided(evidence, s) for s in (micro_precision(0.5), micro_recall(0.5))]
    if not evidence.chosen:
        at_default = _decided(evidence, sample_fbeta(2, 0.5))
        at_default = replace(at_default, name=_at_thresholds("sample-F2", evidence))
        return Scores(others[0], FIXED, (at_default, *in_use, *others[1:]))
    chosen_again = _chosen_again(evidence) if held_out is None else None
    found = held_out if chosen_again is None else chosen_again.held_out[0]
    chosen_on = SAME_PICTURES if found is None else HELD_OUT
    headline = at_chosen(found or _decided(evidence, sample_fbeta(2, 0.5)), others[0])
    return Scores(headline, chosen_on, (*in_use, *others))


def at_chosen(found: Estimate, at_custom: Estimate) -> Estimate:
    """Return the score of chosen thresholds as the headline: its name, and the guess of the score at 0.2."""
    return replace(found, name=AT_CHOSEN, baseline=at_custom.baseline, baseline_name=at_custom.baseline_name)


def against_guesses(scores: Sequence[Estimate], c: int) -> list[Estimate]:
    """Return scores of single labels with the better of two guesses: the majority class, or blindly one of ``c``.

    The class that is commonest in training may be rare, or missing, among the validation pictures: a model that
    beats it then shows nothing.

    Args:
        scores: of single labels, accuracy first.
        c: classes.
    """
    first = scores[0]
    if first.baseline is None or first.baseline >= 1 / c:
        return list(scores)
    blind = {"accuracy": 1 / c, "error rate": 1 - 1 / c, "top-5 accuracy": min(1.0, 5 / c)}
    return [replace(e, baseline=blind[e.name], baseline_name=BLIND) if e.name in blind else e for e in scores]


def calibration_facts(evidence: Evidence, *, calibrated: bool) -> CalibrationFacts:
    """Judge the probabilities that are shown; calibrated ones on other folds than calibrated them, if that is quick."""
    cross_fitted = calibrated and not (evidence.is_multi and evidence.is_large)
    if cross_fitted and evidence.n >= 2:
        report = calibration_report(evidence.probs, evidence.targets, classes=evidence.classes, groups=evidence.groups)
        return CalibrationFacts(report.after, report.by_chance, report.curve_after, True, True, _n_true(evidence))
    curve = reliability_curve(*top_class(evidence.shown, evidence.targets))
    ece = estimate(ece_score(), evidence.shown, evidence.targets, groups=evidence.groups, n_boot=evidence.n_draws)
    return CalibrationFacts(ece, curve.ece_by_chance, curve, calibrated, not calibrated, _n_true(evidence))


def _n_true(evidence: Evidence) -> int:
    _, outcomes = top_class(evidence.shown, evidence.targets)
    return int(outcomes.sum())


def _estimate(evidence: Evidence, score: object) -> Estimate:
    return estimate(
        score,  # type: ignore[arg-type]
        evidence.probs,
        evidence.targets,
        prior=evidence.prior,
        groups=evidence.groups,
        n_boot=evidence.n_draws,
    )


def _decided(evidence: Evidence, score: object) -> Estimate:
    """Score the decisions as ``predict`` makes them."""
    found = estimate(
        score,  # type: ignore[arg-type]
        evidence.given().astype(float),
        evidence.targets,
        groups=evidence.groups,
        n_boot=evidence.n_draws,
    )
    return replace(found, name=_at_thresholds(found.name.removesuffix(" at 0.5"), evidence))


def _at_thresholds(name: str, evidence: Evidence) -> str:
    if evidence.chosen:
        return f"{name} at the thresholds in use"
    return f"{name} at {float(evidence.thresholds[0]):g}"


def _chosen_again(evidence: Evidence) -> ThresholdReport | None:
    """Choose thresholds as by default; None where those in use were chosen in another way or elsewhere."""
    if evidence.is_large or evidence.n < 2:
        return None
    report = choose_thresholds(evidence.probs, evidence.targets, classes=evidence.classes, groups=evidence.groups)
    same = np.allclose(report.thresholds.values, evidence.thresholds, atol=1e-6)
    return report if same else None
