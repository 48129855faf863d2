"""What is shown: widths, wide characters, hostile names, JSON, quiet, warnings, the log."""

from __future__ import annotations

import io
import json
import re
import warnings

import pytest
from rich.cells import cell_len

from onecycle.cli.screen import Screen
from onecycle.errors import DataWarning, warn
from onecycle.text import cut, safe_text, wrapped
from onecycle.train.log.recorder import EpochRow

HOSTILE = "\x1b[31mred\x1b[0m \x07\r\n\u202egnp.exe\u202c \x9b2J\x00\udcff"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def made(**how) -> tuple[Screen, io.StringIO, io.StringIO]:
    out, err = how.pop("stream", io.StringIO()), io.StringIO()
    return Screen(stream=out, errors=err, **how), out, err


def test_nothing_that_acts_on_a_terminal_gets_through():
    plain = safe_text(HOSTILE)
    assert plain.isprintable()
    assert "red" in plain
    plain.encode("utf-8")
    assert safe_text("über 東京 😀 a b") == "über 東京 😀 a b"


@pytest.mark.parametrize("width", [7, 20, 80])
@pytest.mark.parametrize("text", ["a bb ccc dddd " * 9, "x" * 100, "東京タワー " * 12, ""])
def test_lines_are_no_wider_than_asked(text, width):
    lines = wrapped(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_names_are_cut_at_their_start():
    assert cut("short", 10) == "short"
    assert cut("a_very_long_name_0042.jpg", 10) == "…_0042.jpg"
    assert cell_len(cut("東京" * 20, 9)) <= 9


@pytest.mark.parametrize("columns", [80, 200, 40])
def test_rows_fit_the_width(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    screen, out, _ = made(stream=Terminal())
    screen.row("label", "東京 words and words " * 30)
    screen.say("words " * 100)
    screen.line("x" * 500)
    screen.table([(screen.cut("n" * 300, 20), "y" * 300)])
    shown = re.sub(r"\x1b\[\d*m", "", out.getvalue())
    widths = [cell_len(line) for line in shown.splitlines()]
    assert max(widths) <= min(columns, 100)
    assert max(widths) > min(columns, 100) - 12
    assert shown.startswith("label     東京")


def test_another_program_gets_every_line_and_name_whole(tmp_path):
    for how in ({}, {"quiet": True}):
        screen, out, _ = made(**how)
        with screen.running():
            screen.log_to(tmp_path / "log.txt")
            screen.line("x" * 500, always=True)
            screen.table([(screen.cut("東京" * 99, 10), "y" * 300)], always=True)
        lines = ["x" * 500, f"{'東京' * 99}  {'y' * 300}"]
        assert out.getvalue().splitlines() == lines
        assert (tmp_path / "log.txt").read_text().splitlines()[-2:] == lines


def test_a_long_path_is_one_word_for_another_program():
    path = "/data/" + "long/" * 40 + "a.jpg"
    screen, out, err = made()
    screen.row("written", path, always=True)
    screen.say(f"it is in {path} now")
    screen.warn(f"{path} is odd")
    assert out.getvalue().splitlines() == [f"written   {path}", "it is in", path, "now"]
    assert err.getvalue().splitlines() == ["warning:", path, "is odd"]


def test_the_log_of_a_run_on_a_terminal_has_whole_lines(tmp_path):
    screen, out, _ = made(stream=Terminal())
    with screen.running():
        screen.log_to(tmp_path / "log.txt")
        screen.line("x" * 500)
    assert "x" * 500 not in out.getvalue()
    assert (tmp_path / "log.txt").read_text() == "x" * 500 + "\n"


def test_a_full_disk_ends_the_log_and_not_the_run(tmp_path):
    screen, out, err = made()
    with screen.running():
        screen.log_to(tmp_path / "log.txt")
        screen._log.close()
        screen._log = open("/dev/full", "a")  # noqa: SIM115 - the screen closes it
        screen.say("one")
        screen.say("two")
    assert out.getvalue() == "one\ntwo\n"
    assert err.getvalue().count("nothing more is written to /dev/full: No space left on device") == 1


def test_a_pipe_gets_no_control_characters():
    screen, out, _ = made()
    with screen.status("waiting"):
        screen.row("name", HOSTILE, style="bold red")
    assert "\x1b" not in out.getvalue()


def test_a_terminal_gets_styles_unless_nobody_wants_them(monkeypatch):
    screen, out, _ = made(stream=Terminal())
    screen.row("name", f"text {HOSTILE}", style="red")
    assert "\x1b[31m" in out.getvalue()
    assert "\x1b[0m \x07" not in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    screen, out, _ = made(stream=Terminal())
    screen.row("name", "text", style="red")
    assert "\x1b[31m" not in out.getvalue()


def test_json_is_all_there_is():
    screen, out, err = made(as_json=True)
    with screen.running():
        screen.row("a", "b", always=True)
        print("something of the library's")
        screen.event("epoch", loss=float("nan"), name=HOSTILE, path=[1, None])
        warn("look out", DataWarning)
    (line,) = out.getvalue().splitlines()
    assert json.loads(line) == {"event": "epoch", "loss": None, "name": HOSTILE, "path": [1, None]}
    assert "warning: look out" in err.getvalue()


def test_quiet_shows_results_alone():
    screen, out, _ = made(quiet=True)
    screen.say("much")
    screen.event("x")
    screen.row("result", "0.9", always=True)
    assert out.getvalue() == "result    0.9\n"


def test_warnings_come_once_on_their_own_stream():
    screen, out, err = made()
    with screen.running():
        for _ in range(2):
            warnings.warn(f"bad {HOSTILE}", DataWarning, stacklevel=1)
    assert err.getvalue().count("warning: bad") == 1
    assert "\x1b" not in err.getvalue()
    assert out.getvalue() == ""


def test_the_log_has_every_line_and_no_bar(tmp_path):
    screen, _, _ = made(stream=Terminal())
    screen.say("before")
    with screen.running():
        screen.log_to(tmp_path / "run" / "log.txt")
        progress = screen.progress()
        progress.start(["epoch", "train_loss", "valid_loss", "fbeta", "time"], 2)
        progress.epoch(3)
        progress.draw(1, 3, 0.5)
        progress.row(EpochRow(0, 0.25, None, (), 12.0))
        progress.finish()
        screen.row("name", HOSTILE)
        screen.warn("careful")
    text = (tmp_path / "run" / "log.txt").read_text()
    lines = text.splitlines()
    assert lines[0] == "before"
    assert lines[1].split() == ["epoch", "train", "loss", "valid", "loss", "sample-F2", "time"]
    assert lines[2].split() == ["1/2", "0.2500", "–", "–", "00:12"]
    assert lines[-1] == "warning: careful"
    assert text.replace("\n", "").isprintable()


def test_rows_and_heads_are_aligned():
    screen, out, _ = made()
    progress = screen.progress()
    progress.start(["epoch", "train_loss", "valid_loss", "accuracy", "time"], 12)
    for i in range(12):
        progress.row(EpochRow(i, 0.5, 0.25, (0.75,), 0.5))
    widths = {len(line) for line in out.getvalue().splitlines()}
    assert len(widths) == 1
    assert not progress.shows_bar


def test_a_bar_runs_on_a_terminal_and_vanishes():
    screen, out, _ = made(stream=Terminal())
    screen.busy("thinking")
    progress = screen.progress()
    progress.start([], 1)
    assert progress.shows_bar
    progress.epoch(10)
    progress.draw(5, 10, 0.5)
    progress.validating()
    progress.finish()
    assert not progress.shows_bar
    assert "epoch 1/1" in out.getvalue()


def test_warnings_of_libraries_go_to_the_log_alone(tmp_path):
    screen, _, err = made()
    with screen.running():
        screen.log_to(tmp_path / "log.txt")
        warnings.warn("use another argument", FutureWarning, stacklevel=1)
    assert err.getvalue() == ""
    assert (tmp_path / "log.txt").read_text() == "FutureWarning: use another argument\n"


def test_what_an_encoding_lacks_ends_nothing():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Screen(stream=stream, errors=stream).row("name", "haze → cloudy")
    stream.flush()
    assert raw.getvalue() == b"name      haze ? cloudy\n"
