"""Whether an exported folder answers as the model that it was made from, and how fast it is.

python benchmarks/export.py [--data FOLDER] [--python INTERPRETER] [--archs NAME ...] [--rounds 15]

Same: each network has random weights (Lite0 its own, too) and a head solved on 100 training pictures. It is exported,
and every validation picture is predicted by the folder's predict.py in another process, and by Predictor.predict,
which onecycle predict calls. Pictures: the 200 validation tiles of Planet's sample (tags, decided for F2), and 40 of
two folders of drawn photographs (classes): JPEG and PNG of 200 to 500 px a side, tall and wide, some grey, some turned
by EXIF. INTERPRETER has numpy, Pillow and onnxruntime alone; without it this one's is used, in which torch and onecycle
cannot be imported.
Speed: one picture at a time, by the opened folder and by learn.predict, in turn, in one process of one thread; seconds
of the processor, which others used, too. Rows are added to those that were measured before; --archs without a name
measures speed alone, --rounds 0 none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import report
from harness.sides import PLANET
from PIL import Image

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.data_block import ImageList
from onecycle.data.synthetic.tiles import draw_tile
from onecycle.deploy.portable.predict import Model
from onecycle.learner.cnn import cnn_learner

LITE0 = "tf_efficientnet_lite0"
PX = {  # of the network, for families that take pictures of one size, or are made for large ones
    "vit_tiny_patch16_224": 224, "swin_tiny_patch4_window7_224": 224, "inception_v3": 96, "levit_128s": 224,
}  # fmt: skip
ARCHS = (
    LITE0, "tf_efficientnetv2_b0", "resnet18", "mobilenetv3_small_050", "convnext_atto", "regnetx_002", "densenet121",
    "repvgg_a0", "ghostnet_100", "mobileone_s0", "mobilevit_xxs", "edgenext_xx_small", "poolformer_s12", *PX,
)  # fmt: skip
N_TRAIN, PER_CLASS = 100, 60
ALONE = "import runpy, sys; sys.modules.update(torch=None, onecycle=None, pandas=None); "
Rows = list[dict[str, object]]


# --- data ---------------------------------------------------------------------------------------------


def planet(path: Path, size: int) -> ImageDataBunch:
    """Return Planet's validation part of seed 0 as tags, and a few of its training pictures."""
    drawn = ImageDataBunch.from_csv(path, folder="train", suffix=".jpg", label_delim=" ", size=32, seed=0).split
    tiles = ImageList.from_csv(path, "labels.csv", folder="train", suffix=".jpg")
    split = tiles.split_by_idxs(drawn.train[:N_TRAIN].tolist(), drawn.valid.tolist())
    return split.label_from_df(label_delim=" ").transform(None, size=size).databunch(bs=32)


def photographs(folder: Path) -> Path:
    """Draw pictures of many shapes into a folder for each of two classes, the weather of the scene; once."""
    rng, numbers = np.random.default_rng(0), count()
    left = {"clear": PER_CLASS, "partly_cloudy": PER_CLASS}
    while any(left.values()):
        i = next(numbers)
        kind = next((k for k in left if left[k] and k in draw_tile(i, size_px=32).tags), None)
        if kind is not None:
            left[kind] -= 1
            (folder / kind).mkdir(parents=True, exist_ok=True)
            _photograph(folder / kind / f"{i:04d}", draw_tile(i, size_px=512).pixels, rng, left[kind])
    return folder


def _photograph(path: Path, pixels: np.ndarray, rng: np.random.Generator, number: int) -> None:
    height, width = rng.integers(200, 501, 2)
    picture = Image.fromarray(pixels[:height, :width]).convert("L" if number % 7 == 0 else "RGB")
    turned = Image.Exif()
    turned[0x0112] = number % 8 + 1 if number % 3 == 0 else 1
    if number % 5 == 0:
        picture.save(path.with_suffix(".png"))
    else:
        picture.save(path.with_suffix(".jpg"), quality=int(rng.integers(70, 98)), exif=turned)


def classes(folder: Path, size: int) -> ImageDataBunch:
    """Return the photographs, a third of them for validation."""
    return ImageDataBunch.from_folder(folder, valid_pct=1 / 3, seed=0, size=size, bs=32)


# --- the same answers -------------------------------------------------------------------------------------


def learner_of(arch: str, data: ImageDataBunch, path: Path, *, pretrained: bool = False) -> Any:
    """Return a learner with a solved head."""
    torch.manual_seed(0)
    learn = cnn_learner(data, arch, pretrained=pretrained, levels="auto", path=path, silent=True)
    learn.freeze()
    learn.precompute = 0  # features of plain pictures, once
    learn.solve_head()
    if data.is_multi:
        learn.decide_for("f2")
    return learn


def same(learn: Any, folder: Path, python: str) -> dict[str, object]:
    """Export a learner and compare all its validation pictures; returns cells of a row."""
    start = time.process_time()
    made = learn.export(folder, archive=False, force=True)
    seconds = time.process_time() - start
    files = [learn.data.store.paths[row] for row in learn.data.split.valid]
    code = f"{ALONE}sys.path.insert(0, {str(folder)!r}); sys.argv = ['predict.py', *sys.stdin.read().split('\\n')]; "
    code += f"runpy.run_path({str(folder / 'predict.py')!r}, run_name='__main__')"
    ran = subprocess.run([python, "-c", code], input="\n".join(files), capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    right = learn.predictor().predict(files)
    probs = np.array([list(a["probabilities"].values()) for a in answers])
    labels = [tuple(a["labels"]) == right.names_of(d) for a, d in zip(answers, right.decided, strict=True)]
    return {
        "pictures": len(files),
        "largest difference of a probability": float(np.abs(probs - right.shown_probs).max()),
        "other labels": labels.count(False),
        "in the check of the export": made.verification.max_difference,
        "MB": (folder / "model.onnx").stat().st_size / 1e6,
        "export, CPU s": seconds,
    }


def families(archs: list[str], data: Path, work: Path, python: str) -> Iterator[dict[str, object]]:
    """Give a row for each network and data set."""
    drawn = photographs(work / "photographs")
    for arch in archs:
        size = PX.get(arch, 64)
        sets = {"drawn photographs, 2 classes": classes(drawn, size)}
        if data.is_dir():
            sets["Planet, 17 tags"] = planet(data, size)
        for name, bunch in sets.items():
            for pretrained in (False, True) if arch == LITE0 else (False,):
                weights = "its weights" if pretrained else "random"
                learn = learner_of(arch, bunch, work, pretrained=pretrained)
                row = {"network": arch, "weights": weights, "pictures of": name, "px": size}
                yield row | same(learn, work / arch, python)


# --- speed ----------------------------------------------------------------------------------------------


def big_picture(folder: Path, tile: str) -> str:
    """Write a photograph-like picture of 1200 × 1600 px; returns its path."""
    path = folder / "big.jpg"
    with Image.open(tile) as picture:
        picture.convert("RGB").resize((1600, 1200), Image.Resampling.BICUBIC).save(path, quality=92)
    return str(path)


def seconds_each(rounds: int, n: int, *calls: Callable[[], object]) -> list[list[float]]:
    """Time calls in turn: of each round the mean processor seconds of n."""
    found: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(rounds):
        for i, call in enumerate(calls):
            start = time.process_time()
            for _ in range(n):
                call()
            found[i].append((time.process_time() - start) / n)
    return found


def speed(data: Path, work: Path, rounds: int) -> Iterator[dict[str, object]]:
    """Time one picture at a time, by Lite0 on Planet; gives a row for each size of picture."""
    learn = learner_of(LITE0, planet(data, 128), work, pretrained=True)
    made = learn.export(work / "speed", archive=False, force=True)
    model, tile = Model(made.folder, threads=1), learn.data.store.paths[0]
    for name, file in {"256 × 256": tile, "1200 × 1600": big_picture(work, tile)}.items():
        pixels = np.asarray(Image.open(file).convert("RGB"))[None]
        folder_s, learner_s, graph_s = seconds_each(
            rounds, 10, lambda f=file: list(model.predict([f])), lambda f=file: learn.predict(f),
            lambda p=pixels: model.run(p),
        )  # fmt: skip
        yield {
            "network": LITE0, "weights": "its weights", "pictures of": f"one JPEG of {name} px", "px": 128,
            "folder, ms": 1e3 * float(np.median(folder_s)), "learn.predict, ms": 1e3 * float(np.median(learner_s)),
            "graph from whole pixels, ms": 1e3 * float(np.median(graph_s)),
            **_times("folder", learner_s, folder_s), **_times("graph", learner_s, graph_s),
        }  # fmt: skip


def _times(what: str, slow: list[float], fast: list[float]) -> dict[str, str]:
    """Say how many times as fast something is, over rounds."""
    ratios = [b / a for a, b in zip(fast, slow, strict=True)]
    return {f"{what}, times as fast": f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"}


# --- what is written -------------------------------------------------------------------------------------


def write(new: Rows) -> None:
    """Write the rows with those of before, each network, weights and pictures once."""
    before = report.RESULTS / "export.json"
    rows: Rows = json.loads(before.read_text())["rows"] if before.exists() else []
    by_key = {tuple(row[k] for k in ("network", "weights", "pictures of")): row for row in [*rows, *new]}
    kept = sorted(by_key.values(), key=lambda row: "pictures" not in row)  # speed comes last
    report.write("export", __doc__.split("\n\n", 2)[2], kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=PLANET)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--archs", nargs="*", default=list(ARCHS))
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        for row in families(asked.archs, asked.data, Path(made), asked.python):
            write([row])
        if asked.rounds and asked.data.is_dir():
            write(list(speed(asked.data, Path(made), asked.rounds)))


if __name__ == "__main__":
    main()
