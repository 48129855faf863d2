"""Curves of single tags, and tags that are given together."""

from __future__ import annotations

import numpy as np
import pytest

from onecycle.errors import ArgumentError
from onecycle.evaluation.tags import co_occurrence, tag_curves, unfounded_pairs

TRUTH = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
PROBS = np.array([[0.9, 0.6, 0.1], [0.4, 0.7, 0.1], [0.5, 0.8, 0.2], [0.1, 0.1, 0.3]])


def test_curves_by_hand():
    road, water = tag_curves(TRUTH, PROBS, ["road", "water", "haze"])  # haze has no positive
    assert (road.name, road.positives, road.n) == ("road", 2, 4)
    assert road.thresholds.tolist() == [0.1, 0.4, 0.5, 0.9]
    assert road.precision.tolist() == pytest.approx([0.5, 2 / 3, 0.5, 1.0])
    assert road.recall.tolist() == [1.0, 1.0, 0.5, 0.5]
    assert road.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert water.average_precision == 1.0


def test_given_by_true():
    table = co_occurrence(TRUTH, PROBS >= 0.5, ["road", "water", "haze"])
    assert table.loc["road", "road"] == 1
    assert table.loc["road", "water"] == 2
    assert table.loc["water", "road"] == 1
    assert table.loc["haze"].tolist() == [0, 0, 0]
    assert (table.index.name, table.columns.name) == ("true", "given")


def test_pairs_that_are_given_more_often_than_they_occur():
    given = np.array([[1, 1, 0], [1, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert unfounded_pairs(TRUTH, given, ["road", "water", "haze"]) == [("road", "water", 3, 1)]
    assert unfounded_pairs(TRUTH, given, ["road", "water", "haze"], min_val=3) == []
    assert unfounded_pairs(TRUTH, TRUTH, ["road", "water", "haze"]) == []


def test_refusals():
    with pytest.raises(ArgumentError, match="a name a tag"):
        tag_curves(TRUTH, PROBS, ["road"])
    with pytest.raises(ArgumentError, match="one shape"):
        co_occurrence(TRUTH, PROBS[:2] > 0, ["a", "b", "c"])
