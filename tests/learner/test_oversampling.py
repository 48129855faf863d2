"""Oversampling: weights, draws that are a function of (seed, epoch), and what it does to a rare class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from onecycle.data.batches import weighted_order
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import Labels
from onecycle.errors import ArgumentError
from onecycle.learner.learner import Learner
from onecycle.learner.oversampling import OverSamplingCallback, oversampling_weights
from onecycle.train.losses import FocalLoss


def test_classes_are_drawn_equally_often():
    labels = Labels(["a", "b"], np.array([0] * 9 + [1] * 3), is_multi=False)
    weights = oversampling_weights(labels, np.arange(12))
    assert weights[:9].sum() == pytest.approx(weights[9:].sum())
    assert oversampling_weights(labels, np.arange(9, 12)).tolist() == [1, 1, 1]
    with pytest.raises(ArgumentError, match="no training picture"):
        oversampling_weights(labels, np.arange(0))


def test_pictures_of_rare_tags_weigh_the_root_of_the_inverse_frequency():
    targets = np.zeros((16, 2), dtype=np.float32)
    targets[:, 0] = 1
    targets[0, 1] = 1
    targets[15] = 0
    weights = oversampling_weights(Labels(["a", "b"], targets, is_multi=True), np.arange(16))
    assert weights.tolist() == pytest.approx([15**0.5, *[1] * 15])


@given(st.lists(st.floats(0.01, 50), min_size=1, max_size=60), st.integers(0, 2**32))
def test_an_epoch_draws_each_picture_as_often_as_its_weight_says(weights, seed):
    drawn = weighted_order(np.array(weights), np.random.default_rng(seed))
    assert len(drawn) == len(weights)
    wanted = len(weights) * np.array(weights) / np.sum(weights)
    assert np.abs(np.bincount(drawn, minlength=len(weights)) - wanted).max() < 1 + 1e-6


@pytest.fixture(scope="module")
def grey_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pictures whose grey says how likely they are bright; one in ten is."""
    root = tmp_path_factory.mktemp("greys")
    (root / "train").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i in range(200):
        bright = i % 10 == 0
        level = int(np.clip(rng.normal(150 if bright else 110, 25), 0, 255))
        Image.fromarray(np.full((8, 8, 3), level, dtype=np.uint8)).save(root / "train" / f"{i:03d}.png")
        rows.append((f"{i:03d}", "bright" if bright else "dark"))
    (root / "labels.csv").write_text("name,label\n" + "".join(f"{n},{c}\n" for n, c in rows))
    (root / "tags.csv").write_text("name,tags\n" + "".join(f"{n},{c};grey\n" for n, c in rows))
    return root


def grey_learner(path: Path, *, multi: bool = False, **options: Any) -> Learner:
    how: dict[str, Any] = {"csv_labels": "tags.csv", "label_delim": ";"} if multi else {}
    data = ImageDataBunch.from_csv(
        path, folder="train", suffix=".png", size=8, bs=40, stratify=True, valid_pct=0.5, **how
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1))
        model = nn.Sequential(body, nn.Sequential(nn.Flatten(), nn.Linear(4, data.c)))
        nn.init.zeros_(model[1][1].weight)
    groups = [nn.ModuleList([part]) for part in model]
    options = {"silent": True, "layer_groups": groups, "precision": "fp32", "channels_last": False, **options}
    learn = Learner(data, model, **options)
    learn.freeze()
    return learn


def recall_of_bright(learn: Learner) -> float:
    probs, targets = learn.get_preds()
    bright = learn.data.classes.index("bright")
    if learn.data.is_multi:
        return float((probs[targets[:, bright] == 1, bright] > 0.5).float().mean())
    return float((probs[targets == bright].argmax(1) == bright).float().mean())


@pytest.mark.parametrize("precompute", [False, 0])
def test_oversampling_finds_more_of_a_rare_class(grey_path, precompute):
    plain = grey_learner(grey_path, precompute=precompute)
    plain.fit(12, 0.3)
    balanced = grey_learner(grey_path, precompute=precompute)
    balanced.fit(12, 0.3, callbacks=OverSamplingCallback(balanced))
    assert recall_of_bright(plain) <= 0.5
    assert recall_of_bright(balanced) >= 0.7
    assert len(balanced.recorder.raw_losses) == len(plain.recorder.raw_losses), "an epoch stays as long"


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("choice", ["weights", "focal and weights"])
def test_class_weights_find_more_of_a_rare_class(grey_path, multi, choice):
    plain = grey_learner(grey_path, multi=multi, precompute=0)
    plain.fit(12, 0.3)
    loss_func = FocalLoss() if "focal" in choice else None
    weighted = grey_learner(grey_path, multi=multi, precompute=0, loss_func=loss_func, class_weights="balanced")
    weighted.fit(12, 0.3)
    assert recall_of_bright(plain) <= 0.5
    assert recall_of_bright(weighted) >= recall_of_bright(plain) + 0.2
    probs = weighted.get_preds()[0]
    assert bool(((probs >= 0) & (probs <= 1)).all())
    if not multi:
        torch.testing.assert_close(probs.sum(1), torch.ones(len(probs)))


def test_the_order_is_a_function_of_seed_and_epoch_on_pictures_and_on_features(grey_path):
    def losses(precompute: bool | int) -> list[float]:
        learn = grey_learner(grey_path, precompute=precompute, callback_fns=OverSamplingCallback)
        learn.fit(2, 0.05)
        return learn.recorder.raw_losses

    assert losses(False) == losses(False)
    assert losses(0) == pytest.approx(losses(False), abs=1e-5)
    learn = grey_learner(grey_path)
    loader = learn.data.train_dl
    weighted = loader.replace(weights=OverSamplingCallback(learn).weights())
    assert weighted.order(0).tolist() == weighted.order(0).tolist()
    assert weighted.order(0).tolist() != weighted.order(1).tolist()
    assert len(weighted.order(0)) == len(loader.order(0))
    assert sorted(loader.order(0)) != sorted(weighted.order(0))
    learn.fit(1, 0.05)
    assert sorted(set(learn.data.train_dl.order(0))) == sorted(learn.data.train_dl.order(0)), "for that fit only"


def test_what_is_said_and_what_is_refused(grey_path, capsys):
    learn = grey_learner(grey_path)
    learn.silent = False
    learn.fit(1, callbacks=OverSamplingCallback(learn))
    out = capsys.readouterr().out
    assert "Oversampling: in an epoch, pictures of rare classes come up to 5.0 times" in out
    assert max(map(len, OverSamplingCallback(learn).describe().splitlines())) <= 80
    with pytest.raises(ArgumentError, match="2 callbacks oversample in one fit"):
        learn.fit(1, callbacks=[OverSamplingCallback(learn), OverSamplingCallback(learn)])
