"""Sentences on single classes and on what is averaged over them: which to trust, and every interval.

For "trust it" the pages are drawn at the edge: each class's true precision or recall is a little below the limit, so
that whatever is said to be above it is wrong. Intervals are those of one class at random among those that have one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np

from harness.truth import Claim, Sentence, Setting, at_least, at_most, between
from harness.truth_data import BORDER_TAGS, EVEN_TAGS, PLANET, RARE_TAGS, World
from onecycle.evaluation.certainty.intervals import (
    MacroAveragePrecision,
    WeightedScore,
    accuracy,
    estimate,
    macro_fbeta,
    micro_fbeta,
    sample_fbeta,
)
from onecycle.evaluation.class_table import ClassRow, class_rows
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.report.verdict import GOOD, grade_classes
from onecycle.evaluation.scores import average_precisions

UNDER = GOOD - 0.005  # a true value at the edge, on the wrong side
PROMISES = {"trusted": (True, True), "precise": (True, False), "finds": (False, True)}
"""Whether a grade says that precision, and that recall, is above GOOD."""

CLASSES = (0.4, 0.25, 0.15, 0.1, 0.1)


def sentences() -> Iterator[Sentence]:
    """Give the sentences of this theme."""
    for n, per_group in ((60, 1), (200, 1), (1000, 1), (200, 5), (200, 10), (1000, 5), (1000, 10), (1000, 20)):
        for precision, recall in ((UNDER, UNDER), (0.95, UNDER), (UNDER, 0.95)):
            yield _false_trust(n, per_group, precision, recall)
        for name, shares in (("17 tags as in Planet", PLANET), ("10 tags of 15 %", RARE_TAGS)):
            yield _blind_trust(n, per_group, name, shares)
    for per_group in (1, 5):
        yield _found_good(1000, per_group)
    for number in ("precision", "recall", "fbeta", "ap"):
        for n, per_group in ((60, 1), (200, 1), (1000, 1), (200, 5), (1000, 10), (1000, 20)):
            for model in ("mediocre", "good", "very good"):
                yield _class_interval(number, n, per_group, model)
    for n, per_group in ((30, 1), (60, 1), (200, 1), (1000, 1), (200, 5), (1000, 10), (1000, 20)):
        for model in ("blind", "mediocre", "good"):
            yield _macro_ap(n, per_group, model)
    yield from _uneven_groups()


# -- which classes to trust ------------------------------------------------------------------------------------


def _decided(rng: np.random.Generator, n: int, per_group: int, precision: float, recall: float) -> Predictions:
    """Return decisions on 17 tags of 30 % with this precision and recall, whose errors groups share, too."""
    share, c = BORDER_TAGS[0], len(BORDER_TAGS)
    alarms = recall * share * (1 - precision) / (precision * (1 - share))
    p, found, wrongly = (
        World(shares=(value,) * c, is_multi=True, per_group=per_group).draw(rng, n) for value in (share, recall, alarms)
    )
    decided = np.where(p.truth, found.truth, wrongly.truth)
    return replace(p, probs=decided.astype(np.float32), decided=decided.astype(np.int64))


def _false_trust(n: int, per_group: int, precision: float, recall: float) -> Sentence:
    true = (precision >= GOOD, recall >= GOOD)

    def trial(rng: np.random.Generator) -> bool:
        graded = grade_classes(class_rows(_decided(rng, n, per_group, precision, recall), intervals=False))
        said = [PROMISES.get(g.grade, (False, False)) for g in graded]
        return any(claimed and not so for promise in said for claimed, so in zip(promise, true, strict=True))

    note = f"true precision {precision:.3g}, recall {recall:.3g}"
    return Sentence(
        says="trust it (a page says it of any tag wrongly)",
        setting=Setting("at the edge", n, "17 tags", per_group, note),
        counted="wrong",
        trial=trial,
        claim=at_most(0.05),
        short=60 if (n, per_group, precision) == (200, 10, UNDER) else 0,
    )


def _blind_trust(n: int, per_group: int, name: str, shares: tuple[float, ...]) -> Sentence:
    world = World(shares=shares, is_multi=True, model="blind", per_group=per_group, jitter=0.5)

    def trial(rng: np.random.Generator) -> bool:
        p = world.draw(rng, n)
        return any(g.grade == "trusted" for g in grade_classes(class_rows(p, intervals=False)))

    return Sentence(
        says="trust it (a page says it of any tag)",
        setting=Setting("blind", n, name, per_group),
        counted="wrong",
        trial=trial,
        claim=at_most(0.05),
        long=500,
    )


def _found_good(n: int, per_group: int) -> Sentence:
    def trial(rng: np.random.Generator) -> bool:
        graded = grade_classes(class_rows(_decided(rng, n, per_group, 0.85, 0.85), intervals=False))
        return graded[int(rng.integers(len(graded)))].grade == "trusted"

    return Sentence(
        says="trust it (of a tag that deserves it)",
        setting=Setting("good", n, "17 tags of 30 %", per_group, "true precision and recall 0.85"),
        counted="said",
        trial=trial,
        claim=at_least(0.8),
        long=500,
    )


# -- intervals of single classes -------------------------------------------------------------------------------


def _covers(per_group: int) -> Claim:
    return between(0.92, 0.98) if per_group == 1 else between(0.90, 0.98)


def _class_interval(number: str, n: int, per_group: int, model: str) -> Sentence:
    world = World(shares=PLANET, is_multi=True, model=model, per_group=per_group)

    def trial(rng: np.random.Generator) -> bool | None:
        rows = class_rows(world.draw(rng, n), intervals=number == "ap")
        eligible = [r.index for r in rows if getattr(r, number).has_interval]
        if not eligible:
            return None
        c = int(rng.choice(eligible))
        span, true = getattr(rows[c], number), getattr(_true_rows(world)[c], number).value
        return bool(span.low <= true <= span.high)

    names = {"fbeta": "F2", "ap": "average precision"}
    return Sentence(
        says=f"a tag's {names.get(number, number)}: 95 % interval",
        setting=Setting(model, n, "17 tags as in Planet", per_group),
        counted="covers",
        trial=trial,
        claim=_covers(per_group),
        long=1000 if number != "ap" else 200,
        short=60 if (number, n, per_group, model) == ("recall", 200, 5, "good") else 0,
    )


@lru_cache(maxsize=8)
def _true_rows(world: World) -> tuple[ClassRow, ...]:
    return class_rows(world.population(), intervals=False)


# -- averages over classes -------------------------------------------------------------------------------------


def _macro_ap(n: int, per_group: int, model: str) -> Sentence:
    world = World(shares=PLANET, is_multi=True, model=model, per_group=per_group)
    score = MacroAveragePrecision()

    def trial(rng: np.random.Generator) -> bool | None:
        p = world.draw(rng, n)
        judged = p.truth.sum(axis=0) >= score.least
        found = estimate(score, p.probs, p.known_targets, groups=p.groups, n_boot=200)
        true = float(_true_aps(world)[judged].mean())
        return bool(found.low <= true <= found.high)

    return Sentence(
        says="macro-AP: 95 % interval",
        setting=Setting(model, n, "17 tags as in Planet", per_group),
        counted="covers",
        trial=trial,
        claim=_covers(per_group),
        long=300,
        short=40 if (n, model) == (60, "blind") else 0,
    )


@lru_cache(maxsize=8)
def _true_aps(world: World) -> np.ndarray:
    p = world.population()
    return np.array([average_precisions(p.truth[:, c], p.probs[:, c])[0] for c in range(len(world.shares))])


def _uneven_groups() -> Iterator[Sentence]:
    tags: tuple[tuple[str, tuple[float, ...]], ...] = (("5 even tags", EVEN_TAGS), ("17 tags as in Planet", PLANET))
    measured: list[tuple[str, tuple[float, ...], WeightedScore]] = [("5 classes", CLASSES, accuracy())]
    measured += [(name, shares, score) for name, shares in tags for score in (sample_fbeta(), micro_fbeta())]
    measured.append(("5 even tags", EVEN_TAGS, macro_fbeta()))
    for n_groups, most in ((8, 60), (20, 30), (60, 10)):
        for name, shares, score in measured:
            yield _in_uneven_groups(score, name, shares, n_groups, most)


def _in_uneven_groups(score: WeightedScore, name: str, shares: tuple[float, ...], n_groups: int, most: int) -> Sentence:
    world = World(shares=shares, is_multi=shares is not CLASSES, model="good", per_group=most)

    def trial(rng: np.random.Generator) -> bool:
        p = world.draw(rng, n_groups * most)
        # Sizes from one picture to ``most``, small ones more often.
        sizes = np.ceil(most * rng.random(n_groups) ** 2).astype(int)
        p = p.taken(np.flatnonzero(np.arange(len(p)) % most < np.repeat(sizes, most)))
        found = estimate(score, p.probs, p.known_targets, groups=p.groups, n_boot=400)
        return bool(found.low <= world.true_score(score) <= found.high)

    kind: Callable[[int], str] = "{:,} groups of uneven size".format
    return Sentence(
        says=f"{score.name}: 95 % interval",
        setting=Setting("good", n_groups * most // 3, name, 1, kind(n_groups)),
        counted="covers",
        trial=trial,
        claim=between(0.90, 0.98),
        long=1000,
        short=60 if (n_groups, name, score.name) == (8, "5 classes", "accuracy") else 0,
    )
