"""Sentences beside the headline: better than the baseline, the range of the score, and probabilities that mean it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from harness.truth import Claim, Counted, Sentence, Setting, Trial, as_figure, at_least, at_most, between
from harness.truth_data import BORDER_TAGS, EVEN_TAGS, PLANET, RARE_TAGS, World, with_thresholds
from onecycle.evaluation.certainty.intervals import SumScore, sample_fbeta
from onecycle.evaluation.certainty.reliability import TOLERANCE
from onecycle.evaluation.headline import CUSTOM_THRESH, headline
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.report.scores import calibration_facts
from onecycle.evaluation.report.verdict import _probabilities

TAGS = {
    "17 tags as in Planet": PLANET,
    "10 tags of 15 %": RARE_TAGS,
    "5 tags of 20 to 40 %": EVEN_TAGS,
    "17 tags of 30 %": BORDER_TAGS,
}
CLASSES = {
    "5 classes": (0.4, 0.25, 0.15, 0.1, 0.1),
    "2 classes, one of 90 %": (0.9, 0.1),
    "10 even classes": (0.1,) * 10,
}
BETTER, NEW_SET = "better than the baseline", "a new set of as many pictures would score"
MEANT = "they mean what they say"


def sentences() -> Iterator[Sentence]:
    """Give the sentences of this theme."""
    for n in (60, 200):
        for labels in TAGS:
            for chosen in (False, True):
                yield _blind_tags(n, labels, chosen=chosen)
        yield _blind_tags(n, "17 tags as in Planet", chosen=True, per_group=10)
        for labels in CLASSES:
            yield _blind_classes(n, labels)
    for model, n in (("mediocre", 60), ("mediocre", 200), ("good", 60), ("good", 200)):
        for labels in TAGS:
            yield _seeing(model, n, World(shares=TAGS[labels], is_multi=True, model=model), labels)
        yield _seeing(model, n, World(shares=CLASSES["5 classes"], is_multi=False, model=model), "5 classes")
    for n, per_group in ((30, 1), (60, 1), (200, 1), (1000, 1), (200, 10)):
        yield _new_set(n, per_group)
    yield from _probability_sentences()


# -- better than the baseline ---------------------------------------------------------------------------------


def _says_better(p: Predictions) -> bool:
    return headline(p).beats_baseline


def _blind_tags(n: int, labels: str, *, chosen: bool, per_group: int = 1) -> Sentence:
    """A model whose probabilities scatter about the tags' shares and know nothing of the picture."""
    world = World(shares=TAGS[labels], is_multi=True, model="blind", jitter=0.5, per_group=per_group)

    def trial(rng: np.random.Generator) -> bool:
        p = world.draw(rng, n)
        return _says_better(with_thresholds(p) if chosen else p)

    note = "chosen thresholds" if chosen else "thresholds of 0.2"
    short = 40 if labels == "10 tags of 15 %" and not chosen and n == 60 else 0
    setting = Setting("blind", n, labels, per_group, note)
    return _sentence(BETTER, setting, "wrong", trial, at_most(0.05), long=120 if chosen else 600, short=short)


def _blind_classes(n: int, labels: str) -> Sentence:
    world = World(shares=CLASSES[labels], is_multi=False, model="blind", jitter=0.5)
    setting = Setting("blind", n, labels)
    return _sentence(BETTER, setting, "wrong", lambda rng: _says_better(world.draw(rng, n)), at_most(0.05), long=600)


def _seeing(model: str, n: int, world: World, labels: str) -> Sentence:
    """A model that sees: how often it is told that it is better, which it is; of a mediocre one that is a figure."""
    claim = {("good", 60): at_least(0.8), ("good", 200): at_least(0.95)}.get((model, n), as_figure())
    short = 40 if (labels, model, n) == ("10 tags of 15 %", "good", 60) else 0
    setting = Setting(model, n, labels)
    return _sentence(BETTER, setting, "said", lambda rng: _says_better(world.draw(rng, n)), claim, short=short)


# -- the range of the score -----------------------------------------------------------------------------------


def _new_set(n: int, per_group: int) -> Sentence:
    """Sample-F2 of another set of as many pictures lies in the wider range."""
    world = World(shares=PLANET, is_multi=True, per_group=per_group)
    score: SumScore = sample_fbeta(2, CUSTOM_THRESH)

    def trial(rng: np.random.Generator) -> bool:
        low, high = headline(world.draw(rng, n)).of_new(n)
        new = world.draw(rng, n)
        again = float(score.weighted(new.probs, new.known_targets, np.ones((1, n)))[0])
        return low <= again <= high

    claim = between(0.92, 0.98) if per_group == 1 else between(0.90, 0.98)
    setting = Setting("good", n, "17 tags as in Planet", per_group)
    return _sentence(NEW_SET, setting, "covers", trial, claim, long=600)


# -- probabilities --------------------------------------------------------------------------------------------


def _probability_sentences() -> Iterator[Sentence]:
    judged = (("17 tags as in Planet", PLANET), ("10 tags of 15 %", RARE_TAGS), ("5 classes", CLASSES["5 classes"]))
    planet = judged[0]
    for n in (60, 200, 1000):
        for per_group in (1, 20):
            for labels, shares in judged:
                yield _meant(n, labels, shares, per_group, off=0.1)
            yield _meant(n, *planet, per_group, off=0.3, note="a yes of 0.9 is right in 0.6")
            yield _meant(
                n, "17 tags as in Planet", PLANET, per_group, off=0.15, note="every other tag too low", turns=True
            )
    for labels, shares in judged:
        for n, per_group in ((1000, 1), (200, 1), (1000, 20)):  # of fewer, or of groups, it is a figure how often
            yield _meant(n, labels, shares, per_group, off=0.0)


def _meant(
    n: int, labels: str, shares: tuple[float, ...], per_group: int, *, off: float, note: str = "", turns: bool = False
) -> Sentence:
    """Every yes (the most probable class) is right less often than it says, by ``off``; with 0 it is calibrated."""
    world = World(shares=shares, is_multi=labels != "5 classes", per_group=per_group)

    def trial(rng: np.random.Generator) -> bool | None:
        p, error = _claiming(world.draw(rng, n), off, turns=turns)
        if off and error < TOLERANCE - 1e-9:
            return None
        return _probabilities(calibration_facts(p), is_multi=p.is_multi).text.startswith("They mean what they say")

    note = note or (f"off by {off:g}" if off else "calibrated")
    setting = Setting("good", n, labels, per_group, note)
    short = 30 if per_group == 1 and n == 1000 and labels == "17 tags as in Planet" and off in (0.0, 0.1) else 0
    said = at_least(0.8) if (n, per_group) == (1000, 1) else as_figure()
    counted, claim = ("wrong", at_most(0.05)) if off else ("said", said)
    return _sentence(MEANT, setting, counted, trial, claim, long=300, short=short)


def _claiming(p: Predictions, off: float, *, turns: bool) -> tuple[Predictions, float]:
    """Return predictions whose yes (or most probable class) comes true less often by ``off``, and the true error.

    With ``turns`` that of every other tag comes true more often. The error is the root of the mean square.
    """
    rng = np.random.default_rng(int(p.probs.sum() * 1e6) % 2**32)
    rows = np.arange(len(p))
    at = np.nonzero(p.predicted) if p.is_multi else (rows, p.decided)
    said, truth = p.probs[at].astype(float), p.truth.copy()
    true = said - np.where(turns & (at[1] % 2 == 1), -np.minimum(off, 1 - said), off)
    flipped = np.where(truth[at], rng.random(len(said)) < np.minimum(true / said, 1), _risen(rng, said, true))
    truth[at] = flipped
    targets = truth.astype(np.int64) if p.is_multi else np.where(flipped, p.decided, _others(p))
    return replace(p, targets=targets), float(np.sqrt(np.mean((true - said) ** 2))) if len(said) else 0.0


def _risen(rng: np.random.Generator, said: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return which of the outcomes that were false become true."""
    return rng.random(len(said)) < np.maximum(true - said, 0) / np.maximum(1 - said, 1e-9)


def _others(p: Predictions) -> np.ndarray:
    """Return a true class other than the predicted one for each picture."""
    targets = p.known_targets
    return np.where(targets != p.decided, targets, (p.decided + 1) % len(p.classes))


def _sentence(
    says: str, setting: Setting, counted: Counted, trial: Trial, claim: Claim, *, long: int = 300, short: int = 0
) -> Sentence:
    return Sentence(says=says, setting=setting, counted=counted, trial=trial, claim=claim, long=long, short=short)
