"""How tags are decided for a measure: by sets of tags, by thresholds, and what is said of it."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.baseline import best_constant
from onecycle.evaluation.certainty.decisions import (
    UNASKED,
    Decisions,
    KnownSets,
    Measure,
    best_expected_f,
    most_probable,
)
from onecycle.evaluation.certainty.intervals import exact_match, micro_recall
from onecycle.evaluation.certainty.thresholds import TagThresholds
from onecycle.evaluation.headline import headline, other_scores
from onecycle.evaluation.predictions import Predictions

C = 5


def drawn(seed: int = 0, k: int = 12) -> tuple[KnownSets, np.ndarray, np.ndarray]:
    """Known sets, and the set probabilities and marginals of 40 pictures, as the layer of a head gives them."""
    rng = np.random.default_rng(seed)
    every = np.array(list(product([False, True], repeat=C)))
    sets = every[rng.choice(len(every), k, replace=False)]
    known = KnownSets(sets, rng.normal(size=k), 1e-3)
    logits = rng.normal(size=(40, C)) * 3 @ sets.T + known.offsets
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    marginals = (1 - known.unseen) * (probs @ sets) + known.unseen / 2
    return known, probs, marginals.astype(np.float32)


def expected(probs: np.ndarray, sets: np.ndarray, given: np.ndarray, beta: float) -> np.ndarray:
    """Expected F-beta of giving one set, of no tag where there is none 1."""
    tp, sizes = (sets & given).sum(axis=1), beta**2 * sets.sum(axis=1) + given.sum()
    f = np.where(sizes > 0, (1 + beta**2) * tp / np.maximum(sizes, 1), 1.0)
    return np.asarray(probs @ f)


@pytest.mark.parametrize("seed", range(4))
def test_marginals_have_all_that_the_set_probabilities_had(seed):
    known, probs, marginals = drawn(seed)
    assert known.probs(marginals) == pytest.approx(probs, abs=2e-5)


def test_marginals_that_no_sets_have_still_give_probabilities():
    known, _, marginals = drawn()
    rng = np.random.default_rng(1)
    found = known.probs(np.clip(marginals + rng.normal(size=marginals.shape), 0, 1))
    assert found.sum(axis=1) == pytest.approx(np.ones(40))
    assert (found >= 0).all()


@pytest.mark.parametrize("beta", [1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_no_set_of_tags_has_a_larger_expected_f(seed, beta):
    known, probs, _ = drawn(seed)
    given = best_expected_f(probs, known.sets, beta)
    every = np.array(list(product([False, True], repeat=C)))
    best = np.max([expected(probs, known.sets, one, beta) for one in every], axis=0)
    own = [expected(probs[i : i + 1], known.sets, given[i], beta)[0] for i in range(len(probs))]
    assert own == pytest.approx(best.tolist())


def test_the_rule_decides_by_marginals_alone():
    known, probs, marginals = drawn(3)
    exact = Decisions(Measure.named("exact"), sets=known)
    assert exact.by_sets
    assert exact.limits(C) is None
    assert (exact.decide(marginals, marginals) == most_probable(probs, known.sets)).all()
    f2 = Decisions(Measure.named("f2"), sets=known)
    assert (f2.decide(marginals, marginals) == best_expected_f(probs, known.sets, 2.0)).all()
    assert f2.decide(marginals[:0], marginals[:0]).shape == (0, C)
    assert "12 sets of tags" in str(f2)
    with pytest.raises(ArgumentError, match=r"expected probs \(N, 5\)"):
        f2.decide(np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32))


def test_many_pictures_are_decided_in_turn_and_alike(monkeypatch):
    known, _, marginals = drawn(2)
    rule = Decisions(Measure.named("f1"), sets=known)
    whole = rule.decide(marginals, marginals)
    monkeypatch.setattr("onecycle.evaluation.certainty.decisions.CELLS", 100)
    assert (rule.decide(marginals, marginals) == whole).all()


def test_chosen_thresholds_decide_before_the_sets_and_a_precision_never_by_sets():
    known, _, marginals = drawn()
    chosen = TagThresholds((0.3,) * C, "a precision of 0.9", 40, rule="per tag")
    rule = Decisions(Measure.named("precision=0.9"), chosen, known)
    assert not rule.by_sets
    assert (rule.decide(marginals, marginals) == (marginals >= 0.3)).all()
    assert not Decisions(Measure.named("precision=0.9"), sets=known).by_sets
    assert not Decisions(None, sets=known).by_sets, "nobody named a measure"


@pytest.mark.parametrize(("name", "threshold"), [("f2", 0.2), ("f1", 0.5), ("exact", 0.5)])
def test_without_sets_and_chosen_thresholds_the_usual_one_decides(name, threshold):
    probs = np.array([[threshold - 0.01, threshold, threshold + 0.01]], np.float32)
    rule = Decisions(Measure.named(name))
    assert rule.decide(probs, 1 - probs).tolist() == [[False, True, True]], "the model's own probabilities decide"
    assert f"from a probability of {threshold:g} on" in str(rule)
    assert UNASKED.decide(probs, probs * 0 + 0.5).all(), "what is shown decides where nobody asked for anything"


@pytest.mark.parametrize("name", ["f3", "precision", "precision=0", "precision=x", "precision=1.2", "exact=1", ""])
def test_another_measure_is_refused(name):
    with pytest.raises(ArgumentError, match=r"f2, f1, exact or precision=0\.9"):
        Measure.named(name)


def test_a_rule_comes_back_from_json():
    known, _, marginals = drawn()
    for rule in (
        Decisions(Measure.named("f1"), sets=known),
        Decisions(Measure.named("precision=0.8"), TagThresholds((0.4,) * C, "x", 9)),
        UNASKED,
    ):
        again = Decisions.from_dict(json.loads(json.dumps(rule.to_dict())), C)
        assert (again.measure, again.thresholds) == (rule.measure, rule.thresholds)
        assert (again.decide(marginals, marginals) == rule.decide(marginals, marginals)).all()
    assert Decisions.from_dict({}, 3) == UNASKED, "what an older onecycle wrote"
    with pytest.raises(ArgumentError, match="saved sets of tags"):
        Decisions.from_dict({"sets": {"n_tags": 2, "sets": [[5]], "offsets": [0.0], "unseen": 0.1}}, 2)


def said(rule: Decisions, n: int = 40) -> Predictions:
    known, _, marginals = drawn(k=6)
    truth = known.sets[np.random.default_rng(5).integers(0, 6, n)]
    return Predictions.of(
        marginals,
        is_multi=True,
        decisions=rule,
        files=tuple(map(str, range(n))),
        classes=tuple("abcde"),
        targets=truth.astype(np.int64),
    )


def test_the_headline_is_the_measure_and_what_predict_decides():
    known, _, _ = drawn(k=6)
    exact = said(Decisions(Measure.named("exact"), sets=known))
    first = headline(exact)
    right = (exact.predicted == exact.truth).all(axis=1)
    assert (first.name, first.value) == ("exact-match share", right.mean())
    counts = np.unique(exact.truth, axis=0, return_counts=True)[1]
    assert first.baseline == counts.max() / 40, "the commonest set of tags is the best constant"
    assert headline(said(Decisions(Measure.named("f1"), sets=known))).name == "sample-F1"
    assert headline(said(Decisions(Measure.named("f1")))).name == "sample-F1 at 0.5"
    at_02 = said(Decisions(Measure.named("f2")))
    assert headline(at_02).name == "sample-F2 at 0.2"
    assert next(e.name for e in other_scores(at_02)) == "micro-F1 at 0.5", "once is enough"
    assert headline(said(UNASKED)).name == "sample-F2 at 0.5"
    assert exact.beta == 1.0


def test_a_precision_is_judged_by_its_recall_against_what_a_constant_reaches():
    truth = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0], [0, 0, 0]] * 8)
    score = micro_recall(None, least_precision=0.75)
    found = best_constant(score, truth, 3)
    assert found.named == (0,), "0.8 of the pictures have it; with the next tag the precision is 0.6"
    assert found.value == pytest.approx(4 / 7)
    assert best_constant(micro_recall(None, least_precision=0.9), truth, 3).in_words("abc", "tag") == "always no tag"
    chosen = TagThresholds((0.5,) * 3, "a precision of 0.75", 40, rule="per tag")
    p = Predictions.of(
        truth.astype(np.float32),
        is_multi=True,
        decisions=Decisions(Measure.named("precision=0.75"), chosen),
        held_out=truth,
        files=tuple(map(str, range(40))),
        classes=tuple("abc"),
        targets=truth,
    )
    first, precision = headline(p), other_scores(p)[0]
    assert (first.name, first.value) == ("recall at precision 0.75 at chosen thresholds", 1.0)
    assert (precision.name, precision.value) == ("precision", 1.0)


def test_the_best_constant_of_exact_matches_may_be_no_tag():
    truth = np.array([[0, 0], [0, 0], [1, 0]])
    found = best_constant(exact_match(), truth, 2)
    assert (found.value, found.in_words("ab", "tag")) == (2 / 3, "always no tag")
