"""Speeds that leave no trace, and a cycle that ends in time."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from onecycle.learner.fine_tune import timing
from onecycle.learner.fine_tune.plan import ALL, MOST_EPOCHS, Speeds, Task, make_plan
from onecycle.learner.fine_tune.timing import (
    ENOUGH_STEPS,
    LEAST_STEPS,
    TimedCycle,
    batch_in_time,
    hold_norms,
    timed_batch,
    trainable_groups,
)
from onecycle.model.cnn import split_model
from onecycle.train.log.recorder import EpochRow
from onecycle.train.schedules import OneCycle

LOSS = torch.tensor(0.0)
ROW = EpochRow(0, 0.0, None, (), 0.0)


class Machine:
    """A clock, and fits that take so long a step; ``slow`` maps step numbers to other times."""

    def __init__(self, step_s: float = 1.0, valid_s: float = 0.0) -> None:
        self.now, self.step_s, self.valid_s = 100.0, step_s, valid_s

    def clock(self) -> float:
        return self.now

    def fit(self, cycle: TimedCycle, epochs: int, n_batches: int, *, slow=lambda step: 1.0):
        """Run a fit as the trainer does; return the learning rates and momenta of its steps."""
        trainer = SimpleNamespace(stop_training=False, batch_no=0, n_batches=n_batches)
        seen, step = [], 0
        for epoch in range(epochs):
            cycle.on_epoch_begin(trainer, epoch)
            for trainer.batch_no in range(n_batches):
                values = cycle.at(step)
                seen.append((values.lrs[-1], values.mom))
                self.now += self.step_s * slow(step)
                step += 1
                cycle.on_batch_end(trainer, LOSS)
                if trainer.stop_training:
                    return seen
            self.now += self.valid_s
            cycle.on_epoch_end(trainer, ROW)
            if trainer.stop_training:
                return seen
        return seen


def test_without_a_deadline_it_is_one_cycle():
    machine = Machine()
    cycle = TimedCycle([1e-3, 1e-2], clock=machine.clock)
    cycle.begin(40)
    seen = machine.fit(cycle, 4, 10)
    plain = OneCycle(40, (1e-3, 1e-2))
    wanted = [(plain.at(i).lrs[-1], plain.at(i).mom) for i in range(40)]
    assert torch.allclose(torch.tensor(seen), torch.tensor(wanted), rtol=1e-4, atol=1e-7)
    assert not cycle.shortened
    assert cycle.position == pytest.approx(1.0)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 9])
def test_a_short_one_reaches_the_peak_too(n):
    machine = Machine()
    cycle = TimedCycle([1e-2], clock=machine.clock)
    cycle.begin(n)
    plain = OneCycle(n, (1e-2,))
    lrs = [lr for lr, _ in machine.fit(cycle, 1, n)]
    assert max(lrs) == pytest.approx(1e-2, rel=1e-6)
    assert lrs == pytest.approx([plain.at(i).lrs[0] for i in range(n)], rel=1e-3)


@pytest.mark.parametrize("n", [11, 25, 41])
def test_a_longer_one_comes_near_the_peak(n):
    machine = Machine()
    cycle = TimedCycle([1e-2], clock=machine.clock)
    cycle.begin(n)
    assert 0.98e-2 < max(lr for lr, _ in machine.fit(cycle, 1, n)) <= 1e-2


def test_over_two_fits_it_is_still_one_cycle():
    machine = Machine()
    cycle = TimedCycle([1e-2], clock=machine.clock)
    cycle.begin(20, later_steps=20, deadline_s=machine.now + 21)
    first = machine.fit(cycle, 2, 10)
    cycle.begin(20, deadline_s=machine.now + 21)
    second = machine.fit(cycle, 2, 10)
    plain = OneCycle(40, (1e-2,))
    assert [lr for lr, _ in first + second] == pytest.approx([plain.at(i).lrs[0] for i in range(40)], rel=1e-3)


@pytest.mark.parametrize("slowness", [1.3, 2.0, 4.0])
@pytest.mark.parametrize("valid_s", [0.0, 3.0])
def test_on_a_slower_machine_the_cycle_is_shorter_and_complete(slowness, valid_s):
    machine = Machine(valid_s=valid_s)
    cycle = TimedCycle([1e-2], clock=machine.clock)
    budget_s = 100 + 4 * valid_s
    deadline_s = machine.now + budget_s
    cycle.begin(100, deadline_s=deadline_s, valid_s=valid_s)
    seen = machine.fit(cycle, 4, 25, slow=lambda step: slowness)
    assert 0.7 * 100 / slowness < len(seen) < 100
    # A fit that is stopped in mid-epoch still owes a validation: time for it was left.
    assert deadline_s - 0.1 * budget_s - valid_s < machine.now <= deadline_s
    lrs = [lr for lr, _ in seen]
    assert max(lrs) == pytest.approx(1e-2, rel=0.02)
    assert lrs[-1] < 0.05 * max(lrs)
    assert sorted(lrs[lrs.index(max(lrs)) :], reverse=True) == lrs[lrs.index(max(lrs)) :]
    assert cycle.shortened


def test_a_machine_that_gets_slow_half_way():
    machine = Machine()
    cycle = TimedCycle([1e-2], clock=machine.clock)
    deadline_s = machine.now + 100
    cycle.begin(100, deadline_s=deadline_s)
    seen = machine.fit(cycle, 4, 25, slow=lambda step: 1.0 if step < 50 else 3.0)
    assert 60 <= len(seen) <= 70
    assert machine.now <= deadline_s + 3
    assert seen[-1][0] < 1e-3


def test_a_short_pause_costs_no_more_than_itself():
    machine = Machine()
    cycle = TimedCycle([1e-2], clock=machine.clock)
    cycle.begin(100, deadline_s=machine.now + 115)
    seen = machine.fit(cycle, 4, 25, slow=lambda step: 4.0 if 20 <= step < 24 else 1.0)
    assert len(seen) == 100
    assert not cycle.shortened
    assert seen[-1][0] < 1e-5


def test_without_any_time_a_few_steps_are_one_cycle():
    machine = Machine()
    cycle = TimedCycle([1e-2], clock=machine.clock)
    cycle.begin(100, deadline_s=machine.now, step_s=1.0)
    seen = machine.fit(cycle, 4, 25)
    assert len(seen) == LEAST_STEPS
    assert cycle.shortened
    assert cycle.position == pytest.approx(1.0)


@pytest.mark.parametrize("forecast", [0.5, 0.0], ids=["forecast", "no forecast"])
@pytest.mark.parametrize("first_s", [0.5, 3.0, 10.0])
def test_a_slow_first_step_does_not_hurry_the_cycle(first_s, forecast):
    machine = Machine(0.5)
    cycle = TimedCycle([1e-2], clock=machine.clock)
    deadline_s = machine.now + 60
    cycle.begin(119, deadline_s=deadline_s, step_s=forecast)
    trainer = SimpleNamespace(stop_training=False, batch_no=0, n_batches=119)
    cycle.on_epoch_begin(trainer, 0)
    position = 0.0
    for step in range(119):
        machine.now += first_s if step == 0 else 0.5
        cycle.on_batch_end(trainer, LOSS)
        left = min(118 - step, int((deadline_s - machine.now) / 0.5))
        position += (1 - position) / (left + 1)  # of one who knows each step's time
        assert abs(cycle.position - position) < 0.01, step
        if trainer.stop_training:
            break
    assert machine.now > deadline_s - 1
    assert cycle.position == pytest.approx(1.0)


def test_a_first_step_that_takes_most_of_the_time_does_not_end_it():
    machine = Machine(0.5)
    cycle = TimedCycle([1e-2], clock=machine.clock)
    deadline_s = machine.now + 60
    cycle.begin(120, deadline_s=deadline_s, step_s=0.5)
    seen = machine.fit(cycle, 1, 120, slow=lambda step: 80.0 if step == 0 else 1.0)
    assert 38 <= len(seen) <= 42
    assert machine.now <= deadline_s + 0.5
    assert max(lr for lr, _ in seen) == pytest.approx(1e-2, rel=0.02)
    assert seen[-1][0] < 1e-3


def test_a_step_is_timed_by_the_median_of_the_latest():
    machine = Machine()
    cycle = TimedCycle([1e-2], clock=machine.clock)
    cycle.begin(100)
    machine.fit(cycle, 1, 60, slow=lambda step: 50.0 if step < 3 or step % 5 == 0 else 2.0 if step < 30 else 1.0)
    assert cycle.step_s == 1.0


def groups():
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    head = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model = nn.Sequential(body, head)
    return split_model(model, [head])


def flags(layer_groups):
    return [p.requires_grad for group in layer_groups for p in group.parameters()]


def test_groups_train_inside_and_are_as_before_afterwards():
    layer_groups = groups()
    hold_norms(layer_groups)
    before = flags(layer_groups)
    assert before == [True, True, False, False, True, True, True, True]
    with trainable_groups(layer_groups):
        assert all(flags(layer_groups))
    assert flags(layer_groups) == before

    def interrupted():
        with trainable_groups(layer_groups, first=-1):
            assert flags(layer_groups) == [False] * 4 + [True] * 4
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert flags(layer_groups) == before


@pytest.mark.parametrize(
    ("first_s", "each_s", "found_s"),
    [
        (3.0, 0.1, 0.1),  # the first builds, and does not count
        (100.0, 0.1, 100.0),  # no time for another
        (1.0, 8.0, 8.0),  # none for more than one more
    ],
)
def test_a_loop_is_timed_by_batches_of_the_loaders_own_iterator(monkeypatch, first_s, each_s, found_s):
    machine, waits, seen = Machine(), [], []
    monkeypatch.setattr(timing, "wait_for", waits.append)

    def work(batch: int) -> None:
        machine.now += each_s if seen else first_s
        seen.append(batch)

    watch = timing._Stopwatch(torch.device("cuda"), 10.0, machine.clock)
    assert watch.of_each(iter(range(100)), work) == pytest.approx(found_s)
    assert seen == list(range(len(seen)))
    assert len(waits) <= 3, "one for all that count"
    if found_s == 0.1:
        assert len(seen) == 2 + timing.MOST_STEPS


SMALL = Task(n_train=300, n_valid=200, size=(224, 224), bs=64, hold_norms=None, base_lr=3e-3)
BUDGETS_S = [5.0 * 1.5**k for k in range(14)]


def speeds_by_size(step_s: float, picture_s: float) -> dict[int, Speeds]:
    """Of a machine whose step takes so long, and each picture in it."""
    each = {bs: step_s / bs + picture_s for bs in SMALL.batches}
    return {bs: Speeds(forward_s=s / 4, train_s=s, head_step_s=1e-3) for bs, s in each.items()}


@pytest.mark.parametrize("budget_s", BUDGETS_S)
def test_where_half_a_batch_takes_half_the_time_batches_are_small(budget_s):
    assert SMALL.batches == (64, 32, 16)
    speeds = speeds_by_size(0.05, 1 / 22)  # as on a processor
    assert batch_in_time(SMALL, speeds, budget_s=budget_s, spent_s=2.0) == SMALL.batch == 16


def test_where_a_step_takes_its_time_batches_are_large_unless_there_is_time_for_all_epochs():
    speeds = speeds_by_size(0.05, 1e-5)
    chosen = [batch_in_time(SMALL, speeds, budget_s=s, spent_s=2.0) for s in BUDGETS_S]
    plans = [make_plan(replace(SMALL, timed_bs=16), speeds[16], budget_s=s, spent_s=2.0).stages for s in BUDGETS_S]
    epochs = [sum(stage.epochs for stage in stages if stage.trains == ALL) for stages in plans]
    by_epochs = list(zip(epochs, chosen, strict=True))
    assert {bs for n, bs in by_epochs if n == 0} == {16}  # no time but for the head
    assert {bs for n, bs in by_epochs if n == MOST_EPOCHS} == {16}
    assert {bs for n, bs in by_epochs if 0 < n < 10} == {64}
    assert {bs for n, bs in by_epochs if 10 < n < 20} == {32}  # with 64, all epochs are too few steps
    for budget_s, bs in zip(BUDGETS_S, chosen, strict=True):
        steps = {n: planned_steps(n, speeds, budget_s) for n in speeds}
        assert steps[bs] >= ENOUGH_STEPS * max(steps.values())


def planned_steps(bs: int, speeds: dict[int, Speeds], budget_s: float) -> int:
    plan = make_plan(replace(SMALL, timed_bs=bs), speeds[bs], budget_s=budget_s, spent_s=2.0)
    assert {stage.bs for stage in plan.stages} == {bs}
    said = " ".join(plan.notes)
    assert (f"Batches of {bs}: with 16 there would be hardly more steps" in said) == (bs > 16)
    assert (f"Batches of {bs} instead of 64" in said) == (bs < 64)
    return sum(stage.epochs * (300 // bs) for stage in plan.stages if stage.trains == ALL)


def test_what_the_caller_fixed_stays():
    fixed = replace(SMALL, fixed_bs=40, timed_bs=64)
    assert fixed.batch == 40
    speeds = speeds_by_size(0.05, 1e-5)[16]
    assert timed_batch(None, replace(SMALL, bs=16), speeds, budget_s=60.0, start_s=0.0)[0].batch == 16  # the only one
