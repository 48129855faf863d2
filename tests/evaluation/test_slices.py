"""Parts of the pictures on which a model does worse: found where they are, and hardly ever where they are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.intervals import MacroAveragePrecision, accuracy, log_loss, micro_fbeta, sample_fbeta
from onecycle.evaluation.certainty.significance import holm
from onecycle.evaluation.slices import find_slices, label_columns


def right_or_wrong(p: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of two classes that are right with probability p, ``(N,)``."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, len(p))
    said = np.where(rng.random(len(p)) < p, targets, 1 - targets)
    return np.eye(2)[said], targets


def test_a_bad_site_is_named_with_its_score_and_the_rest():
    site = np.repeat(["A", "B", "C"], 100)
    probs, targets = right_or_wrong(np.where(site == "B", 0.6, 0.95))
    report = find_slices(accuracy(), probs, targets, {"site": site, "camera": np.tile(["x", "y"], 150)})
    assert [(s.column, s.value) for s in report.worse] == [("site", "B")]
    worst = report.slices[0]
    hits = probs.argmax(1) == targets
    assert worst.n == 100
    assert worst.score.value == pytest.approx(hits[site == "B"].mean())
    assert worst.rest == pytest.approx(hits[site != "B"].mean())
    assert worst.score.low < worst.score.value < worst.score.high < worst.rest
    assert len(report.slices) == 5
    said = str(report)
    assert "site = B" in said
    assert "camera" not in said
    assert max(map(len, said.splitlines())) <= 80


def test_where_nothing_is_wrong_something_is_named_in_one_of_twenty_sets_at_most():
    named = 0
    for seed in range(60):
        probs, targets = right_or_wrong(np.full(200, 0.8), seed)
        rng = np.random.default_rng(1000 + seed)
        columns = {f"c{i}": rng.integers(0, 3, 200) for i in range(8)}
        named += bool(find_slices(accuracy(), probs, targets, columns).worse)
    assert named <= 6  # of 24 looks each; 60 × 5 % = 3 expected at most, 6 is two standard deviations more


def test_graded_scores_of_tags_and_the_tags_themselves():
    rng = np.random.default_rng(0)
    truth = (rng.random((300, 4)) < 0.5).astype(int)
    truth[:, 0] |= truth.sum(1) == 0
    probs = np.where(truth > 0, 0.9, 0.1)
    hard = truth[:, 2] > 0
    probs[hard, 1] = rng.random(hard.sum())
    report = find_slices(sample_fbeta(), probs, truth, label_columns(truth, ["a", "b", "c", "d"]))
    worst = report.worse[0]  # pictures with few tags score a little less, too: one miss costs them more
    assert (worst.column, worst.value) == ("tag c", "yes")


def test_numbers_are_cut_into_quarters_and_what_is_missing_is_a_part():
    n = 200
    altitude = np.arange(n, dtype=float)
    altitude[::10] = np.nan
    probs, targets = right_or_wrong(np.where(np.nan_to_num(altitude) > 150, 0.5, 0.95))
    report = find_slices(accuracy(), probs, targets, {"altitude": pd.Series(altitude)})
    assert sorted(s.n for s in report.slices) == [20, 45, 45, 45, 45]
    assert report.worse[0].value.endswith(" to 199")
    assert {s.value for s in report.slices if s.n == 20} == {"(none)"}


def test_small_parts_and_ids_are_left_out():
    probs, targets = right_or_wrong(np.full(100, 0.8))
    ids = np.array([f"tile{i}" for i in range(100)])
    few = np.where(np.arange(100) < 5, "few", "many")
    report = find_slices(accuracy(), probs, targets, {"id": ids, "size": few})
    assert report.slices == ()
    assert "No part can be judged" in str(report)
    assert report.left_out == ("id", "size")
    assert "Too few pictures a value (least=) to look at: id, size" in str(report)
    assert find_slices(accuracy(), probs, targets, {"size": few}, least=5).slices


def test_a_long_name_is_cut_and_keeps_its_beginning():
    site = np.repeat(["a" * 60, "b" * 60], 50)
    probs, targets = right_or_wrong(np.where(site == "a" * 60, 0.5, 0.95))
    said = str(find_slices(accuracy(), probs, targets, {"site": site}))
    assert f"site = {'a' * 26}…" in said
    assert max(map(len, said.splitlines())) <= 80


def test_classes_are_columns_of_one_label():
    columns = label_columns(np.array([0, 2, 1]), ["x", "y", "z"])
    assert columns["class"].tolist() == ["x", "z", "y"]


def test_refusals():
    probs, targets = right_or_wrong(np.full(30, 0.8))
    with pytest.raises(ArgumentError, match="'site' has 2 values; expected one for each of 30"):
        find_slices(accuracy(), probs, targets, {"site": ["a", "b"]})
    truth = np.eye(2)[targets]
    for score in (micro_fbeta(), MacroAveragePrecision()):
        with pytest.raises(ArgumentError, match="slices compare means over pictures"):
            find_slices(score, probs, truth, {})
    assert find_slices(log_loss(), probs, targets, {}).slices == ()


def test_holm():
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([])).tolist() == []
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_only_parts_below_the_rest_are_called_below_it():
    probs, targets = right_or_wrong(np.full(200, 0.8))
    report = find_slices(accuracy(), probs, targets, {"half": np.arange(200) % 2 + 1})
    below = [s for s in report.slices if s.gap < 0]
    shown = [line for line in str(report).splitlines() if line.startswith("half = ")]
    assert not report.worse
    assert [line.split()[2] for line in shown] == [s.value for s in below]


def test_parts_in_too_few_groups_are_not_called_no_worse():
    probs, targets = right_or_wrong(np.full(80, 0.8))
    site = np.repeat(["a", "b"], 40)
    report = find_slices(accuracy(), probs, targets, {"site": site}, groups=site)
    assert report.finding == "No part can be judged: each has too few groups."
    assert {s.p_text for s in report.slices} <= {"–"}
