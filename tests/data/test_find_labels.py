"""Which columns hold the labels, and whether a cell is one label or a list of tags; asked where both fit."""

from __future__ import annotations

import pandas as pd
import pytest

from onecycle.data.labels.find.labels import LabelColumns, find_labels
from onecycle.data.labels.items import Source
from onecycle.errors import ArgumentError, DataWarning, LabelError

N = 24


def look(label_col: str | int | None = None, label_delim: str | None = None, **columns: object) -> LabelColumns:
    frame = pd.DataFrame({"file": [f"p{i}" for i in range(N)], **columns})
    return find_labels(frame, {"file"}, Source("labels.csv", 2), label_col, label_delim)


def flags_of(*residues: int, one: object = 1, zero: object = 0) -> list[object]:
    return [one if i % 4 in residues else zero for i in range(N)]


@pytest.mark.parametrize(
    ("one", "zero"), [(1, 0), ("1", "0"), ("1.0", "0.0"), (1.0, 0.0), ("True", "False"), (True, False)]
)
def test_columns_of_flags_are_tags(one, zero):
    columns = {name: flags_of(i, 3, one=one, zero=zero) for i, name in enumerate(("a", "b", "c"))}
    with pytest.warns(DataWarning, match="3 columns of 0/1 are read as tags.*--label-col a,b,c.*--label-col a takes"):
        assert look(**columns).col == "a,b,c"


def test_one_flag_a_row_is_said():
    with pytest.warns(DataWarning, match="each row has one: a single column with their names would train classes"):
        assert look(a=flags_of(0, 1), b=flags_of(2, 3)).col == "a,b"


def test_flags_that_are_asked_for_are_not_warned_about():
    columns = {"a": flags_of(0), "b": flags_of(1), "age": [i % 5 for i in range(N)]}
    labels = look("a, b", **columns)
    assert (labels.col, labels.delim) == ("a,b", None)
    assert look("a", **columns).col == "a"
    with pytest.raises(ArgumentError, match="no column 'd'"):
        look("a,d", **columns)


def test_flags_beside_other_columns():
    flags = {"a": flags_of(0), "b": flags_of(1, 2), "c": flags_of(3)}
    with pytest.warns(DataWarning):
        assert look(size=[i / 7 for i in range(N)], id2=[f"x{i}" for i in range(N)], **flags).col == "a,b,c"
    with pytest.raises(ArgumentError, match=r"age \(5 different.*--label-col a,b,c reads these columns of 0/1 as tags"):
        look(age=[i % 5 for i in range(N)], **flags)
    assert look(label=["x", "y"] * 12, **flags).col == "label"  # by its name


def test_two_flags_that_may_be_two_questions_are_asked_about():
    with pytest.raises(ArgumentError, match="a and b are 0/1, two tags or two questions: --label-col a,b"):
        look(a=flags_of(0), b=flags_of(0, 1))


@pytest.mark.parametrize("odd", [None, -1, 2, "maybe"])
def test_a_column_with_another_cell_is_none_of_flags(odd):
    with pytest.raises(ArgumentError, match="several columns"):
        look(a=flags_of(0), b=flags_of(1), c=[odd, *flags_of(2)[1:]])


TWO_WORDS = [
    ["red car", "red bus", "red van", "blue car", "blue bus", "blue van"],
    [f"{a} {b}" for a in ("red", "blue", "green", "white") for b in ("car", "bus", "van", "bike")],
    ["left,up", "left,down", "left,in", "right,up", "right,down", "right,in"],
    [
        "grade 1 left",
        "grade 1 right",
        "grade 2 left",
        "grade 2 right",
        "grade 3 left",
        "grade 3 right",
        "grade 4 left",
        "grade 4 right",
    ],
]


@pytest.mark.parametrize("names", TWO_WORDS)
def test_names_of_as_many_words_each_are_asked_about(names):
    delim = "," if "," in names[0] else " "
    cells = [names[i % len(names)] for i in range(N)]
    with pytest.raises(ArgumentError, match=rf"column kind: each label has \d words .*--label-delim '{delim}' \d tags"):
        look(kind=cells)
    assert look(kind=cells, label_delim="").delim is None
    assert look(kind=cells, label_delim=delim).delim == delim


@pytest.mark.parametrize(
    "names",
    [
        ["golden retriever", "great pyrenees"],
        ["red car", "red bus", "blue car", "blue bus"],
        ["sea lake", "annual crop", "permanent crop", "river"],
        ["hot dog", "cat", "dog house"],
        ["type 1", "type 2", "type 3"],
        ["Quercus alba", "Quercus rubra", "Acer rubrum", "Pinus nigra"],
        ["a/b", "a/c", "d/b", "d/c"],
    ],
)
def test_names_whose_words_do_not_recombine_are_one_label_and_nothing_is_asked(names):
    assert look(kind=[names[i % len(names)] for i in range(N)]).delim is None


@pytest.mark.parametrize("delim", [";", "|", ",", " "])
def test_tags_are_found_where_their_number_varies(delim):
    tags = [["clear"], ["clear", "road"], ["haze"], ["haze", "road"], ["clear", "road", "water"], ["haze", "water"]]
    assert look(kind=[delim.join(tags[i % 6]) for i in range(N)]).delim == delim


def test_pairs_with_another_delimiter_than_blanks_are_tags():
    assert look(kind=["a;b", "a;c", "d;b", "d;c"] * 6).delim == ";"


def test_lists_are_tags_whatever_is_in_them():
    labels = look(label=[("big boat",), ("sea", "big boat"), ()] * 8)
    assert labels.delim is None
    assert "in lists: 2 tags" in labels.why


def test_measures_are_no_classes():
    assert look(kind=["x", "y"] * 12, score=["0.50", "0.75", "1.00"] * 8).col == "kind"


@pytest.mark.parametrize("cells", [[f"{i / 7:.3f}" for i in range(N)], [0.5, 1.5, 2.5]])
def test_measures_by_the_name_of_labels_are_refused(cells):
    cells = [cells[i % len(cells)] for i in range(N)]
    with pytest.raises(LabelError, match=r"column label holds numbers that are not whole, such as 0.*regression"):
        look(label=cells)


def test_versions_are_labels():
    assert "3 classes" in look(label=["1.1", "1.10", "1.20"] * 8).why
    assert "3 classes" in look(label=["1.1", "1.2", "1.3"] * 8).why
    assert "2 classes" in look(label=["sea", "sea\u00a0", "sun", " sun"] * 6).why


def test_rows_that_are_joined_have_a_tag_each():
    labels = find_labels(
        pd.DataFrame({"file": ["a"] * 6, "tag": TWO_WORDS[0]}), {"file"}, Source("t", 2), join_rows=True
    )
    assert (labels.delim, "a tag a row" in labels.why) == (None, True)


@pytest.mark.parametrize(
    "cells", [["['a']", "['a', 'b']", "[]"], ["{a}", "{a,b}", "{b}"], ['["a"]', '["a", "b"]', "[ ]"]]
)
def test_lists_in_brackets_are_asked_about(cells):
    with pytest.raises(ArgumentError, match=r"lists in brackets, such as .*--label-delim ''"):
        look(label=cells * 8)
    assert look(label=cells * 8, label_delim="").delim is None
    assert look(label=[*cells, "plain"] * 6).delim is None


@pytest.mark.parametrize(
    ("cells", "odd"),
    [
        ((1, -1), "not -1"),
        ((0.8, 0.1), "not 0.1"),
        ((3, 0), "not 3"),
        ((1, None), "not an empty cell"),
        (("x", None), "not x"),
    ],
)
def test_columns_that_nearly_are_flags_are_called_so(cells, odd):
    yes, no = cells
    one_hot = {name: [yes if i % 3 == k else no for i in range(N)] for k, name in enumerate("abc")}
    with pytest.raises(ArgumentError, match=rf"if a, b, c are tags, .* write 0 or 1 .*\({odd}\)"):
        look(**one_hot, age=[30 + i % 7 for i in range(N)])


@pytest.mark.parametrize(("yes", "no"), [("yes", "no"), ("TRUE", "FALSE"), ("1.0", "0.0"), ("y", "n")])
def test_flags_in_other_words_are_flags(yes, no):
    one_hot = {name: [yes if i % 3 == k else no for i in range(N)] for k, name in enumerate("abc")}
    with pytest.warns(DataWarning, match="3 columns of 0/1 are read as tags"):
        assert look(**one_hot).col == "a,b,c"


@pytest.mark.parametrize("between", [" + ", "+", "/", " & ", " / ", ";", ", "])
def test_what_stands_between_tags_is_no_tag(between):
    sets = (["a"], ["a", "b"], ["b"], ["c", "a"], ["c"], ["b", "c"])
    found = look(tags=[between.join(sets[i % 6]) for i in range(N)])
    assert found.delim == between.strip()
    assert "made of 3 tags" in found.why


def test_decimals_with_a_comma_are_a_measure():
    with pytest.raises(LabelError, match=r"not whole, such as 0,00: regression .*--label-delim ,"):
        look(angle=[f"{i / 7:.2f}".replace(".", ",") for i in range(N)])
