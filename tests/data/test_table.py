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
from onecycle.errors import DataError, DataWarning, LabelError

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


# -- cells that look like numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["0", "1", "0"], [0, 1]),
        (["0.0", "1.0", "0"], [0, 1]),
        (["-1", "2.0", "-1.0"], [-1, 2]),
        (["1.1", "1.10", "1.1"], ["1.1", "1.10"]),
        (["4e00", "4e01", "4e00"], ["4e00", "4e01"]),
        (["007", "7", "7.0"], ["007", "7", "7.0"]),
        (["1.0", "1.00", "1.0"], ["1.0", "1.00"]),
        (["1", "x", "1.0"], ["1", "1.0", "x"]),
        (["0.5", "1.5", "1"], ["0.5", "1", "1.5"]),
        (["e\u0301", "é", " é\u00a0"], ["é"]),
        (["a\u00a0b", "a b", "a b "], ["a b"]),
    ],
)
def test_what_labels_of_a_text_table_are_classes(cells, classes):
    assert table_of(*cells * 3).labels.classes == classes


@pytest.mark.parametrize(
    "cells", [[0.5, 1.5, 0.5], [f"{i / 7:.3f}" for i in range(20)], [f"{i % 30}.5" for i in range(99)]]
)
def test_measures_are_refused_as_labels(cells):
    with pytest.raises(LabelError, match="for regression in Python pass label_cls=FloatList"):
        _ = table_of(*cells).labels


@pytest.mark.parametrize(
    ("classes", "cells", "targets"),
    [
        (["0", "1"], ["0.0", "1.0"], [0, 1]),
        (["0", "1"], ["0", "1.0"], [0, 1]),
        (["1.0", "1.10", "2.0"], ["1.0", "2.0"], [0, 2]),
        (["1.0", "1.10", "2.0"], ["1.10", "2.0"], [1, 2]),
        (["007", "7"], ["7", "007"], [1, 0]),
        (["e\u0301", "f"], ["é", "f"], [0, 1]),
    ],
)
def test_a_model_and_another_table_of_the_same_labels_agree(classes, cells, targets):
    assert table_of(*cells).targets(classes, is_multi=False).tolist() == targets


def test_a_number_that_is_no_class_is_named():
    with pytest.raises(LabelError, match=r"does not know the label '3'.*its labels are 0, 1"):
        table_of("0.0", "3.0").targets(["0", "1"], is_multi=False)


@pytest.mark.parametrize("name", ["7", 7, 7.0, np.float64(7), np.int32(7)])
def test_a_file_has_one_name_however_its_number_is_stored(name):
    assert table_of("x", "y", names=[name, "b"]).paths[0] == "d/7.png"


def test_blanks_around_a_name_count_only_where_there_is_such_a_file(tmp_path: Path):
    frame = pd.DataFrame({"name": [" a.png", "b.png ", "\u00a0", " "]})
    (tmp_path / " a.png").touch()
    table = LabelTable.from_frame(frame, tmp_path, 0, None, "", CSV)
    assert [Path(p).name for p in table.paths] == [" a.png", "b.png", "", ""]


# -- groups -------------------------------------------------------------------------------------------------------


def grouped(*ids: object) -> LabelTable:
    frame = pd.DataFrame({"name": [f"p{i}" for i in range(len(ids))], "site": list(ids)}, dtype=object)
    return LabelTable.from_frame(frame, "d", "name", None, ".png", CSV).grouped("site")


@pytest.mark.parametrize("twin", ["P07 ", " P07", "P07\u00a0", "Ｐ０７", "\tP07", "P07\u3000"])
def test_ids_of_groups_are_one_with_other_blanks_and_letters(twin):
    table = grouped("P07", twin, "P08")
    assert (table.groups, table.group_numbers().tolist()) == (["P07", "P07", "P08"], [0, 0, 1])
    assert table.alike_groups == []


@pytest.mark.parametrize(("one", "other"), [(7, 7.0), (7, "7"), (np.int64(7), "7 ")])
def test_ids_of_groups_are_one_however_numbers_are_stored(one, other):
    assert grouped(one, other).group_numbers().tolist() == [0, 0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P07", "p07"),
        ("7", "007"),
        ("P7", "P07"),
        ("P-07", "P07"),
        ("P 07", "p_7"),
        ("7", "7.0"),
        ("Straße", "STRASSE"),
    ],
)
def test_ids_that_may_be_one_group_are_reported(one, other):
    (problem,) = grouped(one, other, "Q1").problems()
    assert problem == Problem("group-spelling", (" / ".join(map(repr, sorted([one, other]))),))
    with pytest.warns(DataWarning, match="differ in case, zeros or blanks alone"):
        LabeledLists.of(grouped(one, other).with_labels(["x", "y"]), no_split(2))


@pytest.mark.parametrize(
    "ids",
    [
        ["P07", "P08", "P70"],
        ["001", "002", "010"],
        ["1-11", "11-1", "111"],
        ["1.1", "1.10"],
        ["0", "00x"],
        ["a1b2", "a12b"],
        ["north", "south"],
        ["+", "-"],
    ],
)
def test_ids_that_differ_are_not_reported(ids):
    assert grouped(*ids).alike_groups == []


# -- one row a tag, and vectors of 0/1 ----------------------------------------------------------------------------


def test_rows_of_a_picture_are_joined():
    table = table_of("sea", "big boat", "sea", None, "sun", names=["a", "a", "b", "a", "b"]).joined()
    assert ([Path(p).name for p in table.paths], table.tags) == (
        ["a.png", "b.png"],
        [("sea", "big boat"), ("sea", "sun")],
    )
    assert table.labels.classes == ["big boat", "sea", "sun"]
    assert table.labels.targets.tolist() == [[1, 1, 0], [0, 1, 1]]


def test_joined_rows_keep_what_is_broken_and_their_groups():
    frame = pd.DataFrame(
        {"name": ["a", None, "a", None], "label": list("xyyx"), "site": [1, 2, 1, 3], "z": [5, 6, 7, 8]}
    )
    table = LabelTable.from_frame(frame, "d", "name", None, "", CSV).with_label_columns("label", group_col="site")
    joined = table.joined()
    assert (len(joined), joined.groups, joined.frame["z"].tolist()) == (3, ["1", "2", "3"], [5, 6, 8])
    assert [p.kind for p in joined.problems()] == ["no-file-name"]
    apart = LabelTable.from_frame(frame.assign(site=range(4)), "d", "name", None, "", CSV)
    with pytest.raises(DataError, match="rows are in different groups: row 2: a"):
        apart.with_label_columns("label", group_col="site").joined()


@pytest.mark.parametrize(
    "vectors",
    [
        [[1, 0, 1], [0, 0, 0]],
        [(True, False, True), (False, False, False)],
        np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]),
        [np.array([1, 0, 1], dtype=np.uint8), np.array([0, 0, 0], dtype=np.uint8)],
        pd.DataFrame([[1, 0, 1], [0, 0, 0]]).to_numpy(),
    ],
)
def test_vectors_of_flags_are_tags_with_the_names_of_the_classes(vectors):
    table = LabelTable(["a", "b"]).with_labels(vectors, classes=["z", "y", "x"])
    assert (table.labels.classes, table.labels.targets.tolist()) == (["z", "y", "x"], [[1, 0, 1], [0, 0, 0]])
    with pytest.raises(LabelError, match=r"vectors of 3 numbers 0/1; pass classes=.*received no classes"):
        LabelTable(["a", "b"]).with_labels(vectors)
    with pytest.raises(LabelError, match=r"received 2 classes"):
        LabelTable(["a", "b"]).with_labels(vectors, classes=["x", "y"])


@pytest.mark.parametrize(
    "tags", [[["a"], ["a", "b"]], [[1], [0]], [[3, 4], [5, 6]], [["0", "1"], ["1", "0"]], [{0, 1}, {1}]]
)
def test_lists_of_tags_are_no_vectors(tags):
    assert LabelTable(["a", "b"]).with_labels(tags).labels.targets.sum() == sum(map(len, tags))


def test_labels_in_an_array_are_labels():
    assert LabelTable(["a", "b", "c"]).with_labels(np.array([3, 1, 3])).labels.classes == [1, 3]
    assert LabelTable(["a", "b"]).with_labels(np.array(["x", "y"])).labels.classes == ["x", "y"]


def test_rows_without_a_group_are_a_problem_of_a_table_with_groups():
    frame = pd.DataFrame({"file": ["a", "b", "c"], "label": ["x", "y", "x"], "site": ["1", None, " "]})
    table = LabelTable.from_df(frame, ".").with_label_columns("label", group_col="site")
    assert {p.kind: p.where for p in table.problems()} == {"no-group": ("b", "c")}


def test_lists_in_brackets_that_are_read_as_classes_are_said():
    frame = pd.DataFrame({"file": ["a", "b", "c"], "label": ["['x', 'y']", "['x']", "['y']"]})
    with pytest.warns(DataWarning, match=r"lists in brackets, such as \['x', 'y'\]"):
        LabelTable.from_df(frame, ".").with_label_columns("label").whole_labels()


def test_the_last_parts_of_paths_of_another_machine_are_names_below_the_folder(tmp_path):
    names = [r"C:\data\train\a.png", "/q/train/b.png", "https://h/train/c%20d.png"]
    frame = pd.DataFrame({"name": names, "label": ["x", "y", "x"]})
    frame.to_csv(tmp_path / "labels.csv", index=False)
    expected = [f"{tmp_path}/train/{name}.png" for name in ("a", "b", "c d")]
    assert LabelTable.from_df(frame, tmp_path, path_parts=2).paths == expected
    assert LabelTable.from_csv(tmp_path, "labels.csv", path_parts=1, folder="train").paths == expected


def test_a_first_line_that_names_a_picture_is_no_header(tmp_path):
    (tmp_path / "labels.csv").write_text("a.png,x\nb.png,y\n")
    with pytest.raises(DataError, match=r"a row, .*header=None"):
        LabelTable.from_csv(tmp_path, "labels.csv")
    assert len(LabelTable.from_csv(tmp_path, "labels.csv", header=None)) == 2
    (tmp_path / "flags.csv").write_text("name,a.png\nb,1\nc,0\n")  # a column of flags may be named after a picture
    assert len(LabelTable.from_csv(tmp_path, "flags.csv")) == 2
