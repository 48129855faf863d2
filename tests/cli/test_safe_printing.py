"""Names of files, labels and settings that attack a terminal: no command prints a byte of them that acts."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from run_toys import ToyRun, colour_rows, make_run

from onecycle.cli import main
from onecycle.runs.folder import RunFolder

ACTS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters but the line feed, C1 among them, what turns the direction of text, what has no width."""

LABELS = {"red": "\x1b[31mred\x07", "green": "\x9b2Jgreen\x1b]0;title\x07", "blue": "\u202eblue\u2066"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> ToyRun:
    root = tmp_path_factory.mktemp("hostile") / "data\x1b[2J\u202e"
    rows = colour_rows(root, 30)
    lines = ["name,label,site\x1b[1m"]
    for name, label in rows:
        new = f"{name}\x1b[5m\u202e"
        (root / "train" / f"{name}.jpg").rename(root / "train" / f"{new}.jpg")
        lines.append(f"{new},{LABELS[label]},s\x9d{name[-1]}")
    shutil.copy(root / "train" / f"{new}.jpg", root / "train" / "copy\x1b[8m.jpg")
    lines.append(f"copy\x1b[8m,{LABELS['red']},s")
    (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / "train" / "broken\x1b]52;c;aGk=\x07.jpg").write_bytes(b"\x1b[31mno picture")
    return make_run(root.parent / "runs\x1b[7m", root, epochs=2)


@pytest.fixture
def second(hostile) -> RunFolder:
    """The same run once more, to compare with."""
    path = hostile.path.with_name("other\x1b[4m-001")
    if not path.exists():
        shutil.copytree(hostile.path, path)
    return RunFolder(path)


def command(monkeypatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["onecycle", *map(str, words)])
    try:
        main.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_no_command_prints_what_acts(hostile, second, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    run, data = hostile.path, hostile.data
    broken = next((data / "train").glob("broken*"))
    monkeypatch.setenv("ONECYCLE_HOME", str(tmp_path / "home\x1b[9m"))
    edited = tmp_path / "edited\x1b[3m.csv"
    edited.write_text("file,new_label\nnone\x1b[31m.jpg,x\n", encoding="utf-8")
    calls = [
        ("check", data),
        ("check", data, "--json"),
        ("check", f"{data}/none\x1b[31m"),
        ("predict", run, data / "train", "--out", "p\x1b[31m.csv"),
        ("predict", run, broken),
        ("predict", run, broken, "--json"),
        ("evaluate", run),
        ("evaluate", run, data),
        ("report", run),
        ("compare", run, second.path),
        ("compare", run, second.path, "--json"),
        ("relabel", data, edited),
        ("--debug", "relabel", data, edited),
        ("info",),
        ("cache",),
        ("predict", tmp_path / "none\x1b[31m", data),
    ]
    said = ""
    for words in calls:
        code = command(monkeypatch, *words)
        out, err = capsys.readouterr()
        assert not ACTS.findall(out + err), (words[0], code)
        assert "defect" not in err, err
        said += out
    assert "�[31mred�" in said, "shown, and to be seen"


def test_settings_that_attack_are_not_printed(hostile, monkeypatch, capsys, tmp_path):
    run = shutil.copytree(hostile.path, tmp_path / "run")
    for text in ("data: x\n\x07: 1\n", 'data: x\n"\\e[31m": 1\n', 'data: x\nsize: "\\e[31m\\u202e"\n', "data: [\x1b"):
        (run / "config.yaml").write_text(text, encoding="utf-8")
        assert command(monkeypatch, "predict", run, hostile.data / "train") == 2
        out, err = capsys.readouterr()
        assert not ACTS.findall(out + err)


def test_a_file_that_says_something_is_quoted_safely(hostile, monkeypatch, capsys, tmp_path):
    run = shutil.copytree(hostile.path, tmp_path / "run")
    for name, text in (
        ("data.json", '{"audit": "\\u001b[31m\\u202e"}'),
        ("metrics.json", '{"\\u001b[31m": 1, "\\u001b[31m": 2}'),
        ("split.csv", "file,part\n\x1b[31m,\x1b[31m\n"),
    ):
        whole = (run / name).read_bytes()
        (run / name).write_text(text, encoding="utf-8")
        assert command(monkeypatch, "report", run) == 3, name
        out, err = capsys.readouterr()
        assert not ACTS.findall(out + err)
        assert name in Path(err.replace("\n", " ")).as_posix()
        (run / name).write_bytes(whole)
