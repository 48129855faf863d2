"""The learning-rate finder: a sweep from tiny to huge that leaves no trace in the model."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count, islice

import torch

from onecycle.errors import ArgumentError
from onecycle.train.callbacks import BatchLike, Callback
from onecycle.train.log.progress import Progress
from onecycle.train.log.recorder import Recorder, Suggestion, suggest
from onecycle.train.loop import Loader, Trainer, set_training_mode
from onecycle.train.schedules import ExponentialSweep, LrLike, Schedule, lr_range

__all__ = ["DIVERGED_FACTOR", "FINISHED", "Suggestion", "find_lr", "suggest"]

FINISHED = "LR Finder is complete, type {learner_name}.recorder.plot() to see the graph."
DIVERGED_FACTOR = 4.0
"""The sweep stops when the smoothed loss exceeds its best by this factor."""


def find_lr(
    trainer: Trainer,
    loader: Loader,
    *,
    recorder: Recorder,
    start_lr: LrLike = 1e-7,
    end_lr: LrLike = 10.0,
    num_it: int = 100,
    stop_div: bool = True,
    wd: float | None = None,
    callbacks: Sequence[Callback] = (),
    progress: Progress | None = None,
) -> None:
    """Train for some batches at exponentially growing learning rates, then put everything back.

    Weights, buffers, optimizer, layer modes, random state and the count of epochs are afterwards as before,
    also when the sweep is interrupted. The loss is looked at after every batch: here waiting for the device
    is the point.

    Args:
        trainer: what to sweep with.
        loader: training batches; passed over as often as it takes.
        recorder: an empty recorder; gets the learning rates and losses.
        start_lr: learning rate of the first batch, a number, slice or list over the layer groups.
        end_lr: learning rate that batch ``num_it`` would have, likewise.
        num_it: batches of the sweep.
        stop_div: stop when the smoothed loss exceeds four times its best, or is NaN.
        wd: weight decay; ``None`` for the trainer's.
        callbacks: those of them that have ``in_lr_find`` take part.
        progress: where the bar goes.

    Raises:
        ArgumentError: a learning rate is not above 0, or the loader has no batch.

    Source: L. N. Smith, "Cyclical learning rates for training neural networks", 2017 (arXiv:1506.01186).
    """
    if len(loader) == 0:
        raise ArgumentError("the training set gives no batch; use a smaller batch size (bs) or more pictures")
    n_groups = len(trainer.layer_groups)
    schedule = ExponentialSweep(
        tuple(lr_range(start_lr, n_groups)), tuple(lr_range(end_lr, n_groups)), num_it
    )
    partners = sorted((cb for cb in callbacks if cb.in_lr_find), key=lambda cb: cb.order)
    progress = progress or Progress()
    with unchanged(trainer), trainer.running(recorder, wd=wd, progress=progress, callbacks=partners):
        progress.start([], 1)
        progress.epoch(num_it)
        _sweep(trainer, loader, schedule, partners, progress, num_it=num_it, stop_div=stop_div)
    print(FINISHED)


def _sweep(
    trainer: Trainer,
    loader: Loader,
    schedule: Schedule,
    callbacks: Sequence[Callback],
    progress: Progress,
    *,
    num_it: int,
    stop_div: bool,
) -> None:
    best = math.inf
    for done, (epoch, batch) in enumerate(islice(_passes(trainer, loader, callbacks), num_it)):
        trainer.set_hypers(schedule, done)
        trainer.train_step(batch, epoch, callbacks)
        smooth = trainer.recorder.losses[-1]
        best = min(best, smooth)
        progress.batch(done + 1, num_it, trainer.recorder.last_loss)
        if trainer.stop_training or (stop_div and not smooth <= DIVERGED_FACTOR * best):
            return


def _passes(
    trainer: Trainer, loader: Loader, callbacks: Sequence[Callback]
) -> Iterator[tuple[int, BatchLike]]:
    """Batches without end, each with the epoch that its random draws belong to."""
    trainer.n_batches = len(loader)
    set_training_mode(trainer.network)
    for epoch in count(trainer.epochs_done):
        loader.set_epoch(epoch)
        for cb in callbacks:
            cb.on_epoch_begin(trainer, epoch - trainer.epochs_done)
        for trainer.batch_no, batch in enumerate(loader):
            yield epoch, batch


@contextmanager
def unchanged(trainer: Trainer) -> Iterator[None]:
    """Put weights, buffers, layer modes and the optimizer back, in memory, however the block ends."""
    tensors = list(chain(trainer.model.parameters(), trainer.model.buffers()))
    copies = [t.detach().clone() for t in tensors]
    modes = [(module, module.training) for module in trainer.model.modules()]
    optimizer = trainer.optimizer
    state = copy.deepcopy(optimizer.torch.state_dict()) if optimizer is not None else None
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, saved in zip(tensors, copies, strict=True):
                tensor.copy_(saved)
        for module, training in modes:
            module.training = training
        trainer.optimizer = optimizer
        if optimizer is not None and state is not None:
            optimizer.torch.load_state_dict(state)
