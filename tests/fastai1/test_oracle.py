"""The same calls as fastai 1.0.61 itself made, against the numbers that it gave (``make v1`` makes them anew)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ORACLE = Path(__file__).parent / "oracle"
V1 = json.loads((ORACLE / "v1.json").read_text())
LOOSE = {"training": 3e-3}
"""Relative deviations that are more than those of single operations: ten steps of Adam enlarge them."""


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("oracle")
    words = [sys.executable, str(ORACLE / "calls.py"), str(folder), str(folder / "ours.json"), "--onecycle"]
    done = subprocess.run(words, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / "ours.json").read_text())


def differences(theirs: Any, mine: Any, where: str, rel: float) -> Iterator[str]:
    """Places at which two answers differ."""
    if isinstance(theirs, dict) and isinstance(mine, dict) and theirs.keys() == mine.keys():
        for key, value in theirs.items():
            yield from differences(value, mine[key], f"{where}/{key}", rel)
    elif isinstance(theirs, list) and isinstance(mine, list) and len(theirs) == len(mine):
        for i, (a, b) in enumerate(zip(theirs, mine, strict=True)):
            yield from differences(a, b, f"{where}[{i}]", rel)
    elif isinstance(theirs, float) and isinstance(mine, (int, float)):
        if mine != pytest.approx(theirs, rel=rel, abs=1e-5):
            yield f"{where}: v1 {theirs}, here {mine}"
    elif theirs != mine:
        yield f"{where}: v1 {str(theirs)[:100]}, here {str(mine)[:100]}"


@pytest.mark.parametrize("call", sorted(V1))
def test_the_answers_are_v1_s(call, ours):
    assert list(differences(V1[call], ours[call], call, LOOSE.get(call, 1e-4))) == []


def test_a_difference_is_seen():
    assert list(differences({"a": [1.0, "x"]}, {"a": [1.001, "y"]}, "f", 1e-4)) == [
        "f/a[0]: v1 1.0, here 1.001",
        "f/a[1]: v1 x, here y",
    ]
    assert list(differences([1], [1, 2], "f", 1e-4)) == ["f: v1 [1], here [1, 2]"]
