"""Reading and encoding labels: what is accepted, what is refused and how it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecycle.data.labels import items
from onecycle.data.labels.items import Category, MultiCategory, Source
from onecycle.data.labels.read import column, flags, read_label_csv
from onecycle.data.labels.table import LabelTable
from onecycle.data.labels.tag_lists import find_tag_lists
from onecycle.errors import ArgumentError, DataError, LabelError
from onecycle.text import shown

CSV = Source("labels.csv", first_row=2)


def table_of(frame: pd.DataFrame, suffix: str = "") -> LabelTable:
    return LabelTable.from_frame(frame, "d", 0, None, suffix, CSV)


def test_single_labels_are_sorted_and_indexed():
    labels = items.encode_single(["b", "a", "c", "a"], source=CSV)
    assert labels.classes == ["a", "b", "c"]
    assert labels.targets.tolist() == [1, 0, 2, 0]
    assert labels.targets.dtype == np.int64
    assert labels.counts().tolist() == [2, 1, 1]
    assert labels.counts(np.array([0, 2])).tolist() == [0, 1, 1]


def test_whole_numbers_stay_numbers():
    assert items.encode_single([1, 0, 1], source=CSV).classes == [0, 1]
    assert items.encode_single(np.array([3.0, 7.0]), source=CSV).classes == [3, 7]


@pytest.mark.parametrize("digits", [19, 5000])
def test_labels_of_many_digits_are_ids(digits):
    cells = ["1" * digits, "2" * digits]
    assert items.numbers_of(cells) == cells
    assert items.numbers_of(["1" * 18]) == [int("1" * 18)]


def test_numbers_that_no_float_holds_are_named():
    with pytest.raises(LabelError, match="takes a number a picture"):
        items.encode_numbers([1.5, 10**400], source=CSV)


def test_tags_become_zeros_and_ones():
    labels = items.encode_multi(["clear road", "haze", float("nan")], source=CSV, label_delim=" ")
    assert labels.classes == ["clear", "haze", "road"]
    assert labels.targets.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert labels.targets.dtype == np.float32
    assert str(labels.label(0)) == "clear;road"
    assert labels.label(2) == MultiCategory((0, 0, 0), ())


def test_tags_given_as_sequences_need_no_delimiter():
    labels = items.encode_multi([["a", "b"], [], ("b",)], source=CSV)
    assert labels.targets.tolist() == [[1, 1], [0, 0], [0, 1]]


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), min_size=1).filter(lambda rows: any(rows)))
def test_tags_survive_encoding(rows):
    labels = items.encode_multi([" ".join(r) for r in rows], source=CSV, label_delim=" ")
    assert [set(labels.label(i).obj) for i in range(len(rows))] == [set(r) for r in rows]


def test_a_category_prints_as_its_name():
    category = Category(2, "road")
    assert (str(category), repr(category), int(category), category.obj) == ("road", "road", 2, "road")


def test_missing_labels_are_named_by_row():
    with pytest.raises(LabelError, match=r"labels.csv: no label at row 3, 5 \(row 1 is the header\)"):
        items.encode_single(["a", None, "b", float("nan")], source=CSV)


def test_mixed_kinds_are_refused():
    with pytest.raises(LabelError, match=r"labels mix numbers \(\[1\]\) and text \(\['a'\]\)"):
        items.encode_single(["a", 1], source=CSV)


def test_fractions_are_refused_with_a_way_on():
    with pytest.raises(LabelError, match=r"row 3.* has 0\.5 .*for regression in Python"):
        items.encode_single([1.0, 0.5], source=CSV)


def test_labels_outside_the_given_classes_are_named():
    with pytest.raises(LabelError, match="not in classes=: b; add them"):
        items.encode_single(["a", "b"], source=CSV, classes=["a"])
    assert items.encode_single(["a"], source=CSV, classes=["z", "a"]).targets.tolist() == [1]


def test_reading_keeps_a_class_called_na(tmp_path: Path):
    (tmp_path / "labels.csv").write_text("name,label\na,NA\nb,None\nc,\n")
    frame = read_label_csv(tmp_path / "labels.csv")
    assert frame["label"].tolist()[:2] == ["NA", "None"]
    assert pd.isna(frame["label"][2])


def test_a_missing_table_names_the_tables_that_are_there(tmp_path: Path):
    (tmp_path / "train.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"no such file; tables in that folder: train\.csv"):
        read_label_csv(tmp_path / "labels.csv")


def test_an_empty_table_is_refused(tmp_path: Path):
    (tmp_path / "labels.csv").write_text("")
    with pytest.raises(DataError, match=r"labels\.csv is empty: expected a first line .* file,label"):
        read_label_csv(tmp_path / "labels.csv")
    with pytest.raises(DataError, match="has no rows"):
        table_of(pd.DataFrame({"name": []})).check()


def test_a_wrong_column_lists_the_columns():
    frame = pd.DataFrame({"name": ["a"], "tags": ["b"]})
    with pytest.raises(ArgumentError, match=r"no column 'label'; its columns are \['name', 'tags'\]"):
        column(frame, "label", source=CSV)
    with pytest.raises(ArgumentError, match=r"no column number 2; it has 2.*delimiter"):
        column(frame, 2, source=CSV)


def test_rows_without_a_file_name_are_named():
    frame = pd.DataFrame({"name": ["a", None, "c"], "tags": ["x", "x", "x"]})
    with pytest.raises(DataError, match="no file name in column 'name' at row 3"):
        table_of(frame).check()


def test_a_long_list_is_cut_and_counted():
    assert shown(range(25)).endswith("18, 19, and 5 more")


def test_pattern_labels():
    paths = ["/x/great_pyrenees_12.jpg", "/x/pug_3.jpg"]
    assert items.labels_from_pattern(paths, r"/([^/]+)_\d+.jpg$") == ["great_pyrenees", "pug"]
    with pytest.raises(LabelError, match=r'Failed to find .* in "/x/pug_3.jpg"'):
        items.labels_from_pattern(paths, r"(great)")
    with pytest.raises(ArgumentError, match="has no group"):
        items.labels_from_pattern(paths, r"pug")
    with pytest.raises(ArgumentError, match="not a valid regular expression"):
        items.labels_from_pattern(paths, r"(")


def test_pictures_are_listed_sorted_without_hidden_ones(tmp_path: Path):
    for name in ("b/2.JPG", "a/1.png", ".hidden/3.jpg", "a/.4.jpg", "a/notes.txt", "c/5.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [p.relative_to(tmp_path).as_posix() for p in items.list_images(tmp_path)]
    assert found == ["a/1.png", "b/2.JPG", "c/5.webp"]
    assert items.get_image_files(tmp_path) == []
    with pytest.raises(DataError, match="there is no such folder"):
        items.list_images(tmp_path / "nowhere")


def test_tag_lists_are_found_with_their_numbers():
    tags = ["clear primary", "clear primary road", "haze", "haze road", "clear", "clear road", "cloudy"]
    strings = [*tags, "clear road water", "haze water", "clear water", "haze primary", "haze primary water"]
    finding = find_tag_lists([*strings, "clear primary"])
    assert finding is not None
    assert (finding.delimiter, finding.n_strings, finding.n_tags, finding.n_once) == (" ", 12, 6, 11)
    assert "pass label_delim=' '" in finding.message()


def test_the_planet_sample_is_recognised_with_the_facts_counted_on_it(planet_path: Path):
    frame = read_label_csv(planet_path / "labels.csv")
    finding = find_tag_lists(frame["tags"])
    assert finding is not None
    assert (finding.n_strings, finding.n_tags, finding.n_once) == (101, 17, 45)


@pytest.mark.parametrize(
    "labels",
    [
        ["golden retriever", "great pyrenees", "yorkshire terrier", "english setter", "german shorthaired"] * 3,
        [f"class {i}" for i in range(30)],
        ["cat", "dog"] * 20,
        [f"n0{i}" for i in range(100)],
        list(range(12)),
    ],
)
def test_plain_names_are_not_taken_for_tag_lists(labels):
    assert find_tag_lists(labels) is None


def test_names_and_labels_with_leading_zeros_stay_text(tmp_path: Path):
    (tmp_path / "labels.csv").write_text("name,label,size\n0001,01,7\n0002,1,8\n")
    frame = read_label_csv(tmp_path / "labels.csv")
    assert table_of(frame, ".png").paths == ["d/0001.png", "d/0002.png"]
    assert items.encode_single(list(frame["label"]), source=CSV).classes == ["01", "1"]
    assert frame["size"].tolist() == [7, 8]


def test_flags_are_read_strictly():
    cells = pd.Series([True, "false", 1, "0", 1.0], name="is_valid", dtype=object)
    assert flags(cells, source=CSV).tolist() == [True, False, True, False, True]
    with pytest.raises(LabelError, match=r"'is_valid' must hold True/False or 1/0, but row 3 \(row 1 .*nan"):
        flags(pd.Series([1, None], name="is_valid"), source=CSV)


def test_a_class_with_a_nul_character_is_refused():
    for cells, delimiter in ((["a", "b\0c"], None), (["a b\0c", "a"], " ")):
        with pytest.raises(LabelError, match=r"the label 'b\\x00c' holds a NUL character"):
            assert LabelTable(["x.jpg", "y.jpg"]).with_labels(cells, label_delim=delimiter).labels.classes
