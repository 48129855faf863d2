"""The training loop: ``fit`` → ``_run_epoch`` → ``train_step``, and ``evaluate``.

Every random draw is a function of (seed, epoch, step), the user's random state is left as it was, and no step makes the
host wait for the device: losses stay there until the epoch ends or the progress bar looks (at most every half second).
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from onecycle.errors import ArgumentError, DistributedError, DivergedError, OnecycleWarning, warn
from onecycle.text import option, plural
from onecycle.train.device.batch_split import (
    BatchSplit,
    is_out_of_memory,
    loss_shares,
    part_slices,
    shifted,
    split_message,
    take_rows,
)
from onecycle.train.device.host_memory import keep_freed_memory
from onecycle.train.device.machine import naming_what_lacks
from onecycle.train.device.placement import loss_on
from onecycle.train.device.precision import Precision
from onecycle.train.device.random_state import deterministic, fix_workspace, keep_random_state, mix_seed, seed_device
from onecycle.train.device.ranks import FAILED, FINE, OUT_OF_MEMORY, Buffers, Ranks, added
from onecycle.train.evaluate import BatchLike, Loader, batches_between, evaluate, measured
from onecycle.train.log.progress import Progress
from onecycle.train.log.recorder import EpochRow, MetricValue, Recorder
from onecycle.train.losses import LossFunc
from onecycle.train.metrics import Metric
from onecycle.train.optimizer import AdamW_v1, LayerGroup, OptFunc, Optimizer, hold_frozen_norms
from onecycle.train.schedules import Schedule, check_epochs

Network = Callable[[torch.Tensor], torch.Tensor]


class Callback:
    """Base of all callbacks; override the moments you need.

    ``order`` sorts callbacks, low first; callbacks of one order keep the order in which they were given.
    ``in_lr_find`` says whether the callback also takes part in the learning-rate finder.
    """

    order: ClassVar[int] = 0
    in_lr_find: ClassVar[bool] = False

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first epoch of a fit."""

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Before the first batch of an epoch; the model is in training mode."""

    def on_batch_begin(self, trainer: Trainer, batch: BatchLike, rng: np.random.Generator) -> None:
        """Before the forward pass; the batch's attributes may be replaced."""

    def on_backward_end(self, trainer: Trainer) -> None:
        """After the backward pass, before the update."""

    def on_batch_end(self, trainer: Trainer, loss: torch.Tensor) -> None:
        """After the update; ``loss`` is a detached 0-d tensor on the device."""

    def on_epoch_end(self, trainer: Trainer, row: EpochRow) -> None:
        """After validation."""

    def on_train_end(self, trainer: Trainer) -> None:
        """After the last epoch, also when the fit was interrupted."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must come back where a fit is taken up again: tensors, and values that JSON can hold, by name."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what ``state_dict`` gave, after ``on_train_begin`` and, within an epoch, ``on_epoch_begin``."""


def tell(callbacks: Iterable[Callback], moment: str, *arguments: object) -> None:
    """Call one moment of each callback.

    Raises:
        ArgumentError: one returns what fastai v1 would have obeyed, and nobody here looks at.
    """
    for cb in callbacks:
        returned = getattr(cb, moment)(*arguments)
        if isinstance(returned, dict | bool):
            raise ArgumentError(
                f"{type(cb).__name__}.{moment} returned {returned!r:.200}: that is fastai v1's way, and nothing comes "
                "of it here. Set what you mean on the trainer, as trainer.stop_training = True or trainer.skip_step = "
                "True, or replace batch.x, and return nothing"
            )


@dataclass(kw_only=True)
class Trainer:
    """A model with what it takes to train it; the state outlives a fit."""

    model: nn.Module  # the network, logits out
    layer_groups: Sequence[LayerGroup]  # its modules by depth, earliest first; each has its own learning rate
    loss_func: LossFunc  # (logits, targets) → 0-d mean loss
    opt_func: OptFunc = AdamW_v1  # a torch optimizer class, or a partial of one
    wd: float = 1e-2  # weight decay
    true_wd: bool = True  # decoupled weight decay, see onecycle.train.optimizer.Optimizer
    bn_wd: bool = True  # decay norm parameters and biases too
    seed: int = 0  # with the epoch and the step, what every random draw is a function of; 0 or more
    epochs_done: int = 0  # epochs ever begun. It goes on from fit to fit, so no order and no draw comes twice
    optimizer: Optimizer | None = None  # made by the first fit. Set it to None after freezing or unfreezing
    head: nn.Module | None = None  # what batches go through, where what comes before it was computed beforehand
    deterministic: bool = False  # a GPU computes the same bits each time; slower
    precision: Precision | None = None  # of the steps; None leaves the network as it is, in fp32. See use_precision
    parts: int = 1  # in which a batch goes through the network, each with draws of its own: the result depends on it
    ranks: Ranks = field(default_factory=Ranks)  # the processes that share the parts: the result does not depend on it

    # The state of the running fit, for callbacks.
    recorder: Recorder = field(default_factory=Recorder, init=False, repr=False)
    stop_training: bool = field(default=False, init=False, repr=False)
    skip_step: bool = field(default=False, init=False, repr=False)
    loss_weight: float = field(default=1.0, init=False, repr=False)
    lr_scale: float = field(default=1.0, init=False, repr=False)
    has_validation: bool = field(default=False, init=False, repr=False)
    batch_no: int = field(default=0, init=False, repr=False)
    n_batches: int = field(default=0, init=False, repr=False)
    callbacks: Sequence[Callback] = field(default=(), init=False, repr=False)
    next_epoch: int = field(default=0, init=False, repr=False)
    """The epoch that the fit goes on with; ``on_train_begin`` may set it, where a fit is taken up again, and"""
    next_step: int = field(default=0, init=False, repr=False)
    """the batch of it that comes first. ``epochs_done`` is then without that epoch."""
    is_over: bool = field(default=False, init=False, repr=False)
    """Whether the fit came to its end: nothing stopped it."""
    is_validating: bool = field(default=False, init=False, repr=False)
    item_losses: torch.Tensor | None = field(default=None, init=False, repr=False)
    """Loss of each validation item (N,), for the weights as they are; None where they changed since."""
    # The state of the device.
    scaler: torch.amp.GradScaler | None = field(default=None, init=False, repr=False)
    _split: BatchSplit = field(default_factory=BatchSplit, init=False, repr=False)
    _compiled: tuple[nn.Module, Network] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.use_precision(self.precision)
        if self.deterministic:
            fix_workspace()

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    @property
    def network(self) -> nn.Module:
        """What batches go through: ``head`` where it is set, else the model."""
        return self.model if self.head is None else self.head

    def share_with(self, ranks: Ranks) -> None:
        """Train together with other processes from the next fit on, with a part of each batch for each at least."""
        self.ranks, self.parts = ranks, max(self.parts, ranks.size)

    def check_ranks(self) -> None:
        """Refuse more processes than there are parts.

        Raises:
            DistributedError: some would have nothing to do.
        """
        if self.ranks.size > self.parts:
            raise DistributedError(
                f"this training was begun with its batches in {plural(self.parts, 'part')}, which decides what comes "
                f"out, so at most as many processes can go on with it: {self.ranks.size} are too many"
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Take steps in this process without the others, of whole batches; what is learned of memory is forgotten."""
        before = self.ranks, self.parts, self._split
        self.ranks, self.parts, self._split = Ranks(), 1, BatchSplit()
        try:
            yield
        finally:
            self.ranks, self.parts, self._split = before

    def say(self, text: str) -> None:
        """Print a line, once where several processes train together."""
        if self.ranks.is_first:
            print(text)

    def use_precision(self, precision: Precision | None) -> None:
        """Compute in another precision and layout from the next step on; ``None`` is plain fp32."""
        scaled = precision is not None and precision.dtype == "fp16"
        if not scaled or self.scaler is None:
            self.scaler = torch.amp.GradScaler(self.device.type) if scaled else None
        self.precision = precision
        if precision is not None:
            self.model.to(memory_format=precision.memory_format)
            if self.optimizer is not None:
                self.optimizer.lay_out_like_parameters()

    def precision_values(self) -> dict[str, Any] | None:
        """Return the precision in use as plain values."""
        return None if self.precision is None else asdict(self.precision)

    @property
    def must_compile(self) -> bool:
        """Whether the next step compiles the network first."""
        compiles = self.precision is not None and self.precision.compile
        return compiles and (self._compiled is None or self._compiled[0] is not self.network)

    def move_loss(self) -> None:
        """Bring the weights of the loss to where the model is."""
        self.loss_func = loss_on(self.loss_func, self.device)

    def describe(self, callbacks: Sequence[Callback] = ()) -> list[str]:
        """Name the loss, the optimizer and the callbacks, a line each."""
        optimizer = getattr(self.opt_func, "func", self.opt_func)
        return [
            f"Loss: {getattr(self.loss_func, '__name__', type(self.loss_func).__name__)}",
            f"Optimizer: {optimizer.__name__}, weight decay {self.wd}{', decoupled' if self.true_wd else ''}",
            f"Callbacks: {', '.join(type(c).__name__ for c in callbacks) or 'none'}",
        ]

    def ensure_optimizer(self) -> Optimizer:
        """Return the optimizer for the parameters that train now; a new one where there is none that fits."""
        if self.optimizer is not None and not self.optimizer.fits(self.layer_groups):
            warnings.warn(
                "other parameters train now than when the optimizer was made, so a new one starts without "
                "momentum; freeze() and unfreeze() do this by themselves",
                OnecycleWarning,
                stacklevel=3,
            )
            self.optimizer = None
        if self.optimizer is None:
            self.optimizer = Optimizer(
                self.opt_func, self.layer_groups, wd=self.wd, true_wd=self.true_wd, bn_wd=self.bn_wd
            )
        return self.optimizer

    def fit(
        self,
        epochs: int,
        schedule: Schedule,
        train_loader: Loader,
        valid_loader: Loader | None = None,
        *,
        recorder: Recorder,
        metrics: Sequence[Metric] = (),
        callbacks: Sequence[Callback] = (),
        progress: Progress | None = None,
        wd: float | None = None,
        start_epoch: int = 0,
    ) -> None:
        """Train for some epochs.

        Args:
            epochs: epochs to run, at least 1.
            schedule: learning rates and momentum of each step, counted over the whole fit.
            train_loader: batches to learn from.
            valid_loader: batches to measure on after each epoch.
            recorder: an empty recorder, which keeps the history also when the fit is interrupted.
            metrics: (logits, targets) → value, each called once an epoch with the whole validation set.
            callbacks: see :mod:`onecycle.train.callbacks`.
            progress: where the log goes; ``None`` for nowhere.
            wd: weight decay of this fit; ``None`` for the trainer's.
            start_epoch: number of the first epoch in the log and, times the batches of an epoch, the first
                step of the schedule.

        Raises:
            ArgumentError: no epoch or no batch to run.
            DivergedError: the loss became NaN or infinite; the weights stay as they are.
        """
        _check_fit(epochs, start_epoch, train_loader, self.network)
        callbacks = sorted(callbacks, key=lambda cb: cb.order)
        progress = progress or Progress()
        valid_loader = valid_loader if valid_loader is not None and len(valid_loader) else None
        self.next_epoch, self.next_step = start_epoch, 0
        self.check_ranks()
        self.ranks.copy_first([*self.model.parameters(), *self.model.buffers()])
        with self.running(recorder, wd=wd, progress=progress, callbacks=callbacks, validated=valid_loader is not None):
            progress.start(recorder.names, epochs)
            for row in recorder.rows:  # of a fit that is taken up again
                progress.row(row)
            while self.next_epoch < start_epoch + epochs:
                start_s, epoch = time.monotonic(), self.next_epoch
                self._run_epoch(epoch, schedule, train_loader, callbacks, progress)
                row = self._measure(epoch, valid_loader, metrics, progress, start_s)
                progress.row(row)
                self.next_epoch, self.next_step = epoch + 1, 0
                tell(callbacks, "on_epoch_end", self, row)
                if self.stop_training:
                    break

    def _run_epoch(
        self, epoch: int, schedule: Schedule, loader: Loader, callbacks: Sequence[Callback], progress: Progress
    ) -> None:
        """One pass over the training batches, and the check that their losses are numbers."""
        draw_epoch, self.epochs_done, self.item_losses = self.epochs_done, self.epochs_done + 1, None
        loader.set_epoch(draw_epoch)
        self.n_batches = len(loader)
        set_training_mode(self.network)
        progress.epoch(self.n_batches)
        tell(callbacks, "on_epoch_begin", self, epoch)
        first, self.batch_no = self.next_step, self.next_step - 1
        if self.stop_training and first:  # taken up again after the step that stopped it
            return
        for self.batch_no, batch in enumerate(batches_between(loader, first), first):
            self.set_hypers(schedule, epoch * self.n_batches + self.batch_no)
            self.train_step(batch, draw_epoch, callbacks)
            progress.batch(self.batch_no + 1, self.n_batches, self.recorder.last_loss)
            if self.stop_training:
                break
        else:
            self._check_losses(epoch)
        # As fastai v1 leaves the optimizer: a fit with no momentum of its own goes on at the end of the schedule.
        self._take_hypers(schedule, epoch * self.n_batches + self.batch_no + 1)

    def train_step(self, batch: BatchLike, draw_epoch: int, callbacks: Sequence[Callback] = ()) -> torch.Tensor:
        """One update; returns the detached loss, still on its device.

        A batch that does not fit into memory goes through in slices, with the gradient of the whole.

        Raises:
            OutOfMemoryError: the smallest slice does not fit either.
            DeviceError: the device lacks an operation of the network or the loss.
        """
        optimizer = self.optimizer or self.ensure_optimizer()
        self.skip_step, self.loss_weight = False, 1.0
        seed = mix_seed(self.seed, draw_epoch, self.batch_no)
        seed_device(self.device, seed)
        if callbacks:
            rng = np.random.default_rng((self.seed, draw_epoch, self.batch_no, 1))
            tell(callbacks, "on_batch_begin", self, batch, rng)

        earlier = optimizer.take_grads()  # of batches that await an update: a pass that fails can be undone without
        if self.parts == 1:
            loss = self._whole_gradient(batch, optimizer, seed)
        else:
            loss = self._gradient_of_parts(batch, optimizer, draw_epoch)
        optimizer.add_grads(earlier, self.scaler)

        if self.scaler is not None:
            self.scaler.unscale_(optimizer.torch)  # so that callbacks see, and clip, true gradients
        tell(callbacks, "on_backward_end", self)
        if not self.skip_step:
            optimizer.step(self.scaler)
            optimizer.zero_grad()
        if self.scaler is not None:
            self.scaler.update()
        self.recorder.add_loss(loss)
        tell(callbacks, "on_batch_end", self, loss)
        return loss

    def _whole_gradient(self, batch: BatchLike, optimizer: Optimizer, seed: int) -> torch.Tensor:
        """Compute the gradient of a batch, in slices where it does not fit; returns its detached loss."""
        slices = whole = self._split.slices(self.network, batch.x)
        while True:
            try:
                loss = self._forward_backward(batch, slices, loss_shares(self.loss_func, batch.y, slices))
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                optimizer.zero_grad()
                seed_device(self.device, seed)
                slices = self._split.halve(self.network, batch.x, error)
        if slices is not whole:
            warn(split_message(self.network, slices), OnecycleWarning)
        return loss

    def _gradient_of_parts(self, batch: BatchLike, optimizer: Optimizer, draw_epoch: int) -> torch.Tensor:
        """Compute the gradient of a batch in parts, this process its own ones; returns the batch's detached loss.

        Each part has draws of its own, and starts from the same buffers. Before anything is summed, the processes tell
        one another how their passes ended: where one ran out of memory, all take shorter slices.

        Raises:
            DistributedError: another process failed.
        """
        parts, params = part_slices(self.network, batch.x, self.parts), optimizer.trainable
        buffers, was_split = Buffers(self.network), False
        while True:
            slices = [self._split.slices(self.network, batch.x[rows]) for rows in parts]
            slices = [[shifted(s, rows.start) for s in each] for rows, each in zip(parts, slices, strict=True)]
            sums, error = list[list[torch.Tensor]](), None
            has_grad = [0.0] * len(params)
            try:
                for tensors in self._own_parts(batch, slices, buffers, params, draw_epoch):
                    sums = added(sums, tensors, together=self.ranks.size == 1)
                    has_grad = [max(had, p.grad is not None) for had, p in zip(has_grad, params, strict=True)]
            except Exception as caught:  # noqa: BLE001  # the others must hear of it, whatever it is
                error = caught
            ended = FINE if error is None else OUT_OF_MEMORY if is_out_of_memory(error) else FAILED
            worst, *has_grad = self.ranks.most(ended, *has_grad)
            if worst == FINE:
                break
            optimizer.zero_grad()
            buffers.put_back()
            if error is not None and ended == FAILED:
                raise error
            if worst == FAILED:
                raise DistributedError("another process of this training failed; what it printed says why")
            self._split.halve(self.network, batch.x[parts[0]], error)
            was_split = True
        if was_split:
            warn(split_message(self.network, [s for each in slices for s in each]), OnecycleWarning)
        like = [*params, batch.x.new_zeros((), dtype=torch.float32), *buffers.tensors]
        total = self.ranks.sum_in_order(sums, len(parts), like)
        for p, grad, has in zip(params, total, has_grad, strict=False):
            p.grad = grad if has else None
        buffers.change_by(total[len(params) + 1 :])
        return total[len(params)]

    def _own_parts(
        self,
        batch: BatchLike,
        slices: Sequence[Sequence[slice]],
        buffers: Buffers,
        params: Sequence[nn.Parameter],
        draw_epoch: int,
    ) -> Iterator[list[torch.Tensor]]:
        """Give the gradients, the loss and the changes of buffers of each part of a batch that is this process's."""
        shares = iter(loss_shares(self.loss_func, batch.y, [s for each in slices for s in each]))
        of_part = [[next(shares) for _ in each] for each in slices]
        for i in self.ranks.share(len(slices)):
            buffers.put_back()
            seed_device(self.device, mix_seed(self.seed, draw_epoch, self.batch_no, i))
            loss = self._forward_backward(batch, slices[i], of_part[i])
            weight = (slices[i][-1].stop - slices[i][0].start) / len(batch.x)
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
            yield [*grads, loss.float(), *buffers.changes(weight, is_first=i == 0)]
            for p in params:
                p.grad = None

    def _forward_backward(
        self, batch: BatchLike, slices: Sequence[slice], shares: Sequence[float | torch.Tensor]
    ) -> torch.Tensor:
        """Forward and backward, slice after slice; return the detached loss, weighted by the slices' shares."""
        losses, chosen = [], self.precision or Precision()
        instead = "take another network or loss" if chosen.dtype == "fp32" else "pass precision='fp32'"
        with chosen.arithmetic(training=True), naming_what_lacks(self.device, "training", instead):
            for rows, share in zip(slices, shares, strict=True):
                loss = self.loss_func(self._logits(batch.x[rows]), take_rows(batch.y, rows))
                loss = loss if isinstance(share, float) and share == 1.0 else loss * share
                weighted = loss if self.loss_weight == 1.0 else loss * self.loss_weight
                scaled = weighted if self.scaler is None else self.scaler.scale(weighted)
                scaled.backward()  # type: ignore[no-untyped-call]
                losses.append(loss.detach())
        return sum(losses[1:], losses[0])

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        """Run the network in the precision in use; the logits are float32 then.

        Raises:
            ArgumentError: it gives no tensor, or cannot normalise a batch of one.
        """
        try:
            outputs = self._outputs(x)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ArgumentError(
                "a batch-norm layer cannot train on one value a channel, which is all that it gets from one picture; "
                "use bs=2 or more, and more pictures"
            ) from error
        if not isinstance(outputs, torch.Tensor):
            raise ArgumentError(
                f"in training the model gives {type(outputs).__name__} (with auxiliary outputs?), and the loss takes "
                "one tensor (N, C): let its forward return the logits alone, say by aux_logits=False"
            )
        return outputs if self.precision is None else outputs.float()

    def _outputs(self, x: torch.Tensor) -> torch.Tensor:
        call: Network = self.network
        if self.precision is None:
            return call(x)
        if self.precision.compile:
            if self._compiled is None or self.must_compile:
                self._compiled = (self.network, torch.compile(self.network, dynamic=False))
            call = self._compiled[1]
        with self.precision.autocast(self.device):
            return call(self.precision.lay_out(x))

    def set_hypers(self, schedule: Schedule, i: int) -> None:
        """Give the optimizer what the schedule says for step ``i``, and note it."""
        lrs = self._take_hypers(schedule, i)
        self.recorder.add_hypers(lrs, self.ensure_optimizer().mom)

    def _take_hypers(self, schedule: Schedule, i: int) -> list[float]:
        """Give the optimizer what the schedule says for step ``i``; returns the learning rates."""
        optimizer = self.optimizer or self.ensure_optimizer()
        values = schedule.at(i)
        lrs = [lr * self.lr_scale for lr in values.lrs]
        optimizer.set_lrs(lrs)
        if values.mom is not None:
            optimizer.mom = values.mom
        return lrs

    def _measure(
        self, epoch: int, loader: Loader | None, metrics: Sequence[Metric], progress: Progress, start_s: float
    ) -> EpochRow:
        """Validate (not after a stop in mid-epoch) and close the epoch."""
        valid_loss: float | None = None
        values: list[MetricValue] = []
        if loader is not None and not self.stop_training:
            progress.validating()
            self.is_validating = True
            valid_loss, values = self.validate(loader, metrics)
            self.is_validating = False
        losses = self.recorder.losses
        row = EpochRow(epoch, losses[-1], valid_loss, tuple(values), time.monotonic() - start_s)
        self.recorder.add_row(row, self.batch_no + 1)
        return row

    def validate(self, loader: Loader, metrics: Sequence[Metric]) -> tuple[float, list[MetricValue]]:
        """Return the loss and each metric over a whole set, and keep the loss of each of its items."""
        outputs = evaluate(self.network, loader, self.loss_func, ranks=self.ranks)
        self.item_losses = outputs.losses
        return measured(self.network, outputs, self.loss_func, metrics)

    def _check_losses(self, epoch: int) -> None:
        raw = self.recorder.raw_losses[-self.n_batches :]
        bad = next((i for i, loss in enumerate(raw) if not math.isfinite(loss)), None)
        if bad is None:
            return
        lrs = self.recorder.all_lrs[len(self.recorder.all_lrs) - len(raw) + bad]
        raise DivergedError(
            f"the training loss became {raw[bad]} in epoch {epoch} at batch {bad} of {len(raw)}, where the learning "
            f"rates were {', '.join(f'{lr:.3g}' for lr in lrs)}. A tenth of the learning rate may do; if it happens at "
            "any, look for NaN in the data.",
            "The weights are as that epoch left them: load a saved model or make a new learner, then try a tenth of "
            "the learning rate (lr_find shows a good one) or GradientClipping(learn, clip=1.0).",
        )

    @contextmanager
    def running(
        self,
        recorder: Recorder,
        *,
        wd: float | None = None,
        progress: Progress,
        callbacks: Sequence[Callback],
        validated: bool = False,
    ) -> Iterator[Optimizer]:
        """Set up the state of a fit, and leave everything consistent however it ends."""
        self.move_loss()
        optimizer = self.ensure_optimizer()
        optimizer.wd = self.wd if wd is None else wd
        mom = optimizer.mom
        self.recorder, self.has_validation = recorder, validated
        self.stop_training, self.lr_scale, self.item_losses = False, 1.0, None
        self.callbacks, self.is_over, self.is_validating = callbacks, False, False
        begun: list[Callback] = []
        repeatable = deterministic(self.device, self.deterministic)
        with keep_random_state(self.device), keep_freed_memory(), torch.enable_grad(), repeatable:
            try:
                for cb in callbacks:
                    tell([cb], "on_train_begin", self)
                    begun.append(cb)
                yield optimizer
                self.is_over = True
            except BaseException:
                if mom is not None:
                    optimizer.mom = mom  # an interrupted cycle must not leave its momentum to the next fit
                raise
            finally:
                optimizer.zero_grad()
                recorder.gather()
                progress.finish()
                tell(begun, "on_train_end", self)


def set_training_mode(model: nn.Module) -> None:
    """Put the model into training mode, except norm layers whose parameters do not train."""
    model.train()
    hold_frozen_norms(model)


def _check_fit(epochs: int, start_epoch: int, loader: Loader, model: nn.Module) -> None:
    check_epochs(epochs, start_epoch)
    if len(loader) == 0:
        raise ArgumentError(
            f"the training set gives no batch; use a smaller batch size ({option('bs')}) or more pictures"
        )
    alone = 1 in (getattr(loader, "bs", None), getattr(loader, "n_items", None))
    if alone and any(isinstance(m, nn.BatchNorm1d) for m in model.modules()):
        raise ArgumentError(
            f"the head's batch-norm cannot train on one picture at a time; use {option('bs', 2)} or more, and more "
            "pictures"
        )
