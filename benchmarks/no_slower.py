"""The data path and unfrozen steps on a processor, now and in an earlier state of this project, in turn.

    python benchmarks/no_slower.py --before CHECKOUT [--rounds 7] [--only "data path"] [--again]

CHECKOUT is a working copy of the earlier state. In every round both run the same work in processes of their own, one
after the other, and who begins changes from round to round; what counts is the ratio within a round. Rounds are added
to those that were measured before; --again leaves these out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

from harness import report, sides
from harness.sides import Line, Side

DATA_PATH = "data path"
STEPS = {"tf_efficientnet_lite0": 16, "resnet34": 8}
"""Network and batch size: half of ``unfrozen_epoch``'s, and at 128 px, as what is compared is all but the network."""

MEASURES = {"rate": "img/s", "cpu_rate": "img a second of processor time, all threads"}

Rates = dict[str, dict[str, dict[str, list[float]]]]
"""By what is measured, measure and side."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="checkout of the earlier state")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", type=Path, default=sides.PLANET, help="the Planet sample")
    parser.add_argument("--epochs", type=int, default=6, help="of the data path, after the first, which decodes")
    parser.add_argument("--n", type=int, default=5, help="steps that count")
    parser.add_argument("--only", default="", help="part of a name of what is measured")
    parser.add_argument("--again", action="store_true", help="forget what was measured before")
    args = parser.parse_args()
    both = [sides.own("now"), sides.own("before", env={"PYTHONPATH": str(args.before.resolve() / "src")})]
    rates: Rates = {} if args.again else earlier()
    with sides.workplace() as folder:
        weights = sides.export_weights(folder)
        for round_ in range(args.rounds):
            for name in (name for name in (DATA_PATH, *STEPS) if args.only in name):
                for side in both[:: 1 if round_ % 2 else -1]:
                    for key, rate in measured(name, side, args, weights, round_, folder).items():
                        rates.setdefault(name, {}).setdefault(key, {}).setdefault(side.name, []).append(rate)
                        print(f"round {round_}: {name}: {side.name}: {rate:.1f} {MEASURES[key]}", flush=True)
            write(args, rates)


def earlier() -> Rates:
    """Return what was measured already."""
    results = report.RESULTS / "no_slower.json"
    return json.loads(results.read_text())["runs"] if results.exists() else {}


def measured(
    name: str, side: Side, args: argparse.Namespace, weights: str, seed: int, folder: Path
) -> dict[str, float]:
    """Return the pictures a second of one process of one side, by measure."""
    job: dict[str, Any] = {**sides.planet(args.data, seed, 200), "size": 224}
    if name == DATA_PATH:
        run = sides.run(side, "loader", {**job, "bs": 64, "epochs": 1 + args.epochs}, folder)
        return {key: statistics.median(line[key] for line in run.lines if line.get("epoch")) for key in MEASURES}
    job = {**sides.planet(args.data, seed, 8, 200), "size": 128, "bs": STEPS[name], "arch": name}
    job["weights"] = weights if "lite0" in name else None
    job = {**job, "n": args.n, "n_warm": 2, "learner": {"precision": "fp32", "channels_last": True}}
    run = sides.run(side, "steps", job, folder, enough=has_rate)
    return {key: float(run.last(key)) for key in MEASURES}


def has_rate(lines: list[Line]) -> bool:
    """Whether a side has said what its steps took; the bare steps after that are not needed here."""
    return "rate" in lines[-1]


def write(args: argparse.Namespace, rates: Rates) -> None:
    """Write what has been measured so far."""
    rows: list[dict[str, object]] = []
    for name, key, found in ((name, key, found) for name, by in rates.items() for key, found in by.items()):
        words = MEASURES[key]
        rows += [{"what": name, "measure": f"{words}: {side}", **report.summary(v)} for side, v in found.items()]
        ratios = [now / before for now, before in zip(found["now"], found["before"], strict=True)]
        rows.append({"what": name, "measure": f"ratio of now to before: {words}", **report.summary(ratios)})
    method = f"""
        Planet, the lesson's transforms, on a processor that other programs may use, too (OMP_NUM_THREADS:
        {os.environ.get("OMP_NUM_THREADS", "not set")}). Data path: 800 pictures, 224 px, batch 64, decoded beforehand,
        median of {args.epochs} epochs of the loader alone. Networks: training steps of all layers, data path included,
        128 px, fp32, channels_last, batch 16 (EfficientNet-Lite0) and 8 (ResNet-34), {args.n} steps after 2 that do not
        count. A process for each figure; both states in turn in each round, who begins alternates.
    """
    report.write("no_slower", method, rows, runs=rates)


if __name__ == "__main__":
    main()
