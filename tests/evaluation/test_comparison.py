"""Two runs on their common pictures: what is found, what is left out, and how often chance is called a difference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.decisions import Decisions, Measure
from onecycle.evaluation.comparison import Candidate, compare, compare_all
from onecycle.evaluation.predictions import Predictions

CLASSES = ("cat", "dog", "owl")


def judged(name, said, truth, *, files=None, classes=CLASSES, trained=(), groups=None):
    """One label a picture: what was said and what is true, as indices."""
    said, truth = np.asarray(said), np.asarray(truth)
    files = files or [f"p{i:03d}.jpg" for i in range(len(said))]
    probs = np.full((len(said), len(classes)), 0.1)
    probs[np.arange(len(said)), said] = 0.8
    predictions = Predictions(
        files=tuple(files), classes=classes, is_multi=False, probs=probs, decided=said, targets=truth, groups=groups
    )
    return Candidate(name, predictions, frozenset(trained))


def tagged(name, given, truth, *, classes=CLASSES, trained=()):
    given, truth = np.asarray(given), np.asarray(truth)
    files = tuple(f"p{i:03d}.jpg" for i in range(len(given)))
    predictions = Predictions(
        files=files, classes=classes, is_multi=True, probs=np.where(given > 0, 0.9, 0.1), decided=given, targets=truth
    )
    return Candidate(name, predictions, frozenset(trained))


def drawn(n, p, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    return np.where(rng.random(n) < p, truth, (truth + 1) % 3), truth


def test_differences_changed_pictures_and_classes():
    truth = np.repeat([0, 1, 2], 40)
    first, other = truth.copy(), truth.copy()
    first[40:70] = 0  # 30 of 40 dogs called cats
    other[0] = 2
    found = compare(judged("a", first, truth), judged("b", other, truth))
    assert (found.n, found.n_first, found.n_other) == (120, 120, 120)
    accuracy = found.scores[0]
    assert accuracy.name == "accuracy"
    assert accuracy.value == pytest.approx(29 / 120)
    assert 0 < accuracy.low < accuracy.value < accuracy.high
    assert [c.file for c in found.broken] == ["p000.jpg"]
    assert found.broken[0].truth == ("cat",)
    assert (found.broken[0].first, found.broken[0].other) == (("cat",), ("owl",))
    assert [c.file for c in found.fixed] == [f"p{i:03d}.jpg" for i in range(40, 70)]
    dog, cat, owl = found.per_class
    assert (dog.name, dog.n, dog.first, dog.other, dog.sure) == ("dog", 40, 0.25, 1.0, True)
    assert (cat.name, cat.change, cat.sure) == ("cat", pytest.approx(-1 / 40), False)
    assert (owl.change, owl.p_value) == (0.0, 1.0)
    assert "error rate" not in [s.name for s in found.scores]


def test_the_reverse_comparison_is_the_mirror():
    a, b = (judged(name, *drawn(100, 0.8, 0)) for name in "ab")
    said = drawn(100, 0.9, 1)[0]
    b = judged("b", said, a.predictions.targets)
    there, back = compare(a, b), compare(b, a)
    assert there.scores[0].value == pytest.approx(-back.scores[0].value)
    assert there.scores[0].low == pytest.approx(-back.scores[0].high)
    assert [c.file for c in there.fixed] == [c.file for c in back.broken]


def test_two_runs_of_one_kind_are_seldom_called_different():
    named = 0
    for seed in range(60):
        truth = np.random.default_rng(seed).integers(0, 3, 150)
        first, other = (
            np.where(np.random.default_rng([seed, i]).random(150) < 0.8, truth, (truth + 1) % 3) for i in (1, 2)
        )
        named += any(c.sure for c in compare(judged("a", first, truth), judged("b", other, truth)).per_class)
    assert named <= 6  # 60 × 5 % = 3 expected at most, 6 is two standard deviations more


def test_pictures_are_matched_by_file_in_any_order():
    said, truth = drawn(60, 0.7, 2)
    a = judged("a", said, truth)
    back = np.arange(60)[::-1]
    b = judged("b", said[back], truth[back], files=[a.predictions.files[i] for i in back])
    found = compare(a, b)
    assert found.n == 60
    assert found.scores[0].value == 0
    assert not found.fixed
    assert not found.broken


def test_only_pictures_that_both_validated_and_neither_trained_on_are_judged():
    said, truth = drawn(50, 0.8, 3)
    names = [f"p{i:03d}.jpg" for i in range(80)]
    a = judged("a", said, truth, files=names[:50], trained=names[50:])
    # p010 is listed twice in b: it both validates and trains there
    b = judged("b", said, truth, files=names[5:55], trained=[*names[:5], *names[55:], "p010.jpg"])
    a, b = (replace(run, predictions=replace(run.predictions, targets=np.zeros(50, dtype=int))) for run in (a, b))
    found = compare(a, b)
    assert found.n == 44
    assert (found.trained_by_other, found.trained_by_first) == (6, 5)


def test_nothing_in_common_is_refused_with_the_reason():
    said, truth = drawn(20, 0.8, 4)
    names = [f"q{i}.jpg" for i in range(20)]
    a, b = judged("a", said, truth), judged("b", said, truth, files=names)
    with pytest.raises(ArgumentError, match=r"a and b have no picture to be compared on.*--seed"):
        compare(a, b)
    with pytest.raises(ArgumentError, match="b trained on 20 of those that a validated"):
        compare(a, replace(b, trained=frozenset(a.predictions.files)))


def test_relabelled_pictures_are_left_out_and_other_data_sets_refused():
    said, truth = drawn(40, 0.9, 5)
    mended = truth.copy()
    mended[:3] = (mended[:3] + 1) % 3
    found = compare(judged("a", said, truth), judged("b", said, mended))
    assert found.relabelled == ("p000.jpg", "p001.jpg", "p002.jpg")
    assert found.n == 37
    with pytest.raises(ArgumentError, match=r"40 of 40 files .* different data sets"):
        compare(judged("a", said, truth), judged("b", said, (truth + 1) % 3))


def test_classes_that_only_one_run_knows_count_as_wrong_answers_and_their_pictures_are_left_out():
    truth = np.array([0, 0, 1, 1, 2])
    a = judged("a", truth, truth)
    # b knows no owl, but an emu; its order of classes is another one
    names = ("dog", "emu", "cat")
    b = judged("b", [2, 1, 0, 0], [2, 2, 0, 0], files=list(a.predictions.files[:4]), classes=names)
    found = compare(a, b)
    assert found.classes == ("cat", "dog")
    assert (found.only_first, found.only_other) == (("owl",), ("emu",))
    assert found.n == 4
    assert found.scores[0].value == pytest.approx(-0.25)
    assert [(c.file, c.other) for c in found.broken] == [("p001.jpg", ("emu",))]


def test_a_truth_that_the_other_does_not_know_is_left_out():
    truth = np.array([0, 1, 2, 2])
    other = judged("b", truth, truth, classes=("cat", "dog", "bat"))
    found = compare(judged("a", truth, truth), other)
    assert found.n == 2
    assert found.relabelled == ()


def test_tags_are_compared_by_decisions_and_by_scores():
    rng = np.random.default_rng(0)
    truth = (rng.random((80, 3)) < 0.5).astype(int)
    first = truth.copy()
    first[:, 1] = 0  # never gives "dog"
    found = compare(tagged("a", first, truth), tagged("b", truth, truth))
    assert [s.name for s in found.scores] == ["sample-F2 at 0.5", "sample-F2 at 0.2", "micro-F1 at 0.5", "macro-AP"]
    assert all(s.value > 0 for s in found.scores)
    worst = found.per_class[0]
    assert (found.measure, worst.name, worst.first, worst.other, worst.sure) == ("F2", "dog", 0.0, 1.0, True)
    assert len(found.fixed) == truth[:, 1].sum()
    assert "dog" in found.fixed[0].truth
    assert "dog" not in found.fixed[0].first


def test_two_measures_are_named_and_the_first_judges_both():
    truth = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0]])
    one, two = tagged("a", truth, truth), tagged("b", truth, truth)
    exact = replace(one, predictions=replace(one.predictions, decisions=Decisions(Measure.named("exact"))))
    found = compare(exact, two)
    assert found.decided_for == ("exact-match share", "sample-F2")
    assert (found.scores[0].name, found.measure) == ("exact-match share", "F1")
    assert compare(two, exact).scores[0].name == "sample-F2"


def test_tags_of_one_run_alone_are_left_out_without_their_pictures():
    truth = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0]])
    found = compare(tagged("a", truth, truth), tagged("b", truth[:, :2], truth[:, :2], classes=("cat", "dog")))
    assert (found.n, found.only_first) == (3, ("owl",))
    assert not found.broken


def test_tags_against_classes_and_no_common_class_are_refused():
    said, truth = drawn(10, 0.9, 6)
    tags = tagged("t", np.eye(3, dtype=int), np.eye(3, dtype=int))
    with pytest.raises(ArgumentError, match="t gives several tags a picture and a one class"):
        compare(judged("a", said, truth), tags)
    with pytest.raises(ArgumentError, match="no class in common"):
        compare(judged("a", said, truth), judged("b", said, truth, classes=("x", "y", "z")))


def test_groups_of_pictures_widen_the_interval():
    said, truth = drawn(120, 0.7, 7)
    better = np.where(np.arange(120) // 12 % 2 == 0, truth, said)  # right in whole groups
    groups = np.arange(120) // 12
    alone = compare(judged("a", said, truth), judged("b", better, truth)).scores[0]
    grouped = compare(judged("a", said, truth, groups=groups), judged("b", better, truth)).scores[0]
    assert grouped.value == alone.value
    assert grouped.high - grouped.low > 1.2 * (alone.high - alone.low)


def test_few_pictures_or_no_difference_leave_room_for_one():
    said, truth = drawn(30, 0.8, 8)
    same = compare(judged("a", said, truth), judged("b", said, truth)).scores[0]
    assert (same.value, same.low, same.high) == (0.0, pytest.approx(-0.1), pytest.approx(0.1))
    few = compare(judged("a", [0, 1, 1], [0, 1, 2]), judged("b", [1, 1, 2], [0, 1, 2])).scores[0]
    assert -1 <= few.low <= few.value <= few.high <= 1


def test_four_pictures_show_no_certainty():
    truth = np.array([0, 1, 2, 0])
    found = compare(judged("a", (truth + 1) % 3, truth), judged("b", truth, truth))
    verdict = found.scores[0]
    assert (verdict.value, verdict.verdict) == (1.0, "unclear")
    assert -1 < verdict.low < 0 < verdict.high == 1.0


def test_p_values_are_for_all_that_is_said_of_all_runs():
    said, truth = drawn(200, 0.9, 3)
    worse = np.where(np.arange(200) < 20, (truth + 1) % 3, said)
    first, other = judged("a", said, truth), judged("b", worse, truth)
    alone = compare(first, other).scores[0]
    several = compare_all(first, [other, judged("c", said, truth), judged("d", said, truth)])
    assert alone.verdict == "worse"
    assert several[0].scores[0].p_value == pytest.approx(min(3 * alone.p_value, 1.0))
    assert several[1].scores[0].p_value == 1.0


def test_a_tag_is_tested_by_what_is_shown():
    """F2 is equal where one run misses and the other gives too many, though far fewer of its decisions are right."""
    truth = np.zeros((500, 2), dtype=int)
    truth[:100, 0], truth[:, 1] = 1, 1
    misses, many = truth.copy(), truth.copy()
    misses[:20, 0] = 0
    many[100:200, 0] = 1
    found = compare(
        tagged("a", misses, truth, classes=("cat", "dog")), tagged("b", many, truth, classes=("cat", "dog"))
    )
    cat = next(c for c in found.per_class if c.name == "cat")
    assert cat.change == pytest.approx(0.0)
    assert cat.p_value == 1.0
