"""Ranking of doubtful labels: planted errors come first, for classes and for tags, and shapes are checked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty import label_noise
from onecycle.evaluation.label_issues import LabelIssue, as_issues, rank_labels


def sure_probs(truth: np.ndarray, c: int, rng: np.random.Generator) -> np.ndarray:
    """Probabilities of a good model: 0.6 and more for the true class."""
    rest = rng.random((len(truth), c))
    rest[np.arange(len(truth)), truth] = 0
    top = rng.uniform(0.6, 0.99, len(truth))
    probs = rest / rest.sum(axis=1, keepdims=True) * (1 - top)[:, None]
    probs[np.arange(len(truth)), truth] = top
    return probs


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 6))
def test_flipped_classes_come_first_with_the_true_one_suggested(seed, c):
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(c), rng.integers(0, c, 120)])
    flipped = rng.choice(len(truth), 8, replace=False)
    given_labels = truth.copy()
    given_labels[flipped] = (truth[flipped] + 1) % c
    probs = sure_probs(truth, c, rng)
    ranked = rank_labels(probs, given_labels)
    assert len(ranked) == len(truth)
    assert set(ranked.items[:8]) == set(flipped)
    assert (ranked.suggested[:8] == truth[ranked.items[:8]]).all()
    assert (ranked.given == given_labels[ranked.items]).all()
    assert (np.diff(ranked.scores) >= 0).all()
    np.testing.assert_allclose(ranked.scores, probs[ranked.items, given_labels[ranked.items]])
    assert 0 < ranked.doubts.flagged <= 16


@pytest.mark.parametrize(("n", "least"), [(80, 0), (240, 5)])  # of fewer than 200 pictures, no excess is claimed
def test_flipped_tags_come_first_each_for_itself(n, least):
    rng = np.random.default_rng(0)
    truth = (rng.random((n, 5)) < [0.9, 0.5, 0.3, 0.1, 0.05]).astype(np.float32)
    probs = np.clip(truth * 0.8 + rng.uniform(0, 0.2, truth.shape), 0, 1)
    given_tags = truth.copy()
    flipped = rng.choice(truth.size, 20, replace=False)
    given_tags.flat[flipped] = 1 - given_tags.flat[flipped]
    ranked = rank_labels(probs, given_tags)
    assert len(ranked) == truth.size
    assert set((ranked.items * 5 + ranked.classes)[:20]) == set(flipped)
    first = ranked.items[:20], ranked.classes[:20]
    assert (ranked.suggested[:20] == truth[first]).all()
    assert (ranked.given[:20] == 1 - truth[first]).all()
    assert 0 < ranked.doubts.flagged <= 40
    assert least <= ranked.doubts.excess <= (20 if least else 0)


def test_what_is_not_judged_is_left_out_and_counted():
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    ranked = rank_labels(probs, np.array([0, 1, 0, 1]), judged=np.array([True, True, True, False]))
    assert sorted(ranked.items) == [0, 1, 2]
    assert ranked.n_unjudged == 1
    tags = rank_labels(probs, np.array([[1, 0], [0, 1], [1, 1], [1, 0]]), judged=probs != 0.4)
    assert len(tags) == 7


def test_classes_and_tags_that_never_occur_do_no_harm():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 60) * 2  # of five classes, 1 and 3 never occur
    ranked = rank_labels(sure_probs(truth, 5, rng), truth)
    assert len(ranked) == 60
    tags = np.zeros((30, 3))
    tags[:, 0] = 1
    tags[::2, 1] = 1
    assert len(rank_labels(np.clip(tags * 0.7 + 0.1, 0, 1), tags)) == 90


def test_issues_with_names():
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    ranked = rank_labels(probs, np.array([0, 1, 0]))
    found = as_issues(ranked, ["cat", 7], rows=[10, 11, 12], paths=["a", "b", "c"], is_multi=False, n=2)
    assert found[0] == LabelIssue(11, "b", None, "7", "cat", pytest.approx(0.2))
    assert len(found) == 2
    ranked = rank_labels(probs, np.array([[1, 0], [1, 1], [1, 0]]))
    found = as_issues(ranked, ["cat", 7], rows=[10, 11, 12], paths=["a", "b", "c"], is_multi=True)
    assert found[0] == LabelIssue(11, "b", "7", "yes", "no", pytest.approx(0.2))
    assert found[-2:] == [
        LabelIssue(10, "a", "cat", "yes", "yes", pytest.approx(0.9)),
        LabelIssue(10, "a", "7", "no", "no", pytest.approx(0.9)),
    ]


@pytest.mark.parametrize(
    ("probs", "targets", "words"),
    [
        (np.ones((3, 2)) / 2, np.zeros(4, dtype=int), r"received \(3, 2\) and \(4,\)"),
        (np.ones((3, 2)), np.array([0, 1, 2]), "labels are from 0 to 1; received 0 to 2"),
        (np.full((3, 2), np.nan), np.array([0, 1, 1]), "between 0 and 1"),
        (np.full((3, 2), 1.5), np.array([0, 1, 1]), "between 0 and 1"),
    ],
)
def test_what_does_not_fit_is_refused(probs, targets, words):
    with pytest.raises(ArgumentError, match=words):
        rank_labels(probs, targets)
    with pytest.raises(ArgumentError, match="judged has the shape of the labels"):
        rank_labels(np.ones((3, 2)) / 2, np.array([0, 1, 1]), judged=np.ones(2, dtype=bool))


@pytest.mark.parametrize("sure", [1.0, 6.0])
def test_blind_heads_do_not_make_labels_doubtful(sure):
    rng = np.random.default_rng(3)
    logits = sure * rng.normal(size=(150, 3))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    doubts = rank_labels(probs, rng.integers(0, 3, 150)).doubts
    assert doubts.flagged > 30
    assert doubts.excess == 0


def test_a_blind_tag_beside_a_good_one_does_not_make_labels_doubtful():
    rng = np.random.default_rng(4)
    tags = (rng.random((240, 2)) < [0.4, 0.15]).astype(int)
    logits = np.stack([8 * tags[:, 0] - 4 + rng.normal(size=240), rng.normal(-2, 2, 240)], axis=1)
    doubts = rank_labels(1 / (1 + np.exp(-logits)), tags).doubts
    assert doubts.flagged > 30
    assert doubts.excess == 0


def test_planted_errors_among_good_heads_are_counted():
    rng = np.random.default_rng(5)
    true = rng.integers(0, 4, 400)
    logits = rng.normal(size=(400, 4)) + 8 * np.eye(4)[true]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = true.copy()
    given[:20] = (given[:20] + 1) % 4
    doubts = rank_labels(probs, given).doubts
    assert doubts.low > 0
    assert 14 <= doubts.excess <= 26


@pytest.mark.parametrize("wrong", [0, 60])
def test_wrong_tags_among_good_heads_are_counted_and_right_ones_are_not(wrong):
    rng = np.random.default_rng(6)
    shares = np.array([0.5, 0.3, 0.2])
    tags = (rng.random((800, 3)) < shares).astype(int)
    logits = 4 * (4 * (tags - 0.5) + rng.normal(size=(800, 3))) + np.log(shares / (1 - shares))
    for value in (0, 1):
        at = rng.permutation(np.argwhere(tags == value))[: wrong // 2]
        tags[tuple(at.T)] = 1 - value
    excess = rank_labels(1 / (1 + np.exp(-logits)), tags).doubts.excess
    assert 0.7 * wrong <= excess <= 1.3 * wrong


def test_the_fit_finds_the_same_however_sure_the_heads_are():
    """A temperature brings back what another one changed, so that the likelihood is the same: no start gets stuck."""
    rng = np.random.default_rng(7)
    true = rng.integers(0, 4, 100)
    logits = 2 * rng.normal(size=(100, 4)) + 4 * np.eye(4)[true]
    wrong = np.where(np.arange(100) < 5, (true + 1) % 4, true)

    def fitted(times: float) -> tuple[float, float]:
        powers = np.exp(times * logits)
        own = np.log(powers / powers.sum(axis=1, keepdims=True)), wrong, np.ones(100, dtype=bool), label_noise.HARD
        loss, values = label_noise._fit(label_noise._class_loss, own, 1)
        return loss, times * float(np.exp(values[0]))

    found = [fitted(times) for times in (0.6, 0.8, 1.0, 1.3, 1.8)]
    assert found == [pytest.approx(found[2], abs=0.05)] * 5
