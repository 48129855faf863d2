"""``--arch auto``: what is here, what may be fetched, what fits the time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from onecycle.errors import WeightsError
from onecycle.model import choice
from onecycle.model.choice import KNOWN, Chosen, choose_network
from onecycle.model.weights import PACKAGED

SMALL, MIDDLE, LARGE = (known.name for known in KNOWN[1:])


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An empty weights folder, and the names that the hub is asked for; it has none of them."""
    monkeypatch.setenv("ONECYCLE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    seen: list[str] = []

    def unreachable(published: Any, _: object) -> None:
        seen.append(published.name)
        raise WeightsError("no network")

    monkeypatch.setattr(choice, "find_weights", unreachable)
    return seen


def chosen(each_s: float = 0.001, **options: Any) -> Chosen:
    return choose_network(800, 200, epochs=4, lite0_s=lambda _: each_s, **options)


def test_by_itself_it_takes_what_is_here_and_asks_nobody(asked, tmp_path):
    assert chosen().name == PACKAGED
    (tmp_path / f"{MIDDLE}.safetensors").write_bytes(b"")
    found = chosen()
    assert found.name == MIDDLE
    assert "82.9 % of ImageNet" in found.why
    assert chosen(each_s=1.0).name == PACKAGED
    assert "would take more than 10:00" in chosen(each_s=1.0).why
    assert asked == []


def test_asked_for_it_fetches_the_largest_that_fits(asked, monkeypatch):
    assert "hub cannot be reached" in chosen(fetch=True).why
    assert asked == [LARGE], "it is asked once"
    monkeypatch.setattr(choice, "find_weights", lambda *_: None)
    assert chosen(fetch=True).name == LARGE
    passes = choice.PASSES * 800 + 200 + choice.TRAINING * 4 * 800
    between = (KNOWN[1].slower + KNOWN[2].slower) / 2 * passes * 0.001
    assert chosen(fetch=True, budget_s=between).name == SMALL


def test_without_the_hub_one_that_is_here_is_taken(asked, tmp_path):
    (tmp_path / f"{SMALL}.pth").write_bytes(b"")
    assert chosen(fetch=True).name == SMALL


def test_larger_networks_are_better_and_slower():
    for less, more in pairwise(KNOWN):
        assert less.top1 < more.top1
        assert less.slower < more.slower


def test_the_speed_of_lite0_is_measured():
    assert 0 < choice._lite0_s(64) < 10
