"""Runs that are killed at random moments and before file operations, or stopped by signals, end with the same bits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "reliability" / "kills.py"


@pytest.mark.timeout(900)
def test_twenty_kills_and_some_more_change_no_bit():
    """The short form of what ``make reliability`` does: a process of its own, as forking wants one without threads."""
    done = subprocess.run([sys.executable, str(SCRIPT), "--short"], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(" | ")[0] for line in done.stdout.splitlines()] == ["holds"] * 5
