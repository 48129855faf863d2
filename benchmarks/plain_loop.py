"""onecycle's loop against a plain PyTorch loop: the same result, and what the comfort costs.

Both sides train the same network from the same weights with the same schedule on pictures decoded beforehand, without
augmentation, and validate after each epoch. They run in turn, several rounds in one process.

    python benchmarks/plain_loop.py [--rounds 5] [--epochs 2] [--size 128] [--data PATH]
"""

from __future__ import annotations

import argparse
import copy
import math
import time
import warnings
from pathlib import Path
from tempfile import mkdtemp

import report
import torch
from torch import nn

from onecycle.cnn_learner import cnn_learner
from onecycle.data.bunch import ImageDataBunch
from onecycle.errors import DataWarning
from onecycle.learner import Learner

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "planet_sample"
MAX_LR, WD, BS = 2e-3, 0.01, 32
Tensors = tuple[torch.Tensor, torch.Tensor]


def cycle(i: int, n: int) -> tuple[float, float]:
    """Learning rate and first beta of step ``i`` of ``n``: one cycle in cosines, pct_start 0.3."""
    rise = int(n * 0.3)
    if i <= rise:
        part, lrs, moms = i / max(rise, 1), (MAX_LR / 25, MAX_LR), (0.95, 0.85)
    else:
        part, lrs, moms = (i - rise) / (n - rise), (MAX_LR, MAX_LR / 25e4), (0.85, 0.95)
    ease = (1 + math.cos(math.pi * part)) / 2
    return lrs[1] + (lrs[0] - lrs[1]) * ease, moms[1] + (moms[0] - moms[1]) * ease


def plain_fit(
    model: nn.Module, train: Tensors, valid: Tensors, epochs: int, seed: int
) -> tuple[float, float]:
    """Train as a person would write it by hand; returns validation loss and seconds an epoch."""
    x, y = train
    optimizer = torch.optim.Adam(model.parameters(), lr=MAX_LR, betas=(0.9, 0.99), fused=True)
    loss_func = nn.BCEWithLogitsLoss()
    n_batches = len(x) // BS
    torch.manual_seed(seed)
    start, loss_value = time.perf_counter(), math.nan
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(x))
        for b in range(n_batches):
            rows = order[b * BS : (b + 1) * BS]
            lr, mom = cycle(epoch * n_batches + b, n_batches * epochs)
            for group in optimizer.param_groups:
                group["lr"], group["betas"] = lr, (mom, 0.99)
            loss = loss_func(model(x[rows].contiguous(memory_format=torch.channels_last)), y[rows])
            loss.backward()
            with torch.no_grad():
                torch._foreach_mul_(list(model.parameters()), 1 - lr * WD)
            optimizer.step()
            optimizer.zero_grad()
        loss_value = plain_validate(model, valid, loss_func)
    return loss_value, (time.perf_counter() - start) / epochs


def plain_validate(model: nn.Module, valid: Tensors, loss_func: nn.Module) -> float:
    x, y = valid
    model.eval()
    with torch.inference_mode():
        parts = [model(x[i : i + BS]) for i in range(0, len(x), BS)]
    return float(loss_func(torch.cat(parts), y))


def in_memory(learn: Learner) -> tuple[Tensors, Tensors]:
    """Return normalised pictures and targets of both parts as tensors."""
    data = learn.data
    parts = []
    for loader in (data.fix_dl, data.valid_dl):
        batches = list(loader.replace(stats=learn.norm_stats))
        x = torch.cat([b.x for b in batches]).contiguous(memory_format=torch.channels_last)
        parts.append((x, torch.cat([b.y for b in batches])))
    return parts[0], parts[1]


def make_sides(args: argparse.Namespace, round_: int) -> tuple[Learner, nn.Module, Tensors, Tensors]:
    """Make a learner, a copy of its network for the plain side, and the pictures as tensors."""
    bunch = ImageDataBunch.from_csv(
        args.data, folder="train", suffix=".jpg", label_delim=" ", size=args.size, bs=BS, seed=42
    )
    learn = cnn_learner(bunch, args.arch, path=mkdtemp(), silent=True)
    learn.unfreeze()
    learn.trainer.seed = round_  # another order and other dropout in each round, the same split
    bunch.prepare()
    train, valid = in_memory(learn)
    return learn, copy.deepcopy(learn.model), train, valid


def ours_fit(learn: Learner, epochs: int) -> tuple[float, float]:
    """Train with onecycle; returns validation loss and seconds an epoch."""
    start = time.perf_counter()
    learn.fit_one_cycle(epochs, MAX_LR, wd=WD)
    return learn.recorder.val_losses[-1], (time.perf_counter() - start) / epochs


def keep(side: dict[str, list[float]], loss: float, seconds: float) -> None:
    """Note one round."""
    side["loss"].append(loss)
    side["seconds"].append(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--arch", default="tf_efficientnet_lite0")
    parser.add_argument("--data", type=Path, default=SHARED)
    args = parser.parse_args()
    warnings.simplefilter("ignore", DataWarning)
    ours: dict[str, list[float]] = {"loss": [], "seconds": []}
    plain: dict[str, list[float]] = {"loss": [], "seconds": []}
    for round_ in range(args.rounds):
        learn, model, train, valid = make_sides(args, round_)
        for side in ("ours", "plain") if round_ % 2 == 0 else ("plain", "ours"):
            if side == "ours":
                keep(ours, *ours_fit(learn, args.epochs))
            else:
                keep(plain, *plain_fit(model, train, valid, args.epochs, round_))
        print(f"round {round_}: ours {ours['loss'][-1]:.4f}, {ours['seconds'][-1]:.2f} s an epoch; "
              f"plain {plain['loss'][-1]:.4f}, {plain['seconds'][-1]:.2f} s", flush=True)  # fmt: skip
    ratios = [a / b for a, b in zip(ours["seconds"], plain["seconds"], strict=True)]
    rows = [
        {"side": side, "measure": name, **report.summary(kept[name])}
        for side, kept in (("onecycle", ours), ("plain PyTorch", plain))
        for name in ("loss", "seconds")
    ]
    rows.append(
        {
            "side": "onecycle / plain",
            "measure": "seconds an epoch, ratio of each round",
            **report.summary(ratios),
        }
    )
    method = (
        f"{args.arch}, Planet multi-label, {args.size} px, batch {BS}, {args.epochs} epochs of one cycle, fp32, "
        "channels-last, no augmentation, decoded beforehand; an epoch is 800 training pictures "
        "(25 batches) and validation on 200. "
        "The sides run in turn, the first one alternating."
    )
    report.write(f"plain_loop_{args.arch}", method, rows)


if __name__ == "__main__":
    main()
