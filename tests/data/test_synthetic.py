"""The drawn sample: pure in its seed, tagged as it is drawn, and whole on the disk or not there."""

from __future__ import annotations

import csv
import json
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from onecycle.data.synthetic import scenery
from onecycle.data.synthetic import tiles as synthetic
from onecycle.data.synthetic.scenery import PAINTERS
from onecycle.data.synthetic.tiles import TAGS, WEATHER, draw_tags, draw_tile, write_sample
from onecycle.errors import ArgumentError, DataError

N_SEPARATION = 20  # tiles a group
Grey = NDArray[np.float32]


@lru_cache(maxsize=1)
def all_tags() -> tuple[tuple[str, ...], ...]:
    return tuple(draw_tags(np.random.default_rng([0, index])) for index in range(1000))


@lru_cache(maxsize=16)
def tiles(wanted: str) -> tuple[Grey, ...]:
    """The first 20 tiles whose tags are exactly `wanted`, at 128 px, brightness in grey levels."""
    indices = [index for index, tags in enumerate(all_tags()) if " ".join(tags) == wanted][:N_SEPARATION]
    assert len(indices) == N_SEPARATION
    return tuple(draw_tile(index, size_px=128).pixels.mean(axis=2, dtype=np.float32) for index in indices)


def share_above(high: list[float], low: list[float]) -> float:
    """The share of pairs in which the first is larger (the area under the ROC curve)."""
    return float(np.mean(np.array(high)[:, None] > np.array(low)[None, :]))


def brightness(tile: Grey) -> float:
    return float(tile.mean())


def detail(tile: Grey) -> float:
    return float(np.abs(np.diff(tile, axis=1)).mean())


def blocks(tile: Grey) -> Grey:
    return tile.reshape(16, 8, 16, 8).mean(axis=(1, 3))


def block_range(tile: Grey) -> float:
    return float(np.ptp(blocks(tile)))


def brightest_block(tile: Grey) -> float:
    return float(blocks(tile).max() - np.median(tile))


def smoothest_block(tile: Grey) -> float:
    """The detail of the smoothest blocks as a share of the usual: near 0 where there is water."""
    local = blocks(np.abs(np.diff(tile, axis=1, append=tile[:, -1:])))
    return float(np.quantile(local, 0.03) / np.median(local))


def spikiness(tile: Grey) -> float:
    """The kurtosis of what is smaller than 9 px: high where a few thin or small things stand out."""
    box = np.ones(9) / 9
    blurred = tile
    for axis in (0, 1):
        blurred = np.apply_along_axis(np.convolve, axis, blurred, box, mode="same")
    small = (tile - blurred)[8:-8, 8:-8]
    return float((small**4).mean() / (small**2).mean() ** 2)


# The tiles


def test_the_same_seed_and_index_are_the_same_bytes() -> None:
    first, again = draw_tile(7, seed=3, size_px=64), draw_tile(7, seed=3, size_px=64)
    assert first.name == again.name == "tile_0007"
    assert first.tags == again.tags
    assert first.pixels.tobytes() == again.pixels.tobytes()
    assert first.pixels.shape == (64, 64, 3)
    assert first.pixels.dtype == np.uint8


def test_another_seed_or_index_is_another_tile() -> None:
    here = draw_tile(7, seed=3, size_px=64).pixels
    assert not np.array_equal(here, draw_tile(7, seed=4, size_px=64).pixels)
    assert not np.array_equal(here, draw_tile(8, seed=3, size_px=64).pixels)


def test_drawing_does_not_touch_numpys_global_state() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    draw_tile(0, size_px=32)
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]


def test_the_size_changes_neither_the_tags_nor_the_layout() -> None:
    indices = [i for i, tags in enumerate(all_tags()) if tags == ("clear", "primary", "water")][:10]
    alike = []
    for index in indices:
        small, large = draw_tile(index, size_px=64), draw_tile(index, size_px=128)
        assert small.tags == large.tags
        coarse = [
            tile.pixels.mean(2).reshape(16, -1, 16, len(tile.pixels) // 16).mean((1, 3)) for tile in (small, large)
        ]
        alike.append(np.corrcoef(coarse[0].ravel(), coarse[1].ravel())[0, 1])
    assert np.median(alike) > 0.8


def test_odd_sizes_work() -> None:
    for index in range(12):
        assert draw_tile(index, size_px=45).pixels.shape == (45, 45, 3)


# The tags


def test_every_tile_has_one_weather_and_cloudy_stands_alone() -> None:
    for tags in all_tags():
        assert len(set(tags) & set(WEATHER)) == 1
        assert set(tags) <= set(TAGS)
        assert list(tags) == sorted(set(tags))
        assert len(tags) >= 2 or tags == ("cloudy",)
        assert "cloudy" not in tags or tags == ("cloudy",)


def test_tag_frequencies_are_those_that_are_stated() -> None:
    counts = Counter(tag for tags in all_tags() for tag in tags)
    for weather, share in WEATHER.items():
        assert abs(counts[weather] / 1000 - share) < 4 * np.sqrt(share * (1 - share) / 1000)
    expected = {"primary": 930, "agriculture": 325, "road": 225, "water": 165, "cultivation": 125, "habitation": 97}
    for tag, count in expected.items():
        assert abs(counts[tag] - count) < 0.2 * count, tag
    assert all(counts[tag] >= 10 for tag in TAGS)
    assert sum(counts[tag] < 15 for tag in TAGS) <= 2
    assert 60 <= len(set(all_tags())) <= 110


def test_tags_occur_together_as_on_real_tiles() -> None:
    def share(tag: str, given: str) -> float:
        chosen = [tags for tags in all_tags() if given in tags]
        return sum(tag in tags for tags in chosen) / len(chosen)

    assert share("road", "habitation") > 0.7
    assert share("agriculture", "habitation") > 0.7
    assert share("agriculture", "cultivation") > 0.55
    assert share("road", "agriculture") > 2 * share("road", "clear")
    assert share("primary", "clear") > 0.95


def test_frequencies_stay_near_the_real_ones(planet_path: Path) -> None:
    with (planet_path / "labels.csv").open(encoding="utf-8") as table:
        real = Counter(tag for row in csv.DictReader(table) for tag in set(row["tags"].split()))
    drawn = Counter(tag for tags in all_tags() for tag in tags)
    for tag in ("clear", "partly_cloudy", "primary", "agriculture", "road", "water", "cultivation", "habitation"):
        assert 0.8 < drawn[tag] / real[tag] < 1.25, tag


# What can be seen


@pytest.mark.parametrize("tag", PAINTERS)
def test_every_painter_leaves_a_mark(tag: str) -> None:
    changed_px = []
    for seed in range(20):
        canvas = scenery._Canvas(np.random.default_rng(seed), 128, wooded=True)
        before = canvas.rgb.copy()
        PAINTERS[tag](canvas)
        changed = np.abs(canvas.rgb - before).max(axis=2)
        changed_px.append(int((changed > 12).sum()))
        assert np.isfinite(canvas.rgb).all()
        assert sum(float(claim.sum()) for claim in canvas.claims) > 2
    assert sorted(changed_px)[2] >= 15  # 18 of 20 tiles


def test_haze_brightens_and_flattens() -> None:
    hazy, clear = tiles("haze primary"), tiles("clear primary")
    assert share_above([*map(brightness, hazy)], [*map(brightness, clear)]) > 0.9
    assert share_above([*map(detail, clear)], [*map(detail, hazy)]) > 0.75


def test_cloudy_tiles_hide_the_ground() -> None:
    cloudy, clear = tiles("cloudy"), tiles("clear primary")
    assert share_above([*map(brightness, cloudy)], [*map(brightness, clear)]) > 0.97
    assert share_above([*map(detail, clear)], [*map(detail, cloudy)]) > 0.9


def test_partly_cloudy_tiles_have_bright_clouds() -> None:
    partly, clear = tiles("partly_cloudy primary"), tiles("clear primary")
    assert share_above([*map(brightest_block, partly)], [*map(brightest_block, clear)]) > 0.9


def test_water_is_smooth() -> None:
    wet, dry = tiles("clear primary water"), tiles("clear primary")
    assert share_above([*map(smoothest_block, dry)], [*map(smoothest_block, wet)]) > 0.85


def test_fields_differ_from_the_forest_around_them() -> None:
    farmed, forest = tiles("agriculture clear primary"), tiles("clear primary")
    assert share_above([*map(block_range, farmed)], [*map(block_range, forest)]) > 0.85


def test_roads_and_roofs_stand_out() -> None:
    settled, farmed = tiles("agriculture clear habitation primary road"), tiles("agriculture clear primary")
    assert share_above([*map(spikiness, settled)], [*map(spikiness, farmed)]) > 0.9


def test_clouds_are_placed_to_spare_what_gave_the_tile_its_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden() -> float:
        shares = []
        for seed in range(25):
            canvas = scenery._Canvas(np.random.default_rng(seed), 64, wooded=True)
            PAINTERS["cultivation"](canvas)
            before = canvas.rgb.copy()
            scenery._clouds(canvas)
            cloud = np.abs(canvas.rgb - before).max(axis=2) > 50
            shares.append(float(cloud[canvas.taken > 0.3].mean()))
        return float(np.mean(shares))

    spared = hidden()
    monkeypatch.setattr(scenery, "_most_hidden", lambda mask, claims: 0.0)  # the first sky, whatever it hides
    assert spared < 0.5 * hidden()


# The sample on disk


def listing(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_write_sample_makes_a_folder_like_planets(tmp_path: Path) -> None:
    done: list[int] = []
    folder = write_sample(tmp_path / "new" / "sample", 5, size_px=48, progress=done.append)
    assert folder == tmp_path / "new" / "sample"
    assert done == [1, 2, 3, 4, 5]
    with (folder / "labels.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert [row["image_name"] for row in rows] == [f"tile_{i:04d}" for i in range(5)]
    for index, row in enumerate(rows):
        tile = draw_tile(index, size_px=48)
        assert tuple(row["tags"].split()) == tile.tags
        with Image.open(folder / "train" / f"{row['image_name']}.jpg") as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (48, 48))
            assert np.abs(np.asarray(image, float) - tile.pixels).mean() < 4
    assert "drawn, not photographed" in (folder / "README.txt").read_text(encoding="utf-8")
    assert sorted(path.name for path in folder.parent.iterdir()) == ["sample"]  # nothing left beside it


def test_a_tile_does_not_depend_on_the_number_of_tiles(tmp_path: Path) -> None:
    few, more = write_sample(tmp_path / "few", 2, size_px=32), write_sample(tmp_path / "more", 4, size_px=32)
    for name in ("train/tile_0000.jpg", "train/tile_0001.jpg"):
        assert (few / name).read_bytes() == (more / name).read_bytes()


def test_a_whole_sample_is_left_alone_even_with_your_files_in_it(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "sample", 3, size_px=32)
    (folder / "models").mkdir()
    (folder / "models" / "mine.safetensors").write_bytes(b"weights")
    before, done = listing(folder), list[int]()
    assert write_sample(str(folder), 3, size_px=32, progress=done.append) == folder
    assert done == []
    assert listing(folder) == before


@pytest.mark.parametrize("change", [{"n": 4}, {"seed": 1}, {"size_px": 40}])
def test_other_numbers_replace_an_old_sample(tmp_path: Path, change: dict[str, int]) -> None:
    numbers = {"n": 3, "seed": 0, "size_px": 32}
    folder = write_sample(tmp_path / "sample", **numbers)
    write_sample(folder, **{**numbers, **change})
    fresh = write_sample(tmp_path / "fresh", **{**numbers, **change})
    assert listing(folder) == listing(fresh)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "sample"]


def test_a_new_version_draws_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_sample(tmp_path / "sample", 2, size_px=32)
    monkeypatch.setattr(synthetic, "VERSION", synthetic.VERSION + 1)
    done: list[int] = []
    write_sample(folder, 2, size_px=32, progress=done.append)
    assert done == [1, 2]
    assert json.loads((folder / synthetic.STAMP).read_text())["version"] == synthetic.VERSION


@pytest.mark.parametrize("damage", ["cut", "missing", "no table"])
def test_a_damaged_sample_is_drawn_again(tmp_path: Path, damage: str) -> None:
    folder = write_sample(tmp_path / "sample", 2, size_px=32)
    before, tile = listing(folder), folder / "train" / "tile_0001.jpg"
    if damage == "cut":
        tile.write_bytes(tile.read_bytes()[:100])
    (tile if damage == "missing" else folder / "labels.csv").unlink() if damage != "cut" else None
    assert listing(write_sample(folder, 2, size_px=32)) == before


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path / "sample", 5, size_px=32, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_rebuild_keeps_the_old_sample(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    folder = write_sample(tmp_path / "sample", 2, size_px=32)
    before = listing(folder)
    with pytest.raises(KeyboardInterrupt):
        write_sample(folder, 3, size_px=32, progress=stop)
    assert listing(folder) == before
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("name", ["notes.txt", "labels.csv", "train/tile_0000.jpg"])
def test_a_folder_of_someone_elses_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "mine" / name
    file.parent.mkdir(parents=True)
    file.write_text("precious")
    with pytest.raises(DataError, match=rf"{name.split('/')[0]}.*nothing was changed: pass another folder"):
        write_sample(tmp_path / "mine", 2, size_px=32)
    assert listing(tmp_path / "mine") == {name: b"precious"}


@pytest.mark.parametrize("name", ["models/mine.safetensors", "train/holiday.jpg"])
def test_replacing_our_sample_does_not_take_your_files_with_it(tmp_path: Path, name: str) -> None:
    folder = write_sample(tmp_path / "sample", 2, size_px=32)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("precious")
    before = listing(folder)
    with pytest.raises(DataError, match=r"models|holiday"):
        write_sample(folder, 3, size_px=32)
    assert listing(folder) == before


def test_an_empty_folder_is_filled_and_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (write_sample(tmp_path / "empty", 1, size_px=32) / "labels.csv").is_file()
    (tmp_path / "file").write_text("text")
    with pytest.raises(ArgumentError, match="got the file"):
        write_sample(tmp_path / "file", 1, size_px=32)


@pytest.mark.parametrize("stamp", ["{", "[]", '{"made_by": "someone"}'])
def test_a_stamp_that_is_not_ours_does_not_count(tmp_path: Path, stamp: str) -> None:
    (tmp_path / synthetic.STAMP).write_text(stamp)
    with pytest.raises(DataError, match="onecycle_sample"):
        write_sample(tmp_path, 1, size_px=32)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"n": 0}, "n must be a whole number from 1 to 100000, got 0"),
        ({"n": 2.0}, "n must be a whole number"),
        ({"n": True}, "got True"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"size_px": 8}, "size_px must be a whole number from 32 to 1024, got 8"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, numbers: dict[str, int], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        write_sample(tmp_path / "sample", **numbers)
    assert not (tmp_path / "sample").exists()


def test_a_negative_index_is_refused() -> None:
    with pytest.raises(ArgumentError, match="index must be a whole number from 0"):
        draw_tile(-1)
