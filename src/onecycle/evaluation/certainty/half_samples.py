"""How far a score is spread, from half-samples of its pictures, or of its groups of pictures.

The samples are halves, drawn without replacement. A sample with replacement repeats pictures, and a ranking that
repeats its positives seems steadier than it is: for macro-AP of 200 drawn pictures its spread was 9 % too
small and its interval held the truth in 92 % of cases, that of halves in 94 %.

Source: Saigo, Shao & Sitter 2001, "A repeated half-sample bootstrap".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from onecycle.errors import ArgumentError

N_BOOT = 1000  # half-samples; of them only spread and mean are used; 1,000 give the spread to about 2 %, 200 to 5 %
MIN_BOOT, BOOT_CELLS = 200, 2_000_000  # fewer of them where there are more than 2,000 pictures
MAX_CELLS = 4_000_000  # weights held at a time (32 MB): bounds the memory for any number of pictures


@dataclass(frozen=True)
class HalfSamples:
    """A score of all pictures and of half-samples of them."""

    value: float
    draws: np.ndarray  # float (B,), those that are finite
    units: np.ndarray  # int64 (N,), the group of each picture, numbered from 0 on
    n_units: int

    @property
    def spread(self) -> float:
        """The standard error of the score."""
        half = self.n_units // 2
        return float(self.draws.std()) * math.sqrt(half / (self.n_units - half))

    @property
    def mean(self) -> float:
        """Of the half-samples; how far it lies from the value is the bias of half as many pictures beside these."""
        return float(self.draws.mean())

    @property
    def unknown(self) -> bool:
        """Whether nothing can be said."""
        return math.isnan(self.value) or len(self.draws) < 2

    def around(self, level: float) -> tuple[float, float]:
        """Return value ± t · spread."""
        if self.unknown or self.n_units < 2:  # one group says nothing of how groups differ
            return (math.nan, math.nan) if self.unknown else (-math.inf, math.inf)
        reach = t_quantile(self.n_units - 1, level) * self.spread
        return self.value - reach, self.value + reach

    def resting_on(self, parts: np.ndarray) -> tuple[float, float]:
        """Return how many pictures (or groups) a part of the score rests on, and how many all of them do.

        The first is a harmonic mean, since the part with the fewest tells least; it is at most K times less than the
        second.

        Args:
            parts: which pictures each of K parts rests on that the score is the mean of, bool ``(N, K)``.
        """
        numbers = np.array([len(np.unique(self.units[rows])) for rows in parts.T if rows.any()], dtype=float)
        if not len(numbers):
            return self.n_units, self.n_units
        a_part = len(numbers) / float((1 / numbers).sum())
        return a_part, a_part * len(numbers)


def draw_halves(
    score: Callable[[np.ndarray], np.ndarray], units: np.ndarray, n_boot: int | None = None, seed: int = 0
) -> HalfSamples:
    """Return a score and what it is on half-samples.

    Args:
        score: weights of the pictures float ``(B, N)`` → score ``(B,)``.
        units: int64 ``(N,)``, the group of each picture, numbered from 0 on: a group is drawn whole.
        n_boot: half-samples; default 1,000, down to 200 for more than 10,000 pictures.
        seed: of the samples.

    Raises:
        ArgumentError: fewer than 2 half-samples.
    """
    n_units = int(units.max()) + 1
    value = float(score(np.ones((1, len(units))))[0])
    draws = np.concatenate([score(counts[:, units]) for counts in _halves(n_units, n_boot, seed, len(units))])
    return HalfSamples(value, draws[np.isfinite(draws)], units, n_units)


def t_quantile(df: float, level: float) -> float:
    """Return how many standard errors an interval reaches to each side."""
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + level) / 2))


def _halves(n_units: int, n_boot: int | None, seed: int, n: int) -> Iterator[np.ndarray]:
    """Give which units are in each half-sample, 0.0 or 1.0 ``(b, n_units)``, ``n_boot`` rows in all."""
    n_boot = max(MIN_BOOT, min(N_BOOT, BOOT_CELLS // n)) if n_boot is None else n_boot
    if n_boot < 2:
        raise ArgumentError(f"n_boot is a number of half-samples, at least 2; received {n_boot}")
    rng, half = np.random.default_rng(seed), max(1, n_units // 2)
    at_once = max(1, MAX_CELLS // n)  # a group may hold many pictures
    for start in range(0, n_boot, at_once):
        b = min(at_once, n_boot - start)
        first = np.argpartition(rng.random((b, n_units)), half - 1, axis=1)[:, :half]
        drawn = np.zeros((b, n_units))
        np.put_along_axis(drawn, first, 1.0, axis=1)
        yield drawn
