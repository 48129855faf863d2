"""The training pictures most like a validation picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import DatasetType
from onecycle.errors import ArgumentError
from onecycle.learner.features import LabelledFeatures
from onecycle.learner.learner import Learner
from onecycle.learner.similar import similar_pictures


@pytest.fixture
def data(colour_path) -> ImageDataBunch:
    return ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=32, bs=8)


def features_by_class(data: ImageDataBunch, shape: tuple[int, ...]) -> LabelledFeatures:
    """A direction of its own for each class, and a little noise."""
    rows = np.concatenate([data.split.train, data.split.valid])
    targets = data.labels.targets[rows]
    noise = torch.randn(len(rows), 4, *shape, generator=torch.Generator().manual_seed(0)) * 0.05
    means = torch.eye(4)[torch.from_numpy(targets)].reshape(len(rows), 4, *(1,) * len(shape))
    return LabelledFeatures(means + noise, torch.from_numpy(targets), rows)


@pytest.mark.parametrize("shape", [(), (3, 3)])
def test_neighbours_are_training_pictures_of_its_class_the_nearest_first(data, shape):
    found = features_by_class(data, shape)
    for index in (0, 5, -1):
        near = similar_pictures(found, data, index, k=4)
        assert near.asked.row == data.split.valid[index]
        assert {p.label for p in near.neighbours} == {near.asked.label}
        assert {p.row for p in near.neighbours} <= set(data.split.train.tolist())
        cosines = [p.cosine for p in near.neighbours]
        assert cosines == sorted(cosines, reverse=True)
        assert 0.9 < cosines[0] < 1
    assert "train/" in str(near)
    assert max(map(len, str(near).splitlines())) <= 80
    assert isinstance(near.show(return_fig=True), Figure)


def test_refusals(data):
    found = features_by_class(data, ())
    with pytest.raises(ArgumentError, match="index is a position in the validation set, 0 to 11; received 12"):
        similar_pictures(found, data, 12)
    with pytest.raises(ArgumentError, match="received 'a"):
        similar_pictures(found, data, "a.jpg")
    with pytest.raises(ArgumentError, match="at least 1"):
        similar_pictures(found, data, 0, k=0)


def test_a_learner_s_features_are_in_the_order_of_the_table_and_serve_the_audit(data, tmp_path):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    learn = Learner(data, nn.Sequential(body, head), path=tmp_path, silent=True)
    found = learn.features()
    assert found.shape == (60, 8)
    learn.model.eval()
    for part, rows in ((DatasetType.Valid, data.split.valid), (DatasetType.Fix, data.split.train)):
        x = learn.dataset_tensor(part, 3)
        with torch.no_grad():
            wanted = body(x).mean((2, 3))[0]
        assert torch.allclose(torch.from_numpy(found[rows[3]]), wanted, atol=1e-4)
    near = learn.similar(0, k=2)
    assert near.asked.row == data.split.valid[0]
    assert len(near.neighbours) == 2
    report = data.audit(features=found, silent=True)
    assert all(0.9 < n.cosine <= 1 for n in report.neighbours)
    with pytest.raises(ArgumentError):
        data.audit(features=found[:5], silent=True)
