"""Shares and F of each class with their 95 % intervals, for independent pictures and for groups of them.

Precision, recall and F are ratios hits / (hits + Σ weight · misses) of counts. The interval is Wilson's of as many
independent pictures as would give the ratio's own spread (its effective number). Of several kinds of misses each counts
half a picture more than was seen in that spread: where all that were seen weigh little, others may yet occur. Where
pictures belong together the effective number is smaller by the design effect, which is the larger of two: the class's
own, from the spread of its groups' residuals, and the one that the correlation within groups, pooled over the classes,
makes of its group sizes. A single class has too few groups to be believed when its own spread is small, and at 0 and 1
it has none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onecycle.evaluation.certainty.half_samples import t_quantile
from onecycle.evaluation.certainty.intervals import LEVEL, group_numbers, wilson
from onecycle.evaluation.scores import ratio

UNSEEN = 0.5
"""Pictures that each of several kinds of misses counts more than was seen, in the spread of F. Without it the interval
of F2 covered the truth in 91 % of tags that are nearly always right; with it in 93 to 97 % of tags of every kind."""


@dataclass(frozen=True)
class Span:
    """A number with its 95 % interval; NaN where it is 0/0, or where no interval was drawn."""

    value: float
    low: float = math.nan
    high: float = math.nan
    effective: float = math.nan  # independent pictures that would tell as much
    df: float = math.inf  # degrees of freedom of its spread: groups − 1; infinite: counts of independent pictures

    @property
    def known(self) -> bool:
        """Whether there is a number at all."""
        return not math.isnan(self.value)

    @property
    def has_interval(self) -> bool:
        """Whether both ends are known."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    def p_value(self, limit: float) -> float:
        """Return how likely so high a value is, or a higher one, where the true one is ``limit``; 1: not known.

        It is the test that the interval inverts: below 2.5 % the low end of the 95 % interval lies above the limit.
        """
        from scipy.special import ndtr, stdtr  # scipy.stats takes a third of a second to import

        if math.isnan(self.effective) or not 0 < limit < 1:
            return 1.0
        z = (self.value - limit) / math.sqrt(limit * (1 - limit) / self.effective)
        return float(ndtr(-z) if math.isinf(self.df) else stdtr(self.df, -z))


def ratio_spans(
    hits: np.ndarray, *misses: tuple[float, np.ndarray], groups: Sequence[object] | np.ndarray | None = None
) -> list[Span]:
    """Return hits / (hits + Σ weight · misses) of each class with its 95 % interval; 0/0 is NaN.

    Args:
        hits: bool ``(N, C)``.
        misses: a weight and bool ``(N, C)`` each; a picture is a hit, a miss of one kind, or neither.
        groups: ``(N,)``, which pictures belong together; None: each stands alone. A class of one group has no interval.

    Source: effective number, Korn & Graubard 1998, "Confidence intervals for proportions with small expected number of
        positive counts estimated from survey data"; linearised spread of a ratio over groups and the design effect
        1 + (m − 1)·ρ, Kish 1965, "Survey Sampling"; Wilson 1927. Coverage: ``benchmarks/harness/truth_trust.py``.
    """
    counts = np.stack([hits.sum(axis=0), *(m.sum(axis=0) for _, m in misses)]).astype(float)  # (K, C)
    weights = np.array([1.0, *(w for w, _ in misses)])[:, None]
    base = (weights * counts).sum(axis=0)
    values, number = ratio(counts[0], base), counts.sum(axis=0)
    # What each kind of picture adds to hits − value · base: 1 − value for a hit, −weight · value for a miss.
    residuals = -weights * np.nan_to_num(values)
    residuals[0] += 1
    spread, inside = (counts * residuals**2).sum(axis=0), values * (1 - values)
    unseen = UNSEEN * (residuals[1:] ** 2).sum(axis=0) if len(misses) > 1 else 0.0
    effects, df = np.ones(len(values)), np.full(len(values), math.inf)
    if groups is not None:
        by_group = np.stack([_summed(flags, groups) for flags in (hits, *(m for _, m in misses))])  # (K, G, C)
        within = (by_group * residuals[:, None]).sum(axis=0)
        effects, df = _design_effects(by_group.sum(axis=0), within, spread)
    effective = np.where(inside > 0, ratio(inside * base**2, spread * effects + unseen), number / effects)
    return [_span(*map(float, one)) for one in zip(values, effective, df, strict=True)]


def _span(value: float, effective: float, df: float) -> Span:
    if math.isnan(value) or df < 1:
        return Span(value)
    low, high = wilson(value, effective, t_quantile(df, LEVEL))
    return Span(value, float(low), float(high), effective, df)


def _summed(flags: np.ndarray, groups: Sequence[object] | np.ndarray) -> np.ndarray:
    """Return how many pictures of each group have a flag, float ``(G, C)``, from bool ``(N, C)``."""
    numbers = group_numbers(groups)
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    return np.add.reduceat(flags[order], starts, axis=0, dtype=float)


def _design_effects(sizes: np.ndarray, within: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much groups make the effective number smaller, and degrees of freedom, ``(C,)`` each.

    Args:
        sizes: pictures of each group that count for each class, ``(G, C)``.
        within: sum of the group's residuals, ``(G, C)``.
        spread: sum of squares of the residuals, ``(C,)``: 0 where the value is 0 or 1.
    """
    number, pairs = sizes.sum(axis=0), (sizes**2).sum(axis=0) - sizes.sum(axis=0)
    present = (sizes > 0).sum(axis=0)
    own = ratio((within**2).sum(axis=0) * present, spread * (present - 1), empty=0.0)
    known = (spread > 0) & (present > 1)
    excess, of = ((own - 1) * number)[known].sum(), pairs[known].sum()
    # Without a single miss anywhere nothing is known of the correlation: a group then tells as much as one picture.
    correlation = float(np.clip(excess / of, 0, 1)) if of > 0 else 1.0
    pooled = 1 + correlation * ratio(pairs, number, empty=0.0)
    return np.maximum(np.maximum(own, pooled), 1.0), present - 1.0
