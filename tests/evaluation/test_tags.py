"""Curves of single tags, and tags that are given together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onecycle.errors import ArgumentError
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.tags import co_occurrence, tag_curves, unfounded_pairs

TRUTH = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
PROBS = np.array([[0.9, 0.6, 0.1], [0.4, 0.7, 0.1], [0.5, 0.8, 0.2], [0.1, 0.1, 0.3]])


def tagged(given=None, probs=PROBS, names=("road", "water", "haze")) -> Predictions:
    files = ("a", "b", "c", "d")
    made = Predictions.of(probs, is_multi=True, files=files, classes=names, targets=TRUTH)
    return made if given is None else replace(made, decided=given)


def test_curves_by_hand():
    road, water = tag_curves(tagged())  # haze has no positive
    assert (road.name, road.positives, road.n) == ("road", 2, 4)
    assert road.thresholds.tolist() == [0.1, 0.4, 0.5, 0.9]
    assert road.precision.tolist() == pytest.approx([0.5, 2 / 3, 0.5, 1.0])
    assert road.recall.tolist() == [1.0, 1.0, 0.5, 0.5]
    assert road.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert water.average_precision == 1.0


def test_given_by_true():
    table = co_occurrence(tagged())
    assert table.loc["road", "road"] == 1
    assert table.loc["road", "water"] == 2
    assert table.loc["water", "road"] == 1
    assert table.loc["haze"].tolist() == [0, 0, 0]
    assert (table.index.name, table.columns.name) == ("true", "predicted")


def test_pairs_that_are_given_more_often_than_they_occur():
    given = np.array([[1, 1, 0], [1, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert unfounded_pairs(tagged(given)) == [("road", "water", 3, 1)]
    assert unfounded_pairs(tagged(given), min_val=3) == []
    assert unfounded_pairs(tagged(TRUTH)) == []


def test_refusals():
    with pytest.raises(ArgumentError, match="1 classes need probs"):
        tagged(names=("road",))
    with pytest.raises(ArgumentError, match="need decided of shape"):
        tagged(given=TRUTH[:2])
