"""How often a sentence is right: the truth is drawn, the product's own functions speak, and it is counted.

A module ``harness/truth_<theme>.py`` has ``sentences()``, which returns its ``Sentence`` objects; nothing else needs to
know of it. ``benchmarks/truth.py`` runs the long form and ``tests/test_truth.py`` the short one.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np

Counted = Literal["wrong", "covers", "said"]
Trial = Callable[[np.random.Generator], "bool | None"]
NOT_THEMES = ("truth_data",)
AT_ONCE = 50  # trials that a process takes at a time
NOTHING = "nothing: a figure"  # what a line claims that only shows its rate
CHANCE = 0.001
"""A claim fails where so few simulations of a sentence that is just as often right as it claims would look so bad."""


@dataclass(frozen=True)
class Claim:
    """What rate is allowed."""

    low: float
    high: float

    @classmethod
    def read(cls, text: str) -> Claim:
        """Read what ``str`` wrote."""
        if text == NOTHING:
            return as_figure()
        ends = [float(word.rstrip("%")) / 100 for word in text.split() if word.endswith("%")]
        return cls(0.0 if text.startswith("at most") else ends[0], 1.0 if text.startswith("at least") else ends[-1])

    def chance(self, hits: int, made: int) -> float:
        """Return how likely a rate so far outside, or farther, is where the true one is at the edge."""
        from scipy.stats import binom

        if made and self.low <= hits / made <= self.high:
            return 1.0
        return float(binom.cdf(hits, made, self.low) if hits < self.low * made else binom.sf(hits - 1, made, self.high))

    def __str__(self) -> str:
        if self == as_figure():
            return NOTHING
        if self.low <= 0:
            return f"at most {self.high:.0%}"
        return f"at least {self.low:.0%}" if self.high >= 1 else f"{self.low:.0%} to {self.high:.0%}"


def at_most(rate: float) -> Claim:
    """Claim that the rate is not above this."""
    return Claim(0.0, rate)


def at_least(rate: float) -> Claim:
    """Claim that the rate is not below this."""
    return Claim(rate, 1.0)


def as_figure() -> Claim:
    """Claim nothing: the rate is shown for what it is, as the power of a sentence where no one promised any."""
    return Claim(0.0, 1.0)


def between(low: float, high: float) -> Claim:
    """Claim that the rate lies in a range."""
    return Claim(low, high)


@dataclass(frozen=True)
class Setting:
    """The world in which a sentence is said, in words and numbers that the table shows."""

    model: str  # "blind", "good", "two equal runs" …
    n: int  # pictures
    labels: str = ""  # "5 classes", "17 tags as in Planet" …
    per_group: int = 1  # pictures that belong together; 1: each stands alone
    note: str = ""

    def __str__(self) -> str:
        grouped = "" if self.per_group == 1 else f"groups of {self.per_group}"
        return "; ".join(word for word in (self.labels, self.model, f"n = {self.n:,}", grouped, self.note) if word)


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """Something that the page says, and how to find out whether it is true."""

    says: str  # as a reader sees it
    setting: Setting
    counted: Counted  # what True of a trial is: the sentence was wrong, its interval covers, or it was said
    trial: Trial  # draws a world; None: the sentence was not made in it, and the trial does not count
    claim: Claim  # for the rate of True among the trials that count
    long: int = 1000  # trials of the long form
    short: int = 0  # trials of the short form; 0: it leaves the sentence out

    @property
    def name(self) -> str:
        """Its name, which is its seed, too."""
        return f"{self.says} | {self.setting}"

    def trials(self, start: int, stop: int) -> list[bool | None]:
        """Return what some trials give; each has its own seed, so that any of them can be run again alone."""
        key = zlib.crc32(self.name.encode())
        found = [self.trial(np.random.default_rng((key, i))) for i in range(start, stop)]
        return [None if one is None else bool(one) for one in found]


@dataclass(frozen=True)
class Measured:
    """How often it was so."""

    sentence: Sentence
    hits: int  # trials that gave True
    made: int  # trials in which the sentence was made
    trials: int

    @property
    def rate(self) -> float:
        """The share of True among the trials that count; NaN where the sentence was never made."""
        return self.hits / self.made if self.made else math.nan

    @property
    def error(self) -> float:
        """The Monte-Carlo standard error of the rate; where it is 0 or 1 that of one trial more of the other kind."""
        if not self.made:
            return math.nan
        share = min(max(self.rate, 1 / (self.made + 1)), self.made / (self.made + 1))
        return math.sqrt(share * (1 - share) / self.made)

    @property
    def holds(self) -> str:
        """``yes``; ``within error`` where the rate is outside its claim by no more than chance may do; ``no``.

        ``–`` where nothing is claimed.
        """
        claim = self.sentence.claim
        if claim == as_figure():
            return "–"
        if not self.made or claim.low <= self.rate <= claim.high:
            return "yes" if self.made else "never made"
        return "no" if self.chance < CHANCE else "within error"

    @property
    def chance(self) -> float:
        """How likely a rate so far outside is where the true one is at the edge of the claim."""
        return self.sentence.claim.chance(self.hits, self.made)

    def row(self) -> dict[str, object]:
        """Return its line of the table."""
        return {
            "sentence": self.sentence.says,
            "setting": str(self.sentence.setting),
            "counted": self.sentence.counted,
            "claimed": str(self.sentence.claim),
            "measured": self.rate,
            "±": self.error,
            "trials": self.trials,
            "made": self.made,
            "holds": self.holds,
        }


def themes() -> list[str]:
    """Return the names of the modules that have sentences."""
    return sorted(p.stem for p in Path(__file__).parent.glob("truth_*.py") if p.stem not in NOT_THEMES)


def all_sentences(only: str = "") -> list[Sentence]:
    """Return the sentences of every theme, those whose theme or name contains ``only``.

    Raises:
        ValueError: two have one name, so that they would have one seed and one line of the table.
    """
    found: dict[str, Sentence] = {}
    for theme in themes():
        for sentence in import_module(f"{__package__}.{theme}").sentences():
            if sentence.name in found:
                raise ValueError(f"two sentences are called {sentence.name!r}")
            if only.lower() in f"{theme}: {sentence.name}".lower():
                found[sentence.name] = sentence
    return list(found.values())


def measure(sentence: Sentence, trials: int) -> Measured:
    """Run the trials of a sentence in this process."""
    return _measured(sentence, sentence.trials(0, trials))


def measure_all(
    sentences: Sequence[Sentence], *, short: bool = False, most: int = 1000, processes: int = 2
) -> Iterator[Measured]:
    """Run the trials of all, of each at most so many, and give each as soon as it is done."""
    wanted = [(s, min(most, s.short if short else s.long)) for s in sentences]
    if processes == 1:
        yield from (measure(s, trials) for s, trials in wanted if trials)
        return
    # Trials are closures: a forked process has them, another could not be sent them.
    _SHARED[:] = sentences
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
        waiting: dict[Future[list[bool | None]], int] = {}
        found: list[list[bool | None]] = [[] for _ in wanted]
        for i, (_, trials) in enumerate(wanted):
            for start in range(0, trials, AT_ONCE):
                waiting[pool.submit(_some, i, start, min(trials, start + AT_ONCE))] = i
        for future in as_completed(waiting):
            i = waiting[future]
            found[i] += future.result()
            if len(found[i]) == wanted[i][1]:
                yield _measured(sentences[i], found[i])


_SHARED: list[Sentence] = []


def _some(i: int, start: int, stop: int) -> list[bool | None]:
    return _SHARED[i].trials(start, stop)


def _measured(sentence: Sentence, found: Sequence[bool | None]) -> Measured:
    made = [one for one in found if one is not None]
    return Measured(sentence, sum(made), len(made), len(found))
