"""Thresholds against brute force, against harm from few data, and groups of tags against pictures by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sklearn.metrics as sk

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty import thresholds
from onecycle.evaluation.certainty.calibration import make_folds
from onecycle.evaluation.certainty.constraints import apply_constraints, propose_constraints
from onecycle.evaluation.certainty.thresholds import TagThresholds, choose_thresholds, usual_threshold
from onecycle.evaluation.scores import sample_fbeta_score

SHARES = np.array([0.6, 0.4, 0.3, 0.2])
BIAS = np.array([0.0, -2.0, 1.5, -1.5])  # what the model's log-odds are off by: tags need different thresholds


def drawn(n: int, *, bias: np.ndarray = BIAS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random((n, 4)) < SHARES
    z = np.log(SHARES / (1 - SHARES)) + 2 * truth - 1 + rng.normal(0, 1, truth.shape) + bias
    return 1 / (1 + np.exp(-z)), truth.astype(float)


def test_with_enough_data_each_tag_gets_nearly_its_best_threshold():
    probs, targets = drawn(3000)
    report = choose_thresholds(probs, targets, beta=1, average="tag", classes=list("abcd"))
    assert report.rule == "per tag"
    grid = np.arange(1, 100) / 100
    for c, threshold in enumerate(report.thresholds.values):
        scores = [sk.f1_score(targets[:, c], probs[:, c] >= t, zero_division=0.0) for t in grid]
        own = sk.f1_score(targets[:, c], probs[:, c] >= threshold)
        assert own > max(scores) - 0.01
    assert report.thresholds.goal == "macro-F1"
    assert report.gains[0].low > 0
    assert report.per_tag["tag"].tolist() == list("abcd")
    assert report.per_tag["positives"].tolist() == targets.sum(axis=0).tolist()


def test_sample_f2_gains_on_held_out_folds_and_on_new_pictures():
    probs, targets = drawn(600)
    report = choose_thresholds(probs, targets, beta=2, default=0.2)
    assert [g.name for g in report.gains] == ["gain over 0.5 for all tags", "gain over 0.2 for all tags"]
    assert all(g.low > 0 for g in report.gains)
    new, truth = drawn(5000, seed=1)
    given = report.thresholds.decide(new)
    at_default = sample_fbeta_score(new >= 0.2, truth > 0, 2).mean()
    assert sample_fbeta_score(given, truth > 0, 2).mean() > at_default + 0.01
    held_out = report.held_out[0]
    assert held_out.low < sample_fbeta_score(given, truth > 0, 2).mean() < held_out.high
    assert max(map(len, str(report).splitlines())) <= 80
    assert report.held_out == choose_thresholds(probs, targets, beta=2, default=0.2).held_out


def test_one_threshold_for_all_is_enough_where_all_tags_are_off_alike():
    probs, targets = drawn(400, bias=np.full(4, -1.5))
    assert choose_thresholds(probs, targets).rule != "default"


@pytest.mark.parametrize("average", ["sample", "tag"])
def test_few_data_do_no_harm_on_new_pictures(average):
    """The probabilities are right and the default is about the best, so there is little to win and much to lose."""
    rng = np.random.default_rng(5)
    lost = []
    for seed in range(8):
        probs = rng.beta(0.6, 0.9, (60, 4))
        targets = (rng.random(probs.shape) < probs).astype(float)
        report = choose_thresholds(probs, targets, beta=1, average=average, default=0.4, seed=seed, n_folds=3)
        new = rng.beta(0.6, 0.9, (4000, 4))
        truth = rng.random(new.shape) < new
        chosen, default = report.thresholds.decide(new), new >= 0.4
        lost.append((sample_fbeta_score(default, truth, 1) - sample_fbeta_score(chosen, truth, 1)).mean())
    assert np.mean(lost) < 0.003
    assert max(lost) < 0.02


@pytest.mark.parametrize("seed", range(4))
def test_what_is_in_use_is_never_worse_than_the_default_on_held_out_folds(seed):
    """Sixty pictures and sixteen tags, as few tiles of Planet: a choice that beats 0.5 can lose to 0.2."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.9, 0.7, 0.3, 0.2, 0.2, 0.15, 0.1, 0.1, *[0.05] * 8])
    truth = rng.random((60, 16)) < shares
    z = np.log(shares / (1 - shares)) + 3 * truth - 1.5 + rng.normal(0, 1.2, truth.shape)
    probs, targets = 1 / (1 + np.exp(-z)), truth.astype(float)
    report = choose_thresholds(probs, targets)
    at_default = sample_fbeta_score(probs >= 0.2, truth, 2).mean()
    assert report.gains[-1].name == "gain over 0.2 for all tags"
    if report.rule == "default":
        assert report.thresholds.default == 0.2
        assert np.array_equal(report.decided, probs >= 0.2)
        assert report.held_out[0].value == pytest.approx(at_default)
    else:
        assert report.gains[-1].low > 0
    assert report.held_out[0].value >= at_default - 1e-9


def test_the_default_is_where_the_measure_is_largest_for_right_probabilities():
    assert [usual_threshold(beta) for beta in (1, 2)] == [0.5, 0.2]
    rng = np.random.default_rng(0)
    probs = rng.beta(0.5, 0.5, (4000, 6))
    truth = rng.random(probs.shape) < probs
    scores = {t: sample_fbeta_score(probs >= t, truth, 2).mean() for t in (0.05, 0.2, 0.5)}
    assert max(scores, key=scores.get) == 0.2
    assert choose_thresholds(probs[:40], truth[:40].astype(float)).thresholds.default == 0.2


def test_fewer_than_twenty_pictures_keep_the_default():
    report = choose_thresholds(*drawn(15), default=0.3, n_folds=3)
    assert report.rule == "default"
    assert report.thresholds.values == (0.3,) * 4


def test_a_rare_tag_stays_at_the_common_threshold():
    probs, targets = drawn(1500)
    targets[:, 3] = 0
    targets[:4, 3] = 1
    values = choose_thresholds(probs, targets, beta=1, average="tag").thresholds.values
    common = choose_thresholds(probs[:, 3:], targets[:, 3:], beta=1, average="tag")
    assert common.rule in ("default", "one for all tags")
    assert len(set(values)) == 4
    assert 0.05 < values[3] < 0.95


def test_a_wanted_precision_is_reached_on_held_out_folds():
    probs, targets = drawn(2000, bias=np.zeros(4))
    report = choose_thresholds(probs, targets, precision=0.9)
    reached = report.per_tag["precision"].to_numpy()
    assert reached == pytest.approx(np.full(4, 0.9), abs=0.07)
    assert [e.name for e in report.held_out] == ["precision, all decisions", "recall, all decisions"]
    assert report.held_out[0].value == pytest.approx(0.9, abs=0.03)
    at_own = [sk.precision_score(targets[:, c], probs[:, c] >= t) for c, t in enumerate(report.thresholds.values)]
    assert min(at_own) >= 0.9
    noise = np.random.default_rng(0).random((300, 1))
    chance = (np.random.default_rng(1).random((300, 1)) < 0.1).astype(float)
    never = choose_thresholds(noise, chance, precision=0.99)
    assert never.thresholds.values == (1.0,)


def test_what_cannot_be_chosen_is_refused():
    probs, targets = drawn(40)
    with pytest.raises(ArgumentError, match="the most probable"):
        choose_thresholds(probs, np.zeros(40, dtype=int))
    for options, why in (
        ({"average": "macro"}, "'sample' or 'tag'"),
        ({"beta": 0.0}, "beta > 0"),
        ({"default": 1.0}, "0 < default < 1"),
        ({"rule": "best"}, "rule is one of"),
        ({"precision": 1.5}, "0 < precision <= 1"),
        ({"exactly_one": [[0]]}, "at least two tags"),
        ({"exactly_one": [[0, 9]]}, r"index in 0\.\.3"),
        ({"exactly_one": [[0, 1], [1, 2]]}, "one group only"),
    ):
        with pytest.raises(ArgumentError, match=why):
            choose_thresholds(probs, targets, **options)
    with pytest.raises(ArgumentError, match=r"probabilities in \[0, 1\]"):
        choose_thresholds(probs * 5 - 2, targets)


def test_thresholds_come_back_from_json():
    found = TagThresholds((0.2, 0.5, 0.31), "sample-F2", 200, ((0, 2),))
    assert TagThresholds.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    for key, wrong in (("values", [0.1, 2.0, 0.3]), ("values", []), ("exactly_one", [[0, 7]]), ("n", "many")):
        with pytest.raises(ArgumentError):
            TagThresholds.from_dict({**found.to_dict(), key: wrong})
    with pytest.raises(ArgumentError, match=r"probs \(N, 3\)"):
        found.decide(np.zeros((2, 4)))


# -- exactly one of these tags -------------------------------------------------------------------------------------


def weather(n: int = 400, *, seed: int = 0) -> np.ndarray:
    """Four tags of which exactly one is present (0–3), two that come and go, one that hardly ever occurs."""
    rng = np.random.default_rng(seed)
    kinds = np.eye(4)[rng.choice(4, n, p=[0.65, 0.2, 0.1, 0.05])]
    free = rng.random((n, 2)) < [0.5, 0.2]
    rare = np.zeros((n, 1))
    rare[:2] = 1
    return np.concatenate([kinds, free, rare], axis=1)


NAMES = ["clear", "partly", "haze", "cloudy", "road", "water", "mine"]


def test_the_weather_is_found_and_nothing_else():
    found = propose_constraints(weather(), NAMES)
    assert [c.tags for c in found] == [("clear", "partly", "haze", "cloudy")]
    assert found[0].n == sum(found[0].counts) == 400
    assert found[0].exceptions_up_to == pytest.approx(3 / 400)
    assert "exactly one of clear" in str(found[0])
    assert max(map(len, str(found[0]).splitlines())) <= 80


def test_one_exception_or_too_little_support_is_no_rule():
    both = weather()
    both[7, :2] = 1
    assert propose_constraints(both, NAMES) == []
    none = weather()
    none[7, :4] = 0
    assert propose_constraints(none, NAMES) == []
    assert propose_constraints(weather(60), NAMES) == []
    few = weather()
    few[:, 3] = 0
    few[few[:, :3].sum(axis=1) == 0, 0] = 1
    few[:3, :4] = [0, 0, 0, 1]
    assert propose_constraints(few, NAMES) == []
    assert len(propose_constraints(few, NAMES, min_count=3)) == 1
    with pytest.raises(ArgumentError, match=r"tags 0/1 \(N, 7\)"):
        propose_constraints(np.zeros(5), NAMES)


def test_rare_tags_are_no_rule_by_chance():
    rng = np.random.default_rng(0)
    for _ in range(20):
        tags = (rng.random((150, 12)) < rng.uniform(0.01, 0.6, 12)).astype(float)
        assert propose_constraints(tags, list(range(12))) == []


def test_two_rules_at_once_and_a_tag_with_its_opposite():
    tags = weather()
    both = np.concatenate([tags[:, :6], 1 - tags[:, 4:5]], axis=1)
    found = {c.tags for c in propose_constraints(both, [*NAMES[:6], "no road"])}
    assert found == {("clear", "partly", "haze", "cloudy"), ("road", "no road")}


def test_a_group_is_decided_by_its_most_probable_tag():
    probs = np.array([[0.3, 0.2, 0.9], [0.1, 0.15, 0.05]])
    decided = apply_constraints(probs, [[0, 1]])
    assert decided.tolist() == [[1, 0, 0.9], [0, 1, 0.05]]
    assert probs[0, 0] == 0.3
    assert apply_constraints(probs, []).tolist() == probs.tolist()
    given = TagThresholds((0.5, 0.5, 0.5), "", 1, ((0, 1),)).decide(probs)
    assert given.tolist() == [[True, False, True], [False, True, False]]


def test_a_declared_group_helps_where_it_is_a_rule():
    rng = np.random.default_rng(3)
    targets = weather(500)[:, :6]
    z = 2.5 * targets - 2 + rng.normal(0, 1, targets.shape)
    probs = 1 / (1 + np.exp(-z))
    free = choose_thresholds(probs, targets, beta=1)
    ruled = choose_thresholds(probs, targets, beta=1, exactly_one=[[0, 1, 2, 3]])
    assert ruled.held_out[0].value > free.held_out[0].value
    assert (ruled.thresholds.decide(probs)[:, :4].sum(axis=1) == 1).all()


def test_groups_stay_together_in_the_inner_folds(monkeypatch):
    """Each fold, of the outer choice and of the inner one, has whole groups; one group alone keeps the default."""
    seen = []

    def folds(targets, n_folds=5, *, seed=0, groups=None):
        made = make_folds(targets, n_folds, seed=seed, groups=groups)
        seen.append((made, groups))
        return made

    monkeypatch.setattr(thresholds, "make_folds", folds)
    probs, targets = drawn(60)
    choose_thresholds(probs, targets, groups=np.repeat(list("abcdef"), 10))
    assert len(seen) == 7  # the outer one, the choice on all, and one in each of five parts
    for made, groups in seen:
        assert all(len(set(made[groups == g])) == 1 for g in set(groups))
    kept = choose_thresholds(probs, targets, groups=np.repeat(["a", "b"], 30))
    assert kept.n_folds == 2
