"""Random draws: ranges, probabilities, independence of everything but the generator, and composition."""

from __future__ import annotations

import numpy as np
import pytest

from onecycle.data.augment import transforms as T
from onecycle.data.augment import warp
from onecycle.data.augment.draws import Draws, draw_batch
from onecycle.data.augment.warp import Floats

N = 20_000
SIDE = 33  # odd, so that the middle of a picture is a pixel


def _draw(*tfms: T.Transform, n: int = N, seed: int = 0, shape: tuple[int, int] = (SIDE, SIDE)) -> Draws:
    return draw_batch(list(tfms), np.random.default_rng(seed), np.array([shape] * n), shape)


def _assert_uniform(values: Floats, low: float, high: float, *, bins: int = 10) -> None:
    """Loosely: all inside, and no tenth of the range off by more than five standard deviations."""
    assert low <= values.min()
    assert values.max() <= high
    counts, _ = np.histogram(values, bins=bins, range=(low, high))
    expected = len(values) / bins
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def _assert_share(chosen: np.ndarray, p: float) -> None:
    assert abs(chosen.mean() - p) < 5 * np.sqrt(p * (1 - p) / len(chosen))


def test_rotation_is_uniform_where_it_runs() -> None:
    m = _draw(T.rotate((-10, 10), p=0.75)).matrices
    degrees = np.rad2deg(np.arctan2(m[:, 1, 0], m[:, 0, 0]))
    run = degrees != 0
    _assert_share(run, 0.75)
    _assert_uniform(degrees[run], -10, 10)


def test_zoom_is_uniform_in_scale_and_focus() -> None:
    m = _draw(T.rand_zoom((1.0, 1.5), p=0.5)).matrices
    run = m[:, 0, 0] != 1
    _assert_share(run, 0.5)
    m = m[run]
    np.testing.assert_array_equal(m[:, 0, 0], m[:, 1, 1])
    _assert_uniform(1 / m[:, 0, 0], 1, 1.5)
    for axis in (0, 1):
        _assert_uniform((m[:, axis, 2] / (1 - m[:, 0, 0]) + 1) / 2, -1e-9, 1 + 1e-9)


def test_zoom_without_a_position_stays_in_the_middle() -> None:
    np.testing.assert_array_equal(_draw(T.zoom((1.0, 1.5)), n=100).matrices[:, :2, 2], 0)


def test_all_eight_positions_are_equally_likely() -> None:
    for tfm in (T.dihedral_affine(), T.dihedral()):
        m = _draw(tfm).matrices.round().astype(int)
        _, counts = np.unique(m.reshape(N, 9), axis=0, return_counts=True)
        assert len(counts) == 8
        assert np.abs(counts - N / 8).max() < 5 * np.sqrt(N / 8)


def test_flip_runs_for_half() -> None:
    m = _draw(T.flip_lr(p=0.5)).matrices
    _assert_share(m[:, 0, 0] == -1, 0.5)
    assert (m[:, 1, 1] == 1).all()


def test_symmetric_warp_draws_four_numbers() -> None:
    m = _draw(T.symmetric_warp((-0.2, 0.2), p=0.75)).matrices
    run = np.abs(m - np.eye(3)).max(axis=(1, 2)) > 1e-12
    _assert_share(run, 0.75)
    back = np.linalg.inv(m[run])
    corners = np.concatenate([warp.CORNERS, np.ones((4, 1))], axis=1)
    shown = np.einsum("nij,cj->nci", back, corners)
    targets = shown[..., :2] / shown[..., 2:]
    m0, m1 = targets[:, 3, 1] - 1, targets[:, 1, 1] - 1
    m2, m3 = targets[:, 3, 0] - 1, targets[:, 2, 0] - 1
    for value in (m0, m1, m2, m3):
        _assert_uniform(value, -0.2 - 1e-9, 0.2 + 1e-9)
    assert np.abs(np.corrcoef([m0, m1, m2, m3]) - np.eye(4)).max() < 0.05


def test_perspective_warp_shifts_each_corner() -> None:
    shifts = np.array([0.1, -0.1, 0.05, 0.2, -0.15, 0.1, 0.0, -0.2])
    m = _draw(T.perspective_warp(tuple(shifts)), n=1).matrices[0]
    for corner, shift in zip(warp.CORNERS, shifts.reshape(4, 2), strict=True):
        x, y, z = m @ np.array([*(corner + shift), 1.0])
        np.testing.assert_allclose((x / z, y / z), corner, atol=1e-9)


def test_tilt_and_skew_draw_their_directions() -> None:
    for tfm, n in ((T.tilt(magnitude=0.3), 4), (T.skew(magnitude=0.3), 8)):
        m = _draw(tfm).matrices.round(6).reshape(N, 9)
        _, counts = np.unique(m, axis=0, return_counts=True)
        assert len(counts) == n
        assert np.abs(counts - N / n).max() < 5 * np.sqrt(N / n)


def test_brightness_is_uniform_and_contrast_log_uniform() -> None:
    bright = _draw(T.brightness((0.4, 0.6), p=0.75))
    _assert_share(bright.lit, 0.75)
    _assert_uniform(1 / (1 + np.exp(-bright.offset[bright.lit])), 0.4 - 1e-9, 0.6 + 1e-9)
    assert (bright.gain == 1).all()
    contrast = _draw(T.contrast((0.8, 1.25), p=0.75))
    _assert_share(contrast.lit, 0.75)
    _assert_uniform(np.log(contrast.gain[contrast.lit]), np.log(0.8) - 1e-9, np.log(1.25) + 1e-9)
    assert (contrast.offset == 0).all()


def test_lighting_acts_in_list_order() -> None:
    bright_first = _draw(T.brightness(0.6), T.contrast(2.0), n=1)
    contrast_first = _draw(T.contrast(2.0), T.brightness(0.6), n=1)
    logit = np.log(0.6 / 0.4)
    np.testing.assert_allclose((bright_first.gain, bright_first.offset), [[2], [2 * logit]])
    np.testing.assert_allclose((contrast_first.gain, contrast_first.offset), [[2], [logit]])


def test_unlit_pictures_are_known() -> None:
    draws = _draw(*T.get_transforms(p_lighting=0.5)[0])
    _assert_share(draws.lit, 0.75)
    assert (draws.gain[~draws.lit] == 1).all()
    assert (draws.offset[~draws.lit] == 0).all()


def test_window_positions_are_uniform() -> None:
    shapes = np.array([[40, 60]] * N)
    draws = draw_batch([T.rand_crop()], np.random.default_rng(0), shapes, (31, 31))
    pixels = warp.to_pixels(draws.matrices, shapes, (31, 31))
    for axis, starts in ((1, 10), (0, 30)):
        first = pixels[:, axis, 2].round().astype(int)
        counts = np.bincount(first, minlength=starts)
        assert len(counts) == starts
        assert np.abs(counts - N / starts).max() < 5 * np.sqrt(N / starts)


def test_zoom_squish_stays_inside_and_keeps_the_area() -> None:
    m = _draw(T.zoom_squish((1.0, 2.0), (0.75, 1.33)), shape=(50, 50)).matrices
    width, height = m[:, 0, 0], m[:, 1, 1]
    assert (np.abs(m[:, :2, 2]) <= 1 - np.stack([width, height], axis=1) + 1e-12).all()
    whole = (width == 1) & (height == 1)  # the fallback of a square picture
    area, ratio = (width * height)[~whole], (width / height)[~whole]
    assert 0.5 <= area.min() <= area.max() <= 1
    assert 1 / 1.34 <= ratio.min() < 0.8
    assert 1.25 < ratio.max() <= 1.34


def test_zoom_squish_falls_back_to_the_centred_square() -> None:
    m = _draw(T.zoom_squish(0.5, 1.0), n=1, shape=(50, 100)).matrices[0]
    np.testing.assert_allclose(m, np.diag([0.5, 1, 1]), atol=1e-12)


def test_cutout_draws_squares_inside_the_picture() -> None:
    draws = _draw(T.cutout(n_holes=(1, 3), length=(4, 8), p=0.5))
    top, bottom, left, right = np.moveaxis(draws.holes, 2, 0)
    assert draws.holes.shape == (N, 3, 4)
    assert min(top.min(), left.min()) == 0
    assert max(bottom.max(), right.max()) == SIDE
    used = (bottom > top).any(axis=1)
    _assert_share(used, 0.5)
    sides = (bottom - top)[:, 0][used]
    assert sides.max() == 8
    counts = (bottom > top).sum(axis=1)[used]
    assert set(np.unique(counts)) == {1, 2, 3}


def test_rgb_randomize_picks_any_channel() -> None:
    (noise,) = _draw(T.rgb_randomize(p=0.5)).channel_noise
    _assert_share(noise.channel >= 0, 0.5)
    assert set(np.unique(noise.channel)) == {-1, 0, 1, 2}
    _assert_uniform(noise.level, 0, 0.3)
    (fixed,) = _draw(T.rgb_randomize(channel=1), n=5).channel_noise
    assert (fixed.channel == 1).all()


def test_geometry_composes_dihedral_rotate_zoom_then_warp() -> None:
    warp_of = T.symmetric_warp((0.1, -0.1, 0.05, 0.15))
    parts = [T.dihedral_affine(5), T.rotate(20), T.zoom(1.2, row_pct=0.3, col_pct=0.8)]
    one_by_one = [_draw(t, n=1, shape=(60, 60)).matrices[0] for t in (*parts, warp_of)]
    expected = one_by_one[0] @ one_by_one[1] @ one_by_one[2] @ one_by_one[3]
    for order in ([*parts, warp_of], [warp_of, *parts]):  # the list's order across kinds does not matter
        np.testing.assert_allclose(_draw(*order, n=1, shape=(60, 60)).matrices[0], expected, atol=1e-12)


def test_rectangles_scale_the_composed_affine_only() -> None:
    shape = np.array([[40, 80]])
    found = _draw(T.rotate(20), T.zoom(1.2), T.tilt(0, 0.2), n=1, shape=(40, 80)).matrices[0]
    affine = warp.rotation(np.array([20.0])) @ np.diag([1 / 1.2, 1 / 1.2, 1])
    tilt = warp.perspective(warp.tilt_targets(np.array([0]), np.array([0.2])))
    np.testing.assert_allclose(found, (warp.keep_angles(affine, shape) @ tilt)[0], atol=1e-12)


def test_draws_depend_on_the_generator_alone() -> None:
    train, _ = T.get_transforms(xtra_tfms=[T.jitter(0.1), T.cutout(), T.rgb_randomize()])
    first, again, other = (_draw(*train, n=9, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.matrices, again.matrices)
    np.testing.assert_array_equal(first.gain, again.gain)
    np.testing.assert_array_equal(first.offset, again.offset)
    np.testing.assert_array_equal(first.holes, again.holes)
    np.testing.assert_array_equal(first.jitter[0].seeds, again.jitter[0].seeds)
    np.testing.assert_array_equal(first.channel_noise[0].level, again.channel_noise[0].level)
    assert (first.matrices != other.matrices).any()
    assert len({m.tobytes() for m in first.matrices}) == 9  # every picture its own


def test_the_global_generator_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    _draw(*T.get_transforms()[0], n=3)
    np.testing.assert_array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("rows", [slice(1, 3), [1, 2], np.array([1, 2])])
def test_select_takes_the_pictures_draws(rows: slice | list[int] | np.ndarray) -> None:
    draws = _draw(*T.get_transforms(xtra_tfms=[T.jitter(), T.cutout(), T.rgb_randomize()])[0], n=4)
    part = draws.select(rows)
    assert len(part) == 2
    np.testing.assert_array_equal(part.matrices, draws.matrices[1:3])
    np.testing.assert_array_equal(part.lit, draws.lit[1:3])
    np.testing.assert_array_equal(part.jitter[0].spread, draws.jitter[0].spread[1:3])
    np.testing.assert_array_equal(part.channel_noise[0].channel, draws.channel_noise[0].channel[1:3])
