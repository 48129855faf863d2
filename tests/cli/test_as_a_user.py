"""The installed command, driven as a user does: processes, terminals of 80 and 200 columns, pipes, broken data."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from processes import start_command

PLANET = Path(__file__).resolve().parents[3] / "shared" / "data" / "planet_sample"
COMMAND = [sys.executable, "-c", "import sys; sys.argv[0] = 'onecycle'; from onecycle.cli.main import main; main()"]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][AB0]")
QUICK = ("--size", "32", "--epochs", "0", "--bs", "16", "--freeze-epochs", "2", "--lr", "0.01", "--no-label-check")


@dataclass
class Said:
    """What a command printed and how it ended."""

    out: str
    err: str
    code: int

    @property
    def all(self) -> str:
        return self.out + self.err


@pytest.fixture
def env(tmp_path_factory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("home")
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "FORCE_COLOR", "NO_COLOR")}
    return {**kept, "ONECYCLE_HOME": str(home), "OMP_NUM_THREADS": "1", "TERM": "xterm-256color"}


def ended(process: ForkServerProcess, timeout: float = 200) -> int:
    process.join(timeout)
    assert process.exitcode is not None, "still running"
    return process.exitcode


def piped(cwd: Path, env: dict[str, str], *words: str, columns: int = 80) -> Said:
    """Run with both streams going to files, as behind a pipe."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        code = ended(start_command([*words], cwd, {**env, "COLUMNS": str(columns)}, out=out, err=err))
        return Said(out.read_text(), err.read_text(), code)


def in_terminal(cwd: Path, env: dict[str, str], *words: str, columns: int = 80, timeout: float = 200) -> Said:
    """Run in a pseudo-terminal of this width; what it shows comes as one text."""
    lead, follow = pty.openpty()
    fcntl.ioctl(follow, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    terminal = os.ttyname(follow)
    process = start_command([*words], cwd, env, stdin=terminal, out=terminal, err=terminal)
    shown, end = b"", time.monotonic() + timeout
    while time.monotonic() < end:
        over = process.exitcode is not None  # asked before the last of what it wrote is read
        if select.select([lead], [], [], 0 if over else 0.05)[0]:
            shown += os.read(lead, 65536)
        elif over:
            break
    os.close(follow)
    os.close(lead)
    return Said(shown.decode("utf-8", "replace"), "", ended(process, 30))


def seen_lines(text: str) -> list[str]:
    """The lines that stay on a screen: escapes away, of a line that was drawn anew the last state."""
    return [ESCAPE.sub("", line).split("\r")[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n")]


def picture(path: Path, colour: tuple[int, int, int], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-40, 40, (40, 40, 3))
    PIL.Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)


def class_folders(root: Path, **classes: tuple[int, int, int]) -> Path:
    for k, (name, colour) in enumerate(classes.items()):
        for i in range(24):
            picture(root / name / f"p{i:02d}.png", colour, 100 * k + i)
    return root


@pytest.fixture
def two(tmp_path) -> Path:
    return class_folders(tmp_path / "two", red=(200, 40, 40), blue=(40, 40, 200))


def assert_fits(text: str, columns: int) -> None:
    wide = [line for line in seen_lines(text) if len(line) > columns and " " in line.strip()]
    assert wide == []


def the_run(cwd: Path, name: str = "latest") -> Path:
    return (cwd / "runs" / name).resolve()


RUN_FILES = [
    *("config.yaml", "env.json", "data.json", "split.csv", "history.csv", "predictions.parquet", "metrics.json"),
    *("report.html", "log.txt", "model/model.safetensors", "model/model.json"),
]


def assert_whole(run: Path) -> None:
    assert [name for name in RUN_FILES if not (run / name).is_file()] == []


@pytest.mark.skipif(not PLANET.is_dir(), reason="the shared Planet sample is not beside this checkout")
def test_planet_from_check_to_predict(tmp_path, env):
    """A few dozen rows of the real table, the pictures where they are."""
    (tmp_path / "planet").mkdir()
    lines = (PLANET / "labels.csv").read_text().splitlines()[:97]
    (tmp_path / "planet" / "labels.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "planet" / "train").symlink_to(PLANET / "train")
    before = sorted(p.name for p in (tmp_path / "planet").iterdir())
    checked = piped(tmp_path, env, "check", "planet")
    assert checked.code == 0
    assert "train/<image_name>.jpg" in checked.out
    trained = piped(tmp_path, env, "train", "planet", *QUICK, "--size", "64")
    assert trained.code == 0, trained.all
    assert "\x1b" not in trained.all
    assert_fits(trained.all, 80)
    assert "Traceback" not in trained.all
    assert_whole(the_run(tmp_path))
    assert sorted(p.name for p in (tmp_path / "planet").iterdir()) == before
    assert "onecycle predict" in trained.out
    name = lines[1].split(",")[0]
    said = piped(tmp_path, env, "predict", "latest", f"planet/train/{name}.jpg", "--json")
    assert said.code == 0, said.all
    assert json.loads(said.out.splitlines()[0])["file"].endswith(f"{name}.jpg")


@pytest.mark.parametrize("columns", [80, 200])
def test_class_folders_in_a_terminal(two, tmp_path, env, columns):
    said = in_terminal(tmp_path, env, "train", "two", *QUICK, columns=columns)
    assert said.code == 0, said.out
    assert "\x1b[" in said.out
    assert_fits(said.out, columns)
    log = (the_run(tmp_path) / "log.txt").read_text()
    assert "\x1b" not in log
    assert "\r" not in log
    assert_whole(the_run(tmp_path))


def test_no_color_is_heeded_in_a_terminal(two, tmp_path, env):
    said = in_terminal(tmp_path, {**env, "NO_COLOR": "1"}, "check", "two", "--size", "32")
    assert said.code == 0
    assert not re.search(r"\x1b\[[0-9;]*m", re.sub(r"\x1b\[0?m", "", said.out))


def test_json_lines_and_nothing_else(two, tmp_path, env):
    said = piped(tmp_path, env, "train", "two", *QUICK, "--json")
    assert said.code == 0, said.all
    events = [json.loads(line) for line in said.out.splitlines()]
    assert all(isinstance(event, dict) for event in events)
    assert {"epoch"} <= {event["event"] for event in events}


def test_one_class_is_refused_with_its_name(tmp_path, env):
    class_folders(tmp_path / "one", red=(200, 40, 40))
    said = piped(tmp_path, env, "train", "one", *QUICK)
    assert said.code == 3
    assert "red" in said.err
    assert "Traceback" not in said.all


HOSTILE = ("<script>alert(1)<", "a b'c\"d", "\x1b[31mred", "=cmd()", "völlig 日本語", "-rf")


def test_hostile_names_do_no_harm(tmp_path, env):
    root = tmp_path / "hostile"
    for k, name in enumerate(HOSTILE):
        for i in range(12):
            picture(root / name / f"{name} {i}.png", (40 * k, 200 - 40 * k, 90), 100 * k + i)
    said = in_terminal(tmp_path, env, "train", "hostile", *QUICK)
    assert said.code == 0, said.out
    assert "\x1b[31mred" not in said.out
    assert "<script>alert(1)<" not in (the_run(tmp_path) / "report.html").read_text()
    predicted = piped(tmp_path, env, "predict", "latest", str(root / "=cmd()"))
    assert predicted.code == 0, predicted.all
    assert "\x1b" not in predicted.all


def broken_table(root: Path, header: str, rows: list[str]) -> None:
    for i in range(24):
        picture(root / "img" / f"p{i:02d}.png", (200, 40, 40) if i % 2 else (40, 40, 200), i)
    (root / "labels.csv").write_text("\n".join([header, *rows]) + "\n")


def test_missing_files_are_named_with_their_rows(tmp_path, env):
    rows = [f"p{i:02d},{'red' if i % 2 else 'blue'}" for i in range(24)] + ["gone1,red", "gone2,blue"]
    broken_table(tmp_path / "set", "name,label", rows)
    said = piped(tmp_path, env, "train", "set", *QUICK)
    assert said.code == 3
    assert "row 26" in said.err
    assert "gone1" in said.err
    allowed = piped(tmp_path, env, "train", "set", *QUICK, "--allow", "missing")
    assert allowed.code == 0, allowed.all
    assert "2" in allowed.all


def test_wrong_columns_and_no_table_name_the_option(tmp_path, env):
    broken_table(tmp_path / "set", "name,label", [f"p{i:02d},{i % 2}" for i in range(24)])
    said = piped(tmp_path, env, "train", "set", *QUICK, "--label-col", "labell")
    assert said.code == 2
    assert "labell" in said.err
    assert "label" in said.err
    said = piped(tmp_path, env, "train", "set", "--folder", "imgs", *QUICK)
    assert said.code == 3
    assert "--folder" in said.err


def test_an_empty_folder(tmp_path, env):
    (tmp_path / "empty").mkdir()
    said = piped(tmp_path, env, "train", "empty", *QUICK)
    assert said.code == 3
    assert "labels" in said.err or "table" in said.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self/status").exists(), reason="needs Linux as root")
def test_a_read_only_output_folder(two, tmp_path, env):
    """For root, permissions say nothing: a file stands where the folder of the runs should be."""
    (tmp_path / "locked").write_text("a file")
    said = piped(tmp_path, env, "train", "two", *QUICK, "--out", "locked/runs")
    assert said.code == 4, said.all
    assert "locked" in said.err
    assert "Traceback" not in said.all


def test_a_second_run_while_the_first_writes(two, tmp_path, env):
    words = ["train", "two", *QUICK]
    both = [start_command(words, tmp_path, env, out=tmp_path / f"{i}.txt", err=tmp_path / f"{i}.txt") for i in "ab"]
    assert [ended(p) for p in both] == [0, 0], [(tmp_path / f"{i}.txt").read_text() for i in "ab"]
    runs = sorted(p.name for p in (tmp_path / "runs").iterdir() if p.name != "latest")
    assert runs == ["two-001", "two-002"]
    for name in runs:
        assert_whole(the_run(tmp_path, name))
    assert the_run(tmp_path).name in runs
    compared = piped(tmp_path, env, "compare", "runs/two-001", "runs/two-002")
    assert compared.code == 0, compared.all
    assert_fits(compared.all, 80)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("ran",))


@pytest.mark.parametrize("name", ["w.pth", "w.pkl"])
def test_a_pickle_as_weights_runs_nothing_and_has_a_code_of_its_own(two, tmp_path, env, name):
    (tmp_path / name).write_bytes(pickle.dumps({"a": Evil()}))
    said = piped(tmp_path, env, "train", "two", *QUICK, "--weights", name)
    assert said.code == 5, said.all
    assert "ran" not in said.out.split()
    assert "could run code" in said.err.replace("\n", " ")
    assert "False" not in said.err  # PyTorch's own advice is to run it
    assert not (tmp_path / "runs").exists()


def test_info_and_a_misspelt_command(tmp_path, env):
    said = piped(tmp_path, env, "info")
    assert said.code == 0
    assert "torch" in said.out
    assert len(said.out.splitlines()) <= 25
    assert_fits(said.out, 80)
    wrong = subprocess.run([*COMMAND, "trian", "x"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "train" in wrong.stderr
