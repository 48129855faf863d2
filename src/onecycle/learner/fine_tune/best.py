"""Which stage of ``fine_tune`` is kept: each is judged on the validation pictures, and the best comes back at the end.

The rule: a later stage replaces an earlier one only where its mean validation loss is lower by more than one standard
error of the paired difference, over pictures, or over groups where these are known. Weights half way from the earlier
one, see ``half_way``, replace it unless their loss is higher by as much: they are better more often than a few hundred
pictures can show. Where one half of an inner fold chose (30 to 200 pictures) and the other judged, the log loss of what
is kept was lower than the head's by 10 % (mean of the six data sets named there), by 4 % with the first rule alone.

A ``learn`` here is a ``Learner``; its module imports this one, so the type is not named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from onecycle.data.bunch import ImageDataBunch
from onecycle.errors import DataError
from onecycle.learner.fine_tune.noted import Judged
from onecycle.learner.fine_tune.timing import TimedCycle
from onecycle.learner.fits.journal import Journal
from onecycle.train.evaluate import evaluate, measured
from onecycle.train.log.recorder import EpochRow, MetricValue, Recorder
from onecycle.train.loop import Callback, Trainer

RULE = (
    "A later stage replaces an earlier one only where its validation loss is lower by more than one standard error "
    "of the difference on the same pictures; weights half way from the earlier one unless it is higher by as much."
)

EARLIER = "as it was before"
"""What the weights are called that a learner had before the first stage."""

FALL = 0.03
"""The loss at the end of a cycle is forecast as no less than the loss now times this to the power of the share left.

Measured with batch-norm layers that stay as they are, cycles of 4 and 6 epochs, EfficientNet-Lite0: from half of the
cycle on, the end was the loss now times 0.18 to 0.68 to the power of the share left on 350 handwritten digits (once
0.03: from 0.258 with half of the cycle left to 0.046), 0.7 to 0.95 on 300 mosaics of four of them, 0.95 on 225 tiles of
Planet. Where batch-norm layers train, nothing can be forecast: on the digits the loss rose to 8.5 and fell to 0.08.
"""


@dataclass(frozen=True, kw_only=True)
class JudgedStage:
    """A stage, and what the validation pictures say of its weights, at the size and preprocess of ``predict``."""

    name: str  # what trained, and at which size where several stages train all layers
    epochs: int  # that were run
    loss: float  # mean over the pictures; NaN where training diverged
    error: float  # its standard error; NaN for a single picture or group
    change: float | None = None  # loss minus that of the stage that was the best so far; None for the first
    change_error: float | None = None  # standard error of that difference
    stopped: str = ""  # why it ended before its last epoch; "" where it did not
    averaged: bool = False  # its weights lie half way from the best so far: kept unless they are shown to be worse

    def __str__(self) -> str:
        return f"{self.name} ({self._loss_text})"

    @property
    def _loss_text(self) -> str:
        if not math.isfinite(self.loss):
            return "diverged"
        return f"valid loss {self.loss:.3f}" + (f" ± {self.error:.3f}" if math.isfinite(self.error) else "")


@dataclass(frozen=True)
class StageChoice:
    """The stages that were judged, and which one is kept."""

    stages: tuple[JudgedStage, ...] = ()  # in their order
    kept: int = 0  # position of the one whose weights are kept

    def __str__(self) -> str:
        """Say what is kept, and how the others ended."""
        if not self.stages:
            return "nothing was judged: no validation pictures, so the last stage stays"
        best, others = self.stages[self.kept], [s for i, s in enumerate(self.stages) if i != self.kept]
        ends = [f"{s.name} {f'ended at {s.loss:.3f}' if math.isfinite(s.loss) else 'diverged'}" for s in others]
        kept = f"stage {self.kept + 1}, {best}"
        change, spread = best.change, best.change_error
        if best.averaged and change is not None and spread is not None and abs(change) <= spread:
            kept += f", not shown to be worse than the earlier one ({change:+.3f} ± {spread:.3f})"
        text = "; ".join([kept, *ends])
        last = self.stages[-1]
        if last is not best and last.change is not None and last.change_error is not None and last.change < 0:
            error = f"one standard error of the difference, {last.change_error:.3f}"
            text += f", lower by {-last.change:.3f}, which is not more than {error}"
        return text

    @property
    def note(self) -> str:
        """Say for a report what is kept and by which rule; nothing where there was no choice."""
        if len(self.stages) < 2:
            return ""
        stops = "".join(f" {s.name[0].upper()}{s.name[1:]}: {s.stopped}." for s in self.stages if s.stopped)
        return f"Kept: {self}.{stops} {RULE}"

    def note_in(self, recorder: Recorder) -> None:
        """Note in a history that validation picked one of several stages."""
        if len(self.stages) > 1:
            recorder.picked_of, recorder.picked = len(self.stages), "stage"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them: NaN as None."""
        stages = [asdict(stage) for stage in self.stages]
        plain = [
            {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in s.items()} for s in stages
        ]
        return {"kept": self.kept, "stages": plain}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` wrote."""
        stages = []
        for values in saved["stages"]:
            numbers = {k: math.nan for k in ("loss", "error") if values[k] is None}
            stages.append(JudgedStage(**{**values, **numbers}))
        return cls(tuple(stages), int(saved["kept"]))


class EarlyStop(Callback):
    """Ends a cycle where it can no longer become the best stage; looks after each epoch past the peak.

    Args:
        best: the stages so far.
        cycle: which is run.
    """

    order = 91  # after the cycle's clock, whose position it reads

    def __init__(self, best: BestStage, cycle: TimedCycle) -> None:
        self.best, self.cycle, self.why = best, cycle, ""
        self.lowest = math.inf  # validation loss of an epoch: of few pictures, the last one may lie far above it

    def state_dict(self) -> dict[str, Any]:
        """Return the lowest loss, and why the cycle ended."""
        return {"lowest": self.lowest, "why": self.why}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the lowest loss, and why the cycle ended."""
        self.lowest, self.why = state["lowest"], state["why"]

    def on_epoch_end(self, trainer: Trainer, row: EpochRow) -> None:
        """Stop where the forecast says so."""
        if row.valid_loss is None or not math.isfinite(row.valid_loss):
            return
        self.lowest = min(self.lowest, row.valid_loss)
        if not trainer.stop_training and self.cycle.is_falling:
            self.why = self.best.hopeless(self.lowest, 1 - self.cycle.position)
            trainer.stop_training = bool(self.why)


class BestStage:
    """Judges the weights of a learner stage by stage, keeps the best and puts it back.

    One copy of the weights is kept, in memory: half of what an optimizer with two moments takes.

    Args:
        learn: the learner.
        data: the bunch, with the size that predictions are made at.
        journal: knows what was judged before, where the recipe runs again.
    """

    def __init__(self, learn: Any, data: ImageDataBunch, journal: Journal | None = None) -> None:
        self.learn, self.data, self.choice = learn, data, StageChoice()
        self.journal = journal or Journal()
        valid, groups = data.split.valid, data.split.groups
        self._units = np.arange(len(valid)) if groups is None else np.unique(groups[valid], return_inverse=True)[1]
        self.values: list[MetricValue] = []  # loss and metrics of the stage that is kept
        self._losses: np.ndarray | None = None  # (N,) of the stage that is kept
        self._weights: _Weights | None = None  # of the stage that is kept

    @classmethod
    def begun(cls, learn: Any, journal: Journal) -> Self:
        """Begin; what was trained before is judged, so that it is kept where nothing better comes of this."""
        best = cls(learn, learn.data, journal)
        if best.can_choose and learn.trainer.epochs_done > 0:
            best.judge(EARLIER, epochs=0)
        return best

    @property
    def can_choose(self) -> bool:
        """Whether there are pictures, or groups of them, that a difference can be judged on."""
        return len(self._units) > 0 and bool((self._units != self._units[0]).any())

    def judge(self, name: str, *, epochs: int, row: EpochRow | None = None, averaged: bool = False) -> bool:
        """Judge the weights as they are, as those of the next stage; returns whether they are the best so far.

        Args:
            name: of the stage.
            epochs: that were run.
            row: their validation at the size of ``predict``, where the trainer has just run it; None: it is run now.
            averaged: they lie half way from those of the stage that is kept so far.
        """
        losses, values = self._judged_now(row)
        best = self._losses
        change, error = (None, None) if best is None else paired_change(losses, best, self._units)
        judged = JudgedStage(
            name=name,
            epochs=epochs,
            loss=float(losses.mean()),
            error=paired_change(losses, np.zeros_like(losses), self._units)[1],
            change=change,
            change_error=error,
            averaged=averaged,
        )
        # An earlier stage that diverged gives way to any that did not.
        better = change is None or error is None or change < (error if averaged else -error)
        better |= best is not None and bool(np.isfinite(losses).all() and not np.isfinite(best).all())
        stages = (*self.choice.stages, judged)
        if better:
            self._losses, self.values, self._weights = losses, values, _Weights.of(self.learn)
        self.choice = StageChoice(stages, len(stages) - 1 if better else self.choice.kept)
        return better

    def diverged(self, name: str, *, epochs: int) -> None:
        """Note a stage whose training diverged: its weights are not kept."""
        judged = JudgedStage(name=name, epochs=epochs, loss=math.nan, error=math.nan)
        self.choice = replace(self.choice, stages=(*self.choice.stages, judged))

    def note_stop(self, why: str) -> None:
        """Note why training ended with the latest stage, before its last epoch."""
        *before, last = self.choice.stages
        self.choice = replace(self.choice, stages=(*before, replace(last, stopped=why)))

    def hopeless(self, loss: float, left: float) -> str:
        """Say why the rest of a cycle is not worth its time: at best it would not end below the stage that is kept.

        Args:
            loss: the cycle's lowest validation loss so far, at the size that predictions are made at.
            left: share of the cycle that is left.

        Returns:
            "" where it may.
        """
        if not self.choice.stages or self._losses is None:
            return ""
        end, to_beat, kept = FALL**left * loss, float(self._losses.mean()), self.choice.kept
        if end < to_beat:
            return ""
        return (
            f"valid loss {loss:.3f} would end at {end:.3f} at best, not below the {to_beat:.3f} of "
            f"{self.choice.stages[kept].name}"
        )

    def kept_weights(self) -> dict[str, torch.Tensor] | None:
        """Return the weights of the stage that is kept, where the learner still has that model."""
        kept = self._weights
        return None if kept is None or kept.model is not self.learn.model else kept.tensors

    def put_back(self) -> None:
        """Give the learner the weights of the stage that is kept, unless it has them."""
        stages = self.choice.stages
        if self._weights is not None and self.choice.kept != len(stages) - 1:
            self._weights.put_into(self.learn)
        self.choice.note_in(self.learn.recorder)

    def _judged_now(self, row: EpochRow | None) -> tuple[np.ndarray, list[MetricValue]]:
        """Return the loss of each validation picture, float64 (N,), and the mean loss with the metrics."""

        def measure() -> dict[str, Any]:
            losses, values = self._measured(row)
            return {"losses": losses.tolist(), "values": values}

        key = f"stage judged {len(self.choice.stages) + 1}"
        known = self.journal.once(key, measure, Judged)
        if len(known["losses"]) != len(self._units):
            raise DataError(
                f"the journal of this recipe has {len(known['losses'])} losses by {key!r}, and {len(self._units)} "
                "pictures validate; remove the folder of its checkpoints, and training begins again"
            )
        return np.asarray(known["losses"], dtype=np.float64), known["values"]

    def _measured(self, row: EpochRow | None) -> tuple[np.ndarray, list[MetricValue]]:
        learn, items = self.learn, self.learn.trainer.item_losses
        if row is not None and row.valid_loss is not None and items is not None:
            values: list[MetricValue] = [row.valid_loss, *row.metrics]
        else:
            outputs = evaluate(learn.model, learn.loader(data=self.data), learn.loss_func)
            loss, metrics = measured(learn.model, outputs, learn.loss_func, learn.metrics)
            items, values = outputs.losses, [loss, *metrics]
        losses = items.double().numpy()
        mean = losses.mean()  # of a loss with class weights, the mean over weights is another than over pictures
        whole = values[0]
        if isinstance(whole, float) and mean > 0 and math.isfinite(whole) and np.isfinite(mean):
            losses = losses * (whole / mean)
        return losses, values


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of a model's weights and statistics, on the CPU."""
    return {name: t.detach().to("cpu", copy=True) for name, t in model.state_dict().items()}


def half_way(start: Mapping[str, torch.Tensor], end: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the means of the weights that a cycle started from and ended with, by names of ``state_dict``.

    A short cycle from a good start goes too far where few pictures train: it is too sure of them. Batch-norm layers
    must have stood still. Change of log loss against the start, in %, on inner folds of the training parts (Lite0, 6
    epochs; folds in brackets): half way and at the end

    ==================  =====  =====
    data                half   end
    ==================  =====  =====
    Planet, tags (7)     −5.1   −2.8
    Planet, strings (2)  −1.9   +9.1
    drawn tiles (2)     −10.5  −16.2
    mosaics (2)          −5.2   −9.6
    digits (2)          −28.0  −47.4
    Fashion-MNIST (2)    +3.6   −6.4
    ==================  =====  =====

    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT).
    """
    return {n: t.lerp(start[n], 0.5) if t.is_floating_point() else t for n, t in end.items()}


def load_weights(learn: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Give a learner other weights, by names of ``state_dict``; its next fit starts with a fresh optimizer."""
    learn.model.load_state_dict(weights)
    learn.trainer.item_losses, learn.trainer.optimizer = None, None
    learn.weights_version += 1


def judge_way(best: BestStage, end: dict[str, torch.Tensor], name: str, *, epochs: int) -> bool:
    """Judge the last stages' weights half way, then at the end; returns whether one is the best so far.

    The learner has the half-way weights; afterwards it has the better ones, those at the end where neither is best.

    Args:
        best: the stages so far.
        end: the weights at the end, see ``weights_of``.
        name: of the stage.
        epochs: that were run.
    """
    is_best = best.judge(f"{name}, half way", epochs=epochs, averaged=True)
    load_weights(best.learn, end)
    if not best.judge(name, epochs=0) and is_best:
        best.put_back()
    return is_best or best.choice.kept == len(best.choice.stages) - 1


def paired_change(losses: np.ndarray, others: np.ndarray, units: np.ndarray) -> tuple[float, float]:
    """Return the mean of ``losses − others`` and its standard error, over pictures or over groups of them.

    Args:
        losses, others: float64 (N,), of the same pictures.
        units: int64 (N,) in 0..G−1, the group of each picture; each its own where none are known.

    Returns:
        With a single group the error is NaN.

    Source: the linearised error of a ratio of totals over clusters, Cochran 1977, "Sampling Techniques", section 9A.
    """
    differences = losses - others
    mean, n = float(differences.mean()), len(losses)
    totals = np.bincount(units, weights=differences - mean)
    g = len(totals)
    error = math.sqrt(g / (g - 1) * float((totals**2).sum())) / n if g > 1 else math.nan
    return mean, error


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """All that training changes in a learner, as it was at one moment."""

    model: nn.Module
    layer_groups: list[nn.ModuleList]
    network: Any
    tensors: dict[str, torch.Tensor]  # weights and statistics, on the CPU
    trains: tuple[bool, ...]  # of each parameter
    precompute: bool | int
    frozen_to: int | None
    body_trained: bool | None

    @classmethod
    def of(cls, learn: Any) -> Self:
        """Copy a learner's."""
        return cls(
            model=learn.model,
            layer_groups=list(learn.layer_groups),
            network=learn.network,
            tensors=weights_of(learn.model),
            trains=tuple(p.requires_grad for p in learn.model.parameters()),
            precompute=learn.precompute,
            frozen_to=learn.frozen_to,
            body_trained=learn.body_trained,
        )

    def put_into(self, learn: Any) -> None:
        """Give them to the learner; its next fit starts with a fresh optimizer."""
        if learn.model is not self.model:
            learn.model, learn.layer_groups, learn.network = self.model, self.layer_groups, self.network
        learn.model.load_state_dict(self.tensors)
        learn.precompute = self.precompute
        learn.freeze_to(0 if self.frozen_to is None else self.frozen_to)
        learn.frozen_to = self.frozen_to
        for p, trains in zip(learn.model.parameters(), self.trains, strict=True):
            p.requires_grad_(trains)
        learn.trainer.item_losses = None
        learn.body_trained, learn.weights_version = self.body_trained, learn.weights_version + 1
