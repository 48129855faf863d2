"""Two models on the pictures that both validated and neither trained on: what differs, and what is chance.

All differences are "the other less the first". Pictures are matched by file. A picture on which the two runs were
given different truths (it was relabelled in between) is left out and counted: there is no truth to judge both by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.intervals import Estimate, default_scores, difference
from onecycle.evaluation.interpretation import tag_counts, tag_measures
from onecycle.evaluation.slices import SURE, holm

_MOST_RELABELLED = 0.5
"""Where more of the common files than this have different truths, the names mean different pictures."""


@dataclass(frozen=True)
class Judged:
    """What one run said about its validation pictures.

    Attributes:
        name: of the run.
        files: N names.
        probs: float ``(N, C)``.
        targets: int ``(N,)``, or 0/1 ``(N, C)``.
        predicted: as ``targets``: what it decided.
        classes: C names.
        trained: names of the files that it trained on.
        groups: an id for each picture, for the intervals; None where pictures are independent.
    """

    name: str
    files: Sequence[str]
    probs: np.ndarray
    targets: np.ndarray
    predicted: np.ndarray
    classes: Sequence[str]
    trained: frozenset[str] = frozenset()
    groups: np.ndarray | None = None

    @property
    def is_multi(self) -> bool:
        """Whether a picture can have several tags."""
        return self.targets.ndim == 2


@dataclass(frozen=True)
class ClassDifference:
    """How one class fares.

    Attributes:
        name: of the class or tag.
        n: pictures that have it.
        first, other: recall of the class; for a tag F2 of the decisions; NaN where there is none.
        p_value: of McNemar's exact test, for all classes together (Holm).
    """

    name: str
    n: int
    first: float
    other: float
    p_value: float

    @property
    def change(self) -> float:
        """The other less the first."""
        return self.other - self.first

    @property
    def sure(self) -> bool:
        """Whether this is hardly chance, for all classes looked at together."""
        return self.p_value < SURE


@dataclass(frozen=True)
class ChangedPicture:
    """A picture that one of the two got wholly right and the other did not.

    Attributes:
        file: its name.
        truth, first, other: class names; of tags several.
    """

    file: str
    truth: tuple[str, ...]
    first: tuple[str, ...]
    other: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Everything that differs between two runs on their common pictures.

    Attributes:
        first, other: their names.
        n: common pictures that are judged.
        n_first, n_other: pictures that each validated.
        trained_by_other: pictures that the first validated and the other trained on; ``trained_by_first`` the reverse.
        relabelled: common pictures that have different truths.
        classes: those that both know.
        only_first, only_other: classes that only one knows; pictures of these classes are left out.
        measure: what is compared class by class.
        scores: differences with their intervals.
        per_class: the largest differences first.
        fixed: pictures that the first had wrong and the other has right.
        broken: the reverse.
    """

    first: str
    other: str
    n: int
    n_first: int
    n_other: int
    trained_by_other: int
    trained_by_first: int
    relabelled: tuple[str, ...]
    classes: tuple[str, ...]
    only_first: tuple[str, ...]
    only_other: tuple[str, ...]
    measure: str
    scores: tuple[Estimate, ...]
    per_class: tuple[ClassDifference, ...]
    fixed: tuple[ChangedPicture, ...]
    broken: tuple[ChangedPicture, ...]


def compare(first: Judged, other: Judged, *, seed: int = 0) -> Comparison:
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
    _check_kinds(first, other)
    classes = tuple(c for c in first.classes if c in set(other.classes))
    if not classes:
        raise ArgumentError(f"{first.name} and {other.name} have no class in common; nothing can be compared")
    files = _common_files(first, other)
    a, b = _aligned(first, files, classes), _aligned(other, files, classes)
    same = (a.targets == b.targets).all(axis=1) if first.is_multi else a.targets == b.targets
    known = np.ones(len(files), dtype=bool) if first.is_multi else (a.targets >= 0) & (b.targets >= 0)
    relabelled = [f for f, agree in zip(files, same, strict=True) if not agree]
    if len(relabelled) > _MOST_RELABELLED * len(files):
        raise ArgumentError(
            f"{len(relabelled)} of {len(files)} files that {first.name} and {other.name} have in common have "
            f"different labels (first: {relabelled[0]!r}); the runs seem to be of different data sets"
        )
    keep = np.flatnonzero(same & known)
    if not len(keep):
        raise ArgumentError(f"no picture that {first.name} and {other.name} both validated has a class that both know")
    a, b, kept = a.taken(keep), b.taken(keep), [files[i] for i in keep]
    wider = first.classes if len(first.classes) >= len(other.classes) else other.classes
    scores = [s for s in default_scores(len(wider), is_multi=first.is_multi) if s.name != "error rate"]
    fixed, broken = _changed(kept, a, b)
    return Comparison(
        first.name,
        other.name,
        len(kept),
        len(first.files),
        len(other.files),
        len(set(first.files) & other.trained),
        len(set(other.files) & first.trained),
        tuple(relabelled),
        classes,
        tuple(c for c in first.classes if c not in classes),
        tuple(c for c in other.classes if c not in classes),
        "F2" if first.is_multi else "recall",
        tuple(
            _within_reach(difference(s, b.probs, a.probs, a.targets, name=s.name, groups=a.groups, seed=seed))
            for s in scores
        ),
        _per_class(a, b, classes),
        fixed,
        broken,
    )


def _within_reach(e: Estimate) -> Estimate:
    """Mend the interval of a difference where few pictures, or none, differ.

    It is cut at −1 and 1, beyond which two shares cannot differ. Where no picture at all differs, resampling shows no
    spread, and yet of new pictures up to 3 in n might.

    Source: Hanley and Lippman-Hand 1983, "If nothing goes wrong, is everything all right?", for the 3 in n.
    """
    low, high = (-3 / e.n, 3 / e.n) if e.low == e.high == 0 else (e.low, e.high)
    return replace(e, low=max(low, -1.0), high=min(high, 1.0))


@dataclass(frozen=True)
class _Aligned:
    """One run on the common pictures, with the common classes first (the rest of single labels after them)."""

    names: tuple[str, ...]
    probs: np.ndarray
    targets: np.ndarray
    predicted: np.ndarray
    groups: np.ndarray | None

    def taken(self, keep: np.ndarray) -> _Aligned:
        groups = None if self.groups is None else self.groups[keep]
        return _Aligned(self.names, self.probs[keep], self.targets[keep], self.predicted[keep], groups)


def _check_kinds(first: Judged, other: Judged) -> None:
    if first.is_multi == other.is_multi:
        return
    tags, single = (first, other) if first.is_multi else (other, first)
    raise ArgumentError(
        f"{tags.name} gives several tags a picture and {single.name} one class; they cannot be compared"
    )


def _common_files(first: Judged, other: Judged) -> list[str]:
    """Return files that both validated and neither trained on (a file may be listed twice), in the first's order."""
    both = set(first.files) & set(other.files)
    fair = both - first.trained - other.trained
    if not fair:
        why = f"the {len(both)} that both validated were trained on, too" if both else "none validated in both"
        trained = len(set(first.files) & other.trained)
        hint = f"; {other.name} trained on {trained} of those that {first.name} validated" if trained else ""
        raise ArgumentError(
            f"{first.name} and {other.name} have no picture to be compared on: {why}{hint}. "
            "Train with the same data, --seed and --valid-pct, or judge both on new pictures with "
            "`onecycle evaluate RUN DATA`"
        )
    return [f for f in dict.fromkeys(first.files) if f in fair]


def _aligned(run: Judged, files: Sequence[str], classes: Sequence[str]) -> _Aligned:
    """Bring one run to the common order of pictures and classes.

    For single labels, the run's other classes follow, so that a picture given to one of them counts as wrong; a truth
    among them is −1.
    """
    at = {f: i for i, f in reversed(list(enumerate(run.files)))}
    rows = np.array([at[f] for f in files], dtype=np.int64)
    index = {c: i for i, c in enumerate(run.classes)}
    common = [index[c] for c in classes]
    groups = None if run.groups is None else run.groups[rows]
    if run.is_multi:
        probs, targets, predicted = (m[rows][:, common] for m in (run.probs, run.targets, run.predicted))
        return _Aligned(tuple(classes), probs, (targets > 0).astype(np.int64), predicted, groups)
    order = [*common, *(i for i in range(len(run.classes)) if i not in set(common))]
    place = np.argsort(order)
    targets, predicted = place[run.targets[rows]], place[run.predicted[rows]]
    targets = np.where(targets < len(common), targets, -1)
    names = tuple(str(run.classes[i]) for i in order)
    return _Aligned(names, run.probs[rows][:, order], targets, predicted, groups)


def _per_class(a: _Aligned, b: _Aligned, classes: Sequence[str]) -> tuple[ClassDifference, ...]:
    """Compare class by class, the largest differences first; classes that no picture has are left out."""
    if a.targets.ndim == 2:
        truth = a.targets > 0
        first, other = (tag_measures(tag_counts(truth, run.predicted > 0))["fbeta"] for run in (a, b))
        n, hits = truth.sum(axis=0), [(run.predicted > 0) == truth for run in (a, b)]
        p = [_mcnemar(hits[0][:, c], hits[1][:, c]) for c in range(len(classes))]
    else:
        inside = [a.targets == c for c in range(len(classes))]
        hits = [run.predicted == run.targets for run in (a, b)]
        n = np.array([i.sum() for i in inside])
        first, other = (np.array([h[i].mean() if i.any() else np.nan for i in inside]) for h in hits)
        p = [_mcnemar(hits[0][i], hits[1][i]) for i in inside]
    seen = np.flatnonzero(n > 0)
    p_values = holm(np.array(p)[seen])
    found = [
        ClassDifference(classes[int(c)], int(n[c]), float(first[c]), float(other[c]), float(together))
        for c, together in zip(seen, p_values, strict=True)
    ]
    return tuple(sorted(found, key=lambda d: -abs(d.change)))


def _mcnemar(first: np.ndarray, other: np.ndarray) -> float:
    """Return how likely so unequal numbers of gains and losses are by chance, from bool ``(N,)`` hits of both."""
    from scipy import stats

    gained, lost = int((other & ~first).sum()), int((first & ~other).sum())
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def _changed(
    files: Sequence[str], a: _Aligned, b: _Aligned
) -> tuple[tuple[ChangedPicture, ...], tuple[ChangedPicture, ...]]:
    right = [
        run.predicted == run.targets if run.targets.ndim == 1 else (run.predicted == run.targets).all(axis=1)
        for run in (a, b)
    ]

    def listed(rows: Iterable[int]) -> tuple[ChangedPicture, ...]:
        return tuple(
            ChangedPicture(
                files[i],
                _words(a.targets[i], a.names),
                _words(a.predicted[i], a.names),
                _words(b.predicted[i], b.names),
            )
            for i in rows
        )

    return (
        listed(np.flatnonzero(~right[0] & right[1]).tolist()),
        listed(np.flatnonzero(right[0] & ~right[1]).tolist()),
    )


def _words(label: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
    if np.ndim(label) == 0:
        return (str(names[int(label)]),)
    return tuple(str(names[i]) for i in np.flatnonzero(label).tolist())
