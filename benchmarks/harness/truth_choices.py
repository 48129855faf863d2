"""Sentences on what the validation pictures choose, calibration and thresholds, and on the split that makes them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from harness.truth import Sentence, Setting, Trial, at_least, at_most
from harness.truth_data import EVEN_TAGS, PLANET, World
from onecycle.data.labels.items import Labels
from onecycle.data.labels.stratified import stratified_split
from onecycle.errors import OnecycleWarning
from onecycle.evaluation.certainty.calibration import calibration_report
from onecycle.evaluation.certainty.intervals import Estimate, SumScore, log_loss, sample_fbeta
from onecycle.evaluation.certainty.thresholds import choose_thresholds, usual_threshold
from onecycle.evaluation.predictions import Predictions

CLASSES = (0.4, 0.25, 0.15, 0.1, 0.1)
SOME = 10_000  # pictures of the population that a choice is judged on in each trial
HARM = 0.02
"""A choice that costs less than this, in nats of log loss or in F2, does no harm that anyone would see."""


def sentences() -> Iterator[Sentence]:
    """Give the sentences of this theme."""
    yield from _of_calibration()
    yield from _of_thresholds()
    yield from _of_splits()


# -- calibration ---------------------------------------------------------------------------------------------


def _of_calibration() -> Iterator[Sentence]:
    """Give those on the report that says whether to calibrate; the change is that of log loss, in nats."""
    for shares, is_multi, labels in ((CLASSES, False, "5 classes"), (PLANET, True, "17 tags as in Planet")):
        for sharp, note in ((1.0, "already calibrated"), (2.0, "twice too sure")):
            for n, per_group in ((60, 1), (200, 1), (1000, 1), (200, 20)):
                world = World(shares=shares, is_multi=is_multi, sharp=sharp, per_group=per_group)
                choice = _Choice(world, n, _calibrated)
                setting, long = Setting("good", n, labels, per_group, note), _long(n)
                yield Sentence(
                    says=f"calibrated, as that helps on held-out folds (wrong: the log loss rises by over {HARM})",
                    setting=setting,
                    counted="wrong",
                    trial=choice.seen(lambda found, change: found.taken and change > HARM),
                    claim=at_most(0.05),
                    long=long,
                    short=20 if (n, sharp, is_multi, per_group) == (200, 1.0, False, 1) else 0,
                )
                if sharp > 1 and n > 60 and per_group == 1:
                    yield Sentence(
                        says="calibrated, as that helps on held-out folds",
                        setting=setting,
                        counted="said",
                        trial=choice.seen(lambda found, _: found.taken),
                        claim=at_least(0.25 if n < 1000 else 0.8),
                        long=long,
                    )


# -- thresholds ----------------------------------------------------------------------------------------------


def _of_thresholds() -> Iterator[Sentence]:
    """Give those on the report of chosen thresholds; the gain is that in sample-F2 over the usual one for all."""
    worlds = (
        (EVEN_TAGS, "good", "5 tags of 20 to 40 %"),
        (EVEN_TAGS, "blind", "5 tags of 20 to 40 %"),
        (PLANET, "good", "17 tags as in Planet"),
    )
    for shares, model, labels in worlds:
        for n, per_group in ((60, 1), (200, 1), (1000, 1), (200, 20)):
            choice = _Choice(World(shares=shares, is_multi=True, model=model, per_group=per_group), n, _thresholds)
            setting, long = Setting(model, n, labels, per_group), _long(n)
            yield Sentence(
                says=f"other thresholds than the usual one are better (wrong: F2 falls by over {HARM})",
                setting=setting,
                counted="wrong",
                trial=choice.seen(lambda found, gain: found.taken and gain < -HARM),
                claim=at_most(0.05),
                long=long,
                short=20 if (n, shares, model) == (60, EVEN_TAGS, "good") else 0,
            )


def _long(n: int) -> int:
    return 100 if n < 1000 else 40


# -- what both have in common --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chosen:
    """What validation pictures chose, and what they say of it."""

    taken: bool  # whether anything but the model's own is used from now on
    change: Estimate  # as printed: judged by cross-fitting
    score: SumScore  # that the change is of
    after: Callable[[np.ndarray], np.ndarray]  # probabilities of new pictures → what the score reads
    before: Callable[[np.ndarray], np.ndarray]  # the same without the choice


def _calibrated(p: Predictions) -> _Chosen:
    found = calibration_report(p.probs, p.known_targets, classes=p.classes, groups=p.groups)
    return _Chosen(found.helps, found.log_loss, log_loss(), found.calibration.apply, lambda probs: probs)


def _thresholds(p: Predictions) -> _Chosen:
    found = choose_thresholds(p.probs, p.known_targets, classes=p.classes, groups=p.groups)
    decide = found.thresholds.decide
    return _Chosen(
        found.rule != "default",
        found.gains[0],
        sample_fbeta(2, 0.5),
        lambda probs: decide(probs).astype(float),
        lambda probs: (probs >= usual_threshold(2)).astype(float),
    )


@dataclass(frozen=True)
class _Choice:
    """A choice that is made on n pictures of a world and judged on many others."""

    world: World
    n: int
    choose: Callable[[Predictions], _Chosen]

    def made(self, rng: np.random.Generator) -> tuple[_Chosen, float]:
        """Return what was chosen, and what that changes on many pictures."""
        found = self.choose(self.world.draw(rng, self.n))
        many = self.world.population()
        probs, targets, once = many.probs[:SOME], many.known_targets[:SOME], np.ones((1, SOME))
        after, before = (found.score.weighted(f(probs), targets, once)[0] for f in (found.after, found.before))
        return found, float(after - before)

    def seen(self, how: Callable[[_Chosen, float], bool]) -> Trial:
        """Return the trial that looks at the choice and what it truly changes."""
        return lambda rng: how(*self.made(rng))


# -- splits --------------------------------------------------------------------------------------------------


def _of_splits() -> Iterator[Sentence]:
    for n in (60, 200, 1000):
        yield _split(
            World(shares=CLASSES, is_multi=False), n, "5 classes", least=2, off=lambda have: np.ones_like(have)
        )
        # A tag's pictures carry others, so that not all of them can be split evenly at once.
        yield _split(
            World(shares=PLANET, is_multi=True),
            n,
            "17 tags as in Planet",
            least=5,
            off=lambda have: np.maximum(1, 0.05 * have),
            words="by at most one picture or a twentieth of its pictures",
        )


def _split(
    world: World,
    n: int,
    labels: str,
    *,
    least: int,
    off: Callable[[np.ndarray], np.ndarray],
    words: str = "rounded up or down",
) -> Sentence:
    """Return the sentence that a fifth of each label's pictures validates, of those with at least so many."""

    def trial(rng: np.random.Generator) -> bool:
        p = world.draw(rng, n)
        targets = p.known_targets.astype(np.float32) if world.is_multi else p.known_targets
        drawn = Labels(list(p.classes), targets, world.is_multi)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OnecycleWarning)  # a label that a single picture has
            split = stratified_split(p.files, drawn, 0.2, seed=int(rng.integers(1 << 30)))
        have, validate = p.truth.sum(axis=0), p.truth[split.valid].sum(axis=0)
        return bool((np.abs(validate - 0.2 * have) > off(have) + 1e-9)[have >= least].any())

    return Sentence(
        says=f"a stratified split: a fifth of each label's pictures validates, {words}",
        setting=Setting("any", n, labels),
        counted="wrong",
        trial=trial,
        claim=at_most(0.01),
        long=300,
        short=50 if n == 60 else 0,
    )
