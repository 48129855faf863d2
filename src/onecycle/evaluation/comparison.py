"""Two models on the pictures that both validated and neither trained on: what differs, and what is chance.

All differences are "the other less the first". Pictures are matched by file. A picture on which the two runs were
given different truths (it was relabelled in between) is left out and counted: there is no truth to judge both by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.intervals import Estimate, default_scores, difference, sample_fbeta
from onecycle.evaluation.class_table import class_rows, ranked_by
from onecycle.evaluation.headline import AT_CHOSEN, held_out_decisions
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.certainty.significance import SURE, holm

_MOST_RELABELLED = 0.5
"""Where more of the common files than this have different truths, the names mean different pictures."""


@dataclass(frozen=True)
class Candidate:
    """A run to compare: what it says about its validation pictures, and what it trained on."""

    name: str
    predictions: Predictions
    trained: frozenset[str] = frozenset()  # names of the files that it trained on


@dataclass(frozen=True)
class ClassDifference:
    """How one class fares."""

    name: str  # of the class or tag
    n: int  # pictures that have it
    first: float  # recall of the class; for a tag F2 of the decisions; NaN where there is none
    other: float  # the same of the other run
    p_value: float  # of McNemar's exact test, for all classes together (Holm)

    @property
    def change(self) -> float:
        """The other less the first."""
        return self.other - self.first

    @property
    def sure(self) -> bool:
        """Whether this is hardly chance, for all classes tested together."""
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
    """Everything that differs between two runs on their common pictures."""

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
    scores: tuple[Estimate, ...]  # differences with their intervals, the headline's first
    per_class: tuple[ClassDifference, ...]  # the largest differences first
    fixed: tuple[ChangedPicture, ...]  # pictures that the first had wrong and the other has right
    broken: tuple[ChangedPicture, ...]  # the reverse


def compare(first: Candidate, other: Candidate, *, seed: int = 0) -> Comparison:
    """Compare two runs on the pictures that both validated and neither trained on.

    Args:
        first, other: what each said; classes that only one knows are left out, with their pictures (of tags: the tags
            alone).
        seed: of the intervals.

    Raises:
        ArgumentError: tags against single labels, no class or no picture in common, or names that mean other pictures.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions"; Holm as in
        ``slices``; intervals as ``intervals.difference``.
    """
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
        measure="F2" if a.is_multi else "recall",
        scores=tuple(_differences(a, b, max(len(mine.classes), len(theirs.classes)), seed)),
        per_class=_per_class(a, b, len(classes)),
        fixed=fixed,
        broken=broken,
    )


def _differences(a: Predictions, b: Predictions, n_classes: int, seed: int) -> list[Estimate]:
    """Return the differences in each score, first in the headline's: of tags at chosen thresholds, held out."""
    scores = default_scores(n_classes, is_multi=a.is_multi)
    pairs = [(s.name, s, b.probs, a.probs) for s in scores if s.name != "error rate"]
    if a.held_out is not None and b.held_out is not None:
        name, score = f"sample-F{a.beta:g} {AT_CHOSEN}", sample_fbeta(a.beta, 0.5)
        pairs.insert(0, (name, score, b.held_out.astype(float), a.held_out.astype(float)))
    return [
        _within_reach(difference(s, other, own, a.known_targets, name=name, groups=a.groups, seed=seed))
        for name, s, other, own in pairs
    ]


def _within_reach(e: Estimate) -> Estimate:
    """Mend the interval of a difference where few pictures, or none, differ.

    It is cut at −1 and 1, beyond which two shares cannot differ. Where no picture at all differs, resampling shows no
    spread, and yet of new pictures up to 3 in n might.

    Source: Hanley and Lippman-Hand 1983, "If nothing goes wrong, is everything all right?", for the 3 in n.
    """
    low, high = (-3 / e.n, 3 / e.n) if e.low == e.high == 0 else (e.low, e.high)
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
    held_out = held_out_decisions(p)
    p = replace(p, held_out=held_out).taken(np.array([at[f] for f in files], dtype=np.int64))
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
        thresholds=None,
        train_counts=None,
    )


def _per_class(a: Predictions, b: Predictions, n_common: int) -> tuple[ClassDifference, ...]:
    """Compare the first classes, which both know, the largest differences first; those without a picture are left out.

    Tags are right or wrong on every picture; classes are compared on the pictures that have them.
    """
    tables = [class_rows(run, intervals=False)[:n_common] for run in (a, b)]
    rows = [pair for pair in zip(*tables, strict=True) if pair[0].support]
    hits = [run.predicted[:, :n_common] == a.truth[:, :n_common] for run in (a, b)]
    score = partial(ranked_by, is_multi=a.is_multi)
    at = [(slice(None) if a.is_multi else a.truth[:, row.index], row.index) for row, _ in rows]
    p_values = holm(np.array([_mcnemar(*(h[where] for h in hits)) for where in at])).tolist()
    differences = [
        ClassDifference(one.name, one.support, score(one), score(two), p_value)
        for (one, two), p_value in zip(rows, p_values, strict=True)
    ]
    return tuple(sorted(differences, key=lambda d: -abs(d.change)))


def _mcnemar(first: np.ndarray, other: np.ndarray) -> float:
    """Return how likely so unequal numbers of gains and losses are by chance, from bool ``(N,)`` hits of both."""
    from scipy import stats

    gained, lost = int((other & ~first).sum()), int((first & ~other).sum())
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


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
