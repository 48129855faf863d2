"""What a training run measured, as numbers first and as plots of those numbers.

matplotlib is imported when something is drawn, not before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onecycle.errors import ArgumentError

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MetricValue = float | list[Any]
SMOOTHING = 0.98
_TRAIN, _VALID = "#1f6fb4", "#d95f02"


@dataclass(frozen=True)
class EpochRow:
    """One line of the training log."""

    epoch: int  # number of the epoch in this fit, from 0
    train_loss: float  # smoothed training loss at the epoch's end
    valid_loss: float | None  # mean loss over the validation set; None without one
    metrics: tuple[MetricValue, ...]  # value of each metric over the whole validation set; empty without one
    time_s: float  # seconds that the epoch took, validation included


@dataclass(frozen=True)
class LrCurve:
    """Smoothed training loss against the last group's learning rate; both ``(n,)``."""

    lrs: np.ndarray
    losses: np.ndarray


@dataclass(frozen=True)
class LossCurve:
    """Smoothed training loss by batch and validation loss by epoch, on one axis of batches processed."""

    steps: np.ndarray
    train: np.ndarray
    valid_steps: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class Suggestion:
    """Two readings of a learning-rate sweep."""

    min_grad_lr: float  # learning rate where the smoothed loss falls fastest (per step of the sweep)
    min_loss_div10: float  # a tenth of the learning rate with the lowest smoothed loss
    index: int  # position of min_grad_lr in the lists that were given


class Smoother:
    """Exponential mean of the training loss, debiased: mean = s / (1 − beta^k) after k values."""

    def __init__(self, beta: float = SMOOTHING) -> None:
        self.beta, self._sum, self._count = beta, 0.0, 0

    def add(self, value: float) -> float:
        """Take one value and return the mean so far."""
        self._count += 1
        self._sum = self.beta * self._sum + (1 - self.beta) * value
        return self._sum / (1 - self.beta**self._count)


class Recorder:
    """The history of one fit.

    Losses of single batches stay on their device until somebody asks for them, so that recording never makes
    the host wait for the device inside a step.

    Args:
        metric_names: a column name for each metric.
    """

    def __init__(self, metric_names: Sequence[str] = ()) -> None:
        self.metric_names = list(metric_names)
        self.names = ["epoch", "train_loss", "valid_loss", *self.metric_names, "time"]
        self.rows: list[EpochRow] = []
        self.all_lrs: list[tuple[float, ...]] = []
        self.moms: list[float | None] = []
        self.nb_batches: list[int] = []
        self.min_grad_lr: float | None = None
        self.picked_of = 1  # epochs or stages of which validation picked the one whose weights stayed; 1: none
        self.picked = "epoch"  # what those are
        self._pending: list[torch.Tensor] = []
        self._raw: list[float] = []
        self._smooth: list[float] = []
        self._smoother = Smoother()

    @classmethod
    def of_epochs(cls, metric_names: Sequence[str], rows: Sequence[EpochRow]) -> Recorder:
        """Return a history that is known by epoch only: each counts as one batch, with the loss at its end."""
        made = cls(metric_names)
        made.rows, made.nb_batches = list(rows), [1] * len(rows)
        made._raw = made._smooth = [row.train_loss for row in rows]
        return made

    def add_hypers(self, lrs: Sequence[float], mom: float | None) -> None:
        """Note what the coming step runs with."""
        self.all_lrs.append(tuple(lrs))
        self.moms.append(mom)

    def add_loss(self, loss: torch.Tensor) -> None:
        """Keep the loss of a batch (a detached 0-d tensor on any device)."""
        self._pending.append(loss)

    def add_row(self, row: EpochRow, n_batches: int) -> None:
        """Close an epoch."""
        self.rows.append(row)
        self.nb_batches.append(n_batches)

    def extend(self, later: Recorder) -> None:
        """Add the history of a later fit; its epochs are numbered on from here."""
        first = self.rows[-1].epoch + 1 if self.rows else 0
        start = later.rows[0].epoch if later.rows else 0
        self.rows += [replace(row, epoch=row.epoch - start + first) for row in later.rows]
        self.nb_batches += later.nb_batches
        if later.picked_of > self.picked_of:
            self.picked_of, self.picked = later.picked_of, later.picked
        self.all_lrs += later.all_lrs
        self.moms += later.moms
        self._raw += later.raw_losses
        self._smooth += later.losses

    def state_dict(self) -> dict[str, Any]:
        """Return the history so far: long lists as they are, the rest as values that JSON can hold."""
        self.gather()
        return {
            "all_lrs": list(self.all_lrs),
            "moms": list(self.moms),
            "raw": list(self._raw),
            "smooth": list(self._smooth),
            "rows": [asdict(row) for row in self.rows],
            "nb_batches": list(self.nb_batches),
            "picked": [self.picked_of, self.picked],
            "smoother": [self._smoother._sum, self._smoother._count],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the history that ``state_dict`` gave in place of one's own."""
        self.all_lrs, self.moms = [tuple(lrs) for lrs in state["all_lrs"]], list(state["moms"])
        self._raw, self._smooth, self._pending = list(state["raw"]), list(state["smooth"]), []
        self.rows = [EpochRow(**{**row, "metrics": tuple(row["metrics"])}) for row in state["rows"]]
        self.nb_batches = list(state["nb_batches"])
        self.picked_of, self.picked = state["picked"]
        self._smoother._sum, self._smoother._count = state["smoother"]

    def gather(self) -> None:
        """Bring the pending losses to the host in one transfer."""
        if self._pending:
            import torch  # not above: the screen of a command that trains nothing reads rows, too

            values = torch.stack([loss.float() for loss in self._pending]).tolist()
            self._pending.clear()
            self._raw += values
            self._smooth += [self._smoother.add(value) for value in values]

    @property
    def raw_losses(self) -> list[float]:
        """Training loss of each batch."""
        self.gather()
        return self._raw

    @property
    def losses(self) -> list[float]:
        """Smoothed training loss after each batch."""
        self.gather()
        return self._smooth

    def last_loss(self) -> float | None:
        """Smoothed loss after the latest batch."""
        losses = self.losses
        return losses[-1] if losses else None

    @property
    def lrs(self) -> list[float]:
        """Learning rate of the last layer group at each step."""
        return [lrs[-1] for lrs in self.all_lrs]

    @property
    def val_losses(self) -> list[float]:
        """Validation loss of each epoch that was validated."""
        return [row.valid_loss for row in self.rows if row.valid_loss is not None]

    @property
    def metrics(self) -> list[list[MetricValue]]:
        """Metric values of each epoch that was validated."""
        return [list(row.metrics) for row in self.rows if row.valid_loss is not None]

    def lr_curve(self, skip_start: int = 10, skip_end: int = 5, *, k: int | None = None) -> LrCurve:
        """Return what :meth:`plot` draws.

        Args:
            skip_start: points to leave out at the beginning.
            skip_end: points to leave out at the end, where a sweep explodes.
            k: degree of a smoothing spline over the steps, 1 to 5; ``None`` for no further smoothing.
        """
        losses = self.losses
        keep = _shown(len(losses), skip_start, skip_end)
        y = np.asarray(losses)[keep]
        return LrCurve(np.asarray(self.lrs[: len(losses)])[keep], y if k is None else _spline(y, k))

    def loss_curve(self, skip_start: int = 0, skip_end: int = 0) -> LossCurve:
        """Return what :meth:`plot_losses` draws."""
        losses = np.asarray(self.losses)
        keep = _shown(len(losses), skip_start, skip_end)
        ends = np.cumsum(self.nb_batches, dtype=np.int64)
        validated = [i for i, row in enumerate(self.rows) if row.valid_loss is not None]
        shown = [i for i in validated if keep.start < ends[i] <= keep.stop]
        valid = np.asarray([self.rows[i].valid_loss for i in shown], dtype=float)
        return LossCurve(np.arange(len(losses))[keep], losses[keep], ends[shown], valid)

    def schedule_curve(self, skip_start: int = 0, skip_end: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return learning rates (steps, groups) and momenta (steps,); a missing momentum is NaN."""
        keep = _shown(len(self.all_lrs), skip_start, skip_end)
        moms = [math.nan if mom is None else mom for mom in self.moms]
        return np.asarray(self.all_lrs)[keep], np.asarray(moms)[keep]

    def metric_curves(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return, for each metric that is one number, the batches processed and its values."""
        curves = {}
        ends = np.cumsum(self.nb_batches, dtype=np.int64)
        done = [i for i, row in enumerate(self.rows) if row.metrics]
        for column, name in enumerate(self.metric_names):
            values = [self.rows[i].metrics[column] for i in done]
            if values and all(isinstance(value, float) for value in values):
                curves[name] = (ends[done], np.asarray(values, dtype=float))
        return curves

    def plot(
        self,
        skip_start: int = 10,
        skip_end: int = 5,
        suggestion: bool = False,
        return_fig: bool | None = None,
        show_grid: bool = False,
        k: int | None = None,
    ) -> Figure | None:
        """Draw the smoothed loss against the learning rate, as after ``lr_find``.

        Args:
            skip_start: points to leave out at the beginning.
            skip_end: points to leave out at the end.
            suggestion: mark and print the suggested learning rates, and keep the first in ``min_grad_lr``.
            return_fig: return the figure.
            show_grid: draw grid lines.
            k: degree of a smoothing spline, see :meth:`lr_curve`.
        """
        from matplotlib.ticker import FormatStrFormatter, NullFormatter

        curve = self.lr_curve(skip_start, skip_end, k=k)
        if len(curve.lrs) == 0:
            print(
                f"There is nothing to plot: {len(self.losses)} points were recorded, and skip_start={skip_start} with "
                f"skip_end={skip_end} leave none. Run lr_find first, with more iterations, or plot with smaller skips."
            )
            return None
        fig, (ax,) = _figure(1, grid=show_grid, xlabel="Learning Rate", ylabel="Loss")
        ax.plot(curve.lrs, curve.losses, color=_TRAIN)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FormatStrFormatter("%.0e"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        if suggestion:
            self._mark_suggestion(ax, curve)
        return fig if return_fig else None

    def _mark_suggestion(self, ax: Axes, curve: LrCurve) -> None:
        suggestion = suggest(curve.lrs.tolist(), curve.losses.tolist(), skip_start=0, skip_end=0)
        if suggestion is None:
            print(f"Failed to compute the gradients: {len(curve.lrs)} points are too few; run more iterations.")
            return
        print(f"Min numerical gradient: {suggestion.min_grad_lr:.2E}")
        print(f"Min loss divided by 10: {suggestion.min_loss_div10:.2E}")
        ax.plot(suggestion.min_grad_lr, curve.losses[suggestion.index], marker="o", markersize=9, color="red")
        self.min_grad_lr = suggestion.min_grad_lr

    def plot_losses(
        self, skip_start: int = 0, skip_end: int = 0, return_fig: bool | None = None, show_grid: bool = False
    ) -> Figure | None:
        """Draw the smoothed training loss of each batch and the validation loss of each epoch."""
        curve = self.loss_curve(skip_start, skip_end)
        fig, (ax,) = _figure(1, grid=show_grid, xlabel="Batches processed", ylabel="Loss")
        ax.plot(curve.steps, curve.train, color=_TRAIN, label="Train")
        if len(curve.valid):
            ax.plot(curve.valid_steps, curve.valid, color=_VALID, label="Validation", marker="o", markersize=4)
        ax.legend(frameon=False)
        return fig if return_fig else None

    def plot_lr(
        self,
        show_moms: bool = False,
        skip_start: int = 0,
        skip_end: int = 0,
        return_fig: bool | None = None,
        show_grid: bool = False,
    ) -> Figure | None:
        """Draw the learning rate of the last layer group and, if asked, the momentum, step by step."""
        lrs, moms = self.schedule_curve(skip_start, skip_end)
        fig, axes = _figure(2 if show_moms else 1, grid=show_grid, xlabel="Iterations", ylabel="Learning Rate")
        axes[0].plot(lrs[:, -1] if len(lrs) else lrs, color=_TRAIN)
        if show_moms:
            axes[1].plot(moms, color=_VALID)
            axes[1].set_ylabel("Momentum")
        return fig if return_fig else None

    def plot_metrics(
        self, skip_start: int = 0, skip_end: int = 0, return_fig: bool | None = None, show_grid: bool = False
    ) -> Figure | None:
        """Draw each metric against the batches processed; the skips count epochs.

        Raises:
            ArgumentError: nothing was measured.
        """
        curves = self.metric_curves()
        if not curves:
            raise ArgumentError("there are no metrics to plot; give the learner metrics=[...] and fit once")
        fig, axes = _figure(len(curves), grid=show_grid, xlabel="Batches processed")
        for ax, (name, (steps, values)) in zip(axes, curves.items(), strict=True):
            keep = _shown(len(values), skip_start, skip_end)
            ax.plot(steps[keep], values[keep], color=_TRAIN, marker="o", markersize=4)
            ax.set_ylabel(name)
        return fig if return_fig else None


def suggest(
    lrs: Sequence[float], losses: Sequence[float], skip_start: int = 10, skip_end: int = 5
) -> Suggestion | None:
    """Read a learning rate off a sweep.

    Args:
        lrs: learning rates of the sweep, rising.
        losses: smoothed loss at each of them.
        skip_start: points to leave out at the beginning.
        skip_end: points to leave out at the end.

    Returns:
        The suggestion, or ``None`` when fewer than two points with a finite loss are left.
    """
    keep = _shown(len(losses), skip_start, skip_end)
    x, y = np.asarray(lrs[: len(losses)], dtype=float)[keep], np.asarray(losses, dtype=float)[keep]
    finite = np.flatnonzero(np.isfinite(y))
    if len(finite) < 2:
        return None
    steepest = int(finite[np.argmin(np.gradient(y[finite]))])
    lowest = int(finite[np.argmin(y[finite])])
    return Suggestion(float(x[steepest]), float(x[lowest]) / 10, keep.start + steepest)


def _shown(n: int, skip_start: int, skip_end: int) -> slice:
    if skip_start < 0 or skip_end < 0:
        raise ArgumentError(f"skips are 0 or more, got skip_start={skip_start}, skip_end={skip_end}")
    start = min(skip_start, n)
    return slice(start, max(start, n - skip_end))


def _spline(y: np.ndarray, k: int) -> np.ndarray:
    from scipy.interpolate import UnivariateSpline

    if not 1 <= k <= 5 or len(y) <= k:
        raise ArgumentError(f"k is the degree of a spline, 1 to 5 and below the number of points ({len(y)}), got {k}")
    steps = np.arange(len(y))
    return np.asarray(UnivariateSpline(steps, y, k=k)(steps))


def _figure(n: int, *, grid: bool, **labels: str) -> tuple[Figure, list[Axes]]:
    """A row of ``n`` plots with a thin frame."""
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(1, n, figsize=(6.0 * n, 4.0), squeeze=False, layout="constrained")
    for ax in axes[0]:
        ax.set(**labels)
        for spine in ax.spines.values():
            spine.set(linewidth=0.6, color="#777777")
        ax.tick_params(width=0.6, color="#777777", labelsize=9)
        if grid:
            ax.grid(True, linewidth=0.4, color="#dddddd")
    return fig, list(axes[0])
