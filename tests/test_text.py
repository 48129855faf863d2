"""Text that fits: columns, counts, short lists, widths of a terminal."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from rich.cells import cell_len

import onecycle
from onecycle.text import (
    aligned,
    by_place,
    command_line_words,
    cut,
    format_time,
    human_bytes,
    option,
    padded,
    plural,
    safe_text,
    shown,
    shown_path,
    wrapped,
)

HOSTILE = "a\x1b[31mred\x1b[0m\x00\u202e\r\nb\tc"


def test_columns_are_as_wide_as_their_widest_cell():
    rows = [["stage", "size", "n"], ["1 head", "224 px", "20"], ["2 all layers", "9 px", "4"]]
    assert aligned(rows) == ["stage         size    n", "1 head        224 px  20", "2 all layers  9 px    4"]
    assert aligned(rows, "<>") == ["stage           size   n", "1 head        224 px  20", "2 all layers    9 px   4"]


def test_rows_that_come_one_by_one_stand_below_each_other():
    head, row = (aligned([cells], ">", least=(9, 6))[0] for cells in (["epoch", "loss", "time"], ["1", "0.1", "3 s"]))
    assert head == "    epoch    loss  time"
    assert row == "        1     0.1  3 s"
    assert aligned([["longer than that", "x"]], least=(4,)) == ["longer than that  x"]


def test_columns_count_what_the_screen_shows():
    lines = aligned([["東京", "1"], ["ab", "22"]], "<>")
    assert lines == ["東京   1", "ab    22"]
    assert {cell_len(line) for line in lines} == {8}


def test_no_rows_are_no_lines():
    assert aligned([]) == []


@pytest.mark.parametrize(("n", "text"), [(0, "0 classes"), (1, "1 class"), (2, "2 classes"), (1234, "1,234 classes")])
def test_a_count_has_its_noun(n, text):
    assert plural(n, "class", "classes") == text
    assert plural(n, "row") == text.replace("classes", "rows").replace("class", "row")


def test_of_a_long_list_the_first_few_are_shown():
    assert shown([]) == ""
    assert shown("abc", most=3) == "a, b, c"
    assert shown("abcd", most=2, between="; ") == "a; b; and 2 more"
    assert shown(range(2020)).endswith("18, 19, and 2,000 more")


def test_text_from_outside_is_safe_to_show():
    plain = safe_text(HOSTILE)
    assert plain.isprintable()
    assert "\x1b" not in plain
    assert safe_text("über 東京 😀 a b") == "über 東京 😀 a b"


def test_text_is_cut_padded_and_wrapped_by_columns():
    assert cut("a_very_long_name_0042.jpg", 10) == "…_0042.jpg"
    assert cut("short", 10) == "short"
    assert cell_len(padded("東", 5)) == 5
    assert wrapped("one two three", 8) == ["one two", "three"]
    assert wrapped("", 8) == [""]
    assert all(cell_len(line) <= 8 for line in wrapped("東京" * 9 + " a", 8))


def test_sizes_paths_and_times_are_written_as_people_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    sizes = [human_bytes(n) for n in (0, 999, 1500, 150_000_000, 2_500_000_000)]
    assert sizes == ["0 bytes", "999 bytes", "2 kB", "150 MB", "2.5 GB"]
    assert shown_path(tmp_path / "x") == f"~{os.sep}x"
    assert shown_path("/elsewhere\udcff") == "/elsewhere?"
    assert [format_time(s) for s in (0, 75.9, 3599, 36610)] == ["00:00", "01:15", "59:59", "10:10:10"]


@pytest.mark.parametrize(
    ("name", "value", "command", "python"),
    [
        ("group_col", None, "--group-col", "group_col="),
        ("valid_pct", 0.2, "--valid-pct 0.2", "valid_pct=0.2"),
        ("join_rows", True, "--join-rows", "join_rows=True"),
        ("label_delim", ";", "--label-delim ';'", "label_delim=';'"),
        ("split_col", "", "--split-col ''", "split_col=''"),
        ("label_col", "it's", """--label-col 'it'"'"'s'""", """label_col="it's\""""),
    ],
)
def test_a_setting_is_named_in_the_words_of_the_place(name, value, command, python):
    assert option(name, value) == python
    with command_line_words():
        assert option(name, value) == command
        assert by_place("here", "there") == "here"
    assert by_place("here", "there") == "there"


def test_no_message_names_a_setting_in_the_words_of_both_places():
    both = re.compile(r"--([a-z]+(?:-[a-z]+)*) *\((?:or )?[a-z_]+=|[a-z_]+=[^\s,;]* *\((?:or )?--[a-z]")
    assert both.search("draw it by --group-col (group_col=)")
    sources = Path(onecycle.__file__).parent.rglob("*.py")
    assert [f"{p.name}: {m.group()}" for p in sources for m in both.finditer(p.read_text(encoding="utf-8"))] == []


def test_an_error_leaves_the_words_of_python_as_they_were():
    with pytest.raises(KeyError), command_line_words():
        raise KeyError
    assert option("bs", 2) == "bs=2"
