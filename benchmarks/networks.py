"""How fast the networks are that ``--arch auto`` chooses among: forward and a training step, relative to Lite0.

python benchmarks/networks.py [--size 224] [--rounds 3]

Weights are random: speed does not depend on them. The networks take turns in one process, and seconds are those of the
processor, so other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from harness import report
from torch.nn.functional import cross_entropy

from onecycle.model.choice import KNOWN
from onecycle.model.cnn import create_cnn_model

BATCH = 8


def seconds(name: str, size: int) -> tuple[float, float]:
    """Processor seconds of a picture: forward, and its share of a training step of all layers."""
    model = create_cnn_model(name, 17, pretrained=False, levels="auto").model.to(memory_format=torch.channels_last)
    x = torch.rand(BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 17, (BATCH,))

    def forward() -> None:
        with torch.no_grad():
            model.eval()(x)

    def train() -> None:
        cross_entropy(model.train()(x), y).backward()

    return timed(forward), timed(train)


def timed(work: Callable[[], None]) -> float:
    """Processor seconds of a picture, after a first call that builds what the others use."""
    work()
    start = time.process_time()
    work()
    return (time.process_time() - start) / BATCH


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rounds = [{known.name: seconds(known.name, args.size) for known in KNOWN} for _ in range(args.rounds)]
    rows: list[dict[str, object]] = []
    for known in KNOWN:
        row: dict[str, object] = {"network": known.name, "published top-1, %": known.top1}
        for i, what in enumerate(("forward", "training step")):
            own = [1 / one[known.name][i] for one in rounds]
            share = [one[KNOWN[0].name][i] / one[known.name][i] for one in rounds]
            row |= {f"{what}, pictures/s": statistics.median(own), f"{what}, rate of Lite0's": statistics.median(share)}
            row[f"{what}, least to most"] = f"{min(share):.2f} to {max(share):.2f}"
        rows.append({**row, "n": args.rounds})
    method = (
        f"Random weights, {args.size} px, {BATCH} pictures a batch, float32, channels last, head on several stages, "
        f"{torch.get_num_threads()} thread; median over rounds in which the networks take turns, one call timed each "
        "after one that is not; pictures a second of processor time. Published: top-1 of ImageNet's validation part, "
        "timm's results-imagenet.csv (each at its own test size and crop)."
    )
    report.write("networks", method, rows)


if __name__ == "__main__":
    main()
