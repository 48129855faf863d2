"""Cells of a CSV text: only those that are named change, and every other byte stays."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onecycle.data.labels import cells
from onecycle.data.labels.cells import records, with_cells
from onecycle.errors import DataError

TABLE = 'name,"label",note\r\n"a ""1""",cat, x \n\n  \nb,"dog",y,\nc,owl,"two\nlines"'


def values(text, delimiter=","):
    return [[cell.value for cell in row] for row in records(text, delimiter)]


def test_records_are_read_as_the_csv_module_reads_them():
    assert values(TABLE) == [
        ["name", "label", "note"],
        ['a "1"', "cat", " x "],
        ["b", "dog", "y", ""],
        ["c", "owl", "two\nlines"],
    ]


def test_only_the_named_cells_change():
    found = with_cells(TABLE, 1, {0: "owl", 2: 'b"i,g'}, delimiter=",", expected=["cat", "dog", "owl"])
    assert found == TABLE.replace(",cat,", ",owl,").replace("c,owl,", 'c,"b""i,g",')
    assert with_cells(TABLE, 1, {}, delimiter=",", expected=["cat", "dog", "owl"]) == TABLE


def test_a_mark_at_the_beginning_stays():
    found = with_cells("\ufeffn,l\na,x\n", 1, {0: "y"}, delimiter=",", expected=["x"])
    assert found == "\ufeffn,l\na,y\n"


def test_the_last_cell_may_be_empty_and_at_the_end_of_the_text():
    assert with_cells("n;l\na;", 1, {0: "new"}, delimiter=";", expected=[""]) == "n;l\na;new"
    assert with_cells("n,l\na,x", 1, {0: ""}, delimiter=",", expected=["x"]) == "n,l\na,"


@pytest.mark.parametrize("expected", [["cat", "dog"], ["cat", "dog", "emu"]])
def test_two_readers_that_disagree_are_an_error(expected):
    with pytest.raises(DataError, match="cannot be told apart safely"):
        with_cells(TABLE, 1, {0: "owl"}, delimiter=",", expected=expected)


def test_a_row_that_is_too_short_is_named():
    with pytest.raises(DataError, match="row 2 of the table has no cell"):
        with_cells("n,l\na\n", 1, {0: "x"}, delimiter=",", expected=[""])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.text("ab ,;\"'\né", max_size=4)] * 3), min_size=1, max_size=5), st.data())
def test_what_csv_writes_is_read_back_and_changed_in_one_place(rows, data):
    rows = [(f"x{a}", b, c) for a, b, c in rows]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("n", "l", "o"), *rows])
    text = out.getvalue()
    assert [tuple(row) for row in values(text)[1:]] == rows
    i, new = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.text('xy,"\n', max_size=3))
    changed = with_cells(text, 1, {i: new}, delimiter=",", expected=[b for _, b, _ in rows])
    read = list(csv.reader(io.StringIO(changed, newline="")))[1:]
    assert read == [[a, new if j == i else b, c] for j, (a, b, c) in enumerate(rows)]


@settings(max_examples=100, deadline=None)
@given(st.text("ab ,;|\t\r\n\u2028é", max_size=30), st.sampled_from(",;|\t "))
def test_texts_without_quotes_are_read_alike_by_both_ways(text, delimiter):
    assert cells.values(text, delimiter) == values(text, delimiter)
    assert cells.values("#\n" + text, delimiter, 2) == values(text, delimiter)
