"""Models on the pictures that all validated and none trained on: what differs from the first, and what is chance.

All differences are "the other less the first". Pictures are matched by file. A picture on which the two runs were
given different truths (it was relabelled in between) is left out and counted: there is no truth to judge both by.

What is compared are the weights that came out of these trainings. Whether a recipe is better than another takes
several seeds of each (Bouthillier et al. 2021, "Accounting for variance in machine learning benchmarks").

A page makes many statements: a verdict for each run by the headline score, other scores, every class. That any of them
is chance happens on at most one page in twenty: see ``together``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.decisions import Decisions
from onecycle.evaluation.certainty.intervals import (
    LEVEL,
    Estimate,
    SumScore,
    WeightedScore,
    default_scores,
    difference,
    wilson,
)
from onecycle.evaluation.certainty.significance import SURE, flip_p_values, holm, unit_numbers, unit_sums
from onecycle.evaluation.class_table import class_rows, ranked_by
from onecycle.evaluation.headline import fair_decisions, headline_score
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.scores import ratio

_MOST_RELABELLED = 0.5
"""Where more of the common files than this have different truths, the names mean different pictures."""

HEADLINE_SHARE = 0.8
"""Of the one page in twenty with a false statement, what the verdicts by the headline score may use up."""


@dataclass(frozen=True)
class Candidate:
    """A run to compare: what it says about its validation pictures, and what it trained on."""

    name: str
    predictions: Predictions
    trained: frozenset[str] = frozenset()  # names of the files that it trained on


@dataclass(frozen=True, kw_only=True)
class Difference(Estimate):
    """A difference of one score, with the p-value of all that a page says together."""

    p_value: float

    @property
    def verdict(self) -> str:
        """Whether the other is "better" or "worse" beyond chance, else "unclear"."""
        if not self.p_value < SURE or not self.value:
            return "unclear"
        return "better" if self.value > 0 else "worse"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        return {**super().to_dict(), "p_value": self.p_value, "verdict": self.verdict}


@dataclass(frozen=True)
class ClassDifference:
    """How one class fares."""

    name: str  # of the class or tag
    n: int  # pictures that have it
    first: float  # recall of the class; for a tag F of the decisions; NaN where there is none
    other: float  # the same of the other run
    p_value: float  # of this difference, for all that a page says together

    @property
    def change(self) -> float:
        """The other less the first."""
        return self.other - self.first

    @property
    def sure(self) -> bool:
        """Whether this is hardly chance, for all that a page says together."""
        return self.p_value < SURE


@dataclass(frozen=True)
class ChangedPicture:
    """A picture that one of the two got wholly right and the other did not."""

    file: str  # its name
    truth: tuple[str, ...]  # class names; of tags several
    first: tuple[str, ...]  # what the first decided
    other: tuple[str, ...]  # what the other decided


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that differs between two runs on their common pictures.

    How each sentence is tested, and how often it was right in simulation: ``docs/how-numbers-are-made.md``.
    """

    first: str  # names of the runs
    other: str
    n: int  # common pictures that are judged
    n_first: int  # pictures that the first validated
    n_other: int  # pictures that the other validated
    trained_by_other: int  # pictures that the first validated and the other trained on
    trained_by_first: int  # the reverse
    relabelled: tuple[str, ...]  # common pictures that have different truths
    classes: tuple[str, ...]  # those that both know
    only_first: tuple[str, ...]  # classes that only the first knows; pictures of these are left out
    only_other: tuple[str, ...]  # classes that only the other knows
    measure: str  # what is compared class by class
    decided_for: tuple[str, str]  # what each decides about tags for; the first's measure judges both; "" for classes
    scores: tuple[Difference, ...]  # with their intervals, the headline's first: the verdict
    per_class: tuple[ClassDifference, ...]  # the largest differences first
    fixed: tuple[ChangedPicture, ...]  # pictures that the first had wrong and the other has right
    broken: tuple[ChangedPicture, ...]  # the reverse


def compare(first: Candidate, other: Candidate, *, seed: int = 0) -> Comparison:
    """Compare two runs on the pictures that both validated and neither trained on; see ``compare_all``."""
    return compare_all(first, [other], seed=seed)[0]


def compare_all(first: Candidate, others: Sequence[Candidate], *, seed: int = 0) -> list[Comparison]:
    """Compare each run with the first, on the pictures that both validated and neither trained on.

    Args:
        first, others: what each said; classes that only one knows are left out, with their pictures (of tags: the tags
            alone).
        seed: of the intervals and the drawn flips.

    Raises:
        ArgumentError: tags against single labels, no class or no picture in common, or names that mean other pictures.

    Source: ``significance.flip_p_values`` for each difference; intervals as ``intervals.difference``; ``together``.
    """
    return together([_compared(first, other, seed) for other in others])


def together(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Correct the p-values of all that one page says, so that any of it is chance on at most one page in twenty.

    The headline's verdicts on all runs are one family and get four fifths of the error; other scores and classes of all
    runs are the other. Holm within each; where every run differs in the headline, the others get all of it.

    Source: Holm 1979; several runs against one, Demšar 2006, "Statistical comparisons of classifiers over multiple data
        sets"; the families, Wiens 2003, "A fixed sequence Bonferroni procedure for testing multiple endpoints".
    """
    first = holm(np.array([c.scores[0].p_value for c in comparisons])) / HEADLINE_SHARE
    others = [p for c in comparisons for p in (*(s.p_value for s in c.scores[1:]), *(d.p_value for d in c.per_class))]
    rest = holm(np.array(others))
    passed = np.maximum(rest, first.max(initial=0.0))
    left = iter(np.minimum(np.minimum(rest / (1 - HEADLINE_SHARE), passed), 1.0).tolist())
    corrected = []
    for c, p in zip(comparisons, np.minimum(first, 1.0).tolist(), strict=True):
        scores = (replace(c.scores[0], p_value=p), *(replace(s, p_value=next(left)) for s in c.scores[1:]))
        per_class = tuple(replace(d, p_value=next(left)) for d in c.per_class)
        corrected.append(replace(c, scores=scores, per_class=per_class))
    return corrected


def _compared(first: Candidate, other: Candidate, seed: int) -> Comparison:
    """Compare two runs; p-values are those of each difference for itself."""
    mine, theirs = first.predictions, other.predictions
    if mine.is_multi != theirs.is_multi:
        tags, single = (c.name for c in ((first, other) if mine.is_multi else (other, first)))
        raise ArgumentError(f"{tags} gives several tags a picture and {single} one class; they cannot be compared")
    classes = tuple(c for c in mine.classes if c in set(theirs.classes))
    if not classes:
        raise ArgumentError(f"{first.name} and {other.name} have no class in common; nothing can be compared")
    files = _common_files(first, other)
    a, b = _aligned(mine, files, classes), _aligned(theirs, files, classes)
    same = _rows_equal(a.known_targets, b.known_targets)
    known = np.ones(len(files), dtype=bool) if a.is_multi else (a.known_targets >= 0) & (b.known_targets >= 0)
    relabelled = [f for f, agree in zip(files, same, strict=True) if not agree]
    if len(relabelled) > _MOST_RELABELLED * len(files):
        raise ArgumentError(
            f"{len(relabelled)} of {len(files)} files that {first.name} and {other.name} have in common have "
            f"different labels (first: {relabelled[0]!r}); the runs seem to be of different data sets"
        )
    at = np.flatnonzero(same & known)
    if not len(at):
        raise ArgumentError(f"no picture that {first.name} and {other.name} both validated has a class that both know")
    a, b = a.taken(at), b.taken(at)
    fixed, broken = _changed(a, b)
    return Comparison(
        first=first.name,
        other=other.name,
        n=len(a),
        n_first=len(mine),
        n_other=len(theirs),
        trained_by_other=len(set(mine.files) & other.trained),
        trained_by_first=len(set(theirs.files) & first.trained),
        relabelled=tuple(relabelled),
        classes=classes,
        only_first=tuple(c for c in mine.classes if c not in classes),
        only_other=tuple(c for c in theirs.classes if c not in classes),
        measure=f"F{a.beta:g}" if a.is_multi else "recall",
        decided_for=(_decided_for(mine), _decided_for(theirs)),
        scores=tuple(_differences(a, b, max(len(mine.classes), len(theirs.classes)), seed, _first_name(mine, theirs))),
        per_class=_per_class(a, b, len(classes), seed),
        fixed=fixed,
        broken=broken,
    )


def _differences(a: Predictions, b: Predictions, n_classes: int, seed: int, name: str) -> list[Difference]:
    """Return the differences in each score, first in the headline's: of tags as they are decided, called ``name``."""
    scores = default_scores(n_classes, is_multi=a.is_multi)
    pairs: list[tuple[str, WeightedScore, np.ndarray, np.ndarray]]
    pairs = [(s.name, s, b.probs, a.probs) for s in scores if s.name != "error rate"]
    if a.is_multi and a.held_out is not None and b.held_out is not None:
        pairs = [pair for pair in pairs if pair[0] != name]  # it reads the same probabilities at the same threshold
        pairs.insert(0, (name, a.decisions.reported.score(), b.held_out.astype(float), a.held_out.astype(float)))
    found, units = [], unit_numbers(a.groups, len(a))
    for name, score, other, own in pairs:
        e = difference(score, other, own, a.known_targets, name=name, groups=a.groups, seed=seed)
        if isinstance(score, SumScore):
            added = _contributions(score, other, own, a.known_targets)
            p = float(flip_p_values(unit_sums(added[:, None], units), seed=seed)[0])
        else:
            p = _p_of_interval(e, int(units.max()) + 1)
        found.append(Difference(**vars(_within_reach(e, int(units.max()) + 1)), p_value=p))
    return found


def _decided_for(p: Predictions) -> str:
    return str(p.decisions.reported) if p.is_multi else ""


def _first_name(mine: Predictions, theirs: Predictions) -> str:
    """Return what the first score of two runs is called: by the measure of the first, and how tags are decided."""
    names = [headline_score(p).name for p in (mine, theirs) if p.is_multi]
    if len(set(names)) == 1:
        return names[0]
    return str(mine.decisions.reported.score().name)


def _contributions(score: SumScore, other: np.ndarray, own: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return what each picture adds to a difference of scores, float ``(N,)``.

    A score of sums is taken as linear at the sums of both together, which swapping the two leaves as they are; of a
    mean or a ratio, the sum of what is added is then 0 exactly where the two scores are equal.
    """
    first, second = score.rows(own, targets), score.rows(other, targets)
    both = first.sum(axis=0) + second.sum(axis=0)
    step = 1e-3 * max(1.0, float(np.abs(both).max()))
    slopes = (score.total(both + step * np.eye(len(both))) - score.total(both - step * np.eye(len(both)))) / (2 * step)
    return np.asarray((second - first) @ np.nan_to_num(slopes))


def _p_of_interval(e: Estimate, n_units: int) -> float:
    """Return the p-value of a difference by the spread that its interval shows: value ± t · spread."""
    from scipy.special import stdtr, stdtrit

    half = (e.high - e.low) / 2
    if not 0 < half < np.inf:
        return 1.0
    return float(2 * stdtr(n_units - 1, -abs(e.value) * stdtrit(n_units - 1, (1 + LEVEL) / 2) / half))


def _within_reach(e: Estimate, n_units: int) -> Estimate:
    """Mend the interval of a difference where few pictures, or none, differ.

    It is cut at −1 and 1, beyond which two shares cannot differ. Where resampling shows no spread, nothing is known but
    how many units there are: where none differs, up to 3 in n of new ones might; where all differ alike, the interval
    is Wilson's of so many.

    Source: Hanley and Lippman-Hand 1983, "If nothing goes wrong, is everything all right?", for the 3 in n.
    """
    from scipy.special import stdtrit

    low, high = e.low, e.high
    if high - low < 1e-9:
        if e.value == 0:
            low, high = -3 / n_units, 3 / n_units
        else:
            ends = wilson((1 + e.value) / 2, n_units, float(stdtrit(max(n_units - 1, 1), (1 + LEVEL) / 2)))
            low, high = (float(2 * end - 1) for end in ends)
    return replace(e, low=max(low, -1.0), high=min(high, 1.0))


def _common_files(first: Candidate, other: Candidate) -> list[str]:
    """Return files that both validated and neither trained on (a file may be listed twice), in the first's order."""
    mine = first.predictions.files
    both = set(mine) & set(other.predictions.files)
    fair = both - first.trained - other.trained
    if not fair:
        why = f"the {len(both)} that both validated were trained on, too" if both else "none validated in both"
        trained = len(set(mine) & other.trained)
        hint = f"; {other.name} trained on {trained} of those that {first.name} validated" if trained else ""
        raise ArgumentError(
            f"{first.name} and {other.name} have no picture to be compared on: {why}{hint}. Train with the same data, "
            "--seed and --valid-pct, or judge both on new pictures with `onecycle evaluate RUN DATA`"
        )
    return [f for f in dict.fromkeys(mine) if f in fair]


def _aligned(p: Predictions, files: Sequence[str], classes: Sequence[str]) -> Predictions:
    """Bring one run to the common order of pictures and classes, with the truth and what was decided.

    For single labels, the run's other classes follow, so that a picture given to one of them counts as wrong; a truth
    among them is −1.
    """
    at = {f: i for i, f in reversed(list(enumerate(p.files)))}
    p = replace(p, held_out=fair_decisions(p) if p.is_multi else None).taken(
        np.array([at[f] for f in files], dtype=np.int64)
    )
    index = {c: i for i, c in enumerate(p.classes)}
    order = [index[c] for c in classes]
    if p.is_multi:
        decided, targets = p.decided[:, order], (p.known_targets[:, order] > 0).astype(np.int64)
    else:
        order += [i for i in range(len(p.classes)) if i not in set(order)]
        decided, targets = (np.argsort(order)[labels] for labels in (p.decided, p.known_targets))
        targets = np.where(targets < len(classes), targets, -1)
    return replace(
        p,
        classes=tuple(p.classes[i] for i in order),
        probs=p.probs[:, order],
        held_out=None if p.held_out is None else p.held_out[:, order],
        decided=decided,
        targets=targets,
        shown=None,
        decisions=Decisions(p.decisions.measure),
        train_counts=None,
    )


def _per_class(a: Predictions, b: Predictions, n_common: int, seed: int) -> tuple[ClassDifference, ...]:
    """Compare the first classes, which both know, the largest differences first; those without a picture are left out.

    What is shown is what is tested: the recall of a class on the pictures that have it, the F of a tag on all.
    """
    tables = [class_rows(run, beta=a.beta, intervals=False)[:n_common] for run in (a, b)]
    rows = [pair for pair in zip(*tables, strict=True) if pair[0].support]
    score = partial(ranked_by, is_multi=a.is_multi)
    added = _added_to_f(a, b) if a.is_multi else (b.predicted & a.truth).astype(float) - (a.predicted & a.truth)
    added = added[:, [row.index for row, _ in rows]]
    p_values = flip_p_values(unit_sums(added, unit_numbers(a.groups, len(a))), seed=seed).tolist()
    differences = [
        ClassDifference(one.name, one.support, score(one), score(two), p_value)
        for (one, two), p_value in zip(rows, p_values, strict=True)
    ]
    return tuple(sorted(differences, key=lambda d: -abs(d.change)))


def _added_to_f(a: Predictions, b: Predictions) -> np.ndarray:
    """Return what each picture adds to the difference in each tag's F, float ``(N, C)``.

    With F = (1+β²)·tp / ((1+β²)·tp + β²·fn + fp) of both runs together, a picture speaks for a run by (1+β²)·tp less F
    times its part of the divisor. The sum of it is above 0 exactly where the other run's F is above the first's.
    """
    weight = 1 + a.beta**2

    def terms(run: Predictions) -> tuple[np.ndarray, np.ndarray]:
        hits = weight * (run.predicted & a.truth)
        return hits, hits + a.beta**2 * (a.truth & ~run.predicted) + (run.predicted & ~a.truth)

    (hits, size), (its_hits, its_size) = terms(a), terms(b)
    both = ratio((hits + its_hits).sum(axis=0), (size + its_size).sum(axis=0), empty=0.0)
    return np.asarray((its_hits - hits) - both * (its_size - size))


def _changed(a: Predictions, b: Predictions) -> tuple[tuple[ChangedPicture, ...], tuple[ChangedPicture, ...]]:
    """Return the pictures that the first had wrong and the other has right, and the reverse."""
    truth = a.known_targets
    right = [_rows_equal(run.decided, truth) for run in (a, b)]

    def listed(rows: np.ndarray) -> tuple[ChangedPicture, ...]:
        return tuple(
            ChangedPicture(a.files[i], a.names_of(truth[i]), a.names_of(a.decided[i]), b.names_of(b.decided[i]))
            for i in rows.tolist()
        )

    return listed(np.flatnonzero(~right[0] & right[1])), listed(np.flatnonzero(right[0] & ~right[1]))


def _rows_equal(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return for each picture whether two labels are wholly the same, bool ``(N,)``."""
    return np.asarray((one == two) if one.ndim == 1 else (one == two).all(axis=1))
