"""Tables as people have them: delimiters, ragged rows, comments, numbers that are names."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onecycle.data.labels.read import likely_delimiter, no_table, read_label_csv, read_table, read_text
from onecycle.errors import DataError

PLAIN = [["p0.jpg", "red"], ["p1.jpg", "green"], ["p2.jpg", "red"], ["p3.jpg", "green"]]


def written(path: Path, text: str, name: str = "labels.csv") -> Path:
    (path / name).write_bytes(text.encode())
    return path / name


def rows(sep: str) -> str:
    return "".join(f"{name}{sep}{label}\n" for name, label in PLAIN)


@pytest.mark.parametrize(
    "text",
    [
        "file,label\n" + rows(","),
        "file;label\n" + rows(";"),
        "file\tlabel\n" + rows("\t"),
        "file|label\n" + rows("|"),
        "file label\n" + rows(" "),
        "file    label  \n" + rows("  \t "),
        "sep=;\nfile;label\n" + rows(";"),
        '"sep=;"\r\nfile;label\r\n' + rows(";").replace("\n", "\r\n"),
        "SEP=|\nfile|label\n" + rows("|"),
        "sep=\\t\nfile\tlabel\n" + rows("\t"),
        "sep=\t\nfile\tlabel\n" + rows("\t"),
        "sep=,\nfile,label\n" + rows(","),
        "\ufeffsep=;\nfile;label\n" + rows(";"),
        "# made 2024\nfile,label\n" + rows(","),
        "# made 2024, by me\nfile,label\n" + rows(","),
        "# a\n\n#b; c\nfile;label\n" + rows(";"),
        "sep=;\n# a\nfile;label\n" + rows(";"),
        "\n\nfile,label\n\n" + rows(","),
        "file, label\n" + "".join(f'"{name}", "{label}"\n' for name, label in PLAIN),
        "file,label,\n" + "".join(f"{name},{label},\n" for name, label in PLAIN),
        "file,label\n" + "".join(f"{name},{label},,\n" for name, label in PLAIN),
        ("file,label\n" + rows(",")).replace("\n", "\r"),
        ("file,label\n" + rows(",")).rstrip(),
    ],
)
def test_the_same_table_in_other_clothes(tmp_path, text):
    frame = read_table(written(tmp_path, text)).frame
    assert frame.columns.tolist() == ["file", "label"]
    assert frame.to_numpy().tolist() == PLAIN


def test_only_what_is_unusual_is_said(tmp_path):
    assert read_table(written(tmp_path, "file,label\n" + rows(","))).notes == ()
    assert read_table(written(tmp_path, "file\tlabel\n" + rows("\t"), "labels.tsv")).notes == ()
    said = dict(read_table(written(tmp_path, "sep=;\n# x\nfile;label\n" + rows(";"))).notes)
    assert "separated by ';', as its line sep= says (delimiter=)" in said["cells"]
    assert said["left out"] == "1 comment line above the names: # x"


def test_a_delimiter_that_is_said_is_taken(tmp_path):
    table = written(tmp_path, "file;x,label\na;1,red\nb;2,green\n")
    assert read_table(table, delimiter=",").frame.columns.tolist() == ["file;x", "label"]
    assert read_table(table, delimiter=";").frame.columns.tolist() == ["file", "x,label"]
    assert read_table(table, delimiter=";").notes == ()
    assert read_label_csv(written(tmp_path, "a  b\n1  2\n"), delimiter=r"\s+").columns.tolist() == ["a", "b"]


def test_a_tsv_has_tabs_unless_it_has_none(tmp_path):
    tags = written(tmp_path, "file\ttags\na\tx,y\nb\tz,x\n", "a.tsv")
    assert read_table(tags).frame["tags"].tolist() == ["x,y", "z,x"]
    assert read_table(written(tmp_path, "file,tags\na,x\n", "b.tsv")).frame.columns.tolist() == ["file", "tags"]
    assert read_table(tags, delimiter=r"\t").frame.shape == (2, 2)


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("file;label\na;x,y\nb;x,y,z\n", ";"),  # tags with the other delimiter
        ("file,label\na,x;y\nb,x;y;z\n", ","),
        ("file;width;label\na;3,5;x\nb;4,25;y\n", ";"),  # a decimal comma
        ('file,label\na,"x;y;z"\nb,"x,y"\n', ","),
        ("file,cat|dog\na,1\nb,0\n", ","),
        ("file label,tags\na b.jpg,x y\n", ","),
        ("file\na.jpg\nb c.jpg\n", ","),  # one column
        ("image file\na.jpg\nb.jpg\n", ","),
        ("file,tags\na,x,y\nb,z\n", ","),  # ragged
    ],
)
def test_the_delimiter_is_the_one_that_fits_the_rows(text, delimiter):
    assert likely_delimiter(text) == delimiter


def test_a_header_may_begin_with_a_hash(tmp_path):
    assert read_table(written(tmp_path, "#file,label\n" + rows(","))).frame.columns.tolist() == ["#file", "label"]
    assert read_table(written(tmp_path, "#,label\n7,red\n8,red\n")).frame.columns.tolist() == ["#", "label"]
    assert read_label_csv(written(tmp_path, "#1.jpg,red\n#2.jpg,red\n"), header=None).shape == (2, 2)
    assert read_label_csv(written(tmp_path, "# a\nfile,label\nx,y\n"), header=1).columns.tolist() == ["file", "label"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,tags\na,x,y,z\nb,x\n", "4 cells at row 2 .*a, x, y, z.*2 columns .*1 of 2 rows.*label_delim=','"),
        ("file,tags\na,x\nb,x,y\nc,x,y\n", "3 cells at row 3 .*2 of 3 rows have more"),
        ("file,label\na,x,e1\nb,y,e2\n", "3 cells at row 2 .*2 of 2"),
        ("file;label;site\na;x;n;7\n", "4 cells at row 2 .*';' the right delimiter"),
        ('file,label\na,"x\nb,y\n', "quote .* in line 2 never ends"),
    ],
)
def test_rows_that_do_not_fit_the_header_are_named(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        read_table(written(tmp_path, text))


@pytest.mark.parametrize("text", ["# only a comment\n", "sep=;\n", "#a,b\n", "sep=,\n# x\n\n"])
def test_a_table_of_comments_alone_is_named(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match="holds nothing but comments: expected a first line with the names"):
        read_table(tmp_path / "t.csv")


def test_the_cells_that_are_too_many_are_tags_where_that_is_said(tmp_path):
    table = written(tmp_path, 'file,tags\na,x,y,z\nb,x\nc,"x,y"\nd\n')
    assert read_table(table, tags_delim=",").frame["tags"].tolist()[:3] == ["x,y,z", "x", "x,y"]
    assert read_table(table, tags_delim=",").frame["tags"].isna().tolist() == [False, False, False, True]


def test_a_row_with_too_few_cells_has_empty_ones(tmp_path):
    frame = read_table(written(tmp_path, "file,label,site\na,x\nb,y,n\n")).frame
    assert frame["site"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    "cells",
    [
        ["1.10", "1.1", "1.20"],
        ["4e10", "4e11", "5e1"],
        ["0e1", "0e2", "0e3"],
        ["007", "7", "70"],
        ["0", "1", ""],
        ["1.0", "2.0", "3.0"],
        ["0x1f", "1_000", "1,5"],
        ["+1", "2", "3"],
        ["-0", "x", "1"],
        [" 1", "2 ", "3"],
        ["12345678901234567890123", "1", "2"],
        ["nan", "inf", "1"],
        ["NA", "None", "null"],
        ["True", "false", "1"],
        ["2024-01-01", "1/2", "3%"],
    ],
)
def test_cells_stay_the_text_that_they_are(tmp_path, cells):
    out = io.StringIO()
    csv.writer(out).writerows([["id", "label"], *([cell, "x"] for cell in cells)])
    frame = read_table(written(tmp_path, out.getvalue())).frame
    assert ["" if pd.isna(cell) else cell for cell in frame["id"]] == cells


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.text("ab1 .,;|\t'\"#é", max_size=5), min_size=2, max_size=2), min_size=1, max_size=6),
    st.sampled_from(",;|\t"),
)
def test_what_csv_writes_is_read_back(tmp_path_factory, cells, sep):
    out = io.StringIO()
    csv.writer(out, delimiter=sep, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([["file", "label"], *cells])
    path = written(tmp_path_factory.mktemp("t"), out.getvalue())
    for delimiter in (sep, None):
        frame = read_label_csv(path, delimiter=delimiter).astype(object)
        read = [["" if pd.isna(c) else str(c) for c in row] for row in frame.to_numpy().tolist()]
        assert read == cells


def test_whole_numbers_alone_are_numbers(tmp_path):
    frame = read_table(written(tmp_path, "id,n,m\n0,-3,1\n1,20,\n")).frame
    assert [pd.api.types.is_integer_dtype(frame[c]) for c in frame] == [True, True, False]


@pytest.mark.parametrize(("names", "read"), [("a,a,a", ["a", "a.1", "a.2"]), (",x, y ", ["Unnamed: 0", "x", "y"])])
def test_names_of_columns_are_trimmed_and_none_is_there_twice(tmp_path, names, read):
    assert read_table(written(tmp_path, f"{names}\n1,2,3\n")).frame.columns.tolist() == read


@pytest.mark.parametrize("data", ["file,grün\n".encode("cp1252"), b"file,\x00\xff\n"])
def test_another_encoding_is_called_so(tmp_path, data):
    (tmp_path / "labels.csv").write_bytes(data)
    with pytest.raises(DataError, match=r"could not be read as a table .*encoding UTF-8"):
        read_text(tmp_path / "labels.csv")


def test_a_header_beyond_the_end_is_named(tmp_path):
    with pytest.raises(DataError, match="2 rows, so row 5 cannot name its columns"):
        read_label_csv(written(tmp_path, "a,b\n1,2\n"), header=5)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(b"file,label\n", mtime=0), "compressed"),
        (b"PK\x03\x04\x14\x00", "an Excel workbook or an archive"),
        (b"\xd0\xcf\x11\xe0\xa1", "an Excel workbook"),
        ("file\tlabel\n".encode("utf-16"), "in the encoding UTF-16"),
        ("\ufefffile\tlabel\n".encode("utf-16-be"), "in the encoding UTF-16"),
        (b"PAR1\x15\x04", "give its name the ending .parquet"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "Git LFS"),
        (b"\n<!DOCTYPE html>\n<html>", "a web page"),
        (b'{"file_name": "a.jpg", "label": "b"}\n', "JSON"),
        (b'[\n  {"file": "a.jpg"}]', "JSON"),
    ],
)
def test_what_is_no_table_is_called_what_it_is(tmp_path, content, said):
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=f"labels.csv is .*{said}"):
        read_table(tmp_path / "labels.csv")
    assert said in no_table(tmp_path / "labels.csv")
