"""Splits are functions of names and a seed, and every row lands where it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecycle.data.labels import splits
from onecycle.data.labels.table import LabelTable
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


# --- groups ---------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 12), min_size=2, max_size=120).filter(lambda g: len(set(g)) > 1),
    st.floats(0, 0.95),
    st.integers(0, 2**32),
)
def test_a_split_by_groups_keeps_them_whole_and_comes_near_its_share(groups, valid_pct, seed):
    numbers = splits.group_numbers(groups)
    split = splits.group_split(numbers, valid_pct, seed=seed)
    assert sorted([*split.train, *split.valid]) == list(range(len(groups)))
    assert not set(numbers[split.train]) & set(numbers[split.valid])
    largest = max(np.bincount(numbers))
    if len(set(groups) - set(np.array(groups)[split.train])) < len(set(groups)) - 1:
        # with more than one group left in training, no other group would have come nearer
        assert abs(len(split.valid) - valid_pct * len(groups)) <= largest / 2 + 1e-9
    assert split.groups is numbers


def test_a_split_by_groups_depends_on_neither_rows_nor_the_names_of_pictures():
    groups = [f"site {i % 7}" for i in range(60)]
    order = np.random.default_rng(0).permutation(60)
    first = splits.group_split(splits.group_numbers(groups), seed=3)
    second = splits.group_split(splits.group_numbers([groups[i] for i in order]), seed=3)
    assert {groups[i] for i in first.valid} == {groups[order[i]] for i in second.valid}
    others = [splits.group_split(first.groups, seed=s).valid.tolist() for s in range(8)]
    assert len({tuple(v) for v in others}) > 1
    assert "by whole groups" in first.how
    assert first.record([str(i) for i in range(60)])["n_groups"] == 7


def test_groups_that_cannot_be_split_are_refused():
    with pytest.raises(DataError, match="one group, so none can validate"):
        splits.group_split(np.zeros(5, dtype=np.int64))
    with pytest.raises(ArgumentError, match="one group a picture, 3; received 2"):
        LabelTable(["a", "b", "c"]).with_groups([1, 2])


@given(
    st.lists(st.lists(st.integers(0, 29), min_size=1, max_size=4), max_size=12),
    st.sets(st.integers(0, 29), max_size=20),
)
def test_keeping_groups_together_moves_no_more_than_it_must(groups, valid):
    before = splits.index_split(30, sorted(valid))
    after = splits.keep_together(before, groups)
    train, kept = set(after.train.tolist()), set(after.valid.tolist())
    assert sorted(train | kept) == list(range(30))
    assert kept <= valid
    for group in groups:
        assert not (train & set(group) and kept & set(group)), "a group is in both parts"
    together = {row: {row} for row in range(30)}
    for group in groups:  # what a picture is joined with, directly or by others
        joined = set().union(*(together[row] for row in group))
        for row in joined:
            together[row] = joined
    assert valid - kept == {row for row in valid if together[row] - valid}
    assert f"; {len(valid - kept)} validation pictures moved to training" in after.how


def test_keeping_duplicates_together_does_not_tear_the_groups_of_the_split():
    numbers = splits.group_numbers([0, 0, 1, 1, 2, 2])
    before = splits.Split(np.array([0, 1, 4, 5]), np.array([2, 3]), "by hand", numbers)
    after = splits.keep_together(before, [[1, 2]])
    assert (after.train.tolist(), after.valid.tolist()) == ([0, 1, 2, 3, 4, 5], [])
    with pytest.raises(ArgumentError, match="groups has row -1"):
        splits.keep_together(before, [[0, -1]])
