"""The parts of a report: tables, pairs, charts, pictures and sliders, as numbers."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest

import report_toys as toys
from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.decisions import Decisions
from onecycle.evaluation.certainty.intervals import wilson
from onecycle.evaluation.certainty.reliability import reliability_curve
from onecycle.evaluation.certainty.thresholds import TagThresholds, choose_thresholds
from onecycle.evaluation.class_table import class_rows
from onecycle.evaluation.headline import HELD_OUT, SAME_PICTURES
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.report.charts import Series, line_plot, nice_ticks, reliability_plot, thinned
from onecycle.evaluation.report.confusion import MOST_CLASSES, confused_pairs, confusion_table
from onecycle.evaluation.report.content import shown_labels, swapped_tags, wrong_first
from onecycle.evaluation.report.pictures import PagePictures, blended, thumbnail_px
from onecycle.evaluation.report.scores import calibration_facts, measure
from onecycle.evaluation.report.sliders import STEPS, make_sliders, packed_bits
from onecycle.evaluation.scores import average_precision, confusion_counts, sample_fbeta_score


def test_predictions_refuse_what_does_not_fit():
    with pytest.raises(ArgumentError, match="probs"):
        replace(toys.tags(), probs=np.zeros((3, 5)))


def test_class_rows_are_counts_and_wilson():
    e = toys.tags()
    truth, given = e.truth, e.predicted
    for c, row in enumerate(class_rows(e)):
        tp = int((truth[:, c] & given[:, c]).sum())
        assert (row.tp, row.fp, row.fn) == (tp, int(given[:, c].sum()) - tp, int(truth[:, c].sum()) - tp)
        if tp + row.fp:
            low, high = wilson(tp / (tp + row.fp), tp + row.fp)
            assert (row.precision.low, row.precision.high) == pytest.approx((float(low), float(high)))
        assert row.ap.value == pytest.approx(average_precision(truth[:, c], e.probs[:, c]))
        assert row.fbeta.value == pytest.approx(5 * tp / (5 * tp + 4 * row.fn + row.fp))


def test_rare_classes_and_many_classes_have_no_bootstrap():
    rows = class_rows(toys.tags(40, 6))
    assert {r.support >= 5 for r in rows} == {True, False}
    assert all(r.ap.has_interval == (r.support >= 5) for r in rows)
    assert not any(r.ap.has_interval for r in class_rows(toys.classes(200, 100)))


def test_chosen_thresholds_are_scored_on_held_out_folds():
    e = toys.tags(200, 4)
    report = choose_thresholds(e.probs, e.targets)
    chosen = replace(e, decisions=Decisions(thresholds=report.thresholds))
    found = measure(chosen)
    assert found.headline.thresholds == HELD_OUT
    assert found.headline.value == report.held_out[0].value
    elsewhere = TagThresholds((0.123,) * 4, "sample-F2", 200)
    other = measure(replace(chosen, decisions=Decisions(thresholds=elsewhere)))
    assert other.headline.thresholds == SAME_PICTURES
    known = measure(replace(chosen, decisions=Decisions(thresholds=elsewhere), held_out=report.decided))
    assert (known.headline.thresholds, known.headline.value) == (HELD_OUT, report.held_out[0].value)
    assert known.headline.baseline == found.headline.baseline == known.others[2].baseline


def test_calibrated_probabilities_are_judged_on_other_folds():
    e = toys.tags()
    facts = calibration_facts(replace(e, shown=e.probs))
    assert facts.calibrated
    assert facts.held_out


def test_the_matrix_shows_everything_of_few_classes():
    e = toys.classes(c=3)
    found = confusion_table(e)
    assert found.counts.sum() == len(e)
    assert found.left_out == 0
    assert found.levels.max() <= 9
    assert (found.levels[found.counts == 0] == 0).all()


def test_the_matrix_of_many_classes_shows_the_most_confused():
    e = toys.classes(1000, 100, noise=1.5)
    found = confusion_table(e)
    assert len(found.classes) == MOST_CLASSES
    assert found.left_out == 70
    wrong = e.decided != e.targets
    assert found.errors == wrong.sum()
    counts = confusion_counts(e.targets, e.decided, 100)
    np.fill_diagonal(counts, 0)
    first = np.argwhere(counts == counts.max())[0]
    assert set(first.tolist()) <= set(found.classes)
    assert found.errors_shown == counts[np.ix_(found.classes, found.classes)].sum() >= 15


def test_pairs_have_their_own_pictures():
    e = toys.classes(200, 4)
    for pair in confused_pairs(e):
        assert pair.count == ((e.targets == pair.actual) & (e.decided == pair.predicted)).sum()
        for i in pair.pictures:
            assert (e.targets[i], e.decided[i]) == (pair.actual, pair.predicted)
        if pair.like_actual is not None:
            assert e.targets[pair.like_actual] == e.decided[pair.like_actual] == pair.actual


def test_tag_pairs_count_swaps():
    e = toys.tags()
    truth, given = e.truth, e.predicted
    for missed, instead, n in swapped_tags(e):
        both = truth[:, missed] & ~given[:, missed] & ~truth[:, instead] & given[:, instead]
        assert both.sum() == n


def test_shown_labels_put_mistakes_first():
    e = toys.tags()
    i = int(wrong_first(e)[0])
    marks = [g.mark != "right" for g in shown_labels(e, i)]
    assert marks == sorted(marks, reverse=True)
    assert marks[0]


# -- sliders -------------------------------------------------------------------------------------------------


def test_ranks_decide_as_python_does_at_every_threshold():
    rng = np.random.default_rng(0)
    # probabilities on, just below and just above the thresholds, in single precision
    at = rng.choice(np.arange(201) / 200, (300, 3)).astype(np.float32)
    probs = np.clip(np.nextafter(at, rng.choice([-1, 0.0, 2.0], at.shape).astype(np.float32)), 0, 1)
    probs[:, 0] = at[:, 0]
    own = np.array([0.2, 0.1234, 1.0])
    chosen, names = TagThresholds(tuple(own.tolist()), "F2", 300), tuple(map(str, range(300)))
    s = make_sliders(
        Predictions.of(
            probs, is_multi=True, decisions=Decisions(thresholds=chosen), files=names, classes=("a", "b", "c")
        )
    )
    for c in range(3):
        for k, t in enumerate(s.grids[c]):
            limit = own[c] if k == s.in_use[c] else np.float32(t)
            assert ((s.ranks[:, c] > k) == (probs[:, c] >= limit)).all(), (c, k, t)
    assert [s.grids[c][s.in_use[c]] for c in range(3)] == pytest.approx(own.tolist())
    assert [len(g) for g in s.grids] == [STEPS + 1, STEPS + 2, STEPS + 1]


def test_bits_are_packed_row_after_row():
    flags = np.array([[True, False, True], [False, False, True], [True, True, False]])
    unpacked = np.unpackbits(np.frombuffer(base64.b64decode(packed_bits(flags)), np.uint8))[:9]
    assert (unpacked.astype(bool).reshape(3, 3) == flags).all()


def test_in_use_ranks_give_the_decisions():
    e = toys.tags()
    s = make_sliders(e)
    given = s.ranks > np.array(s.in_use)
    assert (given == e.predicted).all()
    assert sample_fbeta_score(given, e.truth, 2).mean() == pytest.approx(
        sample_fbeta_score(e.predicted, e.truth, 2).mean()
    )


# -- charts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.847, 0.893), (-3, 1e6), (1e-9, 3e-9)])
def test_ticks_are_round_and_inside(low, high):
    found = nice_ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-9 * abs(high) <= v <= high + 1e-9 * abs(high) for v in found)


def test_a_line_lies_inside_its_frame_and_bends_where_its_numbers_do():
    plot = line_plot("t", [Series("a", np.arange(3), np.array([0.0, 1.0, 0.0]))], x_label="x", y_label="y")
    points = [tuple(map(float, p.split())) for p in plot.lines[0].path[1:].split("L")]
    assert points[0][0] < points[1][0] < points[2][0]
    assert points[1][1] < points[0][1] == points[2][1]  # up is small
    assert all(0 <= x <= plot.width and 0 <= y <= plot.height for x, y in points)


def test_nothing_finite_gives_no_chart():
    assert line_plot("t", [Series("a", np.arange(3), np.full(3, np.nan))], x_label="x", y_label="y") is None


def test_thinning_keeps_the_extremes():
    y = np.random.default_rng(0).normal(size=5000)
    kept = thinned(y)
    assert len(kept) <= 402
    assert {int(y.argmin()), int(y.argmax()), 0, 4999} <= set(kept.tolist())


def test_the_reliability_diagram_has_a_row_a_bin():
    outcome = np.repeat([False, True, True, False], [18, 2, 18, 2])
    plot = reliability_plot(reliability_curve(np.repeat([0.1, 0.9], 20), outcome))
    assert len(plot.whiskers) == len(plot.rows) == 2
    assert "2 of 2 bins" in plot.summary
    assert plot.band.count("L") == 3


# -- pictures ------------------------------------------------------------------------------------------------


def test_pictures_are_made_until_the_budget_is_spent():
    album = PagePictures(toys.drawn, budget=9000)
    found = album.thumbnails(range(50), 64)
    assert 0 < len(found) < 50
    assert len(found) + len(album.left_out) == 50
    assert sum(map(len, found.values())) <= 9000


def test_once_the_budget_is_spent_no_more_pictures_are_read():
    seen = []
    album = PagePictures(lambda i: seen.append(i) or toys.drawn(i), budget=9000)
    album.thumbnails(range(5000), 64)
    assert len(album.left_out) > 4900
    assert len(seen) < 100


def test_a_picture_that_is_gone_is_a_placeholder():
    album = PagePictures(lambda i: None)
    assert album.shot(3, 64).src == ""
    assert album.gone == {3}


def test_the_heat_is_laid_where_the_map_is_high():
    grey = np.full((40, 40, 3), 128, np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[0, 0] = 2.0
    warm = blended(grey, heat)
    assert warm.shape == grey.shape
    assert warm[2, 2].astype(int).sum() > warm[35, 35].astype(int).sum()
    assert (blended(grey, np.zeros((4, 4))) == blended(grey, np.zeros((4, 4)))[0, 0]).all()


def test_more_pictures_are_smaller():
    assert thumbnail_px(100) > thumbnail_px(500) > thumbnail_px(5000)
