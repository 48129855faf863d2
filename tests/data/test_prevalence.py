"""The prevalence report: counts, shares, ratio, and a table that fits a terminal."""

from __future__ import annotations

import numpy as np

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import Labels
from onecycle.data.labels.prevalence import prevalence
from onecycle.data.labels.splits import index_split


def test_counts_shares_and_ratio():
    labels = Labels(["a", "b", "c"], np.array([0] * 6 + [1] * 3 + [2]), is_multi=False)
    found = prevalence(labels, index_split(10, [0, 1, 9]))
    assert found.train.tolist() == [4, 3, 0]
    assert found.valid.tolist() == [2, 0, 1]
    np.testing.assert_allclose(found.train_share, [4 / 7, 3 / 7, 0])
    np.testing.assert_allclose(found.valid_share, [2 / 3, 0, 1 / 3])
    assert found.imbalance_ratio == 4 / 3
    frame = found.to_frame()
    assert frame["class"].tolist() == ["a", "b", "c"]
    assert frame["train"].tolist() == [4, 3, 0]
    text = str(found)
    assert "a               4   57.1%         2   66.7%" in text
    assert "1 of the classes never occur in training" in text
    assert "1 of the classes never occur in validation" in text


def test_tags_in_a_bunch(colour_path):
    data = ImageDataBunch.from_csv(
        colour_path, folder="train", suffix=".jpg", csv_labels="tags.csv", label_delim=" ", size=16
    )
    found = data.prevalence()
    assert found.is_multi
    assert found.train.sum() + found.valid.sum() == 90
    assert (found.n_train, found.n_valid) == (48, 12)
    assert found.to_frame()["class"].tolist()[0] == "even"


def test_a_table_of_many_long_names_is_cut_and_fits_80_columns():
    names = [f"a very long class name that goes on and on, number {i:04d}" for i in range(300)]
    labels = Labels(names, np.arange(3000) % 300, is_multi=False)
    lines = str(prevalence(labels, index_split(3000, range(600)))).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 50
    assert "… 260 more" in lines
    empty = str(prevalence(labels, index_split(3000, [])))
    assert "nothing measures" not in empty
