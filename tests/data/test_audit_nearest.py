"""The nearest rows: exactly for few of them, nearly always for many."""

from __future__ import annotations

import numpy as np
import pytest

from onecycle.data.audit import nearest
from onecycle.data.audit.nearest import nearest_rows


def unit(n: int, d: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute(vectors: np.ndarray, k: int) -> np.ndarray:
    products = vectors @ vectors.T
    np.fill_diagonal(products, -np.inf)
    return np.argsort(-products, axis=1)[:, :k]


def test_few_rows_get_exactly_their_nearest():
    vectors = unit(100, 8)
    np.testing.assert_array_equal(np.sort(nearest_rows(vectors, 5)), np.sort(brute(vectors, 5)))


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_fewer_rows_than_asked_for_leave_gaps(n):
    found = nearest_rows(unit(n, 3), 5)
    assert found.shape == (n, 5)
    for row, others in enumerate(found):
        assert sorted(others[others >= 0]) == [i for i in range(n) if i != row]


def test_a_forest_finds_nearly_all_each_once_and_the_same_again(monkeypatch):
    monkeypatch.setattr(nearest, "_LEAF", 100)
    vectors = unit(1500, 6)
    found = nearest_rows(vectors, 10)
    assert all(len(set(row)) == 10 and i not in row for i, row in enumerate(found.tolist()))
    assert np.mean([np.isin(best, row).mean() for best, row in zip(brute(vectors, 10), found, strict=True)]) > 0.9
    np.testing.assert_array_equal(found, nearest_rows(vectors, 10))


def test_equal_rows_do_not_hinder(monkeypatch):
    monkeypatch.setattr(nearest, "_LEAF", 10)
    vectors = np.repeat(unit(3, 4), 40, axis=0)
    found = nearest_rows(vectors, 4)
    assert (found // 40 == np.arange(120)[:, None] // 40).mean() > 0.8
