"""Peak memory of training, onecycle against fastai, and whether it grows from epoch to epoch.

Planet: unfrozen steps of Lite0 and a validation. Fashion-MNIST: 60,000 pictures as files in a folder a class (expanded
from Debian's ``dataset-fashion-mnist``), a small network, some steps after the data is set up.

    python benchmarks/memory.py [--rounds 3] [--n 6] [--fashion FOLDER] [--peers-python PATH]
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path
from typing import Any

import numpy as np
from harness import report, sides
from harness.sides import Side
from PIL import Image

FASHION = Path("/usr/share/datasets/fashion-mnist")
WORDS = {
    "pss": "peak MB (Pss, processes summed)",
    "pss_anon": "peak MB, of it not backed by a file",
    "pss_file": "peak MB, of it mapped files",
    "seconds": "seconds of the run",
}
Found = dict[tuple[str, str], dict[str, list[float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sides.add_arguments(parser)
    parser.add_argument("--n", type=int, default=6, help="unfrozen steps")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--pictures", type=int, help="fewer than all, to try this script")
    parser.add_argument("--fashion", type=Path, default=FASHION, help="folder of the idx files")
    parser.add_argument("--n-fashion", type=int, default=60_000)
    parser.add_argument("--growth-epochs", type=int, default=50)
    args = parser.parse_args()
    found: Found = {}
    growths: list[list[dict[str, Any]]] = []
    with sides.workplace() as folder:
        weights = sides.export_weights(folder)
        pictures = expand(args.fashion, folder / "fashion", args.n_fashion)
        for round_ in range(args.rounds):
            valid = 200 if not args.pictures else 8
            planet = {**sides.planet(args.data, round_, valid, args.pictures), "size": args.size}
            jobs = {
                "Planet": {**planet, "weights": weights, "bs": 32, "n": args.n, "validate": True},
                "Fashion-MNIST": {
                    **{"folder": str(pictures), "multi": False, "arch": "resnet18", "bs": 64},
                    **{"n": args.n, "validate": False},
                },
            }
            for data, job in jobs.items():
                if data == "Fashion-MNIST" and pictures is None:
                    continue
                for side in all_sides(args):
                    run = sides.run(side, "memory", job, folder, sample_memory=True)
                    kept = found.setdefault((data, side.name), {key: [] for key in WORDS})
                    for key, value in {**run.memory, "seconds": run.seconds}.items():
                        kept.setdefault(key, []).append(value)
                    print(f"round {round_}: {data}: {side.name}: {run.memory} MB", flush=True)
                    write(args, found, growths)
            growths.append(growth(args, planet, weights, folder))
            write(args, found, growths)


def all_sides(args: argparse.Namespace) -> list[Side]:
    """onecycle, then fastai."""
    return [sides.own("onecycle"), *sides.peers(args, Side("fastai", "fastai_side.py", args.peers_python))]


def growth(args: argparse.Namespace, planet: dict[str, Any], weights: str, folder: Path) -> list[dict[str, Any]]:
    """Resident size after each of many epochs on 40 pictures at 64 px, all layers."""
    small = {**planet, "train": planet["train"][:32], "valid": planet["valid"][:8], "size": 64, "bs": 8}
    job = {**small, "weights": weights, "epochs": args.growth_epochs}
    return [line for line in sides.run(sides.own("onecycle"), "growth", job, folder).lines if "rss_mb" in line]


def expand(source: Path, target: Path, n: int) -> Path | None:
    """Write the training pictures as PNG files, a folder a class; None where the package is not installed."""
    files = [source / f"train-{name}.gz" for name in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    if not all(file.exists() for file in files):
        print(f"{source} does not hold Fashion-MNIST (Debian: dataset-fashion-mnist); it is left out", flush=True)
        return None
    pixels, labels = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in files)
    pictures = pixels[16:].reshape(-1, 28, 28)[:n]
    for i, (picture, label) in enumerate(zip(pictures, labels[8:], strict=False)):
        folder = target / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{i:05d}.png", compress_level=1)
    return target


def write(args: argparse.Namespace, found: Found, growths: list[list[dict[str, Any]]]) -> None:
    """Write what has been measured so far."""
    rows: list[dict[str, object]] = [
        {"data": data, "side": side, "measure": WORDS[key], **report.summary(values)}
        for (data, side), kept in found.items()
        for key, values in kept.items()
        if key in WORDS and values
    ]
    for data in dict.fromkeys(data for data, _ in found):
        own, fastai = (found.get((data, side), {}).get("pss", []) for side in ("onecycle", "fastai"))
        ratios = [a / b for a, b in zip(own, fastai, strict=False)]
        row = {"data": data, "side": "onecycle to fastai", "measure": "ratio: peak MB"}
        rows += [{**row, **report.summary(ratios)}] if ratios else []
    if growths:
        early, late = [g[4]["rss_mb"] for g in growths], [g[-1]["rss_mb"] for g in growths]
        difference = [b - a for a, b in zip(early, late, strict=True)]
        for text, values in (
            ("resident MB after epoch 5", early),
            (f"resident MB after epoch {args.growth_epochs}", late),
            (f"growth in MB, epoch 5 to {args.growth_epochs}", difference),
        ):
            rows.append({"data": "40 tiles", "side": "onecycle", "measure": text, **report.summary(values)})
    method = f"""
        Memory of a process and its children, sampled 20 times a second from outside: resident sizes at each sample, and
        at each new peak of their sum (and each second) the proportional sizes (Pss: pages that processes share are
        divided among them), which are what is reported. Mapped files (onecycle's store of pixels, and libraries on both
        sides) are counted where they are resident, though the system may drop them. Planet: Lite0, {args.size} px,
        batch 32, lesson's transforms, {args.n + 1} unfrozen steps, then a validation. Fashion-MNIST: {args.n_fashion:,}
        pictures as PNG files, from_folder(valid_pct=0.2) on both sides, ResNet-18 from random weights at 28 px, batch
        64, {args.n + 1} steps; onecycle decodes all pictures before them, fastai as it goes. fastai with its own number
        of workers. Growth: 32 training and 8 validation tiles at 64 px, batch 8, all layers.
    """
    report.write("memory", method, rows, peers=sides.versions(args))


if __name__ == "__main__":
    main()
