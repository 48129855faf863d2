"""On a GPU: pictures a second of training against a bare step, how long the GPU waits, and the lesson's time.

Without a GPU the result is an honest blank.

    python benchmarks/gpu.py [--rounds 3] [--networks resnet34 resnet50] [--bs 64] [--copies 16] [--no-peers]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from harness import report, sides
from harness.sides import Side

LESSON = [(True, 4), (False, 15), (False, 4)]
"""Frozen or not, and epochs: the lesson's three fits."""
WORDS = {
    "rate": "img/s, steps with data path",
    "bare": "img/s, bare step on a batch in memory",
    "busy": "share of the time in which a kernel runs",
    "lesson_s": f"seconds of the lesson's {sum(n for _, n in LESSON)} epochs",
}
Found = dict[tuple[str, str], dict[str, list[float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sides.add_arguments(parser)
    parser.add_argument("--networks", nargs="+", default=["resnet34", "resnet50"])
    parser.add_argument("--bs", type=int, default=64)
    parser.add_argument("--n", type=int, default=120, help="steps that count")
    parser.add_argument("--n-warm", type=int, default=40)
    parser.add_argument("--copies", type=int, default=16, help="names of each picture, to make an epoch longer")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        report.write("gpu", "Not measured: no GPU in this run.", [{"measure": "no GPU in this run"}])
        return
    found: Found = {}
    with sides.workplace() as folder:
        planet = sides.planet(args.data, 1)
        many = {**planet, "train": copies(planet["train"], folder / "copies", args.copies)}
        for round_ in range(args.rounds):
            for arch in args.networks:
                for side in all_sides(args):
                    measure(args, found, side, {**many, "arch": arch, "lesson": []}, folder)
                    print(f"round {round_}: {arch}: {side.name}: {found[arch, side.name]}", flush=True)
            for side in all_sides(args):
                job = {**planet, "arch": "resnet34", "lesson": LESSON}
                measure(args, found, side, job, folder)


def all_sides(args: argparse.Namespace) -> list[Side]:
    """onecycle, then fastai."""
    peer = Side("fastai", "fastai_side.py", args.peers_python, {"bf16": True})
    return [sides.own("onecycle"), *sides.peers(args, peer)]


def measure(args: argparse.Namespace, found: Found, side: Side, job: dict[str, Any], folder: Path) -> None:
    """Run one side once and write what has been measured so far."""
    settings = {"size": 224, "bs": args.bs, "n": args.n, "n_warm": args.n_warm, "weights": None}
    run = sides.run(side, "gpu", {**job, **settings}, folder)
    kept = found.setdefault((job["arch"], side.name), {})
    for key in WORDS:
        if run.last(key) is not None:
            kept.setdefault(key, []).append(run.last(key))
    write(args, found)


def copies(items: list[Any], folder: Path, n: int) -> list[Any]:
    """Each picture under ``n`` names (links), with its tags."""
    folder.mkdir()
    made = []
    for i in range(n):
        for path, tags in items:
            link = folder / f"{i}_{Path(path).name}"
            os.symlink(path, link)
            made.append((str(link), tags))
    return made


def write(args: argparse.Namespace, found: Found) -> None:
    """Write what has been measured so far."""
    rows: list[dict[str, object]] = [
        {"network": arch, "side": side, "measure": WORDS[key], **report.summary(values)}
        for (arch, side), kept in found.items()
        for key, values in kept.items()
    ]
    for (arch, side), kept in found.items():
        ratios = [a / b for a, b in zip(kept.get("rate", []), kept.get("bare", []), strict=False)]
        row = {"network": arch, "side": side, "measure": "ratio: with data path to bare step"}
        rows += [{**row, **report.summary(ratios)}] if ratios else []
    method = f"""
        {torch.cuda.get_device_name()}; Planet, 17 tags, 224 px, bf16, batch {args.bs}, the lesson's transforms, random
        weights, all layers. {args.n} steps after {args.n_warm} that do not count; pictures from onecycle's store (each
        under {args.copies} names, so that an epoch is long enough). Bare step: forward, loss, backward and optimizer on
        one batch on the device, in the same precision. Busy: union of the kernels' times in torch's profiler over the
        wall time of the steps; the rest the GPU waits. The lesson: its three fits (4 frozen epochs, 15 and 4 of all
        layers) on 800 tiles with validation, ResNet-34 from random weights, decoding included.
    """
    report.write("gpu", method, rows, peers=sides.versions(args))


if __name__ == "__main__":
    main()
