"""The plan of ``fine_tune``: over many tasks, machines and times."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from onecycle.errors import ArgumentError
from onecycle.learner.fine_tune.plan import (
    ALL,
    HEAD,
    HELD_SHARES,
    LAST,
    LAST_EPOCHS,
    LAST_SHARES,
    LAST_STEPS,
    LAST_VIEWS,
    MOST_EPOCHS,
    ROOM,
    TRAINED_SHARES,
    WIDTH,
    Plan,
    Speeds,
    Stage,
    Task,
    make_plan,
    replan,
    small_size,
    stages_for,
)

LAPTOP = Speeds(forward_s=1 / 80, train_s=1 / 20, decode_s=1e-3, head_step_s=5e-3, maps_s=1 / 150, last_s=1 / 70)
GPU = Speeds(forward_s=1 / 4000, train_s=1 / 1200, decode_s=5e-4, head_step_s=1e-3, maps_s=1 / 8000, last_s=1 / 3000)
PLANET = Task(n_train=800, n_valid=200, size=(224, 224), bs=64, hold_norms=None)
TASKS = {
    "planet": PLANET,
    "small": replace(PLANET, n_train=60, n_valid=15, size=(64, 64)),
    "large": replace(PLANET, n_train=60_000, n_valid=6_000),
    "as stored": replace(PLANET, size=None),
    "plain": replace(PLANET, has_tfms=False),
    "pictures": replace(PLANET, on_features=False, base_lr=3e-3),
    "whole": replace(PLANET, has_head_stage=False, base_lr=3e-3, hold_norms=False),
    "maps": replace(PLANET, has_maps=True, solves_head=True, base_lr=3e-3),
    "no validation": replace(PLANET, n_valid=0),
    "own sizes": replace(PLANET, sizes=((96, 96), (128, 160), (224, 224))),
    "fixed": replace(PLANET, freeze_epochs=3, fixed_bs=20, base_lr=1e-2, views=2),
}
BUDGETS = [5.0 * 1.5**k for k in range(22)]
each_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def trained(stages) -> int:
    return sum(s.epochs for s in stages if s.trains != HEAD)


@each_task
@pytest.mark.parametrize("speeds", [LAPTOP, GPU], ids=["laptop", "gpu"])
def test_over_many_times_never_late_and_more_time_never_means_less_training(task, speeds):
    before = (-1, -1, 0.0)
    for budget_s in BUDGETS:
        plan = make_plan(task, speeds, budget_s=budget_s, spent_s=2.0)
        fits = plan.forecast_s + 2.0 <= ROOM * budget_s
        assert fits != any("too little" in note for note in plan.notes)
        views = plan.stages[0].views or 0
        now = (trained(plan.stages), 0 if trained(plan.stages) else views, plan.budget_s)
        assert now[0] >= before[0]
        assert now[0] > before[0] or now[1] >= before[1]
        assert now[0] <= MOST_EPOCHS
        before = now
    assert before[0] == MOST_EPOCHS or speeds is LAPTOP
    assert before[0] > 0


@each_task
def test_the_head_s_stage_is_always_there_and_says_so_when_there_is_no_time_for_it(task):
    plan = make_plan(task, LAPTOP, budget_s=0.5)
    assert len(plan.stages) == 1
    assert plan.stages[0].trains == (HEAD if task.has_head_stage else ALL)
    assert "00:00 is too little even for" in plan.notes[-1]
    assert "trained all the same" in plan.notes[-1]


def test_a_few_steps_with_all_layers_are_not_worth_their_time():
    seen = {trained(make_plan(PLANET, LAPTOP, budget_s=float(s)).stages) for s in range(10, 400)}
    assert seen == {0, *range(4, max(seen) + 1)}  # of 25 steps each
    large = {trained(make_plan(TASKS["large"], GPU, budget_s=float(s)).stages) for s in range(10, 400)}
    assert large == set(range(max(large) + 1))
    whole = {trained(make_plan(TASKS["whole"], LAPTOP, budget_s=float(s)).stages) for s in range(10, 400)}
    assert whole == set(range(1, max(whole) + 1))


def test_the_most_is_said():
    plan = make_plan(PLANET, GPU, budget_s=3600.0)
    assert trained(plan.stages) == MOST_EPOCHS
    assert f"more than {MOST_EPOCHS} epochs" in plan.notes[-1]


@each_task
@pytest.mark.parametrize("epochs", [0, 1, 3, 4, 7, 50])
def test_a_plan_for_epochs_has_so_many(task, epochs):
    if epochs == 0 and not task.has_head_stage:
        with pytest.raises(ArgumentError, match="nothing to train"):
            make_plan(task, LAPTOP, epochs=0)
        return
    plan = make_plan(task, LAPTOP, epochs=epochs)
    assert trained(plan.stages) == epochs
    assert all(s.epochs > 0 and s.forecast_s > 0 for s in plan.stages)
    assert plan.stages[-1].size == task.size
    same = [(s.size, s.epochs, s.bs, s.views) for s in make_plan(task, GPU, epochs=epochs).stages]
    assert same == [(s.size, s.epochs, s.bs, s.views) for s in plan.stages]  # the machine's speed decides nothing


def test_either_epochs_or_a_time():
    for given in ({}, {"epochs": 2, "budget_s": 60.0}):
        with pytest.raises(ArgumentError, match="one of the two"):
            make_plan(PLANET, LAPTOP, **given)


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((224, 224), (160, 160)),
        ((128, 128), (96, 96)),
        ((256, 384), (192, 256)),
        ((127, 127), None),
        ((96, 400), None),
        (None, None),
    ],
)
def test_the_smaller_size_has_about_half_the_pixels(size, small):
    assert small_size(size) == small
    if small is not None:
        assert 0.4 < math.prod(small) / math.prod(size) < 0.6
        assert all(side % 32 == 0 for side in small)


def test_two_sizes_from_four_epochs_on():
    def sizes(n):
        return [(s.size, s.epochs) for s in stages_for(PLANET, LAPTOP, n, 0) if s.trains == ALL]

    assert sizes(3) == [((224, 224), 3)]
    assert sizes(4) == [((160, 160), 2), ((224, 224), 2)]
    assert sizes(5) == [((160, 160), 2), ((224, 224), 3)]
    own = replace(PLANET, sizes=((96, 96), (224, 224)))
    assert [s.epochs for s in stages_for(own, LAPTOP, 3, 0)[1:]] == [1, 2]
    assert [s.size for s in stages_for(own, LAPTOP, 1, 0)[1:]] == [(224, 224)]


@pytest.mark.parametrize(
    ("n_train", "bs", "batch"), [(800, 64, 32), (5000, 64, 64), (60, 64, 16), (800, 8, 8), (400, 256, 16)]
)
def test_batches_are_halved_until_an_epoch_has_enough_steps(n_train, bs, batch):
    assert replace(PLANET, n_train=n_train, bs=bs).batch == batch


def test_forecasts_add_up():
    head, small, full = stages_for(PLANET, LAPTOP, 4, 1)
    steps, sweeps, validating = 8 * 25, 300, 8 * 2
    assert head.epochs == 8
    assert head.forecast_s == pytest.approx(1800 / 80 + (steps + sweeps + validating) * 5e-3)
    assert full.forecast_s == pytest.approx(2 * (800 / 20 + 200 / 80))
    assert small.forecast_s == pytest.approx(full.forecast_s * (160 / 224) ** 2 + 1000 * 1e-3)
    (alone,) = stages_for(replace(PLANET, base_lr=1e-2), LAPTOP, 0, 1)
    assert head.forecast_s - alone.forecast_s == pytest.approx(sweeps * 5e-3)


def test_norm_layers_stay_as_they_are_in_few_steps_and_the_rates_go_with_that():
    def last(epochs, task=PLANET):
        return stages_for(task, LAPTOP, epochs, 0)[-1]

    for n in range(1, 12):
        assert last(n).hold_norms == (n < 6)  # of 25 steps each
        assert last(n).lr_shares == (HELD_SHARES if n < 6 else TRAINED_SHARES)
        assert last(n, replace(PLANET, hold_norms=True)).hold_norms
        assert not last(n, replace(PLANET, hold_norms=False)).hold_norms
    assert "stay as they are: these are few steps" in str(make_plan(PLANET, LAPTOP, epochs=5))
    assert "layers train, too" in str(make_plan(PLANET, LAPTOP, epochs=6))
    assert "batch-norm" not in str(make_plan(replace(PLANET, hold_norms=True), LAPTOP, epochs=6))
    _, small, full = stages_for(PLANET, LAPTOP, 8, 0)
    (shorter,) = replan(PLANET, LAPTOP, small, [full], 0.0)
    assert not shorter.hold_norms  # what has begun to train goes on


def test_learning_rates_of_a_stage():
    head, held = stages_for(PLANET, LAPTOP, 1, 0)
    (trains_norms,) = stages_for(TASKS["whole"], LAPTOP, 1, 0)
    assert head.max_lr(2e-3) == 2e-3
    assert held.max_lr(2e-3) == slice(2e-5, 1e-3)
    assert trains_norms.max_lr(2e-3) == slice(5e-4, 2e-3)
    assert held.lr_text(2e-3) == "2.0e-05 to 1.0e-03"
    assert (head.lr_text(None), held.lr_text(None)) == ("lr, found", "lr/100 to lr/2")


@each_task
def test_what_is_printed_fits_into_80_columns_and_says_what_overrides_it(task):
    for how in ({"epochs": 6}, {"budget_s": 1.0}, {"budget_s": 40_000.0}):
        text = str(make_plan(task, LAPTOP, **how))
        assert max(map(len, text.splitlines())) <= WIDTH
    plan = make_plan(task, LAPTOP, epochs=6)
    text = str(plan)
    assert ("bs=" in text) == (task.batch != task.bs and task.fixed_bs is None)
    has_sizes = task.sizes is None and task.size is not None and min(task.size) >= 128
    assert ("sizes=" in text) == (has_sizes and plan.stages[-1].trains == ALL)
    assert ("base_lr=" in text) == (task.base_lr is None)
    assert ("train_bn=" in text) == (task.hold_norms is None)
    assert text.count("about ") == len(plan.stages)


def test_the_table():
    stages = (
        Stage(trains=HEAD, size=(224, 224), bs=32, epochs=8, forecast_s=25.0, views=1),
        Stage(trains=ALL, size=(96, 128), bs=32, epochs=2, forecast_s=3700.0, lr_shares=(0.01, 0.5)),
    )
    assert str(Plan(stages, 2e-3, notes=("So it is.",))) == (
        "stage         size       batch  epochs  learning rates      forecast\n"
        "1 head        224 px     32     8       2.0e-03             about 00:25\n"
        "2 all layers  96×128 px  32     2       2.0e-05 to 1.0e-03  about 1:01:40\n"
        "So it is."
    )


def test_after_the_head_what_fits_is_planned_anew():
    plan = make_plan(PLANET, LAPTOP, budget_s=300.0)
    head, *rest = plan.stages
    for left_s in (0.0, 30.0, 100.0, 250.0, 1000.0):
        again = replan(PLANET, LAPTOP, head, rest, left_s)
        assert sum(s.forecast_s for s in again) <= left_s
        assert all(s.trains == ALL for s in again)
    assert replan(PLANET, LAPTOP, head, rest, 1.0) == replan(PLANET, LAPTOP, head, rest, -5.0) == ()
    slower = replan(PLANET, LAPTOP.scaled(1.5), head, rest, 250.0)
    assert 0 < trained(slower) < trained(rest)
    assert trained(replan(PLANET, LAPTOP, head, rest, 1e6)) == MOST_EPOCHS


def test_after_the_smaller_size_the_last_one_gets_the_time_left():
    _, small, full = stages_for(PLANET, LAPTOP, 6, 0)
    one_s = full.forecast_s / full.epochs
    for left_s, epochs in ((0.0, 1), (2.5 * one_s, 2), (5.1 * one_s, 5), (1e9, MOST_EPOCHS)):
        (again,) = replan(PLANET, LAPTOP, small, [full], left_s)
        assert (again.size, again.epochs) == ((224, 224), epochs)
    assert replan(PLANET, LAPTOP, full, [], 100.0) == ()
    own = TASKS["own sizes"]
    _, first, second, last = stages_for(own, LAPTOP, 6, 0)
    between, again = replan(own, LAPTOP, first, [second, last], second.forecast_s + 3.5 * one_s)
    assert between == second
    assert again.epochs == 3


def test_few_steps_train_the_last_stages_on_maps_and_more_all_layers():
    task = TASKS["maps"]
    head, last = stages_for(task, LAPTOP, 4, 0)
    assert (head.trains, last.trains, last.epochs, last.size) == (HEAD, LAST, 4, task.size)
    assert (last.hold_norms, last.lr_shares, last.max_lr(3e-3)) == (True, LAST_SHARES, pytest.approx(6e-4))
    maps_s = 800 * last.views / 150  # those of plain pictures come with the head's features
    assert last.forecast_s == pytest.approx(maps_s + 4 * (800 / 70 + 200 * (1 / 80 - 1 / 150)) + 2 * 200 / 80)
    alone = stages_for(replace(task, has_head_stage=False, solves_head=False), LAPTOP, 4, 0)[0]
    assert alone.forecast_s - last.forecast_s == pytest.approx(1000 / 150)
    few = (LAST_STEPS - 1) // task.steps
    assert [stages_for(task, LAPTOP, n, 0)[1].trains for n in (1, few, few + 1)] == [LAST, LAST, ALL]


def test_solving_the_head_takes_its_features_and_the_time_that_was_measured():
    head = stages_for(TASKS["maps"], replace(LAPTOP, solve_s=7.0), 0, 0)[0]
    assert head.forecast_s == pytest.approx(1000 * LAPTOP.forward_s + 7.0)


def test_no_more_views_are_made_than_there_are_epochs_to_show_them():
    task = TASKS["maps"]
    assert [stages_for(task, LAPTOP, n, 0)[1].views for n in (1, 2, 3, 4, 7)] == [0, 1, 2, LAST_VIEWS, LAST_VIEWS]
    assert stages_for(replace(task, views=1), LAPTOP, 7, 0)[1].views == 1
    assert stages_for(replace(task, has_tfms=False), LAPTOP, 7, 0)[1].views == 0


@pytest.mark.parametrize("change", [{"has_maps": False}, {"hold_norms": False}, {"sizes": ((160, 160), (224, 224))}])
def test_all_layers_train_where_maps_will_not_do_or_something_else_was_asked_for(change):
    assert stages_for(replace(TASKS["maps"], **change), LAPTOP, 4, 0)[1].trains == ALL


def test_after_the_head_the_last_stages_are_planned_anew():
    task = TASKS["maps"]
    head, last = stages_for(task, LAPTOP, 6, 0)
    (again,) = replan(task, LAPTOP.scaled(2), head, [last], 2.0 * last.forecast_s)
    assert (again.trains, again.epochs) == (LAST, 5)
    assert replan(task, LAPTOP, last, [], 100.0) == ()


def test_many_epochs_train_all_layers_however_few_their_steps():
    task = replace(TASKS["maps"], n_train=40, bs=16)
    assert stages_for(task, LAPTOP, LAST_EPOCHS, 0)[1].trains == LAST
    assert stages_for(task, LAPTOP, LAST_EPOCHS + 1, 0)[1].trains == ALL
