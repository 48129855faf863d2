"""The training pictures most like a validation picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from onecycle.data.bunch import ImageDataBunch
from onecycle.errors import ArgumentError
from onecycle.features import LabelledFeatures
from onecycle.similar import similar_pictures


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
        assert {p.label for p in near.found} == {near.asked.label}
        assert {p.row for p in near.found} <= set(data.split.train.tolist())
        cosines = [p.cosine for p in near.found]
        assert cosines == sorted(cosines, reverse=True)
        assert 0.9 < cosines[0] < 1
    assert "train/" in str(near)
    assert max(map(len, str(near).splitlines())) <= 80
    assert isinstance(near.show(return_fig=True), Figure)


def test_refusals(data):
    found = features_by_class(data, ())
    with pytest.raises(
        ArgumentError, match="index is a position in the validation set, 0 to 11; received 12"
    ):
        similar_pictures(found, data, 12)
    with pytest.raises(ArgumentError, match="at least 1"):
        similar_pictures(found, data, 0, k=0)
