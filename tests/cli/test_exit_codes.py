"""What a failed command says and exits with, whatever went wrong."""

from __future__ import annotations

import copy
import errno
import pickle
import sys
import warnings

import pytest

from onecycle import errors
from onecycle.cli import main as cli
from onecycle.cli.exit_codes import error_text, exit_code, in_lines
from onecycle.train.checkpoint import read_weights


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ArgumentError("x"), 2),
        (errors.LabelError("x"), 3),
        (errors.UnreadableImagesError("x"), 3),
        (errors.DownloadError("x"), 3),
        (errors.CheckpointError("x"), 3),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.csv"), 3),
        (errors.OutOfMemoryError("x"), 4),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), 4),
        (OSError(errno.ENOSPC, "No space left on device"), 4),
        (errors.ArchiveError("x"), 5),
        (errors.UnsafeFileError("x"), 5),
        (errors.OutputError("x"), 4),
        (errors.DiskFullError("x"), 4),
        (KeyboardInterrupt(), 130),
        (errors.DivergedError("x"), 1),
        (ZeroDivisionError("x"), 1),
    ],
)
def test_each_kind_of_error_has_its_code(error, code):
    assert exit_code(error) == code


def test_every_error_of_onecycle_has_a_code_of_its_own_kind():
    """A new error class falls under one of the kinds, or is a failed run on purpose."""
    kinds = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.OnecycleError)]
    failed = {"OnecycleError", "DivergedError", "ExportError", "OutOfScopeError"}
    assert {c.__name__ for c in kinds if exit_code(c("x")) == 1} == failed


def test_the_text_names_the_file_of_a_system_error():
    assert "runs/x" in error_text(PermissionError(errno.EACCES, "Permission denied", "runs/x"))
    assert "--bs" in error_text(MemoryError())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_says_where_and_what_to_do(number):
    error = OSError(number, "No space left on device", "/small/x-001/model/model.safetensors")
    text = " ".join(error_text(error).split())
    assert exit_code(error) == 4
    assert "/small/x-001/model/model.safetensors" in text
    assert "Free some room there" in text
    assert "--out" in text
    assert "Free some" not in error_text(PermissionError(errno.EACCES, "Permission denied", "runs/x"))


def test_advice_for_python_alone_is_left_out(tmp_path):
    with pytest.raises(errors.CheckpointError, match=r"Save one first with learn.save\('a'\)") as caught:
        read_weights(tmp_path / "a")
    assert error_text(caught.value) == in_lines(f"error: there is no {tmp_path / 'a'}; nothing is saved there.")
    for again in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert (str(again), again.what) == (str(caught.value), caught.value.what)
    both = errors.OutputError("no room", "learn.path = …")
    assert (str(both), both.what, both.errno) == ("no room learn.path = …", "no room", None)


def test_a_defect_is_named_as_one():
    text = error_text(ZeroDivisionError("by zero"))
    assert "defect" in text
    assert "--debug" in text


def test_no_control_character_gets_through(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    text = in_lines("error: \x1b[31mred.jpg\x1b[0m\nsecond \x07line " + "word " * 40)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert max(map(len, text.splitlines())) <= 60


def test_a_command_to_copy_stays_in_one_line():
    command = "`onecycle train --resume runs/some-pictures-of-mine-001`"
    for n in range(30):
        lines = in_lines(f"{'x ' * n}go on with {command}, or not").splitlines()
        assert any(command in line for line in lines)


def run(monkeypatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["onecycle", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


@pytest.fixture(autouse=True)
def _own_warnings():
    with warnings.catch_warnings():
        yield


def test_an_error_is_one_message_without_a_traceback(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "check", str(tmp_path / "nowhere")) == 3
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said


def test_debug_may_stand_anywhere_and_shows_the_traceback(monkeypatch, capsys):
    for words in (["--debug", "check", "nowhere"], ["check", "nowhere", "--debug"]):
        assert run(monkeypatch, *words) == 3
        said = capsys.readouterr().err
        assert "Traceback" in said
        assert "onecycle.errors.DataError: expected a folder" in said


def test_a_misspelt_option_names_the_near_one(monkeypatch, capsys):
    assert run(monkeypatch, "check", ".", "--label-delimm", " ") == 2
    assert "--label-delim" in capsys.readouterr().err


def test_a_defect_ends_in_one_message(monkeypatch, capsys):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("somewhere")

    monkeypatch.setattr("onecycle.data.pixels.cache.listing_text", broken)
    assert run(monkeypatch, "cache") == 1
    assert "ZeroDivisionError: somewhere" in " ".join(capsys.readouterr().err.split())


def test_a_warning_is_a_sentence(monkeypatch, capsys):
    def warning(**_: object) -> str:
        warnings.warn("labels look odd", errors.DataWarning, stacklevel=1)
        return "done"

    monkeypatch.setattr("onecycle.data.pixels.cache.listing_text", warning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(sys, "argv", ["onecycle", "cache"])
        with pytest.raises(SystemExit):
            cli.main()
    assert capsys.readouterr().err == "warning: labels look odd\n"
