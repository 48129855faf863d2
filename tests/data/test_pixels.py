"""Decoding, resizing and the store: exact values on files of every kind that a user may have."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from onecycle.data.pixels import decode, resize
from onecycle.data.pixels.image import Image, open_image
from onecycle.data.pixels.resize import ResizeMethod, ResizeSpec
from onecycle.data.pixels.store import PixelStore
from onecycle.errors import ArgumentError, DataError, UnreadableImagesError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (24, 40, 3)).astype(np.uint8)


def saved(tmp_path: Path, picture: PIL.Image.Image, name: str, **options: object) -> Path:
    picture.save(tmp_path / name, **options)
    return tmp_path / name


def test_rgb_comes_back_exactly(tmp_path):
    path = saved(tmp_path, PIL.Image.fromarray(RGB), "a.png")
    assert np.array_equal(decode.decode_rgb(path), RGB)
    assert np.array_equal(decode.decode_rgb(path.read_bytes()), RGB)
    with path.open("rb") as file:
        assert np.array_equal(decode.decode_rgb(file), RGB)


def test_cmyk_jpeg_becomes_rgb_as_pillow_does_plainly(tmp_path):
    cmyk = np.dstack([255 - RGB, np.zeros(RGB.shape[:2], np.uint8)])
    path = saved(tmp_path, PIL.Image.fromarray(cmyk, "CMYK"), "a.tif")
    assert np.array_equal(decode.decode_rgb(path), RGB)


def test_the_planet_tiles_are_cmyk_and_decode(planet_path):
    path = sorted((planet_path / "train").glob("*.jpg"))[0]
    with PIL.Image.open(path) as picture:
        assert picture.mode == "CMYK"
        cyan = np.asarray(picture)[..., :3]
    assert np.array_equal(decode.decode_rgb(path), 255 - cyan)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_pixels_and_to_the_header_s_shape(tmp_path, orientation, suffix):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, PIL.Image.fromarray(RGB), f"a.{suffix}", exif=exif)
    upright = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: RGB[::-1].transpose(1, 0, 2),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: RGB.transpose(1, 0, 2)[::-1],
    }[orientation]
    decoded = decode.decode_rgb(path)
    assert np.array_equal(decoded, upright)
    assert decode.picture_shape(path) == decoded.shape[:2]


def test_grey_palette_alpha_one_bit_and_16_bit_pictures_become_rgb(tmp_path):
    grey = RGB[..., 0]
    assert np.array_equal(decode.decode_rgb(saved(tmp_path, PIL.Image.fromarray(grey), "g.png")), np.dstack([grey] * 3))
    rgba = PIL.Image.fromarray(np.dstack([RGB, grey]))
    assert np.array_equal(decode.decode_rgb(saved(tmp_path, rgba, "rgba.png")), RGB)
    palette = PIL.Image.fromarray(RGB // 128 * 255).quantize(16)
    assert decode.decode_rgb(saved(tmp_path, palette, "p.gif")).shape == RGB.shape
    one_bit = PIL.Image.fromarray(grey > 127)
    assert set(np.unique(decode.decode_rgb(saved(tmp_path, one_bit, "1.png")))) == {0, 255}
    deep = PIL.Image.fromarray(grey.astype(np.uint16) * 257)
    assert np.array_equal(decode.decode_rgb(saved(tmp_path, deep, "deep.png"))[..., 0], grey)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_32_bit_pixels_are_refused(tmp_path, kind):
    path = saved(tmp_path, PIL.Image.fromarray(RGB[..., 0].astype(kind)), "f.tif")
    with pytest.raises(ValueError, match="no fixed range"):
        decode.decode_rgb(path)


def test_a_dark_16_bit_picture_stays_dark(tmp_path):
    dark = np.full((4, 4), 200, np.uint16)
    assert decode.decode_rgb(saved(tmp_path, PIL.Image.fromarray(dark), "dark.png")).max() == 0


def test_a_store_that_cannot_keep_its_pixels_says_so(tmp_path, capsys):
    PixelStore(write_set(tmp_path), ResizeSpec.make(16), max_bytes=0).fill()
    assert "decoded anew in each epoch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size", "method", "expected"),
    [
        (20, None, (20, 33)),
        ((30, 20), None, (30, 20)),
        (20, ResizeMethod.PAD, (12, 20)),
        (20, ResizeMethod.SQUISH, (20, 20)),
        ((20, 60), ResizeMethod.CROP, (36, 60)),
        (None, None, (24, 40)),
        (20, ResizeMethod.NO, (24, 40)),
    ],
)
def test_stored_shape_of_each_method(size, method, expected):
    spec = ResizeSpec.make(size, method)
    assert spec.stored_shape(24, 40) == expected
    assert resize.resize_pixels(RGB, spec).shape[:2] == expected


def narrowed(pixels: np.ndarray, width: int) -> np.ndarray:
    """Scale the width of uint8 (H, W, 3) by weights of a triangle, rounded to 8 bits as Pillow's fixed point does."""
    step = pixels.shape[1] / width
    support = max(step, 1.0)
    columns = []
    for i in range(width):
        centre = (i + 0.5) * step
        reach = np.arange(max(0, int(centre - support + 0.5)), min(pixels.shape[1], int(centre + support + 0.5)))
        weights = np.maximum(0, 1 - np.abs((reach - centre + 0.5) / support))
        fixed = (weights / weights.sum() * 2**22 + 0.5).astype(np.int64)
        columns.append((np.tensordot(pixels[:, reach].astype(np.int64), fixed, (1, 0)) + 2**21) >> 22)
    return np.stack(columns, axis=1).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (30, 300), (300, 30), (50, 50), (20, 21)])
@pytest.mark.parametrize("method", ["CROP", "PAD", "SQUISH"])
def test_widths_are_scaled_first_whatever_the_shape(shape, method):
    pixels = np.random.default_rng(5).integers(0, 256, (*shape, 3), dtype=np.uint8)
    spec = ResizeSpec.make((24, 20), method)
    height, width = spec.stored_shape(*shape)
    assert (height, width) == spec.scaled_shape(*shape)  # nothing is left out
    expected = narrowed(narrowed(pixels, width).swapaxes(0, 1), height).swapaxes(0, 1)
    assert np.array_equal(resize.resize_pixels(pixels, spec), expected)


def test_mult_rounds_the_size_as_v1_did():
    assert ResizeSpec.make(50, mult=32).size == (64, 64)


def test_bad_sizes_are_refused():
    for size in (0, -3, (1, 2, 3), (20, 0), "224"):
        with pytest.raises(ArgumentError, match="at least 1; received"):
            ResizeSpec.make(size)
    with pytest.raises(ArgumentError, match=r"padding_mode must be one of .* received 'mirror'"):
        ResizeSpec.make(20, padding_mode="mirror")
    with pytest.raises(ArgumentError, match="PAD needs a size"):
        ResizeSpec.make(None, ResizeMethod.PAD)


def test_the_centre_window_cuts_and_fills_exactly():
    spec = ResizeSpec.make(20)
    stored = resize.resize_pixels(RGB, spec)
    assert np.array_equal(resize.centre_window(stored, spec), stored[:, 7:27])
    for mode, numpy_mode in (("reflection", "reflect"), ("border", "edge"), ("zeros", "constant")):
        spec = ResizeSpec.make(20, ResizeMethod.PAD, padding_mode=mode)
        stored = resize.resize_pixels(RGB, spec)
        expected = np.pad(stored, ((4, 4), (0, 0), (0, 0)), mode=numpy_mode)
        assert np.array_equal(resize.centre_window(stored, spec), expected)


def test_padding_by_reflection_works_on_extreme_aspects():
    thin = RNG.integers(0, 256, (10, 400, 3)).astype(np.uint8)
    spec = ResizeSpec.make(64, ResizeMethod.PAD)
    assert resize.centre_window(resize.resize_pixels(thin, spec), spec).shape == (64, 64, 3)


def write_set(tmp_path: Path, n: int = 5) -> list[str]:
    paths = []
    for i in range(n):
        side = 20 + i
        noise = np.random.default_rng(i).integers(0, 256, (side, side + 4, 3)).astype(np.uint8)
        paths.append(str(saved(tmp_path, PIL.Image.fromarray(noise), f"{i}.png")))
    return paths


@pytest.mark.parametrize("max_bytes", [10**9, 0])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_store_gives_the_same_pixels_in_memory_streamed_and_for_any_threads(tmp_path, max_bytes, threads):
    paths, spec = write_set(tmp_path), ResizeSpec.make(16)
    store = PixelStore(paths, spec, max_bytes=max_bytes, threads=threads)
    before = [store.read(i).copy() for i in range(5)]
    assert store.fill() == []
    assert store.in_memory == (max_bytes > 0)
    for i, path in enumerate(paths):
        expected = resize.resize_pixels(decode.decode_rgb(path), spec)
        assert np.array_equal(before[i], expected)
        assert np.array_equal(store.read(i), expected)


def test_gather_puts_pictures_of_different_shapes_on_one_canvas(tmp_path):
    store = PixelStore(write_set(tmp_path), ResizeSpec.make(16))
    canvas, shapes = store.gather(np.array([4, 0]))
    assert canvas.shape == (2, 3, *shapes.max(axis=0))
    for row, position in enumerate((4, 0)):
        height, width = shapes[row]
        assert np.array_equal(canvas[row, :, :height, :width].permute(1, 2, 0).numpy(), store.read(position))


def test_fill_lists_every_unreadable_picture_and_keeps_the_others(tmp_path):
    paths = write_set(tmp_path)
    Path(paths[1]).write_bytes(b"not a picture")
    Path(paths[2]).write_bytes(Path(paths[2]).read_bytes()[:300])
    Path(paths[3]).unlink()
    store = PixelStore(paths, ResizeSpec.make(16))
    failed = store.fill()
    assert [(f.position, f.path) for f in failed] == [(i, paths[i]) for i in (1, 2, 3)]
    assert failed[0].reason.startswith("text, not a picture")
    assert failed[2].reason == "no such file"
    assert store.in_memory
    assert store.read(4).shape == (16, 19, 3)
    with pytest.raises(UnreadableImagesError, match=f"cannot read picture {paths[2]}"):
        store.read(2)


def test_evaluation_sees_the_same_pixels_from_the_store_as_from_the_file(tmp_path):
    paths, spec = write_set(tmp_path), ResizeSpec.make(16)
    store = PixelStore(paths, spec)
    store.fill()
    for i, path in enumerate(paths):
        read, anew = (resize.centre_window(p, spec) for p in (store.read(i), decode.decode_for(path, spec)))
        assert np.array_equal(read, anew)


def test_an_image_knows_its_pixels_and_draws_itself(tmp_path):
    image = open_image(saved(tmp_path, PIL.Image.fromarray(RGB), "a.png"))
    assert image.shape == (3, 24, 40)
    assert image.size == (24, 40)
    assert repr(image) == "Image (3, 24, 40)"
    assert torch.equal((image.data * 255).round().to(torch.uint8), image.px)
    assert image.resize(10).size == (10, 10)
    assert np.array_equal(decode.decode_rgb(image._repr_png_()), RGB)
    image.save(tmp_path / "b.png")
    assert np.array_equal(decode.decode_rgb(tmp_path / "b.png"), RGB)
    image.show(title="a")
    assert torch.equal(Image(image.data).px, image.px)


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot read .*a\.jpg as a picture"):
        open_image(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="cannot read these bytes"):
        open_image(io.BytesIO(b"x"))
    with pytest.raises(ArgumentError, match="an Image takes pixels"):
        Image(torch.zeros(2, 5, 5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floating_point_from_0_to_1_becomes_the_nearest_grey_level(dtype):
    px = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    levels = (px.double() / 255).to(dtype)
    assert (Image(levels).px[:1].int() - px).abs().max() <= (1 if dtype is torch.bfloat16 else 0)
    edges = torch.tensor([-0.001, 0.0, 1.0, 1.001]).reshape(1, 2, 2)
    assert Image(edges).px[0].tolist() == [[0, 0], [255, 255]], "what rounding leaves beyond 0 and 1 is no other range"


def test_pixels_of_another_range_or_type_are_refused():
    px = torch.arange(192).reshape(3, 8, 8)
    holes = [(px / 255).where(px > 3, value) for value in (torch.nan, torch.inf)]
    whole = [px, px.short(), px.int(), px.char(), px > 5, px.to(torch.complex64)]
    for pixels in [*holes, *whole, px.float(), px * 257.0, px / 255 * 2 - 1, px / 255 + 1]:
        with pytest.raises(ArgumentError, match=r"pixels are uint8, or floating point from 0 to 1; received"):
            Image(pixels)
    with pytest.raises(ArgumentError, match="received float32 from -1 to"):
        Image(px / 95.5 - 1)
    for shape in [(3, 0, 4), (8, 8), (2, 8, 8), (40, 8, 8), (8, 8, 3), (1, 3, 8, 8)]:
        with pytest.raises(ArgumentError, match="takes pixels"):
            Image(torch.zeros(shape))


@pytest.mark.parametrize("size", [24, (8, 32), (32, 8)])
@pytest.mark.parametrize(
    "shape", [(1, 2000), (2000, 1), (3, 100), (100, 3), (5, 60), (10, 600), (4, 30), (40, 300), (9, 9), (7, 5), (1, 1)]
)
def test_a_thin_picture_is_cut_before_it_is_enlarged_and_its_centre_stays(shape, size):
    spec = ResizeSpec.make(size, ResizeMethod.CROP)
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    stored, whole = spec.stored_shape(*shape), spec.scaled_shape(*shape)
    assert stored[0] * stored[1] <= max(shape[0] * shape[1], 8 * spec.size[0] * spec.size[1])
    assert all(least <= s <= w for least, s, w in zip(spec.size, stored, whole, strict=True))
    cut = resize.resize_pixels(pixels, spec)
    assert cut.shape == (*stored, 3)
    uncut = resize.scale_to(pixels, whole, visible=shape)
    if stored == whole:
        assert np.array_equal(cut, uncut)
    difference = resize.centre_window(cut, spec).astype(int) - resize.centre_window(uncut, spec)
    assert np.abs(difference).max() <= 1


def test_a_very_thin_file_takes_little_memory_wherever_it_goes(tmp_path):
    paths = [saved(tmp_path, PIL.Image.new("RGB", sides), f"{sides[0]}.png") for sides in [(65_000, 1), (1, 65_000)]]
    spec = ResizeSpec.make(224)
    store = PixelStore([str(p) for p in paths], spec)
    assert store.fill(None) == []
    assert max(store.read(i).nbytes for i in range(2)) < 1_300_000
    assert resize.centre_window(decode.decode_for(paths[0], spec), spec).shape == (224, 224, 3)
    tall, wide = (ResizeSpec.make(224, method).stored_shape(65_000, 1) for method in ("PAD", "SQUISH"))
    assert tall == (224, 1)
    assert wide == (224, 224)


@pytest.mark.parametrize("method", ["CROP", "SQUISH", "PAD"])
def test_a_thin_picture_in_parts_is_the_picture_in_one(method):
    pixels, spec = RNG.integers(0, 256, (30_000, 2, 3)).astype(np.uint8), ResizeSpec.make(48, method)
    wanted, whole = spec.stored_shape(30_000, 2), spec.scaled_shape(30_000, 2)
    visible = 30_000 * wanted[0] / whole[0], 2 * wanted[1] / whole[1]
    start = (30_000 - visible[0]) / 2, (2 - visible[1]) / 2
    one, parts = (resize._in_two_passes(pixels, wanted, visible, start, most) for most in (10**9, 10_000))
    assert np.abs(one.astype(int) - parts).max() <= 1  # where a weight is a half, rounding may go the other way


def test_thin_pictures_of_both_directions_that_cannot_share_a_batch_are_named(tmp_path, monkeypatch):
    sides = [(400, 8), (8, 400), (16, 16)]
    paths = [str(saved(tmp_path, PIL.Image.new("RGB", side), f"{side[0]}.png")) for side in sides]
    store = PixelStore(paths, ResizeSpec.make(8))
    store.fill(None)
    assert store.gather(np.array([0, 1, 2]))[0].shape == (3, 3, 400, 400)
    monkeypatch.setattr("onecycle.data.pixels.store.MOST_BYTES", 400 * 400 * 3)
    assert store.gather(np.array([0, 2, 2]))[0].shape == (3, 3, 8, 400)
    with pytest.raises(DataError, match=r"8\.png \(400×8 px.*400\.png \(8×400 px.*'squish'"):
        store.gather(np.array([0, 1, 2]))
