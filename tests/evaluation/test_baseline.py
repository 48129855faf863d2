"""The baseline: the best prediction that is the same for every picture, and how much better a model is shown to be."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

import report_toys as toys
from onecycle.evaluation.certainty.baseline import SHARES, best_constant, with_baseline
from onecycle.evaluation.certainty.decisions import Decisions
from onecycle.evaluation.certainty.intervals import (
    MacroAveragePrecision,
    SumScore,
    accuracy,
    error_rate,
    estimate,
    log_loss,
    micro_fbeta,
    sample_fbeta,
    top_k_accuracy,
)
from onecycle.evaluation.certainty.thresholds import choose_thresholds
from onecycle.evaluation.headline import headline, picked_note
from onecycle.evaluation.scores import sample_fbeta_score


def tags(n: int, shares, *, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, len(shares))) < np.array(shares)).astype(np.int64)


def judged(score, probs, targets, groups=None):
    names = [f"c{i}" for i in range(probs.shape[1])]
    found = estimate(score, probs, targets, groups=groups)
    return with_baseline(found, score, probs, targets, classes=names, groups=groups)


@pytest.mark.parametrize(
    "score", [sample_fbeta(2, 0.2), sample_fbeta(1, 0.5), micro_fbeta(1, 0.5), micro_fbeta(2, 0.2)]
)
@pytest.mark.parametrize("shares", [(0.15,) * 6, (0.9, 0.7, 0.3, 0.2, 0.1, 0.05), (0.02, 0.01, 0.01, 0.01, 0.01, 0.01)])
def test_no_set_of_tags_beats_the_best_constant(score, shares):
    targets = tags(3000, shares)
    once = np.ones((1, len(targets)))
    every = [
        float(score.weighted(np.tile(np.isin(np.arange(6), named), (len(targets), 1)), targets, once)[0])
        for k in range(1, 7)
        for named in combinations(range(6), k)
    ]
    assert best_constant(score, targets, 6).value >= max(every) - 0.002


def test_rare_tags_are_all_named_and_not_none():
    found = judged(sample_fbeta(2, 0.2), np.full((400, 10), 0.15), tags(400, (0.15,) * 10))
    assert found.baseline_name.startswith("always the same 10 tags: c")
    assert found.baseline_name.endswith("and 5 more")
    assert 0.3 < found.baseline < 0.45
    assert found.value == 0
    assert not found.beats_baseline
    assert found.gain[1] < 0


def test_single_labels_have_the_commonest_and_probabilities_the_shares():
    targets = np.repeat([0, 1, 2], [50, 30, 20])
    probs = np.eye(3)[targets] * 0.7 + 0.1
    top2, wrong, lost = (judged(s, probs, targets) for s in (top_k_accuracy(2), error_rate(), log_loss()))
    assert (top2.baseline, top2.baseline_name) == (0.8, "always the same 2 classes: c0, c1")
    assert (wrong.baseline, wrong.value, wrong.beats_baseline) == (0.5, 0.0, True)
    assert lost.baseline == pytest.approx(-(0.5 * np.log(0.5) + 0.3 * np.log(0.3) + 0.2 * np.log(0.2)))
    assert (lost.baseline_name, lost.beats_baseline) == (SHARES, True)
    truth = tags(200, (0.3, 0.1))
    assert judged(MacroAveragePrecision(), truth * 0.5, truth).baseline == pytest.approx(truth.mean())


def test_a_score_of_ones_own_needs_no_more_than_before():
    own = SumScore(
        name="own",
        rows=lambda p, y: np.stack([p[:, 0], np.ones(len(p))], axis=1),
        total=lambda t: t[..., 0] / t[..., 1],
    )
    assert judged(own, np.full((5, 2), 0.5), np.array([0, 1, 0, 1, 0])).baseline == pytest.approx(0.6)


def test_the_gain_is_paired_and_over_groups():
    rng, targets = np.random.default_rng(1), np.repeat([0, 1], [540, 60])
    hit = rng.random(600) < np.where(targets == 0, 0.99, 0.6)
    probs = np.eye(2)[np.where(hit, targets, 1 - targets)]
    found = judged(accuracy(), probs, targets)
    assert found.beats_baseline
    few = judged(accuracy(), probs, targets, groups=np.repeat([0, 1, 2], 200))
    assert few.gain[0] < found.gain[0]
    assert not few.beats_baseline
    one = judged(accuracy(), probs, targets, groups=np.zeros(600))
    assert one.gain == (-1.0, 1.0)
    assert json.loads(json.dumps(one.to_dict()))["gain_low"] == -1.0


@pytest.mark.parametrize(("right", "better"), [(5, False), (6, False), (7, True)])
def test_a_gain_that_hangs_on_a_few_pictures_is_not_shown(right, better):
    """Of 100 pictures all but a few are called what is commonest; five of five right ones are chance in 1 of 32."""
    targets = np.repeat([0, 1], [60, 40])
    said = np.where((np.arange(100) >= 60) & (np.arange(100) < 60 + right), 1, 0)
    assert judged(accuracy(), np.eye(2)[said], targets).beats_baseline == better


def test_thousands_of_tags_are_tried_in_steps():
    targets = tags(40, (0.02,) * 1000)
    assert len(best_constant(sample_fbeta(2, 0.2), targets, 1000).named) > 100


def test_what_the_pictures_picked_is_said_with_how_much_it_can_flatter():
    p = toys.classes(200, 2)
    assert picked_note(headline(p)) == ""
    found = headline(replace(p, picked_of=10))
    assert found.to_dict()["picked_of"] == 10
    most = float(picked_note(found).rsplit(" ", 1)[1].rstrip("."))
    drawn = np.random.default_rng(0).normal(size=(20_000, 10)).max(axis=1).mean()  # the best of ten equal epochs
    assert most == pytest.approx(drawn * (found.high - found.low) / 3.92, abs=0.001)


def test_the_score_at_thresholds_in_use_stands_beside_the_held_out_one():
    p = toys.tags(300, 4)
    chosen = choose_thresholds(p.probs, p.targets)
    decided = chosen.thresholds.decide(p.probs).astype(int)
    found = headline(
        replace(p, decisions=Decisions(thresholds=chosen.thresholds), held_out=chosen.decided, decided=decided)
    )
    assert found.in_use == pytest.approx(float(sample_fbeta_score(decided > 0, p.truth, 2.0).mean()))
    assert headline(p).in_use is None
