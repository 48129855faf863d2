"""The score that comes first, with its interval and its baseline: one function, so that it is the same everywhere.

``train``, the report, ``evaluate``, ``compare``, ``metrics.json``, ``summary()`` and ``--fail-under`` all show what
``headline`` returns for the predictions that they speak of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Self

import numpy as np

from onecycle.evaluation.certainty.baseline import with_baseline
from onecycle.evaluation.certainty.decisions import F2, Decisions
from onecycle.evaluation.certainty.intervals import (
    Estimate,
    SumScore,
    WeightedScore,
    accuracy,
    default_scores,
    estimate,
    micro_precision,
)
from onecycle.evaluation.certainty.thresholds import choose_thresholds
from onecycle.evaluation.predictions import Predictions
from onecycle.text import plural

FIXED, HELD_OUT = "fixed", "held out"
SAME_PICTURES, OTHER_PICTURES = "same pictures", "other pictures"
CUSTOM_THRESH = 0.2
"""What the probabilities of tags are scored at beside the headline: the field's custom for F2."""

AT_CHOSEN = "at chosen thresholds"
TRAINED_ON = "The model was fitted to these very pictures, so all of this flatters it."


@dataclass(frozen=True, kw_only=True)
class Headline(Estimate):
    """The score that comes first.

    How it is made, and how often it was right in simulation: ``docs/how-numbers-are-made.md``.
    """

    thresholds: str | None = None
    """How the thresholds of tags came about: FIXED (not chosen from data), HELD_OUT (each fold decided by those that
    the other folds chose), OTHER_PICTURES (chosen elsewhere), or SAME_PICTURES (chosen on these very pictures: the
    score is somewhat too good). None for single labels."""

    picked_of: int = 1
    """Epochs or stages of which these pictures picked the one whose weights stayed; 1: none was picked."""

    picked: str = "epoch"
    """What those are."""

    in_use: float | None = None
    """With HELD_OUT the score at the thresholds in use, on the pictures that chose them: what single tags stand on."""

    n_groups: int | None = None
    """Groups that the pictures come in: what the interval rests on. None: each picture stands alone."""

    def counted(self, noun: str = "picture") -> str:
        """Return how many pictures, and in how many groups: what the interval rests on."""
        of = "" if self.n_groups is None else f" in {plural(self.n_groups, 'group')}"
        return f"{plural(self.n, noun)}{of}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        names = ("thresholds", "picked_of", "picked", "in_use", "n_groups")
        return super().to_dict() | {name: getattr(self, name) for name in names}

    @classmethod
    def of(cls, score: Estimate, thresholds: str | None, p: Predictions, *, in_use: float | None = None) -> Self:
        """Make a score of predictions the headline."""
        n_groups = None if p.groups is None else len(set(p.groups))
        own = vars(score) | {"thresholds": thresholds, "in_use": in_use, "n_groups": n_groups}
        return cls(**own, picked_of=p.picked_of, picked=p.picked)


def headline(predictions: Predictions) -> Headline:
    """Return the score that comes first, with its 95 % interval and its baseline.

    Single labels: accuracy. Tags: the measure that decisions are made for, of what ``predict`` decides; where
    thresholds were chosen on these pictures, by cross-fitting, so that the choice does not flatter it. Where nobody
    named a measure it is the mean over pictures of F2. For the baseline see ``baseline.best_constant``.

    Raises:
        ArgumentError: no picture, or pictures without labels.
    """
    p = predictions
    score, values = judged_by(p)
    found = _estimate(score, p, values)
    if not p.is_multi:
        return Headline.of(found, None, p)
    if not _chosen(p):
        return Headline.of(found, FIXED, p)
    if p.unseen or held_out_decisions(p) is None:
        return Headline.of(found, OTHER_PICTURES if p.unseen else SAME_PICTURES, p)
    return Headline.of(found, HELD_OUT, p, in_use=estimate_decisions(score, p).value)


def judged_by(p: Predictions) -> tuple[SumScore, np.ndarray]:
    """Return the score that comes first, and what it reads, float ``(N, C)``: probabilities or, of tags, decisions."""
    if not p.is_multi:
        return accuracy(), p.probs
    fair = fair_decisions(p)
    return headline_score(p), (p.decided if fair is None else fair).astype(float)


def headline_score(p: Predictions) -> SumScore:
    """Return the score of the decisions about tags that comes first, under its name."""
    score, at = p.decisions.reported.score(), fixed_threshold(p.decisions)
    how = AT_CHOSEN if _chosen(p) else "" if at is None else f"at {at:g}"
    return replace(score, name=f"{score.name} {how}".rstrip())


def fair_decisions(p: Predictions) -> np.ndarray | None:
    """Return the decisions, in the shape of ``decided``, that nothing chosen on these pictures flatters, if known."""
    return held_out_decisions(p) if _chosen(p) and not p.unseen else p.decided


def _chosen(p: Predictions) -> bool:
    """Whether pictures chose the thresholds that decide."""
    return p.thresholds is not None and p.thresholds.default is None


def fixed_threshold(decisions: Decisions) -> float | None:
    """Return the one threshold of all tags that nobody chose; None where thresholds were chosen or sets decide."""
    if decisions.by_sets:
        return None
    return decisions.threshold if decisions.thresholds is None else decisions.thresholds.default


def other_scores(predictions: Predictions) -> list[Estimate]:
    """Return the scores beside the headline that are reported unless others are asked for."""
    p = predictions
    if not p.is_multi:
        return default_estimates(p)[1:]
    measure, at = p.decisions.reported, fixed_threshold(p.decisions)
    beside = []
    if measure.precision is not None:
        beside = [estimate_decisions(micro_precision(None), p, fair_decisions(p))]
    is_first = at == CUSTOM_THRESH and measure == F2
    return [*beside, *default_estimates(p)[is_first:]]


def scores_of(predictions: Predictions) -> list[Estimate]:
    """Return the headline, then the other scores."""
    return [headline(predictions), *other_scores(predictions)]


def default_estimates(
    predictions: Predictions, scores: Sequence[WeightedScore] | None = None, *, seed: int = 0
) -> list[Estimate]:
    """Return scores of the model's own probabilities with intervals and baselines; ``scores`` as in ``metrics()``."""
    chosen = default_scores(len(predictions.classes), is_multi=predictions.is_multi) if scores is None else scores
    found = [_estimate(score, predictions, seed=seed) for score in chosen]
    return [e for e in found if scores is not None or not math.isnan(e.value)]  # macro-AP where all tags are too rare


def estimate_decisions(score: WeightedScore, predictions: Predictions, decided: np.ndarray | None = None) -> Estimate:
    """Return a score of decisions (0/1 ``(N, C)``, default what the model decides)."""
    labels = predictions.predicted if decided is None else decided
    return estimate(score, labels.astype(float), predictions.known_targets, groups=predictions.groups)


def held_out_decisions(predictions: Predictions) -> np.ndarray | None:
    """Return which tags are predicted for each picture by thresholds that other folds chose, 0/1 ``(N, C)``.

    Where nobody kept them, the choice is made again; None where it then is another than the one in use, which was made
    in another way or elsewhere.
    """
    p, chosen = predictions, predictions.thresholds
    if p.held_out is not None or chosen is None or len(p) < 2:
        return p.held_out
    options = p.decisions.reported.threshold_options
    again = choose_thresholds(p.probs, p.known_targets, classes=p.classes, groups=p.groups, **options)
    same = not chosen.exactly_one and np.allclose(again.thresholds.values, chosen.values, atol=1e-6)
    return again.decided if same else None


def versus_baseline(score: Estimate) -> str:
    """Say in one sentence whether a score is better than its baseline, from the difference on the same pictures."""
    if score.baseline is None or score.gain is None:
        return "There is no baseline to compare with."
    low, high = score.gain
    scored = f"{score.baseline_name} scores {score.baseline:.3f}"
    if low > 0:
        return f"Better than the baseline: {scored}; on the same pictures the gain is {low:.3f} to {high:.3f} (95 %)."
    if high < 0:
        return f"Worse than the baseline: {scored}; on the same pictures the loss is {-high:.3f} to {-low:.3f} (95 %)."
    return (
        f"Not shown to be better than the baseline: {scored}; on the same pictures the difference is {low:+.3f} to "
        f"{high:+.3f} (95 %). A model that never looks at a picture could do as well."
    )


def picked_note(best: Headline) -> str:
    """Say that these pictures picked the epoch or the stage, and by how much that can flatter; nothing where not.

    The best of K numbers with one standard error exceeds their mean by the expected largest of K normal values at most,
    less where epochs resemble each other. Source: Blom 1958, "Statistical estimates and transformed beta-variables".
    """
    k = best.picked_of
    if k < 2:
        return ""
    error = (best.high - best.low) / (2 * 1.96)
    most = error * NormalDist().inv_cdf((k - 0.375) / (k + 0.25))
    return f"These pictures picked the {best.picked}, the best of {k}; that can flatter the score by up to {most:.3f}."


def _estimate(score: WeightedScore, p: Predictions, probs: np.ndarray | None = None, *, seed: int = 0) -> Estimate:
    """Return a score of the model's own probabilities, or of others, with its interval and its baseline."""
    probs, targets = p.probs if probs is None else probs, p.known_targets
    found = estimate(score, probs, targets, groups=p.groups, seed=seed)
    return with_baseline(found, score, probs, targets, classes=p.classes, groups=p.groups, seed=seed)
