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
LOOSE = {"training": 3e-3, "steps_of_optimizers": 3e-3}
"""Relative deviations that are more than those of single operations: steps of Adam enlarge them."""
GREY_LEVELS = {"transforms": 1, "sizes": 11}
"""How far apart grey levels may be: here they are whole, and v1 sampled each size between the corners' centres."""
ON_PURPOSE = ("views/none",)
"""Answers that differ for a reason that docs/fastai-v1.md gives."""


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("oracle")
    words = [sys.executable, str(ORACLE / "calls.py"), str(folder), str(folder / "ours.json"), "--onecycle"]
    done = subprocess.run(words, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / "ours.json").read_text())


def differences(theirs: Any, mine: Any, where: str, rel: float, levels: int = 0) -> Iterator[str]:
    """Places at which two answers differ; grey levels (under that key) may be ``levels`` apart."""
    if isinstance(theirs, dict) and isinstance(mine, dict) and theirs.keys() == mine.keys():
        for key, value in theirs.items():
            yield from differences(value, mine[key], f"{where}/{key}", rel, levels)
    elif isinstance(theirs, list) and isinstance(mine, list) and len(theirs) == len(mine):
        for i, (a, b) in enumerate(zip(theirs, mine, strict=True)):
            yield from differences(a, b, f"{where}[{i}]", rel, levels)
    elif isinstance(theirs, float) and isinstance(mine, (int, float)):
        if mine != pytest.approx(theirs, rel=rel, abs=1e-5):
            yield f"{where}: v1 {theirs}, here {mine}"
    elif isinstance(theirs, int) and isinstance(mine, int) and "/levels[" in where and abs(theirs - mine) <= levels:
        return
    elif theirs != mine:
        yield f"{where}: v1 {str(theirs)[:100]}, here {str(mine)[:100]}"


@pytest.mark.parametrize("call", sorted(V1))
def test_the_answers_are_v1_s(call, ours):
    seen = list(differences(V1[call], ours[call], call, LOOSE.get(call, 1e-4), GREY_LEVELS.get(call, 0)))
    assert [place for place in seen if not place.startswith(ON_PURPOSE)] == []
    assert {name for name in ON_PURPOSE if name.startswith(call)} == {
        name for name in ON_PURPOSE if any(place.startswith(name) for place in seen)
    }


def test_v1_answered_everything():
    assert [call for call, answer in V1.items() if not isinstance(answer, dict) or "" in answer] == []


def test_a_difference_is_seen():
    assert list(differences({"a": [1.0, "x"]}, {"a": [1.001, "y"]}, "f", 1e-4)) == [
        "f/a[0]: v1 1.0, here 1.001",
        "f/a[1]: v1 x, here y",
    ]
    assert list(differences([1], [1, 2], "f", 1e-4)) == ["f: v1 [1], here [1, 2]"]
    grey = {"shape": [8, 9], "levels": [8, 9]}
    assert list(differences(grey, {"shape": [8, 8], "levels": [8, 8]}, "f", 1e-4, 1)) == ["f/shape[1]: v1 9, here 8"]
    assert list(differences(grey, {"shape": [8, 9], "levels": [8, 7]}, "f", 1e-4, 1)) == ["f/levels[1]: v1 9, here 7"]
