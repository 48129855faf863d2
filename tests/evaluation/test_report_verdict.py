"""The verdict: fixed rules from intervals to sentences, each with its numbers."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

import report_toys as toys
from onecycle.evaluation.certainty.decisions import Measure
from onecycle.evaluation.certainty.intervals import wilson
from onecycle.evaluation.certainty.spans import Span
from onecycle.evaluation.class_table import ClassRow, class_rows
from onecycle.evaluation.headline import FIXED, HELD_OUT, SAME_PICTURES, Headline
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.report.scores import Scores, calibration_facts, measure
from onecycle.evaluation.report.verdict import GRADES, HARD_ONES, GradedClass, IssueCount, Warned, grade_classes, judge


def row(
    precision=(0.9, 0.8, 0.95), recall=(0.9, 0.8, 0.95), *, support=50, share=0.2, tp=45, fp=5, name="sea"
) -> ClassRow:
    return ClassRow(
        index=0,
        name=name,
        support=support,
        absent=round(support / share) - support,
        groups=None,
        share=share,
        train=200,
        tp=tp,
        fp=fp,
        fn=5,
        precision=span(*precision),
        recall=span(*recall),
        specificity=of_counts(round(support / share) - support - fp, round(support / share) - support),
        fbeta=Span(0.9),
        ap=Span(0.9),
        threshold=0.5,
    )


def span(value: float, low: float, high: float) -> Span:
    """Return the span of so many independent pictures that its interval begins at ``low``."""
    z = 1.959964
    effective = z**2 * low * (1 - low) / (value - low) ** 2 if value > low else math.inf
    return Span(value, low, high, effective)


def of_counts(hits: int, n: int) -> Span:
    """Return the span of a share of independent pictures."""
    low, high = wilson(hits / n, n)
    return Span(hits / n, float(low), float(high), n)


def graded(one: ClassRow) -> GradedClass:
    return grade_classes([one])[0]


def scores(value=0.9, low=0.85, high=0.93, baseline=0.6, chosen_on=FIXED) -> Scores:
    ends = {"value": value, "low": low, "high": high, "baseline": baseline, "gain": (low - baseline, high - baseline)}
    named = "always the same tag: sea"
    return Scores(Headline(name="sample-F2 at 0.2", **ends, n=200, baseline_name=named, thresholds=chosen_on), ())


@pytest.mark.parametrize(
    ("given", "grade"),
    [
        (row(), "trusted"),
        (row(recall=(0.6, 0.4, 0.75)), "precise"),
        (row(precision=(0.6, 0.4, 0.75)), "finds"),
        (row((0.75, 0.5, 0.9), (0.7, 0.5, 0.9)), "open"),
        (row((0.3, 0.2, 0.4), (0.3, 0.2, 0.4)), "weak"),
        (row(support=9), "few"),
        (replace(row(), tp=0, fp=0), "weak"),
    ],
)
def test_grades_follow_the_ends_of_the_intervals(given, grade):
    assert graded(given).grade == grade


def test_the_least_support_and_the_limit_are_met_exactly():
    assert graded(row(support=10)).grade == "trusted"
    # The lower of the two is tested once the other has passed, so that 5 % are left for it alone.
    assert graded(row((0.8, 0.701, 0.9), (0.8, 0.701, 0.9))).grade == "trusted"
    assert graded(row((0.8, 0.699, 0.9), (0.8, 0.699, 0.9))).grade == "open"
    assert graded(row((0.8, 0.67, 0.9), (0.9, 0.8, 0.95))).grade == "finds"


def test_all_classes_of_a_page_are_judged_at_once():
    border = row((0.85, 0.73, 0.93), (0.85, 0.73, 0.93))
    sure, few = row((0.99, 0.95, 1.0), (0.99, 0.95, 1.0)), row(support=9)
    assert graded(border).grade == "trusted"
    assert {g.grade for g in grade_classes([border] * 17)} == {"open"}
    found = [g.grade for g in grade_classes([border, *[sure] * 16])]
    assert found == ["trusted"] * 17  # what is clear leaves all of the chance to what is not
    assert grade_classes([border, *[few] * 16])[0].grade == "trusted"  # what is not judged costs nothing
    verdict = judge(scores(), [border] * 17, None, Warned(leaked=0), is_multi=True)
    said = next(s for s in verdict.statements if s.question == "Trust")
    assert "17 tags judged at once" in said.text


def test_a_class_of_few_groups_is_not_judged():
    found = graded(replace(row(), groups=9))
    assert found.grade == "groups"
    assert "9 groups of pictures have it" in found.reason
    assert graded(replace(row(), groups=10)).grade == "trusted"
    assert graded(replace(row(support=8), groups=8)).grade == "few"


def common(precision, *, fp, support=187, share=0.935) -> ClassRow:
    return row(precision, (0.99, 0.96, 0.998), support=support, share=share, tp=support - 2, fp=fp)


def test_a_tag_whose_yes_is_no_better_than_always_yes_is_not_trusted():
    # Planet's primary: 187 of 200 tiles have it, and it is predicted for 6 of the 13 that do not.
    primary = common((0.97, 0.932, 0.986), fp=6)
    found = graded(primary)
    assert found.grade == "always"
    assert "6 of the 13 pictures without it" in found.reason
    assert "94 % of the pictures have it" in found.reason
    verdict = judge(scores(), [primary, row()], None, Warned(leaked=0), is_multi=True)
    assert "1 of 2 tags" in verdict.bottom_line.text
    said = next(s for s in verdict.statements if s.question == "No better than always yes")
    assert said.text.startswith("sea (94 % of the pictures have it): so far as these pictures show")
    assert "always" not in graded(row(share=0.2)).reason


def test_a_very_common_tag_is_trusted_where_it_recognises_absences():
    assert graded(common((0.995, 0.98, 0.999), fp=1, support=935)).grade == "trusted"
    missed = graded(common((0.97, 0.95, 0.98), fp=30, support=935))
    assert missed.grade == "finds"
    assert "30 of the 65 pictures without it" in missed.reason


def test_a_tag_that_too_few_pictures_lack_is_not_judged():
    found = graded(common((1.0, 0.981, 1.0), fp=0, support=195, share=0.975))
    assert found.grade == "few"
    assert "5 validation pictures do not have it" in found.reason


def test_false_alarms_as_common_as_the_tag_itself_are_no_find():
    assert graded(row((0.3, 0.2, 0.4), share=0.25)).grade == "always"
    assert graded(row((0.4, 0.3, 0.5), share=0.25)).grade == "finds"


def test_every_number_in_a_sentence_is_among_its_numbers():
    predictions = toys.tags()
    rows, found = class_rows(predictions), measure(predictions)
    verdict = judge(found, rows, calibration_facts(predictions), Warned(leaked=3), is_multi=True)
    for s in verdict.statements:
        if s.question in ("How good", "How sure", "Baseline", "Leaks"):
            for text in re.findall(r"\d+\.\d{3}", s.text):
                assert any(abs(float(text) - v) < 6e-4 for v in s.numbers.values()), s


def test_leaks_come_before_everything():
    verdict = judge(scores(), [row()], None, Warned(leaked=4), is_multi=True)
    assert verdict.bottom_line.tone == "bad"
    assert "copies" in verdict.bottom_line.text
    assert any(s.question == "Leaks" and "4 validation pictures" in s.text for s in verdict.statements)


def test_without_an_audit_leaks_are_not_ruled_out():
    verdict = judge(scores(), [row()], None, Warned(), is_multi=True)
    assert any("not ruled out" in s.text for s in verdict.statements)


def test_an_interval_that_reaches_the_baseline_is_no_better_than_the_baseline():
    verdict = judge(scores(0.65, 0.59, 0.7), [row()], None, Warned(leaked=0), is_multi=True)
    assert verdict.bottom_line.tone == "bad"
    assert "Not shown to be better" in verdict.bottom_line.text


@pytest.mark.parametrize(
    ("where", "words"),
    [(HELD_OUT, "thresholds chosen on the others"), (HELD_OUT, "single tags"), (SAME_PICTURES, "too good")],
)
def test_it_says_where_thresholds_were_chosen(where, words):
    verdict = judge(scores(chosen_on=where), [row()], None, Warned(leaked=0), is_multi=True)
    assert any(words in s.text for s in verdict.statements)


def test_all_trusted_some_trusted_none_trusted():
    weak = row((0.3, 0.2, 0.4), (0.3, 0.2, 0.4))
    texts = [
        judge(scores(), rows, None, Warned(leaked=0), is_multi=True).bottom_line.text
        for rows in ([row()], [row(), weak], [weak])
    ]
    assert "all 1 tags" in texts[0]
    assert "1 of 2 tags" in texts[1]
    assert "none of the 1 tags" in texts[2]


def at_chance(*, right: int) -> Predictions:
    """300 classes with 3 pictures each, 180 of which validate; the commonest class of training is not among them."""
    predictions = toys.classes(180, 300)
    probs = np.full((180, 300), 0.003, np.float32)
    given = (predictions.targets + np.where(np.arange(180) < right, 0, 7)) % 180
    probs[np.arange(180), given] = 1 - 0.003 * 299
    counts = np.full(300, 3)
    counts[299] = 4
    return replace(predictions, probs=probs, decided=given, train_counts=counts, n_train=901)


def test_chance_among_many_classes_is_not_better_than_the_baseline():
    predictions = at_chance(right=2)
    found = measure(predictions)
    calibration = calibration_facts(predictions)
    verdict = judge(found, class_rows(predictions), calibration, Warned(leaked=0), is_multi=False)
    assert (found.headline.baseline, found.headline.baseline_name) == (1 / 180, "always the same class: class 0")
    assert "Not shown to be better than the baseline" in verdict.bottom_line.text
    said = {s.question: s for s in verdict.statements}
    assert said["Baseline"].text.startswith("Not shown to be better than the baseline: always the same class: class 0")
    assert "never looks at a picture" in said["Baseline"].text
    assert "mean what they say:" not in said["Probabilities"].text.replace("whether they mean what they say:", "")
    good = at_chance(right=60)
    best = judge(measure(good), class_rows(good), None, Warned(leaked=0), is_multi=False)
    assert best.bottom_line.text.startswith("Better than the baseline")


def test_all_scores_have_the_same_baseline():
    found = measure(at_chance(right=2))
    other = {e.name: e for e in found.others}
    assert other["error rate"].baseline == pytest.approx(179 / 180)
    assert other["top-5 accuracy"].baseline == pytest.approx(5 / 180)


def test_a_model_below_the_baseline_and_one_without_are_not_better():
    worse = scores(0.3, 0.25, 0.35)
    verdict = judge(worse, [row()], None, Warned(leaked=0), is_multi=True)
    assert "Worse than the baseline" in next(s for s in verdict.statements if s.question == "Baseline").text
    assert "do not use it" in verdict.bottom_line.text
    unknown = replace(worse, headline=replace(worse.headline, baseline=None, gain=None))
    verdict = judge(unknown, [row()], None, Warned(leaked=0), is_multi=True)
    assert "do not use it" in verdict.bottom_line.text


@pytest.mark.parametrize(
    ("right", "n", "ends", "words"),
    [
        (2, 180, (0.005, 0.0, 0.02), "2 right answers; 50 and 10 are the least"),
        (30, 40, (0.005, 0.0, 0.02), "40 validation pictures and 30 right answers"),
        (90, 180, (0.05, 0.01, 0.12), "cannot be told"),
        (90, 180, (0.03, 0.01, 0.06), "They mean what they say: the most probable class is 3.0 points off"),
        (900, 9000, (0.04, 0.03, 0.05), "They mean what they say"),
        (90, 180, (0.05, 0.03, 0.12), "Do not read them as shares"),
        (2, 40, (0.5, 0.4, 0.6), "Do not read them as shares"),
    ],
)
def test_probabilities_are_called_good_only_where_the_upper_end_is_below_the_limit(right, n, ends, words):
    predictions = toys.classes()
    found = calibration_facts(predictions)
    error = replace(found.error, **dict(zip(("value", "low", "high"), ends, strict=True)))
    facts = replace(found, error=error, n=n, n_true=right)
    verdict = judge(measure(predictions), class_rows(predictions), facts, Warned(leaked=0), is_multi=False)
    assert words in next(s for s in verdict.statements if s.question == "Probabilities").text


def yes_decisions(n: int, *, off: dict[int, float], seed: int = 0) -> Predictions:
    """Return tags whose no is always right and whose yes says 0.6 to 0.98; that of some tags is right less often."""
    rng = np.random.default_rng(seed)
    given = rng.random((n, 6)) < 0.3
    probs = np.where(given, rng.uniform(0.6, 0.98, given.shape), 0.02)
    truth = given & (rng.random(given.shape) < probs - np.array([off.get(i, 0.0) for i in range(6)]))
    return replace(
        toys.tags(n, 6), probs=probs.astype(np.float32), decided=given.astype(int), targets=truth.astype(int)
    )


def said_of_probabilities(p: Predictions) -> str:
    verdict = judge(measure(p), class_rows(p), calibration_facts(p), Warned(leaked=0), is_multi=True)
    return next(s for s in verdict.statements if s.question == "Probabilities").text


def test_a_yes_that_is_right_less_often_is_not_hidden_by_many_right_noes():
    assert said_of_probabilities(yes_decisions(600, off={})).startswith("They mean what they say: a yes is ")
    wrong = said_of_probabilities(yes_decisions(600, off=dict.fromkeys(range(6), 0.3)))
    assert wrong.startswith("Do not read them as shares: a yes is ")


def test_a_tag_that_is_off_is_named_though_the_others_are_right():
    text = said_of_probabilities(yes_decisions(1500, off={2: 0.25}))
    assert text.startswith("Do not read them as shares")
    assert "Off by themselves: tag 2 (says 79 %, right in " in text
    assert "tag 3" not in text


def test_without_any_yes_nothing_is_said_of_probabilities():
    p = toys.tags()
    none = replace(p, probs=p.probs * 0.01, decided=np.zeros_like(p.decided))
    assert "no tag is given" in said_of_probabilities(none)
    assert calibration_facts(none).curve is None


def counted(n: int, pictures: int, judged: int | None) -> IssueCount:
    """A count of a run that did not ask how many would look doubtful if all were right."""
    return IssueCount(flagged=n, n=n, pictures=pictures, judged=judged)


@pytest.mark.parametrize(
    ("count", "is_multi", "text"),
    [
        (counted(538, 339, 16999), True, "538 of 16,999 yes/no decisions on tags look doubtful (on 339 pictures)"),
        (counted(1, 1, 17), True, "1 of 17 yes/no decisions on tags looks doubtful (on 1 picture)"),
        (counted(3, 3, None), True, "3 yes/no decisions on tags look doubtful (on 3 pictures)"),
        (counted(1200, 1200, 9000), False, "1,200 of 9,000 labels look doubtful"),
        (counted(0, 0, 9), False, "no label looks doubtful"),
        (
            IssueCount(flagged=158, n=108, pictures=108, judged=1797, expected=49.7, low=77.1, high=140.6),
            False,
            "158 of 1,797 labels look doubtful, about 50 of which would if all were right; 108 more (77 to 141)",
        ),
        (
            IssueCount(flagged=44, n=0, pictures=0, judged=1797, expected=42.2, low=-14, high=21),
            False,
            "44 of 1,797 labels look doubtful, no more than chance if all were right (about 42 would)",
        ),
    ],
)
def test_doubtful_labels_are_counted_with_their_unit(count, is_multi, text):
    assert count.text(is_multi=is_multi) == text
    verdict = judge(scores(), [row()], None, Warned(leaked=0, issues=count), is_multi=is_multi)
    found = [s.text for s in verdict.statements if s.question == "Labels"]
    assert found == ([] if not count.n else [f"{text}; {HARD_ONES}. The most doubtful are below."])


def test_too_few_pictures_are_not_called_a_bad_model():
    verdict = judge(scores(), [row(support=3)] * 3, None, Warned(leaked=0), is_multi=False)
    assert "too few pictures" in verdict.bottom_line.text


def test_every_class_has_one_grade_and_is_named_once():
    predictions = toys.classes(c=40, n=400)
    verdict = judge(measure(predictions), class_rows(predictions), None, Warned(), is_multi=False)
    assert [g.grade in GRADES for g in verdict.graded] == [True] * 40
    few = next(s for s in verdict.statements if "more:" in s.text or "more" in s.text)
    assert "and" in few.text


def test_classes_say_accuracy_in_per_cent():
    predictions = toys.classes()
    found = measure(predictions)
    verdict = judge(found, class_rows(predictions), None, Warned(leaked=0), is_multi=False)
    right = (predictions.probs.argmax(axis=1) == predictions.targets).mean()
    assert f"{100 * right:.1f} %" in verdict.statements[0].text
    assert found.headline.baseline == pytest.approx(0.5)


def test_probabilities_that_are_off_are_not_called_good():
    predictions = toys.tags(400, 3)
    off = replace(predictions, probs=np.clip(predictions.probs * 0.3, 0, 1).astype(np.float32))
    for e, tone in ((off, "care"),):
        verdict = judge(measure(e), class_rows(e), calibration_facts(e), Warned(), is_multi=True)
        assert next(s for s in verdict.statements if s.question == "Probabilities").tone == tone


def test_a_tag_without_any_picture_has_no_numbers():
    predictions = toys.tags()
    empty = replace(predictions, targets=np.where(np.arange(5) == 2, 0, predictions.targets))
    found = class_rows(empty)[2]
    assert math.isnan(found.recall.value)
    assert math.isnan(found.ap.value)
    assert graded(found).grade == "few"


@pytest.mark.parametrize(
    ("measure_name", "said"),
    [
        ("exact", "get exactly their tags."),
        ("f1", "a missed tag costs as much as a wrong one."),
        ("precision=0.9", "are found, by thresholds that were chosen for precision 0.9."),
    ],
)
def test_how_good_it_is_is_said_in_the_words_of_the_measure(measure_name, said):
    found = replace(scores(), measure=Measure.named(measure_name))
    verdict = judge(found, [row()], None, Warned(leaked=0), is_multi=True)
    assert said in verdict.statements[0].text
