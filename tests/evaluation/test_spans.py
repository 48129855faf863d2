"""Intervals of single classes: Wilson's for independent pictures, of a smaller effective number for groups."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

import report_toys as toys
from onecycle.evaluation.certainty.intervals import MacroAveragePrecision, estimate, macro_fbeta, micro_fbeta, wilson
from onecycle.evaluation.certainty.spans import Span, ratio_spans
from onecycle.evaluation.class_table import class_rows


def flags(*columns: str) -> np.ndarray:
    """Return bool ``(N, C)`` from columns of 0 and 1."""
    return np.array([[int(digit) for digit in column] for column in columns]).T > 0


def test_a_share_of_independent_pictures_has_wilson_s_interval():
    hits = flags("1110000000", "1111111111")
    precision, perfect = ratio_spans(hits, (1.0, ~hits))
    assert (precision.value, precision.effective) == pytest.approx((0.3, 10))
    assert (precision.low, precision.high) == pytest.approx(tuple(map(float, wilson(0.3, 10))))
    assert (perfect.value, perfect.effective) == (1, 10)
    assert not ratio_spans(flags("000"), (1.0, flags("000")))[0].known


def test_the_effective_number_of_f_is_that_of_its_spread_over_draws():
    # F2 = 5·tp / (5·tp + 4·fn + fp) of 100 pictures, drawn anew many times with the same shares.
    rng, shares = np.random.default_rng(0), [0.2, 0.05, 0.1, 0.65]
    tp, fp, fn, _ = rng.multinomial(100, shares, 20_000).T
    drawn = 5 * tp / (5 * tp + 4 * fn + fp)
    kinds = np.repeat(np.arange(4), [20, 5, 10, 65])
    f2 = ratio_spans((kinds == 0)[:, None], (1 / 5, (kinds == 1)[:, None]), (4 / 5, (kinds == 2)[:, None]))[0]
    assert f2.value == pytest.approx(5 * 20 / (5 * 20 + 4 * 10 + 5))
    assert math.sqrt(f2.value * (1 - f2.value) / f2.effective) == pytest.approx(drawn.std(), rel=0.05)


def test_the_interval_of_f2_covers_where_a_kind_of_miss_was_not_seen():
    # A tag that is nearly always found, with some false positives: most draws have no miss, which weighs four times.
    rng, shares = np.random.default_rng(0), [0.1, 0.02, 0.004, 0.876]
    kinds = rng.choice(4, (200, 1500), p=shares)
    spans = ratio_spans(kinds == 0, (1 / 5, kinds == 1), (4 / 5, kinds == 2))
    true = 5 * 0.1 / (5 * 0.1 + 4 * 0.004 + 0.02)
    assert (~(kinds == 2).any(axis=0)).mean() > 0.4
    assert 0.92 <= np.mean([s.low <= true <= s.high for s in spans]) <= 0.98


def test_groups_that_are_right_or_wrong_as_a_whole_count_as_one_picture_each():
    right = np.repeat(np.random.default_rng(0).random(40) < 0.7, 5)[:, None]
    groups = np.repeat(np.arange(40), 5)
    alone, grouped = ratio_spans(right, (1.0, ~right))[0], ratio_spans(right, (1.0, ~right), groups=groups)[0]
    assert alone.effective == 200
    assert grouped.effective == pytest.approx(40, rel=0.03)
    assert grouped.df == 39
    assert grouped.low < alone.low < alone.high < grouped.high


def test_groups_of_one_picture_change_little_and_names_of_groups_nothing():
    hits = np.random.default_rng(1).random((300, 3)) < 0.6
    alone, singles = ratio_spans(hits, (1.0, ~hits)), ratio_spans(hits, (1.0, ~hits), groups=np.arange(300))
    for a, b in zip(alone, singles, strict=True):
        assert (b.low, b.high) == pytest.approx((a.low, a.high), abs=2e-3)
    pairs = np.arange(300) // 2
    order = np.random.default_rng(2).permutation(300)
    named = ratio_spans(hits[order], (1.0, ~hits[order]), groups=[f"scene {g}" for g in pairs[order]])
    assert [s.low for s in named] == pytest.approx([s.low for s in ratio_spans(hits, (1.0, ~hits), groups=pairs)])


def test_a_class_without_a_miss_has_the_effective_number_of_the_others_correlation():
    whole = np.repeat(np.random.default_rng(0).random((40, 4)) < 0.7, 5, axis=0)
    whole[:, 0] = True
    groups = np.repeat(np.arange(40), 5)
    assert ratio_spans(whole, (1.0, ~whole), groups=groups)[0].effective == pytest.approx(40, rel=0.05)
    # Where no class has a miss, nothing is known of the correlation, so a group counts as one picture.
    assert ratio_spans(whole[:, :1], (1.0, ~whole[:, :1]), groups=groups)[0].effective == pytest.approx(40)
    assert not ratio_spans(whole[:5], (1.0, ~whole[:5]), groups=groups[:5])[0].has_interval  # one group


def test_a_p_value_is_the_test_that_the_interval_inverts():
    span = ratio_spans(flags("1" * 45 + "0" * 5), (1.0, flags("0" * 45 + "1" * 5)))[0]
    assert span.p_value(span.low) == pytest.approx(0.025, abs=1e-4)
    assert span.p_value(0.7) == pytest.approx(float(norm.sf(0.2 / math.sqrt(0.7 * 0.3 / 50))))
    grouped = replace(span, df=9.0)
    assert grouped.p_value(0.7) > span.p_value(0.7)
    assert Span(math.nan).p_value(0.7) == 1


def test_a_score_of_exactly_one_is_known_no_better_than_its_positives_say():
    truth = np.zeros((200, 1))
    truth[:5] = 1
    for score in (MacroAveragePrecision(), macro_fbeta(2, 0.5), micro_fbeta(1, 0.5)):
        found = estimate(score, truth, truth)
        assert found.value == 1
        assert found.low == pytest.approx(float(wilson(1.0, 5, 2.776)[0]), abs=1e-3)  # t of 4 degrees of freedom
    row = class_rows(toys.classes(60, 2))[0]
    assert row.groups is None
    spans = ratio_spans(truth > 0, (0.2, np.zeros((200, 1), dtype=bool)))
    assert spans[0].low == pytest.approx(float(wilson(1.0, 5)[0]))


def test_rows_take_the_groups_of_the_predictions():
    p = toys.tags(120, 3)
    groups = np.arange(120) // 6
    alone, grouped = class_rows(p), class_rows(replace(p, groups=groups))
    for a, b, flag in zip(alone, grouped, p.truth.T, strict=True):
        assert a.groups is None
        assert b.groups == len(set(groups[flag].tolist()))
        assert (b.precision.value, b.recall.value, b.fbeta.value) == (a.precision.value, a.recall.value, a.fbeta.value)
        assert b.recall.high - b.recall.low > a.recall.high - a.recall.low
        assert a.specificity.value == pytest.approx(1 - a.fp / a.absent)


def test_macro_ap_leaves_out_rare_tags_and_says_over_how_many_it_is():
    rng = np.random.default_rng(0)
    targets = (rng.random((100, 4)) < [0.5, 0.2, 0.0, 0.0]).astype(float)
    targets[:4, 2] = 1  # one positive too few
    probs = np.clip(0.3 * targets + 0.7 * rng.random((100, 4)), 0, 1)
    found = estimate(MacroAveragePrecision(), probs, targets)
    each = [estimate(MacroAveragePrecision(), probs[:, [c]], targets[:, [c]]).value for c in range(4)]
    assert np.isnan(each).tolist() == [False, False, True, True]
    assert found.value == pytest.approx(np.mean(each[:2]))
    assert (found.name, found.over) == ("macro-AP", "2 tags (5+ positives)")
    assert str(found).startswith("macro-AP of 2 tags (5+ positives) 0.")
    assert found.to_dict()["over"] == found.over
    assert math.isnan(estimate(MacroAveragePrecision(), probs[:, 2:], targets[:, 2:]).low)
