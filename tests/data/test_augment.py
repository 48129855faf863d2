"""Applying draws: exact where pixels are only moved, equal to a plain reference where they are interpolated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F

from onecycle.data.augment import transforms as T
from onecycle.data.augment import warp
from onecycle.data.augment.augmenter import BatchAugmenter
from onecycle.data.augment.draws import Draws
from onecycle.data.augment.on_device import transformed
from onecycle.errors import ArgumentError

PADDING = ("reflection", "border", "zeros")


def _pixels(n: int = 4, height: int = 40, width: int = 40, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures, channels-last in memory as the pixel store gives them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((n, 3, 5, 5), generator=generator)
    fine = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True).clamp(0, 1)
    return (fine * 255).byte().contiguous(memory_format=torch.channels_last)


def _shapes(pixels: torch.Tensor) -> np.ndarray:
    return np.array([pixels.shape[2:]] * len(pixels))


def _run(pixels: torch.Tensor, *tfms: Any, seed: int = 0, **how: Any) -> torch.Tensor:
    return BatchAugmenter(list(tfms), **how)(pixels, _shapes(pixels), np.random.default_rng(seed))


def _plain(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float().div(255)


# ---- pixels that only move ----


def test_nothing_to_do_gives_exactly_the_pixels() -> None:
    pixels = _pixels()
    assert torch.equal(_run(pixels, T.rotate(p=0), T.contrast(p=0)), _plain(pixels))
    assert torch.equal(_run(pixels, T.rotate(p=0), size=40), _plain(pixels))
    assert torch.equal(_run(pixels), _plain(pixels))


@pytest.mark.parametrize("k", range(8))
def test_dihedral_is_flip_and_transpose(k: int) -> None:
    pixels = _pixels()
    flips = [d for d, bit in ((2, 1), (3, 2)) if k & bit]
    expected = torch.flip(pixels, flips)
    expected = expected.transpose(2, 3) if k & 4 else expected
    assert torch.equal(_run(pixels, T.dihedral(k)), _plain(expected))


@pytest.mark.parametrize("k", range(8))
def test_dihedral_affine_negates_and_swaps(k: int) -> None:
    """With swapped axes, output (x, y) shows input (±y, ±x); bit 1 is the sign of the input's x, bit 2 of its y."""
    pixels = _pixels()
    flips = [d for d, bit in ((3, 1), (2, 2)) if k & bit]
    expected = torch.flip(pixels, flips)
    expected = expected.transpose(2, 3) if k & 4 else expected
    assert torch.equal(_run(pixels, T.dihedral_affine(k)), _plain(expected))


def test_flips_are_torch_flip() -> None:
    pixels = _pixels(width=31)
    expected = _plain(pixels.flip(3))
    assert torch.equal(_run(pixels, T.flip_lr()), expected)
    assert torch.equal(_run(pixels, T.flip_affine()), expected)
    assert torch.equal(_run(pixels, T.flip_affine(), T.flip_lr()), _plain(pixels))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_rot90(turns: int) -> None:
    pixels = _pixels(height=33, width=33)
    assert torch.equal(_run(pixels, T.rotate(90.0 * turns)), _plain(torch.rot90(pixels, turns, (2, 3))))


@pytest.mark.parametrize(
    ("row_pct", "col_pct", "row", "col"), [(0.5, 0.5, 8, 3), (0, 0, 0, 0), (1, 1, 16, 6), (0.25, 1, 4, 6)]
)
def test_a_window_is_a_slice(row_pct: float, col_pct: float, row: int, col: int) -> None:
    pixels = _pixels(n=11, height=40, width=30)
    expected = _plain(pixels[:, :, row : row + 24, col : col + 24])
    assert torch.equal(_run(pixels, T.crop_pad(row_pct=row_pct, col_pct=col_pct), size=24), expected)
    assert torch.equal(_run(pixels, T.crop(24, row_pct=row_pct, col_pct=col_pct)), expected)


def test_random_windows_are_slices_of_their_own_picture() -> None:
    pixels, shapes = _pixels(n=11, height=40, width=30), np.array([[40, 30]] * 11)
    augmenter = BatchAugmenter([T.rand_crop()], size=(20, 24))
    draws = augmenter.draw(np.random.default_rng(1), shapes)
    found = augmenter.apply(pixels, shapes, draws)
    starts = warp.to_pixels(draws.matrices, shapes, (20, 24)).round().astype(int)[:, :2, 2]
    assert len({tuple(s) for s in starts.tolist()}) > 5
    for i, (col, row) in enumerate(starts):
        assert torch.equal(found[i], _plain(pixels[i, :, row : row + 20, col : col + 24]))


@pytest.mark.parametrize(
    ("padding_mode", "numpy_mode"), list(zip(PADDING, ("reflect", "edge", "constant"), strict=True))
)
def test_a_picture_that_is_too_small_is_padded(padding_mode: str, numpy_mode: Any) -> None:
    pixels = _pixels(height=20, width=30)
    expected = np.pad(pixels.numpy(), ((0, 0), (0, 0), (5, 5), (0, 0)), mode=numpy_mode)
    found = _run(pixels, T.crop_pad(), size=30, padding_mode=padding_mode)
    assert torch.equal(found, _plain(torch.from_numpy(expected)))
    by_pad = _run(pixels, T.pad(5, mode=padding_mode), size=30, padding_mode="border")
    assert torch.equal(by_pad, found)


def test_padding_far_beyond_the_picture_mirrors_again_and_again() -> None:
    pixels = _pixels(n=1, height=2, width=40)
    found = _run(pixels, T.crop_pad(), size=40)
    rows = found[0, 0, :, 0]
    assert torch.equal(rows[0::2], rows[0].repeat(20))
    assert torch.equal(rows[1::2], rows[1].repeat(20))


def test_one_pixel_pictures() -> None:
    pixels = _pixels(n=2, height=1, width=1)
    assert torch.equal(_run(pixels, T.crop_pad(), size=3), _plain(pixels).expand(2, 3, 3, 3))
    assert torch.equal(_run(pixels, T.rotate(10.0)), _plain(pixels))
    assert _run(_pixels(n=2), T.rotate(10.0), size=1).shape == (2, 3, 1, 1)


# ---- against a plain reference, one picture at a time ----


def _reference(picture: torch.Tensor, draws: Draws, padding_mode: str, mode: str) -> torch.Tensor:
    """Sample and light one picture the slow, obvious way, in float64."""
    h, w = draws.size
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, h, dtype=torch.float64), torch.linspace(-1, 1, w, dtype=torch.float64), indexing="ij"
    )
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ torch.from_numpy(draws.matrices[0]).T
    grid = (points[..., :2] / points[..., 2:])[None]
    found = F.grid_sample(
        picture[None].double() / 255, grid, mode=mode, padding_mode=padding_mode, align_corners=True
    ).clamp(0, 1)
    if draws.lit[0]:
        clamped = found.clamp(1e-7, 1 - 1e-7)
        found = torch.sigmoid(torch.log(clamped / (1 - clamped)) * draws.gain[0] + draws.offset[0])
    return found[0].float()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("padding_mode", PADDING)
def test_the_fused_pass_equals_the_reference(padding_mode: str, mode: str) -> None:
    pixels, shapes = _pixels(n=11, height=40, width=52), np.array([[40, 52]] * 11)
    train, _ = T.get_transforms(max_rotate=30, max_zoom=1.3, max_lighting=0.4, max_warp=0.4, p_affine=1)
    augmenter = BatchAugmenter(train, size=36, padding_mode=padding_mode, mode=mode)
    draws = augmenter.draw(np.random.default_rng(2), shapes)
    found = augmenter.apply(pixels, shapes, draws)
    for i in range(len(pixels)):
        expected = _reference(pixels[i], draws.select([i]), padding_mode, mode)
        torch.testing.assert_close(found[i], expected, atol=5e-5, rtol=0)


def test_the_steps_one_after_the_other_give_the_same_picture() -> None:
    """Warp, then affine, sampled once; flipped; cut: v1's order, with whole-pixel steps done by slicing."""
    pixels = _pixels(n=1, height=41, width=41)
    geometry = [T.symmetric_warp((0.1, 0.05, -0.1, 0.15)), T.rotate(8.0), T.zoom(1.2, row_pct=0.2, col_pct=0.9)]
    whole = _run(pixels, *geometry)
    fused = _run(pixels, T.crop_pad(row_pct=0, col_pct=1), T.flip_lr(), *geometry, size=31)
    torch.testing.assert_close(fused, whole.flip(3)[:, :, :31, 10:], atol=2e-5, rtol=0)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding_mode", PADDING)
def test_pictures_of_different_shapes_come_out_as_if_alone(padding_mode: str, mode: str) -> None:
    shapes = np.array([[40, 52], [40, 40], [64, 40], [20, 37]])
    canvas = torch.randint(0, 256, (4, 3, 70, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    alone = [_pixels(1, *(int(v) for v in shape), seed=i) for i, shape in enumerate(shapes)]
    for i, picture in enumerate(alone):
        canvas[i, :, : shapes[i, 0], : shapes[i, 1]] = picture[0]
    train, _ = T.get_transforms(flip_vert=True, max_rotate=30, max_warp=0.3, p_affine=0.9)
    augmenter = BatchAugmenter(train, size=40, padding_mode=padding_mode, mode=mode)
    draws = augmenter.draw(np.random.default_rng(5), shapes)
    together = augmenter.apply(canvas, shapes, draws)
    for i, picture in enumerate(alone):
        one = augmenter.apply(picture, shapes[i : i + 1], draws.select([i]))[0]
        if mode == "nearest":  # a position between two pixels may round either way
            assert (together[i] != one).float().mean() < 0.005
        else:
            torch.testing.assert_close(together[i], one, atol=5e-5, rtol=0)


def test_the_rest_of_the_canvas_is_not_looked_at() -> None:
    shapes = np.array([[30, 30]] * 3)
    small = _pixels(3, 30, 30)
    large = torch.full((3, 3, 50, 44), 255, dtype=torch.uint8)
    large[:, :, :30, :30] = small
    for tfms in ([T.crop_pad()], [T.rotate(20.0)]):
        augmenter = BatchAugmenter(tfms, size=40)
        draws = augmenter.draw(np.random.default_rng(0), shapes)
        assert torch.equal(augmenter.apply(small, shapes, draws), augmenter.apply(large, shapes, draws))


def test_a_picture_does_not_depend_on_its_neighbours() -> None:
    """Copied and interpolated pictures, lit and unlit ones, all mixed in one batch."""
    pixels, shapes = _pixels(n=21), np.array([[40, 40]] * 21)
    train, _ = T.get_transforms(flip_vert=True, p_affine=0.4, p_lighting=0.4, xtra_tfms=[T.jitter(0.05, p=0.3)])
    augmenter = BatchAugmenter(train, size=32)
    draws = augmenter.draw(np.random.default_rng(3), shapes)
    together = augmenter.apply(pixels, shapes, draws)
    for i in range(21):
        one = augmenter.apply(pixels[i : i + 1], shapes[i : i + 1], draws.select([i]))
        torch.testing.assert_close(together[i : i + 1], one, atol=1e-6, rtol=0)


# ---- light ----


def test_lighting_is_the_plain_logit_formula() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16).contiguous()
    found = _run(ramp, T.brightness(0.65), T.contrast(1.4))
    x = (ramp.double() / 255).clamp(1e-7, 1 - 1e-7)
    expected = torch.sigmoid((torch.log(x / (1 - x)) + np.log(0.65 / 0.35)) * 1.4)
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)
    assert found.min() >= 0
    assert found.max() <= 1


def test_only_lit_pictures_change() -> None:
    pixels, shapes = _pixels(n=20), np.array([[40, 40]] * 20)
    augmenter = BatchAugmenter([T.brightness(0.7, p=0.5)])
    draws = augmenter.draw(np.random.default_rng(0), shapes)
    found = augmenter.apply(pixels, shapes, draws)
    assert 0 < draws.lit.sum() < 20
    for i in range(20):
        assert torch.equal(found[i], _plain(pixels[i])) == (not draws.lit[i])


def test_brightness_above_a_half_brightens() -> None:
    pixels = _pixels()
    assert (_run(pixels, T.brightness(0.7)) >= _plain(pixels) - 1e-6).all()
    assert (_run(pixels, T.brightness(0.3)) <= _plain(pixels) + 1e-6).all()


# ---- pixels ----


def test_cutout_blacks_out_squares_and_leaves_the_rest() -> None:
    pixels = _pixels().clamp(min=1)
    found = _run(pixels, T.cutout(n_holes=2, length=8))
    black = found == 0
    assert (black.all(dim=1) == black.any(dim=1)).all()
    assert torch.equal(found[~black], _plain(pixels)[~black])
    for share in black.float().mean(dim=(1, 2, 3)):
        assert 16 / 1600 <= share <= 128 / 1600


def test_cutout_moves_with_the_window() -> None:
    pixels, shapes = torch.full((1, 3, 40, 40), 200, dtype=torch.uint8), np.array([[40, 40]])
    augmenter = BatchAugmenter([T.crop_pad(row_pct=1, col_pct=0), T.cutout(length=10)], size=30)
    draws = augmenter.draw(np.random.default_rng(0), shapes)
    uncut = BatchAugmenter([T.cutout(length=10)])
    whole = uncut.apply(pixels, shapes, uncut.draw(np.random.default_rng(0), shapes))
    assert torch.equal(augmenter.apply(pixels, shapes, draws), whole[:, :, 10:, :30])


def test_rgb_randomize_replaces_one_channel() -> None:
    pixels = _pixels()
    found = _run(pixels, T.rgb_randomize(channel=1, thresh=0.3))
    assert torch.equal(found[:, [0, 2]], _plain(pixels)[:, [0, 2]])
    assert found[:, 1].max() < 0.3
    assert found[:, 1].flatten(1).std(dim=1).min() > 0


def test_jitter_takes_neighbours_no_farther_than_its_magnitude() -> None:
    ramp = torch.arange(0, 200, 4, dtype=torch.uint8).expand(1, 3, 50, 50).contiguous()
    found = _run(ramp, T.jitter(4 / 49), padding_mode="border")  # half a side is 24.5 px: 2 px
    steps = (found - _plain(ramp)).abs() * 255 / 4
    assert 1.5 < steps.max() <= 2 + 1e-3
    assert steps.mean() == pytest.approx(1, abs=0.1)


# ---- every named transform ----

BUILDERS: dict[str, Callable[[float], list[T.Transform]]] = {
    "crop": lambda p: [T.crop(40, row_pct=(0, 1), col_pct=(0, 1), p=p)],
    "pad": lambda p: [T.pad(4)] if p else [T.pad(0)],
    "rand_pad": lambda p: T.rand_pad(4 if p else 0, 40),
    "rand_resize_crop": lambda p: T.rand_resize_crop(40, max_scale=2.0) if p else [T.crop(40)],
    "zoom_crop": lambda p: T.zoom_crop((1.1, 1.3), do_rand=True, p=p),
}


def _built(name: str, p: float) -> list[T.Transform]:
    builder = BUILDERS.get(name)
    return builder(p) if builder else T.flatten(T.NAMED[name](p=p))


@pytest.mark.parametrize("name", sorted(T.NAMED))
def test_every_named_transform_keeps_the_contract(name: str) -> None:
    pixels = _pixels(n=3)
    tfms = _built(name, 1.0)
    found = _run(pixels, *tfms, seed=1, size=40)
    assert found.shape == (3, 3, 40, 40)
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(found, _run(pixels, *tfms, seed=1, size=40))
    ragged = BatchAugmenter(tfms, size=24)(pixels, np.array([[40, 40], [24, 33], [33, 24]]), np.random.default_rng(0))
    assert ragged.shape == (3, 3, 24, 24)
    assert torch.isfinite(ragged).all()


@pytest.mark.parametrize("name", sorted(T.NAMED))
def test_every_named_transform_does_nothing_at_p_0(name: str) -> None:
    pixels = _pixels(n=3)
    assert torch.equal(_run(pixels, *_built(name, 0.0), seed=1, size=40), _plain(pixels))


@pytest.mark.parametrize("name", sorted(set(T.NAMED) - {"crop", "crop_pad", "rand_crop", "pad"}))
def test_every_named_transform_does_something_at_p_1(name: str) -> None:
    pixels = _pixels(n=3, height=40, width=40)
    tfms = [T.dihedral(3)] if name == "dihedral" else _built(name, 1.0)
    assert not torch.equal(_run(pixels, *tfms, seed=1, size=40), _plain(pixels))


# ---- sizes, single pictures, views ----


def test_without_a_size_pictures_keep_theirs() -> None:
    pixels = _pixels(height=30, width=44)
    assert _run(pixels, *T.get_transforms(flip_vert=True)[0]).shape == (4, 3, 30, 44)
    assert _run(pixels, T.dihedral(4)).shape == (4, 3, 30, 44)
    assert _run(pixels, T.rand_resize_crop(24)).shape == (4, 3, 24, 24)


def test_a_size_without_a_window_cuts_the_centre() -> None:
    pixels = _pixels()
    assert torch.equal(_run(pixels, T.flip_lr(p=0), size=20), _run(pixels, T.crop_pad(), size=20))


def test_a_single_picture_is_a_batch_of_one() -> None:
    pixels = _pixels(n=1)
    train, _ = T.get_transforms()
    shape = np.array([pixels.shape[-2:]])
    single = BatchAugmenter(train, size=32)(pixels, shape, np.random.default_rng(4))[0]
    assert torch.equal(single, _run(pixels, train, seed=4, size=32)[0])


def test_test_time_views_look_at_their_corner() -> None:
    pixels = _pixels(n=1)
    plain, _ = T.get_transforms(max_rotate=0, max_warp=0, max_lighting=0)
    for row in (0, 1):
        for col in (0, 1):
            view, mirrored = (
                _run(pixels, *T.tta_view(plain, corner=(row, col), flip=flip, scale=1.35), size=40)
                for flip in (False, True)
            )
            torch.testing.assert_close(view.flip(3), mirrored, atol=2e-5, rtol=0)
            at = (0, slice(None), -row, -col)  # the corner itself stays where it is
            torch.testing.assert_close(view[at], _plain(pixels)[at], atol=2e-5, rtol=0)


def test_cpu_threads_do_not_change_a_pixel() -> None:
    pixels = _pixels(n=16)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(_run(pixels, *T.get_transforms()[0], size=32))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


# ---- the way of a GPU ----

EXTRA = {
    "usual": lambda: T.get_transforms(flip_vert=True)[0],
    "flat": lambda: T.get_transforms(flip_vert=True, max_warp=0)[0],
    "no light": lambda: T.get_transforms(max_lighting=0)[0],
    "strong perspective": lambda: [T.perspective_warp(magnitude=(-0.6, 0.6))],
    "noise and holes": lambda: T.get_transforms(
        xtra_tfms=[T.jitter(0.05), T.cutout(n_holes=(1, 3), length=6), T.rgb_randomize(p=0.5)]
    )[0],
    "padding": lambda: [T.pad(6), T.rotate((-30, 30))],
    "whole pixels": lambda: [T.dihedral()],
    "a window": lambda: [],
}
SHAPES = {
    "one shape": np.array([[40, 40]] * 9),
    "ragged": np.array([[40, 40], [33, 40], [40, 31]] * 3),
    "thin": np.array([[40, 1], [1, 40], [2, 3]] * 3),
}


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", EXTRA)
def test_the_way_of_a_gpu_gives_the_same_pictures(name: str, shape: str, padding: str, mode: str) -> None:
    pixels, shapes = _pixels(n=9), SHAPES[shape]
    augmenter = BatchAugmenter(EXTRA[name](), size=(32, 28), padding_mode=padding, mode=mode)
    draws = augmenter.draw(np.random.default_rng(0), shapes)
    found = transformed(pixels, augmenter.prepare(draws, shapes, (40, 40)))
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = augmenter.apply(pixels, shapes, draws)
    differ = (found - expected).abs() > (0.02 if shape == "thin" else 2e-4)  # there positions are far outside
    # Between two pixels the nearest one is a matter of rounding, and so is what lies at a black border.
    assert differ.float().mean() < (0.01 if mode == "nearest" or padding == "zeros" else 1e-4)


def test_on_the_way_of_a_gpu_a_window_is_exact() -> None:
    pixels = _pixels()
    augmenter = BatchAugmenter([], size=32)
    draws = augmenter.draw(np.random.default_rng(0), _shapes(pixels))
    found = transformed(pixels, augmenter.prepare(draws, _shapes(pixels), (40, 40)))
    assert torch.equal(found, augmenter.apply(pixels, _shapes(pixels), draws))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", EXTRA)
def test_a_gpu_gives_the_same_pictures(name: str, shape: str) -> None:
    pixels, shapes = _pixels(n=9), SHAPES[shape]
    augmenter = BatchAugmenter(EXTRA[name](), size=32)
    draws = augmenter.draw(np.random.default_rng(0), shapes)
    there = augmenter.apply(pixels.cuda(), shapes, draws)
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), augmenter.apply(pixels, shapes, draws), atol=2e-4, rtol=0)


def test_real_tiles_keep_their_mean_colour(planet_path: Path) -> None:
    files = sorted((planet_path / "train").glob("*.jpg"))[:6]
    tiles = np.stack([np.array(PIL.Image.open(f).convert("RGB")) for f in files])
    pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2)
    train, _ = T.get_transforms(flip_vert=True, max_lighting=0, max_zoom=1.05, max_warp=0)
    found = _run(pixels, *train, size=256)
    np.testing.assert_allclose(found.mean(dim=(2, 3)), _plain(pixels).mean(dim=(2, 3)), atol=0.03)


# ---- bad input ----


def test_different_shapes_need_a_size() -> None:
    with pytest.raises(ArgumentError, match=r"\(40, 40\) and \(30, 40\).*pass size=224"):
        BatchAugmenter([]).draw(np.random.default_rng(0), np.array([[40, 40], [30, 40]]))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"padding_mode": "mirror"}, "padding_mode must be one of reflection, border, zeros; received 'mirror'"),
        ({"mode": "cubic"}, "mode must be one of bilinear, nearest, bicubic; received 'cubic'"),
        ({"size": -3}, "size is a side"),
    ],
)
def test_unknown_settings_are_named(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        BatchAugmenter([], **how)


def test_what_does_not_belong_together_is_named() -> None:
    pixels, shapes = _pixels(n=2), np.array([[40, 40]] * 2)
    draws = BatchAugmenter([]).draw(np.random.default_rng(0), shapes)
    with pytest.raises(ArgumentError, match=r"expected uint8 pixels .* received torch.float32"):
        BatchAugmenter([]).apply(pixels.float(), shapes, draws)
    with pytest.raises(ArgumentError, match=r"\(2, 1, 2\)"):
        BatchAugmenter([]).apply(pixels, shapes[:1], draws)
    with pytest.raises(ArgumentError, match=r"\(50, 40\) .* do not fit into the canvas of \(40, 40\)"):
        BatchAugmenter([]).apply(pixels, np.array([[50, 40]] * 2), draws)
    with pytest.raises(ArgumentError, match="rows and columns of each picture"):
        BatchAugmenter([]).apply(pixels, np.zeros((0, 2)), draws)  # type: ignore[arg-type]
