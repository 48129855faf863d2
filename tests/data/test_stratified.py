"""Stratified splits and folds: shares of classes, whole groups, lone classes, and independence of the rows' order."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.data_block import ImageList
from onecycle.data.labels import splits
from onecycle.data.labels.items import Labels
from onecycle.data.labels.stratified import stratified_folds, stratified_split
from onecycle.errors import ArgumentError, DataError, DataWarning


def single(targets: Any) -> Labels:
    found = np.asarray(targets, dtype=np.int64)
    return Labels([f"c{i}" for i in range(int(found.max()) + 1)], found, is_multi=False)


def tags(targets: Any) -> Labels:
    found = np.asarray(targets, dtype=np.float32)
    return Labels([f"t{i}" for i in range(found.shape[1])], found, is_multi=True)


def names(n: int) -> list[str]:
    return [f"tile_{i:04d}.jpg" for i in range(n)]


def random_tags(n: int, shares: list[float], seed: int = 0) -> Labels:
    """Tags that occur with the given shares and lean on one another, as Planet's do."""
    rng = np.random.default_rng(seed)
    common = rng.random((n, 1))
    drawn = 0.6 * rng.random((n, len(shares))) + 0.4 * common
    limits = [np.quantile(drawn[:, i], share) for i, share in enumerate(shares)]
    return tags(drawn < np.array(limits))


def quiet(*args: Any, **options: Any) -> splits.Split:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return stratified_split(*args, **options)


def worst_share(labels: Labels, valid: np.ndarray, share: float) -> float:
    """Mean over tags of how far the tag's share in validation is from the wanted one."""
    counts = labels.counts()
    return float(np.abs(labels.counts(valid) / np.maximum(counts, 1) - share)[counts > 0].mean())


# --- one label a picture --------------------------------------------------------------------------


@given(st.lists(st.integers(0, 6), min_size=2, max_size=150), st.floats(0, 0.95), st.integers(0, 2**32))
def test_each_class_gets_its_share_rounded_and_trains(targets, valid_pct, seed):
    labels, n = single(targets), len(targets)
    try:
        split = quiet(names(n), labels, valid_pct, seed=seed)
    except DataError:
        raise AssertionError("a stratified split always leaves something to train on") from None
    assert sorted([*split.train, *split.valid]) == list(range(n))
    counts, taken = labels.counts(), labels.counts(split.valid)
    assert (np.abs(taken - valid_pct * counts)[counts > 1] < 1).all()
    assert (taken[counts == 1] == 0).all()
    assert (labels.counts(split.train)[counts > 0] > 0).all()
    if (counts != 1).all() and valid_pct <= 0.5:
        assert len(split.valid) == int(valid_pct * n)


@pytest.mark.parametrize("kind", ["single", "tags", "groups"])
def test_a_stratified_split_depends_on_names_labels_and_seed_alone(kind):
    n = 90
    labels = random_tags(n, [0.5, 0.2, 0.1]) if kind == "tags" else single(np.arange(n) % 5)
    groups = splits.group_numbers([i // 4 for i in range(n)]) if kind == "groups" else None
    files, order = names(n), np.random.default_rng(1).permutation(n)

    def valid(rows: np.ndarray, seed: int | None = None) -> set[str]:
        picked = Labels(labels.classes, labels.targets[rows], labels.is_multi)
        shuffled = [files[i] for i in rows]
        of_rows = None if groups is None else groups[rows]
        return {shuffled[i] for i in stratified_split(shuffled, picked, seed=seed, groups=of_rows).valid}

    assert valid(np.arange(n)) == valid(order)
    assert valid(np.arange(n)) == valid(order, seed=splits.DEFAULT_SEED)
    assert len({frozenset(valid(order, seed=s)) for s in range(5)}) > 1


def test_a_class_of_one_picture_trains_and_is_said():
    labels = single([0] * 10 + [1] * 10 + [2])
    with pytest.warns(DataWarning, match="classes with a single picture, which trains: 'c2'; nothing"):
        split = stratified_split(names(21), labels, 0.5)
    assert 20 in split.train
    assert "'c2'" in split.how
    alone = tags(np.eye(4).repeat([1, 1, 8, 8], axis=0))
    for seed in range(10):
        assert {0, 1} <= set(quiet(names(18), alone, 0.9, seed=seed).train)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ArgumentError, match="0 <= valid_pct < 1; received 1"):
        stratified_split(names(4), single([0, 0, 1, 1]), 1)
    with pytest.raises(ArgumentError, match="expected labels of 5 pictures, received 4"):
        stratified_split(names(5), single([0, 0, 1, 1]))
    with pytest.raises(DataError, match="belong to one group"):
        stratified_split(names(4), single([0, 0, 1, 1]), groups=np.zeros(4, dtype=np.int64))


# --- tags -----------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0.02, 0.9), min_size=2, max_size=12), st.sampled_from([0.1, 0.2, 0.3, 0.5]), st.integers(0, 1000)
)
def test_each_tag_comes_nearer_to_its_share_than_at_random(shares, valid_pct, seed):
    labels = random_tags(200, shares, seed)
    split = quiet(names(200), labels, valid_pct, seed=seed)
    assert sorted([*split.train, *split.valid]) == list(range(200))
    assert abs(len(split.valid) - valid_pct * 200) <= 2 + len(shares)
    ours = worst_share(labels, split.valid, valid_pct)
    by_chance = [
        worst_share(labels, splits.random_split(names(200), valid_pct, seed=s).valid, valid_pct) for s in range(20)
    ]
    assert ours <= np.mean(by_chance)


def test_every_tag_of_two_or_more_pictures_is_within_a_few_of_its_share():
    labels = random_tags(600, [0.93, 0.4, 0.3, 0.1, 0.03, 0.01, 0.004])
    for seed in range(5):
        split = quiet(names(600), labels, 0.2, seed=seed)
        assert np.abs(labels.counts(split.valid) - 0.2 * labels.counts()).max() <= 3
        assert abs(len(split.valid) - 120) <= 3


def test_many_rare_tags_come_nearer_than_with_the_reference_implementation():
    """On these sets MultilabelStratifiedShuffleSplit (iterative-stratification 0.1.9, ten seeds) is off by 0.995."""
    rng = np.random.default_rng(2)
    shares, common = rng.beta(0.5, 3, 100), rng.random((400, 1))
    drawn = 0.7 * rng.random((400, 100)) + 0.3 * common
    labels = tags(drawn < [np.quantile(drawn[:, i], max(share, 2 / 400)) for i, share in enumerate(shares)])
    counts = labels.counts()
    off = [
        np.abs(labels.counts(quiet(names(400), labels, 0.2, seed=s).valid) - 0.2 * counts)[counts > 1].mean()
        for s in range(3)
    ]
    assert max(off) < 0.7


@pytest.mark.parametrize("groups", [None, np.arange(40) // 4])
def test_without_a_share_nothing_validates(groups):
    for labels in (random_tags(40, [0.5, 0.2]), single(np.arange(40) % 3)):
        assert len(stratified_split(names(40), labels, 0.0, groups=groups).valid) == 0


def test_pictures_without_any_tag_are_split_too():
    targets = np.zeros((50, 2), dtype=np.float32)
    targets[:10, 0] = 1
    split = quiet(names(50), tags(targets), 0.2)
    assert len(split.valid) == 10
    assert (split.valid < 10).sum() == 2


# --- groups ---------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 25), st.booleans())
def test_stratified_groups_stay_whole_and_come_near_their_share(seed, n_groups, is_multi):
    rng = np.random.default_rng(seed)
    n = 200
    groups = splits.group_numbers(rng.integers(0, n_groups, n).tolist())
    labels = random_tags(n, [0.5, 0.2, 0.1], seed) if is_multi else single(rng.integers(0, 3, n))
    split = quiet(names(n), labels, 0.25, seed=seed, groups=groups)
    assert not set(groups[split.train]) & set(groups[split.valid])
    assert sorted([*split.train, *split.valid]) == list(range(n))
    largest = np.bincount(groups).max()
    assert abs(len(split.valid) - 0.25 * n) <= largest


def test_stratified_groups_balance_classes_that_lie_in_few_groups():
    # a rare class lives in 4 of 40 sites: at random, often none or half of them validate
    site = np.arange(400) // 10
    labels = single((site % 10 == 0).astype(int))
    groups = splits.group_numbers(site.tolist())
    for seed in range(10):
        split = stratified_split(names(400), labels, 0.25, seed=seed, groups=groups)
        assert labels.counts(split.valid).tolist() == [90, 10]
    assert "by whole groups" in split.how


# --- folds ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.sampled_from(["single", "tags", "groups"]))
def test_folds_cover_everything_and_each_has_its_share(seed, k, kind):
    rng = np.random.default_rng(seed)
    n = 120
    labels = random_tags(n, [0.5, 0.2, 0.05], seed) if kind == "tags" else single(rng.integers(0, 4, n))
    groups = None
    if kind == "groups":
        groups = splits.group_numbers(rng.integers(0, 30, n).tolist())
    folds = stratified_folds(names(n), labels, k, seed=seed, groups=groups)
    assert set(folds) == set(range(k))
    if kind == "single":
        assert np.ptp(np.bincount(folds)) <= 1
        for fold in range(k):
            assert np.abs(labels.counts(np.flatnonzero(folds == fold)) - labels.counts() / k).max() < 1
    if kind == "tags":
        assert np.ptp(np.bincount(folds)) <= 12
    if groups is not None:
        assert all(len(set(folds[groups == g])) == 1 for g in set(groups))


def test_folds_that_cannot_be_are_refused():
    with pytest.raises(ArgumentError, match=r"from 2 to 4 \(the pictures\); received 5"):
        stratified_folds(names(4), single([0, 0, 1, 1]), 5)
    with pytest.raises(ArgumentError, match=r"from 2 to 1 \(the groups\)"):
        stratified_folds(names(4), single([0, 0, 1, 1]), 2, groups=np.zeros(4, dtype=np.int64))
    few = stratified_folds(names(3), tags([[1.0], [1.0], [0.0]]), 3)
    assert sorted(few) == [0, 1, 2]


# --- in the calls ---------------------------------------------------------------------------------


@pytest.fixture
def table(colour_path) -> pd.DataFrame:
    frame = pd.read_csv(colour_path / "labels.csv")
    frame["site"] = [f"s{i // 5}" for i in range(len(frame))]
    return frame


OPTIONS: dict[str, Any] = {"folder": "train", "suffix": ".jpg", "size": 16}


def test_the_bunch_takes_stratify_and_groups(colour_path, table):
    data = ImageDataBunch.from_csv(colour_path, stratify=True, **OPTIONS)
    assert data.labels.counts(data.split.valid).tolist() == [4, 4, 4]
    assert "stratified, valid_pct=0.2, seed=42" in repr(data)
    data = ImageDataBunch.from_csv(
        colour_path, csv_labels="tags.csv", label_delim=" ", stratify=True, valid_pct=0.5, **OPTIONS
    )
    assert np.abs(data.labels.counts(data.split.valid) - data.labels.counts() / 2).max() <= 1
    for stratify in (False, True):
        data = ImageDataBunch.from_df(colour_path, table, group_col="site", stratify=stratify, **OPTIONS)
        sites = data.split.groups
        assert not set(sites[data.split.train]) & set(sites[data.split.valid])
        assert data.resized(24).split.groups is sites
    files = [colour_path / "train" / f"p{i:03d}.jpg" for i in range(60)]
    labels = ["ab"[i % 2] for i in range(60)]
    data = ImageDataBunch.from_lists(colour_path, files, labels, stratify=True, groups=list(table["site"]))
    assert len(set(data.split.groups)) == 12


def test_a_folder_is_stratified_by_its_classes(tmp_path, colour_path):
    for i in range(20):
        target = tmp_path / ("rare" if i < 4 else "common") / f"{i}.jpg"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((colour_path / "train" / "p000.jpg").read_bytes())
    for seed in range(5):
        data = ImageDataBunch.from_folder(tmp_path, valid_pct=0.25, seed=seed, stratify=True)
        assert data.labels.counts(data.split.valid).tolist() == [4, 1]
    with pytest.raises(ArgumentError, match=r"stratify=True draws a split, so it needs valid_pct=0\.2"):
        ImageDataBunch.from_folder(tmp_path, stratify=True)
    found = ImageList.from_folder(tmp_path).split_stratified(0.25).label_from_folder()
    assert found.labels.counts(found.split.valid).tolist() == [4, 1]


def test_the_data_block_splits_by_labels_and_by_groups(colour_path, table):
    pictures = ImageList.from_df(table, colour_path, folder="train", suffix=".jpg")
    found = pictures.split_stratified(0.2, seed=1).label_from_df()
    assert found.labels.counts(found.split.valid).tolist() == [4, 4, 4]
    grouped = pictures.split_by_group("site", 0.25)
    assert len(grouped.split.valid) == 15
    both = pictures.split_stratified(0.25, group_col="site")
    assert not set(both.split.groups[both.split.train]) & set(both.split.groups[both.split.valid])
    table.loc[3, "site"] = None
    with pytest.raises(DataError, match="no group in column 'site' at row 3"):
        ImageList.from_df(table, colour_path, folder="train", suffix=".jpg").split_by_group("site")


def test_duplicates_move_to_training_in_one_call(colour_path, capsys):
    data = ImageDataBunch.from_csv(colour_path, **OPTIONS)
    first, second = data.split.valid[:2].tolist()
    moved = data.split_together([[first, int(data.split.train[0])], [second, int(data.split.valid[2])]])
    assert capsys.readouterr().out == "1 of 12 validation pictures moved to training, where their group is.\n"
    assert first in moved.split.train
    assert second in moved.split.valid
    assert len(moved.train_ds) == 49
    assert len(data.train_ds) == 48
    assert moved.lists.split is moved.split
    with pytest.raises(ArgumentError, match="groups has row 60, but the table has rows 0 to 59"):
        data.split_together([[0, 60]])
