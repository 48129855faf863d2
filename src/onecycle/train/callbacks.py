"""Callbacks: seven moments of a fit, explicit arguments, nothing returned.

A callback acts by what it sets on the trainer: it stops the fit with ``trainer.stop_training = True``, holds back an
update with ``trainer.skip_step = True``, weighs a batch with ``trainer.loss_weight`` and scales the schedule with
``trainer.lr_scale``. Random draws come from the generator that the hook is given, so that they are a function of
(seed, epoch, step).
"""

from __future__ import annotations

import csv
import functools
import inspect
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn

from onecycle.errors import ArgumentError, OnecycleWarning, warn
from onecycle.files import csv_text, write_whole
from onecycle.train.evaluate import BatchLike
from onecycle.train.log.progress import LiveFigure, format_row
from onecycle.train.log.recorder import EpochRow
from onecycle.train.loop import Callback, Trainer
from onecycle.train.optimizer import hold_frozen_norms

if TYPE_CHECKING:
    import pandas as pd


class LearnerLike(Protocol):
    """What a callback may ask of the learner."""

    recorder: Any
    data: Any
    path: Any

    def save(self, name: str) -> Any: ...
    def load(self, name: str) -> Any: ...


class LearnerCallback(Callback):
    """A callback that is made with the learner, as fastai v1's notebooks do.

    Args:
        learn: the learner that will be fitted.
    """

    def __init__(self, learn: LearnerLike) -> None:
        self.learn = learn


class CSVLogger(LearnerCallback):
    """Write the log to ``learn.path/<filename>.csv``, whole after every epoch.

    Args:
        learn: the learner.
        filename: name without the ending; an absolute path goes where it says.
        append: keep the rows that the file already holds, and those that another training adds meanwhile; columns that
            only one of the fits has are empty in the other's rows.

    Raises:
        ArgumentError: at the fit's begin, a file to append to that is no log.

    Warns:
        OnecycleWarning: another training writes the same file, and ``append`` is False.
    """

    order = -10

    def __init__(self, learn: LearnerLike, filename: str = "history", append: bool = False) -> None:
        super().__init__(learn)
        self.path = Path(learn.path).absolute() / f"{filename.removesuffix('.csv')}.csv"
        self.append = append
        self._rows: list[dict[str, str]] = []
        self._written = b""
        self._writes = True  # of several processes that train together, the first one

    def on_train_begin(self, trainer: Trainer) -> None:
        """Write the header, and what the file held."""
        self._writes = trainer.ranks.is_first
        self._rows = self._earlier() if self.append else []
        self._write(trainer.recorder.names)

    def on_epoch_end(self, trainer: Trainer, row: EpochRow) -> None:
        """Write a row."""
        if self.append:
            self._rows = self._earlier()
        elif self._writes and self._written and self.path.exists() and self.path.read_bytes() != self._written:
            warn(f"another training writes {self.path}, too: say filename=, or append=True for both", OnecycleWarning)
            self._written = b""  # said once
        cells = format_row(row, len(trainer.recorder.metric_names))
        self._rows.append(dict(zip(trainer.recorder.names, cells, strict=True)))
        self._write(trainer.recorder.names)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows of the file; those of epochs that are run again are then not in it twice."""
        return {"rows": self._rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Write these rows in place of what the file holds."""
        self._rows = list(state["rows"])
        self._write([*self._rows[0]] if self._rows else [])

    def read_logged_file(self) -> pd.DataFrame:
        """Return the file as a table."""
        import pandas as pd

        return pd.read_csv(self.path)

    def _earlier(self) -> list[dict[str, str]]:
        """Return the rows of the file; headers between them, which an earlier version wrote, are none."""
        if not self.path.exists() or not self.path.stat().st_size:
            return []
        with self.path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            head, *lines = list(csv.reader(file)) or [[]]
        ragged = any(len(cells) not in (0, len(head)) for cells in lines)
        if ragged or "epoch" not in head or len(set(head)) < len(head):
            raise ArgumentError(
                f"CSVLogger cannot append to {self.path}: it is no table with a column 'epoch' and as many cells in "
                "each row; say another filename=, or append=False to replace it"
            )
        return [dict(zip(head, cells, strict=True)) for cells in lines if cells and cells != head]

    def _write(self, own_names: list[str]) -> None:
        names = list(dict.fromkeys(name for names in (*self._rows[:1], own_names) for name in names))
        text = csv_text([names, *([row.get(name, "") for name in names] for row in self._rows)]).encode()
        if self._writes:
            write_whole(self.path, text)
        self._written = text


class ShowGraph(LearnerCallback):
    """Draw the losses after every epoch: live in a notebook, once at the end elsewhere."""

    order = 30
    figure: LiveFigure  # of the running fit

    def on_train_begin(self, trainer: Trainer) -> None:
        """Start a new picture."""
        self.figure = LiveFigure()

    def on_epoch_end(self, trainer: Trainer, row: EpochRow) -> None:
        """Redraw."""
        if self.figure.live and trainer.ranks.is_first:
            self.figure.show(trainer.recorder.plot_losses(return_fig=True))

    def on_train_end(self, trainer: Trainer) -> None:
        """Draw once where nothing is live."""
        if not self.figure.live and trainer.recorder.rows and trainer.ranks.is_first:
            trainer.recorder.plot_losses()


class GradientClipping(LearnerCallback):
    """Scale the gradient down to a norm of ``clip``; 0 leaves it alone.

    Args:
        learn: the learner.
        clip: largest L2 norm of the whole gradient.
    """

    order = 10
    in_lr_find = True

    def __init__(self, learn: LearnerLike, clip: float = 0.0) -> None:
        super().__init__(learn)
        if clip < 0:
            raise ArgumentError(f"clip is a norm of 0 or more, got {clip}")
        self.clip = clip

    def on_backward_end(self, trainer: Trainer) -> None:
        """Clip, unless gradients are still being collected."""
        if self.clip and not trainer.skip_step:
            nn.utils.clip_grad_norm_(trainer.model.parameters(), self.clip)


class BnFreeze(LearnerCallback):
    """Keep the statistics of norm layers that do not train.

    The loop does so anyway; the name is fastai v1's.
    """

    in_lr_find = True

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Put those layers into eval mode."""
        hold_frozen_norms(trainer.model)


class AccumulateScheduler(LearnerCallback):
    """Update once every ``n_step`` batches, with the mean gradient over all their items.

    Args:
        learn: the learner.
        n_step: batches an update, at least 1.
        drop_last: drop what is left over at an epoch's end, instead of one smaller update.
    """

    in_lr_find = True

    def __init__(self, learn: LearnerLike, n_step: int = 1, drop_last: bool = False) -> None:
        super().__init__(learn)
        if n_step < 1:
            raise ArgumentError(f"n_step is a number of batches, at least 1, got {n_step}")
        self.n_step, self.drop_last, self.batches, self.items = n_step, drop_last, 0, 0

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Start with nothing collected."""
        self.batches = self.items = 0

    def state_dict(self) -> dict[str, Any]:
        """Return how much is collected; the gradients themselves are the optimizer's."""
        return {"batches": self.batches, "items": self.items}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on collecting."""
        self.batches, self.items = state["batches"], state["items"]

    def on_batch_begin(self, trainer: Trainer, batch: BatchLike, rng: np.random.Generator) -> None:
        """Weigh the batch's mean loss by its items, so that unequal batches average right."""
        trainer.loss_weight = float(len(batch.x))
        self.batches += 1
        self.items += len(batch.x)

    def on_backward_end(self, trainer: Trainer) -> None:
        """Hold the update back, or make the sum a mean."""
        last = trainer.batch_no == trainer.n_batches - 1
        full = self.batches == self.n_step
        trainer.skip_step = not full and not (last and not self.drop_last)
        if trainer.skip_step:
            if last and trainer.optimizer is not None:
                trainer.optimizer.zero_grad()
            return
        grads = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        torch._foreach_div_(grads, float(self.items))
        self.batches = self.items = 0


class MixUpCallback(LearnerCallback):
    """Blend every picture with another of its batch, and the targets likewise.

    Each item draws its own λ = max(b, 1 − b) with b ~ Beta(alpha, alpha). Class indices become probabilities
    (N, C), so cross-entropy gives λ·loss(first) + (1 − λ)·loss(second).

    Args:
        learn: the learner; ``learn.data.c`` is the number of classes.
        alpha: shape of the Beta distribution, above 0.
        stack_x: only False: a network here takes one input.
        stack_y: fastai v1's choice between mixing losses and mixing targets; the result is the same here.

    Source: H. Zhang et al., "mixup: beyond empirical risk minimization", 2018 (arXiv:1710.09412).
    """

    in_lr_find = True

    def __init__(self, learn: LearnerLike, alpha: float = 0.4, stack_x: bool = False, stack_y: bool = True) -> None:
        super().__init__(learn)
        if stack_x:
            raise ArgumentError("stack_x=True hands the network two pictures at once; only stack_x=False works here")
        if alpha <= 0:
            raise ArgumentError(f"alpha is the shape of a Beta distribution, above 0, got {alpha}")
        self.alpha, self.stack_y = alpha, stack_y

    def on_train_begin(self, trainer: Trainer) -> None:
        """See that the loss can compare outputs with mixed targets."""
        outputs = torch.zeros(2, self.learn.data.c, device=trainer.device, requires_grad=True)
        try:
            trainer.loss_func(outputs, torch.full_like(outputs, 1 / outputs.shape[1]))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ArgumentError(
                f"mixup turns labels into shares of each class, (N, C), which the loss cannot take: {error}. Use "
                "CrossEntropyFlat, FocalLoss or, for tags, BCEWithLogitsFlat, or leave mixup out"
            ) from error

    def on_batch_begin(self, trainer: Trainer, batch: BatchLike, rng: np.random.Generator) -> None:
        """Blend the batch."""
        n = len(batch.x)
        draws = rng.beta(self.alpha, self.alpha, n)
        lam = torch.from_numpy(np.maximum(draws, 1 - draws).astype(np.float32))
        partner = torch.from_numpy(rng.permutation(n)).to(batch.x.device, non_blocking=True)
        lam = lam.to(batch.x.device, non_blocking=True)
        soft = batch.y if batch.y.is_floating_point() else nn.functional.one_hot(batch.y, self.learn.data.c)
        batch.x = blend(batch.x, partner, lam)
        batch.y = blend(soft.to(lam.dtype), partner, lam)


def blend(values: torch.Tensor, partner: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    """Return λ·values + (1 − λ)·values[partner], with one λ an item.

    Args:
        values: (N, …) floating point.
        partner: (N,) int64, the item that each is blended with.
        lam: (N,) in [0, 1].
    """
    weight = lam.to(values.dtype).view(-1, *[1] * (values.ndim - 1))
    return values * weight + values[partner] * (1 - weight)


class TerminateOnNaNCallback(LearnerCallback):
    """Stop at the first batch whose loss is NaN or infinite.

    Looking makes the host wait for the device every batch.
    """

    def on_batch_end(self, trainer: Trainer, loss: torch.Tensor) -> None:
        """Look, and stop."""
        if not math.isfinite(loss.item()):
            trainer.say(f"Batch {trainer.batch_no}: invalid loss, terminating training.")
            trainer.stop_training = True


# --- what a user wrote is looked at before it costs an epoch ---------------------------------------


def checked_callbacks(callbacks: Iterable[object], learn: object = None) -> list[Callback]:
    """Return callbacks that a fit of ``learn`` can call, so that a mistake costs no epoch.

    Raises:
        ArgumentError: something that is no callback, one with the moments or the arguments of fastai v1, or one that
            was made with another learner.
    """
    checked: list[Callback] = []
    for cb in callbacks:
        if not isinstance(cb, Callback):
            hint = f"; make an object of it: {cb.__name__}(learn)" if isinstance(cb, type) else ""
            hint = "; what makes one goes to callback_fns=" if isinstance(cb, functools.partial) else hint
            raise ArgumentError(f"expected a Callback, received {cb!r}{hint}")
        for name in (name for name in dir(cb) if name.startswith("on_") and callable(getattr(cb, name))):
            _check_moment(cb, name)
        if learn is not None and getattr(cb, "learn", learn) is not learn:
            kind = type(cb).__name__
            raise ArgumentError(
                f"this {kind} was made with another learner, so it would act on that: make {kind}(learn)"
            )
        checked.append(cb)
    return checked


_V1_ARGUMENTS = {
    *("epoch", "num_batch", "iteration", "n_epochs", "metrics_names"),
    *("last_input", "last_target", "last_output", "last_loss", "smooth_loss", "last_metrics"),
}


def _check_moment(cb: Callback, name: str) -> None:
    """Check a method ``on_…`` that a user wrote: those of this package are called by who knows them."""
    owner = next(c for c in type(cb).__mro__ if name in vars(c)) if hasattr(type(cb), name) else type(cb)
    ours = next((getattr(c, name) for c in type(cb).__mro__ if name in vars(c) and _is_own(c)), None)
    if _is_own(owner):
        return
    moments = [moment for moment in vars(Callback) if moment.startswith("on_")]
    if ours is None:
        raise ArgumentError(
            f"{type(cb).__name__}.{name} would never be called: a fit calls {', '.join(moments)} (fastai v1 had more)"
        )
    wanted = inspect.signature(ours)
    method = inspect.signature(getattr(cb, name))
    by_name = {p.name: None for p in wanted.parameters.values() if p.kind is p.KEYWORD_ONLY}
    try:
        method.bind(*(n for n in list(wanted.parameters)[1:] if n not in by_name), **by_name)
        fits = next(iter(method.parameters), "") not in _V1_ARGUMENTS
    except TypeError:
        fits = False
    if not fits:
        raise ArgumentError(
            f"{type(cb).__name__}.{name}{method} has other arguments than it is called with: write "
            f"def {name}({', '.join(wanted.parameters)}). fastai v1 handed its state over by name; here it is in the "
            "trainer, and nothing is returned (trainer.stop_training = True stops)"
        )


def _is_own(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == __name__.partition(".")[0]
