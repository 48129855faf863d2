"""The embedded sample: satellite-like tiles drawn from a seed, so that the truth is known.

`draw_tags` draws what is there and `scenery` draws how it looks. Nothing is stored or downloaded. Tags, their
frequencies and how they occur together follow tiles of the Amazon basin at about 3 m a pixel. Anything may be small,
faint or half hidden: the tags can be learned, but not perfectly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onecycle.data.pixels.picture_file import picture_bytes
from onecycle.data.synthetic.scenery import draw_scene
from onecycle.errors import ArgumentError, DataError
from onecycle.files import csv_text, sync_parts, unfinished, write_part, write_whole, writing

VERSION = 1  # raise it whenever the same seed draws other tiles: samples on disk are then drawn again
STAMP = "onecycle_sample.json"

WEATHER = {"clear": 0.70, "partly_cloudy": 0.19, "haze": 0.06, "cloudy": 0.05}
TAGS: tuple[str, ...] = (  # "artisinal" is how Planet spells it
    *("agriculture", "artisinal_mine", "bare_ground", "blooming", "clear", "cloudy", "cultivation"),
    *("habitation", "haze", "partly_cloudy", "primary", "road", "selective_logging", "slash_burn", "water"),
)
README = """These tiles are drawn, not photographed.

onecycle draws them from a seed, to show and to test itself where no data set is at hand. They imitate
satellite tiles of the Amazon basin at about 3 m a pixel. No place on them exists, and a model that learned from
them knows nothing about real tiles. Labels are in labels.csv: image_name (without .jpg) and tags (separated by
spaces).
"""


@dataclass(frozen=True)
class Tile:
    """One drawn tile: name, true tags in alphabetical order, pixels (size, size, 3) in RGB, 0 to 255."""

    name: str
    tags: tuple[str, ...]
    pixels: NDArray[np.uint8]


def draw_tags(rng: np.random.Generator) -> tuple[str, ...]:
    """Draw the tags of one tile: exactly one weather, then what nature and people did below it.

    Args:
        rng: the tile's generator.

    Returns:
        The tags in alphabetical order; a cloudy tile has no other.
    """
    weather = str(rng.choice(list(WEATHER), p=list(WEATHER.values())))
    if weather == "cloudy":
        return ("cloudy",)
    return tuple(sorted({weather, *_draw_land(rng, seen=0.3 if weather == "haze" else 1.0)}))


def _draw_land(rng: np.random.Generator, *, seen: float) -> set[str]:
    """Draw the land's tags; `seen` (0 to 1) is the share of the small and rare that shows through the air."""
    has: set[str] = set()

    def maybe(tag: str, chance: float) -> bool:
        if rng.random() < chance:
            has.add(tag)
        return tag in has

    farmed = maybe("agriculture", 0.30 + 0.06 * seen)
    road = maybe("road", 0.54 if farmed else 0.08)
    maybe("habitation", (0.44 if farmed else 0.2) if road else (0.05 if farmed else 0.0))
    water = maybe("water", 0.24 if farmed or road else 0.14)
    plots = maybe("cultivation", 0.28 if farmed else 0.06)
    maybe("bare_ground", seen * (0.012 if farmed else 0.028))
    maybe("slash_burn", seen * (0.09 if plots else 0.0))
    maybe("artisinal_mine", seen * (0.24 if water and not farmed else 0.0))
    maybe("selective_logging", seen * (0.01 if farmed else 0.03))
    maybe("blooming", seen * (0.0 if farmed or road or water else 0.043))
    maybe("primary", 0.93 if has & {"habitation", "bare_ground", "water"} else 1.0)
    return has


def draw_tile(index: int, *, seed: int = 0, size_px: int = 256) -> Tile:
    """Draw one tile, a pure function of its arguments.

    Args:
        index: which tile of the sample, 0 or more.
        seed: which sample, 0 or more.
        size_px: side in pixels, 32 to 1,024; it changes the sharpness, not the tags nor where the things lie.

    Returns:
        The tile with its true tags.

    Raises:
        ArgumentError: an argument is out of range.
    """
    _check_numbers(index=(index, 0, 10**9), seed=(seed, 0, 2**63), size_px=(size_px, 32, 1024))
    rng = np.random.default_rng([seed, index])
    tags = draw_tags(rng)
    return Tile(f"tile_{index:04d}", tags, draw_scene(tags, rng, size_px))


# The sample on disk


def write_sample(
    folder: str | Path,
    n: int = 1000,
    *,
    seed: int = 0,
    size_px: int = 256,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Draw a sample into a folder like Planet's: train/*.jpg, labels.csv (image_name, tags) and a README.txt.

    A whole sample with the same numbers is left alone; a folder appears under its name only once it is whole.

    Args:
        folder: where to; missing, empty, or a sample of ours that holds nothing else.
        n: number of tiles, 1 to 100,000; tile i does not depend on it.
        seed: which sample, 0 or more.
        size_px: side of a tile in pixels, 32 to 1,024.
        progress: called with the number of tiles done, after each.

    Returns:
        The folder.

    Raises:
        ArgumentError: a number is out of range, or the folder is a file.
        DataError: the folder holds something that we did not write.
        DiskFullError: there is no room; nothing is left of it.
    """
    _check_numbers(n=(n, 1, 100_000), seed=(seed, 0, 2**63), size_px=(size_px, 32, 1024))
    target = Path(folder).expanduser().resolve()
    recipe = {"made_by": "onecycle", "version": VERSION, "n": n, "seed": seed, "size_px": size_px}
    if _is_whole(target, recipe):
        return Path(folder)
    _check_free(target)
    with writing(target), unfinished(target.parent, target.name) as scratch:
        _build(scratch / target.name, recipe, progress)
        sync_parts()
        if target.exists():
            target.rename(scratch / "old")
        (scratch / target.name).rename(target)
    return Path(folder)


def _build(folder: Path, recipe: dict[str, Any], progress: Callable[[int], object] | None) -> None:
    """Write all files of a sample; the stamp, which says that it is whole, comes last."""
    (folder / "train").mkdir(parents=True)
    rows, n_bytes = [("image_name", "tags")], 0
    for index in range(recipe["n"]):
        tile = draw_tile(index, seed=recipe["seed"], size_px=recipe["size_px"])
        file = folder / "train" / f"{tile.name}.jpg"
        data = picture_bytes(Image.fromarray(tile.pixels), file.name, quality=90)
        write_part(file, data)
        n_bytes += len(data)
        rows.append((tile.name, " ".join(tile.tags)))
        if progress is not None:
            progress(index + 1)
    write_whole(folder / "labels.csv", csv_text(rows).encode())
    write_part(folder / "README.txt", README.encode())
    write_whole(folder / STAMP, json.dumps({**recipe, "train_bytes": n_bytes}, indent=1).encode())


def _read_stamp(folder: Path) -> dict[str, Any]:
    """Return what the stamp in `folder` says, or {} where there is none of ours."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and stamp.get("made_by") == "onecycle" else {}


def _is_whole(folder: Path, recipe: dict[str, Any]) -> bool:
    """Tell whether `folder` holds the sample of this recipe, every tile at its full length."""
    stamp = _read_stamp(folder)
    n_bytes = stamp.pop("train_bytes", None)
    files = [folder / "train" / f"tile_{index:04d}.jpg" for index in range(recipe["n"])]
    if stamp != recipe or not all(file.is_file() for file in (*files, folder / "labels.csv")):
        return False
    return bool(sum(file.stat().st_size for file in files) == n_bytes)


def _check_free(folder: Path) -> None:
    """Refuse a folder that holds anything that `write_sample` did not write."""
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(f"expected a folder for the sample, got the file {folder}; pass another name")
    ours = rf"train|train/tile_\d{{4,}}\.jpg|labels\.csv|README\.txt|{re.escape(STAMP)}"
    stamped = bool(_read_stamp(folder))
    held = [path.relative_to(folder).as_posix() for path in (*folder.glob("*"), *folder.glob("train/*"))]
    foreign = sorted(name for name in held if not (stamped and re.fullmatch(ours, name)))
    if foreign:
        raise DataError(
            f"expected a new or empty folder, or a sample of ours alone, but {folder} holds {', '.join(foreign[:3])} "
            f"({len(foreign)} in all); nothing was changed: pass another folder or move these away"
        )


def _check_numbers(**ranges: tuple[int, int, int]) -> None:
    """Check the (value, lowest, highest) of each named argument."""
    for name, (value, lowest, highest) in ranges.items():
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise ArgumentError(f"{name} must be a whole number from {lowest} to {highest}, got {value!r}")
