"""Whether a probability of 0.8 is right in 80 of 100 cases, and how to make it so.

One label a picture: temperature scaling (Guo et al. 2017, "On calibration of modern neural networks"). Tags: Platt
scaling of each tag (Platt 1999, "Probabilistic outputs for support vector machines"), held near the temperature
that all tags share. Neither changes which of two pictures ranks higher for a class. Nothing here is reported on
the pictures that it was fitted on: ``cross_fit``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.intervals import (
    Estimate,
    check_arrays,
    difference,
    estimate,
    group_numbers,
    log_loss,
)
from onecycle.evaluation.scores import one_hot

if TYPE_CHECKING:
    import pandas as pd

    from onecycle.evaluation.certainty.reliability import Reliability

MIN_EACH = 5  # positives and negatives from which on a tag gets a slope and a bias of its own
SLOPE_SD, BIAS_SD = 0.25, 0.5  # how far a tag leaves the common slope (as a share of it) with few pictures
LOG_TEMPERATURE_SD = 1.0
LEAST_SLOPE = 0.02
TINY = 1e-7  # float32 probabilities nearer to 0 or 1 are rounding
Fitted = TypeVar("Fitted")


# -- mending -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities: softmax(slope·z) or, for tags, sigmoid(slope·z + bias)."""

    kind: Literal["temperature", "platt"]  # one label a picture, or tags
    slope: tuple[float, ...]  # one a class, > 0; with "temperature" the same for all: 1/T
    bias: tuple[float, ...]  # one a class; with "temperature" 0
    n: int  # pictures that it was fitted on

    def apply(self, probs: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities for a model's own, float64 ``(N, C)`` in [0, 1].

        Raises:
            ArgumentError: another number of classes, or values that are no probabilities.
        """
        if probs.ndim != 2 or probs.shape[1] != len(self.slope):
            raise ArgumentError(f"expected probs (N, {len(self.slope)}); received {probs.shape}")
        _check_probs(probs, is_multi=self.kind == "platt")
        return self.apply_logits(_logits(probs, is_multi=self.kind == "platt"))

    def apply_logits(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities for a model's logits, float64 ``(N, C)``."""
        scaled = logits.astype(float) * np.array(self.slope) + np.array(self.bias)
        return _sigmoid(scaled) if self.kind == "platt" else np.exp(scaled - _log_sum_exp(scaled)[:, None])

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; ``from_dict`` reads it."""
        return {"kind": self.kind, "slope": list(self.slope), "bias": list(self.bias), "n": self.n}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Calibration:
        """Read what ``to_dict`` wrote.

        Raises:
            ArgumentError: entries that are missing or do not fit.
        """
        try:
            kind, n = saved["kind"], int(saved["n"])
            slope, bias = (tuple(float(v) for v in saved[key]) for key in ("slope", "bias"))
        except (KeyError, TypeError, ValueError, OverflowError) as err:
            raise ArgumentError(
                f"a saved calibration has kind, slope, bias and n; received {str(saved)[:200]}"
            ) from err
        fits = kind in ("temperature", "platt") and len(slope) == len(bias) and min(slope, default=0) > 0
        if not (fits and all(map(math.isfinite, slope + bias))):
            raise ArgumentError(f"a saved calibration has slopes > 0 and as many biases; received {str(saved)[:200]}")
        return cls(kind, slope, bias, n)

    def __str__(self) -> str:
        if self.kind == "temperature":
            return f"temperature {1 / self.slope[0]:.2f}, fitted on {self.n:,} pictures"
        return f"Platt scaling of {len(self.slope)} tags, fitted on {self.n:,} pictures"


def fit_calibration(probs: np.ndarray, targets: np.ndarray) -> Calibration:
    """Fit what makes probabilities right on these pictures; report it on others, see ``cross_fit``.

    Few pictures move it little: the logarithm of the temperature has a normal prior of sd 1 about 0; each tag's
    slope and bias have one about the temperature that all tags share, and a tag with fewer than five
    positives or negatives keeps that.

    Args:
        probs: float ``(N, C)``.
        targets: int ``(N,)`` for temperature scaling, or 0/1 ``(N, C)`` for Platt scaling of each tag.

    Raises:
        ArgumentError: shapes that do not fit, no picture, or values that are no probabilities.
    """
    check_arrays(probs, targets)
    is_multi = targets.ndim == 2
    _check_probs(probs, is_multi=is_multi)
    z, c = _logits(probs, is_multi=is_multi), probs.shape[1]
    truth = one_hot(targets, c)
    common = _common_slope(z, truth, is_multi=is_multi)
    if not is_multi:
        return Calibration("temperature", (common,) * c, (0.0,) * c, len(probs))
    lines = [_platt(z[:, i], truth[:, i], common) for i in range(c)]
    return Calibration("platt", tuple(a for a, _ in lines), tuple(b for _, b in lines), len(probs))


def _common_slope(z: np.ndarray, truth: np.ndarray, *, is_multi: bool) -> float:
    """Return 1/T that makes the truth most likely, bool ``(N, C)``; held near 1 by the prior."""
    from scipy.optimize import minimize_scalar

    def cost(log_t: float) -> float:
        scaled = z * math.exp(-log_t)
        if is_multi:
            fit = np.logaddexp(0, np.where(truth, -scaled, scaled)).sum()
        else:
            fit = (_log_sum_exp(scaled) - scaled[truth]).sum()
        return float(fit) + 0.5 * (log_t / LOG_TEMPERATURE_SD) ** 2

    return math.exp(-float(minimize_scalar(cost, bounds=(-4, 4), method="bounded").x))


def _platt(z: np.ndarray, truth: np.ndarray, common: float) -> tuple[float, float]:
    """Return slope and bias of one tag, near (common, 0) unless the pictures say otherwise."""
    from scipy.optimize import minimize

    if min(truth.sum(), (~truth).sum()) < MIN_EACH:
        return common, 0.0
    prior, sd = np.array([common, 0.0]), np.array([SLOPE_SD * common, BIAS_SD])

    def cost(line: np.ndarray) -> tuple[float, np.ndarray]:
        scaled, away = line[0] * z + line[1], (line - prior) / sd
        wrong = _sigmoid(scaled) - truth
        fit = np.logaddexp(0, np.where(truth, -scaled, scaled)).sum() + 0.5 * (away**2).sum()
        return float(fit), np.array([(wrong * z).sum(), wrong.sum()]) + away / sd

    # A slope that is not positive would turn the ranking of the pictures round.
    line = minimize(cost, prior, jac=True, method="L-BFGS-B", bounds=[(LEAST_SLOPE, None), (None, None)]).x
    return float(line[0]), float(line[1])


def _logits(probs: np.ndarray, *, is_multi: bool) -> np.ndarray:
    p = probs.astype(float)
    if is_multi:
        p = np.clip(p, TINY, 1 - TINY)
        return np.asarray(np.log(p) - np.log1p(-p))
    return np.asarray(np.log(np.maximum(p, 1e-30)))


def _sigmoid(z: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return np.asarray(expit(z))


def _log_sum_exp(z: np.ndarray) -> np.ndarray:
    top = z.max(axis=1)
    return np.asarray(top + np.log(np.exp(z - top[:, None]).sum(axis=1)))


def _check_probs(probs: np.ndarray, *, is_multi: bool) -> None:
    inside = np.isfinite(probs).all() and probs.min(initial=0) >= 0 and probs.max(initial=0) <= 1 + 1e-5
    if not inside or not (is_multi or np.allclose(probs.sum(axis=1), 1, atol=1e-3)):
        kind = "each in [0, 1]" if is_multi else "each row with the sum 1"
        raise ArgumentError(
            f"calibration takes probabilities (N, C), {kind}; received {probs.min():.3g}..{probs.max():.3g}. "
            "With a loss that has no activation of its own, pass activ= to get_preds"
        )


# -- fitted on one part, judged on another --------------------------------------------------------------------


def make_folds(
    targets: np.ndarray, n_folds: int = 5, *, seed: int = 0, groups: Sequence[object] | np.ndarray | None = None
) -> np.ndarray:
    """Return the fold of each picture, int64 ``(N,)`` in 0..n_folds−1; the same seed gives the same folds.

    Args:
        targets: int ``(N,)``: classes are spread evenly; or 0/1 ``(N, C)``: pictures are by their rarest tag.
        n_folds: at least 2; fewer are made where there are fewer pictures or groups.
        seed: of the draw.
        groups: an id for each picture; a group stays in one fold, and folds have about the same size.

    Raises:
        ArgumentError: fewer than two folds, or fewer than two pictures or groups.
    """
    n = len(targets)
    units = n if groups is None else len(set(groups))
    if n_folds < 2 or units < 2:
        raise ArgumentError(
            "judging on held-out folds needs at least 2 folds and 2 pictures (or groups); "
            f"received {n_folds} and {units}"
        )
    k, rng = min(n_folds, units), np.random.default_rng(seed)
    if groups is not None:
        return _grouped_folds(groups, k, rng)
    stratum = targets if targets.ndim == 1 else _rarest_tag(targets > 0)
    order = np.lexsort((rng.permutation(n), stratum))
    folds = np.empty(n, dtype=np.int64)
    folds[order] = np.arange(n) % k  # dealt like cards, one class after the other
    return folds


def cross_fit(
    fit: Callable[[np.ndarray, np.ndarray], Fitted],
    apply: Callable[[Fitted, np.ndarray], np.ndarray],
    probs: np.ndarray,
    targets: np.ndarray,
    folds: np.ndarray,
) -> np.ndarray:
    """Return ``apply(fit(the other folds), this fold)`` for every picture, in order, ``(N, …)``.

    Args:
        fit: (probs, targets) → whatever ``apply`` needs.
        apply: (fitted, probs) → an array with a row for each picture.
        probs, targets: as everywhere.
        folds: of ``make_folds``.
    """
    check_arrays(probs, targets, folds)
    held_out = [folds == fold for fold in np.unique(folds)]
    if len(held_out) < 2:
        raise ArgumentError("cross-fitting needs at least two folds; received one")
    applied = [apply(fit(probs[~held], targets[~held]), probs[held]) for held in held_out]
    out = np.empty((len(probs), *applied[0].shape[1:]), dtype=applied[0].dtype)
    for held, values in zip(held_out, applied, strict=True):
        out[held] = values
    return out


@dataclass(frozen=True, kw_only=True)
class CalibrationReport:
    """How wrong probabilities are as the model gives them, and calibrated on pictures other than those judged.

    The text shows no intervals. ECE is too large by what chance adds (``by_chance``), which no interval of it mends; a
    change in log loss hangs on a few confident mistakes, and simulated intervals of it held the average change in 73
    to 97 % of cases only.
    """

    before: Estimate  # ECE as the model gives them
    after: Estimate  # ECE calibrated
    gain: Estimate  # ECE after − before on the same pictures; below 0 is better
    log_loss: Estimate  # the same difference in log loss, which also pays for sharpness
    by_chance: float  # ECE that a perfectly calibrated model would show on so many pictures
    curve_before: Reliability  # what ``plots.reliability_figure`` draws
    curve_after: Reliability
    per_class: pd.DataFrame  # of tags, a row each: positives, ECE before, after and by chance; empty for single labels
    n_folds: int  # each was judged by what the others gave
    calibration: Calibration  # fitted on all pictures, for use on new ones

    @property
    def helps(self) -> bool:
        """Whether it is shown to make the probabilities of pictures that it was not fitted on better.

        By their log loss: the 95 % interval of the change, on the same pictures, lies below 0.
        """
        return self.log_loss.high < 0

    def __str__(self) -> str:
        what = "all decisions" if self.calibration.kind == "platt" else "the top class"
        return (
            f"Calibration of {what}, {self.before.n:,} pictures:\n"
            f"  as the model gives it  ECE {self.before.value:.3f}\n"
            f"  calibrated             ECE {self.after.value:.3f}\n"
            f"  change in ECE          {self.gain.value:+.4f}\n"
            f"  change in log loss     {self.log_loss.value:+.4f}\n"
            f"Each of {self.n_folds} folds was calibrated by what the others gave. A perfectly\n"
            f"calibrated model would show an ECE of {self.by_chance:.3f} on so many pictures."
        )


def calibration_report(
    probs: np.ndarray,
    targets: np.ndarray,
    *,
    classes: Sequence[object] | None = None,
    n_folds: int = 10,
    seed: int = 0,
    groups: Sequence[object] | np.ndarray | None = None,
) -> CalibrationReport:
    """Judge calibration by cross-fitting, and fit it on all pictures.

    Args:
        probs: float ``(N, C)``.
        targets: int ``(N,)``, or 0/1 ``(N, C)``.
        classes: names for the rows of ``per_class``.
        n_folds, seed, groups: as in ``make_folds``; intervals, too, are over groups.

    Raises:
        ArgumentError: shapes that do not fit, fewer than two pictures, or values that are no probabilities.
    """
    from onecycle.evaluation.certainty.reliability import ece_score, reliability_curve, top_class

    check_arrays(probs, targets, groups)
    folds = make_folds(targets, n_folds, seed=seed, groups=groups)
    fitted = fit_calibration(probs, targets)
    held_out = cross_fit(fit_calibration, Calibration.apply, probs, targets, folds)
    score = ece_score()
    before, after = (estimate(score, p, targets, groups=groups, seed=seed) for p in (probs, held_out))
    gain, sharper = (difference(s, held_out, probs, targets, groups=groups, seed=seed) for s in (score, log_loss()))
    first, second = (reliability_curve(*top_class(p, targets)) for p in (probs, held_out))
    return CalibrationReport(
        before=before,
        after=after,
        gain=gain,
        log_loss=sharper,
        by_chance=second.ece_by_chance,
        curve_before=first,
        curve_after=second,
        per_class=_per_tag(probs, held_out, targets, classes),
        n_folds=int(folds.max()) + 1,
        calibration=fitted,
    )


def _per_tag(
    probs: np.ndarray, held_out: np.ndarray, targets: np.ndarray, classes: Sequence[object] | None
) -> pd.DataFrame:
    """Return the table of ``CalibrationReport.per_class``; empty for single labels."""
    import pandas as pd

    from onecycle.evaluation.certainty.reliability import reliability_curve

    if targets.ndim == 1:
        return pd.DataFrame()
    truth = targets > 0
    before, after = (
        [reliability_curve(*each) for each in zip(p.T.astype(float), truth.T, strict=True)] for p in (probs, held_out)
    )
    return pd.DataFrame(
        {
            "tag": range(len(after)) if classes is None else classes,
            "positives": truth.sum(axis=0),
            "ece_before": [curve.ece for curve in before],
            "ece_after": [curve.ece for curve in after],
            "ece_by_chance": [curve.ece_by_chance for curve in after],
        }
    )


def _rarest_tag(truth: np.ndarray) -> np.ndarray:
    """Return the rarest tag of each picture, int64 ``(N,)``, C where it has none."""
    by_rarity = np.argsort(truth.sum(axis=0), kind="stable")
    first = truth[:, by_rarity].argmax(axis=1)
    return np.asarray(np.where(truth.any(axis=1), by_rarity[first], truth.shape[1]))


def _grouped_folds(groups: Sequence[object] | np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Put whole groups, the largest first, each into the fold that is smallest so far."""
    units = group_numbers(groups)
    sizes = np.bincount(units)
    fold_of, filled = np.empty(len(sizes), dtype=np.int64), np.zeros(k)
    for unit in np.lexsort((rng.permutation(len(sizes)), -sizes)):
        fold_of[unit] = int(filled.argmin())
        filled[fold_of[unit]] += sizes[unit]
    return np.asarray(fold_of[units])
