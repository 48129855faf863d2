"""Files that are whole under their name, plain JSON, digests."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecycle import files
from onecycle.errors import DiskFullError
from onecycle.files import (
    absolute_name,
    csv_text,
    escaped_cell,
    plain_json,
    short_digest,
    sync_folder,
    unescaped_cell,
    write_whole,
)


def test_a_file_is_written_below_folders_that_are_made(tmp_path):
    write_whole(tmp_path / "a" / "b" / "file.txt", b"text")
    assert (tmp_path / "a" / "b" / "file.txt").read_bytes() == b"text"
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["file.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")

    def fail(handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_bytes() == b"old"


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    there = []
    monkeypatch.setattr(files.os, "fsync", lambda handle: there.append((tmp_path / "file.txt").exists()))
    write_whole(tmp_path / "file.txt", b"text")
    assert there == [False, True]  # the file itself, then the folder with its name


def test_a_file_can_be_read_by_whom_the_umask_says(tmp_path):
    mask = os.umask(0o022)
    try:
        write_whole(tmp_path / "file", b"x")
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


def failing(number: int) -> Callable[[int], None]:
    def sync(handle: int) -> None:
        raise OSError(number, os.strerror(number))  # as the system has it: without a name

    return sync


def test_an_error_of_the_disk_names_the_file_that_was_to_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "fsync", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error") as caught:
        write_whole(tmp_path / "a.txt", b"text")
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(tmp_path / "a.txt"))
    assert not isinstance(caught.value, DiskFullError)


@pytest.mark.parametrize(
    ("number", "why"), [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota"), (errno.EFBIG, "ulimit -f")]
)
def test_a_full_disk_names_file_need_and_room_and_leaves_the_old_file(tmp_path, monkeypatch, number, why):
    path = tmp_path / "a.txt"
    path.write_text("before")
    monkeypatch.setattr(files.os, "fsync", failing(number))
    with pytest.raises(DiskFullError) as caught:
        write_whole(path, bytes(17_000_000))
    error = caught.value
    assert str(error).startswith(f"{path} cannot be written: ")
    for said in (why, "it needs 17 MB", "before are as they were"):
        assert said in str(error)
    assert (error.errno, error.filename, error.needed) == (number, str(path), 17_000_000)
    assert error.free is not None
    assert abs(error.free - shutil.disk_usage(tmp_path).free) < 10**9
    assert (number == errno.EFBIG) != ("free there" in str(error))
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "before"


def test_a_disk_without_room_for_more_files_says_so(tmp_path, monkeypatch):
    no_files = os.statvfs_result((4096, 4096, 100, 50, 50, 10, 0, 0, 0, 255))
    monkeypatch.setattr(files.os, "statvfs", lambda path: no_files)
    monkeypatch.setattr(files.os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(DiskFullError, match="can hold no more files"):
        write_whole(tmp_path / "a.txt", b"text")


def test_the_room_is_looked_at_where_the_folder_would_be_made(tmp_path):
    assert files.free_bytes(tmp_path / "not" / "there") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)


def test_a_folder_that_cannot_be_made_names_the_file(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(DiskFullError, match=r"file\.txt cannot be written: .*it needs 4 bytes"):
        write_whole(tmp_path / "new" / "file.txt", b"text")


FULL = Path("/dev/full")
"""Takes nothing: the device on which every write finds no room."""


@pytest.mark.skipif(not FULL.exists(), reason="a device of Linux")
@pytest.mark.parametrize("n_bytes", [3, 3_000_000], ids=["at the end", "at once"])
def test_chunks_without_room_name_the_file_though_closing_it_fails_too(n_bytes):
    with (
        pytest.raises(DiskFullError, match="/dev/full cannot be written: the disk is full"),
        files.write_chunks(FULL, append=True, n_bytes=n_bytes) as write,
    ):
        write(bytes(n_bytes))


def test_chunks_are_a_new_file_or_go_to_the_end_of_one(tmp_path):
    path = tmp_path / "a"
    for text, append in ((b"one ", False), (b"two", True)):
        with files.write_chunks(path, append=append) as write:
            write(text)
    assert path.read_bytes() == b"one two"
    with pytest.raises(FileExistsError), files.write_chunks(path):
        pass
    with suppress(ConnectionError), files.write_chunks(path, append=True) as write:
        write(b" three")
        raise ConnectionError("gone")
    assert path.read_bytes() == b"one two three"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_file_of_an_unfinished_folder_is_named_as_it_would_be(tmp_path, number):
    kind = DiskFullError if number == errno.ENOSPC else OSError
    with pytest.raises(kind) as caught, files.unfinished(tmp_path, "toy") as new, files.writing(new / "toy" / "a", 7):
        raise OSError(number, os.strerror(number))
    assert caught.value.filename == str(tmp_path / "toy" / "a")
    assert ".unfinished" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_folders_that_killed_processes_left_go_where_the_next_one_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    old, young, other = (tmp_path / f".{name}.unfinished" for name in ("a.12345678", "a.87654321", "b.12345678"))
    for folder in (old, young, other):
        folder.mkdir()
        (folder / "file").write_bytes(b"half")
    for folder in (old, other):
        os.utime(folder, (1, 1))
    with files.unfinished(None, "a") as new:
        assert {p.name for p in tmp_path.iterdir()} == {young.name, other.name, new.name}
    assert not new.exists()


def test_files_that_killed_writers_left_go_and_others_stay(tmp_path):
    names = [".model.safetensors.0123abcd.tmp", ".young.json.0123abcd.tmp", "x.0123abcd.tmp", ".mine.tmp"]
    for name in names:
        (tmp_path / name).touch()
        if "young" not in name:
            os.utime(tmp_path / name, (1, 1))
    files.remove_unfinished(tmp_path)
    files.remove_unfinished(tmp_path / "missing")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names[1:])


def test_a_name_is_claimed_once(tmp_path):
    assert [files.claim(tmp_path / "a") for _ in range(2)] == [True, False]


def test_one_full_disk_is_said_once(tmp_path):
    with (
        pytest.raises(DiskFullError, match="inner cannot"),
        files.writing(tmp_path / "outer"),
        files.writing(tmp_path / "inner", 7),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_link_that_somebody_put_beside_a_file_is_not_written_through(tmp_path):
    """The name beside the file is drawn, so that nobody can foresee it; one that is there by chance is refused."""
    outside = tmp_path / "outside"
    outside.write_text("theirs")
    (tmp_path / f".a.txt.{os.getpid()}.tmp").symlink_to(outside)
    write_whole(tmp_path / "a.txt", b"ours")
    assert (outside.read_text(), (tmp_path / "a.txt").read_text()) == ("theirs", "ours")


def test_a_taken_name_beside_a_file_is_refused(tmp_path, monkeypatch):
    outside = tmp_path / "outside"
    outside.write_text("theirs")
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "x")
    (tmp_path / ".a.txt.x.tmp").symlink_to(outside)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "a.txt", b"ours")
    assert outside.read_text() == "theirs"
    assert (tmp_path / ".a.txt.x.tmp").is_symlink()


def test_paths_are_made_absolute_and_no_name_stays_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"": "", "a/b.png": f"{tmp_path}/a/b.png", "./b.png": f"{tmp_path}/b.png", "/x/./y": "/x/./y"}
    assert {name: absolute_name(name) for name in names} == names


@given(st.text() | st.text("'=+-@\t\r\n1a.", max_size=8))
def test_any_cell_comes_back_and_none_that_is_written_is_run(text):
    escaped = escaped_cell(text)
    assert unescaped_cell(escaped) == text
    assert escaped in (text, f"'{text}")
    if escaped[:1] in tuple("=+-@\t\r\n"):
        float(escaped.replace(",", ""))  # a number


@pytest.mark.parametrize("text", ["-0.5", "+3", "-1e-05", "-1,234.5", "-inf", "-.5", "", "a=b", "a-b", "'a"])
def test_numbers_and_plain_texts_stay_as_they_are(text):
    assert escaped_cell(text) == text


def test_a_table_for_spreadsheets_escapes_texts_and_no_numbers():
    assert csv_text([("file", "=n"), ("-a.jpg", -0.5)], raw=False) == "file,'=n\n'-a.jpg,-0.5\n"
    assert csv_text([("file", "=n"), ("-a.jpg", -0.5)]) == "file,=n\n-a.jpg,-0.5\n"
