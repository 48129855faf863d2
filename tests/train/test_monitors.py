from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from train_toys import FakeLearner, fit, toy_trainer

from onecycle.errors import ArgumentError, CheckpointError, OnecycleWarning
from onecycle.train.log.recorder import EpochRow, Recorder
from onecycle.train.loop import Callback
from onecycle.train.monitors import (
    EarlyStoppingCallback,
    ReduceLROnPlateauCallback,
    SaveModelCallback,
    TrackerCallback,
    falls,
)


@pytest.fixture
def learn(tmp_path):
    return FakeLearner(tmp_path, toy_trainer())


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


@pytest.mark.parametrize(
    ("name", "smaller_is_better"),
    [
        ("true_negative_rate", False),
        ("TruePositiveRate", False),
        ("true_positives", False),
        ("false_negative_rate", True),
        ("false_positive_rate", True),
        ("n_false_negatives", True),
        ("neg_mean_squared_error", False),
        ("negative_log_likelihood", True),
    ],
)
def test_the_direction_of_rates_of_the_confusion_matrix(name, smaller_is_better):
    assert falls(name) is smaller_is_better


@pytest.mark.parametrize("options", [{"patience": -1}, {"patience": 0.5}, {"monitor": 1}, {"monitor": None}])
def test_values_that_cannot_work_are_refused(learn, options):
    with pytest.raises(ArgumentError, match=next(iter(options))):
        EarlyStoppingCallback(learn, **options)


def test_a_column_that_was_never_a_number_saves_nothing_and_says_so(learn):
    callback = SaveModelCallback(learn, monitor="accuracy", name="best")
    script(callback, learn, [math.nan, math.nan])
    learn.trainer.recorder.rows.append(EpochRow(0, 1.0, 1.0, (math.nan,), 0.0))
    with pytest.warns(OnecycleWarning, match="'accuracy' was no number in any epoch, so no model was saved as 'best'"):
        callback.on_train_end(learn.trainer)
    assert learn.files == {}
