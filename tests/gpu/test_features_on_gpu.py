"""Features of a frozen body on a card: computed without a wait a batch, and kept there where they fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_gpu import GPU, fake_gpu
from torch import nn

from onecycle.train.device.placement import Arriving
from onecycle.train.frozen import FeatureLoader, FeatureSet


def feature_set() -> FeatureSet:
    return FeatureSet(torch.arange(80.0).view(2, 10, 4), torch.arange(10))


@pytest.mark.parametrize("fits", [True, False])
def test_features_lie_on_the_card_where_they_fit(fits):
    with fake_gpu() as card:
        card.free_bytes = 2**35 if fits else 700  # half of it may be taken; they take 400 bytes
        loader = FeatureLoader(feature_set(), bs=4, order=lambda _: np.arange(10), device=GPU)
        next(iter(loader))
        card.clear()
        batches = list(loader)
        assert [tuple(b.x.shape) for b in batches] == [(4, 4), (4, 4), (2, 4)]
        assert all(b.x.device.type == b.y.device.type == "cuda" for b in batches)
        assert [b.indices.tolist() for b in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        assert not card.waits
        # Row numbers of an epoch at once, or features and targets of each batch.
        assert len(card.copies) == (2 if fits else 6)


def test_features_come_back_behind_the_work():
    with fake_gpu() as card:
        arriving, kept = Arriving(), []
        for i in range(4):
            arriving.put(torch.zeros(3, device=GPU), lambda _, i=i: kept.append(i))
            assert kept == list(range(i - 1))
        arriving.finish()
        assert kept == [0, 1, 2, 3]
        assert not card.waits


def test_elsewhere_they_are_there_at_once():
    arriving, kept = Arriving(), []
    arriving.put(nn.Parameter(torch.ones(2)).detach(), lambda values: kept.append(values.tolist()))
    assert kept == [[1.0, 1.0]]
