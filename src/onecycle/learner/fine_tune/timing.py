"""The time that ``fine_tune`` takes: speeds measured before a plan is made, and a cycle that ends in time.

A ``learn`` here is a ``Learner``; its module imports this one, so the type is not named.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from textwrap import fill
from typing import Any

import torch
from torch import nn

from onecycle.data.batches import BatchLoader
from onecycle.learner.features import split_where_frozen
from onecycle.learner.fine_tune.plan import HEAD, WIDTH, Speeds, Task, make_plan, small_size
from onecycle.learner.heads.search import MOST_TO_CHOOSE, USUAL_PENALTY
from onecycle.learner.heads.solved import classes_loss, minimise, tags_loss
from onecycle.model import cnn
from onecycle.model.levels import plain_view, reads_levels
from onecycle.train.device.machine import wait_for
from onecycle.train.evaluate import BatchLike
from onecycle.train.log.progress import Progress
from onecycle.train.log.recorder import EpochRow, Recorder
from onecycle.train.loop import Callback, Trainer, set_training_mode
from onecycle.train.lr_finder import unchanged
from onecycle.train.schedules import OneCycle, StepValues

Clock = Callable[[], float]

MEASURED_SHARE = 0.02
"""Share of the time budget that timing one kind of work may take; the first two calls may take ``FIRST`` times that."""

FIRST = 4
"""The first call builds what the others use and is many times slower, so a plan made from it alone would be wrong."""

MOST_CALLS = 5
"""The most calls that time one kind of work."""

MOST_STEPS = 20
"""The most steps that are timed together on a device that works beside the host."""

CPU_BATCH = 16
"""The most pictures of a step that is timed on a CPU, where the rate hardly depends on it (20 to 24 a second for
EfficientNet-Lite0, 224 px, batches of 16 to 64)."""

USUAL_EPOCHS = 4
"""Epochs with all layers that the choice of precision is made for, before the plan is known."""

LEAST_TO_CHOOSE_S = 120.0
"""In less time than this, precision is not tried out beforehand: that takes some seconds."""

SOLVING_STEPS, TIMED_STEPS = {False: 1000, True: 2500}, 10
"""Steps on all pictures that solving a head takes, cross-validation of the penalty included, for classes and (by sets,
too) for tags; and those that are timed. On Planet's features the time was that of 900 to 1,300 steps for 10 and 100
classes, of 2,500 (800 pictures) and 4,300 (200) for 17 tags."""

ENOUGH_STEPS = 2 / 3
"""Where time is short, a larger batch is taken if its plan has at least this share of the most steps that there may be.

With twice the pictures in a step they are 4/3 of the pictures in all. On a GPU a step of 16 pictures may take as long
as one of 64; on a processor, where half a batch takes half the time, it never comes to that.
"""

_RESOLUTION = 1_000_000


# --- speeds ---------------------------------------------------------------------------------------


def measure_speeds(
    learn: Any,
    task: Task,
    *,
    budget_s: float | None = None,
    all_layers: bool = True,
    last_stages: bool = True,
    clock: Clock = time.monotonic,
) -> Speeds:
    """Time a few forward passes and training steps on real batches; the learner is afterwards as before.

    Args:
        learn: the learner, its data prepared.
        task: says the batch size.
        budget_s: time for everything; a small share of it may be used.
        all_layers: whether there may be a stage in which they train; without, that and decoding at another size are
            not timed, and are 0 in the answer.
        last_stages: whether there may be a stage in which they train on maps; without, that is not timed either.
        clock: seconds that never go back.
    """
    trainer = learn.trainer
    n = min(task.batch, task.n_train)
    if trainer.device.type == "cpu":
        n = min(n, CPU_BATCH)
    loader = learn.data.train_dl.replace(stats=learn.norm_stats, bs=n)
    train_s = head_s = maps_s = last_s = 0.0
    times = _Stopwatch(trainer.device, MEASURED_SHARE * (budget_s or 60.0), clock)
    with _scratch(learn):
        if task.hold_norms:
            hold_norms(learn.layer_groups)
        if all_layers:
            if budget_s is None or budget_s >= LEAST_TO_CHOOSE_S:
                learn.speed.choose(trainer, loader, n_batches=USUAL_EPOCHS * task.steps)
            train_s = _train_s(trainer, loader, times)
        trainer.model.eval()
        with torch.no_grad():
            forward_s = times.of_each(_epochs(loader), lambda batch: trainer.model(batch.x))
    if task.on_features and not task.solves_head:
        with _scratch(learn, first=-1):
            _, head_s = _split_s(trainer, loader.batch_at(0, 0), times)
    if task.has_maps and last_stages:
        maps_s, last_s = _last_s(learn, loader, times)
    decode_s = _decode_s(learn, task, clock) if all_layers else 0.0
    solve_s = _solve_s(learn, task, times) if task.solves_head else 0.0
    return Speeds(
        forward_s=forward_s / n,
        train_s=train_s / n,
        decode_s=decode_s,
        head_step_s=head_s,
        maps_s=maps_s / n,
        last_s=last_s / n,
        solve_s=solve_s,
    )


def timed_batch(
    learn: Any, task: Task, speeds: Speeds, *, budget_s: float, start_s: float, clock: Clock = time.monotonic
) -> tuple[Task, Speeds]:
    """Choose the batch by training steps that are timed; the learner is afterwards as before.

    On a CPU there is nothing to measure: see ``CPU_BATCH``.

    Args:
        learn: the learner, its data prepared, its precision chosen.
        task: says which batches there may be.
        speeds: as measured with ``task.batch``.
        budget_s: time for everything; a small share of it may be used.
        start_s: when it began, by the clock.
        clock: seconds that never go back.

    Returns:
        The task with its batch, and the speeds with that.
    """
    sizes = [n for n in task.batches if n != task.batch and n <= task.n_train]
    if not sizes or learn.trainer.device.type == "cpu" or task.fixed_bs is not None:
        return task, speeds
    by_size, times = {task.batch: speeds}, _Stopwatch(learn.trainer.device, MEASURED_SHARE * budget_s, clock)
    for n in sizes:
        loader = learn.data.train_dl.replace(stats=learn.norm_stats, bs=n)
        with _scratch(learn):
            if task.hold_norms:
                hold_norms(learn.layer_groups)
            train_s = _train_s(learn.trainer, loader, times)
        last_s = _last_s(learn, loader, times)[1] if speeds.last_s else 0.0
        by_size[n] = replace(speeds, train_s=train_s / n, last_s=last_s / n)
    chosen = batch_in_time(task, by_size, budget_s=budget_s, spent_s=clock() - start_s)
    return replace(task, timed_bs=chosen), by_size[chosen]


def batch_in_time(task: Task, speeds: Mapping[int, Speeds], *, budget_s: float, spent_s: float) -> int:
    """Return the pictures in a batch that make the best of a time.

    That is the largest batch whose plan has nearly as many steps after the head's as any (``ENOUGH_STEPS``). Where
    there is time for all epochs anyway, or for none, it is the smallest one.

    Args:
        task: what is trained.
        speeds: by the pictures in a batch, as measured with it.
        budget_s, spent_s: as in ``make_plan``.
    """

    def steps(bs: int) -> int:
        stages = make_plan(replace(task, timed_bs=bs), speeds[bs], budget_s=budget_s, spent_s=spent_s).stages
        return sum(stage.epochs * max(1, task.n_train // bs) for stage in stages if stage.trains != HEAD)

    by_size = {bs: steps(bs) for bs in sorted(speeds)}
    enough = ENOUGH_STEPS * max(by_size.values())
    return max((bs for bs, n in by_size.items() if n >= enough > 0), default=min(by_size))


def _train_s(trainer: Trainer, loader: BatchLoader, times: _Stopwatch) -> float:
    """Time a step of all layers."""
    set_training_mode(trainer.model)
    return times.of_each(_epochs(loader), lambda batch: trainer.train_step(batch, 0))


def _last_s(learn: Any, loader: BatchLoader, times: _Stopwatch) -> tuple[float, float]:
    """Time the maps of a batch, and a step of the last stages on them."""
    with _scratch(learn, first=-2):
        hold_norms(learn.layer_groups)
        return _split_s(learn.trainer, loader.batch_at(0, 0), times)


def measure(
    learn: Any, task: Task, budget_s: float | None, start_s: float, clock: Clock, **which: bool
) -> dict[str, Any]:
    """Measure what a plan is made from: speeds, the batch, precision, and the seconds since ``start_s``.

    Args:
        learn, task, budget_s, clock: as in ``measure_speeds``.
        start_s: when the recipe began, by the clock.
        which: ``all_layers`` and ``last_stages`` of ``measure_speeds``.

    Returns:
        Values that JSON can hold.
    """
    with plain_view(learn.model):
        speeds = measure_speeds(learn, task, budget_s=budget_s, clock=clock, **which)
        if budget_s is not None:
            task, speeds = timed_batch(learn, task, speeds, budget_s=budget_s, start_s=start_s, clock=clock)
    precision, spent_s = learn.trainer.precision_values(), clock() - start_s
    shared = ("forward_s", "train_s", "maps_s", "last_s")  # by the processes that train together
    speeds = replace(speeds, **{name: getattr(speeds, name) / learn.trainer.ranks.size for name in shared})
    return {"speeds": asdict(speeds), "bs": task.timed_bs, "precision": precision, "spent_s": spent_s}


def measured_text(speeds: Speeds, took_s: float, prepared_s: float) -> str:
    """Say the speeds, and how long measuring them took, the seconds of reading pictures included."""

    def rate(each_s: float) -> str:
        return f"{1 / each_s:,.0f}" if 1 / each_s >= 10 else f"{1 / each_s:.2g}"

    training = f", {rate(speeds.last_s)}/s training the last stages" if speeds.last_s else ""
    training += f", {rate(speeds.train_s)}/s training all layers" if speeds.train_s else ""
    reading = f"Measured in {took_s:.0f} s ({prepared_s:.0f} s of it reading pictures)"
    return fill(f"{reading}: {rate(speeds.forward_s)} pictures/s forward{training}.", WIDTH)


def _solve_s(learn: Any, task: Task, times: _Stopwatch) -> float:
    """Forecast the seconds in which a head on several stages is solved, from a few steps on drawn values."""
    if not reads_levels(learn.model):
        return 0.0
    data, n = learn.data, min(task.n_train, MOST_TO_CHOOSE)
    shape = (n, min(n, int(learn.model[1][2].num_features)))  # solved in as many coordinates
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(data.device)
    rows = data.split.train[:n]
    y = torch.from_numpy(data.labels.targets[rows]).to(data.device)
    loss_sum = tags_loss if data.is_multi else classes_loss
    took = times.of(lambda: minimise(x, y, loss_sum, data.c, USUAL_PENALTY, steps=TIMED_STEPS))
    return SOLVING_STEPS[data.is_multi] * took / TIMED_STEPS * max(1.0, task.n_train / n)


@contextmanager
def _scratch(learn: Any, *, first: int = 0) -> Iterator[None]:
    """Let a few steps be taken inside; afterwards the learner is as before."""
    trainer = learn.trainer
    with trainable_groups(learn.layer_groups, first=first), unchanged(trainer), trainer.alone():
        trainer.optimizer = None
        with trainer.running(Recorder(), progress=Progress(), callbacks=()):
            yield


def _split_s(trainer: Trainer, batch: BatchLike, times: _Stopwatch) -> tuple[float, float]:
    """Time what stands still on a batch of pictures, and a step of what trains on the features of that."""
    split = split_where_frozen(trainer.model)
    if isinstance(split, str):
        return 0.0, 0.0
    trainer.model.eval()
    with torch.no_grad():
        pictures = batch.x
        fixed_s = times.of(lambda: split.fixed(pictures))
        batch.x = split.fixed(pictures)
    set_training_mode(split.rest)
    trainer.head = split.rest
    try:
        return fixed_s, times.of(lambda: trainer.train_step(batch, 0))
    finally:
        trainer.head = None


@dataclass(frozen=True)
class _Stopwatch:
    """Times a kind of work by a few calls that fit into a limit."""

    device: torch.device
    limit_s: float
    clock: Clock

    def of(self, work: Callable[[], object]) -> float:
        """Return the median seconds of a call; the first counts only where there is no time for another."""
        took = [self._call(work)]
        while len(took) < MOST_CALLS and sum(took) < self.limit_s * (FIRST if len(took) == 1 else 1):
            took.append(self._call(work))
        return statistics.median(took[1:] or took)

    def of_each(self, batches: Iterator[BatchLike], work: Callable[[BatchLike], object]) -> float:
        """Return the seconds that a batch takes in a loop as training has it: made and worked on, without a wait.

        The first ones are timed alone, and count only where there is no time for others; those after them are timed
        together.
        """
        first_s = self._call(lambda: work(next(batches)))
        if first_s >= self.limit_s * FIRST:
            return first_s
        second_s = self._call(lambda: work(next(batches)))
        n = min(MOST_CALLS - 1 if self.device.type == "cpu" else MOST_STEPS, int(self.limit_s / max(second_s, 1e-9)))
        if n < 2:
            return second_s
        return self._call(lambda: [work(next(batches)) for _ in range(n)]) / n

    def _call(self, work: Callable[[], object]) -> float:
        before = self.clock()
        work()
        wait_for(self.device)
        return self.clock() - before


def _epochs(loader: BatchLoader) -> Iterator[BatchLike]:
    """Give batch after batch by the loader's own iterator, over and over."""
    while True:
        yield from loader


def _decode_s(learn: Any, task: Task, clock: Clock) -> float:
    """Return the seconds of decoding and resizing a picture at the first smaller size, 0 where there is none.

    It is what a picture took at the full size, a fingerprint included where the audit made one in the same pass. Where
    this run decoded none, some are timed.
    """
    size = task.sizes[0] if task.sizes is not None else small_size(task.size)
    if size is None or size == task.size:
        return 0.0
    if learn.data.store.decode_s is not None:
        return float(learn.data.store.decode_s)
    rows = learn.data.split.train[:16]
    before = clock()
    learn.data.resized(size).store.read_many(rows)
    return (clock() - before) / len(rows)


@contextmanager
def trainable_groups(layer_groups: Sequence[nn.ModuleList], *, first: int = 0) -> Iterator[None]:
    """Let the layer groups from ``first`` on train inside (0: all, -1: the head alone); afterwards as before."""
    flags = [(p, p.requires_grad) for group in cnn.group_parameters(layer_groups) for p in group]
    cnn.freeze_to(layer_groups, first, train_bn=False)
    try:
        yield
    finally:
        for p, trains in flags:
            p.requires_grad_(trains)


def hold_norms(layer_groups: Sequence[nn.ModuleList]) -> None:
    """Keep the body's batch-norm layers as they are: neither statistics nor weights train, until ``unfreeze``."""
    for leaf in chain.from_iterable(layer_groups[:-1]):
        if cnn.is_norm(leaf):
            leaf.requires_grad_(False)


# --- a cycle that ends in time --------------------------------------------------------------------------


FEW_STEPS = 10
"""From so many steps on, the one nearest to the peak of a cycle runs at 0.98 of it or more."""

UNTIMED_STEPS, TIMED_LATEST, LEAST_STEPS = 3, 20, 5
"""The first steps of a fit make memory and plans on a GPU and say nothing of the later ones; these are judged by the
median of the latest; no fit is cut off before so many."""

STEPS_AHEAD = 2
"""Steps that may wait on a GPU while the clock is read: it stays busy, and the clock shows its time, not the host's."""


class TimedCycle(Callback):
    """One cycle over one or several fits that ends in time, and its clock.

    As a schedule it is 1cycle by position: each step moves on by its share of the steps left. Where those do not fit
    into the time, at the speed of the latest steps, the rest of the cycle is run in the steps that do fit; so the
    learning rate always falls to its end. Without a deadline it is ``OneCycle``.

    Args:
        max_lrs: peak learning rate of each layer group.
        clock: seconds that never go back.
    """

    order = 90

    def __init__(self, max_lrs: Sequence[float], *, clock: Clock = time.monotonic) -> None:
        self._cycle, self._clock = OneCycle(_RESOLUTION, tuple(max_lrs)), clock
        self.position, self.shortened = 0.0, False
        self._deadline_s: float | None = None
        self._left = self._later = self._n_steps = 0
        self._expected_s = self._valid_s = self._last_s = 0.0
        self._times: deque[float] = deque(maxlen=TIMED_LATEST)
        self._running: deque[torch.cuda.Event] = deque()

    @property
    def step_s(self) -> float:
        """Seconds of a step: the median of the latest ones; 0 before the first that counts."""
        return statistics.median(self._times) if self._times else 0.0

    def begin(
        self,
        steps: int,
        *,
        later_steps: int = 0,
        deadline_s: float | None = None,
        valid_s: float = 0.0,
        step_s: float = 0.0,
    ) -> None:
        """Start a fit of the cycle.

        Args:
            steps: of this fit.
            later_steps: of the fits after it.
            deadline_s: when this fit should end, by the clock.
            valid_s: forecast of a validation.
            step_s: forecast of a step, which counts until one was timed; 0: all steps will fit.
        """
        self._left, self._later, self._deadline_s = steps, later_steps, deadline_s
        self._valid_s, self._expected_s = valid_s, step_s
        n_steps = steps + later_steps
        if self.position == 0 and 0 < n_steps < FEW_STEPS:  # one of them runs at the peak
            warmup = OneCycle(n_steps, self._cycle.max_lrs).warmup_steps
            self._cycle = replace(self._cycle, pct_start=warmup / n_steps)
        self._n_steps, self.shortened = 0, False
        self._times.clear()
        self._running.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the cycle, what is left of it, and the seconds until it should end."""
        return {
            "position": self.position,
            "shortened": self.shortened,
            "pct_start": self._cycle.pct_start,
            "steps": [self._left, self._later, self._n_steps],
            "seconds": [self._expected_s, self._valid_s, *self._times],
            "left_s": None if self._deadline_s is None else self._deadline_s - self._clock(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there, with as many seconds left as there were."""
        self.position, self.shortened = state["position"], state["shortened"]
        self._cycle = replace(self._cycle, pct_start=state["pct_start"])
        self._left, self._later, self._n_steps = state["steps"]
        self._expected_s, self._valid_s, *times = state["seconds"]
        self._times.extend(times)
        self._deadline_s = None if state["left_s"] is None else self._clock() + state["left_s"]

    @property
    def is_falling(self) -> bool:
        """Whether steps are left, and the learning rate is past its peak."""
        return self._cycle.pct_start <= self.position < 1 and self._left + self._later > 0

    def at(self, i: int) -> StepValues:
        """Return the values of the next step."""
        return self._cycle.at(round(min(self.position, 1.0) * _RESOLUTION))

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        self._last_s = self._clock()

    def on_batch_end(self, trainer: Trainer, loss: torch.Tensor) -> None:
        self._keep_up_with(loss.device)
        now = self._clock()
        took_s, self._last_s = now - self._last_s, now
        self._n_steps += 1
        if self._n_steps > UNTIMED_STEPS:
            self._times.append(took_s)
        self._left -= 1
        left = self._fitting(trainer.n_batches)
        self.position += (1 - self.position) / (left + 1 + self._later)
        if left == 0 and trainer.batch_no + 1 < trainer.n_batches:
            self.shortened, trainer.stop_training = True, True

    def on_epoch_end(self, trainer: Trainer, row: EpochRow) -> None:
        self._valid_s = self._clock() - self._last_s
        if self._left > 0 and self._fitting(trainer.n_batches) == 0:
            self.shortened, trainer.stop_training = True, True

    def _keep_up_with(self, device: torch.device) -> None:
        """Wait for the step before the latest ones on a GPU, so that the host is not hundreds of steps ahead."""
        if device.type != "cuda":
            return
        self._running.append(torch.cuda.current_stream(device).record_event())
        if len(self._running) > STEPS_AHEAD:
            self._running.popleft().synchronize()

    def _fitting(self, n_batches: int) -> int:
        """Return how many of the steps left fit into the time, with a validation after each epoch."""
        step_s = self.step_s or self._expected_s
        if self._deadline_s is None or self._left <= 0 or not step_s:
            return max(0, self._left)
        each_s = step_s + self._valid_s / n_batches
        time_s = self._deadline_s - self._clock() - self._valid_s
        least = max(0, LEAST_STEPS - self._n_steps)
        return min(self._left, max(least, int(time_s / max(each_s, 1e-9))))
