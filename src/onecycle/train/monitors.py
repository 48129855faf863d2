"""Callbacks that watch one column of the log: save the best model, stop early, reduce the learning rate."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from itertools import pairwise, takewhile
from typing import Any

import torch

from onecycle.errors import ArgumentError, CheckpointError, OnecycleWarning, warn
from onecycle.train.callbacks import LearnerCallback, LearnerLike
from onecycle.train.log.recorder import EpochRow
from onecycle.train.loop import Trainer

_FALLS = re.compile(
    r".*(loss|errors?|err|entropy|perplexity|nll|mse|mae|mape|msle|distance|deviance|divergence|inaccuracy|regret"
    r"|mistakes|misclassifications?)|ppl|brier|ece|mce|bce|ce|xent|kl|fnr|fpr|fdr|far|frr|eer|wer|cer|hinge|dist|cost"
    r"|risk|penalty|false|wrong|miss|missed|misses|misclassified|residuals?"
)
_RISES = re.compile(
    r".*(accuracy|acc|auc|auroc|auprc|fbeta|fscore|precision|recall|kappa|likelihood|correlation|similarity)"
    r"|f|ap|map|mcc|matthews|iou|miou|jaccard|dice|tpr|tnr|ppv|npv|sensitivity|specificity|correct|right|hits?|true"
    r"|r|lossless|ndcg|mrr|corr|pearson|spearman|agreement|purity|coverage|gain"
)


def falls(name: str) -> bool | None:
    """Say from its name whether a score is better when it is smaller; None where the name does not tell.

    The last word that tells counts (``accuracy_loss`` falls, ``brier_score`` too), those behind ``at`` do not
    (``recall_at_fpr``), and ``neg`` turns it round (scikit-learn's ``neg_log_loss``), unless it belongs to ``true`` or
    ``false`` (``false_negative_rate`` falls).
    """
    words = [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    words = [w for before, w in pairwise(["", *words]) if not (before in ("true", "false") and w[:3] in ("neg", "pos"))]
    told = ["".join(words), *takewhile(lambda w: w != "at", words)]  # mIoU is one word
    told = [w for w in told if _FALLS.fullmatch(w) or _RISES.fullmatch(w)]
    return (_FALLS.fullmatch(told[-1]) is not None) != bool({"neg", "negative"} & {*words}) if told else None


class TrackerCallback(LearnerCallback):
    """Watch one column of the log.

    Args:
        learn: the learner.
        monitor: name of the column; ``trn_loss`` is read as ``train_loss``, ``val_loss`` as ``valid_loss``.
        mode: ``min``, ``max`` or ``auto``: by the name, see ``falls``.

    Raises:
        ArgumentError: unknown mode; at the fit's begin, a column that the log does not have, or one whose name does
            not tell whether smaller is better.
    """

    def __init__(self, learn: LearnerLike, monitor: str = "valid_loss", mode: str = "auto") -> None:
        super().__init__(learn)
        if mode not in ("auto", "min", "max"):
            raise ArgumentError(f"mode is 'auto', 'min' or 'max', got {mode!r}")
        if not isinstance(monitor, str):
            raise ArgumentError(f"monitor is the name of a column of the log, as 'valid_loss'; received {monitor!r}")
        self.monitor = {"trn_loss": "train_loss", "val_loss": "valid_loss"}.get(monitor, monitor)
        self.mode, smaller = mode, falls(self.monitor) if mode == "auto" else mode == "min"
        self.sign = -1.0 if smaller else 1.0
        self.best = -math.inf * self.sign

    def on_train_begin(self, trainer: Trainer) -> None:
        """Forget the best value, and check that the column will be there."""
        self.best = -math.inf * self.sign
        columns = trainer.recorder.names[1:-1] if trainer.has_validation else ["train_loss"]
        if self.monitor not in columns:
            reason = "" if trainer.has_validation else " (there is no validation set)"
            raise ArgumentError(
                f"{type(self).__name__} monitors {self.monitor!r}, which the log does not have{reason}; "
                f"choose one of: {', '.join(columns)}"
            )
        if self.mode == "auto" and falls(self.monitor) is None:
            raise ArgumentError(
                f"{type(self).__name__} cannot tell from the name {self.monitor!r} whether it should rise or fall; "
                "say mode='max' or mode='min'"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the best value so far."""
        self.best = state["best"]

    def value(self, trainer: Trainer, row: EpochRow) -> float:
        """Return the monitored value of an epoch; NaN, which never improves, where a stop left no validation."""
        if row.valid_loss is None and self.monitor != "train_loss":
            return math.nan
        names = trainer.recorder.names[1:-1]
        value = [row.train_loss, row.valid_loss, *row.metrics][names.index(self.monitor)]
        if not isinstance(value, float):
            raise ArgumentError(f"{self.monitor!r} is not one number but {value!r}; monitor another column")
        return value

    def improved(self, value: float, min_delta: float = 0.0) -> bool:
        """Say whether ``value`` beats the best by more than ``min_delta``, and remember it if so."""
        if self.sign * (value - self.best) <= min_delta or math.isnan(value):
            return False
        self.best = value
        return True


class SaveModelCallback(TrackerCallback):
    """Save the model after each epoch, or after each epoch that improves and load the best at the end.

    The best epoch is then chosen on the validation set, so the numbers that this set gives for it are a
    little too good.

    Args:
        learn, monitor, mode: as in :class:`TrackerCallback`.
        every: ``improvement`` (one file, ``name``) or ``epoch`` (``name_0``, ``name_1``, …).
        name: name of the saved model.
    """

    order = 10

    def __init__(
        self,
        learn: LearnerLike,
        monitor: str = "valid_loss",
        mode: str = "auto",
        every: str = "improvement",
        name: str = "bestmodel",
    ) -> None:
        super().__init__(learn, monitor, mode)
        if every not in ("improvement", "epoch"):
            raise ArgumentError(f"every is 'improvement' or 'epoch', got {every!r}")
        self.every, self.name = every, name
        self._saved: dict[str, torch.Tensor] = {}  # the best weights of this fit, as they were saved

    def on_train_begin(self, trainer: Trainer) -> None:
        """Start afresh."""
        self._saved = {}
        if self.every == "improvement":
            super().on_train_begin(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value, and the weights that had it."""
        return super().state_dict() | self._saved

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the best value, and the weights that had it."""
        super().load_state_dict(state)
        self._saved = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}

    def on_epoch_end(self, trainer: Trainer, row: EpochRow) -> None:
        """Save."""
        if self.every == "epoch":
            self.learn.save(f"{self.name}_{row.epoch}")
            return
        value = self.value(trainer, row)
        if self.improved(value):
            trainer.say(f"Better model found at epoch {row.epoch} with {self.monitor} value: {value:.6f}.")
            self.learn.save(self.name)
            self._saved = {name: t.detach().cpu().clone() for name, t in trainer.model.state_dict().items()}

    def on_train_end(self, trainer: Trainer) -> None:
        """Load the best model of this fit, also where another training has written a file of its name since."""
        best, self._saved = self._saved, {}
        if not best:
            if self.every == "improvement" and any(row.valid_loss is not None for row in trainer.recorder.rows):
                warn(
                    f"{self.monitor!r} was no number in any epoch, so no model was saved as {self.name!r}; the weights "
                    "are those of the last epoch",
                    OnecycleWarning,
                )
            return
        if self.monitor != "train_loss":
            trainer.recorder.picked_of = len(trainer.recorder.rows)
        trainer.ranks.wait()  # for the file
        with suppress(CheckpointError, OSError):  # of another network, half written, gone
            self.learn.load(self.name)
        now = trainer.model.state_dict()
        if any(not torch.equal(now[name].cpu(), t) and not t.isnan().any() for name, t in best.items()):
            trainer.model.load_state_dict(best)
            trainer.optimizer = None
            warn(
                f"another training has written {self.name!r} since this one saved its best model there; this learner "
                "has its own best weights again, the file has the other's. Say name= to keep both",
                OnecycleWarning,
            )


class _PatienceCallback(TrackerCallback):
    """Counts in ``wait`` the epochs in a row whose value did not improve by more than ``min_delta``."""

    def __init__(
        self,
        learn: LearnerLike,
        monitor: str = "valid_loss",
        mode: str = "auto",
        min_delta: float = 0,
        patience: int = 0,
    ) -> None:
        super().__init__(learn, monitor, mode)
        if not isinstance(patience, int) or patience < 0:
            raise ArgumentError(f"patience is a whole number of epochs, 0 or more; received {patience!r}")
        self.min_delta, self.patience, self.wait = abs(min_delta), patience, 0

    def on_train_begin(self, trainer: Trainer) -> None:
        """Start counting."""
        super().on_train_begin(trainer)
        self.wait = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the best value, and the epochs since."""
        return super().state_dict() | {"wait": self.wait}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the best value, and the epochs since."""
        super().load_state_dict(state)
        self.wait = state["wait"]

    def is_over(self, trainer: Trainer, row: EpochRow) -> bool:
        """Count an epoch; say whether that is more than ``patience`` of them."""
        self.wait = 0 if self.improved(self.value(trainer, row), self.min_delta) else self.wait + 1
        return self.wait > self.patience


class EarlyStoppingCallback(_PatienceCallback):
    """Stop when the monitored value has not improved for more than ``patience`` epochs.

    Args:
        learn, monitor, mode: as in :class:`TrackerCallback`.
        min_delta: what counts as an improvement, 0 or more.
        patience: epochs without improvement that are borne.
    """

    order = 20

    def on_epoch_end(self, trainer: Trainer, row: EpochRow) -> None:
        """Count, and stop."""
        if self.is_over(trainer, row):
            trainer.say(f"Epoch {row.epoch}: early stopping")
            trainer.stop_training = True


class ReduceLROnPlateauCallback(_PatienceCallback):
    """Multiply all learning rates when the monitored value stands still; their ratios stay.

    Args:
        learn, monitor, mode: as in :class:`TrackerCallback`.
        patience: epochs without improvement that are borne.
        factor: what the learning rates are multiplied with, in (0, 1).
        min_delta: what counts as an improvement, 0 or more.
    """

    def __init__(
        self,
        learn: LearnerLike,
        monitor: str = "valid_loss",
        mode: str = "auto",
        patience: int = 0,
        factor: float = 0.2,
        min_delta: float = 0,
    ) -> None:
        super().__init__(learn, monitor, mode, min_delta, patience)
        if not 0 < factor < 1:
            raise ArgumentError(f"factor shrinks the learning rates and lies between 0 and 1, got {factor}")
        self.factor = factor

    def on_epoch_end(self, trainer: Trainer, row: EpochRow) -> None:
        """Count, and reduce."""
        if self.is_over(trainer, row):
            trainer.lr_scale *= self.factor
            self.wait = 0
            trainer.say(f"Epoch {row.epoch}: reducing lr to {trainer.recorder.lrs[-1] * self.factor:.3g}")
