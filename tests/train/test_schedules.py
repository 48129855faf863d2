from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecycle.errors import ArgumentError
from onecycle.train.schedules import Constant, ExponentialSweep, OneCycle, cosine, epochs_of_cycle, lr_range


def test_cosine_ends_and_middle():
    assert cosine(1.0, 3.0, 0.0) == 1.0
    assert cosine(1.0, 3.0, 1.0) == 3.0
    assert cosine(1.0, 3.0, 0.5) == pytest.approx(2.0)


def test_one_cycle_has_the_contract_values():
    cycle = OneCycle(48, (3e-3,))
    lrs = [cycle.at(i).lrs[0] for i in range(48)]
    assert cycle.warmup_steps == 14
    assert lrs[0] == pytest.approx(0.00012, rel=1e-12)
    assert lrs[14] == 3e-3
    assert lrs[47] == pytest.approx(6.41e-06, rel=1e-3)
    assert max(lrs) == 3e-3
    moms = [cycle.at(i).mom for i in range(48)]
    assert (moms[0], moms[14]) == (0.95, 0.85)
    assert min(moms) == 0.85


def test_one_cycle_is_the_written_formula_at_every_step():
    n, top, floor = 48, 3e-3, 3e-3 / 250_000
    cycle, a1 = OneCycle(n, (top / 10, top)), 14
    for i in range(n):
        p, (s, e) = (i / a1, (top / 25, top)) if i <= a1 else ((i - a1) / (n - a1), (top, floor))
        wanted = e + (s - e) / 2 * (1 + math.cos(math.pi * p))
        assert cycle.at(i).lrs == pytest.approx((wanted / 10, wanted), rel=1e-9)


def test_one_cycle_without_warmup_starts_low_once():
    cycle = OneCycle(3, (1.0,), pct_start=0.1)
    assert cycle.at(0).lrs[0] == pytest.approx(1 / 25)
    assert cycle.at(1).lrs[0] == 1.0
    assert cycle.at(2).lrs[0] == pytest.approx(cosine(1.0, 1 / 250_000, 1 / 2))


def test_one_cycle_final_div_and_all_warmup():
    assert OneCycle(10, (1.0,), final_div=10.0).at(10).lrs[0] == pytest.approx(0.1)
    assert OneCycle(10, (1.0,), pct_start=1.0).at(9).lrs[0] == 1.0


@given(st.integers(1, 60), st.one_of(st.sampled_from([0.0, 0.1, 0.3, 1.0]), st.floats(0, 1)))
def test_one_step_of_every_cycle_runs_at_the_peak_however_few_there_are(n, pct_start):
    cycle = OneCycle(n, (1e-4, 1e-2), pct_start=pct_start)
    values = [cycle.at(i) for i in range(n)]
    assert max(v.lrs for v in values) == (1e-4, 1e-2) == cycle.at(cycle.warmup_steps).lrs
    assert min(v.mom for v in values) == 0.85
    rise, fall = values[: cycle.warmup_steps + 1], values[cycle.warmup_steps :]
    assert rise == sorted(rise, key=lambda v: v.lrs)
    assert fall == sorted(fall, key=lambda v: v.lrs, reverse=True)


@pytest.mark.parametrize(
    ("kwargs", "word"),
    [
        ({"n_steps": 0}, "n_steps=0"),
        ({"pct_start": 1.5}, "pct_start"),
        ({"div_factor": 0.0}, "div_factor"),
        ({"final_div": -1.0}, "final_div"),
        ({"moms": (0.9, 1.0)}, "moms"),
    ],
)
def test_one_cycle_refuses(kwargs, word):
    with pytest.raises(ArgumentError, match=word):
        OneCycle(**{"n_steps": 5, "max_lrs": (1e-3,), **kwargs})


def test_constant_leaves_momentum():
    assert Constant((1.0, 2.0)).at(99).lrs == (1.0, 2.0)
    assert Constant((1.0,)).at(0).mom is None


def test_sweep_matches_v1():
    sweep = ExponentialSweep((1e-7,), (10.0,), 100)
    assert sweep.at(0).lrs[0] == 1e-7
    assert sweep.at(99).lrs[0] == pytest.approx(8.3176, rel=1e-4)
    with pytest.raises(ArgumentError, match="above 0"):
        ExponentialSweep((0.0,), (1.0,), 5)


def test_lr_range_of_v1():
    assert lr_range(3e-3, 3) == [3e-3] * 3
    assert lr_range(slice(3e-3), 3) == pytest.approx([3e-4, 3e-4, 3e-3])
    assert lr_range(slice(1e-6, 1e-3), 3) == pytest.approx([1e-6, 3.1623e-5, 1e-3], rel=1e-4)
    assert lr_range(slice(1e-6, 1e-3), 1) == [1e-3]
    assert lr_range(slice(0, 1e-3), 2) == pytest.approx([1e-4, 1e-3])
    assert lr_range((1e-3, np.float64(2e-3)), 2) == [1e-3, 2e-3]
    assert all(type(lr) is float for lr in lr_range(np.float32(0.5), 2))


@pytest.mark.parametrize(
    ("lr", "message"),
    [
        ([1e-3, 1e-3], "2 learning rates but the model has 3"),
        (-1e-3, "0 or more"),
        (slice(1e-5, 1e-3, 2), "no step"),
        (slice(None, None), "number"),
        (slice(1e-3, 0), "end at 0"),
        ("fast", "'fast'"),
        (math.nan, "nan"),
    ],
)
def test_lr_range_refuses(lr, message):
    with pytest.raises(ArgumentError, match=message):
        lr_range(lr, 3)


@pytest.mark.parametrize(
    ("asked", "is_run"),
    [((3, None, None), (0, 3, 3)), ((3, None, 1), (1, 2, 3)), ((2, 5, 3), (3, 2, 5)), ((1, 1, None), (0, 1, 1))],
)
def test_epochs_of_a_cycle(asked, is_run):
    assert epochs_of_cycle(*asked) == is_run


@pytest.mark.parametrize(
    "asked", [(0, None, None), (2, None, 2), (1, 1, 3), (3, 4, 2), (1.0, None, None), ("2", None, None)]
)
def test_epochs_that_a_cycle_does_not_have_are_refused(asked):
    with pytest.raises(ArgumentError, match="epoch"):
        epochs_of_cycle(*asked)
