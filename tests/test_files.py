"""Files that are whole under their name, plain JSON, digests."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from onecycle import files
from onecycle.files import absolute_name, csv_text, plain_json, replace_whole, short_digest, sync_folder, write_whole


def test_a_file_is_written_below_folders_that_are_made(tmp_path):
    write_whole(tmp_path / "a" / "b" / "file.txt", b"text")
    assert (tmp_path / "a" / "b" / "file.txt").read_bytes() == b"text"
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["file.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")

    def fail(beside: Path) -> None:
        beside.write_bytes(b"ha")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_whole(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_bytes() == b"old"


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    there = []
    monkeypatch.setattr(files.os, "fsync", lambda handle: there.append((tmp_path / "file.txt").exists()))
    write_whole(tmp_path / "file.txt", b"text")
    assert there == [False, True]  # the file itself, then the folder with its name


def test_a_file_can_be_read_by_whom_the_umask_says(tmp_path):
    def owner_only(beside: Path) -> None:
        beside.write_bytes(b"x")
        beside.chmod(0o600)

    mask = os.umask(0o022)
    try:
        replace_whole(tmp_path / "file", owner_only)
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path):
    sync_folder(tmp_path)
    sync_folder(tmp_path / "missing")


def test_values_become_what_json_can_hold():
    value = {
        1: math.nan,
        "inf": [math.inf, -math.inf, 0.5],
        "numpy": (np.float32(0.5), np.int64(3), np.array([[1, 2]]), np.float64("nan"), np.bool_(True)),
        "path": Path("x"),
        "rest": [None, True, "text"],
    }
    plain = plain_json(value)
    assert plain == {
        "1": None,
        "inf": [None, None, 0.5],
        "numpy": [0.5, 3, [[1, 2]], None, True],
        "path": "x",
        "rest": [None, True, "text"],
    }
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert short_digest({"a": 1, "b": 2}) == short_digest({"b": 2, "a": 1})
    assert short_digest({"a": 1}) != short_digest({"a": 2})
    assert len(short_digest([])) == 16


def test_rows_become_the_text_of_a_table():
    assert csv_text([("file", "n"), ('a "b", c', 1), ("", None)]) == 'file,n\n"a ""b"", c",1\n,\n'
    assert csv_text([]) == ""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_an_error_of_the_disk_names_the_file_that_was_to_be_written(tmp_path, number):
    def write(_: Path) -> None:
        raise OSError(number, "no room")  # as write() has it: without a name

    (tmp_path / "a.txt").write_text("before")
    with pytest.raises(OSError, match="no room") as caught:
        replace_whole(tmp_path / "a.txt", write)
    assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / "a.txt"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "before"


def test_paths_are_made_absolute_and_no_name_stays_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"": "", "a/b.png": f"{tmp_path}/a/b.png", "./b.png": f"{tmp_path}/b.png", "/x/./y": "/x/./y"}
    assert {name: absolute_name(name) for name in names} == names
