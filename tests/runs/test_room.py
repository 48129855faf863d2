"""Whether a disk has room for a run: refused, warned or silent, with the numbers."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from onecycle.errors import DiskFullError, OnecycleWarning
from onecycle.runs import room
from onecycle.runs.room import OTHER_BYTES, check_room, run_bytes

WEIGHTS = 1_000_000 * 4


def learner(*, filled: bool = True, cache: str = "disk", size: tuple[int, int] | None = (100, 200)) -> Any:
    class Store(list[str]):
        pass

    store = Store(["a.png"] * 1000)
    store.filled, store.cache, store.spec = filled, cache, SimpleNamespace(size=size)  # type: ignore[attr-defined]
    data = SimpleNamespace(store=store, split=SimpleNamespace(valid=range(200)), c=10)
    return SimpleNamespace(model=nn.Linear(1000, 1000, bias=False), data=data)


def checked(monkeypatch: pytest.MonkeyPatch, free: int | None, learn: Any, folder: Path) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda path: free)
    check_room(folder, learn)


def test_what_a_run_needs_grows_with_its_weights_and_predictions():
    least, most = run_bytes(WEIGHTS, 200, 10)
    assert (least, most) == (2 * WEIGHTS + OTHER_BYTES + 32_000, 8 * WEIGHTS + OTHER_BYTES + 32_000)


def test_a_run_that_cannot_end_is_refused_with_numbers(monkeypatch, tmp_path):
    with pytest.raises(DiskFullError, match=r"runs has 9 MB free, .* 4 MB of weights needs at least 13 MB") as caught:
        checked(monkeypatch, 9_000_000, learner(), tmp_path / "runs")
    assert (caught.value.needed, caught.value.free) == (run_bytes(WEIGHTS, 200, 10)[0], 9_000_000)


def test_a_disk_that_may_become_full_is_warned_of(monkeypatch, tmp_path):
    with pytest.warns(OnecycleWarning, match="has 30 MB free, and the run may need about 37 MB at a time: free some"):
        checked(monkeypatch, 30_000_000, learner(), tmp_path)


def test_pictures_that_are_still_to_be_decoded_count_on_the_same_disk(monkeypatch, tmp_path):
    with pytest.warns(OnecycleWarning, match=r"about 97 MB at a time, with 60 MB of decoded pictures"):
        checked(monkeypatch, 90_000_000, learner(filled=False), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checked(monkeypatch, 90_000_000, learner(filled=False, cache="memory"), tmp_path)
        checked(monkeypatch, 90_000_000, learner(filled=False, size=None), tmp_path)
        checked(monkeypatch, 90_000_000, learner(), tmp_path)


def test_a_system_that_does_not_say_what_is_free_is_no_obstacle(monkeypatch, tmp_path):
    checked(monkeypatch, None, learner(), tmp_path)
