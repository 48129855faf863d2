"""Unfrozen training steps: pictures a second, data path included, against fastai and against bare steps.

A bare step is forward, loss, backward and optimizer on one batch that lies in memory already. It is measured in
onecycle's own process, in turn with onecycle's steps, and alone in a process that leaves the handling of freed memory
as it is. The processes run one after the other, in turn.

    python benchmarks/unfrozen_epoch.py [--rounds 3] [--n 8] [--peers-python PATH]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import report, sides
from harness.sides import Run, Side

NETWORKS = {"tf_efficientnet_lite0": 32, "resnet34": 16}
"""Network and batch size: at 32, a step of ResNet-34 takes four seconds on two cores."""

MEASURES = {
    "rate": "onecycle, steps with data path",
    "lockstep": "onecycle, steps with data path, in turn with bare steps",
    "bare": "bare step, same precision, with onecycle's memory setting (in turn)",
    "bare_alone": "bare step, same precision, freed memory handled as torch ships (alone)",
    "fastai_rate": "fastai, steps with data path",
}
AS_TORCH_SHIPS = {"ONECYCLE_KEEP_MEMORY": "0"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sides.add_arguments(parser)
    parser.add_argument("--n", type=int, default=8, help="steps that count")
    parser.add_argument("--n-warm", type=int, default=2, help="steps before them that do not")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--pictures", type=int, help="fewer than all, to try this script")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    args = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {}
    speed: dict[str, str] = {}
    with sides.workplace() as folder:
        weights = sides.export_weights(folder)
        for round_ in range(args.rounds):
            for arch in args.networks:
                job = {
                    **sides.planet(args.data, round_, 200 if not args.pictures else 8, args.pictures),
                    **{"arch": arch, "bs": NETWORKS[arch], "size": args.size, "n": args.n},
                    **{"n_warm": args.n_warm, "weights": weights if "lite0" in arch else None},
                }
                rates = found.setdefault(arch, {})
                for run in run_sides(args, job, folder):
                    speed[arch] = run.last("speed") or speed.get(arch, "")
                    for key, text in MEASURES.items():
                        if run.last(key) is not None:
                            rates.setdefault(text, []).append(run.last(key))
                            print(f"round {round_}: {arch}: {text}: {run.last(key):.2f} img/s", flush=True)
                    write(args, found, speed)


def run_sides(args: argparse.Namespace, job: dict[str, Any], folder: Path) -> Iterator[Run]:
    """onecycle, the bare step in the precision that it chose, and fastai."""
    own = sides.run(sides.own("onecycle"), "steps", job, folder)
    yield own
    chosen = {key: own.last(key) for key in ("precision", "channels_last")}
    yield sides.run(sides.own("bare step", env=AS_TORCH_SHIPS), "bare", {**job, **chosen}, folder)
    for side in sides.peers(args, Side("fastai", "fastai_side.py", args.peers_python)):
        yield sides.run(side, "steps", job, folder)


def write(args: argparse.Namespace, found: dict[str, dict[str, list[float]]], speed: dict[str, str]) -> None:
    """Write what has been measured so far."""
    rows: list[dict[str, object]] = []
    for arch, rates in found.items():
        for name, values in rates.items():
            rows.append({"network": arch, "measure": f"img/s: {name}", **report.summary(values)})
        pairs = {
            "ratio: onecycle to bare step, both in turn": (MEASURES["lockstep"], MEASURES["bare"]),
            "ratio: onecycle to bare step as torch ships": (MEASURES["rate"], MEASURES["bare_alone"]),
            "ratio: onecycle to fastai": (MEASURES["rate"], MEASURES["fastai_rate"]),
        }
        for name, (top, bottom) in pairs.items():
            values = [a / b for a, b in zip(rates.get(top, []), rates.get(bottom, []), strict=False)]
            rows += [{"network": arch, "measure": name, **report.summary(values)}] if values else []
    chosen = "; ".join(f"{arch}: {text}" for arch, text in speed.items())
    networks = ", ".join(f"{arch} at batch {NETWORKS[arch]}" for arch in args.networks)
    method = f"""
        Planet, 17 tags, {args.size} px, the lesson's transforms, all layers; {networks} (Lite0 with its ImageNet
        weights, ResNet-34 with random ones); {args.n} steps after {args.n_warm} that do not count, pictures decoded
        beforehand on onecycle's side, fastai with its own number of workers. In turn: after each of onecycle's steps
        one bare step on a copy of the network; each side's own time is counted. Onecycle's choice: {chosen}.
    """
    report.write("unfrozen_epoch", method, rows, peers=sides.versions(args))


if __name__ == "__main__":
    main()
