"""Faults that are planted on purpose: copies of pictures, and wrong labels. Pure functions of a seed."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

N_EACH = 50
Place = tuple[int, Any]
"""Row and tag (None where a row has one label) of a wrong label."""


def _resized(picture: Image.Image) -> Image.Image:
    return picture.resize((round(picture.width * 0.75), round(picture.height * 0.75)), Image.Resampling.BICUBIC)


def _cropped(picture: Image.Image) -> Image.Image:
    dx, dy = round(picture.width * 0.02), round(picture.height * 0.02)
    return picture.crop((dx, dy, picture.width - dx, picture.height - dy))


def plant(items: dict[str, Any], folder: Path, seed: int) -> tuple[list[Any], dict[str, list[tuple[str, str]]]]:
    """Write copies of training pictures.

    Args:
        items: ``train``: (path, tags) each.
        folder: where the copies go.
        seed: which pictures, which turns.

    Returns:
        the copies as (path, tags), and for each kind (original, copy).
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    turns = [t for t in Image.Transpose if t.name != "ROTATE_360"]
    changes: dict[str, Callable[[Image.Image], Image.Image]] = {
        "saved anew": lambda p: p,
        "resized": _resized,
        "cropped": _cropped,
        "flipped or turned": lambda p: p.transpose(turns[int(rng.integers(len(turns)))]),
    }
    n_each = min(N_EACH, len(items["train"]) // 5)
    chosen = rng.permutation(len(items["train"]))[: n_each * 5].reshape(5, n_each)
    rows: list[Any] = []
    made: dict[str, list[tuple[str, str]]] = {}
    for kind, numbers in zip(("exact", *changes), chosen, strict=True):
        made[kind] = []
        for i in numbers:
            path, tags = items["train"][i]
            target = folder / f"{kind.split()[0]}_{Path(path).name}"
            if kind == "exact":
                target.write_bytes(Path(path).read_bytes())
            else:
                changes[kind](Image.open(path).convert("RGB")).save(target, quality=60)
            rows.append([str(target), tags])
            made[kind].append((path, str(target)))
    return rows, made


def many(folder: Path, n: int) -> list[str]:
    """Write n drawn pictures of 64 px, every thousandth of them the one before it saved anew."""
    folder.mkdir(parents=True)
    paths = []
    for i in range(n):
        path = folder / f"{i:06d}.jpg"
        rng = np.random.default_rng(i - (i % 1000 == 999))
        waves = rng.normal(size=(8, 8, 3))
        coarse = Image.fromarray(np.uint8(np.clip(128 + 45 * waves, 0, 255)))
        fine = np.asarray(coarse.resize((64, 64), Image.Resampling.BICUBIC), dtype=float)
        pixels = np.clip(fine + rng.normal(0, 12, (64, 64, 1)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, quality=75 if i % 1000 == 999 else 92)
        paths.append(str(path))
    return paths


def fashion(folder: Path, source: Path, n: int) -> list[str]:
    """Write the first n pictures of Fashion-MNIST, 28 px in grey, as PNG files; those that are there already stay."""
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(source / "train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)[:n]
    paths = [folder / f"{i:05d}.png" for i in range(len(pixels))]
    for path, picture in zip(paths, pixels, strict=True):
        if not path.exists():
            Image.fromarray(picture).save(path)
    return [str(path) for path in paths]


def fashion_classes(folder: Path, source: Path, n: int) -> list[Any]:
    """Return the first n pictures of Fashion-MNIST as (path, class)."""
    with gzip.open(source / "train-labels-idx1-ubyte.gz") as file:
        classes = np.frombuffer(file.read(), np.uint8, offset=8)[:n]
    return [(path, f"c{k}") for path, k in zip(fashion(folder, source, n), classes, strict=True)]


def digits(folder: Path) -> list[Any]:
    """Write scikit-learn's 1,797 handwritten digits, 8 px in grey, and return them as (path, class)."""
    from sklearn.datasets import load_digits

    found = load_digits()
    folder.mkdir(parents=True, exist_ok=True)
    items: list[Any] = [(str(folder / f"{i:04d}.png"), f"c{k}") for i, k in enumerate(found.target)]
    for pixels, (path, _) in zip(found.images, items, strict=True):
        Image.fromarray(np.uint8(pixels * 15.9)).save(path)
    return items


def contact_sheet(pairs: Sequence[Sequence[str]], path: Path, *, side: int = 84, columns: int = 8) -> None:
    """Write groups of pictures, those of one side by side, as one picture to look at."""
    width = max((len(names) for names in pairs), default=1) * side + 8
    sheet = Image.new("RGB", (columns * width, -(-max(1, len(pairs)) // columns) * (side + 8)), "grey")
    for i, names in enumerate(pairs):
        for j, name in enumerate(names):
            picture = Image.open(name).convert("RGB").resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(picture, (i % columns * width + j * side, i // columns * (side + 8)))
    sheet.save(path)


def wrong_labels(labels: Sequence[Any], share: float, rng: np.random.Generator) -> tuple[list[Any], list[Place]]:
    """Replace a share of the labels.

    Args:
        labels: a class each, or a list of tags each.
        share: of the labels; of tags, of all (picture, tag) decisions of which the tag is there, and as many again
            of those where it is not.
        rng: which.

    Returns:
        the labels with errors, and where they are.
    """
    if not isinstance(labels[0], list):
        names = sorted(set(labels))
        rows = rng.permutation(len(labels))[: round(share * len(labels))]
        changed = list(labels)
        for row in rows:
            changed[row] = str(rng.choice([n for n in names if n != labels[row]]))
        return changed, [(int(row), None) for row in rows]
    names = sorted({t for tags in labels for t in tags})
    there = np.array([[name in tags for name in names] for tags in labels])
    n = round(share * int(there.sum()))
    wrong: list[Place] = []
    for row, tag in rng.permutation(np.argwhere(~there))[:n]:
        wrong.append((int(row), names[tag]))
    gone = [place for place in rng.permutation(np.argwhere(there)) if there[place[0]].sum() > 1]
    there[[row for row, _ in wrong], [names.index(tag) for _, tag in wrong]] = True
    for row, tag in gone[:n]:  # a row that gained none may lose its last tag here: it keeps that one
        if there[row].sum() > 1:
            there[row, tag] = False
            wrong.append((int(row), names[tag]))
    kept = [[n for n, has in zip(names, row, strict=True) if has] for row in there]
    return kept, wrong
