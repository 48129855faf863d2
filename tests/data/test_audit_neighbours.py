"""Close neighbours in feature space, across the split."""

from __future__ import annotations

import numpy as np
import pytest

from onecycle.data.audit.audit import feature_neighbours
from onecycle.data.labels.splits import Split
from onecycle.errors import ArgumentError

SPLIT = Split(np.arange(0, 40), np.arange(40, 60), "given rows")


@pytest.fixture
def features() -> np.ndarray:
    """Sixty unrelated pictures whose features share a large mean, as those of a backbone do."""
    return np.random.default_rng(0).normal(size=(60, 128)) + 10


def test_unrelated_features_are_no_neighbours(features):
    assert feature_neighbours(features, SPLIT) == []


def test_planted_neighbours_are_found_the_closest_first(features):
    rng = np.random.default_rng(1)
    features[41] = features[7] + 0.10 * rng.normal(size=128)
    features[50] = features[8]
    features[9] = features[10]  # both train
    found = feature_neighbours(features, SPLIT)
    assert [(v, t) for v, t, _ in found] == [(50, 8), (41, 7)]
    assert found[0][2] == pytest.approx(1)
    assert 0.95 < found[1][2] < 1


def test_the_threshold_decides(features):
    features[41] = features[7] + 0.5 * np.random.default_rng(1).normal(size=128)
    assert feature_neighbours(features, SPLIT) == []
    assert [(v, t) for v, t, _ in feature_neighbours(features, SPLIT, min_cosine=0.8)] == [(41, 7)]


def test_at_most_five_each(features):
    features[:10] = features[45]
    assert len(feature_neighbours(features, SPLIT)) == 5


def test_a_part_without_pictures_has_no_neighbours(features):
    assert feature_neighbours(features, Split(np.arange(60), np.arange(0), "none")) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[:50], r"one row a picture of the table, at least 60; received shape \(50, 128\)"),
        (lambda f: f[:, 0], "received shape"),
        (lambda f: np.where(np.arange(60)[:, None] == 3, np.nan, f), "row 3 has NaN"),
    ],
)
def test_other_features_are_refused(features, change, message):
    with pytest.raises(ArgumentError, match=message):
        feature_neighbours(change(features), SPLIT)


def test_a_cosine_out_of_range_is_refused(features):
    with pytest.raises(ArgumentError, match="min_cosine"):
        feature_neighbours(features, SPLIT, min_cosine=1.5)
