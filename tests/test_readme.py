"""Every command and snippet of the README is executed as it stands, on a small drawn sample."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "ONECYCLE_DATA": str(tmp_path / "data"), "MPLBACKEND": "Agg"}


def test_the_python_snippets_run_one_after_the_other(tmp_path):
    from onecycle.data.synthetic.tiles import write_sample

    write_sample(tmp_path / "data" / "planet_sample", 48, size_px=64)
    code = "\n".join(blocks("python"))
    assert "untar_data" in code
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "epoch" in done.stdout
    assert "fit_one_cycle" in done.stdout


def test_the_console_commands_run_one_after_the_other(tmp_path):
    """From a folder to predictions, as typed; ``onecycle`` is the one that is installed beside this Python."""
    from onecycle.data.synthetic.tiles import write_sample

    write_sample(tmp_path / "planet", 60, size_px=64)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = environment(tmp_path) | {"ONECYCLE_HOME": str(tmp_path / "home"), "PATH": path, "COLUMNS": "80"}
    (block,) = blocks("console")
    said = []
    for command in block.splitlines():
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=250, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        said.append(done.stdout)
    assert (tmp_path / "runs" / "planet-001" / "report.html").stat().st_size > 50_000
    assert "onecycle predict" in said[1]
    (snippet,) = blocks("py")
    subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, env=env, check=True, timeout=120)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_shell_commands_run(command, tmp_path):
    """The commands themselves; the environment makes the demo small and lets pytest only collect two files."""
    if not (ROOT / ".venv" / ".ready").exists():
        pytest.skip("`make setup` has not been run in this checkout, and a test does not install anything")
    env = environment(tmp_path)
    env["ONECYCLE_HOME"] = str(tmp_path)
    env["PYTEST_ADDOPTS"] = "--collect-only -q tests/test_settings.py tests/test_lesson.py"
    if command == "make demo":
        env["ARGS"] = f"--tiles 60 --epochs 1 --size 64 --out {tmp_path / 'runs'}"
    done = subprocess.run(
        command, shell=True, cwd=ROOT, env=env, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    if command == "make demo":
        assert "DRAWN" in done.stdout
        assert (tmp_path / "runs" / "demo-001" / "report.html").stat().st_size > 50_000


def test_the_commands_are_the_ones_that_ci_runs():
    assert {"make demo", "make test", "make check"} <= set(COMMANDS)
    run = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line.partition(" ARGS=")[0] for line in run if line.startswith("make ")] == [
        "make check",
        "make demo",
        "make test",
    ]
