"""Sentences on the scores of the report: each 95 % interval holds the score over all such pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Protocol

import numpy as np
from scipy.special import expit, logit

from harness.truth import Claim, Sentence, Setting, at_least, at_most, between
from harness.truth_data import EVEN_TAGS, PLANET, World, with_thresholds
from onecycle.evaluation.certainty.intervals import (
    MacroAveragePrecision,
    WeightedScore,
    accuracy,
    difference,
    estimate,
    micro_fbeta,
    micro_precision,
    micro_recall,
    sample_fbeta,
    top_k_accuracy,
)
from onecycle.evaluation.class_table import class_rows
from onecycle.evaluation.headline import headline
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.report.verdict import GOOD, grade_classes

CLASSES = (0.4, 0.25, 0.15, 0.1, 0.1)
MANY_CLASSES = (0.25, 0.15, 0.1, 0.1, 0.08, 0.08, 0.06, 0.06, 0.04, 0.04, 0.02, 0.02)
SIZES = (30, 60, 200, 1000)
GROUPED = ((200, 5), (200, 20), (200, 25), (1000, 20))
INDEPENDENT, IN_GROUPS = between(0.92, 0.98), between(0.90, 0.98)
SOME = 50_000  # pictures of the population that thresholds are judged on in each trial


class Interval(Protocol):
    """What is printed with an interval."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def sentences() -> Iterator[Sentence]:
    """Give the sentences of this theme."""
    yield from _of_accuracy()
    yield from _of_tags()
    yield from _at_chosen_thresholds()
    yield from _of_differences()
    for model in ("mediocre", "good"):
        for n, per_group in ((200, 1), (1000, 1), (200, 5), (1000, 20)):
            yield _trusted_page(model, n, per_group)


def covers(
    says: str,
    world: World,
    n: int,
    shown: Callable[[Predictions], Interval],
    truth: Callable[[], float],
    *,
    labels: str,
    claim: Claim | None = None,
    long: int = 1000,
    short: int = 0,
) -> Sentence:
    """Return the sentence that an interval holds the truth; an interval that is not shown does not count.

    Args:
        says: the number.
        world, n: of the pictures.
        shown: what the page prints.
        truth: gives the same number over the population; asked once.
        labels: in words.
        claim: default 92 to 98 %, with groups 90 to 98 %; a perfect model's interval may always hold it.
        long, short: trials.
    """

    known = cache(truth)

    def trial(rng: np.random.Generator) -> bool | None:
        found = shown(world.draw(rng, n))
        return None if math.isnan(found.low + found.high) else found.low <= known() <= found.high

    usual = INDEPENDENT if world.per_group == 1 else IN_GROUPS
    if world.model == "perfect":
        usual = at_least(usual.low)
    return Sentence(
        says=f"{says}: 95 % interval",
        setting=Setting(world.model, n, labels, world.per_group),
        counted="covers",
        trial=trial,
        claim=claim or usual,
        long=min(long, 300) if n >= 1000 else long,
        short=short,
    )


def _of_accuracy() -> Iterator[Sentence]:
    def sentence(model: str, n: int, per_group: int = 1, short: int = 0) -> Sentence:
        world = World(shares=CLASSES, is_multi=False, model=model, per_group=per_group)
        return covers(
            "accuracy", world, n, headline, lambda: world.true_score(accuracy()), labels="5 classes", short=short
        )

    for n in SIZES:
        yield sentence("good", n, short=100 if n == 60 else 0)
    for model in ("blind", "mediocre", "very good", "perfect"):
        yield sentence(model, 60)
        yield sentence(model, 200)
    for n, per_group in GROUPED:
        yield sentence("good", n, per_group, short=100 if per_group == 5 else 0)
    many = World(shares=MANY_CLASSES, is_multi=False, model="mediocre")
    for n in SIZES[1:]:
        score = top_k_accuracy(5)
        yield covers(
            "top-5 accuracy", many, n, _estimated(score), lambda s=score: many.true_score(s), labels="12 classes"
        )


def _of_tags() -> Iterator[Sentence]:
    scores = {
        "sample-F2 at 0.2": sample_fbeta(),
        "micro-F1 at 0.5": micro_fbeta(),
        "precision, all decisions": micro_precision(),
        "recall, all decisions": micro_recall(),
    }
    sizes = [(n, 1) for n in SIZES] + list(GROUPED)
    for name, score in scores.items():
        for n, per_group in sizes:
            world = World(shares=PLANET, is_multi=True, per_group=per_group)
            yield covers(
                name,
                world,
                n,
                _estimated(score),
                lambda w=world, s=score: w.true_score(s),
                labels="17 tags as in Planet",
                long=500,
                short=60 if (n, name) == (60, "sample-F2 at 0.2") else 0,
            )
    for model in ("blind", "mediocre", "perfect"):
        world = World(shares=PLANET, is_multi=True, model=model)
        yield covers(
            "sample-F2 at 0.2",
            world,
            200,
            headline,
            lambda w=world: w.true_score(sample_fbeta()),
            labels="17 tags as in Planet",
        )


def _at_chosen_thresholds() -> Iterator[Sentence]:
    """Give those on the headline whose thresholds were chosen on the pictures that it is of."""

    def truth(p: Predictions, world: World) -> float:
        assert p.thresholds is not None
        many = world.population()
        decided = p.thresholds.decide(many.probs[:SOME]).astype(float)
        return float(sample_fbeta(2, 0.5).weighted(decided, many.known_targets[:SOME], np.ones((1, SOME)))[0])

    for shares, labels in ((EVEN_TAGS, "5 tags of 20 to 40 %"), (PLANET, "17 tags as in Planet")):
        for n, per_group in ((60, 1), (200, 1), (1000, 1), (200, 5), (200, 20)):
            world = World(shares=shares, is_multi=True, per_group=per_group)

            def trial(rng: np.random.Generator, world: World = world, n: int = n) -> bool:
                p = with_thresholds(world.draw(rng, n))
                found = headline(p)
                return found.low <= truth(p, world) <= found.high

            yield Sentence(
                says="sample-F2 at chosen thresholds: 95 % interval",
                setting=Setting("good", n, labels, per_group),
                counted="covers",
                trial=trial,
                claim=INDEPENDENT if per_group == 1 else IN_GROUPS,
                long=150 if n < 1000 else 60,
                short=15 if (n, per_group, shares) == (60, 1, EVEN_TAGS) else 0,
            )


def _of_differences() -> Iterator[Sentence]:
    """Give those on the difference of two models on the same pictures: one is the other with noise on its log-odds."""
    for score in (sample_fbeta(), MacroAveragePrecision()):
        for n, per_group in ((60, 1), (200, 1), (1000, 1), (200, 5), (1000, 20)):
            yield _difference(score, n, per_group)


def _difference(score: WeightedScore, n: int, per_group: int) -> Sentence:
    world = World(shares=EVEN_TAGS, is_multi=True, per_group=per_group)

    def noisy(p: Predictions, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(expit(logit(p.probs.astype(float)) + rng.normal(0, 1.5, p.probs.shape)))

    @cache
    def truth() -> float:
        p = world.population()
        once, worse = np.ones((1, len(p))), noisy(p, np.random.default_rng(1))
        values = [score.weighted(probs, p.known_targets, once)[0] for probs in (p.probs, worse)]
        return float(values[0] - values[1])

    def trial(rng: np.random.Generator) -> bool:
        p = world.draw(rng, n)
        found = difference(score, p.probs, noisy(p, rng), p.known_targets, groups=p.groups)
        return found.low <= truth() <= found.high

    return Sentence(
        says=f"difference in {score.name}: 95 % interval",
        setting=Setting("good, and the same with noise", n, "5 tags of 20 to 40 %", per_group),
        counted="covers",
        trial=trial,
        claim=INDEPENDENT if per_group == 1 else IN_GROUPS,
        long=400,
        short=40 if (n, score.name) == (60, "macro-AP") else 0,
    )


def _trusted_page(model: str, n: int, per_group: int) -> Sentence:
    """Cross-check of ``truth_trust``: whole pages of a model that gives probabilities, by its own decisions."""
    world = World(shares=PLANET, is_multi=True, model=model, per_group=per_group)

    @cache
    def good() -> list[bool]:
        rows = class_rows(world.population(), intervals=False)
        return [row.precision.value > GOOD and row.recall.value > GOOD for row in rows]

    def trial(rng: np.random.Generator) -> bool:
        graded = grade_classes(class_rows(world.draw(rng, n), intervals=False))
        return any(g.grade == "trusted" and not so for g, so in zip(graded, good(), strict=True))

    return Sentence(
        says="trust it for k of n (wrongly for any tag of a page)",
        setting=Setting(model, n, "17 tags as in Planet", per_group),
        counted="wrong",
        trial=trial,
        claim=at_most(0.05),
        long=500 if n < 1000 else 200,
    )


def _estimated(score: WeightedScore) -> Callable[[Predictions], Interval]:
    return lambda p: estimate(score, p.probs, p.known_targets, groups=p.groups)
