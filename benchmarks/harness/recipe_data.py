"""The data sets of ``benchmarks/recipe.py``: each gives, for a seed, the files that train and those held out."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.sides import PLANET
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.synthetic.tiles import write_sample

Items = list[tuple[str, str]]
"""(path, label) each; tags are separated by spaces."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A data set and how it is asked."""

    name: str
    items: Callable[[], Items]  # all that there are, in an order that is always the same
    is_multi: bool  # whether the labels are tags
    size_px: int
    transforms: str  # see ``peers/recipe_side.py``
    n_train: int
    n_valid: int
    says: str  # for the description of the results

    def job(self, seed: int, n_train: int | None = None) -> dict[str, Any]:
        """Return what a side is given: the split of a seed, of which perhaps only the first pictures train."""
        items = self.items()
        train, valid = self.split(len(items), seed)
        words = {word for _, label in items for word in (label.split() if self.is_multi else [label])}
        return {
            "train": [items[i] for i in train[:n_train]],
            "valid": [items[i] for i in valid],
            "classes": sorted(words),
            "is_multi": self.is_multi,
            "size": self.size_px,
            "transforms": self.transforms,
            "seed": seed,
            "bs": 64,
        }

    def split(self, n: int, seed: int) -> tuple[Sequence[int], Sequence[int]]:
        """Draw which pictures train and which are held out."""
        drawn = np.random.default_rng(seed).permutation(n).tolist()
        return drawn[self.n_valid : self.n_valid + self.n_train], drawn[: self.n_valid]


@dataclass(frozen=True, kw_only=True)
class PlanetTask(Task):
    """The Planet sample, by the splits of ``benchmarks/lesson.py``."""

    data: Path = PLANET

    def split(self, n: int, seed: int) -> tuple[Sequence[int], Sequence[int]]:
        """Return the split that ``ImageDataBunch.from_csv`` draws; what trains is in a drawn order."""
        found = ImageDataBunch.from_csv(
            self.data, folder="train", suffix=".jpg", label_delim=" " if self.is_multi else None, seed=seed, size=32
        ).split
        return np.random.default_rng(seed).permutation(found.train).tolist(), found.valid.tolist()


def tasks(folder: Path, planet: Path, fashion: Path | None) -> list[Task]:
    """Return all data sets; drawn pictures go below ``folder``.

    Args:
        folder: where pictures are written.
        planet: the Planet sample.
        fashion: the folder with Fashion-MNIST's ``train-*-ubyte.gz`` files; without it, that set is left out.
    """
    made = [
        PlanetTask(
            name="Planet, tags", items=lambda: _planet(planet), is_multi=True, size_px=128, transforms="from above",
            n_train=800, n_valid=200, data=planet, says="1,000 tiles with 17 tags",
        ),
        PlanetTask(
            name="Planet, strings", items=lambda: _planet(planet), is_multi=False, size_px=128,
            transforms="from above", n_train=800, n_valid=200, data=planet,
            says="the same tiles with one label each, a string of tags",
        ),
        Task(
            name="mosaics", items=lambda: _mosaics(folder), is_multi=True, size_px=96, transforms="no flips",
            n_train=300, n_valid=149, says="four handwritten digits a picture, tags: which digits are there",
        ),
        Task(
            name="drawn tiles", items=lambda: _tiles(folder), is_multi=True, size_px=128, transforms="from above",
            n_train=600, n_valid=200, says="tiles of onecycle.data.synthetic with 15 tags",
        ),
        Task(
            name="digits", items=lambda: _digits(folder), is_multi=False, size_px=64, transforms="no flips",
            n_train=400, n_valid=400, says="handwritten digits of scikit-learn",
        ),
    ]  # fmt: skip
    if fashion is not None:
        made.append(
            Task(
                name="Fashion-MNIST", items=lambda: _fashion(folder, fashion), is_multi=False, size_px=64,
                transforms="usual", n_train=2000, n_valid=1000, says="10 classes, the first 6,000 of its training part",
            )
        )  # fmt: skip
    return made


def _planet(data: Path) -> Items:
    with open(data / "labels.csv", newline="") as file:
        return [(str((data / "train" / f"{r['image_name']}.jpg").resolve()), r["tags"]) for r in csv.DictReader(file)]


def _tiles(folder: Path) -> Items:
    return _planet(write_sample(folder / "tiles", 800))


def _digits(folder: Path) -> Items:
    from sklearn.datasets import load_digits

    pixels, labels = (load_digits()[key] for key in ("images", "target"))
    return _saved(folder / "digits", (pixels * (255 / 16)).astype(np.uint8), [str(label) for label in labels])


def _mosaics(folder: Path) -> Items:
    """Lay the digits out in mosaics of 2 × 2; each digit is in one of them."""
    from sklearn.datasets import load_digits

    pixels, labels = (load_digits()[key] for key in ("images", "target"))
    drawn = np.random.default_rng(0).permutation(len(labels) // 4 * 4).reshape(-1, 4)
    grey = (pixels * (255 / 16)).astype(np.uint8)[drawn].reshape(-1, 2, 2, 8, 8).transpose(0, 1, 3, 2, 4)
    return _saved(
        folder / "mosaics",
        grey.reshape(-1, 16, 16),
        [" ".join(sorted({f"digit_{labels[i]}" for i in four})) for four in drawn],
    )


def _fashion(folder: Path, source: Path) -> Items:
    pixels, labels = (
        np.frombuffer(gzip.decompress((source / f"train-{name}-ubyte.gz").read_bytes()), np.uint8, offset=offset)
        for name, offset in (("images-idx3", 16), ("labels-idx1", 8))
    )
    names = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
    return _saved(folder / "fashion", pixels.reshape(-1, 28, 28)[:6000], [names[i] for i in labels[:6000]])


def _saved(folder: Path, grey: np.ndarray, labels: Sequence[str]) -> Items:
    """Write grey pictures, uint8 (N, h, w), once, and return them with their labels."""
    paths = [folder / f"{i:05d}.png" for i in range(len(grey))]
    folder.mkdir(parents=True, exist_ok=True)
    for path, picture in zip(paths, grey, strict=True):
        if not path.exists():
            Image.fromarray(picture).save(path)
    return [(str(path), label) for path, label in zip(paths, labels, strict=True)]
