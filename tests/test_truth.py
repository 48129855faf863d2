"""Every sentence of the page in the short form of its simulation: none is wrong more often than it claims."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from harness import page, truth  # noqa: E402
from harness.truth_data import PLANET, World, with_thresholds  # noqa: E402

SENTENCES = truth.all_sentences()


@pytest.mark.parametrize("sentence", [pytest.param(s, id=s.name) for s in SENTENCES if s.short])
def test_a_sentence_is_right_as_often_as_it_claims(sentence: truth.Sentence) -> None:
    found = truth.measure(sentence, sentence.short)
    assert found.holds in ("yes", "within error"), found.row()


def _sentence(rate: float, claim: truth.Claim) -> truth.Sentence:
    def trial(rng: np.random.Generator) -> bool | None:
        return None if rng.random() < 0.5 else bool(rng.random() < rate)

    return truth.Sentence(
        says="a coin", setting=truth.Setting("blind", 1), counted="wrong", trial=trial, claim=claim, long=400, short=400
    )


def test_a_false_claim_is_seen_and_a_true_one_holds() -> None:
    wrong = truth.measure(_sentence(0.3, truth.at_most(0.1)), 400)
    assert wrong.holds == "no"
    assert 150 < wrong.made < 250
    assert wrong.rate == pytest.approx(0.3, abs=0.1)
    assert wrong.error == pytest.approx(math.sqrt(wrong.rate * (1 - wrong.rate) / wrong.made))
    assert truth.measure(_sentence(0.3, truth.at_least(0.5)), 400).holds == "no"
    assert truth.measure(_sentence(0.3, truth.between(0.2, 0.4)), 400).holds == "yes"
    assert truth.measure(_sentence(0.3, truth.at_most(0.29)), 40).holds != "no"


def test_two_processes_find_what_one_does() -> None:
    sentences = [_sentence(0.3, truth.at_most(0.1))]
    one, two = (list(truth.measure_all(sentences, processes=n)) for n in (1, 2))
    assert one == two


def test_a_world_is_what_it_says() -> None:
    """Shares are those asked for, probabilities mean what they say, groups correlate, and the models differ."""
    world = World(shares=PLANET, is_multi=True)
    p = world.draw(np.random.default_rng(0), 20_000)
    assert p.truth.mean(axis=0) == pytest.approx(np.array(PLANET), abs=0.015)
    sure = (p.probs > 0.85) & (p.probs < 0.95)
    assert p.truth[sure].mean() == pytest.approx(p.probs[sure].mean(), abs=0.02)
    drawn = [
        World(shares=(0.25,) * 4, is_multi=False, model=m).draw(np.random.default_rng(0), 5_000)
        for m in ("blind", "mediocre", "good", "perfect")
    ]
    right = [float((p.decided == p.targets).mean()) for p in drawn]
    assert right == sorted(right)
    assert right[0] == pytest.approx(0.25, abs=0.02)
    assert right[-1] > 0.999
    grouped = World(shares=(0.5,), is_multi=True, per_group=2).draw(np.random.default_rng(0), 40_000)
    pairs = grouped.truth[:, 0].reshape(-1, 2)
    assert np.corrcoef(pairs.T)[0, 1] == pytest.approx(0.25, abs=0.02)
    assert grouped.groups is not None
    assert len(set(grouped.groups.tolist())) == 20_000


def test_chosen_thresholds_come_with_held_out_decisions() -> None:
    p = with_thresholds(World(shares=(0.3, 0.2), is_multi=True).draw(np.random.default_rng(0), 60))
    assert p.thresholds is not None
    assert p.held_out is not None


def test_the_figures_of_the_page_are_the_results() -> None:
    """``python benchmarks/truth.py`` writes both."""
    text, rows = page.PAGE.read_text(), page.results()
    assert page.filled(text, rows) == text
    assert page.missing(text, rows) == []


def test_a_page_shows_the_range_and_what_does_not_hold() -> None:
    common = {"sentence": "a coin", "counted": "wrong", "claimed": "at most 5%", "trials": 100, "made": 100}
    rows = [
        {**common, "setting": "good; n = 60", "measured": 0.01, "holds": "yes"},
        {**common, "setting": "good; n = 1,000; groups of 5", "measured": 0.3, "holds": "no"},
    ]
    text = "A.\n<!-- measured: a co -->\nof an earlier run\n<!-- end -->\nB."
    found = page.filled(text, rows)
    assert "1.0 to 30.0 %" in found
    assert "60 to 1,000 pictures" in found
    assert "not: good; n = 1,000; groups of 5 (30.0 %)" in found
    assert "of an earlier run" not in found
    assert page.filled(found, rows) == found
    assert page.missing(text, rows) == []
    assert page.missing("no block", rows) == ["a coin"]
    near = [{**common, "setting": f"n = {n}", "measured": 0.12, "holds": "within error"} for n in (60, 200, 1000)]
    assert "not over all settings together (12.0 %)" in page.filled(text, near)


@pytest.mark.parametrize("claim", [truth.at_most(0.05), truth.at_least(0.8), truth.between(0.92, 0.98)], ids=str)
def test_a_claim_is_read_as_it_is_written(claim: truth.Claim) -> None:
    assert truth.Claim.read(str(claim)) == claim
