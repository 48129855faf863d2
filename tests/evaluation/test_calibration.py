"""Calibration against what is known: drawn probabilities, their distortion, and its recovery."""

from __future__ import annotations

import json

import numpy as np
import pytest

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.calibration import (
    Calibration,
    calibration_report,
    cross_fit,
    fit_calibration,
    make_folds,
)
from onecycle.evaluation.certainty.intervals import log_loss
from onecycle.evaluation.certainty.reliability import ece_score, probability_error, reliability_curve, top_class


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def classes(n: int, sharp: float, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is right, times ``sharp``: above 1 the model is too sure of itself."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, (n, 4))
    targets = np.array([rng.choice(4, p=p) for p in softmax(z)])
    return z * sharp, targets


def tags(n: int, slope: list[float], bias: list[float], *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits z with P(tag) = sigmoid(slope·z + bias)."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, (n, len(slope)))
    return z, (rng.random(z.shape) < sigmoid(z * slope + bias)).astype(float)


def mean_log_loss(probs: np.ndarray, targets: np.ndarray) -> float:
    return float(log_loss().weighted(probs, targets, np.ones((1, len(probs))))[0])


# -- measuring ---------------------------------------------------------------------------------------------------


def test_bins_have_equal_counts_and_say_what_came_true():
    confidence = np.array([0.1, 0.2, 0.3, 0.4, 0.9, 0.8])
    outcome = np.array([0, 0, 1, 0, 1, 1], dtype=bool)
    curve = reliability_curve(confidence, outcome, 3)
    assert curve.count.tolist() == [2, 2, 2]
    assert curve.confidence == pytest.approx([0.15, 0.35, 0.85])
    assert curve.observed == pytest.approx([0, 0.5, 1])
    assert curve.ece == pytest.approx((0.15 + 0.15 + 0.15) / 3)
    assert (curve.low <= curve.observed).all()
    assert (curve.observed <= curve.high).all()


def test_equal_probabilities_share_a_bin():
    confidence = np.array([1.0] * 90 + [0.5] * 10)
    curve = reliability_curve(confidence, confidence > 0.7, 10)
    assert curve.confidence.tolist() == [0.5, 1.0]
    assert curve.count.tolist() == [10, 90]
    assert curve.ece == pytest.approx(0.05)


def test_right_probabilities_show_no_more_than_chance():
    rng = np.random.default_rng(0)
    p = rng.random(4000)
    fair = [reliability_curve(p, rng.random(4000) < p) for _ in range(30)]
    assert len(fair[0].count) == 15
    assert np.mean([c.ece for c in fair]) == pytest.approx(fair[0].ece_by_chance, rel=0.1)
    assert reliability_curve(np.clip(p * 1.3, 0, 1), rng.random(4000) < p).ece > 5 * fair[0].ece_by_chance


def test_ece_as_a_score_is_ece():
    for z, targets in (classes(300, 2.0), tags(200, [0.5] * 3, [0.0] * 3)):
        probs = softmax(z) if targets.ndim == 1 else sigmoid(z)
        found = ece_score(8).weighted(probs, targets, np.ones((1, len(probs))))[0]
        assert found == pytest.approx(reliability_curve(*top_class(probs, targets), 8).ece)


# -- fitting -------------------------------------------------------------------------------------------------------


def test_temperature_is_found_again_and_the_top_class_stays():
    z, targets = classes(4000, 2.5)
    found = fit_calibration(softmax(z), targets)
    assert found.kind == "temperature"
    assert 1 / found.slope[0] == pytest.approx(2.5, rel=0.08)
    mended = found.apply(softmax(z))
    assert mended.sum(axis=1) == pytest.approx(np.ones(4000))
    assert (mended.argmax(axis=1) == z.argmax(axis=1)).all()
    assert (
        reliability_curve(*top_class(mended, targets)).ece
        < 0.4 * reliability_curve(*top_class(softmax(z), targets)).ece
    )
    assert mended == pytest.approx(found.apply_logits(z), abs=1e-6)


def test_slope_and_bias_of_each_tag_are_found_again():
    slope, bias = [0.4, 1.0, 0.6], [0.0, -1.0, 1.5]
    z, targets = tags(5000, slope, bias)
    found = fit_calibration(sigmoid(z), targets)
    assert found.kind == "platt"
    assert found.slope == pytest.approx(slope, rel=0.15)
    assert found.bias == pytest.approx(bias, abs=0.15)
    mended = found.apply(sigmoid(z))
    assert (np.argsort(mended, axis=0) == np.argsort(z, axis=0)).all(), "no ranking changes"


def test_a_rare_tag_keeps_the_temperature_of_all():
    z, targets = tags(400, [0.5, 0.5, 0.5], [0.0, 0.0, -9.0])
    targets[:3, 2] = 1
    found = fit_calibration(sigmoid(z), targets)
    common = found.slope[2]
    assert 0.2 < common < 0.9
    assert found.bias[2] == 0
    assert found.slope[0] != common


def test_few_pictures_move_little_and_perfect_ones_do_no_harm():
    z, targets = classes(6, 1.0)
    assert 0.3 < fit_calibration(softmax(z), targets).slope[0] < 3
    right = np.eye(3)[np.arange(9) % 3] * 0.97 + 0.01
    found = fit_calibration(right, np.arange(9) % 3)
    assert np.isfinite(found.apply(right)).all()
    extreme = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]] * 4)
    found = fit_calibration(extreme, 1 - extreme)
    assert ((found.apply(extreme) >= 0) & (found.apply(extreme) <= 1)).all()
    assert min(found.slope) > 0


def test_small_sets_gain_or_hardly_lose_on_new_pictures():
    """Per-tag scaling on 100 pictures must not cost more than it can gain: judged on many new ones."""
    slope, bias = [1.0] * 6, [0.0, -0.5, 0.5, -2.0, -3.0, -3.0]
    lost = []
    for seed in range(10):
        z, targets = tags(100, slope, bias, seed=seed)
        found = fit_calibration(sigmoid(z), targets)
        new, truth = tags(4000, slope, bias, seed=seed + 100)
        lost.append(mean_log_loss(found.apply(sigmoid(new)), truth) - mean_log_loss(sigmoid(new), truth))
    assert np.mean(lost) < -0.02  # three tags are biased, so there is something to gain
    assert max(lost) < 0.02


def test_a_calibration_comes_back_from_json():
    for z, targets in (classes(200, 2.0), tags(200, [0.5] * 3, [0.0] * 3)):
        found = fit_calibration(softmax(z) if targets.ndim == 1 else sigmoid(z), targets)
        assert Calibration.from_dict(json.loads(json.dumps(found.to_dict()))) == found
        assert "200 pictures" in str(found)
    good = found.to_dict()
    for key, wrong in (("kind", "magic"), ("slope", [1.0]), ("slope", [-1.0] * 3), ("bias", [float("nan")] * 3)):
        with pytest.raises(ArgumentError, match="a saved calibration has"):
            Calibration.from_dict({**good, key: wrong})
    with pytest.raises(ArgumentError, match="kind, slope, bias and n"):
        Calibration.from_dict({"kind": "platt"})


def test_logits_and_other_classes_are_refused():
    z, targets = classes(50, 2.0)
    with pytest.raises(ArgumentError, match="each row with the sum 1"):
        fit_calibration(z, targets)
    found = fit_calibration(softmax(z), targets)
    with pytest.raises(ArgumentError, match=r"expected probs \(N, 4\)"):
        found.apply(np.full((2, 3), 1 / 3))
    with pytest.raises(ArgumentError, match=r"each in \[0, 1\]"):
        fit_calibration(*tags(50, [1.0], [0.0]))


# -- folds ---------------------------------------------------------------------------------------------------------


def test_folds_spread_classes_and_repeat():
    targets = np.array([0] * 50 + [1] * 20 + [2] * 5)
    folds = make_folds(targets, 5)
    assert (folds == make_folds(targets, 5)).all()
    assert (folds != make_folds(targets, 5, seed=1)).any()
    assert [np.bincount(folds[targets == c]).tolist() for c in range(3)] == [[10] * 5, [4] * 5, [1] * 5]
    rare = np.zeros((60, 3))
    rare[:, 0], rare[:10, 2] = 1, 1
    assert np.bincount(make_folds(rare, 5)[:10], minlength=5).tolist() == [2] * 5
    assert set(make_folds(np.array([0, 1, 0]), 5)) == {0, 1, 2}


def test_groups_stay_whole():
    groups = np.array(["a"] * 30 + ["b"] * 10 + ["c"] * 10 + ["d"] * 10)
    folds = make_folds(np.zeros(60, dtype=int), 2, groups=groups)
    assert all(len(set(folds[groups == g])) == 1 for g in "abcd")
    assert np.bincount(folds).tolist() == [30, 30]
    for wrong in ({"n_folds": 1}, {"groups": ["a"] * 60}):
        with pytest.raises(ArgumentError, match="at least 2 folds and 2 pictures"):
            make_folds(np.zeros(60, dtype=int), **wrong)


def test_nothing_is_applied_to_what_it_was_fitted_on():
    probs, targets = np.arange(20.0)[:, None], np.zeros(20, dtype=int)
    folds = make_folds(targets, 4)

    def fit(p: np.ndarray, _: np.ndarray) -> set[float]:
        return set(p[:, 0])

    def unseen(seen: set[float], p: np.ndarray) -> np.ndarray:
        return np.array([v not in seen and len(seen) == 15 for v in p[:, 0]])

    assert cross_fit(fit, unseen, probs, targets, folds).all()
    order = cross_fit(fit, lambda _, p: p, probs, targets, folds)
    assert (order == probs).all()


# -- the report ------------------------------------------------------------------------------------------------------


def test_the_report_shows_a_model_that_is_too_sure_mended_on_held_out_folds():
    z, targets = classes(600, 3.0)
    report = calibration_report(softmax(z), targets)
    assert report.after.value < 0.5 * report.before.value
    assert report.gain.high < 0
    assert report.log_loss.high < 0
    assert report.curve_after.ece == pytest.approx(report.after.value)
    assert report.per_class.empty
    assert max(map(len, str(report).splitlines())) <= 80
    assert "Each of" in str(report) or "each of" in str(report)


def test_the_report_of_tags_has_a_row_each():
    z, targets = tags(300, [0.4, 0.4, 0.4], [0.0, 0.0, -2.0])
    report = calibration_report(sigmoid(z), targets, classes=["a", "b", "c"])
    assert report.per_class["tag"].tolist() == ["a", "b", "c"]
    assert (report.per_class["ece_after"] < report.per_class["ece_before"]).all()
    assert report.per_class["positives"].tolist() == targets.sum(axis=0).tolist()
    assert report.gain.high < 0
    assert report == report


def test_a_model_that_is_right_already_is_hardly_touched():
    z, targets = classes(500, 1.0)
    report = calibration_report(softmax(z), targets)
    assert abs(report.log_loss.value) < 0.01
    assert report.before.value < 2.5 * report.by_chance


# -- how far off probabilities can be --------------------------------------------------------------------------


def outcomes(n: int, off: float, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    said = rng.uniform(0.6, 0.98, n)
    return said, rng.random(n) < said - off


def test_the_error_of_probabilities_is_freed_of_chance_and_has_ends():
    right = [probability_error(*outcomes(400, 0.0, seed=s)) for s in range(40)]
    assert sum(e.low == 0 for e in right) >= 38
    assert np.mean([e.value for e in right]) < 0.03
    assert reliability_curve(*outcomes(400, 0.0)).ece > 0.02  # what chance alone adds
    wrong = [probability_error(*outcomes(400, 0.2, seed=s)) for s in range(40)]
    assert np.mean([e.value for e in wrong]) == pytest.approx(0.2, abs=0.01)
    assert sum(e.low < 0.2 < e.high for e in wrong) >= 36
    assert all(e.high > 0.1 for e in wrong)


def test_kinds_that_err_in_opposite_directions_do_not_cancel():
    rng = np.random.default_rng(0)
    said, kinds = np.full(2000, 0.8), np.arange(2000) % 2
    outcome = rng.random(2000) < said + np.where(kinds == 0, 0.15, -0.15)
    assert probability_error(said, outcome).value < 0.05
    assert probability_error(said, outcome, kinds=kinds).value == pytest.approx(0.15, abs=0.03)
    rare = np.where(np.arange(2000) < 1990, 0, np.arange(2000))  # ten kinds with one each are binned together
    assert probability_error(said, outcome, kinds=rare).n == 2000


def test_what_belongs_together_widens_the_interval():
    said, outcome = outcomes(400, 0.0)
    twice = np.repeat(said, 5), np.repeat(outcome, 5)
    alone = probability_error(said, outcome)
    grouped = probability_error(*twice, groups=np.repeat(np.arange(400), 5))
    assert grouped.high == pytest.approx(alone.high, abs=0.02)
    assert (grouped.low, alone.low) == (0, 0)
    assert probability_error(*twice).low > 0.01  # as if each were five: chance alone looks like an error
    assert probability_error(said[:1], outcome[:1]).high <= 1
    assert probability_error(said, outcome, groups=np.zeros(400)).high > 0.1


def test_the_consistency_band_holds_95_of_100_right_bins():
    inside = [
        ((c.band_low <= c.observed) & (c.observed <= c.band_high)).mean()
        for c in (reliability_curve(*outcomes(300, 0.0, seed=s)) for s in range(60))
    ]
    assert 0.93 <= np.mean(inside) <= 0.995
    sure = reliability_curve(np.ones(40), np.ones(40, dtype=bool))
    assert (sure.band_low[0], sure.band_high[0]) == (1, 1)
