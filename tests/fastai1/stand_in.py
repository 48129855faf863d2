"""Small drawn pictures in the folders where notebooks for fastai v1 expect their data, and random weights.

``python tests/fastai1/stand_in.py FOLDER`` lays them out with the notebooks beside them, and prints the variables under
which ``onecycle notebook run``, of a notebook there, finds them.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

NOTEBOOKS = Path(__file__).parent / "notebooks"
COLOURS = {"amber": (220, 160, 40), "blue": (40, 60, 200), "green": (40, 160, 60), "rose": (210, 80, 130)}
SIDE = 56
"""Pixels of a drawn picture."""


def picture(colour: tuple[int, int, int], seed: int, side: int = SIDE) -> Image.Image:
    """A disc of a colour on noise."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(60, 120, (side, side, 3)).astype(float)
    rows, columns = np.mgrid[:side, :side] / side - rng.uniform(0.35, 0.65, (2, 1, 1))
    pixels[np.hypot(rows, columns) < 0.3] = colour
    return Image.fromarray(np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8))


def digit(number: int, seed: int) -> Image.Image:
    """A grey picture of 28 × 28 whose strokes say which of ten it is."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((28, 28))
    for bit in range(4):
        if number + 1 >> bit & 1:
            at = 4 + 6 * bit + int(rng.integers(-1, 2))
            pixels[4:24, at : at + 3] = 220
    return Image.fromarray(np.clip(pixels + rng.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8))


def save(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def pets(root: Path) -> None:
    """Breeds in file names, 12 pictures of each of four."""
    for k, (name, colour) in enumerate(COLOURS.items()):
        for i in range(12):
            save(picture(colour, 100 * k + i), root / "images" / f"{name}_hound_{i}.jpg")
    save(picture(COLOURS["blue"], 999), root / "annotations" / "other.jpg")


def digits(root: Path, parts: dict[str, int], numbers: tuple[int, ...], table: str = "") -> None:
    """Folders ``part/number``, with so many pictures of each number, and a table of them where one is named."""
    rows = ["name,label\n"]
    for part, n in parts.items():
        for number in numbers:
            for i in range(n):
                path = save(digit(number, 1000 * number + 100 * len(part) + i), root / part / str(number) / f"{i}.png")
                rows.append(f"{path.relative_to(root).as_posix()},{int(number == numbers[-1])}\n")
    if table:
        (root / table).write_text("".join(rows))


def planet(root: Path) -> None:
    """Tags in a table: a colour, and "haze" for every third."""
    rows = ["image_name,tags\n"]
    for i in range(48):
        name, colour = list(COLOURS.items())[i % 4]
        save(picture(colour, i), root / "train-jpg" / f"train_{i}.jpg")
        rows.append(f"train_{i},{name}{' haze' if i % 3 == 0 else ''}\n")
    (root / "train_v2.csv").write_text("".join(rows))
    for folder, n in (("test-jpg", 5), ("test-jpg-additional", 3)):
        for i in range(n):
            save(picture(COLOURS["green"], 500 + i), root / folder / f"{folder}_{i}.jpg")


def competition(root: Path) -> None:
    """Tables and pictures as a competition has them: grades 0 to 4, and a yes or no."""
    grades, cactus = ["id_code,diagnosis\n"], ["id,has_cactus\n"]
    for i in range(50):
        save(picture(tuple(40 + 40 * (i % 5) for _ in range(3)), i), root / "train_images" / f"g{i}.png")
        grades.append(f"g{i},{i % 5}\n")
        save(picture(COLOURS["green" if i % 2 else "rose"], i), root / "train_images" / f"c{i}.jpg")
        cactus.append(f"c{i}.jpg,{i % 2}\n")
    (root / "train.csv").write_text("".join(grades))
    (root / "cactus.csv").write_text("".join(cactus))
    tests = [f"t{i}" for i in range(6)]
    for i, name in enumerate(tests):
        save(picture((80, 80, 80), 900 + i), root / "test_images" / f"{name}.png")
    (root / "sample_submission.csv").write_text("id_code,diagnosis\n" + "".join(f"{t},0\n" for t in tests))


def kernels(root: Path) -> None:
    """Data of further competitions, each in a folder of its own."""
    whales = ["Image,Id\n"]
    for i in range(36):
        save(picture(list(COLOURS.values())[i % 4], i), root / "whales" / "train" / f"w{i}.jpg")
        whales.append(f"w{i}.jpg,{'new_whale' if i % 9 == 8 else f'w_{i % 4}'}\n")
    (root / "whales" / "train.csv").write_text("".join(whales))
    cactus, patches = ["id,has_cactus\n"], ["id,label\n"]
    for i in range(40):
        save(picture(COLOURS["green" if i % 2 else "rose"], i, 32), root / "cactus" / "train" / "train" / f"c{i}.jpg")
        cactus.append(f"c{i}.jpg,{i % 2}\n")
        save(picture(COLOURS["blue" if i % 2 else "rose"], i, 48), root / "histopathologic" / "train" / f"p{i}.tif")
        patches.append(f"p{i},{i % 2}\n")
        kind = list(COLOURS)[i % 4]
        save(picture(COLOURS[kind], i), root / "seedlings" / "train" / kind / f"{i}.png")
        save(picture(COLOURS[kind], i), root / "cassava" / "train" / kind / f"{i}.jpg")
    (root / "cactus" / "train.csv").write_text("".join(cactus))
    (root / "histopathologic" / "train_labels.csv").write_text("".join(patches))
    tests = {"whales/test": ".jpg", "cactus/test/test": ".jpg", "seedlings/test": ".png", "cassava/test/0": ".jpg",
             "histopathologic/test": ".tif"}  # fmt: skip
    for folder, suffix in tests.items():
        for i in range(5):
            save(picture(COLOURS["green"], 700 + i, 48), root / folder / f"t{i}{suffix}")
    for name, column, suffix in (("cactus", "has_cactus", ".jpg"), ("histopathologic", "label", "")):
        rows = "".join(f"t{i}{suffix},0\n" for i in range(5))
        (root / name / "sample_submission.csv").write_text(f"id,{column}\n{rows}")


def faces(root: Path) -> None:
    """Pictures whose names begin with an age, which is how bright they are; and a few more in another folder."""
    for i in range(40):
        age = 2 + (7 * i) % 80
        save(picture((60 + 2 * age, 40 + 2 * age, 50), i), root / "crop_part1" / f"{age}_{i % 2}_0_{i}.jpg")
    for i in range(5):
        save(picture((100, 80, 50), 700 + i), root / "part2" / f"{i}.jpg")


def proteins(root: Path) -> None:
    """Cells in four grey files each, and a table with the numbers of their tags: which of the files are bright."""
    rows, tests = ["Id,Target\n"], ["Id,Predicted\n"]
    rng = np.random.default_rng(5)
    for i in range(46):
        bright = rng.random(4) < 0.5 if i % 4 else np.arange(4) == i // 4 % 4
        for name, lit in zip(("red", "green", "blue", "yellow"), bright, strict=True):
            drawn = picture((220,) * 3 if lit else (20,) * 3, 40 * i + len(name)).convert("L")
            save(drawn, root / ("train" if i < 40 else "test") / f"cell{i}_{name}.png")
        tags = " ".join(map(str, np.flatnonzero(bright))) or "0"
        (rows if i < 40 else tests).append(f"cell{i},{tags if i < 40 else 0}\n")
    (root / "train.csv").write_text("".join(rows))
    (root / "sample_submission.csv").write_text("".join(tests))


def bears(root: Path, address: str) -> None:
    """Pictures behind an address, and a list of their addresses for each kind."""
    for kind, colour in zip(("teddys", "grizzly", "black"), COLOURS.values(), strict=False):
        lines = []
        for i in range(12):
            save(picture(colour, 10 * len(kind) + i), root / "web" / kind / f"{i}.jpg")
            lines.append(f"{address}/{kind}/{i}.jpg\n")
        folder = root / "work" / "data" / "bears"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"urls_{kind}.csv").write_text("".join(lines))


def weights(folder: Path) -> None:
    """Random weights of ResNet-18 under the name that it looks for."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    state = timm.create_model("resnet18.tv_in1k", pretrained=False).state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "resnet18.tv_in1k.safetensors")


def lay_out(root: Path, address: str = "http://127.0.0.1:8899") -> dict[str, str]:
    """Write all of it below ``root``, the notebooks in ``root/work``; returns the variables that name it.

    Args:
        root: an empty folder.
        address: behind which ``root/web`` is served.
    """
    data = root / "data"
    pets(data / "oxford-iiit-pet")
    digits(data / "mnist_sample", {"train": 20, "valid": 8}, (3, 7), "labels.csv")
    digits(data / "mnist_png", {"training": 10, "testing": 4}, tuple(range(10)))
    planet(data / "planet")
    competition(root / "input")
    kernels(root / "input")
    faces(root / "input" / "faces")
    proteins(root / "input" / "protein")
    bears(root, address)
    weights(root / "weights")
    for notebook in NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(notebook, root / "work" / notebook.name)
    return {"ONECYCLE_DATA": str(data), "ONECYCLE_WEIGHTS": str(root / "weights")}


if __name__ == "__main__":
    print(" ".join(f"{name}={value}" for name, value in lay_out(Path(sys.argv[1])).items()))
