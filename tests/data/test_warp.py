"""Matrices against the contract's formulas, and what they do to points."""

from __future__ import annotations

import numpy as np
import pytest

from onecycle.data.augment import warp

RNG = np.random.default_rng(7)


def _through(matrix: np.ndarray, point: tuple[float, float]) -> np.ndarray:
    x, y, z = matrix @ np.array([*point, 1.0])
    return np.array([x / z, y / z])


def test_rotation() -> None:
    degrees = np.array([0.0, 30.0, -10.0])
    angle = np.deg2rad(degrees)
    for m, a in zip(warp.rotation(degrees), angle, strict=True):
        expected = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
        np.testing.assert_allclose(m, expected, atol=1e-12)


def test_magnification() -> None:
    s, r, c = 1.3, 0.2, 0.9
    m = warp.magnification(np.array([s]), np.array([r]), np.array([c]))[0]
    expected = [[1 / s, 0, (1 - 1 / s) * (2 * c - 1)], [0, 1 / s, (1 - 1 / s) * (2 * r - 1)], [0, 0, 1]]
    np.testing.assert_allclose(m, expected, atol=1e-12)
    focus = (2 * c - 1, 2 * r - 1)
    np.testing.assert_allclose(_through(m, focus), focus, atol=1e-12)


def test_squishing_acts_on_the_width_below_1_and_on_the_height_above() -> None:
    m = warp.squishing(np.array([0.8, 1.25]), np.array([0.0, 0.0]), np.array([1.0, 1.0]))
    np.testing.assert_allclose(m[0], [[0.8, 0, 0.2], [0, 1, 0], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(m[1], [[1, 0, 0], [0, 0.8, -0.2], [0, 0, 1]], atol=1e-12)


@pytest.mark.parametrize("k", range(8))
def test_square_positions(k: int) -> None:
    x, y = -1 if k & 1 else 1, -1 if k & 2 else 1
    expected = [[0, x, 0], [y, 0, 0], [0, 0, 1]] if k & 4 else [[x, 0, 0], [0, y, 0], [0, 0, 1]]
    np.testing.assert_array_equal(warp.square_position(np.array([k]))[0], expected)


def test_symmetric_warp_takes_the_corners_where_the_contract_says() -> None:
    magnitude = RNG.uniform(-0.2, 0.2, (20, 4))
    matrices = warp.perspective(warp.symmetric_targets(magnitude))
    corners = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    for matrix, m in zip(matrices, magnitude, strict=True):
        targets = [(-1 - m[3], -1 - m[1]), (-1 - m[2], 1 + m[1]), (1 + m[3], -1 - m[0]), (1 + m[2], 1 + m[0])]
        for corner, target in zip(corners, targets, strict=True):
            # The picture's corner appears at the target, so the output position ``target`` shows the corner.
            np.testing.assert_allclose(_through(matrix, target), corner, atol=1e-6)


def test_a_perspective_that_moves_nothing_is_the_identity() -> None:
    np.testing.assert_allclose(warp.perspective(warp.CORNERS[None])[0], np.eye(3), atol=1e-12)


TILTED = {
    0: [(-1, -1), (-1, 1), (1, -1.3), (1, 1.3)],
    1: [(-1, -1.3), (-1, 1.3), (1, -1), (1, 1)],
    2: [(-1, -1), (-1.3, 1), (1, -1), (1.3, 1)],
    3: [(-1.3, -1), (-1, 1), (1.3, -1), (1, 1)],
}
SKEWED = {
    0: (0, (-1.3, -1)),
    1: (0, (-1, -1.3)),
    2: (1, (-1.3, 1)),
    3: (1, (-1, 1.3)),
    4: (2, (1.3, -1)),
    5: (2, (1, -1.3)),
    6: (3, (1.3, 1)),
    7: (3, (1, 1.3)),
}


@pytest.mark.parametrize("direction", range(4))
def test_tilt_targets(direction: int) -> None:
    found = warp.tilt_targets(np.array([direction]), np.array([0.3]))[0]
    np.testing.assert_allclose(found, TILTED[direction], atol=1e-12)


@pytest.mark.parametrize("direction", range(8))
def test_skew_targets(direction: int) -> None:
    corner, target = SKEWED[direction]
    expected = warp.CORNERS.copy()
    expected[corner] = target
    np.testing.assert_allclose(warp.skew_targets(np.array([direction]), np.array([0.3]))[0], expected, atol=1e-12)


def test_keep_angles_makes_a_rotation_rigid_in_pixels() -> None:
    shapes = np.array([[100, 300]])
    m = warp.keep_angles(warp.rotation(np.array([25.0])), shapes)[0]
    np.testing.assert_allclose(m[0, 1], -np.sin(np.deg2rad(25)) * 100 / 300)
    np.testing.assert_allclose(m[1, 0], np.sin(np.deg2rad(25)) * 300 / 100)
    # In half-sides (w, h) the linear part is a rotation again.
    sides = np.diag([300.0, 100.0])
    rigid = sides @ m[:2, :2] @ np.linalg.inv(sides)
    np.testing.assert_allclose(rigid @ rigid.T, np.eye(2), atol=1e-12)


@pytest.mark.parametrize(
    ("current", "wanted", "pct", "start"),
    [
        (256, 224, 0.5, 16),
        (257, 224, 0.5, 17),
        (256, 224, 0.0, 0),
        (256, 224, 1.0, 32),
        (224, 224, 0.7, 0),
        (100, 224, 0.5, -62),
        (101, 224, 0.0, -62),
        (101, 224, 0.5, -61),
    ],
)
def test_window_start_follows_v1(current: int, wanted: int, pct: float, start: int) -> None:
    assert warp.window_start(np.array([current]), wanted, np.array([pct]))[0] == start


def test_pixel_window_shows_the_pixels_from_its_start() -> None:
    shapes, start, size = np.array([[20, 30]]), np.array([[3, 7]]), (10, 12)
    pixels = warp.to_pixels(warp.pixel_window(shapes, start, size), shapes, size)[0]
    np.testing.assert_allclose(pixels, [[1, 0, 7], [0, 1, 3], [0, 0, 1]], atol=1e-12)


def test_single_rows_and_columns_do_not_divide_by_zero() -> None:
    shapes, start, size = np.array([[1, 1], [5, 1]]), np.zeros((2, 2), dtype=np.int64), (1, 1)
    pixels = warp.to_pixels(warp.pixel_window(shapes, start, size), shapes, size)
    np.testing.assert_allclose(pixels[:, :2, 2], 0, atol=1e-12)
