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
    alone, least_alone = part_p_values(values, part[None], unit_numbers(None, 120))
    (p,), (least,) = part_p_values(values, part[None], unit_numbers(groups, 120))
    assert alone[0] < 0.001
    assert least_alone[0] < 0.001
    assert p == least == pytest.approx(1 / 15)  # of 15 pairs of groups, this one


def test_groups_in_both_parts_are_flipped():
    groups = np.repeat(np.arange(10), 12)
    part = np.arange(120) % 2 == 0
    values = np.where(part, 0.3, 0.8) + 0.01 * groups
    (p,), (least,) = part_p_values(values, part[None], unit_numbers(groups, 120))
    assert p == pytest.approx(2 / 1024)
    assert least == pytest.approx(2 / 1024)


def test_units_are_added_up():
    assert unit_sums(np.array([1.0, 2.0, 4.0]), unit_numbers(["a", "b", "a"], 3)).tolist() == [5.0, 2.0]
