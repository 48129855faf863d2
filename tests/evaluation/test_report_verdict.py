"""The verdict: fixed rules from intervals to sentences, each with its numbers."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

import report_toys as toys
from onecycle.evaluation.certainty.intervals import Estimate
from onecycle.evaluation.report.class_table import ClassRow, Span, class_rows
from onecycle.evaluation.report.scores import (
    FIXED,
    HELD_OUT,
    SAME_PICTURES,
    Scores,
    calibration_facts,
    measure,
)
from onecycle.evaluation.report.verdict import GRADES, Warned, grade_class, judge


def row(
    precision=(0.9, 0.8, 0.95), recall=(0.9, 0.8, 0.95), *, support=50, share=0.2, tp=45, name="sea"
) -> ClassRow:
    return ClassRow(
        0, name, support, 200, share, tp, 5, 5, Span(*precision), Span(*recall), Span(0.9), Span(0.9), 0.5
    )


def scores(value=0.9, low=0.85, high=0.93, baseline=0.6, chosen_on=FIXED) -> Scores:
    return Scores(Estimate("sample-F2 at 0.2", value, low, high, baseline, 200, "prior"), chosen_on, ())


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
    assert grade_class(given).grade == grade


def test_the_least_support_and_the_limit_are_met_exactly():
    assert grade_class(row(support=10)).grade == "trusted"
    assert grade_class(row((0.8, 0.7, 0.9), (0.8, 0.7, 0.9))).grade == "trusted"
    assert grade_class(row((0.8, 0.6999, 0.9), (0.8, 0.7, 0.9))).grade == "finds"


def test_a_tag_that_nearly_all_pictures_have_is_trusted_with_a_remark():
    assert "always saying so" in grade_class(row((0.95, 0.9, 0.97), share=0.93)).reason
    assert "always" not in grade_class(row(share=0.2)).reason


def test_every_number_in_a_sentence_is_among_its_numbers():
    evidence = toys.tags()
    rows, found = class_rows(evidence), measure(evidence)
    verdict = judge(
        found, rows, calibration_facts(evidence, calibrated=False), Warned(leaked=3), is_multi=True
    )
    for s in verdict.statements:
        if s.question in ("How good", "How sure", "Better than guessing", "Leaks"):
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


def test_an_interval_that_reaches_the_guess_is_no_better_than_guessing():
    verdict = judge(scores(0.65, 0.59, 0.7), [row()], None, Warned(leaked=0), is_multi=True)
    assert verdict.bottom_line.tone == "bad"
    assert "Not clearly better" in verdict.bottom_line.text


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


def test_too_few_pictures_are_not_called_a_bad_model():
    verdict = judge(scores(), [row(support=3)] * 3, None, Warned(leaked=0), is_multi=False)
    assert "too few pictures" in verdict.bottom_line.text


def test_every_class_has_one_grade_and_is_named_once():
    evidence = toys.classes(c=40, n=400)
    verdict = judge(measure(evidence), class_rows(evidence), None, Warned(), is_multi=False)
    assert sum(len(verdict.of(g)) for g in GRADES) == 40
    few = next(s for s in verdict.statements if "more:" in s.text or "more" in s.text)
    assert "and" in few.text


def test_classes_say_accuracy_in_per_cent():
    evidence = toys.classes()
    found = measure(evidence)
    verdict = judge(found, class_rows(evidence), None, Warned(leaked=0), is_multi=False)
    right = (evidence.probs.argmax(axis=1) == evidence.targets).mean()
    assert f"{100 * right:.1f} %" in verdict.statements[0].text
    assert found.headline.baseline == pytest.approx(0.5)


def test_probabilities_that_are_off_are_not_called_good():
    evidence = toys.tags(400, 3)
    off = replace(evidence, shown=np.clip(evidence.shown * 0.3, 0, 1).astype(np.float32))
    for e, tone in ((off, "care"),):
        verdict = judge(
            measure(e), class_rows(e), calibration_facts(e, calibrated=False), Warned(), is_multi=True
        )
        assert next(s for s in verdict.statements if s.question == "Probabilities").tone == tone


def test_a_tag_without_any_picture_has_no_numbers():
    evidence = toys.tags()
    empty = replace(evidence, targets=np.where(np.arange(5) == 2, 0, evidence.targets))
    found = class_rows(empty)[2]
    assert math.isnan(found.recall.value)
    assert math.isnan(found.ap.value)
    assert grade_class(found).grade == "few"
