"""Some cases of each target in the fast tests, always the same ones; ``make fuzz`` runs a million."""

from __future__ import annotations

import tempfile
from random import Random

import pytest

pytest.importorskip("hypothesis", reason="needs hypothesis, of the extra dev")

import fuzz_served
from attack import MOST_MB, MOST_SECONDS, Target, run_case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import TARGETS


@pytest.fixture(autouse=True)
def _own_scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("scratch._folders", {})
    yield
    fuzz_served.stop()


def check(target: Target, case: object) -> None:
    outcome = run_case(target, case)
    if outcome.error is not None:
        raise outcome.error
    assert outcome.seconds <= MOST_SECONDS
    assert outcome.mb <= MOST_MB


@pytest.mark.parametrize("target", [t for t in TARGETS if t.examples], ids=lambda target: target.name)
def test_only_errors_of_onecycle_come_out_quickly(target: Target) -> None:
    target.draw(Random(0))  # what is made once

    @settings(
        max_examples=target.examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(random=st.randoms(use_true_random=False))
    def attack(random: Random) -> None:
        check(target, target.draw(random))

    attack()
