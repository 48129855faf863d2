"""Callbacks and metrics written for fastai v1: each moment gets the state by name, and returns what it changes.

``Adapter`` is one callback of onecycle's that calls them; what they return is carried out where the loop can do it, and
refused by name where it cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable as Function
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from onecycle.data.batches import BatchLoader
from onecycle.errors import ArgumentError, OnecycleWarning, warn
from onecycle.fastai1.bunch.loader import DeviceDataLoader
from onecycle.train import loop
from onecycle.train.log import recorder
from onecycle.train.loop import Trainer

__all__ = ["Callback", "LearnerCallback", "Recorder", "TrackerCallback", "add_metrics"]

MOMENTS = (
    *("train_begin", "epoch_begin", "batch_begin", "loss_begin", "backward_begin", "backward_end", "step_end"),
    *("batch_end", "epoch_end", "train_end"),
)


NOT_DONE = ("skip_validate", "epoch")
"""Changes of v1's that the loop here does not carry out."""


class Callback:
    """A callback in v1's protocol: every ``on_…`` takes the state by name, and may return a dict of changes to it."""

    _order: ClassVar[int] = 0

    def on_train_begin(self, **state: Any) -> Any:
        """Before the first epoch."""

    def on_epoch_begin(self, **state: Any) -> Any:
        """Before an epoch."""

    def on_batch_begin(self, **state: Any) -> Any:
        """Before a batch: ``last_input``, ``last_target``."""

    def on_loss_begin(self, **state: Any) -> Any:
        """Before the loss: ``last_output``."""

    def on_backward_begin(self, **state: Any) -> Any:
        """Before the gradients: ``last_loss``."""

    def on_backward_end(self, **state: Any) -> Any:
        """After the gradients."""

    def on_step_end(self, **state: Any) -> Any:
        """After the update."""

    def on_batch_end(self, **state: Any) -> Any:
        """After a batch."""

    def on_epoch_end(self, **state: Any) -> Any:
        """After validation: ``last_metrics``."""

    def on_train_end(self, **state: Any) -> Any:
        """After the last epoch."""


class LearnerCallback(Callback):
    """A callback in v1's protocol that knows its learner."""

    def __init__(self, learn: Any) -> None:
        self.learn = learn


class TrackerCallback(LearnerCallback):
    """A callback that watches a column of the log.

    Args:
        learn: the learner.
        monitor: name of the column.
        mode: ``min``, ``max``, or ``auto``: smaller is better for losses and errors.
    """

    def __init__(self, learn: Any, monitor: str = "valid_loss", mode: str = "auto") -> None:
        super().__init__(learn)
        if mode not in ("auto", "min", "max"):
            raise ArgumentError(f"mode is 'auto', 'min' or 'max'; received {mode!r}")
        self.monitor, self.mode = monitor, mode
        smaller = mode == "min" or (mode == "auto" and any(word in monitor for word in ("loss", "error")))
        self.operator: Function[[Any, Any], Any] = np.less if smaller else np.greater
        self.best = float("inf") if smaller else -float("inf")

    def on_train_begin(self, **state: Any) -> Any:
        """Start without a best value."""
        self.best = float("inf") if self.operator is np.less else -float("inf")

    def get_monitor_value(self) -> Any:
        """Return the column's latest value; None where there is no such column."""
        row = self.learn.recorder.rows[-1]
        values = dict(
            zip(self.learn.recorder.names[1:-1], (row.train_loss, row.valid_loss, *row.metrics), strict=False)
        )
        return values.get(self.monitor)


def add_metrics(last_metrics: Sequence[Any], mets: Any) -> dict[str, list[Any]]:
    """Return the change that adds one or several values to the metrics."""
    return {"last_metrics": [*last_metrics, *(mets if isinstance(mets, (list, tuple)) else [mets])]}


def snake(name: str) -> str:
    """Return a class's name as v1 named attributes: ``MyThing`` → ``my_thing``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class MetricOf:
    """A metric of a callback in v1's protocol: it gets the whole validation set as one batch.

    Args:
        callback: with ``on_epoch_begin``, ``on_batch_end(last_output, last_target)`` and ``on_epoch_end``.
    """

    def __init__(self, callback: Callback) -> None:
        self.callback, self.begun = callback, False

    @property
    def name(self) -> str:
        """The title of its column."""
        return str(getattr(self.callback, "name", snake(type(self.callback).__name__)))

    def __call__(self, logits: Tensor, targets: Tensor) -> Any:
        state: dict[str, Any] = {"train": False, "last_output": logits, "last_target": targets, "last_metrics": []}
        if not self.begun:
            self.begun = True
            self.callback.on_train_begin(**state)
        self.callback.on_epoch_begin(**state)
        self.callback.on_batch_end(**state)
        changed = self.callback.on_epoch_end(**state) or {}
        values = changed.get("last_metrics", [])
        if not values:
            raise ArgumentError(f"{self.name}.on_epoch_end returned no metric: return add_metrics(last_metrics, value)")
        return values[-1]


class Recorder(recorder.Recorder):
    """onecycle's history; callbacks in v1's protocol may add columns to its log as they begin."""

    @property
    def metrics(self) -> list[list[Any]]:
        """Metric values of each epoch that was validated, as tensors."""
        return [[torch.tensor(value, dtype=torch.float64) for value in row] for row in super().metrics]

    def add_metric_names(self, names: Sequence[str]) -> None:
        """Add columns before the last one, the time."""
        self.metric_names += names
        self.names[-1:-1] = names


class _Columns:
    """The values that a callback adds to the metrics by itself, over the whole validation set.

    Args:
        callback: the callback.
        adapter: what tells it of training, and whose state it sees.
    """

    def __init__(self, callback: Callback, adapter: Adapter) -> None:
        self.callback, self.adapter = callback, adapter
        self.values: list[Any] = []

    def column(self, name: str, index: int) -> Any:
        """Return the metric of one of its columns; the first is asked first."""

        def metric(logits: Tensor, targets: Tensor) -> Any:
            if index == 0:
                self._measure()
            if index >= len(self.values):
                kind = type(self.callback).__name__
                raise ArgumentError(f"{kind} added the column {name!r}, and on_epoch_end returned no value for it")
            return self.values[index]

        metric.name = name  # type: ignore[attr-defined]
        return metric

    def _measure(self) -> None:
        changed = dict(self.callback.on_epoch_end(**{**self.adapter.state, "last_metrics": [None]}) or {})
        self.values = list(changed.pop("last_metrics", [None]))[1:]
        self.adapter.later |= changed


def as_metrics(metrics: Sequence[Any]) -> list[Any]:
    """Return metrics that onecycle can call.

    Raises:
        ArgumentError: a subclass of a metric of onecycle's with moments of v1's protocol, which nobody would call.
    """
    for metric in (m for m in metrics if not isinstance(m, (Callback, type))):
        moment = next((f"on_{m}" for m in MOMENTS if hasattr(metric, f"on_{m}")), None)
        if moment is not None:
            raise ArgumentError(
                f"{type(metric).__name__}.{moment} would never be called: derive the metric from v1's Callback"
            )
    return [MetricOf(m) if isinstance(m, Callback) else m for m in metrics]


def told_apart(callbacks: Iterable[Any]) -> tuple[list[Callback], list[Any]]:
    """Return those in v1's protocol, by their order, and the others."""
    both = list(callbacks)
    theirs = sorted((cb for cb in both if isinstance(cb, Callback)), key=lambda cb: getattr(cb, "_order", 0))
    return theirs, [cb for cb in both if not isinstance(cb, Callback)]


class Adapter(loop.Callback):
    """Calls callbacks in v1's protocol at onecycle's moments.

    Args:
        callbacks: in their order.
    """

    order = 5

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks, self.begun = list(callbacks), False
        self.state: dict[str, Any] = {}
        self.later: dict[str, Any] = {}  # what callbacks that measure changed, for the epoch's end
        self._measuring: list[Callback] = []
        self._hook: Any = None
        self._loss: Any = None
        self._trainer: Any = None

    def overrides(self, *moments: str) -> bool:
        """Say whether one of the callbacks has a moment of its own."""
        own = [(getattr(type(cb), f"on_{m}"), getattr(Callback, f"on_{m}")) for cb in self.callbacks for m in moments]
        return any(mine is not usual for mine, usual in own)

    def call(self, moment: str, trainer: Trainer) -> dict[str, Any]:
        """Call one moment of all callbacks, and return what they changed.

        Raises:
            ArgumentError: they return something that is not in the state.
        """
        changes: dict[str, Any] = {}
        for callback in self.callbacks:
            if moment == "epoch_end" and callback in self._measuring:  # was asked as a metric
                continue
            returned = getattr(callback, f"on_{moment}")(**self.state)
            for key, value in (returned or {}).items():
                if key not in self.state:
                    name = f"{type(callback).__name__}.on_{moment}"
                    raise ArgumentError(f"{name} returned {key!r}, which is not in the state")
                if key in NOT_DONE and value:
                    raise ArgumentError(f"{type(callback).__name__} returned {key}={value!r}, which is not done here")
                self.state[key] = changes[key] = value
        if changes.get("skip_step"):
            trainer.skip_step = True
        return changes

    def begin(self, history: Recorder, metrics: list[Any], epochs: int) -> None:
        """Tell them that a fit of some epochs begins; those that add columns to the log become metrics."""
        self.state = self._fresh(history) | {"n_epochs": epochs}
        for callback in self.callbacks:
            before = len(history.metric_names)
            callback.on_train_begin(**self.state)
            if added := history.metric_names[before:]:
                columns = _Columns(callback, self)
                metrics += [columns.column(name, i) for i, name in enumerate(added)]
                self._measuring.append(callback)
        self.begun = True

    @contextmanager
    def judging(self, trainer: Trainer, history: Recorder) -> Iterator[Adapter]:
        """Tell them of a validation outside of a fit, as of its only epoch; afterwards all is as before."""
        self._trainer, self.state = trainer, self._fresh(history) | {"n_epochs": 1, "train": False}
        self.call("train_begin", trainer)
        self.state["train"] = False
        self.call("epoch_begin", trainer)
        hook = trainer.network.register_forward_hook(self._keep_output)
        try:
            yield self
        finally:
            hook.remove()

    def judged(self, loss: Any, metrics: Sequence[Any]) -> list[Any]:
        """Tell them what was found, and return it with what they add."""
        self.state["last_metrics"] = [loss, *metrics]
        self.call("epoch_end", self._trainer)
        return list(self.state["last_metrics"])

    def _fresh(self, history: recorder.Recorder) -> dict[str, Any]:
        names = list(history.metric_names)
        return {
            "epoch": 0, "iteration": 0, "num_batch": 0, "n_epochs": 0, "skip_validate": False, "pbar": None,
            "metrics": names, "metrics_names": names, "stop_training": False, "stop_epoch": False, "skip_step": False,
            "skip_zero": False, "skip_bwd": False, "train": True, "last_input": None, "last_target": None,
            "last_output": None, "last_loss": None, "smooth_loss": None, "last_metrics": [],
        }  # fmt: skip

    def say_what_is_lost(self) -> None:
        """Warn of callbacks whose values would begin anew where a fit is taken up again."""
        without = dict.fromkeys(type(cb).__name__ for cb in self.callbacks if not hasattr(cb, "load_state_dict"))
        if without:
            warn(
                f"where this fit is taken up again, {', '.join(without)} (callbacks of v1's protocol) begin anew: "
                "their methods state_dict() and load_state_dict(state) would keep what they know",
                OnecycleWarning,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps, and what the callbacks that have ``state_dict`` return: values of JSON."""
        own = {i: cb.state_dict() for i, cb in enumerate(self.callbacks) if hasattr(cb, "state_dict")}
        return {"iteration": self.state.get("iteration", 0), "own": [[i, state] for i, state in own.items()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what ``state_dict`` gave."""
        self.state["iteration"] = state["iteration"]
        for i, own in state["own"]:
            self.callbacks[i].load_state_dict(own)

    def on_train_begin(self, trainer: Trainer) -> None:
        """Set up the state, and look at what the network gives."""
        self._trainer = trainer
        if not self.begun:  # a sweep of the learning rate
            self.state = self._fresh(trainer.recorder)
            self.call("train_begin", trainer)
        self._hook = trainer.network.register_forward_hook(self._keep_output)
        if self.overrides("loss_begin", "backward_begin"):
            self._loss, trainer.loss_func = trainer.loss_func, _Told(trainer.loss_func, self, trainer)

    def _keep_output(self, network: nn.Module, inputs: Any, output: Any) -> None:
        self.state["last_output"] = output

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Tell them."""
        self.state |= {"epoch": epoch, "num_batch": 0, "train": True}
        self.call("epoch_begin", trainer)

    def on_batch_begin(self, trainer: Trainer, batch: Any, rng: np.random.Generator) -> None:
        """Tell them, and take another input or target."""
        self.state["num_batch"] = trainer.batch_no
        self._begin_batch(batch, trainer, train=True)

    def _begin_batch(self, batch: Any, trainer: Trainer, *, train: bool) -> None:
        self.state |= {"last_input": batch.x, "last_target": batch.y, "train": train}
        self.state |= dict.fromkeys(("stop_epoch", "skip_step", "skip_zero", "skip_bwd"), False)
        changes = self.call("batch_begin", trainer)
        batch.x, batch.y = changes.get("last_input", batch.x), changes.get("last_target", batch.y)

    def told(self, batches: Iterator[Any], *, train: bool) -> Iterator[Any]:
        """Go through batches: an epoch of training ends where a callback asks for that, others tell of each batch."""
        for batch in batches:
            if not train:
                self._begin_batch(batch, self._trainer, train=False)
            yield batch
            if not train:
                self._end_validation_batch(batch)
            if self.state["stop_epoch"]:
                return

    def _end_validation_batch(self, batch: Any) -> None:
        self.state |= self.call("loss_begin", self._trainer)
        loss_func = self._trainer.loss_func
        self.state["last_loss"] = getattr(loss_func, "plain", loss_func)(self.state["last_output"], batch.y).detach()
        self.call("batch_end", self._trainer)

    def on_backward_end(self, trainer: Trainer) -> None:
        """Tell them."""
        self.call("backward_end", trainer)

    def on_batch_end(self, trainer: Trainer, loss: Tensor) -> None:
        """Tell them."""
        self.state |= {"last_loss": loss}
        if self.overrides("step_end", "batch_end"):
            self.state["smooth_loss"] = torch.tensor(trainer.recorder.last_loss())
        self.call("step_end", trainer)
        self._keep_or_drop_gradients(trainer)
        self.call("batch_end", trainer)
        self.state["iteration"] += 1

    def _keep_or_drop_gradients(self, trainer: Trainer) -> None:
        """Of a step that was skipped: v1 dropped its gradients, unless ``skip_zero`` kept them for the next one."""
        if self.state["skip_zero"] and not self.state["skip_step"]:
            raise ArgumentError("a callback returned skip_zero=True without skip_step=True, which is not done here")
        if self.state["skip_step"] and not self.state["skip_zero"] and trainer.optimizer is not None:
            trainer.optimizer.zero_grad()

    def on_epoch_end(self, trainer: Trainer, row: Any) -> None:
        """Tell them."""
        self.state |= {"last_metrics": [row.valid_loss, *row.metrics], "train": False, "smooth_loss": row.train_loss}
        self.call("epoch_end", trainer)
        if self.later.get("stop_training") or self.state["stop_training"]:
            trainer.stop_training = True

    def on_train_end(self, trainer: Trainer) -> None:
        """Tell them, and leave everything as it was."""
        if self._hook is not None:
            self._hook.remove()
        if self._loss is not None:
            trainer.loss_func, self._loss = self._loss, None
        self.state["exception"] = False
        self.call("train_end", trainer)


class _Told:
    """A loss that tells an adapter before it is computed, and after."""

    def __init__(self, loss_func: Any, adapter: Adapter, trainer: Trainer) -> None:
        self.plain, self._adapter, self._trainer = loss_func, adapter, trainer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        adapter = self._adapter
        if not outputs.requires_grad:  # validation
            loss: Tensor = self.plain(outputs, targets)
            return loss
        adapter.state["last_output"] = outputs
        outputs = adapter.call("loss_begin", self._trainer).get("last_output", outputs)
        adapter.state["last_loss"] = loss = self.plain(outputs, targets)
        changes = adapter.call("backward_begin", self._trainer)
        changed: Tensor = outputs.sum() * 0 if changes.get("skip_bwd") else changes.get("last_loss", loss)
        # The log has the loss as it was, the gradients are of what it became: none where there is no pass backwards.
        return changed + (loss - changed).detach()


def told_batches(loader: Any, adapter: Adapter, *, train: bool) -> Any:
    """Return the batches of a loader, of each of which an adapter tells its callbacks; features as they are."""
    if isinstance(loader, BatchLoader):
        return ToldBatches.of(loader, adapter, train=train)
    return ToldOwn(loader, adapter, train) if isinstance(loader, DeviceDataLoader) else loader


class ToldOwn:
    """Batches of a notebook's own data, of each of which an adapter tells its callbacks.

    Args:
        loader, adapter: the batches, and who tells of them.
        train: whether they train.
    """

    def __init__(self, loader: DeviceDataLoader, adapter: Adapter, train: bool) -> None:
        self.loader, self.bs = loader, loader.bs
        self._adapter, self._train = adapter, train

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass."""
        self.loader.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        return self._adapter.told(iter(self.loader), train=self._train)


class ToldBatches(BatchLoader):
    """The batches of a loader, of each of which an adapter tells its callbacks."""

    _adapter: Adapter
    _train: bool

    @classmethod
    def of(cls, loader: BatchLoader, adapter: Adapter, *, train: bool) -> ToldBatches:
        """Take a loader as it is."""
        made = cls.__new__(cls)
        made.__dict__.update(loader.__dict__)
        made._adapter, made._train = adapter, train
        return made

    def __iter__(self) -> Iterator[Any]:
        return self._adapter.told(super().__iter__(), train=self._train)
