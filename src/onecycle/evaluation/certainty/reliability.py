"""What probabilities say against what came true: reliability curves, ECE, and how far off they can be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.intervals import LEVEL, SumScore, group_numbers, wilson

MAX_BINS = 15  # as Guo et al. 2017
PER_BIN = 20  # with fewer in a bin, its observed share says little
MOST_CELLS = 200  # bins of all tags together: bounds the time
TOLERANCE = 0.1
"""Probabilities mean what they say where they are shown to be off by less than this."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """What was said against what came true, in bins with equal counts."""

    confidence: np.ndarray  # float64 (B,), mean probability in each bin, ascending
    observed: np.ndarray  # float64 (B,), share that came true
    count: np.ndarray  # int64 (B,)
    low: np.ndarray  # float64 (B,), 95 % interval (Wilson) of ``observed``
    high: np.ndarray  # float64 (B,)
    band_low: np.ndarray  # float64 (B,), consistency band: where ``observed`` lies in 95 of 100 cases if they are right
    band_high: np.ndarray  # float64 (B,)
    ece: float  # Σ count/N · |observed − confidence|
    ece_by_chance: float  # what a perfectly calibrated model would show on so few items


def reliability_curve(confidence: np.ndarray, outcome: np.ndarray, n_bins: int | None = None) -> Reliability:
    """Compare probabilities with outcomes in bins with equal counts (equal probabilities share a bin).

    Args:
        confidence: float ``(M,)`` in [0, 1]; of a classifier's classes see ``top_class``.
        outcome: bool ``(M,)``, whether it came true.
        n_bins: default one for each 20 items, at most 15.

    Source: equal counts and absolute differences: Nixon et al. 2019, "Measuring calibration in deep learning"; the
        band: Bröcker & Smith 2007, "Increasing the reliability of reliability diagrams".
    """
    bins, b = _bins(confidence, n_bins)
    count = np.bincount(bins, minlength=b)
    said, true = (np.bincount(bins, w, minlength=b) for w in (confidence, outcome.astype(float)))
    spread = np.bincount(bins, confidence * (1 - confidence), minlength=b)
    low, high = wilson(true / count, count)
    band_low, band_high = _consistency(said / count, count)
    return Reliability(
        confidence=said / count,
        observed=true / count,
        count=count.astype(np.int64),
        low=low,
        high=high,
        band_low=band_low,
        band_high=band_high,
        ece=float(np.abs(true - said).sum() / len(bins)),
        # mean of |normal(0, σ)|: sums of Bernoulli draws about their own probabilities
        ece_by_chance=float(np.sqrt(2 / math.pi * spread).sum() / len(bins)),
    )


def _consistency(said: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return between which shares 95 of 100 draws of ``count`` outcomes with the probability ``said`` lie, (B,)."""
    from scipy.special import bdtrik

    tail, fine = (1 - LEVEL) / 2, np.clip(said, 1e-9, 1 - 1e-9)
    least, most = (np.ceil(np.nan_to_num(bdtrik(share, count, fine), nan=0.0)) for share in (tail, 1 - tail))
    return np.clip(least / count, 0, said), np.clip(most / count, said, 1)


@dataclass(frozen=True, kw_only=True)
class ProbabilityError:
    """How far probabilities are from the shares that came true: root mean square over bins, freed of chance."""

    value: float
    low: float  # lower end of its 95 % interval; 0 where chance alone explains all
    high: float  # upper end
    said: float  # mean probability
    observed: float  # share that came true
    n: int  # probabilities that were judged


def probability_error(
    confidence: np.ndarray,
    outcome: np.ndarray,
    *,
    kinds: np.ndarray | None = None,
    groups: Sequence[object] | np.ndarray | None = None,
    level: float = LEVEL,
) -> ProbabilityError:
    """Return how far probabilities are off, with an interval whose upper end can be relied on.

    The square of the error in a bin is too large by its variance, which is subtracted. The upper end is that of a test
    whether the error is ``TOLERANCE``: the variance of a bin is at least what it would be then, as few wrong ones among
    few seem surer than they are. The bins' errors hide what is uneven inside a bin.

    Args:
        confidence: float ``(M,)`` in [0, 1], M ≥ 1.
        outcome: bool ``(M,)``, whether it came true.
        kinds: int ``(M,)``, each binned by itself, as tags; those with few are binned together.
        groups: an id for each, of what belongs together (a picture's tags, a scene's pictures); None: each alone.
        level: of the interval.

    Source: Kumar, Liang & Ma 2019, "Verified uncertainty calibration" (the square freed of its bias); Nixon et al.
        2019 (equal counts, classes apart).
    """
    from scipy.special import chdtrc, stdtrit

    cells, b = _cells(confidence, kinds)
    m, count = len(confidence), np.bincount(cells, minlength=b)
    gap = outcome - confidence
    mean_gap = np.bincount(cells, gap, minlength=b) / count
    square = float((count * mean_gap**2).sum() / m)
    units = np.arange(m) if groups is None else group_numbers(groups)
    spread = _covariance(gap - mean_gap[cells], cells, units, count)
    trace = float(np.trace(spread))
    at_limit = np.bincount(cells, confidence, minlength=b) / count
    at_limit = np.where(at_limit > 0.5, np.maximum(at_limit - TOLERANCE, 0.5), np.minimum(at_limit + TOLERANCE, 0.5))
    np.fill_diagonal(spread, np.maximum(np.diag(spread), at_limit * (1 - at_limit) / m))
    largest, all_squares = float(np.linalg.eigvalsh(spread)[-1]), float((spread**2).sum())
    quantile = float(stdtrit(max(1, int(units.max())), (1 + level) / 2))
    reach = quantile * math.sqrt(largest + max(0.0, all_squares - largest**2) / (2 * TOLERANCE**2))
    freed = math.sqrt(max(0.0, square - trace))
    full = float(np.trace(spread))
    by_chance = chdtrc(full**2 / all_squares, square * full / all_squares) > (1 - level) / 2
    return ProbabilityError(
        value=freed,
        low=0.0 if by_chance else max(0.0, freed - reach),
        high=min(1.0, math.sqrt(max(0.0, square - trace + largest)) + reach),
        said=float(confidence.mean()),
        observed=float(outcome.mean()),
        n=m,
    )


def _cells(confidence: np.ndarray, kinds: np.ndarray | None) -> tuple[np.ndarray, int]:
    """Return the bin of each probability within its kind, int64 ``(M,)`` in 0..b−1, and b."""
    least = max(PER_BIN, -(-len(confidence) // MOST_CELLS))
    if kinds is None:
        return _bins(confidence, None)
    few = np.bincount(kinds)[kinds] < least
    rest = int(kinds.max()) + 1
    of_kind, cells, b = np.where(few, rest, kinds), np.zeros(len(confidence), dtype=np.int64), 0
    for kind in np.unique(of_kind):
        mine = of_kind == kind
        bins, more = _bins(confidence[mine], max(1, min(MAX_BINS, int(mine.sum()) // least)))
        cells[mine] = bins + b
        b += more
    return cells, b


def _covariance(residual: np.ndarray, cells: np.ndarray, units: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the covariance of the bins' mean gaps, each times the root of its weight, float64 ``(B, B)``.

    Sums over what belongs together are independent, whatever is inside (a cluster-robust estimate).
    """
    from scipy.sparse import coo_array

    g, b = int(units.max()) + 1, len(count)
    sums = coo_array((residual, (units, cells)), shape=(g, b)).tocsr()
    raw = (sums.T @ sums).toarray() * g / max(1, g - 1)
    return np.asarray(raw / np.sqrt(np.outer(count, count)) / len(residual))


def top_class(probs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what is calibrated: float ``(M,)`` probabilities and bool ``(M,)`` outcomes.

    One label a picture: of the most probable class, M = N. Tags: every decision, M = N·C, picture by picture.
    """
    if targets.ndim == 2:
        return probs.astype(float).ravel(), (targets > 0).ravel()
    return probs.max(axis=1).astype(float), probs.argmax(axis=1) == targets


def ece_score(n_bins: int | None = None) -> SumScore:
    """Return ECE of the top class (tags: of all decisions) as a score, so that it has an interval.

    The bins are those of all pictures in every half-sample.
    """

    def rows(probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        confidence, outcome = top_class(probs, targets)
        bins, b = _bins(confidence, n_bins)
        n, each = len(probs), len(bins) // len(probs)
        cells = np.repeat(np.arange(n), each) * b + bins
        gaps = np.bincount(cells, outcome - confidence, minlength=n * b).reshape(n, b)
        return np.concatenate([gaps, np.full((n, 1), float(each))], axis=1)

    return SumScore(name="ECE", rows=rows, total=lambda t: np.abs(t[..., :-1]).sum(axis=-1) / t[..., -1])


def _bins(confidence: np.ndarray, n_bins: int | None) -> tuple[np.ndarray, int]:
    """Return the bin of each item, int64 ``(M,)`` in 0..b−1, and b; every bin holds at least one item."""
    m = len(confidence)
    if not m:
        raise ArgumentError("there is nothing to calibrate: no probabilities")
    if n_bins is not None and n_bins < 1:
        raise ArgumentError(f"n_bins is a number of bins, at least 1; received {n_bins}")
    wanted = n_bins or max(1, min(MAX_BINS, m // PER_BIN))
    lower = np.searchsorted(np.sort(confidence), confidence, side="left")  # equal ones get an equal rank
    used, bins = np.unique(lower * wanted // m, return_inverse=True)
    return bins.reshape(-1), len(used)
