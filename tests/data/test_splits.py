"""Splits are functions of names and a seed, and every row lands where it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecycle.data.labels import splits
from onecycle.errors import ArgumentError, DataError

NAMES = [f"tile_{i:03d}.jpg" for i in range(50)]


@given(st.integers(1, 200), st.floats(0, 0.9), st.integers(0, 2**32))
def test_a_random_split_has_the_stated_sizes_and_no_overlap(n, valid_pct, seed):
    split = splits.random_split([str(i) for i in range(n)], valid_pct, seed=seed)
    assert len(split.valid) == int(valid_pct * n)
    assert sorted([*split.train, *split.valid]) == list(range(n))
    assert list(split.train) == sorted(split.train)


def test_a_random_split_does_not_depend_on_the_order_of_the_rows():
    shuffled = list(np.random.default_rng(1).permutation(NAMES))
    first, second = splits.random_split(NAMES), splits.random_split(shuffled)
    assert {NAMES[i] for i in first.valid} == {shuffled[i] for i in second.valid}


def test_a_random_split_is_repeatable_by_default_and_leaves_numpy_alone():
    np.random.seed(3)
    state = np.random.get_state()[1].tolist()
    assert splits.random_split(NAMES).valid.tolist() == splits.random_split(NAMES).valid.tolist()
    assert splits.random_split(NAMES).valid.tolist() != splits.random_split(NAMES, seed=1).valid.tolist()
    assert np.random.get_state()[1].tolist() == state


def test_a_share_outside_its_range_is_refused():
    for share in (-0.1, 1.0, 20):
        with pytest.raises(ArgumentError, match=rf"0 <= valid_pct < 1; received {share}"):
            splits.random_split(NAMES, share)


def test_given_rows():
    split = splits.index_split(5, [4, 1])
    assert (split.train.tolist(), split.valid.tolist()) == ([0, 2, 3], [1, 4])
    split = splits.index_split(5, [4], [0, 1])
    assert (split.train.tolist(), split.valid.tolist()) == ([0, 1], [4])
    with pytest.raises(ArgumentError, match=r"both training and validation: \[1\]"):
        splits.index_split(5, [1], [0, 1])
    with pytest.raises(ArgumentError, match="valid_idx has row 5, but the table has rows 0 to 4"):
        splits.index_split(5, [5])


def test_by_folder():
    names = ["/d/train/a/1.jpg", "/d/valid/a/2.jpg", "/d/other/3.jpg", "/d/train/b/4.jpg"]
    split = splits.folder_split(names, Path("/d"))
    assert (split.train.tolist(), split.valid.tolist()) == ([0, 3], [1])
    with pytest.raises(DataError, match=r"no pictures in /d/test; expected /d/train/<class>"):
        splits.folder_split(names, Path("/d"), valid="test")


def test_a_split_without_training_rows_is_refused():
    with pytest.raises(DataError, match="leaves no picture to train on"):
        splits.func_split(NAMES, lambda name: True)


def test_the_record_names_the_validation_files_or_only_counts_them():
    split = splits.index_split(50, [3, 1])
    record = split.record(NAMES)
    assert record["valid"] == ["tile_001.jpg", "tile_003.jpg"]
    assert (record["n_train"], record["n_valid"]) == (48, 2)
    brief = split.record(NAMES, most_names=1)
    assert "valid" not in brief
    assert brief["valid_sha256"] == record["valid_sha256"]
