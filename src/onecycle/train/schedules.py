"""Learning rate and momentum as pure functions of the step."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Protocol

from onecycle.errors import ArgumentError
from onecycle.text import plural

LrLike = float | slice | list[float] | tuple[float, ...]


@dataclass(frozen=True)
class StepValues:
    """What the optimizer runs with at one step."""

    lrs: tuple[float, ...]  # one learning rate a layer group, first (earliest layers) to last (head)
    mom: float | None = None  # momentum or first Adam beta; None leaves the optimizer's own


class Schedule(Protocol):
    """Anything that knows the hyper-parameters of step ``i`` (counted from 0)."""

    def at(self, i: int) -> StepValues:
        """Return the values that step ``i`` runs with."""
        ...


def cosine(start: float, end: float, pct: float) -> float:
    """Half a cosine wave from ``start`` (pct 0) to ``end`` (pct 1)."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * pct))


@dataclass(frozen=True)
class OneCycle:
    """The 1cycle policy: warm up by a cosine, then cool down to almost nothing.

    Step ``i`` of a phase runs at the phase's value at ``i / (phase length)``, so the peak is exactly
    ``max_lrs`` and the floor itself is never run with. However few the steps, one of them runs at the peak.

    Raises:
        ArgumentError: a value is outside its range.

    Source: L. N. Smith, "A disciplined approach to neural network hyper-parameters", 2018 (arXiv:1803.09820).
    """

    n_steps: int  # steps of the whole cycle, at least 1
    max_lrs: tuple[float, ...]  # peak learning rate of each layer group
    moms: tuple[float, float] = (0.95, 0.85)  # momentum at the ends and at the peak
    div_factor: float = 25.0  # peak over first learning rate
    pct_start: float = 0.3  # share of the steps that warm up, in [0, 1]
    final_div: float | None = None  # peak over the final learning rate; None means div_factor * 1e4

    def __post_init__(self) -> None:
        if self.n_steps < 1:
            raise ArgumentError(f"a cycle needs at least one step, got n_steps={self.n_steps}")
        if not 0 <= self.pct_start <= 1:
            raise ArgumentError(f"pct_start is a share of the cycle between 0 and 1, got {self.pct_start}")
        if self.div_factor <= 0 or (self.final_div is not None and self.final_div <= 0):
            raise ArgumentError(
                f"div_factor and final_div divide the peak learning rate and must be above 0, "
                f"got div_factor={self.div_factor}, final_div={self.final_div}"
            )
        pair = isinstance(self.moms, tuple | list) and len(self.moms) == 2
        if not pair or not all(0 <= m < 1 for m in self.moms):
            raise ArgumentError(f"moms is a pair of momenta in [0, 1), for example (0.95, 0.85), got {self.moms}")

    @property
    def warmup_steps(self) -> int:
        """Number of the step that runs at the peak."""
        return min(max(int(self.n_steps * self.pct_start), self.pct_start > 0), self.n_steps - 1)

    def at(self, i: int) -> StepValues:
        """Return learning rates and momentum of step ``i``."""
        high, low = self.moms
        first = self.div_factor
        last = self.div_factor * 1e4 if self.final_div is None else self.final_div
        if i <= self.warmup_steps:
            pct = i / self.warmup_steps if self.warmup_steps else 1.0
            return StepValues(tuple(cosine(lr / first, lr, pct) for lr in self.max_lrs), cosine(high, low, pct))
        pct = min(1.0, (i - self.warmup_steps) / (self.n_steps - self.warmup_steps))
        return StepValues(tuple(cosine(lr, lr / last, pct) for lr in self.max_lrs), cosine(low, high, pct))


@dataclass(frozen=True)
class Constant:
    """The same learning rates at every step; momentum stays the optimizer's unless given."""

    lrs: tuple[float, ...]
    mom: float | None = None

    def at(self, i: int) -> StepValues:
        """Return the same values for every step."""
        return StepValues(self.lrs, self.mom)


@dataclass(frozen=True)
class ExponentialSweep:
    """Learning rates that grow by a constant factor a step, for the learning-rate finder.

    Raises:
        ArgumentError: a rate is not above 0, or there is no step.
    """

    start: tuple[float, ...]  # learning rate of each layer group at step 0, above 0
    end: tuple[float, ...]  # learning rate that step num_it would have, above 0
    num_it: int  # steps of the sweep, at least 1

    def __post_init__(self) -> None:
        if self.num_it < 1:
            raise ArgumentError(f"a sweep needs at least one step, got num_it={self.num_it}")
        if min(*self.start, *self.end) <= 0:
            raise ArgumentError(
                f"an exponential sweep needs learning rates above 0, got start={self.start}, end={self.end}"
            )

    def at(self, i: int) -> StepValues:
        """Return the learning rates of step ``i``."""
        pct = i / self.num_it
        return StepValues(tuple(s * (e / s) ** pct for s, e in zip(self.start, self.end, strict=True)))


def lr_range(lr: LrLike, n_groups: int) -> list[float]:
    """Spread a learning rate over the layer groups.

    Args:
        lr: a number (the same everywhere); ``slice(a, b)`` (geometric from ``a`` for the first group to ``b`` for the
            last); ``slice(b)`` (``b / 10`` for all but the last, ``b`` for the last); or one number a group.
        n_groups: layer groups of the model, at least 1.

    Returns:
        ``n_groups`` learning rates, first group first.

    Raises:
        ArgumentError: a rate is negative or no number, a list has the wrong length, or a slice has a step.
    """
    if isinstance(lr, slice):
        return _from_slice(lr, n_groups)
    if isinstance(lr, list | tuple):
        if len(lr) != n_groups:
            raise ArgumentError(
                f"lr lists {len(lr)} learning rates but the model has {n_groups} layer groups; "
                f"give {n_groups} numbers, one number, or slice(lowest, highest)"
            )
        return [_checked(value, lr) for value in lr]
    return [_checked(lr, lr)] * n_groups


def _from_slice(lr: slice, n_groups: int) -> list[float]:
    if lr.step is not None:
        raise ArgumentError(f"a slice of learning rates has no step, got {lr}; write slice(lowest, highest)")
    last = _checked(lr.stop, lr)
    if not lr.start:
        return [last / 10] * (n_groups - 1) + [last]
    first = _checked(lr.start, lr)
    if n_groups == 1:
        return [last]
    if last == 0:
        raise ArgumentError(f"a slice is geometric and cannot end at 0, got {lr}; write slice(lowest, highest)")
    factor = last / first
    return [first * factor ** (g / (n_groups - 1)) for g in range(n_groups - 1)] + [last]


def _checked(value: object, lr: object) -> float:
    """``value`` as a float, or an error that shows the whole ``lr``."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ArgumentError(
            f"a learning rate is a number of 0 or more, got {lr!r}; for example 3e-3 or slice(1e-5, 1e-3)"
        )
    return number


def check_epochs(epochs: object, start_epoch: object = 0) -> None:
    """Refuse what is no number of epochs, before anything is computed with it.

    Raises:
        ArgumentError: it is not a whole number of 1 or more; ``start_epoch``, of 0 or more.
    """
    for name, value, least in (("epochs", epochs, 1), ("start_epoch", start_epoch, 0)):
        if not isinstance(value, numbers.Integral) or value < least:
            raise ArgumentError(
                f"a fit runs at least one epoch: {name} is a whole number of {least} or more, got {value!r}"
            )


def epochs_of_cycle(cyc_len: int, tot_epochs: int | None, start_epoch: int | None) -> tuple[int, int, int]:
    """Return the first epoch that is run of a cycle, how many are run, and how many the whole cycle has.

    Raises:
        ArgumentError: they are no epochs of that cycle.
    """
    start, total = start_epoch or 0, cyc_len if tot_epochs is None else tot_epochs
    check_epochs(cyc_len, start)
    check_epochs(total)
    epochs = cyc_len - start if tot_epochs is None else cyc_len
    if not 0 < epochs <= total - start:
        raise ArgumentError(
            f"a cycle of {plural(total, 'epoch')} has no {plural(max(epochs, 1), 'epoch')} from number {start} on"
        )
    return start, epochs, total
