"""fastai v1's schedules by hand: phases of steps, each with its rates and momenta."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onecycle.errors import ArgumentError
from onecycle.train.schedules import OneCycle, Schedule, StepValues, cosine

__all__ = [
    "GeneralScheduler", "OneCycleScheduler", "Scheduler", "SmoothenValue", "TrainingPhase", "annealing_cos",
    "annealing_exp", "annealing_linear", "annealing_no", "annealing_poly",
]  # fmt: skip


def annealing_no(start: Any, end: Any, pct: float) -> Any:
    """Stay at ``start``."""
    return start


def annealing_linear(start: Any, end: Any, pct: float) -> Any:
    """Go from ``start`` to ``end`` on a line."""
    return start + pct * (end - start)


def annealing_exp(start: Any, end: Any, pct: float) -> Any:
    """Go from ``start`` to ``end`` by equal factors."""
    return start * (end / start) ** pct


def annealing_cos(start: Any, end: Any, pct: float) -> Any:
    """Go from ``start`` to ``end`` along half a cosine."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * pct))


def annealing_poly(degree: float) -> Callable[[Any, Any, float], Any]:
    """Return a function that goes from start to end by a power of the rest."""
    return functools.partial(_poly, degree=degree)


def _poly(start: Any, end: Any, pct: float, degree: float) -> Any:
    return end + (start - end) * (1 - pct) ** degree


class Scheduler:
    """A value that goes from one number to another in ``n_iter`` steps.

    Args:
        vals: (start, end), or one number.
        n_iter: steps.
        func: how; None: on a line, or staying where there is one number.
    """

    def __init__(self, vals: Any, n_iter: int, func: Callable[[Any, Any, float], Any] | None = None) -> None:
        pair = isinstance(vals, tuple)
        self.start: Any = vals[0] if pair else vals
        self.end: Any = vals[1] if pair else 0
        self.n_iter, self.n = max(1, n_iter), 0
        self.func = func or (annealing_linear if pair else annealing_no)

    def restart(self) -> None:
        """Begin again."""
        self.n = 0

    def at(self, n: int) -> Any:
        """Return the value after ``n`` steps."""
        return self.func(self.start, self.end, n / self.n_iter)

    def step(self) -> Any:
        """Go on by a step, and return the value."""
        self.n += 1
        return self.at(self.n)

    @property
    def is_done(self) -> bool:
        """Whether all steps were taken."""
        return self.n >= self.n_iter


class SmoothenValue:
    """An exponential mean without the bias of its start."""

    def __init__(self, beta: float) -> None:
        self.beta, self.n, self.mov_avg = beta, 0, 0.0
        self.smooth = 0.0

    def add_value(self, val: float) -> None:
        """Take another value."""
        self.n += 1
        self.mov_avg = self.beta * self.mov_avg + (1 - self.beta) * val
        self.smooth = self.mov_avg / (1 - self.beta**self.n)


@dataclass
class TrainingPhase:
    """Some steps, and what is scheduled in them."""

    length: int
    scheds: dict[str, Scheduler] = field(default_factory=dict, init=False)

    def schedule_hp(
        self, name: str, vals: Any, anneal: Callable[[Any, Any, float], Any] | None = None
    ) -> TrainingPhase:
        """Schedule ``lr`` or ``mom``; returns this phase.

        Raises:
            ArgumentError: another name.
        """
        if name not in ("lr", "mom"):
            raise ArgumentError(f"a phase schedules 'lr' and 'mom' here; received {name!r}")
        self.scheds[name] = Scheduler(vals, self.length, anneal)
        return self


class GeneralScheduler:
    """Phases one after another; the learner's ``fit`` follows them where this is among its callbacks.

    Args:
        learn: the learner.
        phases: in order.
        start_epoch: epoch of the schedule to start with.
    """

    def __init__(self, learn: Any, phases: Sequence[TrainingPhase], start_epoch: int | None = None) -> None:
        self.learn, self.phases, self.start_epoch = learn, list(phases), start_epoch or 0

    def n_steps(self, epochs: int) -> int:
        """Return the steps of all phases."""
        return sum(phase.length for phase in self.phases)

    def schedule(self, epochs: int) -> Schedule:
        """Return the schedule of a fit of some epochs."""
        return _Phases(tuple(self.phases), len(self.learn.layer_groups))


class OneCycleScheduler(GeneralScheduler):
    """The 1cycle policy by hand; the learner's ``fit`` follows it where this is among its callbacks.

    Args:
        learn: the learner.
        lr_max, moms, div_factor, pct_start, final_div: as in ``fit_one_cycle``.
        tot_epochs: epochs of the whole cycle; None for those of the fit.
        start_epoch: epoch of the cycle to start with.
    """

    def __init__(
        self, learn: Any, lr_max: Any, moms: tuple[float, float] = (0.95, 0.85), div_factor: float = 25.0,
        pct_start: float = 0.3, final_div: float | None = None, tot_epochs: int | None = None,
        start_epoch: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(learn, (), start_epoch)
        self.lr_max, self.tot_epochs = lr_max, tot_epochs
        self.shape = {"moms": tuple(moms), "div_factor": div_factor, "pct_start": pct_start, "final_div": final_div}

    def n_steps(self, epochs: int) -> int:
        """Return the steps of the whole cycle."""
        return len(self.learn.data.train_dl) * (self.tot_epochs or epochs)

    def schedule(self, epochs: int) -> Schedule:
        """Return the cycle."""
        options: dict[str, Any] = self.shape
        return OneCycle(self.n_steps(epochs), tuple(self.learn.lr_range(self.lr_max)), **options)


@dataclass(frozen=True)
class _Phases:
    phases: tuple[TrainingPhase, ...]
    n_groups: int

    def at(self, i: int) -> StepValues:
        """Return the values of step ``i``; the first step of a later phase still runs at the end of the one before."""
        before = 0
        for number, phase in enumerate(self.phases):
            if i - before < phase.length or number == len(self.phases) - 1:
                step = min(i - before, phase.length)
                last = self.phases[number - 1] if number and not step else None
                return self._values(phase, step, last)
            before += phase.length
        raise ArgumentError("a GeneralScheduler needs at least one phase")

    def _values(self, phase: TrainingPhase, step: int, last: TrainingPhase | None) -> StepValues:
        of, n = (phase, step) if last is None else (last, last.length)
        values = {name: scheduler.at(n) for name, scheduler in of.scheds.items()}
        if "lr" not in values:
            raise ArgumentError("each phase needs schedule_hp('lr', …)")
        lrs = tuple(float(v) for v in np.broadcast_to(np.asarray(values["lr"], dtype=float), (self.n_groups,)))
        return StepValues(lrs, None if "mom" not in values else float(values["mom"]))


@dataclass(frozen=True)
class FlatCosine:
    """A constant rate, then half a cosine down to nothing: v1's ``fit_fc``."""

    n_steps: int
    lrs: tuple[float, ...]
    start_pct: float  # share of the steps at the constant rate
    moms: tuple[float, float]  # momentum of those steps, and of the others

    def at(self, i: int) -> StepValues:
        """Return the values of step ``i``."""
        flat = int(self.n_steps * self.start_pct)
        if i <= flat:  # v1 sets the second phase's values after its first step
            return StepValues(self.lrs, self.moms[0])
        pct = (i - flat) / max(1, self.n_steps - flat)
        return StepValues(tuple(cosine(lr, 0.0, pct) for lr in self.lrs), self.moms[1])
