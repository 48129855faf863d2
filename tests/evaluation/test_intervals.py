"""Scores against scikit-learn and the training metrics; intervals against simulation and against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as sk
import torch

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty import half_samples
from onecycle.evaluation.certainty.intervals import (
    Estimate,
    MacroAveragePrecision,
    accuracy,
    difference,
    error_rate,
    estimate,
    log_loss,
    macro_fbeta,
    micro_fbeta,
    micro_precision,
    micro_recall,
    sample_fbeta,
    top_k_accuracy,
    wilson,
)
from onecycle.train.metrics import fbeta

SINGLE = [accuracy(), error_rate(), top_k_accuracy(2), log_loss()]
TAGS = [
    sample_fbeta(2, 0.2), sample_fbeta(1, [0.2, 0.5, 0.4, 0.6, 0.3]), micro_fbeta(1, 0.5), macro_fbeta(2, 0.4),
    micro_precision(0.5), micro_recall(0.5), log_loss(), MacroAveragePrecision(),
]  # fmt: skip


def single(n: int = 120, c: int = 4, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, c, n)
    probs = rng.dirichlet(np.ones(c), n) + 0.5 * np.eye(c)[targets]
    return probs / probs.sum(axis=1, keepdims=True), targets


def tagged(n: int = 150, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Five tags with ties in their scores; the last never occurs and some pictures have none."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, 5)) < [0.8, 0.4, 0.2, 0.1, 0.0]
    return np.round(np.clip(0.45 * truth + 0.55 * rng.random((n, 5)), 0.01, 0.99), 2), truth.astype(float)


def value(score, probs, targets) -> float:
    return float(score.weighted(probs, targets, np.ones((1, len(probs))))[0])


# -- scores ----------------------------------------------------------------------------------------------------


def test_scores_of_one_label_are_scikit_learn_s():
    probs, targets = single()
    assert value(accuracy(), probs, targets) == pytest.approx(sk.accuracy_score(targets, probs.argmax(1)))
    assert value(error_rate(), probs, targets) == pytest.approx(1 - value(accuracy(), probs, targets))
    expected = sk.top_k_accuracy_score(targets, probs, k=2)
    assert value(top_k_accuracy(2), probs, targets) == pytest.approx(expected)
    assert value(log_loss(), probs, targets) == pytest.approx(sk.log_loss(targets, probs))
    assert value(top_k_accuracy(9), probs, targets) == 1


def test_scores_of_tags_are_scikit_learn_s_and_those_of_training():
    probs, targets = tagged()
    given = probs >= 0.5
    assert value(micro_fbeta(1, 0.5), probs, targets) == pytest.approx(sk.f1_score(targets, given, average="micro"))
    assert value(micro_precision(0.5), probs, targets) == pytest.approx(
        sk.precision_score(targets, given, average="micro")
    )
    assert value(micro_recall(0.5), probs, targets) == pytest.approx(sk.recall_score(targets, given, average="micro"))
    assert value(macro_fbeta(2, 0.5), probs[:, :4], targets[:, :4]) == pytest.approx(
        sk.fbeta_score(targets[:, :4], given[:, :4], beta=2, average="macro")
    )
    ranking = [sk.average_precision_score(targets[:, i], probs[:, i]) for i in range(4)]
    assert value(MacroAveragePrecision(), probs, targets) == pytest.approx(np.mean(ranking))
    trained = fbeta(torch.from_numpy(probs), torch.from_numpy(targets), thresh=0.205, sigmoid=False)
    assert value(sample_fbeta(2, 0.205), probs, targets) == pytest.approx(float(trained), abs=1e-6)


@pytest.mark.parametrize("score", SINGLE + TAGS, ids=lambda s: s.name)
def test_a_weight_is_a_repetition(score):
    probs, targets = single() if score in SINGLE else tagged()
    weights = np.random.default_rng(1).integers(0, 4, (3, len(probs))).astype(float)
    found = score.weighted(probs, targets, weights)
    repeated = [np.repeat(np.arange(len(probs)), w.astype(int)) for w in weights]
    assert found == pytest.approx([value(score, probs[i], targets[i]) for i in repeated])


class OwnAccuracy:
    """A score of the user's, that repeats pictures instead of weighting them."""

    name, bounded = "accuracy", True

    def weighted(self, probs, targets, weights):
        drawn = (np.repeat(np.arange(len(probs)), row.astype(int)) for row in weights)
        return np.array([(probs[i].argmax(axis=1) == targets[i]).mean() for i in drawn])


def test_any_object_with_weights_is_a_score_and_gives_the_same_interval():
    probs, targets = single()
    own = OwnAccuracy()
    assert estimate(own, probs, targets, n_boot=100) == estimate(accuracy(), probs, targets, n_boot=100)


def test_no_tag_at_all_has_no_average_precision_and_no_interval():
    probs, _ = tagged(20)
    found = estimate(MacroAveragePrecision(), probs, np.zeros_like(probs))
    assert math.isnan(found.value)
    assert math.isnan(found.low)


# -- intervals -------------------------------------------------------------------------------------------------


def test_an_accuracy_has_nearly_its_wilson_interval():
    probs, targets = single(200)
    found = estimate(accuracy(), probs, targets)
    low, high = wilson(found.value, 200)
    assert (found.low, found.high) == pytest.approx((float(low), float(high)), abs=0.006)
    assert wilson(0.9, 50)[0] == pytest.approx(0.7864, abs=1e-4)  # as tables give it


def test_all_right_is_not_sure_to_be_right_always():
    targets = np.arange(60) % 3
    found = estimate(accuracy(), np.eye(3)[targets], targets)
    assert found.value == found.high == 1
    assert 0.92 < found.low < 0.96


def test_the_same_seed_gives_the_same_interval_in_any_pieces(monkeypatch):
    probs, targets = tagged()
    first = estimate(sample_fbeta(), probs, targets)
    assert first == estimate(sample_fbeta(), probs, targets)
    assert first != estimate(sample_fbeta(), probs, targets, seed=1)
    monkeypatch.setattr(half_samples, "MAX_CELLS", 10 * len(probs))
    pieces = estimate(sample_fbeta(), probs, targets)
    assert (pieces.low, pieces.high) == pytest.approx((first.low, first.high), abs=0.01)


def test_copies_in_groups_do_not_make_sure():
    probs, targets = single(80)
    once = estimate(accuracy(), probs, targets)
    copied, groups = (np.repeat(probs, 6, axis=0), np.repeat(targets, 6)), np.repeat(np.arange(80), 6)
    grouped, blind = estimate(accuracy(), *copied, groups=groups), estimate(accuracy(), *copied)
    assert grouped.high - grouped.low == pytest.approx(once.high - once.low, rel=0.05)
    assert blind.high - blind.low < 0.6 * (once.high - once.low)
    one = estimate(accuracy(), probs, targets, groups=["a"] * 80)
    assert (one.low, one.high) == (0, 1)


# -- differences and baselines -----------------------------------------------------------------------------------


def test_the_interval_of_a_difference_knows_that_the_pictures_are_the_same():
    rng = np.random.default_rng(0)
    targets = (rng.random((300, 4)) < [0.7, 0.3, 0.2, 0.1]).astype(float)
    z = 2 * targets - 1 + rng.normal(0, 1, targets.shape)
    good, bad = (1 / (1 + np.exp(-logits)) for logits in (z, z + rng.normal(0, 0.7, z.shape)))
    found = difference(MacroAveragePrecision(), good, bad, targets)
    each = [estimate(MacroAveragePrecision(), p, targets) for p in (good, bad)]
    assert found.value == pytest.approx(each[0].value - each[1].value)
    assert 0 < found.low < found.value < found.high
    unpaired = math.hypot(*(e.high - e.low for e in each))
    assert found.high - found.low < 0.8 * unpaired
    same = difference(sample_fbeta(), good, good, targets)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert difference(sample_fbeta(), bad, good, targets).value == pytest.approx(
        -difference(sample_fbeta(), good, bad, targets).value
    )


def test_a_new_set_of_pictures_scores_in_a_wider_range():
    found = estimate(accuracy(), *single())
    low, high = found.of_new(found.n)
    assert (found.value - low) / (found.value - found.low) == pytest.approx(math.sqrt(2))
    assert (high - found.value) / (found.high - found.value) == pytest.approx(math.sqrt(2))
    assert found.of_new(10**9) == pytest.approx((found.low, found.high), abs=1e-6)
    assert found.of_new(1) == (0.0, 1.0)


def test_an_estimate_reads_as_a_sentence():
    found = Estimate(
        name="accuracy", value=0.8731, low=0.8204, high=0.9121, baseline=0.41, n=200, baseline_name="always the same"
    )
    assert str(found) == "accuracy 0.873 (0.82 to 0.91; baseline 0.41)"
    assert str(Estimate(name="ECE", value=0.0312, low=0.0251, high=0.0389, n=9)) == "ECE 0.031 (0.025 to 0.039)"
    gain = Estimate(name="gain", value=0.012, low=-0.01, high=0.034, n=9, signed=True)
    assert str(gain) == "gain +0.012 (-0.01 to +0.03)"


def test_what_does_not_fit_is_refused():
    probs, targets = single(10)
    for wrong in (targets[:5], np.zeros((10, 3))):
        with pytest.raises(ArgumentError, match=r"targets \(N,\) or \(N, C\); received"):
            estimate(accuracy(), probs, wrong)
    with pytest.raises(ArgumentError, match="at least one picture"):
        estimate(accuracy(), probs[:0], targets[:0])
    with pytest.raises(ArgumentError, match="an id for each of 10 pictures; received 3"):
        estimate(accuracy(), probs, targets, groups=[1, 2, 3])
    with pytest.raises(ArgumentError, match="at least 2; received 1"):
        estimate(accuracy(), probs, targets, n_boot=1)
    with pytest.raises(ArgumentError, match="k >= 1"):
        top_k_accuracy(0)


def test_three_pictures_that_score_alike_make_nothing_certain():
    targets = np.array([[1, 0], [1, 0], [1, 0]])
    probs = np.array([[0.9, 0.1]] * 3)
    found = estimate(sample_fbeta(2, 0.05), probs, targets)
    assert found.value == pytest.approx(5 / 6)
    assert found.low < 0.6
    assert found.high > 0.9


def test_average_precision_of_a_blind_model_is_known_as_well_as_its_halves_say():
    """It varies less than as many independent answers as there are positives, whose interval is twice as wide."""
    rng = np.random.default_rng(8)
    tags, probs = (rng.random((1000, 1)) < 0.1).astype(int), rng.random((1000, 1))
    found = estimate(MacroAveragePrecision(), probs, tags)
    draws = [MacroAveragePrecision().weighted(rng.random((1000, 1)), tags, np.ones((1, 1000)))[0] for _ in range(200)]
    assert 0.5 < (found.high - found.low) / (4 * np.std(draws)) < 2
    low, high = wilson(found.value, tags.sum())
    assert found.high - found.low < 0.7 * (high - low)
