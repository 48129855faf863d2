"""Numbers in place of classes: loss, metrics, predictions, and one sentence for what is for classes alone."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sk
from torch import nn

from onecycle.data.data_block import ImageList
from onecycle.data.labels.items import DatasetType, FloatItem
from onecycle.data.labels.lists import FloatList
from onecycle.deploy.predictor import Predictor
from onecycle.errors import ArgumentError, CheckpointError
from onecycle.learner.cnn import cnn_learner
from onecycle.learner.learner import Learner
from onecycle.model.backbones import models
from onecycle.train.metrics import accuracy
from onecycle.train.regression import metrics
from onecycle.train.regression.loss import MSELossFlat


@pytest.fixture(scope="module")
def data(colour_path):
    """Sixty pictures whose number is 1, 2 or 3 by their colour, and test pictures."""
    frame = pd.read_csv(colour_path / "labels.csv")
    frame["n"] = frame["label"].map({"red": 1.0, "green": 2.0, "blue": 3.0})
    lists = ImageList.from_df(frame, colour_path, folder="train", suffix=".jpg").split_by_rand_pct(0.2)
    lists = lists.label_from_df("n", label_cls=FloatList).add_test_folder("train")
    return lists.transform(None, size=16).databunch(bs=12, pixel_cache="memory").normalize()


class Mean(nn.Module):
    """A number from the mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.of = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.of(x.mean(dim=(2, 3)))


def learner(data, **options) -> Learner:
    torch.manual_seed(0)
    return Learner(data, Mean(), silent=True, **options)


def test_it_learns_and_predicts_numbers(data):
    learn = learner(data, metrics=[metrics.mean_squared_error, metrics.R2Score()])
    assert isinstance(learn.loss_func, MSELossFlat)
    learn.fit_one_cycle(40, 0.3)
    loss, mse, r2 = learn.validate()
    preds, targets, losses = learn.get_preds(with_loss=True)
    assert (preds.shape, targets.shape, losses.shape) == ((12, 1), (12,), (12,))
    assert loss == pytest.approx(mse, abs=1e-6)
    assert loss == pytest.approx(float((preds[:, 0] - targets).pow(2).mean()), abs=1e-6)
    assert r2 == pytest.approx(sk.r2_score(targets, preds), abs=1e-5)
    assert r2 > 0.9
    number, same, _ = learn.predict(data.valid_ds.items[0])
    assert isinstance(number, FloatItem)
    assert float(number.data[0]) == pytest.approx(float(preds[0]), abs=1e-5)
    assert torch.equal(same, torch.from_numpy(number.data))
    assert learn.get_preds(DatasetType.Test)[0].shape == (60, 1)
    assert torch.allclose(learn.pred_batch(), preds, atol=1e-6)
    assert learn.TTA()[0].shape == (12, 1)
    learn.show_results(rows=2)
    assert "1 numbers a picture" in repr(learn)


def test_saved_and_loaded(data, tmp_path):
    learn = learner(data, path=tmp_path)
    learn.fit(2, 0.1)
    stem = learn.save("numbers", return_path=True)
    other = learner(data, path=tmp_path)
    other.load("numbers")
    assert torch.equal(other.get_preds()[0], learn.get_preds()[0])
    with pytest.raises(CheckpointError, match="does not say which network"):  # one of the test's own
        Predictor.load(stem)


def test_a_head_that_ends_in_a_range(data, tmp_path):
    learn = cnn_learner(data, models.resnet18, pretrained=False, y_range=(0.5, 3.5), silent=True, path=tmp_path)
    preds = learn.get_preds()[0]
    assert preds.shape == (12, 1)
    assert 0.5 < float(preds.min()) <= float(preds.max()) < 3.5
    with torch.no_grad():
        learn.model[1][8].bias.fill_(1e4)
    assert learn.get_preds()[0].max() == 3.5


def test_an_export_of_numbers_is_verified(data, tmp_path):
    made = learner(data, path=tmp_path).export()
    assert made.verification.pictures == 12
    assert made.verification.max_difference < 1e-5
    said = str(made)
    assert "answers differ by" in said
    assert "probabilities" not in said


def test_what_is_for_classes_says_so(data):
    learn = learner(data)
    for call in (learn.fine_tune, learn.solve_head, learn.label_issues):
        with pytest.raises(ArgumentError, match=r"is for classes or tags, and these labels are numbers"):
            call(1) if call == learn.fine_tune else call()
    with pytest.raises(ArgumentError, match="these predictions are numbers"):
        learn.interpret()
    with pytest.raises(ArgumentError, match="accuracy is for classes or tags"):
        learner(data, metrics=accuracy)
    with pytest.raises(ArgumentError, match="class_weights= is for classes"):
        learner(data, class_weights="balanced")


def test_a_range_is_for_numbers(colour_path):
    lists = ImageList.from_csv(colour_path, "labels.csv", folder="train", suffix=".jpg").split_by_rand_pct()
    classes = lists.label_from_df().transform(None, size=16).databunch(bs=4, pixel_cache="off")
    with pytest.raises(ArgumentError, match="y_range is for numbers"):
        cnn_learner(classes, models.resnet18, pretrained=False, y_range=(0, 1))


# -- the scores --------------------------------------------------------------------------------------------------

OUTPUTS, NUMBERS = torch.tensor([[0.5], [2.0], [3.5], [1.0]]), torch.tensor([1.0, 2.0, 3.0, 0.0])


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (metrics.mse, sk.mean_squared_error(NUMBERS, OUTPUTS)),
        (metrics.mae, sk.mean_absolute_error(NUMBERS, OUTPUTS)),
        (metrics.rmse, math.sqrt(sk.mean_squared_error(NUMBERS, OUTPUTS))),
        (metrics.msle, sk.mean_squared_log_error(NUMBERS, OUTPUTS)),
        (metrics.r2_score, sk.r2_score(NUMBERS, OUTPUTS)),
        (metrics.explained_variance, sk.explained_variance_score(NUMBERS, OUTPUTS[:, 0])),
        (metrics.exp_rmspe, math.sqrt(np.mean((1 - np.exp(OUTPUTS[:, 0].numpy() - NUMBERS.numpy())) ** 2))),
        (metrics.RMSE(), math.sqrt(sk.mean_squared_error(NUMBERS, OUTPUTS))),
        (metrics.ExpRMSPE(), math.sqrt(np.mean((1 - np.exp(OUTPUTS[:, 0].numpy() - NUMBERS.numpy())) ** 2))),
        (metrics.ExplainedVariance(), sk.explained_variance_score(NUMBERS, OUTPUTS[:, 0])),
    ],
    ids=["mse", "mae", "rmse", "msle", "r2", "explained", "exp_rmspe", "RMSE", "ExpRMSPE", "ExplainedVariance"],
)
def test_scores(score, expected):
    assert float(score(OUTPUTS, NUMBERS)) == pytest.approx(expected, abs=1e-6)


def test_outputs_and_numbers_are_as_many():
    with pytest.raises(ArgumentError, match=r"received \(2, 2\) and \(2,\)"):
        metrics.mse(torch.zeros(2, 2), torch.zeros(2))
    assert MSELossFlat(reduction="none")(torch.zeros(2, 1), torch.tensor([1.0, 2.0])).tolist() == [1, 4]
    assert MSELossFlat()(torch.zeros(2, 3), torch.ones(2, 3)) == 1
