"""What probabilities say against what came true: reliability curves and the expected calibration error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.intervals import SumScore, wilson

MAX_BINS = 15  # as Guo et al. 2017
PER_BIN = 20  # with fewer in a bin, its observed share says little


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """What was said against what came true, in bins with equal counts."""

    confidence: np.ndarray  # float64 (B,), mean probability in each bin, ascending
    observed: np.ndarray  # float64 (B,), share that came true
    count: np.ndarray  # int64 (B,)
    low: np.ndarray  # float64 (B,), 95 % interval (Wilson) of ``observed``
    high: np.ndarray  # float64 (B,)
    ece: float  # Σ count/N · |observed − confidence|
    ece_by_chance: float  # what a perfectly calibrated model would show on so few items


def reliability_curve(confidence: np.ndarray, outcome: np.ndarray, n_bins: int | None = None) -> Reliability:
    """Compare probabilities with outcomes in bins with equal counts (equal probabilities share a bin).

    Args:
        confidence: float ``(M,)`` in [0, 1]; of a classifier's classes see ``top_class``.
        outcome: bool ``(M,)``, whether it came true.
        n_bins: default one for each 20 items, at most 15.

    Source: equal counts and absolute differences: Nixon et al. 2019, "Measuring calibration in deep learning".
    """
    bins, b = _bins(confidence, n_bins)
    count = np.bincount(bins, minlength=b)
    said, true = (np.bincount(bins, w, minlength=b) for w in (confidence, outcome.astype(float)))
    spread = np.bincount(bins, confidence * (1 - confidence), minlength=b)
    low, high = wilson(true / count, count)
    return Reliability(
        confidence=said / count,
        observed=true / count,
        count=count.astype(np.int64),
        low=low,
        high=high,
        ece=float(np.abs(true - said).sum() / len(bins)),
        # mean of |normal(0, σ)|: sums of Bernoulli draws about their own probabilities
        ece_by_chance=float(np.sqrt(2 / math.pi * spread).sum() / len(bins)),
    )


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

    return SumScore("ECE", rows, lambda t: np.abs(t[..., :-1]).sum(axis=-1) / t[..., -1])


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
