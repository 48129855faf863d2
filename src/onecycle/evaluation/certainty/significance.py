"""Whether a difference is more than chance: signs flipped, parts permuted, many tests at once.

Pictures of one group (one scene, one patient) are alike, so the unit that chance moves is the group: it is flipped or
permuted as a whole. Without groups each picture is a unit of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import combinations

import numpy as np

from onecycle.evaluation.certainty.half_samples import MAX_CELLS
from onecycle.evaluation.certainty.intervals import group_numbers

SURE = 0.05
"""A difference is said to be beyond chance where its p-value, for all that are told together, is below this."""

EXACT_FLIPS, DRAWN_FLIPS = 13, 1000  # units: up to the first all 2^12 flips are tried, up to the second some are drawn
DRAWS = 9_999
LEAST_PERMUTATIONS, MOST_PERMUTATIONS = 1_999, 19_999


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values ``(M,)`` that hold for all M tests together, in the given order.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    m = len(p_values)
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate((m - np.arange(m)) * p_values[order])
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def unit_numbers(groups: Sequence[object] | np.ndarray | None, n: int) -> np.ndarray:
    """Number the units that chance moves, int64 ``(N,)`` from 0 on: the groups, or each picture by itself."""
    return np.arange(n) if groups is None else group_numbers(groups)


def unit_sums(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Add up what the pictures of each unit contribute, float ``(N, …)`` → ``(G, …)``."""
    sums = np.zeros((int(units.max()) + 1, *values.shape[1:]))
    np.add.at(sums, units, values)
    return sums


# -- two models on the same pictures --------------------------------------------------------------------------


def flip_p_values(contributions: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Return for each of M columns how likely a sum as far from 0 is if the sign of each contribution is chance.

    A contribution is what one unit adds to a difference of two models; with the other sign, the two are swapped. All
    flips are tried where up to 13 units contribute; of more, 9,999 are drawn; of more than 1,000 the sum is normal.
    Contributions of one size alone, as of right and wrong, are McNemar's exact test.

    That is exact for two models that err alike. Where one errs seldom and badly and the other often and slightly, signs
    are no matter of even chance though the scores are equal: the p-value is never below that of the mean, freed of the
    skewness of what is contributed.

    Args:
        contributions: float ``(G, M)``, a row for each independent unit.
        seed: of the drawn flips.

    Returns:
        p-values, two-sided, float64 ``(M,)``; 1 where nothing contributes.

    Source: Fisher 1935, "The design of experiments", section 21; McNemar 1947, "Note on the sampling error of the
        difference between correlated proportions"; for groups Obuchowski 1998, "On the comparison of correlated
        proportions for clustered data", whose statistic this is; Hemerik, Goeman & Finos 2020, "Robust testing in
        generalized linear models by sign flipping score contributions"; the mean, Hall 1992, "On the removal of
        skewness by transformation".
    """
    rng = np.random.default_rng(seed)
    return np.array([_flip_p(column[column != 0], rng) for column in np.asarray(contributions, dtype=float).T])


def _flip_p(own: np.ndarray, rng: np.random.Generator) -> float:
    """Return the p-value of contributions other than 0, ``(k,)``."""
    from scipy import stats

    if not len(own):
        return 1.0
    if np.ptp(np.abs(own)) <= 1e-9 * np.abs(own).max():
        return float(stats.binomtest(int((own > 0).sum()), len(own)).pvalue)
    return max(_share_of_flips(own, rng), _mean_p(own))


def _share_of_flips(own: np.ndarray, rng: np.random.Generator) -> float:
    """Return in which share of flips the sum of ``(k,)`` is as far from 0."""
    from scipy.special import ndtr

    k, total = len(own), abs(float(own.sum()))
    if k > DRAWN_FLIPS:
        return float(2 * ndtr(-total / math.sqrt(float(own @ own))))
    as_far = total - 1e-6 * float(np.abs(own).sum())  # equal sums differ by rounding
    if k <= EXACT_FLIPS:
        negative = (np.arange(2 ** (k - 1))[:, None] >> np.arange(k)) & 1
        return float((np.abs((1 - 2 * negative) @ own) >= as_far).mean())
    bits = np.unpackbits(rng.integers(0, 256, (DRAWS, -(-k // 8)), dtype=np.uint8), axis=1, count=k)
    sums = own.sum() - 2 * (bits.astype(np.float32) @ own.astype(np.float32))
    return float((1 + (np.abs(sums) >= as_far).sum()) / (1 + DRAWS))


def _mean_p(values: np.ndarray) -> float:
    """Return the p-value of a mean of 0 by Hall's transformation of Student's t, of values ``(k,)``."""
    from scipy.special import stdtr

    k, off = len(values), values - values.mean()
    spread = float(off.std())
    if spread <= 1e-9 * float(np.abs(values).max()):  # all alike: t is beyond all bounds
        return 0.0
    t, skewness = float(values.mean()) / spread, float((off**3).mean()) / spread**3
    straight = t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / (6 * k)
    return float(2 * stdtr(k - 1, -math.sqrt(k) * abs(straight)))


# -- a part of the pictures against the rest ------------------------------------------------------------------


def part_p_values(
    values: np.ndarray, parts: np.ndarray, units: np.ndarray, *, bounded: bool, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of M parts how likely its mean is as far from that of the rest by chance.

    A part made of whole units is permuted: as many units are drawn, again and again, and the difference is compared in
    units of its own standard error, so that the test is one of means even where the part and the rest spread
    differently. In [0, 1] that error is the one at the common mean: twenty pictures that are all right spread not at
    all, and are yet no proof that the part is better than a rest of 0.95. Three units that are alike by chance are no
    proof either: the p-value is never below that of Student's t with one unit less than the smaller side has.

    Where units lie in both, each adds to the difference, and the signs of what they add are flipped. Right and wrong
    without groups is Fisher's exact test.

    Args:
        values: float ``(N,)``, of each picture.
        parts: bool ``(M, N)``.
        units: int ``(N,)`` as of ``unit_numbers``.
        bounded: whether the values lie in [0, 1].
        seed: of the draws.

    Returns:
        p-values, two-sided, and the smallest that so few units could give, float64 ``(M,)`` each.

    Source: Fisher 1935; Janssen 1997, "Studentized permutation tests for non-i.i.d. hypotheses and the generalized
        Behrens–Fisher problem"; Chung & Romano 2013, "Exact and asymptotically robust permutation tests"; the degrees
        of freedom, Scheffé 1970, "Practical solutions of the Behrens–Fisher problem"; the error at the common mean,
        Wilson 1927 with the effective number of Korn & Graubard 1998, as the intervals have it; for units in both,
        Hemerik, Goeman & Finos 2020 (as ``flip_p_values``).
    """
    sizes, p_values, least = unit_sums(np.ones(len(units)), units), np.ones(len(parts)), np.ones(len(parts))
    inside = unit_sums(parts.T.astype(float), units).T  # (M, G): pictures of each unit in each part
    whole = ((inside == 0) | (inside == sizes)).all(axis=1)
    if len(sizes) == len(values) and np.isin(values, (0, 1)).all():
        return np.array([_fisher_p(values, part) for part in parts]), np.zeros(len(parts))
    if whole.any():
        chosen = inside[whole] > 0
        least[whole] = [_least_permuted(len(sizes), int(k)) for k in chosen.sum(axis=1)]
        p_values[whole] = _permuted_p(unit_sums(values, units), sizes, chosen, bounded=bounded, seed=seed)
    mixed = np.flatnonzero(~whole)
    if len(mixed):
        off = (parts[mixed] - parts[mixed].mean(axis=1, keepdims=True)) * (values - values.mean())
        contributions = unit_sums(off.T, units)
        p_values[mixed] = flip_p_values(contributions, seed=seed)
        least[mixed] = 2.0 ** (1 - (contributions != 0).sum(axis=0))
    return p_values, least


def _fisher_p(values: np.ndarray, part: np.ndarray) -> float:
    from scipy import stats

    return float(stats.fisher_exact([[v.sum(), len(v) - v.sum()] for v in (values[part], values[~part])]).pvalue)


def _least_permuted(n_units: int, k: int) -> float:
    if min(k, n_units - k) < 2:  # one unit says nothing about how far others like it are from it
        return 1.0
    return (2 if 2 * k == n_units else 1) / math.comb(n_units, k)


def _permuted_p(sums: np.ndarray, sizes: np.ndarray, chosen: np.ndarray, *, bounded: bool, seed: int) -> np.ndarray:
    """Return p-values of parts of whole units: the larger of the permutation's and of t's.

    Args:
        sums: float ``(G,)``, of each unit's values.
        sizes: float ``(G,)``, pictures of each unit.
        chosen: bool ``(M, G)``, the units of each part.
        bounded: whether the values lie in [0, 1].
        seed: of the permutations.
    """
    from scipy.special import stdtr

    moments = np.stack([sums, sums**2, sizes, sums * sizes, sizes**2], axis=1)
    n_units, counts = len(sums), chosen.sum(axis=1)
    distance = partial(_distance, total=moments.sum(axis=0), n_units=n_units, bounded=bounded)
    seen = distance(chosen @ moments, k=counts) * (1 - 1e-9)  # equal ones differ by rounding
    n_draws = min(max(LEAST_PERMUTATIONS, 40 * len(chosen)), MOST_PERMUTATIONS)
    many = [k for k in np.unique(counts).tolist() if math.comb(n_units, k) > n_draws]
    drawn = dict(zip(many, _drawn_subsets(moments, many, n_draws, seed), strict=True))
    p_values = np.ones(len(chosen))
    for k in np.unique(counts).tolist():
        here, every = counts == k, drawn.get(k)
        if every is None:
            every = np.stack([moments[list(units)].sum(axis=0) for units in combinations(range(n_units), k)])
        as_far = (distance(every, k=k)[:, None] >= seen[here]).sum(axis=0)
        p_values[here] = as_far / len(every) if k not in drawn else (1 + as_far) / (1 + n_draws)
    few = np.minimum(counts, n_units - counts)
    return np.asarray(np.maximum(p_values, 2 * stdtr(np.maximum(few - 1, 1), -seen)))


def _drawn_subsets(moments: np.ndarray, ks: Sequence[int], n_draws: int, seed: int) -> np.ndarray:
    """Return the summed moments of drawn subsets of each number of units in ``ks``, rising, ``(K, n_draws, 5)``."""
    sums = np.zeros((len(ks), n_draws, moments.shape[1]))
    if not len(ks):
        return sums
    rng, n_units = np.random.default_rng(seed), len(moments)
    at_once, starts = max(1, MAX_CELLS // n_units), [0, *ks[:-1]]
    for start in range(0, n_draws, at_once):
        b = min(at_once, n_draws - start)
        order = rng.permuted(np.broadcast_to(np.arange(n_units), (b, n_units)), axis=1)[:, : ks[-1]]
        for i, moment in enumerate(moments.T):  # the first k of a permutation are a subset, for each k
            sums[:, start : start + b, i] = np.add.reduceat(moment[order], starts, axis=1).cumsum(axis=1).T
    return sums


def _distance(
    moments: np.ndarray, *, total: np.ndarray, k: np.ndarray | int, n_units: int, bounded: bool
) -> np.ndarray:
    """Return |mean of a part − mean of the rest| in standard errors, from summed moments ``(…, 5)`` of k units."""
    common = float(total[0] / total[2]) if bounded else None
    mean, variance = _mean_of(moments, k, common)
    other, its_variance = _mean_of(total - moments, n_units - k, common)
    error, apart = np.sqrt(variance + its_variance), np.abs(mean - other)
    without = np.where(apart > 1e-12, math.inf, 0.0)  # each unit scores alike in both
    return np.where(error > 1e-9, apart / np.maximum(error, 1e-9), without)


def _mean_of(moments: np.ndarray, k: np.ndarray | int, common: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over pictures of k units and its variance, ``(…)`` each.

    With a common mean, of values in [0, 1], the variance is that of as many independent answers about it as would
    spread as the units do about their own mean; where all are 0 or all 1, of as many as there are units.
    """
    value, squared, size, value_size, size_squared = np.moveaxis(moments, -1, 0)
    mean = value / size
    spread = np.maximum(squared - 2 * mean * value_size + mean**2 * size_squared, 0.0)
    variance = spread / size**2 * k / np.maximum(np.asarray(k) - 1, 1)
    if common is None:
        return mean, variance
    inside = mean * (1 - mean)
    own = np.where(inside > 1e-9, variance / np.maximum(inside, 1e-9), size_squared / size**2)
    return mean, common * (1 - common) * own
