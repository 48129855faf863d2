"""The table of labelled pictures: broken rows and all, what it tells an audit, a bunch and a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from onecycle.data.bunch import LabeledLists
from onecycle.data.labels.items import Source
from onecycle.data.labels.splits import no_split
from onecycle.data.labels.table import LabelTable, Problem
from onecycle.errors import DataError, LabelError

CSV = Source("labels.csv", first_row=2)


def table_of(*labels: object, names: list[object] | None = None, **options: object) -> LabelTable:
    frame = pd.DataFrame({"name": names or [f"p{i}" for i in range(len(labels))], "label": labels}, dtype=object)
    table = LabelTable.from_frame(frame, "d", "name", None, ".png", CSV)
    return table.with_label_columns("label", **options)


def test_broken_rows_stay_until_the_table_is_used():
    table = table_of("cat", None, "dog ", names=["a", "b", None])
    assert table.paths == ["d/a.png", "d/b.png", ""]
    assert table.tags == [("cat",), None, ("dog",)]
    assert table.problems() == [Problem("no-file-name", ("row 4",)), Problem("blanks", ("'dog '",))]
    assert table.split(0.4).how.startswith("until each row has a file and a label: random")
    with pytest.raises(DataError, match="no file name in column 'name' at row 4"):
        LabeledLists.of(table, no_split(3))


def test_blanks_around_labels():
    (problem,) = table_of("cat ", "cat", " dog", 3, None, " ").problems()
    assert (problem.kind, problem.where) == ("blanks", ("' dog'", "'cat '"))
    assert table_of("cat", "a dog").problems() == []
    assert table_of("cat ", "a dog", label_delim=" ").problems() == [], "between tags they mean nothing"


def test_a_folder_without_a_picture_is_a_problem(tmp_path: Path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").touch()
    (tmp_path / "dog").mkdir()
    (tmp_path / "b.png").touch()
    table = LabelTable.from_class_folders(tmp_path, [tmp_path])
    assert table.tags == [None, ("cat",)]
    assert [p.where for p in table.problems()] == [(f"{tmp_path.name}/dog",)]


def test_numbers_are_the_same_classes_for_all_who_ask():
    table = table_of(10.0, 2.0, 10.0)
    assert table.tags == [("10",), ("2",), ("10",)]
    assert table.labels.classes == [2, 10]
    np.testing.assert_array_equal(table.targets(["2", "10"], is_multi=False), table.labels.targets)


def test_targets_are_in_the_order_of_the_model():
    table = table_of("a b", "", "b", label_delim=" ")
    assert table.targets(["b", "c", "a"], is_multi=True).tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 0]]
    with pytest.raises(LabelError, match=r"row 2: p0\.png: the run does not know the label 'a'"):
        table.targets(["b", "c"], is_multi=True)
    with pytest.raises(LabelError, match=r"no label at row 3: p1\.png"):
        table.targets(["b", "a"], is_multi=False)


def test_a_row_without_a_group_is_one_of_its_own_until_a_bunch_is_made():
    frame = pd.DataFrame({"name": ["a", "b", "c"], "label": ["x", "y", "x"], "site": ["s", None, "s"]})
    table = LabelTable.from_df(frame, "d").grouped("site").with_label_columns("label")
    assert table.groups == ["s", "(row 1)", "s"]
    with pytest.raises(DataError, match="no group in column 'site' at row 1"):
        LabeledLists.of(table, no_split(3))


def test_another_reading_of_the_labels_encodes_them_anew():
    table = table_of("a b", "b")
    assert table.labels.classes == ["a b", "b"]
    assert table.with_labels(["a b", "b"], label_delim=" ").labels.classes == ["a", "b"]
    assert table.labels is table.labels, "once"
