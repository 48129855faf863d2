"""Sentences on what differs: between two and more models, between parts of the pictures, and on doubtful labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.special import expit, logsumexp

from harness.truth import Claim, Counted, Sentence, Setting, Trial, at_least, at_most
from harness.truth_data import PLANET, World
from onecycle.evaluation.certainty.decisions import F2, Decisions
from onecycle.evaluation.certainty.intervals import accuracy, sample_fbeta
from onecycle.evaluation.comparison import Candidate, Comparison, compare_all
from onecycle.evaluation.label_issues import rank_labels
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.slices import find_slices, label_columns

CLASSES = (0.3, 0.25, 0.2, 0.15, 0.1)
TAGS = PLANET[:12]


def sentences() -> Iterator[Sentence]:
    """Give the sentences of this theme."""
    for is_multi in (False, True):
        for n, n_groups in ((30, 0), (200, 0), (1000, 0), (100, 5), (200, 10), (200, 20)):
            yield _equal_runs(is_multi, n, n_groups, 1, short=40 if (n, is_multi) == (200, False) else 0)
        yield _equal_runs(is_multi, 200, 0, 7)
    yield _better_run()
    for n in (200, 1000):
        yield _other_errors(n)
    yield _class_by_f2()
    for graded in (False, True):
        for n, n_groups in ((60, 0), (200, 0), (1000, 0), (200, 5), (200, 10), (200, 20), (1000, 20)):
            yield _noise_columns(graded, n, n_groups, short=40 if (n, n_groups, graded) == (200, 20, True) else 0)
    for n, n_groups in ((60, 0), (200, 0), (200, 10), (200, 20), (1000, 20)):
        yield _equal_means(n, n_groups, short=50 if (n, n_groups) == (200, 0) else 0)
    yield _bad_site()
    for is_multi in (False, True):
        yield _right_labels(is_multi, sharp=1.0, short=0 if is_multi else 10)
        yield _right_labels(is_multi, sharp=1.3)
        yield _wrong_labels(is_multi, short=0 if is_multi else 10)


# -- compare ---------------------------------------------------------------------------------------------------


def _two_looks(rng: np.random.Generator, is_multi: bool, n: int, n_groups: int, runs: int) -> list[Candidate]:
    """Return equal models on the same pictures: each sees the picture with noise of its own, groups share some."""
    shares, groups = np.array(TAGS if is_multi else CLASSES), _groups(rng, n, n_groups)
    c = len(shares)
    truth = rng.random((n, c)) < shares if is_multi else np.eye(c, dtype=bool)[rng.choice(c, n, p=shares)]
    common, own = rng.normal(size=(n, c)), [rng.normal(size=(n, c)) for _ in range(runs)]
    if groups is not None:  # what a group does to a run is what the two differ in
        shift = [rng.normal(size=(n_groups, c))[groups] for _ in range(runs)]
        own = [np.sqrt(0.75) * a + np.sqrt(0.25) * b for a, b in zip(own, shift, strict=True)]
    found = []
    for i, noise in enumerate(own):
        z = np.log(shares) + 2.5 * (2.5 * truth + np.sqrt(0.5) * (common + noise)) - (2.5**2 / 2 if is_multi else 0)
        z = z - np.log1p(-shares) if is_multi else z
        found.append(Candidate(f"run {i}", _predictions(z, truth, groups, is_multi)))
    return found


def _predictions(z: np.ndarray, truth: np.ndarray, groups: np.ndarray | None, is_multi: bool) -> Predictions:
    probs = expit(z) if is_multi else np.exp(z - logsumexp(z, axis=1, keepdims=True))
    names = tuple(f"label {i}" for i in range(z.shape[1]))
    files, targets = tuple(f"{i}.jpg" for i in range(len(z))), truth.astype(np.int64) if is_multi else truth.argmax(1)
    known = {"files": files, "classes": names, "targets": targets, "groups": groups}
    return Predictions.of(probs, is_multi=is_multi, decisions=Decisions(F2), **known)


def _groups(rng: np.random.Generator, n: int, n_groups: int) -> np.ndarray | None:
    """Return which of the groups, of unequal sizes, each picture belongs to."""
    if not n_groups:
        return None
    sizes = rng.dirichlet(np.full(n_groups, 8.0))
    return np.sort(rng.choice(n_groups, n, p=sizes))


def _says_anything(comparison: Comparison) -> bool:
    return any(s.verdict != "unclear" for s in comparison.scores) or any(c.sure for c in comparison.per_class)


def _equal_runs(is_multi: bool, n: int, n_groups: int, others: int, *, short: int = 0) -> Sentence:
    def trial(rng: np.random.Generator) -> bool:
        first, *rest = _two_looks(rng, is_multi, n, n_groups, others + 1)
        return any(map(_says_anything, compare_all(first, rest)))

    model = f"{others + 1} equal runs" + (f", {n_groups} groups" if n_groups else "")
    return _sentence(
        "better, worse or changed beyond chance, anywhere on the page",
        Setting(model, n, "12 tags" if is_multi else "5 classes"),
        trial,
        at_most(0.05),
        short=short,
        long=400,
    )


def _better_run() -> Sentence:
    """One run is right in 85 % and the other in 90 % of the pictures, each where it is by itself."""

    def trial(rng: np.random.Generator) -> bool:
        targets = rng.integers(0, 5, 1000)
        right = [rng.random(1000) < share for share in (0.85, 0.90)]
        said = [np.where(hit, targets, (targets + 1) % 5) for hit in right]
        truth = np.eye(5, dtype=bool)[targets]
        runs = [Candidate(f"{i}", _predictions(3.0 * np.eye(5)[s], truth, None, False)) for i, s in enumerate(said)]
        return compare_all(runs[0], runs[1:])[0].scores[0].verdict == "better"

    setting = Setting("accuracy .85 and .90, errors independent", 1000, "5 classes")
    return _sentence("better, by the headline", setting, trial, at_least(0.8), counted="said", short=20, long=400)


def _other_errors(n: int) -> Sentence:
    """Equal sample-F2: one run is wholly wrong on a picture in twenty, the other gives a tag too many on six in twenty.

    A tag too many beside the right one leaves 5 / 6 of the score, so that both lose 0.05.
    """

    def trial(rng: np.random.Generator) -> bool:
        at = rng.integers(0, 5, n)
        truth, beside = np.eye(5, dtype=bool)[at], np.eye(5, dtype=bool)[(at + 1) % 5]
        first = np.where(rng.random((n, 1)) < 0.05, beside, truth)
        other = truth | (beside & (rng.random((n, 1)) < 0.3))
        said = (first, other)
        runs = [Candidate(f"{i}", _predictions(6.0 * (tags - 0.5), truth, None, True)) for i, tags in enumerate(said)]
        return compare_all(runs[0], runs[1:])[0].scores[0].verdict != "unclear"

    setting = Setting("equal F2, errors seldom and large or often and small", n, "5 tags")
    return _sentence("better or worse, by the headline", setting, trial, at_most(0.05), long=400)


def _class_by_f2() -> Sentence:
    """One run misses, the other gives too many; their F2 is the same though their right decisions differ."""

    def trial(rng: np.random.Generator) -> bool:
        truth = rng.random((1000, 1)) < 0.2
        # 5·tp / (5·tp + 4·fn + fp): recall .8 and no false positive against recall 1 and one for each positive
        first = truth & (rng.random(truth.shape) < 0.8)
        other = truth | (rng.random(truth.shape) < 0.25 * (1 - truth))
        other_f = 5 * 0.2 / (5 * 0.2 + 0.25 * 0.8)
        first_f = 5 * 0.8 / (5 * 0.8 + 4 * 0.2)
        assert abs(other_f - first_f) < 1e-9
        runs = [Candidate(f"{i}", _always_and(given, truth)) for i, given in enumerate((first, other))]
        (found,) = compare_all(runs[0], runs[1:])
        return any(c.sure for c in found.per_class)

    return _sentence(
        "a tag's F2 changed beyond chance",
        Setting("equal F2, other precision and recall", 1000, "2 tags"),
        trial,
        at_most(0.05),
        long=400,
    )


def _always_and(given: np.ndarray, truth: np.ndarray) -> Predictions:
    """Return one tag's decisions, beside a tag that every picture has and gets."""
    both = [np.concatenate([tag, np.ones_like(tag)], axis=1) for tag in (given, truth)]
    return _predictions(6.0 * (both[0] - 0.5), both[1], None, True)


# -- slices ----------------------------------------------------------------------------------------------------


def _noise_columns(graded: bool, n: int, n_groups: int, *, short: int) -> Sentence:
    """Columns drawn by picture and by group, and the labels themselves where the model is as good for each."""

    def trial(rng: np.random.Generator) -> bool:
        groups = _groups(rng, n, n_groups)
        own = np.full(n, 0.8) if groups is None else rng.beta(2.4, 0.6, n_groups)[groups]  # ICC .25
        columns = {f"picture {i}": rng.integers(0, 3, n) for i in range(4)}
        if groups is not None:
            columns |= {f"group {i}": rng.integers(0, k, n_groups)[groups] for i, k in enumerate((2, 2, 3, 4))}
        if graded:
            truth = (rng.random((n, 6)) < 0.4).astype(np.int64)
            truth[:, 0] = 1
            flipped = rng.random(truth.shape) > 0.5 + 0.5 * own[:, None]
            probs, targets, score = np.abs(truth - flipped) * 0.8 + 0.1, truth, sample_fbeta()
        else:
            targets = rng.integers(0, 4, n)
            said = np.where(rng.random(n) < own, targets, (targets + 1) % 4)
            probs, score = np.eye(4)[said], accuracy()
            columns |= label_columns(targets, "abcd")
        return bool(find_slices(score, probs, targets, columns, groups=groups).worse)

    model = "columns of noise" + (f", {n_groups} groups" if n_groups else "")
    setting = Setting(model, n, "sample-F2" if graded else "accuracy")
    return _sentence("a part is worse beyond chance", setting, trial, at_most(0.05), short=short, long=400)


def _equal_means(n: int, n_groups: int, *, short: int = 0) -> Sentence:
    """A part whose scores spread otherwise than the rest's, about the same mean: the permutation is not exact there."""

    def trial(rng: np.random.Generator) -> bool:
        groups, share = _groups(rng, n, n_groups), rng.choice([0.1, 0.3, 0.5])
        # F2 of pictures with one of one tag right (1 or 0), against four tags of which some are given: mean .8 each
        own, inside = np.full(n, 0.8), rng.random(n) < share
        if groups is not None:
            own = rng.beta(2.4, 0.6, n_groups)[groups]  # ICC .25
            inside = (rng.permutation(n_groups) < max(2, round(share * n_groups)))[groups]
        graded = 0.8 + 0.4 * (rng.beta(10 * own, 10 * (1 - own) + 1e-3) - 0.8) if n_groups else rng.beta(8, 2, n)
        values = np.where(inside, rng.random(n) < own, graded)
        score = replace(accuracy(), rows=lambda p, _: np.stack([p[:, 0], np.ones(len(p))], axis=1))
        columns = {"part": inside}
        return bool(find_slices(score, values[:, None], np.zeros(n, dtype=np.int64), columns, groups=groups).worse)

    model = "equal means, other spread" + (f", {n_groups} groups" if n_groups else "")
    return _sentence(
        "a part is worse beyond chance", Setting(model, n, "graded scores"), trial, at_most(0.05), short=short
    )


def _bad_site() -> Sentence:
    """Four of sixteen groups belong to a site where the model is right in 60 % instead of 90 %.

    The claim is no higher, as four groups say little of how groups of the site differ, and a part of few groups that
    differ much must not be named more often than it is worse.
    """

    def trial(rng: np.random.Generator) -> bool:
        groups, targets = np.arange(480) // 30, rng.integers(0, 4, 480)
        own = rng.beta(*np.where(np.arange(16) < 4, ((12.0,), (8.0,)), ((18.0,), (2.0,))))[groups]
        said = np.where(rng.random(480) < own, targets, (targets + 1) % 4)
        columns = {"site": np.where(groups < 4, "B", "A"), "camera": rng.integers(0, 2, 480)}
        return bool(find_slices(accuracy(), np.eye(4)[said], targets, columns, groups=groups).worse)

    setting = Setting("right in .6 on site B, .9 elsewhere, 16 groups", 480, "accuracy")
    return _sentence("a part is worse beyond chance", setting, trial, at_least(0.6), counted="said", short=20, long=400)


# -- labels ----------------------------------------------------------------------------------------------------

_LABELS = (0.1,) * 10
_LABEL_TAGS = (0.6, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.03)


def _right_labels(is_multi: bool, *, sharp: float, short: int = 0) -> Sentence:
    world = World(shares=_LABEL_TAGS if is_multi else _LABELS, is_multi=is_multi, model="very good", sharp=sharp)

    def trial(rng: np.random.Generator) -> bool:
        p = world.draw(rng, 1000)
        return rank_labels(p.probs, p.known_targets, seed=int(rng.integers(1 << 30))).doubts.excess > 0

    words = "as sure as they are right" if sharp == 1 else "too sure of themselves (log-odds × 1.3)"
    setting = Setting(f"heads {words}", 1000, "8 tags" if is_multi else "10 classes")
    says = "more labels look doubtful than if all were right, which they are"
    return _sentence(says, setting, trial, at_most(0.05), short=short, long=200)


def _wrong_labels(is_multi: bool, *, short: int) -> Sentence:
    """Five in a hundred labels, or of a tag's positives and as many negatives, are wrong."""
    world = World(shares=_LABEL_TAGS if is_multi else _LABELS, is_multi=is_multi, model="very good")

    def trial(rng: np.random.Generator) -> bool:
        p = world.draw(rng, 1000)
        given, planted = (_flipped_tags if is_multi else _flipped_classes)(rng, p.known_targets)
        doubts = rank_labels(p.probs, given, seed=int(rng.integers(1 << 30))).doubts
        return bool(abs(doubts.excess - planted) <= 0.3 * planted)

    setting = Setting("5 % planted", 1000, "8 tags" if is_multi else "10 classes")
    says = "so many more look doubtful: within 30 % of the planted number"
    return _sentence(says, setting, trial, at_least(0.9), counted="covers", short=short, long=200)


def _flipped_classes(rng: np.random.Generator, targets: np.ndarray) -> tuple[np.ndarray, int]:
    at = rng.permutation(len(targets))[: len(targets) // 20]
    given = targets.copy()
    given[at] = (given[at] + rng.integers(1, 10, len(at))) % 10
    return given, len(at)


def _flipped_tags(rng: np.random.Generator, targets: np.ndarray) -> tuple[np.ndarray, int]:
    given, n = targets.copy(), round(0.05 * int(targets.sum()))
    for value in (0, 1):
        at = rng.permutation(np.argwhere(targets == value))[:n]
        given[tuple(at.T)] = 1 - value
    return given, 2 * n


def _sentence(
    says: str,
    setting: Setting,
    trial: Trial,
    claim: Claim,
    *,
    counted: Counted = "wrong",
    short: int = 0,
    long: int = 1000,
) -> Sentence:
    return Sentence(says=says, setting=setting, counted=counted, trial=trial, claim=claim, long=long, short=short)
