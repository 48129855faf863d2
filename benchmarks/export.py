"""Whether an exported folder answers as the model that it was made from, and how fast it is.

python benchmarks/export.py [--data FOLDER] [--python INTERPRETER] [--archs NAME ...] [--rounds 5]

Same: for each network family, a head is solved on drawn tiles (random weights; Lite0 with its own on Planet's sample
too), the learner is exported, and every validation picture is predicted by the folder's ``predict.py`` in another
process and by ``Predictor.predict``. INTERPRETER has numpy, Pillow and onnxruntime alone; without it this one's is
used, in which torch and onecycle cannot be imported.
Speed: one picture at a time, by the opened folder and by ``learn.predict``, in turn, one thread each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import report
from PIL import Image

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.synthetic.tiles import write_sample
from onecycle.deploy.portable.predict import Model
from onecycle.learner.cnn import cnn_learner

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "planet_sample"
ARCHS = (
    "tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050", "convnext_atto", "regnetx_002", "densenet121",
    "repvgg_a0", "ghostnet_100", "mobileone_s0", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224",
)  # fmt: skip
FIXED_PX = ("vit_", "swin_")  # families that take pictures of one size
ALONE = "import runpy, sys; sys.modules.update(torch=None, onecycle=None, pandas=None); "


def learner_of(arch: str, path: Path, *, size: int, pretrained: bool) -> Any:
    """Return a learner with a solved head."""
    torch.manual_seed(0)
    data = ImageDataBunch.from_csv(path, folder="train", suffix=".jpg", label_delim=" ", size=size, bs=32, seed=0)
    learn = cnn_learner(data, arch, pretrained=pretrained, levels="auto", path=path, silent=True)
    learn.freeze()
    learn.precompute = 0  # features of plain pictures, once
    learn.solve_head()
    return learn


def same(learn: Any, folder: Path, python: str) -> dict[str, object]:
    """Export a learner and compare all its validation pictures; returns a row of the table."""
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


def big_picture(folder: Path, tile: str) -> str:
    """Write a photograph-like picture of 1200 × 1600 px; returns its path."""
    path = folder / "big.jpg"
    with Image.open(tile) as picture:
        picture.convert("RGB").resize((1600, 1200), Image.Resampling.BICUBIC).save(path, quality=92)
    return str(path)


def seconds_each(rounds: int, n: int, *calls: Callable[[], object]) -> list[list[float]]:
    """Time calls in turn: of each round the mean of n."""
    found: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(rounds):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            for _ in range(n):
                call()
            found[i].append((time.perf_counter() - start) / n)
    return found


def speed(learn: Any, folder: Path, pictures: dict[str, str], rounds: int) -> list[dict[str, object]]:
    """Time one picture at a time; returns a row for each picture."""
    model = Model(folder, threads=1)
    rows = []
    for name, file in pictures.items():
        pixels = np.asarray(Image.open(file).convert("RGB"))[None]
        folder_s, learner_s, graph_s = seconds_each(
            rounds, 20, lambda f=file: list(model.predict([f])), lambda f=file: learn.predict(f),
            lambda p=pixels: model.run(p),
        )  # fmt: skip
        ratios = [b / a for a, b in zip(folder_s, learner_s, strict=True)]
        rows.append(
            {
                "network": name,
                "folder, ms": 1e3 * float(np.median(folder_s)),
                "learn.predict, ms": 1e3 * float(np.median(learner_s)),
                "times as fast": float(np.median(ratios)),
                "least": min(ratios),
                "most": max(ratios),
                "graph alone, from whole pixels, ms": 1e3 * float(np.median(graph_s)),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--archs", nargs="*", default=list(ARCHS))
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as made:
        tiles = Path(made) / "tiles"
        write_sample(tiles, n=200, seed=0)
        for arch in asked.archs:
            size = 224 if arch.startswith(FIXED_PX) else 96
            learn = learner_of(arch, tiles, size=size, pretrained=False)
            name = f"{arch}, random, drawn tiles, {size} px"
            rows.append({"network": name} | same(learn, Path(made) / arch, asked.python))
            print(rows[-1], flush=True)
        if asked.data.is_dir():
            learn = learner_of("tf_efficientnet_lite0", asked.data, size=128, pretrained=True)
            folder = Path(made) / "planet"
            name = "tf_efficientnet_lite0, its weights, Planet's sample, 128 px"
            rows.append({"network": name} | same(learn, folder, asked.python))
            tile = learn.data.store.paths[0]
            pictures = {"a tile of 256 px": tile, "a JPEG of 1200 × 1600 px": big_picture(Path(made), tile)}
            rows += speed(learn, folder, pictures, asked.rounds)
    report.write("export", __doc__.split("\n\n", 2)[2], rows)


if __name__ == "__main__":
    main()
