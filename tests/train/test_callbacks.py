from __future__ import annotations

import inspect
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from torch import nn
from train_toys import CLASSES, Batch, FakeLearner, ToyLoader, accuracy, toy_model, toy_trainer

import onecycle.train.callbacks as module
from onecycle.errors import ArgumentError, CheckpointError, OnecycleWarning
from onecycle.train.callbacks import (
    AccumulateScheduler,
    BnFreeze,
    Callback,
    CSVLogger,
    EarlyStoppingCallback,
    GradientClipping,
    LearnerCallback,
    MixUpCallback,
    ReduceLROnPlateauCallback,
    SaveModelCallback,
    ShowGraph,
    TerminateOnNaNCallback,
    TrackerCallback,
    blend,
)
from onecycle.train.log.recorder import EpochRow, Recorder
from onecycle.train.schedules import Constant

ALL = [c for _, c in inspect.getmembers(module, inspect.isclass) if issubclass(c, LearnerCallback)]
HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


@pytest.fixture
def learn(tmp_path):
    return FakeLearner(tmp_path, toy_trainer())


def fit(learn, callbacks, epochs=2, valid=True, lr=1e-2):
    learn.recorder = Recorder(["accuracy"])
    valid_loader = ToyLoader(10, 4, shuffle=False) if valid else None
    learn.trainer.fit(
        epochs,
        Constant((lr / 10, lr)),
        ToyLoader(),
        valid_loader,
        recorder=learn.recorder,
        metrics=[accuracy],
        callbacks=callbacks,
    )
    return learn.recorder


def script(callback, learn, values):
    """Drive a tracker with a made-up column of accuracies; returns the epochs after which it stopped."""
    learn.trainer.recorder, learn.trainer.has_validation = Recorder(["accuracy"]), True
    learn.trainer.recorder.add_hypers([0.1, 1.0], 0.9)
    learn.trainer.stop_training = False
    callback.on_train_begin(learn.trainer)
    for epoch, value in enumerate(values):
        callback.on_epoch_end(learn.trainer, EpochRow(epoch, 1.0, 1.0, (value,), 0.0))
        if learn.trainer.stop_training:
            return epoch
    return None


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


FALLING = (
    "logloss log_loss LogLoss nll NLLLoss cross_entropy hammingloss MSE RMSE rmsle errors perplexity top5err fnr FPR "
    "brier_score exact_match_error inaccuracy negative_log_likelihood accuracy_loss WER hamming_distance bce miss_rate"
)
RISING = (
    "neg_log_loss log_likelihood recall_at_fpr acc_02 f_score f1 macroF1 top_k_accuracy mean_average_precision fbeta "
    "multi_label_fbeta Recall kappa_score matthews_correff AUROC auc_roc_score mAP r2 IoU mIoU dice specificity tpr"
)


@pytest.mark.parametrize(
    ("monitor", "mode", "sign"),
    [
        ("valid_loss", "auto", -1),
        ("trn_loss", "auto", -1),
        ("error_rate", "auto", -1),
        ("accuracy", "auto", 1),
        ("lossless_share", "auto", 1),
        ("accuracy", "min", -1),
        *((name, "auto", -1) for name in FALLING.split()),
        *((name, "auto", 1) for name in RISING.split()),
    ],
)
def test_tracker_direction(learn, monitor, mode, sign):
    assert TrackerCallback(learn, monitor, mode).sign == sign


@pytest.mark.parametrize("name", ["score", "my_metric", "x", "", "评分"])
def test_a_name_that_does_not_tell_the_direction_asks_for_it(learn, name):
    learn.trainer.recorder, learn.trainer.has_validation = Recorder([name]), True
    for kind in (SaveModelCallback, EarlyStoppingCallback, ReduceLROnPlateauCallback):
        with pytest.raises(ArgumentError, match=r"whether it should rise or fall; say mode='max' or mode='min'"):
            kind(learn, monitor=name).on_train_begin(learn.trainer)
        kind(learn, monitor=name, mode="max").on_train_begin(learn.trainer)
    SaveModelCallback(learn, monitor=name, every="epoch").on_train_begin(learn.trainer)


def test_tracker_names_the_columns(learn):
    with pytest.raises(ArgumentError, match=r"'acuracy'.*train_loss, valid_loss, accuracy"):
        fit(learn, [EarlyStoppingCallback(learn, monitor="acuracy")])
    with pytest.raises(ArgumentError, match=r"no validation set.*train_loss"):
        fit(learn, [EarlyStoppingCallback(learn)], valid=False)
    with pytest.raises(ArgumentError, match="mode"):
        TrackerCallback(learn, mode="up")
    assert len(fit(learn, [EarlyStoppingCallback(learn, monitor="trn_loss")], valid=False).rows) == 2


def test_save_every_epoch(learn):
    fit(learn, [SaveModelCallback(learn, every="epoch", monitor="accuracy", name="x")])
    assert list(learn.files) == ["x_0", "x_1"]
    assert learn.loaded == []


def test_save_on_improvement_restores_the_best(learn, capsys):
    callback = SaveModelCallback(learn, monitor="accuracy", name="best")
    weights = learn.trainer.model[1][1].weight
    seen = []
    for value in (0.5, 0.9, 0.7):
        with torch.no_grad():
            weights.fill_(value)
        if not seen:
            script(callback, learn, [])
        callback.on_epoch_end(learn.trainer, EpochRow(len(seen), 1.0, 1.0, (value,), 0.0))
        seen.append(value)
    callback.on_train_end(learn.trainer)
    assert torch.all(weights == 0.9)
    assert "Better model found at epoch 1 with accuracy value: 0.900000." in capsys.readouterr().out
    with pytest.raises(ArgumentError, match="every"):
        SaveModelCallback(learn, every="batch")


@pytest.mark.parametrize("other", ["overwritten", "of another network", "gone", "ours"])
def test_the_best_of_another_training_in_the_folder_is_not_loaded(learn, other):
    callback = SaveModelCallback(learn, monitor="accuracy", name="best")
    weights = learn.trainer.model[1][1].weight
    script(callback, learn, [])
    with torch.no_grad():
        weights.fill_(0.9)
        callback.on_epoch_end(learn.trainer, EpochRow(0, 1.0, 1.0, (0.9,), 0.0))
        weights.fill_(0.2)
    if other == "overwritten":
        learn.files["best"] = {name: t + 1 for name, t in learn.files["best"].items()}
    elif other != "ours":
        learn.load = lambda _: (_ for _ in ()).throw(CheckpointError(other))
    with nullcontext() if other == "ours" else pytest.warns(OnecycleWarning, match="another training.*'best'.*name="):
        callback.on_train_end(learn.trainer)
    assert torch.all(weights == 0.9)


def test_early_stopping_counts_as_v1(learn):
    stop = EarlyStoppingCallback(learn, monitor="accuracy", min_delta=0.01, patience=1)
    assert script(stop, learn, [0.5, 0.505, 0.6, 0.6, 0.6, 0.6]) == 4
    assert script(EarlyStoppingCallback(learn, monitor="accuracy"), learn, [0.1, 0.2, 0.3]) is None
    assert script(EarlyStoppingCallback(learn, monitor="accuracy"), learn, [0.1, math.nan]) == 1


def test_plateau_keeps_the_ratio_of_the_groups(learn, capsys):
    class Worse(Callback):
        order = -99

        def on_epoch_end(self, trainer, row):
            reduce.best = math.inf

    reduce = ReduceLROnPlateauCallback(learn, monitor="accuracy", factor=0.1)
    recorder = fit(learn, [Worse(), reduce], epochs=3)
    firsts = [recorder.all_lrs[i] for i in (0, 3, 6)]
    assert [lrs[1] for lrs in firsts] == pytest.approx([1e-2, 1e-3, 1e-4])
    assert all(lrs[1] / lrs[0] == pytest.approx(10) for lrs in firsts)
    assert "Epoch 0: reducing lr to 0.001" in capsys.readouterr().out
    assert fit(learn, [], epochs=1).lrs[0] == pytest.approx(1e-2)


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
