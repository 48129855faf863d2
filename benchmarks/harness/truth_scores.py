"""Sentences on the numbers of the report: each interval holds the score over all such pictures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.truth import Sentence, Setting, between
from harness.truth_data import World
from onecycle.evaluation.certainty.intervals import accuracy
from onecycle.evaluation.headline import headline

CLASSES = (0.4, 0.25, 0.15, 0.1, 0.1)


def sentences() -> Iterator[Sentence]:
    """Give the sentences of this theme."""
    for n, per_group in ((30, 1), (60, 1), (200, 1), (1000, 1), (200, 5), (200, 20)):
        yield _accuracy(n, per_group)


def _accuracy(n: int, per_group: int) -> Sentence:
    world = World(shares=CLASSES, is_multi=False, model="good", per_group=per_group)

    def trial(rng: np.random.Generator) -> bool:
        found = headline(world.draw(rng, n))
        return found.low <= world.true_score(accuracy()) <= found.high

    return Sentence(
        says="accuracy's 95 % interval",
        setting=Setting("good", n, "5 classes", per_group),
        counted="covers",
        trial=trial,
        claim=between(0.92, 0.98) if per_group == 1 else between(0.90, 0.98),
        long=1000,
        short=100 if n == 60 else 0,
    )
