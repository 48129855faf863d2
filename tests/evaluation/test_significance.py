"""Flipped signs and permuted parts: exact where that can be counted by hand, and never small for few groups."""

from __future__ import annotations

import numpy as np
import pytest

from onecycle.evaluation.certainty.significance import flip_p_values, part_p_values, unit_numbers, unit_sums


def test_right_and_wrong_is_mcnemars_exact_test():
    contributions = np.array([[1.0] * 6 + [0.0] * 90, [1.0] * 5 + [-1.0] + [0.0] * 90, [0.0] * 96]).T
    assert flip_p_values(contributions).tolist() == pytest.approx([2 / 64, 14 / 64, 1.0])


def test_all_flips_of_few_and_drawn_ones_of_many_agree_with_what_can_be_counted():
    few = np.array([[3.0, 2.0, 1.0]]).T  # of 4 flips up to a common sign, one is as far as 6
    assert flip_p_values(few).tolist() == [0.25]
    rng = np.random.default_rng(0)
    many = rng.normal(0.2, 1, (200, 1))
    z = abs(many.sum()) / np.sqrt((many**2).sum())
    assert flip_p_values(many)[0] == pytest.approx(2 * _upper(z), rel=0.3)


def _upper(z: float) -> float:
    from scipy.stats import norm

    return float(norm.sf(z))


def test_groups_are_permuted_whole_and_few_of_them_can_show_nothing():
    groups = np.repeat(np.arange(6), 20)
    values, part = np.where(groups < 2, 0.2, 0.9), groups < 2
    alone, least_alone = part_p_values(values, part[None], unit_numbers(None, 120), bounded=True)
    (p,), (least,) = part_p_values(values, part[None], unit_numbers(groups, 120), bounded=True)
    assert alone[0] < 0.001
    assert least_alone[0] < 0.001
    assert p == least == pytest.approx(1 / 15)  # of 15 pairs of groups, this one


def test_groups_in_both_parts_are_flipped():
    groups = np.repeat(np.arange(10), 12)
    part = np.arange(120) % 2 == 0
    values = np.where(part, 0.3, 0.8) + 0.01 * groups
    (p,), (least,) = part_p_values(values, part[None], unit_numbers(groups, 120), bounded=True)
    assert p == pytest.approx(2 / 1024)
    assert least == pytest.approx(2 / 1024)


def test_seldom_and_large_errors_against_many_small_ones_are_no_matter_of_signs_alone():
    """Equal means: 195 of 200 units gain a little, 5 lose as much together; one lost by chance is no proof."""
    even = np.r_[np.full(195, 5 / 195), np.full(5, -1.0)]
    assert flip_p_values(even[:, None])[0] == pytest.approx(1.0)
    lucky = np.r_[np.full(199, 5 / 195), -1.0]  # four fewer of them than 5 in 200: one in 25 sets has so few
    z = lucky.sum() / np.sqrt(lucky @ lucky)
    assert 2 * _upper(z) < 0.002  # what the signs say
    assert flip_p_values(lucky[:, None])[0] > 0.02
    alike = np.random.default_rng(0).normal(0.2, 1, (60, 1))
    assert flip_p_values(alike)[0] == pytest.approx(_exact_t(alike[:, 0]), rel=0.3)


def _exact_t(values: np.ndarray) -> float:
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(values, 0).pvalue)


def test_a_small_part_without_a_mistake_is_no_better_than_a_rest_near_it():
    """Twenty of twenty right, where 0.95 is usual, happens in a third of all parts."""
    rest = np.random.default_rng(0).beta(9.5, 0.5, 180)
    values, part = np.r_[np.ones(20), rest - rest.mean() + 0.95], np.arange(200) < 20
    values = np.clip(values, 0, 1)
    units = unit_numbers(None, 200)
    (p,), _ = part_p_values(values, part[None], units, bounded=True)
    (unbounded,), _ = part_p_values(values, part[None], units, bounded=False)
    assert unbounded < 0.01
    assert p > 0.1


def test_few_units_that_are_alike_by_chance_are_no_proof():
    groups = np.repeat(np.arange(20), 10)
    values = np.where(groups < 2, 0.55, 0.8) + 0.01 * (groups % 3)
    (p,), (least,) = part_p_values(values, groups[None] < 2, unit_numbers(groups, 200), bounded=True)
    assert least == pytest.approx(1 / 190)
    assert p > 2 * least
    _, (one,) = part_p_values(values, groups[None] < 1, unit_numbers(groups, 200), bounded=True)
    assert one == 1.0  # a single unit does not say how far others like it are from it


def test_units_are_added_up():
    assert unit_sums(np.array([1.0, 2.0, 4.0]), unit_numbers(["a", "b", "a"], 3)).tolist() == [5.0, 2.0]
