"""Two decoders, one result: the same pixels within one grey level, the same errors, the same scaled decode."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from sklearn.datasets import load_sample_image

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import DatasetType
from onecycle.data.pixels import decode
from onecycle.data.pixels.image import open_image
from onecycle.data.pixels.picture_file import UNREADABLE, reason
from onecycle.data.pixels.resize import ResizeMethod, ResizeSpec, centre_window, decode_factor, resize_pixels
from onecycle.errors import ArgumentError

pytest.importorskip("simplejpeg", reason="the second decoder is not installed: pip install 'onecycle[fast]'")

PHOTO = load_sample_image("china.jpg")  # 427 × 640, a real photograph
TILE = PHOTO[100:301, 200:487]  # odd sides
ORIENTATION = 0x0112


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


def with_orientation(pixels: np.ndarray, orientation: int, **options: object) -> bytes:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    return jpeg(pixels, exif=exif, **options)


def cmyk(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    inks = np.dstack([255 - pixels, np.zeros(pixels.shape[:2], np.uint8)])
    PIL.Image.fromarray(inks, "CMYK").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def several_in_one(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    pictures = [PIL.Image.fromarray(p) for p in (pixels, pixels[::-1])]
    pictures[0].save(buffer, "MPO", save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


FILES = {
    "4:2:0": jpeg(TILE, subsampling=2),
    "4:2:2": jpeg(TILE, subsampling=1),
    "4:4:4": jpeg(TILE, subsampling=0),
    "progressive": jpeg(TILE, progressive=True),
    "restart markers": jpeg(TILE, restart_marker_rows=1),
    "low quality": jpeg(TILE, quality=10),
    "grey": jpeg(TILE[..., 1]),
    "cmyk": cmyk(TILE),
    "several in one": several_in_one(TILE),
    "data after the end": jpeg(TILE) + b"x" * 999,
    "one pixel": jpeg(TILE[:1, :1]),
    "thin": jpeg(TILE[:3]),
    **{f"orientation {o}": with_orientation(TILE, o) for o in range(1, 9)},
}
SPECS = {
    "full": ResizeSpec(),
    "a half": ResizeSpec.make(50),
    "a quarter": ResizeSpec.make(25, ResizeMethod.PAD),
    "an eighth": ResizeSpec.make((12, 17)),
}


def by_each(monkeypatch: pytest.MonkeyPatch, call):
    """Return what ``call()`` gives with Pillow and with simplejpeg, or the error that it raises."""
    found = []
    for name in ("pillow", "simplejpeg"):
        monkeypatch.setenv(decode.DECODER_VARIABLE, name)
        try:
            found.append(call())
        except UNREADABLE as error:
            found.append(f"{type(error).__name__}: {reason(error)}")
    return found


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_both_decoders_give_the_same_pixels(file, spec, monkeypatch):
    by_pillow, by_simplejpeg = by_each(monkeypatch, lambda: decode.decode_for(file, spec))
    assert by_pillow.dtype == by_simplejpeg.dtype == np.uint8
    assert by_pillow.shape == by_simplejpeg.shape
    assert np.abs(by_pillow.astype(int) - by_simplejpeg).max() <= 1


def test_the_files_are_decoded_at_the_fractions_that_the_test_above_is_about():
    assert [decode_factor(TILE.shape[:2], spec) for spec in SPECS.values()] == [1, 2, 4, 8]


def test_simplejpeg_decodes_colour_and_grey_and_pillow_all_else(monkeypatch):
    seen = []
    real = decode.simplejpeg.decode_jpeg
    monkeypatch.setattr(
        decode.simplejpeg, "decode_jpeg", lambda data, *a, **k: seen.append(len(data)) or real(data, *a, **k)
    )
    for name in ("4:2:0", "grey", "several in one"):
        decode.decode_rgb(FILES[name])
    assert seen == [len(FILES[name]) for name in ("4:2:0", "grey", "several in one")]
    decode.decode_rgb(FILES["cmyk"])
    png = io.BytesIO()
    PIL.Image.fromarray(TILE).save(png, "PNG")
    decode.decode_rgb(png)
    monkeypatch.setenv(decode.DECODER_VARIABLE, "pillow")
    decode.decode_rgb(FILES["4:2:0"])
    assert len(seen) == 3


def test_paths_open_files_and_bytes_are_the_same_to_both(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(FILES["4:2:0"])
    for name in ("pillow", "simplejpeg"):
        monkeypatch.setenv(decode.DECODER_VARIABLE, name)
        expected = decode.decode_rgb(path.read_bytes())
        assert np.array_equal(decode.decode_rgb(path), expected)
        with path.open("rb") as file:
            assert np.array_equal(decode.decode_rgb(file), expected)


@pytest.mark.parametrize("spec", [SPECS["full"], SPECS["an eighth"]], ids=["full", "an eighth"])
@pytest.mark.parametrize("kind", ["4:2:0", "progressive", "restart markers", "grey"])
def test_a_truncated_file_is_an_error_with_the_same_reason(kind, spec, monkeypatch):
    whole = FILES[kind]
    for kept in (0, 1, 100, len(whole) // 2, len(whole) - 200, len(whole) - 2, len(whole) - 1):
        by_pillow, by_simplejpeg = by_each(monkeypatch, lambda n=kept: decode.decode_for(whole[:n], spec))
        assert isinstance(by_pillow, str)
        assert by_pillow == by_simplejpeg


@pytest.mark.parametrize("kind", ["4:2:0", "progressive"])
def test_a_damaged_file_is_read_or_refused_by_both_alike(kind, monkeypatch):
    rng = np.random.default_rng(0)
    whole = jpeg(TILE[:48, :64], progressive=kind == "progressive")
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.integers(2, len(whole))] = rng.integers(0, 256)
        by_pillow, by_simplejpeg = by_each(monkeypatch, lambda d=bytes(damaged): decode.decode_rgb(d))
        outcomes.add(isinstance(by_pillow, str))
        if isinstance(by_pillow, str):
            assert by_pillow == by_simplejpeg
        else:
            assert np.abs(by_pillow.astype(int) - by_simplejpeg).max() <= 1
    assert outcomes == {False, True}


def test_the_variable_is_checked(monkeypatch):
    monkeypatch.setenv(decode.DECODER_VARIABLE, "opencv")
    with pytest.raises(ArgumentError, match=r"ONECYCLE_DECODER is 'pillow' or 'simplejpeg'.*received 'opencv'"):
        decode.decoder_version()
    with pytest.raises(ArgumentError, match="received 'opencv'"):
        open_image(FILES["grey"])
    monkeypatch.setenv(decode.DECODER_VARIABLE, "simplejpeg")
    monkeypatch.setattr(decode, "simplejpeg", None)
    with pytest.raises(ArgumentError, match="simplejpeg is not installed: pip install simplejpeg"):
        decode.decoder_version()


def test_without_simplejpeg_pillow_does_it_all(monkeypatch):
    monkeypatch.delenv(decode.DECODER_VARIABLE, raising=False)
    assert decode.uses_simplejpeg()
    expected = decode.decode_rgb(FILES["4:2:0"])
    monkeypatch.setattr(decode, "simplejpeg", None)
    assert not decode.uses_simplejpeg()
    assert np.abs(decode.decode_rgb(FILES["4:2:0"]).astype(int) - expected).max() <= 1


def test_the_version_names_each_decoder_in_use(monkeypatch):
    by_pillow, by_simplejpeg = by_each(monkeypatch, decode.decoder_version)
    assert by_pillow.startswith(f"Pillow {PIL.__version__} with libjpeg")
    assert by_simplejpeg.startswith("simplejpeg ")
    assert by_simplejpeg.endswith(by_pillow)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((200, 300), 51, 1),
        ((200, 300), 50, 2),
        ((203, 303), 51, 2),
        ((200, 300), (50, 76), 1),
        ((200, 300), (50, 75), 2),
        ((4000, 6000), 224, 8),
        ((1000, 1500), 224, 2),
        ((63, 63), 1, 1),
        ((300, 200), None, 1),
    ],
)
def test_the_fraction_leaves_twice_the_pixels_that_are_needed(shape, size, expected):
    assert decode_factor(shape, ResizeSpec.make(size)) == expected
    assert decode_factor(shape, ResizeSpec.make(size, scaled_decode=False)) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("sides", [(427, 640), (421, 639)], ids=["even", "odd"])
def test_scaled_decode_differs_little_from_full_decode(orientation, sides):
    # The largest seen over both sizes and all orientations: mean 0.75, at most 9 levels.
    file = with_orientation(PHOTO[: sides[0], : sides[1]], orientation)
    for size in (50, (100, 90)):
        spec = ResizeSpec.make(size)
        scaled = decode.decode_for(file, spec)
        full = resize_pixels(decode.decode_rgb(file), spec)
        assert scaled.shape == full.shape
        difference = np.abs(scaled.astype(int) - full)
        assert 0 < difference.mean() < 1
        assert difference.max() <= 16
        off = ResizeSpec.make(size, scaled_decode=False)
        assert np.array_equal(decode.decode_for(file, off), full)


def test_a_scaled_picture_does_not_move():
    """A picture of odd sides has its last row and column in part only once it is halved."""
    ramp = np.dstack([np.tile(np.linspace(0, 255, 801).astype(np.uint8), (601, 1))] * 3)
    for orientation in (1, 3):
        file = with_orientation(ramp, orientation, quality=100)
        spec = ResizeSpec.make((60, 80))
        full = resize_pixels(decode.decode_rgb(file), spec)
        assert np.abs(decode.decode_for(file, spec).astype(int) - full).mean() < 0.35  # half a pixel: 1.6 levels


def test_other_formats_are_decoded_whole():
    buffer = io.BytesIO()
    PIL.Image.fromarray(PHOTO).save(buffer, "PNG")
    spec = ResizeSpec.make(50)
    assert np.array_equal(decode.decode_for(buffer, spec), resize_pixels(PHOTO, spec))


@pytest.mark.parametrize("decoder", ["pillow", "simplejpeg"])
@pytest.mark.parametrize("pixel_cache", ["memory", "off"])
def test_validation_and_prediction_see_the_same_pixels_of_a_big_file(tmp_path, decoder, pixel_cache, monkeypatch):
    monkeypatch.setenv(decode.DECODER_VARIABLE, decoder)
    paths = []
    for i in range(6):
        paths.append(tmp_path / f"{i}.jpg")
        paths[-1].write_bytes(with_orientation(np.roll(PHOTO, 40 * i, axis=1), i + 3))
    data = ImageDataBunch.from_lists(tmp_path, paths, ["a", "b"] * 3, 0.5, size=48, bs=2, pixel_cache=pixel_cache)
    data.prepare()
    for i, path in enumerate(data.valid_ds.items):
        seen = data.valid_dl.replace(bs=1).batch_at(0, i).x
        pixels = (seen[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        spec = data.lists.resize
        assert np.array_equal(pixels, centre_window(decode.decode_for(path, spec), spec))
        with open(path, "rb") as file:
            for form in (path, Path(path), Path(path).read_bytes(), file):
                given = data.single_loader([form], stats=None).batch_at(0, 0).x
                assert torch.equal(given, seen)
        full = data.single_loader([open_image(path)], stats=None).batch_at(0, 0).x
        assert 0 < (full - seen).abs().mean() < 1 / 255


def test_scaled_decode_can_be_switched_off(tmp_path):
    paths = [tmp_path / f"{i}.jpg" for i in range(4)]
    for path in paths:
        path.write_bytes(jpeg(PHOTO))
    data = ImageDataBunch.from_lists(
        tmp_path, paths, ["a", "b"] * 2, 0.5, size=48, scaled_decode=False, pixel_cache="off"
    )
    seen = data.one_batch(DatasetType.Valid).x[0]
    whole = data.single_loader([open_image(paths[0])], stats=None).batch_at(0, 0).x[0]
    assert torch.equal(seen, whole)
