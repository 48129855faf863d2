"""Decoded pictures that are damaged on the disk, or whose files were replaced: seen, and never trained on."""

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from onecycle import settings
from onecycle.data.pixels import pixel_file
from onecycle.data.pixels.decode import decode_for
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.data.pixels.store import PixelStore
from onecycle.errors import DataWarning, UnreadableImagesError

N = 12
EQUAL, MIXED = ResizeSpec.make((16, 12)), ResizeSpec.make(16)  # all pictures of one shape; of several
POSITIONS = np.arange(N)


def draw(path: Path, seed: int, height: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height, 24, 3)).astype(np.uint8)
    PIL.Image.fromarray(noise).save(path)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    folder = tmp_path / "set"
    folder.mkdir()
    for i in range(N):
        draw(folder / f"{i:03d}.png", i, 20 + i % 3)
    return [str(p) for p in sorted(folder.iterdir())]


def filled(paths: list[str], spec: ResizeSpec) -> PixelStore:
    store = PixelStore(paths, spec, cache="disk", threads=1)
    assert store.fill(None) == []
    return store


def stored(suffix: str) -> Path:
    (path,) = settings.pixel_folder().glob(f"*{suffix}")
    return path


def flip(path: Path, place: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)  # in place: a map of the file sees it


def right(paths: list[str], spec: ResizeSpec) -> list[np.ndarray]:
    return [decode_for(p, spec) for p in paths]


def gives(store: PixelStore, pixels: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(store.read_many(POSITIONS), pixels, strict=True))


@pytest.mark.parametrize("spec", [EQUAL, MIXED])
def test_a_damaged_picture_is_decoded_again_and_said_once(paths, spec):
    filled(paths, spec)
    flip(stored(".bin"), 100, 3)
    flip(stored(".bin"), 2000, 7)
    store = filled(paths, spec)
    with pytest.warns(DataWarning, match=r"\.bin is damaged: the pixels of .*000\.png are not those") as said:
        assert gives(store, right(paths, spec))
    assert len(said) == 1
    assert not list(settings.pixel_folder().glob("*.json"))  # the next run makes it anew
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gives(store, right(paths, spec))
        assert gives(filled(paths, spec), right(paths, spec))
        assert gives(filled(paths, spec), right(paths, spec))
    assert stored(".json").exists()


def test_a_batch_with_a_damaged_picture_has_its_own_pixels(paths):
    filled(paths, EQUAL)
    flip(stored(".bin"), 16 * 12 * 3 * 5)
    store, order = filled(paths, EQUAL), np.array([5, 2, 5, 0])
    with pytest.warns(DataWarning, match="005.png"):
        canvas, shapes = store.gather(order)
    expected = np.stack([decode_for(paths[i], EQUAL) for i in order])
    assert np.array_equal(canvas.permute(0, 2, 3, 1).numpy(), expected)
    assert shapes.tolist() == [[16, 12]] * 4


def test_a_picture_is_checked_once_in_a_process_and_again_in_another(paths):
    filled(paths, EQUAL)
    store = filled(paths, EQUAL)
    store.gather(POSITIONS)
    flip(stored(".bin"), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.gather(POSITIONS)
    other = pickle.loads(pickle.dumps(store))  # as another process gets it
    with pytest.warns(DataWarning, match="000.png"):
        assert gives(other, right(paths, EQUAL))


def test_a_damaged_picture_whose_file_has_gone_is_an_error_that_names_both(paths):
    filled(paths, EQUAL)
    store = filled(paths, EQUAL)
    flip(stored(".bin"), 0)
    Path(paths[0]).unlink()
    with pytest.raises(
        UnreadableImagesError, match=r"000\.png in .*\.bin are damaged, .*no such file.*Put the picture"
    ):
        store.gather(POSITIONS)
    store.read(1)


def test_a_damaged_picture_whose_file_has_another_size_now_is_an_error(paths):
    filled(paths, MIXED)
    store = filled(paths, MIXED)
    flip(stored(".bin"), 0)
    draw(Path(paths[0]), 0, 60)
    with pytest.raises(UnreadableImagesError, match="another size than when it was stored"):
        store.read(0)


@pytest.mark.parametrize("spec", [EQUAL, MIXED])
@pytest.mark.parametrize("suffix", [".bin", ".json"])
def test_a_flipped_bit_anywhere_never_reaches_a_batch(paths, spec, suffix):
    filled(paths, spec)
    file, pixels = stored(suffix), right(paths, spec)
    whole, manifest = file.read_bytes(), stored(".json").read_bytes()
    rng = np.random.default_rng(0)
    ends = range(len(whole) - N * 28 - 32, len(whole), 5) if suffix == ".bin" else range(0, len(whole), 7)
    for place in {*ends, *rng.integers(0, len(whole), 15).tolist()}:
        stored(".bin").with_suffix(".json").write_bytes(manifest)  # it goes where damage was seen
        file.write_bytes(whole)
        flip(file, place, int(rng.integers(8)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            assert gives(filled(paths, spec), pixels), place


def test_a_file_that_is_cut_is_made_again(paths):
    filled(paths, EQUAL)
    whole, pixels = stored(".bin").read_bytes(), right(paths, EQUAL)
    for percent in range(0, 100, 9):
        stored(".bin").write_bytes(whole[: len(whole) * percent // 100])
        assert gives(filled(paths, EQUAL), pixels)
        assert stored(".bin").read_bytes() == whole


def test_a_picture_replaced_by_one_of_the_same_size_and_time_is_decoded_again(paths, tmp_path):
    """As ``cp -p``, ``rsync -t`` and ``touch -r`` do."""
    filled(paths, EQUAL)
    before = os.stat(paths[3])
    content = bytearray(Path(paths[3]).read_bytes())
    other = Path(paths[6]).read_bytes()  # of the same shape, and so of about the same size
    other = other[: len(content)] + b"\0" * (len(content) - len(other))
    Path(paths[3]).write_bytes(other)
    os.utime(paths[3], ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(paths[3])
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    store = PixelStore(paths, EQUAL, cache="disk", threads=1)
    failed = store.fill(None)
    if not failed:
        assert np.array_equal(store.read(3), decode_for(paths[3], EQUAL))
    assert len(list(settings.pixel_folder().glob("*.json"))) == 2


def test_the_first_changed_file_is_named():
    before = pixel_file.stamps_of([__file__, "missing", __file__])
    after = before[:]
    assert pixel_file.first_change(before, after) is None
    after[5] = 7
    assert pixel_file.first_change(before, after) == 1


def test_pictures_in_memory_are_not_checked(paths):
    store = PixelStore(paths, EQUAL, cache="memory", threads=1)
    store.fill(None)
    assert store._packed is not None
    assert store._packed.damaged(POSITIONS) == []
    assert gives(store, right(paths, EQUAL))
