"""How sure a number is: scores of predictions, their 95 % intervals, and what guessing would have scored.

A score is computed from ``probs`` float ``(N, C)`` and ``targets``: int ``(N,)`` class indices, or 0/1 ``(N, C)``
for tags. It takes a weight for each picture too, so that a bootstrap sample is a row of weights and a thousand
samples are one matrix product. Pictures that belong together (one scene, one patient) are drawn as a group.

The samples are halves, drawn without replacement. A sample with replacement repeats pictures, and a ranking that
repeats its positives looks steadier than it is: for macro-AP of 200 drawn pictures its spread was 9 % too
small and its interval held the truth in 92 % of cases, that of halves in 94 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from onecycle.errors import ArgumentError

N_BOOT = 1000  # half-samples; only their spread is used, which 1,000 give to about 2 % and 200 to 5 %
MIN_BOOT, BOOT_CELLS = 200, 2_000_000  # fewer of them where there are more than 2,000 pictures
LEVEL = 0.95
MAX_CELLS = 4_000_000  # weights held at a time (32 MB): bounds the memory for any number of pictures
Rows = Callable[[np.ndarray, np.ndarray], np.ndarray]
PlainScore = Callable[[np.ndarray, np.ndarray], float]


# -- scores --------------------------------------------------------------------------------------------------


class WeightedScore(Protocol):
    """A score that can count a picture several times.

    Attributes:
        name: as printed.
        bounded: whether it lies in [0, 1].
    """

    @property
    def name(self) -> str: ...
    @property
    def bounded(self) -> bool: ...
    def weighted(self, probs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the score for each row of ``weights`` float ``(B, N)``, float64 ``(B,)``."""
        ...


@dataclass(frozen=True)
class SumScore:
    """A score that is a function of sums over pictures: a mean, a ratio of counts.

    Args:
        name: as printed.
        rows: (probs, targets) → what each picture adds, float ``(N, K)``.
        total: sums ``(..., K)`` → score ``(...)``.
        bounded: whether it lies in [0, 1].
    """

    name: str
    rows: Rows
    total: Callable[[np.ndarray], np.ndarray]
    bounded: bool = True

    def weighted(self, probs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the score for each row of ``weights`` float ``(B, N)``, float64 ``(B,)``."""
        return self.total(weights @ self.rows(probs, targets))


@dataclass(frozen=True)
class MacroAveragePrecision:
    """Mean over tags of average precision Σ (Rᵢ − Rᵢ₋₁)·Pᵢ; tags without a positive are left out."""

    name: str = "macro-AP"
    bounded: bool = True

    def weighted(self, probs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the score for each row of ``weights`` float ``(B, N)``, float64 ``(B,)``."""
        truth = _one_hot(targets, probs.shape[1])
        occurring = np.flatnonzero(truth.any(axis=0))
        if not len(occurring):
            return np.full(len(weights), np.nan)
        found = np.stack([_weighted_ap(truth[:, c], probs[:, c], weights) for c in occurring])
        return _mean_without_nan(found, axis=0)


@dataclass(frozen=True)
class AnyScore:
    """Any function ``(probs, targets) → number`` as a score; it is called once a bootstrap sample.

    Args:
        function: of arrays whose rows may repeat.
        name: as printed.
        bounded: whether it lies in [0, 1].
    """

    function: PlainScore
    name: str
    bounded: bool = False

    def weighted(self, probs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the score for each row of whole-number ``weights`` ``(B, N)``, float64 ``(B,)``."""
        every = np.arange(len(probs))
        drawn = (np.repeat(every, row.astype(np.int64)) for row in weights)
        return np.array([float(self.function(probs[i], targets[i])) for i in drawn])


def _mean_of(name: str, per_picture: Rows, *, bounded: bool = True) -> SumScore:
    """Return the score that is the mean of a value a picture, float ``(N,)``."""

    def rows(probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.stack([per_picture(probs, targets), np.ones(len(probs))], axis=1)

    return SumScore(name, rows, lambda t: ratio(t[..., 0], t[..., 1]), bounded)


def accuracy() -> SumScore:
    """Share of pictures whose most probable class (of equal ones the first) is the true one."""
    return _mean_of("accuracy", lambda p, y: (p.argmax(axis=1) == y).astype(float))


def error_rate() -> SumScore:
    """1 − ``accuracy``."""
    return _mean_of("error rate", lambda p, y: (p.argmax(axis=1) != y).astype(float))


def top_k_accuracy(k: int = 5) -> SumScore:
    """Share of pictures whose true class is among the k most probable; ties go to the lower class index."""
    if k < 1:
        raise ArgumentError(f"top_k_accuracy expects k >= 1, received {k}")

    def hits(p: np.ndarray, y: np.ndarray) -> np.ndarray:
        ranked = np.argsort(-p, axis=1, kind="stable")[:, :k]
        return np.asarray((ranked == y[:, None]).any(axis=1), dtype=float)

    return _mean_of(f"top-{k} accuracy", hits)


def log_loss() -> SumScore:
    """Mean −log probability of the truth; for tags the mean over the tags of each picture."""

    def losses(p: np.ndarray, y: np.ndarray) -> np.ndarray:
        safe = np.clip(p.astype(float), 1e-7, 1 - 1e-7)
        if y.ndim == 1:
            return np.asarray(-np.log(safe[np.arange(len(y)), y]))
        return np.asarray(-np.log(np.where(y > 0, safe, 1 - safe)).mean(axis=1))

    return _mean_of("log loss", losses, bounded=False)


def sample_fbeta(beta: float = 2.0, thresh: float | Sequence[float] | np.ndarray = 0.2) -> SumScore:
    """Mean over pictures of F-beta of that picture's tags; a tag is given from ``thresh`` on.

    A picture that neither has nor is given a tag counts 0, as in ``onecycle.train.metrics.fbeta``.
    """

    def values(p: np.ndarray, y: np.ndarray) -> np.ndarray:
        return sample_f(p >= np.asarray(thresh), y > 0, beta)

    return _mean_of(f"sample-F{beta:g}{_at(thresh)}", values)


def sample_f(given: np.ndarray, truth: np.ndarray, beta: float) -> np.ndarray:
    """Return F-beta of each picture's tags from bool ``(..., N, C)``: (1+β²)·tp / (given + β²·true), 0 for 0/0."""
    hits = (given & truth).sum(axis=-1)
    return ratio((1 + beta**2) * hits, given.sum(axis=-1) + beta**2 * truth.sum(axis=-1), empty=0.0)


def micro_fbeta(beta: float = 1.0, thresh: float | Sequence[float] | np.ndarray = 0.5) -> SumScore:
    """F-beta over all decisions (pictures × tags) together."""

    def total(t: np.ndarray) -> np.ndarray:
        return _f_of_counts(t.reshape(*t.shape[:-1], 3, -1).sum(axis=-1)[..., None], beta)[..., 0]

    return SumScore(f"micro-F{beta:g}{_at(thresh)}", partial(_tag_rows, thresh=thresh), total)


def macro_fbeta(beta: float = 1.0, thresh: float | Sequence[float] | np.ndarray = 0.5) -> SumScore:
    """Mean over tags of each tag's F-beta; tags that neither occur nor are given are left out."""

    def total(t: np.ndarray) -> np.ndarray:
        return _mean_without_nan(_f_of_counts(t.reshape(*t.shape[:-1], 3, -1), beta), axis=-1)

    return SumScore(f"macro-F{beta:g}{_at(thresh)}", partial(_tag_rows, thresh=thresh), total)


def micro_precision(thresh: float | Sequence[float] | np.ndarray = 0.5) -> SumScore:
    """Of all tags given, the share that is true; NaN where none is given."""

    def total(t: np.ndarray) -> np.ndarray:
        hits, wrong, _ = np.moveaxis(t.reshape(*t.shape[:-1], 3, -1).sum(axis=-1), -1, 0)
        return ratio(hits, hits + wrong)

    return SumScore(f"precision{_at(thresh)}", partial(_tag_rows, thresh=thresh), total)


def micro_recall(thresh: float | Sequence[float] | np.ndarray = 0.5) -> SumScore:
    """Of all true tags, the share that is given."""

    def total(t: np.ndarray) -> np.ndarray:
        hits, _, missed = np.moveaxis(t.reshape(*t.shape[:-1], 3, -1).sum(axis=-1), -1, 0)
        return ratio(hits, hits + missed)

    return SumScore(f"recall{_at(thresh)}", partial(_tag_rows, thresh=thresh), total)


def default_scores(n_classes: int, *, is_multi: bool) -> list[WeightedScore]:
    """Return what is reported unless other scores are asked for.

    One label a picture: accuracy and error rate, and top-5 accuracy from ten classes on. Tags: sample-F2 at 0.2,
    micro-F1 at 0.5, macro-AP.
    """
    if is_multi:
        return [sample_fbeta(2, 0.2), micro_fbeta(1, 0.5), MacroAveragePrecision()]
    return [accuracy(), error_rate(), *([top_k_accuracy(5)] if n_classes >= 10 else [])]


def _tag_rows(probs: np.ndarray, targets: np.ndarray, *, thresh: float | Sequence[float] | np.ndarray) -> np.ndarray:
    """Return tp, fp, fn of each tag side by side, float ``(N, 3C)``."""
    given, truth = probs >= np.asarray(thresh), _one_hot(targets, probs.shape[1])
    return np.concatenate([given & truth, given & ~truth, ~given & truth], axis=1).astype(float)


def _f_of_counts(counts: np.ndarray, beta: float) -> np.ndarray:
    """Return F-beta from ``(..., 3, C)`` (tp, fp, fn), ``(..., C)``; 0/0 is NaN."""
    hits, wrong, missed = np.moveaxis(counts, -2, 0)
    weighted = (1 + beta**2) * hits
    return ratio(weighted, weighted + wrong + beta**2 * missed)


def _weighted_ap(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return average precision of one tag for each row of ``weights``, float64 ``(B,)``; NaN without a positive."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    taken = weights[:, order]
    seen = np.cumsum(taken, axis=1)[:, ends]
    hits = np.cumsum(taken * truth[order], axis=1)[:, ends]
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    return ratio((np.diff(hits, axis=1, prepend=0) * precision).sum(axis=1), hits[:, -1])


def ratio(part: np.ndarray, whole: np.ndarray, *, empty: float = math.nan) -> np.ndarray:
    """Return part / whole, and ``empty`` where there is nothing, float64."""
    out = np.full(np.broadcast(part, whole).shape, empty)
    return np.asarray(np.divide(part, whole, out=out, where=np.asarray(whole) > 0))


def _mean_without_nan(values: np.ndarray, axis: int) -> np.ndarray:
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis))


def _one_hot(targets: np.ndarray, c: int) -> np.ndarray:
    return targets > 0 if targets.ndim == 2 else targets[:, None] == np.arange(c)


def _at(thresh: float | Sequence[float] | np.ndarray) -> str:
    return f" at {float(np.asarray(thresh)):g}" if np.ndim(thresh) == 0 else ""


# -- intervals -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, next to what a guess would have scored.

    Attributes:
        name: what it is.
        value: over all pictures.
        low, high: ends of the interval.
        baseline: the same score of a prediction that has not seen the picture; None where there is none.
        n: pictures.
        baseline_name: which prediction that is.
        signed: whether it is a difference, printed with its sign.
    """

    name: str
    value: float
    low: float
    high: float
    baseline: float | None
    n: int
    baseline_name: str = ""
    signed: bool = False

    def __str__(self) -> str:
        digits = 2 if self.high - self.low >= 0.02 else 3
        sign = "+" if self.signed else ""
        guess = "" if self.baseline is None else f"; {self.baseline_name} {self.baseline:.2f}"
        ends = f"{self.low:{sign}.{digits}f} to {self.high:{sign}.{digits}f}"
        return f"{self.name} {self.value:{sign}.3f} ({ends}{guess})"


def estimate(
    score: WeightedScore,
    probs: np.ndarray,
    targets: np.ndarray,
    *,
    prior: np.ndarray | None = None,
    groups: Sequence[object] | np.ndarray | None = None,
    n_boot: int | None = None,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """Return a score with its interval and, with ``prior``, its baseline.

    The interval comes from the spread of the score over half-samples. A score in [0, 1] gets a score
    interval (Wilson) of as many pictures as would give that spread, which holds near 0 and 1 and for
    few pictures, where percentiles are too narrow; any other gets value ± t · spread.

    A mean over tags with fewer than about five positives is itself too high on few pictures, as is average
    precision of two positives; no interval mends that.

    Args:
        score: one of this module, or ``AnyScore(function, name)``.
        probs: float ``(N, C)``.
        targets: int ``(N,)``, or 0/1 ``(N, C)``.
        prior: float ``(C,)`` share of each class in the **training** part; as a prediction of every picture it
            is the majority class, or for tags their prevalence.
        groups: an id for each picture; pictures of one group are drawn together. With few groups the interval
            is wide, as it should be.
        n_boot: half-samples; default 1,000, down to 200 for more than 10,000 pictures.
        seed: of the samples; the same seed gives the same interval.
        level: of the interval.

    Raises:
        ArgumentError: shapes that do not fit, or no picture.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference"; effective number
        as for surveys, Korn & Graubard 1998; half-samples, Saigo, Shao & Sitter 2001, "A repeated half-sample
        bootstrap". Coverage: simulated by ``benchmarks/harness/coverage.py``.
    """
    check_arrays(probs, targets, groups)
    value = float(score.weighted(probs, targets, np.ones((1, len(probs))))[0])
    units, n_units = _units(groups, len(probs))
    draws = [
        score.weighted(probs, targets, counts[:, units]) for counts in _resampled(n_units, n_boot, seed, len(probs))
    ]
    low, high = _interval(value, np.concatenate(draws), n_units, level, bounded=score.bounded)
    known = prior is not None
    baseline = baseline_value(score, np.asarray(prior), targets) if known else None
    name = "" if not known else "majority class" if targets.ndim == 1 else "prior"
    return Estimate(score.name, value, low, high, baseline, len(probs), name)


def difference(
    score: WeightedScore,
    probs: np.ndarray,
    other: np.ndarray,
    targets: np.ndarray,
    *,
    name: str | None = None,
    groups: Sequence[object] | np.ndarray | None = None,
    n_boot: int | None = None,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """Return score(``probs``) − score(``other``) on the same pictures, with the interval of the difference.

    Both are scored on the same half-samples, so what makes a picture hard for both does not widen the
    interval. To compare decisions, pass them as 0.0 and 1.0.

    Args:
        score: one of this module.
        probs, other: float ``(N, C)`` each.
        targets, groups, n_boot, seed, level: as in ``estimate``.
        name: as printed; default "difference in <score>".

    Raises:
        ArgumentError: shapes that do not fit, or no picture.
    """
    check_arrays(probs, targets, groups)
    check_arrays(other, targets, groups)
    once = np.ones((1, len(probs)))
    value = float((score.weighted(probs, targets, once) - score.weighted(other, targets, once))[0])
    units, n_units = _units(groups, len(probs))
    draws = [
        score.weighted(probs, targets, counts[:, units]) - score.weighted(other, targets, counts[:, units])
        for counts in _resampled(n_units, n_boot, seed, len(probs))
    ]
    low, high = _interval(value, np.concatenate(draws), n_units, level, bounded=False)
    return Estimate(name or f"difference in {score.name}", value, low, high, None, len(probs), "", signed=True)


def baseline_value(score: WeightedScore, prior: np.ndarray, targets: np.ndarray) -> float:
    """Return the score of predicting the training shares ``(C,)`` for every picture."""
    constant = np.broadcast_to(prior.astype(float), (len(targets), len(prior)))
    return float(score.weighted(constant, targets, np.ones((1, len(targets))))[0])


def wilson(share: np.ndarray | float, n: np.ndarray | float, z: float = 1.959964) -> tuple[np.ndarray, np.ndarray]:
    """Return the score interval of a share out of n, float ``(…)`` each, within [0, 1]."""
    share, n = np.asarray(share, dtype=float), np.asarray(n, dtype=float)
    shrunk = 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / shrunk
    half = z / shrunk * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def _interval(value: float, draws: np.ndarray, n_units: int, level: float, *, bounded: bool) -> tuple[float, float]:
    from scipy.special import stdtrit

    draws = draws[np.isfinite(draws)]
    if math.isnan(value) or len(draws) < 2:
        return math.nan, math.nan
    if n_units < 2:  # one group says nothing of how groups differ
        return (0.0, 1.0) if bounded else (-math.inf, math.inf)
    kept = n_units // 2
    spread = float(draws.std()) * math.sqrt(kept / (n_units - kept))
    quantile = float(stdtrit(n_units - 1, (1 + level) / 2))
    if not bounded:
        return value - quantile * spread, value + quantile * spread
    inside = value * (1 - value)
    # Without any spread, as among three pictures that score alike, nothing is known but how many there are.
    effective = n_units if inside <= 0 or spread < 1e-9 else inside / spread**2
    low, high = wilson(value, effective, quantile)
    return float(low), float(high)


def _units(groups: Sequence[object] | np.ndarray | None, n: int) -> tuple[np.ndarray, int]:
    """Return the number of each picture's unit (group, or the picture itself), int64 ``(N,)``, and how many."""
    if groups is None:
        return np.arange(n), n
    numbers: dict[object, int] = {}
    units = np.array([numbers.setdefault(g, len(numbers)) for g in np.asarray(groups, dtype=object)])
    return units, len(numbers)


def _resampled(n_units: int, n_boot: int | None, seed: int, n: int) -> Iterator[np.ndarray]:
    """Give which units are in each half-sample, 0.0 or 1.0 ``(b, n_units)``, ``n_boot`` rows in all."""
    if n_boot is None:
        n_boot = max(MIN_BOOT, min(N_BOOT, BOOT_CELLS // n))
    if n_boot < 2:
        raise ArgumentError(f"n_boot is a number of half-samples, at least 2; received {n_boot}")
    rng = np.random.default_rng(seed)
    at_once = max(1, MAX_CELLS // n)  # a group may hold many pictures
    for start in range(0, n_boot, at_once):
        b = min(at_once, n_boot - start)
        kept = max(1, n_units // 2)
        first = np.argpartition(rng.random((b, n_units)), kept - 1, axis=1)[:, :kept]
        taken = np.zeros((b, n_units))
        np.put_along_axis(taken, first, 1.0, axis=1)
        yield taken


def check_arrays(probs: np.ndarray, targets: np.ndarray, groups: Sequence[object] | np.ndarray | None = None) -> None:
    """Refuse arrays that do not belong together; used by the whole room."""
    if probs.ndim != 2 or not len(probs) or targets.shape not in (probs.shape, probs.shape[:1]):
        raise ArgumentError(
            "expected probs (N, C) with at least one picture and targets (N,) or (N, C); received "
            f"{probs.shape} and {targets.shape}"
        )
    if groups is not None and len(groups) != len(probs):
        raise ArgumentError(f"groups needs an id for each of {len(probs)} pictures; received {len(groups)}")
