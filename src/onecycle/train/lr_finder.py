"""The learning-rate finder: sweeps from tiny to huge that leave no trace in the model, and what they say together."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count, islice

import numpy as np
import torch

from onecycle.errors import ArgumentError
from onecycle.train.evaluate import BatchLike, Loader
from onecycle.train.log.progress import Progress
from onecycle.train.log.recorder import Recorder
from onecycle.train.loop import Callback, Trainer, set_training_mode, tell
from onecycle.train.schedules import ExponentialSweep, LrLike, lr_range

FINISHED = "LR Finder is complete, type {learner_name}.recorder.plot() to see the graph."
DIVERGED_FACTOR = 4.0
"""The sweep stops when the smoothed loss exceeds its best by this factor."""

SMOOTH = 1.0
"""Width of the centred smoothing of a sweep, as a standard deviation in natural logarithms of the learning rate."""

BASIN = 0.1
"""The basin around the lowest loss: where at least 1 − this share of the whole fall has been reached."""

BELOW_BASIN = 5.0
"""The suggestion is the middle of the basin divided by this.

v1 divides the place of its minimum by 10; its running mean lags, which puts that minimum about 7 times higher than
the centred one here (Planet, head on features). Measured there with 1cycle, 8 to 10 epochs: best between 1.5 and 3
times a tenth of the middle for batches of 16, 32 and 64, and flat around it.
"""

LEAST_FALL = 0.1
"""Share of its start by which the smoothed loss must fall for a sweep to say anything."""

MOST_APART = 4.0
"""Sweeps whose suggestions are further apart than this factor do not agree."""

LEAST_POINTS = 12
"""Batches that a sweep needs."""


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
    skip_epochs: int = 0,
    quiet: bool = False,
) -> None:
    """Train for some batches at exponentially growing learning rates, then put everything back.

    Weights, buffers, optimizer, layer modes, random state and the count of epochs are afterwards as before, also when
    the sweep is interrupted. The loss is looked at after every batch: here waiting for the device is the point.

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
        skip_epochs: take the order and the draws of so many epochs later: another sweep of the same model.
        quiet: do not say that the sweep is complete.

    Raises:
        ArgumentError: a learning rate is not above 0, or the loader has no batch.

    Source: L. N. Smith, "Cyclical learning rates for training neural networks", 2017 (arXiv:1506.01186).
    """
    if len(loader) == 0:
        raise ArgumentError("the training set gives no batch; use a smaller batch size (bs) or more pictures")
    if not isinstance(num_it, int):
        raise ArgumentError(f"num_it is a number of batches, 1 or more; received {num_it!r}")
    n_groups = len(trainer.layer_groups)
    schedule = ExponentialSweep(tuple(lr_range(start_lr, n_groups)), tuple(lr_range(end_lr, n_groups)), num_it)
    if schedule.start[-1] >= schedule.end[-1]:
        raise ArgumentError(f"the sweep goes upwards: start_lr lies below end_lr; received {start_lr!r} and {end_lr!r}")
    partners = sorted((cb for cb in callbacks if cb.in_lr_find), key=lambda cb: cb.order)
    progress = progress or Progress()
    with unchanged(trainer), trainer.running(recorder, wd=wd, progress=progress, callbacks=partners):
        progress.start([], 1)
        progress.epoch(num_it)
        best = math.inf
        for done, (epoch, batch) in enumerate(islice(_passes(trainer, loader, partners, skip_epochs), num_it)):
            trainer.set_hypers(schedule, done)
            trainer.train_step(batch, epoch, partners)
            smooth = trainer.recorder.losses[-1]
            best = min(best, smooth)
            progress.batch(done + 1, num_it, trainer.recorder.last_loss)
            if trainer.stop_training or (stop_div and not smooth <= DIVERGED_FACTOR * best):
                break
    if not quiet:
        print(FINISHED)


def _passes(
    trainer: Trainer, loader: Loader, callbacks: Sequence[Callback], skip_epochs: int
) -> Iterator[tuple[int, BatchLike]]:
    """Batches without end, each with the epoch that its random draws belong to."""
    trainer.n_batches = len(loader)
    set_training_mode(trainer.network)
    for number, epoch in enumerate(count(trainer.epochs_done + skip_epochs)):
        loader.set_epoch(epoch)
        tell(callbacks, "on_epoch_begin", trainer, number)
        for trainer.batch_no, batch in enumerate(loader):
            yield epoch, batch


@contextmanager
def unchanged(trainer: Trainer) -> Iterator[None]:
    """Put weights, buffers, layer modes, optimizer and gradient scale back, in memory, however the block ends."""
    tensors = list(chain(trainer.model.parameters(), trainer.model.buffers()))
    copies = [t.detach().clone() for t in tensors]
    modes = [(module, module.training) for module in trainer.model.modules()]
    optimizer = trainer.optimizer
    state = copy.deepcopy(optimizer.torch.state_dict()) if optimizer is not None else None
    scale = trainer.scaler.state_dict() if trainer.scaler is not None else None
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
        if trainer.scaler is not None and scale is not None:
            trainer.scaler.load_state_dict(scale)


# --- what several sweeps say together -------------------------------------------------------------


Sweep = tuple[list[float], list[float]]
"""Learning rates, rising, and the loss of the batch that each was tried on."""


@dataclass(frozen=True)
class LrAnswer:
    """What several sweeps say together."""

    lr: float | None  # the suggested peak learning rate; None where the sweeps cannot tell
    low: float | None  # smallest suggestion of a single sweep; None where there is none
    high: float | None  # largest one
    reason: str  # how lr was found, or why there is none and what to do

    def __str__(self) -> str:
        if self.lr is None:
            return f"The sweeps cannot tell a learning rate: {self.reason}"
        return f"Suggested learning rate: {self.lr:.1e} ({self.reason})"


def robust_lr(sweeps: Sequence[tuple[Sequence[float], Sequence[float]]]) -> LrAnswer:
    """Read one learning rate off several sweeps of the same model with different orders and draws.

    Each sweep's raw losses are smoothed over the logarithm of the learning rate. The basin is the stretch around the
    minimum where nearly all of the fall has been reached; a fifth of its middle is the sweep's suggestion. The answer
    is their geometric mean. The point of steepest descent was tried too and is not used: on Planet (head on
    features, 16 runs of three sweeps each over 8 splits) its answers differed by factors of 3 to 30, those of the
    basin by 1.2 to 1.4 with batches of 32 and 64, and 1.9 with 16.

    Args:
        sweeps: for each, its learning rates (rising) and the raw loss of each batch.

    Returns:
        The answer. ``lr`` is None where at most half of the sweeps say anything, or they do not agree within a
        factor of ``MOST_APART``.
    """
    if not sweeps:
        raise ArgumentError("robust_lr needs at least one sweep: pairs (learning rates, losses)")
    readings = [_read_sweep(lrs, losses) for lrs, losses in sweeps]
    lrs = [r for r in readings if isinstance(r, float)]
    silent = [r for r in readings if isinstance(r, str)]
    n = len(sweeps)
    low, high = (min(lrs), max(lrs)) if lrs else (None, None)
    if low is None or high is None or 2 * len(lrs) <= n:
        return LrAnswer(None, low, high, f"{silent[0]} ({len(silent)} of {n} sweeps)")
    if high > MOST_APART * low:
        reason = f"the answers of {len(lrs)} sweeps lie between {low:.1e} and {high:.1e}; try larger batches"
        return LrAnswer(None, low, high, reason)
    lr = min(high, max(low, float(np.exp(np.mean(np.log(lrs))))))  # within them despite rounding
    return LrAnswer(lr, low, high, f"{len(lrs)} of {n} sweeps say {low:.1e} to {high:.1e}")


def _read_sweep(lrs: Sequence[float], losses: Sequence[float]) -> float | str:
    """Return the suggestion of one sweep, or the reason why there is none."""
    y = np.nan_to_num(np.asarray(losses, dtype=float), nan=np.inf, posinf=np.inf)
    log_lr = np.log(np.asarray(lrs[: len(y)], dtype=float))
    n = int(np.isfinite(y).sum())
    if n < LEAST_POINTS:
        return f"{n} batches are too few, {LEAST_POINTS} with a finite loss are needed"
    start = float(np.median(y[: max(5, n // 5)]))
    # An explosion says that the rate is too high; how high the loss flew says no more than that.
    y = np.minimum(y, start + (DIVERGED_FACTOR - 1) * abs(start))
    bells = np.exp(-0.5 * ((log_lr[:, None] - log_lr) / SMOOTH) ** 2)
    smooth = (bells @ y) / bells.sum(axis=1)
    lowest = int(np.argmin(smooth))
    fall = start - float(smooth[lowest])
    if not fall >= LEAST_FALL * abs(start):
        return f"the loss never fell by a tenth of its start ({start:.3g}): the model cannot learn more so fast"
    if log_lr[-1] - log_lr[lowest] < SMOOTH / 2:
        fell = f"the loss was still falling at the last rate, {np.exp(log_lr[-1]):.1e}"
        return f"{fell}: nothing here says which rate is too high, so any up to there may do; the default is a start"
    inside = smooth <= smooth[lowest] + BASIN * fall
    first = lowest - int(np.argmin(np.append(inside[lowest::-1], False))) + 1
    last = lowest + int(np.argmin(np.append(inside[lowest:], False))) - 1
    if first == 0:
        rose = f"the loss was at its lowest from the first rate on, {np.exp(log_lr[0]):.1e}"
        return f"{rose}: nothing was left to learn at these rates, as after training"
    return float(np.exp(log_lr[first : last + 1].mean())) / BELOW_BASIN
