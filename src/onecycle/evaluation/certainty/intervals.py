"""How sure a number is: scores of predictions, their 95 % intervals, and their baselines.

A score is computed from ``probs`` float ``(N, C)`` and ``targets``: int ``(N,)`` class indices, or 0/1 ``(N, C)``
for tags. It takes a weight for each picture too, so that a bootstrap sample is a row of weights and a thousand
samples are one matrix product. Pictures that belong together (one scene, one patient) are drawn as a group.

The samples are halves, drawn without replacement. A sample with replacement repeats pictures, and a ranking that
repeats its positives seems steadier than it is: for macro-AP of 200 drawn pictures its spread was 9 % too
small and its interval held the truth in 92 % of cases, that of halves in 94 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from onecycle.errors import ArgumentError
from onecycle.evaluation.scores import (
    average_precisions,
    fbeta_score,
    mean_without_nan,
    one_hot,
    precision_score,
    ratio,
    recall_score,
    sample_fbeta_score,
    top_k_hits,
)

if TYPE_CHECKING:
    from onecycle.evaluation.scores import Thresh

N_BOOT = 1000  # half-samples; only their spread is used, which 1,000 give to about 2 % and 200 to 5 %
MIN_BOOT, BOOT_CELLS = 200, 2_000_000  # fewer of them where there are more than 2,000 pictures
LEVEL = 0.95
MAX_CELLS = 4_000_000  # weights held at a time (32 MB): bounds the memory for any number of pictures
Rows = Callable[[np.ndarray, np.ndarray], np.ndarray]


# -- scores --------------------------------------------------------------------------------------------------


class WeightedScore(Protocol):
    """A score that can count a picture several times."""

    @property
    def name(self) -> str: ...  # as printed
    @property
    def bounded(self) -> bool: ...  # whether it lies in [0, 1]
    def weighted(self, probs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the score for each row of ``weights`` float ``(B, N)``, float64 ``(B,)``."""
        ...


@dataclass(frozen=True)
class SumScore:
    """A score that is a function of sums over pictures: a mean, a ratio of counts."""

    name: str  # as printed
    rows: Rows  # (probs, targets) → what each picture adds, float (N, K)
    total: Callable[[np.ndarray], np.ndarray]  # sums (..., K) → score (...)
    bounded: bool = True  # whether it lies in [0, 1]
    falls: bool = False  # whether less is better
    names: int = 1  # how many classes a prediction names (of tags: any number); 0: it reads probabilities

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
        truth = one_hot(targets, probs.shape[1])
        occurring = np.flatnonzero(truth.any(axis=0))
        if not len(occurring):
            return np.full(len(weights), np.nan)
        each = np.stack([average_precisions(truth[:, c], probs[:, c], weights) for c in occurring])
        return mean_without_nan(each, axis=0)


def _mean_of(name: str, per_picture: Rows, *, bounded: bool = True, falls: bool = False, names: int = 1) -> SumScore:
    """Return the score that is the mean of a value a picture, float ``(N,)``."""

    def rows(probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.stack([per_picture(probs, targets), np.ones(len(probs))], axis=1)

    return SumScore(name, rows, lambda t: ratio(t[..., 0], t[..., 1]), bounded, falls, names)


def accuracy() -> SumScore:
    """Share of pictures whose most probable class (of equal ones the first) is the true one."""
    return _mean_of("accuracy", lambda p, y: (p.argmax(axis=1) == y).astype(float))


def error_rate() -> SumScore:
    """1 − ``accuracy``."""
    return _mean_of("error rate", lambda p, y: (p.argmax(axis=1) != y).astype(float), falls=True)


def top_k_accuracy(k: int = 5) -> SumScore:
    """Share of pictures whose true class is among the k most probable; ties go to the lower class index."""
    top_k_hits(np.zeros((1, 1)), np.zeros(1, dtype=np.int64), k)  # a bad k is told now, not at the first use
    return _mean_of(f"top-{k} accuracy", lambda p, y: top_k_hits(p, y, k).astype(float), names=k)


def log_loss() -> SumScore:
    """Mean −log probability of the truth; for tags the mean over the tags of each picture."""

    def losses(p: np.ndarray, y: np.ndarray) -> np.ndarray:
        safe = np.clip(p.astype(float), 1e-7, 1 - 1e-7)
        if y.ndim == 1:
            return np.asarray(-np.log(safe[np.arange(len(y)), y]))
        return np.asarray(-np.log(np.where(y > 0, safe, 1 - safe)).mean(axis=1))

    return _mean_of("log loss", losses, bounded=False, falls=True, names=0)


def sample_fbeta(beta: float = 2.0, thresh: Thresh = 0.2) -> SumScore:
    """Mean over pictures of F-beta of that picture's tags; a tag is given from ``thresh`` on.

    A picture that neither has nor is given a tag counts 0, as in ``onecycle.train.metrics.fbeta``.
    """

    def values(p: np.ndarray, y: np.ndarray) -> np.ndarray:
        return sample_fbeta_score(p >= np.asarray(thresh), y > 0, beta)

    return _mean_of(f"sample-F{beta:g}{_at(thresh)}", values)


def micro_fbeta(beta: float = 1.0, thresh: Thresh = 0.5) -> SumScore:
    """F-beta over all decisions (pictures × tags) together."""
    return _tag_score(f"micro-F{beta:g}", thresh, lambda t: fbeta_score(*_summed(t), beta=beta))


def macro_fbeta(beta: float = 1.0, thresh: Thresh = 0.5) -> SumScore:
    """Mean over tags of each tag's F-beta; tags that neither occur nor are given are left out."""
    name = f"macro-F{beta:g}"
    return _tag_score(name, thresh, lambda t: mean_without_nan(fbeta_score(*_counts(t), beta=beta), axis=-1))


def micro_precision(thresh: Thresh = 0.5) -> SumScore:
    """Of all tags given, the share that is true; NaN where none is given."""
    return _tag_score("precision", thresh, lambda t: precision_score(*_summed(t)[:2]))


def micro_recall(thresh: Thresh = 0.5) -> SumScore:
    """Of all true tags, the share that is given."""
    return _tag_score("recall", thresh, lambda t: recall_score(*_summed(t)[::2]))


def default_scores(n_classes: int, *, is_multi: bool) -> list[WeightedScore]:
    """Return what is reported unless other scores are asked for.

    One label a picture: accuracy and error rate, and top-5 accuracy from ten classes on. Tags: sample-F2 at 0.2,
    micro-F1 at 0.5, macro-AP.
    """
    if is_multi:
        return [sample_fbeta(2, 0.2), micro_fbeta(1, 0.5), MacroAveragePrecision()]
    return [accuracy(), error_rate(), *([top_k_accuracy(5)] if n_classes >= 10 else [])]


def _tag_score(name: str, thresh: Thresh, total: Callable[[np.ndarray], np.ndarray]) -> SumScore:
    """Return a score of the sums of ``_tag_rows``."""
    return SumScore(f"{name}{_at(thresh)}", partial(_tag_rows, thresh=thresh), total)


def _tag_rows(probs: np.ndarray, targets: np.ndarray, *, thresh: Thresh) -> np.ndarray:
    """Return tp, fp, fn of each tag side by side, float ``(N, 3C)``."""
    predicted, truth = probs >= np.asarray(thresh), one_hot(targets, probs.shape[1])
    return np.concatenate([predicted & truth, predicted & ~truth, ~predicted & truth], axis=1).astype(float)


def _counts(sums: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return tp, fp, fn of each tag, ``(..., C)`` each, from sums of ``_tag_rows`` ``(..., 3C)``."""
    return tuple(np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0))


def _summed(sums: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return tp, fp, fn of all tags together, ``(...)`` each."""
    return tuple(count.sum(axis=-1) for count in _counts(sums))


def _at(thresh: Thresh) -> str:
    return f" at {float(np.asarray(thresh)):g}" if np.ndim(thresh) == 0 else ""


# -- intervals -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval, next to the baseline: the best that one could do without the pictures."""

    name: str
    value: float  # over all pictures
    low: float  # lower end of the interval
    high: float  # upper end
    baseline: float | None = None  # the score of ``baseline.best_constant``; None: not asked for
    n: int  # pictures
    baseline_name: str = ""  # what that says of every picture, in words
    gain: tuple[float, float] | None = None  # 95 % interval of how much better it is than the baseline
    signed: bool = False  # whether it is a difference, printed with its sign

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        names = ("name", "value", "low", "high", "baseline", "baseline_name", "n")
        low, high = (end if math.isfinite(end) else None for end in self.gain or (math.nan, math.nan))
        return {name: getattr(self, name) for name in names} | {"gain_low": low, "gain_high": high}

    @property
    def beats_baseline(self) -> bool:
        """Whether it is shown to be better than the baseline: on the same pictures, with the low end above 0."""
        return self.gain is not None and self.gain[0] > 0

    def of_new(self, m: int) -> tuple[float, float]:
        """Return between which ends the score of m new pictures lies in 95 of 100 cases, for a score in [0, 1].

        The interval is of the score over *all* such pictures; that of m others varies about it as well.
        """
        wider = math.sqrt(1 + self.n / m)
        low, high = self.value - wider * (self.value - self.low), self.value + wider * (self.high - self.value)
        return max(low, 0.0), min(high, 1.0)

    def __str__(self) -> str:
        digits = 2 if self.high - self.low >= 0.02 else 3
        sign = "+" if self.signed else ""
        than = "" if self.baseline is None else f"; baseline {self.baseline:.2f}"
        ends = f"{self.low:{sign}.{digits}f} to {self.high:{sign}.{digits}f}"
        return f"{self.name} {self.value:{sign}.3f} ({ends}{than})"


def estimate(
    score: WeightedScore,
    probs: np.ndarray,
    targets: np.ndarray,
    *,
    groups: Sequence[object] | np.ndarray | None = None,
    n_boot: int | None = None,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """Return a score with its interval; ``baseline.with_baseline`` adds what it is compared with.

    The interval comes from the spread of the score over half-samples. A score in [0, 1] gets a score
    interval (Wilson) of as many pictures as would give that spread, which holds near 0 and 1 and for
    few pictures, where percentiles are too narrow; any other gets value ± t · spread.

    A mean over tags with fewer than about five positives is itself too high on few pictures, as is average
    precision of two positives; no interval mends that.

    Args:
        score: one of this module, or another ``WeightedScore``.
        probs: float ``(N, C)``.
        targets: int ``(N,)``, or 0/1 ``(N, C)``.
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
    weighted = partial(score.weighted, probs, targets)
    value, low, high = _with_interval(weighted, len(probs), groups, level, n_boot, seed, bounded=score.bounded)
    return Estimate(name=score.name, value=value, low=low, high=high, n=len(probs))


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

    def change(weights: np.ndarray) -> np.ndarray:
        return np.asarray(score.weighted(probs, targets, weights) - score.weighted(other, targets, weights))

    value, low, high = _with_interval(change, len(probs), groups, level, n_boot, seed, bounded=False)
    name = name or f"difference in {score.name}"
    return Estimate(name=name, value=value, low=low, high=high, n=len(probs), signed=True)


def wilson(share: np.ndarray | float, n: np.ndarray | float, z: float = 1.959964) -> tuple[np.ndarray, np.ndarray]:
    """Return the score interval of a share out of n, float ``(…)`` each, within [0, 1]."""
    share, n = np.asarray(share, dtype=float), np.asarray(n, dtype=float)
    shrunk = 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / shrunk
    half = z / shrunk * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def group_numbers(groups: Sequence[object] | np.ndarray) -> np.ndarray:
    """Number groups in the order in which they appear, int64 ``(N,)`` from 0 on."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(g, len(numbers)) for g in np.asarray(groups, dtype=object)])


def _with_interval(
    score: Callable[[np.ndarray], np.ndarray],
    n: int,
    groups: Sequence[object] | np.ndarray | None,
    level: float,
    n_boot: int | None,
    seed: int,
    *,
    bounded: bool,
) -> tuple[float, float, float]:
    """Return value, low and high of a score of weights, ``(B, N)`` → ``(B,)``."""
    from scipy.special import stdtrit

    units = np.arange(n) if groups is None else group_numbers(groups)
    n_units = int(units.max()) + 1
    value = float(score(np.ones((1, n)))[0])
    draws = np.concatenate([score(counts[:, units]) for counts in _half_samples(n_units, n_boot, seed, n)])
    draws = draws[np.isfinite(draws)]
    if math.isnan(value) or len(draws) < 2:
        return value, math.nan, math.nan
    if n_units < 2:  # one group says nothing of how groups differ
        return (value, 0.0, 1.0) if bounded else (value, -math.inf, math.inf)
    half = n_units // 2
    spread = float(draws.std()) * math.sqrt(half / (n_units - half))
    quantile = float(stdtrit(n_units - 1, (1 + level) / 2))
    if not bounded:
        return value, value - quantile * spread, value + quantile * spread
    inside = value * (1 - value)
    # Without any spread, as among three pictures that score alike, nothing is known but how many there are.
    effective = n_units if inside <= 0 or spread < 1e-9 else inside / spread**2
    low, high = wilson(value, effective, quantile)
    return value, float(low), float(high)


def _half_samples(n_units: int, n_boot: int | None, seed: int, n: int) -> Iterator[np.ndarray]:
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


def check_arrays(probs: np.ndarray, targets: np.ndarray, groups: Sequence[object] | np.ndarray | None = None) -> None:
    """Refuse arrays that do not belong together; used by the whole room."""
    if probs.ndim != 2 or not len(probs) or targets.shape not in (probs.shape, probs.shape[:1]):
        raise ArgumentError(
            "expected probs (N, C) with at least one picture and targets (N,) or (N, C); received "
            f"{probs.shape} and {targets.shape}"
        )
    if groups is not None and len(groups) != len(probs):
        raise ArgumentError(f"groups needs an id for each of {len(probs)} pictures; received {len(groups)}")
