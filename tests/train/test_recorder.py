from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from onecycle.errors import ArgumentError
from onecycle.train.log.recorder import EpochRow, Recorder, Smoother, suggest


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def sweep(n=60):
    """A loss that falls fastest at step 30 and is lowest at step 45."""
    recorder = Recorder()
    lrs = np.geomspace(1e-7, 10, n)
    falling = -np.tanh((np.arange(n) - 30) / 6)
    losses = np.where(np.arange(n) <= 45, falling, -np.tanh(2.5) + 0.5 * (np.arange(n) - 45))
    for lr, loss in zip(lrs, losses, strict=True):
        recorder.add_hypers((lr / 10, lr), 0.9)
        recorder.add_loss(torch.tensor(loss))
    return recorder


def trained():
    recorder = Recorder(["accuracy", "table"])
    for i in range(6):
        recorder.add_hypers((0.1 * i,), 0.9 - 0.1 * i)
        recorder.add_loss(torch.tensor(float(6 - i)))
        if i % 3 == 2:
            recorder.add_row(EpochRow(i // 3, 1.0, 0.5 - 0.1 * (i // 3), (0.1 * i, [[1, 0], [0, 1]]), 1.0), 3)
    return recorder


def test_smoothing_is_debiased():
    smoother = Smoother()
    assert smoother.add(3.0) == pytest.approx(3.0)
    second = smoother.add(1.0)
    assert second == pytest.approx((0.98 * 0.02 * 3 + 0.02 * 1) / (1 - 0.98**2))


def test_losses_come_in_one_transfer(monkeypatch):
    recorder, calls = Recorder(), []
    original = torch.stack
    monkeypatch.setattr(torch, "stack", lambda ts: calls.append(len(ts)) or original(ts))
    for value in (1.0, 2.0, 3.0):
        recorder.add_loss(torch.tensor(value, dtype=torch.bfloat16))
    assert recorder.raw_losses == [1.0, 2.0, 3.0]
    assert recorder.last_loss() == recorder.losses[-1]
    assert calls == [3]


def test_history_of_v1():
    recorder = trained()
    assert recorder.names == ["epoch", "train_loss", "valid_loss", "accuracy", "table", "time"]
    assert recorder.val_losses == [0.5, 0.4]
    assert [row[0] for row in recorder.metrics] == pytest.approx([0.2, 0.5])
    assert recorder.nb_batches == [3, 3]
    assert recorder.moms[-1] == pytest.approx(0.4)


def test_loss_curve_and_its_skips():
    curve = trained().loss_curve()
    assert curve.steps.tolist() == [0, 1, 2, 3, 4, 5]
    assert curve.valid_steps.tolist() == [3, 6]
    assert curve.valid.tolist() == [0.5, 0.4]
    cut = trained().loss_curve(skip_start=3, skip_end=1)
    assert cut.steps.tolist() == [3, 4]
    assert cut.valid_steps.tolist() == []
    with pytest.raises(ArgumentError, match="skip_start=-1"):
        trained().loss_curve(skip_start=-1)


def test_metric_curves_hold_only_numbers():
    curves = trained().metric_curves()
    assert list(curves) == ["accuracy"]
    assert curves["accuracy"][0].tolist() == [3, 6]


def test_schedule_curve():
    lrs, moms = trained().schedule_curve(skip_start=1)
    assert lrs.shape == (5, 1)
    assert moms[0] == pytest.approx(0.8)
    recorder = Recorder()
    recorder.add_hypers((1.0,), None)
    assert np.isnan(recorder.schedule_curve()[1][0])


def test_plot_draws_the_curve_on_a_log_axis():
    recorder = sweep()
    fig = recorder.plot(return_fig=True)
    assert fig is not None
    ax = fig.axes[0]
    curve = recorder.lr_curve()
    assert ax.get_xscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Learning Rate", "Loss")
    assert ax.lines[0].get_xdata().tolist() == curve.lrs.tolist()
    assert ax.lines[0].get_ydata().tolist() == curve.losses.tolist()
    assert len(curve.lrs) == 45
    assert ax.xaxis.get_major_formatter()(1e-3, 0) == "1e-03"
    assert recorder.plot() is None


def test_suggestion_prints_marks_and_remembers(capsys):
    recorder = sweep()
    fig = recorder.plot(suggestion=True, return_fig=True)
    curve = recorder.lr_curve()
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"Min numerical gradient: {recorder.min_grad_lr:.2E}"
    assert out[1] == f"Min loss divided by 10: {curve.lrs[curve.losses.argmin()] / 10:.2E}"
    dot = fig.axes[0].lines[1]
    assert dot.get_color() == "red"
    assert dot.get_xdata()[0] == recorder.min_grad_lr


def test_few_points_give_a_message(capsys):
    recorder = sweep(8)
    assert recorder.plot(return_fig=True) is None
    assert "8 points were recorded" in capsys.readouterr().out
    recorder.plot(skip_start=3, skip_end=4, suggestion=True)
    assert "too few" in capsys.readouterr().out
    assert recorder.min_grad_lr is None


def test_spline_smooths_and_refuses():
    recorder = sweep()
    rough, smooth = recorder.lr_curve().losses, recorder.lr_curve(k=3).losses
    assert np.abs(np.diff(smooth, 2)).sum() <= np.abs(np.diff(rough, 2)).sum()
    with pytest.raises(ArgumentError, match="degree"):
        recorder.lr_curve(k=9)


def test_suggest_is_pure_and_bears_nan():
    lrs = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    found = suggest(lrs, [5.0, 4.9, 3.0, 1.5, math.nan], 0, 0)
    assert found is not None
    assert (found.min_grad_lr, found.index) == (1e-2, 2)
    assert found.min_loss_div10 == pytest.approx(1e-2)
    later = suggest(lrs, [5.0, 4.9, 3.0, 1.5, 9.0], 1, 1)
    assert later is not None
    assert lrs[later.index] == later.min_grad_lr
    assert suggest(lrs, [1.0] * 5, 10, 5) is None
    assert suggest(lrs, [math.nan] * 5, 0, 0) is None


def test_other_plots():
    recorder = trained()
    losses = recorder.plot_losses(return_fig=True, show_grid=True).axes[0]
    assert [line.get_label() for line in losses.lines] == ["Train", "Validation"]
    assert (losses.get_xlabel(), losses.get_ylabel()) == ("Batches processed", "Loss")
    assert len(recorder.plot_lr(return_fig=True).axes) == 1
    moms = recorder.plot_lr(show_moms=True, return_fig=True).axes[1]
    assert moms.get_ylabel() == "Momentum"
    metric = recorder.plot_metrics(return_fig=True).axes[0]
    assert metric.get_ylabel() == "accuracy"
    assert [recorder.plot_losses(), recorder.plot_lr(), recorder.plot_metrics()] == [None, None, None]


def test_empty_recorder_plots_or_says_why():
    assert Recorder().plot_losses(return_fig=True) is not None
    assert Recorder().plot_lr(return_fig=True) is not None
    with pytest.raises(ArgumentError, match="metrics="):
        Recorder().plot_metrics()
