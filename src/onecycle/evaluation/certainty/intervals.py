"""How sure a number is: scores of predictions, their 95 % intervals, and their baselines.

A score is computed from ``probs`` float ``(N, C)`` and ``targets``: int ``(N,)`` class indices, or 0/1 ``(N, C)``
for tags. It takes a weight for each picture too, so that a bootstrap sample is a row of weights and a thousand
samples are one matrix product. Pictures that belong together (one scene, one patient) are drawn as a group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.half_samples import HalfSamples, draw_halves, t_quantile
from onecycle.evaluation.scores import (
    average_precisions,
    exact_matches,
    fbeta_score,
    mean_without_nan,
    one_hot,
    precision_score,
    ratio,
    recall_score,
    sample_fbeta_score,
    top_k_hits,
)
from onecycle.text import plural

if TYPE_CHECKING:
    from onecycle.evaluation.scores import Thresh

LEVEL = 0.95
LEAST_POSITIVES = 5
"""Average precision of fewer positives is far too high, and so is a mean over tags that has it."""

Rows = Callable[[np.ndarray, np.ndarray], np.ndarray]


# -- scores --------------------------------------------------------------------------------------------------


class WeightedScore(Protocol):
    """A score that can count a picture several times.

    It may also say ``informative(probs, targets)``, see ``SumScore``, and ``over(targets)``, see ``Estimate``.
    """

    @property
    def name(self) -> str: ...  # as printed
    @property
    def bounded(self) -> bool: ...  # whether it lies in [0, 1]
    def weighted(self, probs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the score for each row of ``weights`` float ``(B, N)``, float64 ``(B,)``."""
        ...


@dataclass(frozen=True, kw_only=True)
class SumScore:
    """A score that is a function of sums over pictures: a mean, a ratio of counts."""

    name: str  # as printed
    rows: Rows  # (probs, targets) → what each picture adds, float (N, K)
    total: Callable[[np.ndarray], np.ndarray]  # sums (..., K) → score (...)
    bounded: bool = True  # whether it lies in [0, 1]
    falls: bool = False  # whether less is better
    names: int = 1  # how many classes a prediction names (of tags: any number); 0: it reads probabilities
    informative: Rows | None = None
    """(probs, targets) → which pictures each of the K parts rests on that the score is a mean of, bool (N, K); None:
    one part, which rests on all pictures. A score of 1 from five of them is known no better than five of them say."""
    constants: Callable[[np.ndarray], list[tuple[int, ...]]] | None = None
    """Truth, bool (N, C) → the sets of tags that a baseline may name for every picture; None: the k commonest tags."""

    def weighted(self, probs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the score for each row of ``weights`` float ``(B, N)``, float64 ``(B,)``."""
        return self.total(weights @ self.rows(probs, targets))


@dataclass(frozen=True)
class MacroAveragePrecision:
    """Mean over tags of average precision Σ (Rᵢ − Rᵢ₋₁)·Pᵢ; tags with fewer than ``least`` positives are left out."""

    least: int = LEAST_POSITIVES
    name: str = "macro-AP"
    bounded: bool = True
    biased: bool = True
    """Too high on few positives: its interval is moved down by what half-samples show of that."""

    def weighted(self, probs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the score for each row of ``weights`` float ``(B, N)``, float64 ``(B,)``."""
        truth = one_hot(targets, probs.shape[1])
        judged = np.flatnonzero(self._judged(truth))
        if not len(judged):
            return np.full(len(weights), np.nan)
        each = np.stack([average_precisions(truth[:, c], probs[:, c], weights) for c in judged])
        return mean_without_nan(each, axis=0)

    def informative(self, probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return the positives of the tags that count, bool ``(N, K)``."""
        truth = one_hot(targets, probs.shape[1])
        return truth[:, self._judged(truth)]

    def over(self, targets: np.ndarray) -> str:
        """Return over which tags it is a mean, from 0/1 ``(N, C)``."""
        k = int(self._judged(targets > 0).sum())
        return f"{plural(k, 'tag')} ({self.least}+ positives)"

    def _judged(self, truth: np.ndarray) -> np.ndarray:
        return np.asarray(truth.sum(axis=0) >= max(self.least, 1))


def _mean_of(name: str, per_picture: Rows, *, bounded: bool = True, falls: bool = False, names: int = 1) -> SumScore:
    """Return the score that is the mean of a value a picture, float ``(N,)``."""

    def rows(probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.stack([per_picture(probs, targets), np.ones(len(probs))], axis=1)

    def mean(sums: np.ndarray) -> np.ndarray:
        return ratio(sums[..., 0], sums[..., 1])

    return SumScore(name=name, rows=rows, total=mean, bounded=bounded, falls=falls, names=names)


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


def sample_fbeta(beta: float = 2.0, thresh: Thresh | None = 0.2) -> SumScore:
    """Mean over pictures of F-beta of that picture's tags; a tag is given from ``thresh`` on; None: of decisions.

    A picture that neither has nor is given a tag counts 0, as in ``onecycle.train.metrics.fbeta``.
    """

    def values(p: np.ndarray, y: np.ndarray) -> np.ndarray:
        return sample_fbeta_score(p >= _limit(thresh), y > 0, beta)

    return _mean_of(f"sample-F{beta:g}{_at(thresh)}", values)


def exact_match() -> SumScore:
    """Share of pictures that are given exactly their tags: of decisions as 0.0 and 1.0."""
    score = _mean_of("exact-match share", lambda p, y: exact_matches(p >= 0.5, y > 0).astype(float))
    return replace(score, constants=lambda truth: [_commonest_set(truth)])


def _commonest_set(truth: np.ndarray) -> tuple[int, ...]:
    sets, counts = np.unique(truth, axis=0, return_counts=True)
    return tuple(np.flatnonzero(sets[counts.argmax()]).tolist())


def micro_fbeta(beta: float = 1.0, thresh: Thresh = 0.5) -> SumScore:
    """F-beta over all decisions (pictures × tags) together."""
    return _tag_score(f"micro-F{beta:g}", thresh, lambda t: fbeta_score(*_summed(t), beta=beta), "tp fp fn")


def macro_fbeta(beta: float = 1.0, thresh: Thresh = 0.5) -> SumScore:
    """Mean over tags of each tag's F-beta; tags that neither occur nor are given are left out."""
    name = f"macro-F{beta:g}"
    each = partial(fbeta_score, beta=beta)
    return _tag_score(name, thresh, lambda t: mean_without_nan(each(*_counts(t)), axis=-1), "tp fp fn", macro=True)


def micro_precision(thresh: Thresh | None = 0.5) -> SumScore:
    """Of all tags given, the share that is true; NaN where none is given."""
    return _tag_score("precision", thresh, lambda t: precision_score(*_summed(t)[:2]), "tp fp")


def micro_recall(thresh: Thresh | None = 0.5, *, least_precision: float | None = None) -> SumScore:
    """Of all true tags, the share that is given; the baseline, too, has ``least_precision`` where that is asked for."""
    score = _tag_score("recall", thresh, lambda t: recall_score(*_summed(t)[::2]), "tp fn")
    if least_precision is None:
        return score

    def precise(truth: np.ndarray) -> list[tuple[int, ...]]:
        shares = truth.mean(axis=0)
        order = np.argsort(-shares, kind="stable")
        precision = shares[order].cumsum() / np.arange(1, len(order) + 1)  # of the k commonest
        return [tuple(order[:k].tolist()) for k in range(int((precision >= least_precision).sum()) + 1)]

    return replace(score, name=f"recall at precision {least_precision:g}", constants=precise)


def default_scores(n_classes: int, *, is_multi: bool) -> list[WeightedScore]:
    """Return what is reported unless other scores are asked for.

    One label a picture: accuracy and error rate, and top-5 accuracy from ten classes on. Tags: sample-F2 at 0.2,
    micro-F1 at 0.5, macro-AP.
    """
    if is_multi:
        return [sample_fbeta(2, 0.2), micro_fbeta(1, 0.5), MacroAveragePrecision()]
    return [accuracy(), error_rate(), *([top_k_accuracy(5)] if n_classes >= 10 else [])]


def _tag_score(
    name: str, thresh: Thresh | None, total: Callable[[np.ndarray], np.ndarray], counted: str, *, macro: bool = False
) -> SumScore:
    """Return a score of the sums of ``_tag_rows`` that rests on those of tp, fp, fn that are ``counted``."""
    rows = partial(_tag_rows, thresh=thresh)
    at = [("tp", "fp", "fn").index(word) for word in counted.split()]

    def informative(probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        each = np.asarray(rows(probs, targets).reshape(len(probs), 3, -1)[:, at].max(axis=1) > 0)
        return each if macro else np.asarray(each.any(axis=1, keepdims=True))

    return SumScore(name=f"{name}{_at(thresh)}", rows=rows, total=total, informative=informative)


def _tag_rows(probs: np.ndarray, targets: np.ndarray, *, thresh: Thresh | None) -> np.ndarray:
    """Return tp, fp, fn of each tag side by side, float ``(N, 3C)``."""
    predicted, truth = probs >= _limit(thresh), one_hot(targets, probs.shape[1])
    return np.concatenate([predicted & truth, predicted & ~truth, ~predicted & truth], axis=1).astype(float)


def _counts(sums: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return tp, fp, fn of each tag, ``(..., C)`` each, from sums of ``_tag_rows`` ``(..., 3C)``."""
    return tuple(np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0))


def _summed(sums: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return tp, fp, fn of all tags together, ``(...)`` each."""
    return tuple(count.sum(axis=-1) for count in _counts(sums))


def _limit(thresh: Thresh | None) -> np.ndarray:
    """Return what probabilities are compared with; decisions, 0.0 and 1.0, with what lies between."""
    return np.asarray(0.5 if thresh is None else thresh)


def _at(thresh: Thresh | None) -> str:
    return f" at {float(np.asarray(thresh)):g}" if thresh is not None and np.ndim(thresh) == 0 else ""


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
    over: str = ""  # which classes it is a mean over, where that are not all: "9 tags (5+ positives)"

    @property
    def label(self) -> str:
        """Its name as a person reads it, with the classes that it is a mean over."""
        return f"{self.name} of {self.over}" if self.over else self.name

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        names = ("name", "over", "value", "low", "high", "baseline", "baseline_name", "n")
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
        return f"{self.label} {self.value:{sign}.3f} ({ends}{than})"


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
    few pictures, where percentiles are too narrow; any other gets value ± t · spread. Average precision is too high on
    few positives: its interval is moved down by as much as half-samples are higher than the whole.

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
        bootstrap". How often it holds the truth:
        ``docs/how-numbers-are-made.md``.
    """
    check_arrays(probs, targets, groups)
    drawn = _draw(partial(score.weighted, probs, targets), len(probs), groups, n_boot, seed)
    low, high = _wilson_interval(score, probs, targets, drawn, level) if score.bounded else drawn.around(level)
    return Estimate(name=score.name, over=_over(score, targets), value=drawn.value, low=low, high=high, n=len(probs))


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

    drawn = _draw(change, len(probs), groups, n_boot, seed)
    low, high = drawn.around(level)
    name, over = name or f"difference in {score.name}", _over(score, targets)
    return Estimate(name=name, over=over, value=drawn.value, low=low, high=high, n=len(probs), signed=True)


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


def _draw(
    score: Callable[[np.ndarray], np.ndarray],
    n: int,
    groups: Sequence[object] | np.ndarray | None,
    n_boot: int | None,
    seed: int,
) -> HalfSamples:
    """Draw half-samples of a score of weights, ``(B, N)`` → ``(B,)``."""
    return draw_halves(score, np.arange(n) if groups is None else group_numbers(groups), n_boot, seed)


def _wilson_interval(
    score: WeightedScore, probs: np.ndarray, targets: np.ndarray, drawn: HalfSamples, level: float
) -> tuple[float, float]:
    """Return Wilson's interval of the effective number, for a score in [0, 1]; the value stays inside."""
    if drawn.unknown or drawn.n_units < 2:
        return (math.nan, math.nan) if drawn.unknown else (0.0, 1.0)
    a_part, together, centre = float(drawn.n_units), float(drawn.n_units), drawn.value
    informative: Rows | None = getattr(score, "informative", None)
    if informative is not None:
        a_part, together = drawn.resting_on(informative(probs, targets))
    if getattr(score, "biased", False):
        centre = float(np.clip(2 * drawn.value - drawn.mean, 0, 1))
    inside = centre * (1 - centre)
    # Without any spread, as among three pictures that score alike, nothing is known but how many there are.
    effective = together if inside <= 0 or drawn.spread < 1e-9 else inside / drawn.spread**2
    low, high = wilson(centre, effective, t_quantile(max(a_part - 1, 1), level))
    return min(float(low), drawn.value), max(float(high), drawn.value)


def _over(score: WeightedScore, targets: np.ndarray) -> str:
    over: Callable[[np.ndarray], str] | None = getattr(score, "over", None)
    return "" if over is None else over(targets)


def check_arrays(probs: np.ndarray, targets: np.ndarray, groups: Sequence[object] | np.ndarray | None = None) -> None:
    """Refuse arrays that do not belong together; used by the whole room."""
    if probs.ndim != 2 or not len(probs) or targets.shape not in (probs.shape, probs.shape[:1]):
        raise ArgumentError(
            "expected probs (N, C) with at least one picture and targets (N,) or (N, C); received "
            f"{probs.shape} and {targets.shape}"
        )
    if groups is not None and len(groups) != len(probs):
        raise ArgumentError(f"groups needs an id for each of {len(probs)} pictures; received {len(groups)}")
