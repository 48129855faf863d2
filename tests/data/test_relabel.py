"""Edited labels read back: what changes, what stays, and every mistake with its row."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.relabel import with_new_classes
from onecycle.errors import DataError, LabelError
from onecycle.files import csv_text, name_below

OPTIONS: dict[str, Any] = {"folder": "train", "suffix": ".jpg", "size": 16}
HEADER = "file,given,suggested,score,new_label\n"
TAG_HEADER = "file,tag,given,suggested,score,new_label\n"


@pytest.fixture
def data(colour_path: Path) -> ImageDataBunch:
    return ImageDataBunch.from_csv(colour_path, **OPTIONS)


@pytest.fixture
def tagged(colour_path: Path) -> ImageDataBunch:
    return ImageDataBunch.from_csv(colour_path, csv_labels="tags.csv", label_delim=" ", **OPTIONS)


def table(folder: Path, text: str) -> Path:
    path = folder / "issues.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_filled_cells_change_labels_and_nothing_else(data, tmp_path, capsys):
    csv = table(
        tmp_path,
        HEADER
        + "train/p000.jpg,red,blue,0.01,blue\ntrain/p001.jpg,green,red,0.02,\ntrain/p002.jpg,blue,red,0.1, red \n",
    )
    new = data.relabel(csv)
    assert capsys.readouterr().out == "2 of 60 pictures have new labels here; no file was changed.\n"
    names = [str(new.labels.label(i)) for i in range(60)]
    assert names[:4] == ["blue", "green", "red", "red"]
    assert names[3:] == [str(data.labels.label(i)) for i in range(3, 60)]
    assert str(data.labels.label(0)) == "red", "the old bunch is as it was"
    assert new.split is data.split
    assert new.store is data.store
    position = int(np.flatnonzero(new.split.train == 0)[0]) if 0 in new.split.train else None
    part = new.train_ds if position is not None else new.valid_ds
    rows = new.split.train if position is not None else new.split.valid
    assert str(part.label(int(np.flatnonzero(rows == 0)[0]))) == "blue"


def test_tags_are_changed_one_by_one(tagged, tmp_path, capsys):
    csv = table(
        tmp_path,
        TAG_HEADER
        + "train/p000.jpg,even,yes,no,0.1,no\ntrain/p000.jpg,blue,no,yes,0.2,1\ntrain/p001.jpg,red,no,yes,0.3,\n",
    )
    new = tagged.relabel(csv)
    assert str(new.labels.label(0)) == "blue;red"
    assert str(new.labels.label(1)) == "green"
    assert "1 of 60 pictures" in capsys.readouterr().out


def test_a_spreadsheets_file_is_read(data, tmp_path):
    csv = tmp_path / "edited.csv"
    csv.write_text("file;given;new_label\r\ntrain/p000.jpg;red;blue\r\n", encoding="utf-8-sig")
    assert str(data.relabel(csv, delimiter=";").labels.label(0)) == "blue"
    with pytest.raises(DataError, match=r"has no column 'file'.*delimiter=';'"):
        data.relabel(csv)


def test_numbers_stay_the_classes_they_are(colour_path, tmp_path):
    files = [colour_path / "train" / f"p{i:03d}.jpg" for i in range(6)]
    data = ImageDataBunch.from_lists(tmp_path, files, [1, 2, 3, 1, 2, 3], valid_pct=0.5, stratify=True)
    csv = table(tmp_path, f"file,new_label\n{files[0].as_posix()},3\n{files[1].as_posix()},\n")
    new = data.relabel(csv)
    assert new.labels.label(0).obj == 3
    assert new.labels.label(1).obj == 2


def test_a_picture_listed_twice_gets_the_label_in_both_rows(colour_path, tmp_path, capsys):
    files = [colour_path / "train" / f"p{i:03d}.jpg" for i in (0, 1, 2, 0)]
    with pytest.warns(UserWarning, match="listed more than once"):
        data = ImageDataBunch.from_lists(colour_path, files, ["a", "b", "a", "b"], valid_pct=0.0)
    csv = table(tmp_path, "file,new_label\ntrain/p000.jpg,b\n")
    with pytest.warns(UserWarning, match="listed more than once"):
        new = data.relabel(csv)
    assert [str(new.labels.label(i)) for i in range(4)] == ["b", "b", "a", "b"]
    assert "1 of 4 pictures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ("train/p000.jpg,red,blue,0.1,bleu\n", LabelError, r"row 2 .*: 'bleu' is not one .*'blue'"),
        ("train/p000.jpg,red,,,\nnone.jpg,red,,,blue\n", DataError, r"does not have, at row 3 .*'none.jpg'"),
        ("train/p000.jpg,blue,,,green\n", LabelError, r"row 2 .*'train/p000.jpg' was 'blue', and it is red now"),
        (
            "train/p000.jpg,red,,,green\ntrain/p000.jpg,red,,,blue\n",
            LabelError,
            "'train/p000.jpg' gets two different labels, at rows 2, 3",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_row(data, tmp_path, rows, error, words):
    with pytest.raises(error, match=words):
        data.relabel(table(tmp_path, HEADER + rows))


def test_mistakes_in_tags_are_named_with_their_row(tagged, tmp_path):
    for rows, words in (
        ("train/p000.jpg,even,yes,no,0.1,maybe\n", r"row 2 .*yes or no for a tag; received .maybe."),
        ("train/p000.jpg,evn,yes,no,0.1,no\n", r"'evn' is not one of the 4 tags; did you mean 'even'"),
        ("train/p000.jpg,even,yes,,,no\ntrain/p000.jpg,even,yes,,,yes\n", "two different labels for 'even'"),
        ("train/p001.jpg,even,yes,,,yes\n", "was 'yes', and it is no now"),
    ):
        with pytest.raises(LabelError, match=words):
            tagged.relabel(table(tmp_path, TAG_HEADER + rows))
    with pytest.raises(DataError, match="has no column 'tag'"):
        tagged.relabel(table(tmp_path, HEADER))
    with pytest.raises(DataError, match="there is no such file"):
        tagged.relabel(tmp_path / "nothing.csv")


def test_the_same_table_twice_is_the_same(data, tmp_path, capsys):
    csv = table(tmp_path, HEADER + "train/p000.jpg,red,blue,0.01,blue\n")
    again = data.relabel(csv).relabel(csv)
    assert str(again.labels.label(0)) == "blue"
    assert "0 of 60 pictures" in capsys.readouterr().out


def test_a_whole_path_has_one_name_however_the_folder_is_named(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    for root in (Path("set"), Path("link"), tmp_path / "set", tmp_path / "link"):
        for path in (f"{root}/train/a.png", f"{tmp_path}/set/train/a.png", f"{tmp_path}/link/train/a.png"):
            assert name_below(path, root) == "train/a.png"
        assert name_below("/far/a.png", root) == "/far/a.png"
    assert name_below("b/../set/a.png", Path("b")) == "../set/a.png"


ODD_NAMES = ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0", "''=x", "+1+1", "@SUM(1)", "'plain", "-5", "-a", "＝x")


@pytest.mark.parametrize("raw", [False, True])
def test_names_that_a_spreadsheet_would_run_come_back_as_they_are(raw, colour_path, tmp_path):
    """Written with apostrophes or without; two classes differ by the apostrophe alone."""
    files = [colour_path / "train" / f"p{i:03d}.jpg" for i in range(2 * len(ODD_NAMES))]
    data = ImageDataBunch.from_lists(colour_path, files, [*ODD_NAMES, *ODD_NAMES], valid_pct=0.0)
    others = [*ODD_NAMES[1:], ODD_NAMES[0]]
    rows = [
        (name_below(str(f), colour_path), b, a, "0.1", a) for f, b, a in zip(files, ODD_NAMES, others, strict=False)
    ]
    csv = table(tmp_path, csv_text([("file", "given", "suggested", "score", "new_label"), *rows], raw=raw))
    new = data.relabel(csv)
    assert [str(new.labels.label(i)) for i in range(len(ODD_NAMES))] == others


def test_a_new_class_that_a_spreadsheet_would_run_loses_its_apostrophe(data, tmp_path):
    csv = table(tmp_path, HEADER + "train/p000.jpg,red,blue,0.01,'=new\n")
    assert with_new_classes(data.labels, csv).classes[-1] == "=new"


def test_pictures_whose_names_a_spreadsheet_would_run_are_found(colour_path, tmp_path):
    for name in ("=a.jpg", "'=b.jpg", "-c.jpg"):
        shutil.copy(colour_path / "train" / "p000.jpg", tmp_path / name)
    files = [tmp_path / name for name in ("=a.jpg", "'=b.jpg", "-c.jpg")]
    data = ImageDataBunch.from_lists(tmp_path, files, ["x", "y", "x"], valid_pct=0.0)
    for raw in (False, True):
        csv = table(tmp_path, csv_text([("file", "new_label"), *((f.name, "y") for f in files)], raw=raw))
        assert [str(data.relabel(csv).labels.label(i)) for i in range(3)] == ["y"] * 3
