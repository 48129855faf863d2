"""Splits that data already has: which columns and folders say them, and what is asked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from onecycle.data.labels.find.split import find_split, part_of, unused_split
from onecycle.data.labels.items import Source
from onecycle.data.labels.table import LabelTable
from onecycle.errors import ArgumentError, DataError, DataWarning

TABLE = Source("t.csv", first_row=2)
N = 20


def frame(**columns) -> pd.DataFrame:
    return pd.DataFrame({"file": [f"{i}.png" for i in range(N)]} | {k: list(v) for k, v in columns.items()})


def parts(data: pd.DataFrame, asked: str | int | None = None) -> tuple[int, int, int] | None:
    split, _ = find_split(data, ["file"], asked, TABLE)
    return None if split is None else tuple(split.parts.count(p) for p in ("train", "valid", "test"))


@pytest.mark.parametrize(
    ("names", "part"),
    [
        ("train Train TRAIN training train_set train-images train2017 trn trainval", "train"),
        ("val valid Validation validation_set dev eval val2017", "valid"),
        ("test Testing test_images holdout PublicTest", "test"),
        ("trains cat seg_train data images set 1 trainer bus_test", None),
    ],
)
def test_names_that_plainly_mean_a_part(names, part):
    assert {name: part_of(name) for name in names.split()} == dict.fromkeys(names.split(), part)


def cycled(*values) -> list:
    return [values[i % len(values)] for i in range(N)]


@pytest.mark.parametrize(
    ("column", "cells", "expected"),
    [
        ("split", cycled("train", "train", "train", "valid", "test"), (12, 4, 4)),
        ("subset", cycled("training", "training", "testing", "training"), (15, 0, 5)),
        ("Usage", cycled("Training", "Training", "PublicTest", "PrivateTest"), (10, 0, 10)),
        ("any name", cycled("Train", "Dev"), (10, 10, 0)),
        ("is_valid", cycled(False, False, True, False), (15, 5, 0)),
        ("is_valid", cycled("0", "1"), (10, 10, 0)),
        ("isTest", cycled("True", "False"), (10, 0, 10)),
        ("is_train", cycled("1", "1", "1", "0"), (15, 5, 0)),
        ("is_valid", cycled(True, True, True, False), None),  # which of the two validates?
        ("fold", cycled(0, 1, 2, 3, 4), None),
        ("set", cycled("A", "B"), None),
        ("vehicle", cycled("train", "bus", "test"), None),
        ("split", cycled("train"), None),
        ("split", cycled("test"), None),
    ],
)
def test_a_column_that_plainly_says_the_split_is_taken(column, cells, expected):
    data = frame(**{column: cells, "label": cycled("a", "b")})
    assert parts(data) == expected
    assert parts(data, "") is None
    assert bool(unused_split(data, ["file"], TABLE)) == (expected is not None)
    if expected is not None:
        assert parts(data, column) == expected


@pytest.mark.parametrize(("column", "cells"), [("fold", cycled(0, 1, 2, 3, 4)), ("set", cycled("A", "B"))])
def test_a_column_that_may_say_the_split_is_hinted_at(column, cells):
    data = frame(**{column: cells})
    _, hints = find_split(data, ["file"], None, TABLE)
    assert f"split_col='{column}={cells[-1]}'" in hints[column]
    n = cells.count(cells[-1])
    assert parts(data, f"{column}={cells[-1]}") == (N - n, n, 0)


@pytest.mark.parametrize(
    ("column", "cells", "asked"),
    [
        ("train", cycled(1, 1, 1, 0), "train=0"),
        ("valid", cycled(0, 0, 0, 1), "valid=1"),
        ("is_train", cycled(0, 0, 0, 1), "is_train"),
        ("phase", cycled("A", "A", "B"), "phase=B"),
    ],
)
def test_the_hint_lets_the_few_rows_validate(column, cells, asked):
    _, hints = find_split(frame(**{column: cells}), ["file"], None, TABLE)
    assert f"split_col='{asked}'" in hints[column]


def test_one_value_validates_and_rows_for_testing_stay_out():
    data = frame(split=cycled("train", "dev", "dev2", "test"))
    assert parts(data, "split=dev") == (5, 5, 10)  # what is another word for validating does not train
    assert parts(data, "split=test") == (5, 5, 10)
    for fold in (cycled(0.0, 1.0), cycled("0.0", "1.0"), cycled("0", "1")):
        assert parts(frame(fold=fold), "fold=1") == parts(frame(fold=fold), "fold=1.0") == (10, 10, 0)
    with pytest.raises(ArgumentError, match=r"column split has no 'x'; its values are dev, dev2, test, train"):
        parts(data, "split=x")
    with pytest.raises(ArgumentError, match="no column 'sp'"):
        parts(data, "sp")


def test_what_is_not_clear_is_asked():
    with pytest.raises(ArgumentError, match=r"column split says tset, which is none of train, valid, test"):
        parts(frame(split=cycled("train", "valid", "tset", "test")))
    with pytest.raises(DataError, match=r"nothing at row 4 .*split_col=''"):
        parts(frame(split=["train", "valid", None, *cycled("train", "test")[3:]]))
    with pytest.raises(ArgumentError, match="columns split, is_valid say different splits"):
        parts(frame(split=cycled("train", "valid"), is_valid=cycled("0", "0", "1", "0")))
    with pytest.raises(ArgumentError, match=r"column fold says 0, 1, which is none .*split_col='fold=1'"):
        parts(frame(fold=cycled(0, 1)), "fold")
    with pytest.raises(ArgumentError, match=r"column split has dev and valid, .*split_col='split=valid'"):
        parts(frame(split=cycled("train", "train", "valid", "dev")))
    assert parts(frame(split=cycled("train", "train_2", "val_1", "val_2"))) == (10, 10, 0)
    agree = frame(split=cycled("train", "valid"), is_valid=cycled("0", "1"))
    assert parts(agree) == (10, 10, 0)


@pytest.fixture
def table() -> LabelTable:
    cells = cycled("train", "train", "train", "train", "test")
    data = frame(label=cycled("a", "b"), split=cells, site=[i // 4 for i in range(N)])
    return LabelTable.from_df(data, ".").split_by("split").with_label_columns("label", group_col="site")


def test_without_rows_that_validate_a_share_of_those_that_train_is_drawn(table):
    for grouped in (table, table.with_groups([i // 2 for i in range(N)])):
        for stratify in (True, False):
            split = grouped.split(0.25, stratify=stratify)
            assert len(split.train) + len(split.valid) == 16
            assert 3 <= len(split.valid) <= 5
            assert not np.isin([*split.train, *split.valid], np.arange(4, N, 5)).any()
            assert "of the rows that train by column split" in split.how
            groups = grouped.group_numbers()
            assert not set(groups[split.train]) & set(groups[split.valid])


def test_rows_of_one_picture_are_in_one_part():
    data = frame(label=cycled("a", "b"), split=cycled("train", "valid"))
    data["file"] = [f"{i // 2}.png" for i in range(N)]
    table = LabelTable.from_df(data, ".").split_by("split").with_label_columns("label")
    with pytest.raises(DataError, match="rows are in different parts"):
        table.joined()
    data["split"] = ["train" if i < 12 else "valid" for i in range(N)]
    split = LabelTable.from_df(data, ".").split_by("split").with_label_columns("label").joined().split()
    assert (split.train.tolist(), split.valid.tolist()) == (list(range(6)), list(range(6, 10)))


def test_groups_that_the_column_divides_are_said():
    data = frame(label=cycled("a", "b"), split=["train"] * 12 + ["valid"] * 8, site=[i // 8 for i in range(N)])
    divided = LabelTable.from_df(data, ".").split_by("split").with_label_columns("label", group_col="site")
    with pytest.warns(DataWarning, match=r"1 group of column site in both parts \(1\).* split_col='' draws"):
        split = divided.split()
    assert (len(split.train), len(split.valid)) == (12, 8)
