from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from torch import nn
from train_toys import CLASSES, Batch, FakeLearner, ToyLoader, fit, toy_model, toy_trainer

from onecycle.errors import ArgumentError, OnecycleWarning
from onecycle.train import callbacks, monitors
from onecycle.train.callbacks import (
    AccumulateScheduler,
    BnFreeze,
    Callback,
    CSVLogger,
    GradientClipping,
    LearnerCallback,
    MixUpCallback,
    ShowGraph,
    TerminateOnNaNCallback,
    blend,
)
from onecycle.train.log.recorder import Recorder
from onecycle.train.schedules import Constant

MEMBERS = {*inspect.getmembers(callbacks, inspect.isclass), *inspect.getmembers(monitors, inspect.isclass)}
ALL = [c for _, c in sorted(MEMBERS, key=lambda pair: pair[0]) if issubclass(c, LearnerCallback)]
HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


@pytest.fixture
def learn(tmp_path):
    return FakeLearner(tmp_path, toy_trainer())


def test_there_are_at_most_eight_hooks_and_all_are_described():
    assert len(HOOKS) <= 8
    assert all(getattr(Callback, hook).__doc__ for hook in HOOKS)


@pytest.mark.parametrize("kind", ALL, ids=lambda c: c.__name__)
def test_every_callback_keeps_the_contract(kind, learn):
    callback = kind(learn)
    assert kind.__doc__
    assert [n for n in dir(kind) if n.startswith("on_") and n not in HOOKS] == []
    for hook in HOOKS:
        assert inspect.signature(getattr(kind, hook)) == inspect.signature(getattr(Callback, hook)), hook
    recorder = fit(learn, [callback])
    assert all(math.isfinite(loss) for loss in recorder.raw_losses)
    assert learn.trainer.model[0][0].weight.grad is None
    plt.close("all")


@pytest.mark.parametrize("kind", ALL, ids=lambda c: c.__name__)
def test_every_callback_can_be_used_twice(kind, learn):
    callback = kind(learn)
    assert len(fit(learn, [callback], epochs=1).rows) == len(fit(learn, [callback], epochs=1).rows) == 1
    plt.close("all")


def test_callbacks_run_in_their_order(learn):
    heard = []

    def make(name, place):
        return type(name, (Callback,), {"order": place, "on_train_begin": lambda *_: heard.append(name)})()

    fit(learn, [make("late", 5), make("first", -1), make("second", -1)], epochs=1)
    assert heard == ["first", "second", "late"]


def test_csv_logger_writes_and_appends(learn, tmp_path):
    logger = CSVLogger(learn)
    fit(learn, [logger])
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,train_loss,valid_loss,accuracy,time"
    assert [line.split(",")[0] for line in lines[1:]] == ["0", "1"]
    fit(learn, [CSVLogger(learn, append=True)], epochs=1, valid=False)
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 4
    assert "#na#,#na#" in (tmp_path / "history.csv").read_text()
    assert len(logger.read_logged_file()) == 3


@pytest.mark.parametrize(
    ("before", "head", "n"),
    [
        ("", "epoch,train_loss,valid_loss,accuracy,time", 1),
        ("epoch,train_loss,valid_loss,accuracy,time\n", "epoch,train_loss,valid_loss,accuracy,time", 1),
        ("epoch,train_loss,valid_loss,accuracy,time\n0,1,1,1,00:01", "epoch,train_loss,valid_loss,accuracy,time", 2),
        ("\ufeffepoch,train_loss,time\r\n0,1,00:01\r\n\r\n", "epoch,train_loss,time,valid_loss,accuracy", 2),
        ("epoch,fbeta\n0,0.5\nepoch,fbeta\n1,0.6\n", "epoch,fbeta,train_loss,valid_loss,accuracy,time", 3),
        ("my notes\n", None, 0),
        ("epoch;train_loss\n0;1,5\n", None, 0),
        ("epoch,a\n0,1\nepoch,a,b\n0,1,2\n", None, 0),
        ("epoch,a,a\n0,1,2\n", None, 0),
    ],
)
def test_csv_logger_appends_to_one_readable_table_or_refuses(learn, tmp_path, before, head, n):
    (tmp_path / "history.csv").write_bytes(before.encode())
    logger = CSVLogger(learn, append=True)
    if head is None:
        with pytest.raises(ArgumentError, match=r"history.csv: .*filename=, or append=False"):
            fit(learn, [logger], epochs=1)
        assert (tmp_path / "history.csv").read_bytes() == before.encode()
        return
    fit(learn, [logger], epochs=1)
    assert (tmp_path / "history.csv").read_text().splitlines()[0] == head
    table = logger.read_logged_file()
    assert len(table) == n
    assert (table.epoch.dtype.kind, table.accuracy.dtype.kind) == ("i", "f")


def test_gradient_clipping_clips(learn):
    norms = []

    class Norm(Callback):
        order = 99

        def on_backward_end(self, trainer):
            norms.append(torch.stack([p.grad.norm() for p in trainer.model.parameters()]).norm().item())

    fit(learn, [GradientClipping(learn, clip=0.01), Norm()], epochs=1)
    assert max(norms) <= 0.0101
    with pytest.raises(ArgumentError, match="clip"):
        GradientClipping(learn, clip=-1)


def test_accumulated_batches_equal_one_large_batch(tmp_path):
    def run(bs, callbacks, drop_last=False):
        model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, CLASSES))
        model.load_state_dict(seed_weights)
        trainer = toy_trainer(model)
        learner = FakeLearner(tmp_path, trainer)
        made = [c(learner) for c in callbacks]
        trainer.fit(1, Constant((0.1, 0.1)), ToyLoader(20, bs), recorder=Recorder(), callbacks=made)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    seed_weights = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, CLASSES)).state_dict()
    whole = run(20, [])
    torch.testing.assert_close(run(8, [lambda le: AccumulateScheduler(le, n_step=3)]), whole, rtol=1e-4, atol=1e-5)
    left_over = run(8, [lambda le: AccumulateScheduler(le, n_step=2)])
    dropped = run(8, [lambda le: AccumulateScheduler(le, n_step=2, drop_last=True)])
    assert not torch.allclose(left_over, dropped)
    untouched = run(8, [lambda le: AccumulateScheduler(le, n_step=9, drop_last=True)])
    torch.testing.assert_close(untouched, torch.cat([v.flatten() for v in seed_weights.values()]))


def test_blend_by_hand():
    values, lam = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.75, 0.5])
    mixed = blend(values, torch.tensor([1, 0]), lam)
    assert mixed.tolist() == [[0.75, 0.25], [0.5, 0.5]]


@pytest.mark.parametrize("multi", [False, True])
def test_mixup_blends_pictures_and_targets_alike(learn, multi):
    callback = MixUpCallback(learn, alpha=0.4)
    loader = ToyLoader(multi=multi)
    y = loader.y[:8] if multi else nn.functional.one_hot(loader.y[:8], CLASSES).float()
    batch = Batch(loader.x[:8].clone(), loader.y[:8].clone(), torch.arange(8))
    callback.on_batch_begin(learn.trainer, batch, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    draws = rng.beta(0.4, 0.4, 8)
    lam, partner = np.maximum(draws, 1 - draws), rng.permutation(8)
    for i in range(8):
        x = lam[i] * loader.x[i] + (1 - lam[i]) * loader.x[partner[i]]
        torch.testing.assert_close(batch.x[i], x.float())
        torch.testing.assert_close(batch.y[i], (lam[i] * y[i] + (1 - lam[i]) * y[partner[i]]).float())
    assert lam.min() >= 0.5


def test_mixup_refuses(learn):
    with pytest.raises(ArgumentError, match="stack_x"):
        MixUpCallback(learn, stack_x=True)
    with pytest.raises(ArgumentError, match="alpha"):
        MixUpCallback(learn, alpha=0)


def test_terminate_on_nan_stops_without_an_error(learn, capsys):
    class Poison(Callback):
        def on_batch_begin(self, trainer, batch, rng):
            if trainer.batch_no == 1:
                batch.x = batch.x * math.nan

    recorder = fit(learn, [Poison(), TerminateOnNaNCallback(learn)])
    assert recorder.nb_batches == [2]
    assert "Batch 1: invalid loss" in capsys.readouterr().out


def test_bn_freeze_holds_frozen_norms_only(learn):
    model = toy_model()
    model.train()
    model[0][1].requires_grad_(False)
    learn.trainer.model = model
    BnFreeze(learn).on_epoch_begin(learn.trainer, 0)
    assert not model[0][1].training


def test_show_graph_draws_once_outside_a_notebook(learn):
    plt.close("all")
    fit(learn, [ShowGraph(learn)])
    assert len(plt.get_fignums()) == 1
    plt.close("all")


@pytest.mark.parametrize("loss", [nn.MultiMarginLoss(), nn.CrossEntropyLoss(ignore_index=255)])
def test_mixup_with_a_loss_that_takes_class_numbers_only_is_refused_before_the_first_batch(learn, loss):
    learn.trainer.loss_func = loss
    with pytest.raises(ArgumentError, match=r"shares of each class, \(N, C\), which the loss cannot take"):
        fit(learn, [MixUpCallback(learn)], epochs=1)
    assert learn.trainer.recorder.raw_losses == []


@pytest.mark.parametrize("moment", ["on_train_begin", "on_epoch_begin", "on_batch_begin", "on_batch_end"])
@pytest.mark.parametrize("returned", [{"stop_training": True}, True])
def test_what_v1_obeyed_is_not_ignored(learn, moment, returned):
    callback = type("Mine", (Callback,), {moment: lambda self, *_: returned})()
    with pytest.raises(ArgumentError, match=rf"Mine.{moment} returned .*: that is fastai v1's way"):
        fit(learn, [callback], epochs=1)


def test_what_says_nothing_may_be_returned(learn):
    heard = []
    fit(
        learn, [type("Mine", (Callback,), {"on_batch_end": lambda self, *a: heard.append(a) or len(heard)})()], epochs=1
    )
    assert len(heard) == 3


def test_two_trainings_that_append_to_one_log_keep_each_others_rows(learn, tmp_path):
    one, two = CSVLogger(learn, filename="h.csv", append=True), CSVLogger(learn, filename="h", append=True)
    assert one.path == two.path == tmp_path / "h.csv"
    fit(learn, [one, two], epochs=3)
    assert one.read_logged_file().epoch.tolist() == [0, 0, 1, 1, 2, 2]


def test_two_trainings_that_write_one_log_are_said(learn):
    with pytest.warns(OnecycleWarning, match=r"another training writes .*history\.csv, too: say filename="):
        fit(learn, [CSVLogger(learn), CSVLogger(learn)], epochs=2)
