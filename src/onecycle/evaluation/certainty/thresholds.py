"""From which probability on a tag is given.

A tag is given when its probability is **at least** its threshold, as in ``predict``. Thresholds are chosen so
that few data do no harm: tags with few positives stay near one threshold for all, and that, or the default,
is kept unless pictures that were left out say clearly that the finer choice is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

import numpy as np

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.calibration import cross_fit, make_folds
from onecycle.evaluation.certainty.constraints import Groups, apply_constraints, check_groups
from onecycle.evaluation.certainty.intervals import (
    Estimate,
    SumScore,
    check_arrays,
    difference,
    estimate,
    group_numbers,
    macro_fbeta,
    micro_precision,
    micro_recall,
    sample_fbeta,
)
from onecycle.evaluation.scores import count_classes, ratio, sample_fbeta_score

if TYPE_CHECKING:
    import pandas as pd

GRID = np.arange(1, 100) / 100  # the thresholds that are tried
SMOOTHING = 5  # neighbours on the grid that are averaged: a peak that one picture makes is chance
HALF_TRUST = 20  # positives with which a tag's own threshold counts one half, the common one the other
MIN_EACH = 5  # positives and negatives from which on a tag gets a threshold of its own
MIN_PICTURES = 20  # with fewer, the default is kept
CLEARLY = 0.95  # level of the interval above 0; with 0.8, choosing lost on two of three Planet splits
INNER_DRAWS = 200
Average = Literal["sample", "tag"]
Rule = Literal["default", "one for all tags", "per tag"]


class ThresholdOptions(TypedDict, total=False):
    """How thresholds are chosen, beside beta.

    average: ``sample``: the mean over pictures of F-beta of their tags (Planet's score); ``tag``: the mean over tags of
    F-beta of their pictures.
    precision: instead of F-beta: for each tag the lowest threshold that has this precision, were there one false alarm
    more. A tag that never reaches it gets 1.
    default: the threshold for all tags that is kept if nothing is clearly better; None for ``usual_threshold``.
    rule: take this rule for F-beta in any case: ``default``, ``one for all tags`` or ``per tag``.
    exactly_one: groups of tags of which the most probable is given, always; see ``propose_constraints``. By name where
    an interpretation or a learner is asked, else by index.
    n_folds, seed: of the folds (5) that judge them.
    groups: an id for each picture; a group stays in one fold, and intervals, too, are over groups.
    """

    average: Average
    precision: float | None
    default: float | None
    rule: Rule | None
    exactly_one: Sequence[Sequence[Any]]
    n_folds: int
    seed: int
    groups: Sequence[object] | np.ndarray | None


def usual_threshold(beta: float) -> float:
    """Return the threshold for all tags where none is chosen: 0.2 for F2, 0.5 for F1.

    Where probabilities are right, F-beta is largest at F*/(1 + beta²), F* being that largest value. It is taken for 1:
    0.2 for F2, the field's custom. Source: Lipton, Elkan & Naryanaswamy 2014, "Optimal thresholding of classifiers to
    maximize F1 measure", with beta² missed tags for each wrong one.
    """
    return 1 / (1 + beta**2)


Fit = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (probs, truth), each (N, C) → thresholds (C,)


@dataclass(frozen=True)
class TagThresholds:
    """A threshold for each tag, and groups of tags that are decided by which is most probable."""

    values: tuple[float, ...]  # C: from which probability (the model's own, not calibrated) on each tag is given
    goal: str  # what they were chosen for
    n: int  # pictures that they were chosen on
    exactly_one: tuple[tuple[int, ...], ...] = ()  # tag indices; of each group the most probable is given in any case
    rule: str = ""  # how fine a choice these pictures bear out, a ``Rule``; "" where that was not written down

    @property
    def default(self) -> float | None:
        """The one threshold for all tags that stayed because no choice was clearly better; None where one was."""
        kept = self.rule == "default" and not self.exactly_one and len(set(self.values)) == 1
        return self.values[0] if kept else None

    def decide(self, probs: np.ndarray) -> np.ndarray:
        """Return which tags are given, bool ``(N, C)``, for the model's own probabilities ``(N, C)``.

        Raises:
            ArgumentError: another number of tags.
        """
        if probs.ndim != 2 or probs.shape[1] != len(self.values):
            raise ArgumentError(f"expected probs (N, {len(self.values)}); received {probs.shape}")
        return np.asarray(apply_constraints(probs, self.exactly_one) >= np.array(self.values))

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; ``from_dict`` reads it."""
        groups = [list(group) for group in self.exactly_one]
        return {"values": list(self.values), "goal": self.goal, "n": self.n, "exactly_one": groups, "rule": self.rule}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> TagThresholds:
        """Read what ``to_dict`` wrote.

        Raises:
            ArgumentError: entries that are missing or do not fit.
        """
        try:
            values = tuple(float(v) for v in saved["values"])
            groups = tuple(tuple(int(i) for i in group) for group in saved["exactly_one"])
            thresholds = cls(values, str(saved["goal"]), int(saved["n"]), groups, str(saved.get("rule", "")))
        except (KeyError, TypeError, ValueError, OverflowError) as err:
            wanted = "values, goal, n and exactly_one"
            raise ArgumentError(f"saved thresholds have {wanted}; received {str(saved)[:200]}") from err
        check_groups(groups, len(values))
        if not values or not all(0 <= v <= 1 for v in values):
            raise ArgumentError(f"saved thresholds lie in [0, 1]; received {str(values)[:200]}")
        return thresholds


@dataclass(frozen=True)
class ThresholdReport:
    """Chosen thresholds, and what they are worth on pictures that they were not chosen on.

    How they are chosen, and how often that helped in simulation: ``docs/how-numbers-are-made.md``. The text shows gains
    without intervals: in simulation those held what the chosen thresholds truly gain in 75 to 85 % of cases only.
    """

    thresholds: TagThresholds  # chosen on all pictures, for use on new ones
    decided: np.ndarray  # 0/1 (N, C): each fold decided by the thresholds that the others chose
    held_out: tuple[Estimate, ...]  # their score; for a wanted precision: precision and recall over all decisions
    gains: tuple[Estimate, ...]  # the first of them minus the same score at 0.5, and at the default
    per_tag: pd.DataFrame  # a row a tag: threshold, positives, and precision and recall of ``decided``
    n_folds: int

    @property
    def rule(self) -> str:
        """How fine a choice the pictures bear out."""
        return self.thresholds.rule

    def __str__(self) -> str:
        kept = "the default stays, no other choice is clearly better"
        what = {"default": kept, "per tag": "one for each tag"}.get(self.rule, self.rule)
        span = " to ".join(dict.fromkeys(f"{v:.3g}" for v in np.quantile(self.thresholds.values, (0, 1))))
        lines = [f"Thresholds for {self.thresholds.goal}, {self.thresholds.n:,} pictures: {what} ({span})."]
        lines += [f"  {e}" for e in self.held_out]
        lines += [f"  {e.name} {e.value:+.3f}" for e in self.gains]
        return "\n".join([*lines, f"Each of {self.n_folds} folds was decided by thresholds chosen on the others."])


# -- choosing ------------------------------------------------------------------------------------------------


def choose_thresholds(
    probs: np.ndarray,
    targets: np.ndarray,
    *,
    beta: float = 2.0,
    average: Average = "sample",
    precision: float | None = None,
    default: float | None = None,
    rule: Rule | None = None,
    exactly_one: Groups = (),
    classes: Sequence[object] | None = None,
    n_folds: int = 5,
    seed: int = 0,
    groups: Sequence[object] | np.ndarray | None = None,
) -> ThresholdReport:
    """Choose a threshold for each tag, and report its worth by cross-fitting.

    For F-beta three rules compete: the default, one threshold for all tags, one for each tag. A finer rule
    is taken where the 95 % interval of its gain on left-out folds lies above 0, so few data change nothing; and where
    the choice as a whole, made anew without each fold, shows no such gain over the default, that stays.

    Args:
        probs: float ``(N, C)``, as the model gives them.
        targets: 0/1 ``(N, C)``.
        beta: how many times recall matters as much as precision.
        classes: names of the tags, for the table.
        average, precision, default, rule, exactly_one, n_folds, seed, groups: see ``ThresholdOptions``.

    Raises:
        ArgumentError: one label a picture, shapes that do not fit, or a value out of its range.
    """
    import pandas as pd

    default = usual_threshold(beta) if default is None else default
    _check_choice(probs, targets, beta, average, precision, default)
    if rule not in (None, *get_args(Rule)):
        raise ArgumentError(f"rule is one of {get_args(Rule)}, or None to let the pictures say; received {rule!r}")
    check_arrays(probs, targets, groups)
    check_groups(exactly_one, probs.shape[1])
    decided, truth = apply_constraints(probs, exactly_one), targets > 0
    goal = _f_goal(beta, average, default, rule, seed) if precision is None else _precision_goal(precision)
    units = None if groups is None else group_numbers(groups)
    taken, fit = goal.rule(decided, truth, units)
    values = fit(decided, truth)

    def fit_part(part: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Choose on some pictures; their groups stay together in the inner folds, too."""
        _, fit = goal.rule(part, truth[rows], None if units is None else units[rows])
        return fit(part, truth[rows])

    folds = make_folds(targets, n_folds, seed=seed, groups=groups)
    held_out = cross_fit(fit_part, lambda v, p: p >= v, decided, np.arange(len(truth)), folds)
    if rule is None and precision is None:
        by_default = decided >= default
        if taken != "default":
            as_numbers = (held_out.astype(float), by_default.astype(float), targets)
            whole = difference(goal.scores[0], *as_numbers, groups=groups, seed=seed, level=CLEARLY)
            taken = taken if whole.low > 0 else "default"
        if taken == "default":  # nothing was chosen: it decides each fold alike
            values, held_out = np.full(decided.shape[1], default), by_default
    one_of = tuple(tuple(map(int, g)) for g in exactly_one)
    counts = count_classes(truth, held_out)
    per_tag = {"positives": counts.support, "precision": counts.precision, "recall": counts.recall}
    names = range(len(values)) if classes is None else classes
    judged = partial(estimate, probs=held_out.astype(float), targets=targets, groups=groups, seed=seed)
    gain = partial(difference, goal.scores[0], held_out.astype(float), targets=targets, groups=groups, seed=seed)
    return ThresholdReport(
        thresholds=TagThresholds(tuple(map(float, values)), goal.name, len(probs), one_of, taken),
        decided=held_out.astype(np.int64),
        held_out=tuple(map(judged, goal.scores)),
        gains=tuple(
            gain((probs >= t).astype(float), name=f"gain over {t:g} for all tags")
            for t in dict.fromkeys((0.5, default))
        ),
        per_tag=pd.DataFrame({"tag": names, "threshold": values, **per_tag}),
        n_folds=int(folds.max()) + 1,
    )


@dataclass(frozen=True)
class _Goal:
    """What thresholds are chosen for."""

    name: str  # in words
    scores: tuple[SumScore, ...]  # of decisions as 0.0 and 1.0; the first is what counts
    # (probs, truth, groups (N,) or None) → the rule that they bear out, and its fit
    rule: Callable[[np.ndarray, np.ndarray, np.ndarray | None], tuple[Rule, Fit]]


def _f_goal(beta: float, average: Average, default: float, rule: Rule | None, seed: int) -> _Goal:
    score = sample_fbeta(beta, 0.5) if average == "sample" else macro_fbeta(beta, 0.5)
    named = replace(score, name=score.name.removesuffix(" at 0.5"))
    rules: list[tuple[Rule, Fit]] = [
        ("default", lambda p, _: np.full(p.shape[1], default)),
        ("one for all tags", partial(_one_for_all, beta=beta, average=average)),
        ("per tag", partial(_per_tag, beta=beta, average=average)),
    ]
    rules = [(name, fit) for name, fit in rules if rule in (None, name)]
    return _Goal(named.name, (named,), partial(_best_rule, rules=rules, score=named, seed=seed))


def _precision_goal(wanted: float) -> _Goal:
    pair = {"precision, all decisions": micro_precision(), "recall, all decisions": micro_recall()}
    scores, fit = tuple(replace(s, name=n) for n, s in pair.items()), partial(_for_precision, wanted=wanted)
    return _Goal(f"a precision of {wanted:g}", scores, lambda *_: ("per tag", fit))


def _best_rule(
    probs: np.ndarray,
    truth: np.ndarray,
    groups: np.ndarray | None,
    *,
    rules: Sequence[tuple[Rule, Fit]],
    score: SumScore,
    seed: int,
) -> tuple[Rule, Fit]:
    """Return the first rule, or a later one that is clearly better on left-out folds; groups stay in one fold."""
    best = rules[0]
    one_group = groups is not None and len(np.unique(groups)) < 2
    if len(probs) < MIN_PICTURES or len(rules) == 1 or one_group:
        return best
    folds = make_folds(truth, seed=seed + 1, groups=groups)

    def decisions(fit: Fit) -> np.ndarray:
        return cross_fit(fit, lambda v, p: p >= v, probs, truth, folds).astype(float)

    decided = decisions(best[1])
    for candidate in rules[1:]:
        others = decisions(candidate[1])
        gain = difference(score, others, decided, truth, groups=groups, n_boot=INNER_DRAWS, seed=seed, level=CLEARLY)
        if gain.low > 0:
            best, decided = candidate, others
    return best


def _one_for_all(probs: np.ndarray, truth: np.ndarray, *, beta: float, average: Average) -> np.ndarray:
    """Return the threshold that is best for all tags together, C times."""
    if average == "sample":
        hits, predicted = _from_on(probs, truth.astype(float)), _from_on(probs, np.ones(probs.shape))
        total = predicted + beta**2 * truth.sum(axis=1, keepdims=True)
        curve = ratio((1 + beta**2) * hits, total, empty=0.0).mean(axis=0)
    else:
        curve = np.nanmean(_tag_curves(probs, truth, beta), axis=1) if truth.any() else np.zeros(len(GRID))
    return np.full(probs.shape[1], GRID[_peak(curve, near=0.5)])


def _per_tag(probs: np.ndarray, truth: np.ndarray, *, beta: float, average: Average) -> np.ndarray:
    """Return a threshold for each tag, the nearer to the common one the fewer positives (or negatives) it has."""
    values = _one_for_all(probs, truth, beta=beta, average=average)
    common, support = float(values[0]), np.minimum(truth.sum(axis=0), (~truth).sum(axis=0))
    own = [int(c) for c in np.argsort(-support, kind="stable") if support[c] >= MIN_EACH]
    curves = _tag_curves(probs, truth, beta)
    predicted = probs >= common
    for _ in range(1 if average == "tag" else 2):  # a picture's F depends on all of its tags: twice round
        for c in own:
            curve = curves[:, c] if average == "tag" else _picture_curve(probs, truth, predicted, c, beta)
            values[c] = _towards(common, float(GRID[_peak(curve, near=common)]), int(support[c]))
            predicted[:, c] = probs[:, c] >= values[c]
    return values


def _picture_curve(probs: np.ndarray, truth: np.ndarray, predicted: np.ndarray, c: int, beta: float) -> np.ndarray:
    """Return how the sum of F over pictures changes with the threshold of tag c, the others as they are."""
    without, with_it = predicted.copy(), predicted.copy()
    without[:, c], with_it[:, c] = False, True
    gained = sample_fbeta_score(with_it, truth, beta) - sample_fbeta_score(without, truth, beta)
    return np.asarray(_from_on(probs[:, c][None], gained[None])[0])


def _tag_curves(probs: np.ndarray, truth: np.ndarray, beta: float) -> np.ndarray:
    """Return F-beta of each tag at each threshold of the grid, ``(99, C)``; NaN for a tag that never occurs."""
    hits, predicted = (_from_on(probs.T, v.T).T for v in (truth.astype(float), np.ones(probs.shape)))
    positives = truth.sum(axis=0)
    total = predicted + beta**2 * positives
    return np.asarray(np.where(positives > 0, ratio((1 + beta**2) * hits, total, empty=0.0), np.nan))


def _from_on(probs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum ``values`` ``(R, M)`` of each row over the probabilities from each threshold of the grid on, ``(R, 99)``."""
    n_rows, n_cells = len(probs), len(GRID) + 1
    reached = np.searchsorted(GRID, probs, side="right") + n_cells * np.arange(n_rows)[:, None]
    cells = np.bincount(reached.ravel(), values.ravel(), minlength=n_rows * n_cells).reshape(n_rows, n_cells)
    return np.asarray(cells[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:])


def _peak(curve: np.ndarray, *, near: float) -> int:
    """Return where the smoothed curve over the grid is highest; of equal places the nearest to ``near``."""
    half = SMOOTHING // 2
    padded = np.pad(np.nan_to_num(curve), half, mode="edge")
    smooth = np.convolve(padded, np.full(SMOOTHING, 1 / SMOOTHING), mode="valid")
    top = np.flatnonzero(smooth >= smooth.max() - 1e-9)
    return int(top[np.abs(GRID[top] - near).argmin()])


def _towards(common: float, own: float, support: int) -> float:
    """Return the threshold between two, by support, on the scale of log-odds."""
    trust = support / (support + HALF_TRUST)
    odds = trust * math.log(own / (1 - own)) + (1 - trust) * math.log(common / (1 - common))
    return 1 / (1 + math.exp(-odds))


def _for_precision(probs: np.ndarray, truth: np.ndarray, *, wanted: float) -> np.ndarray:
    """Return the lowest threshold of each tag with the wanted precision; rare tags take that of all decisions."""
    common = _lowest(probs.ravel(), truth.ravel(), wanted)
    columns = zip(probs.T, truth.T, strict=True)
    return np.array([_lowest(p, y, wanted) if y.sum() >= MIN_EACH else common for p, y in columns])


def _lowest(probs: np.ndarray, truth: np.ndarray, wanted: float) -> float:
    order = np.argsort(-probs, kind="stable")
    ranked = probs[order].astype(float)
    enough = np.cumsum(truth[order]) / np.arange(2, len(probs) + 2) >= wanted  # one false alarm more than seen
    places = np.flatnonzero(enough & np.append(ranked[1:] != ranked[:-1], True))
    if not len(places):
        return 1.0
    last = int(places[-1])
    return float(ranked[last] + (ranked[last + 1] if last + 1 < len(ranked) else 0.0)) / 2


def _check_choice(
    probs: np.ndarray, targets: np.ndarray, beta: float, average: str, precision: float | None, default: float
) -> None:
    if targets.ndim != 2:
        raise ArgumentError("thresholds are for tags; with one label a picture the most probable class is taken")
    if average not in ("sample", "tag"):
        raise ArgumentError(f"average is 'sample' or 'tag'; received {average!r}")
    if not (0 < beta < math.inf and 0 < default < 1):
        raise ArgumentError(f"expected beta > 0 and 0 < default < 1; received {beta} and {default}")
    if precision is not None and not 0 < precision <= 1:
        raise ArgumentError(f"precision is a share, 0 < precision <= 1; received {precision}")
    if not (np.isfinite(probs).all() and probs.min(initial=0) >= 0 and probs.max(initial=0) <= 1):
        raise ArgumentError("thresholds are compared with probabilities in [0, 1]; these are others")
