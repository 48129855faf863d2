"""onecycle's loop against a plain PyTorch loop: the same result, and what the comfort costs.

Both sides train the same network from the same weights with the same schedule on pictures decoded beforehand, without
augmentation, and validate after each epoch. They take their steps in turn, so that a noisy machine slows both alike.

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

import torch
from harness import report
from torch import nn

from onecycle.data.data_block import ImageList
from onecycle.errors import DataWarning
from onecycle.learner.cnn import cnn_learner
from onecycle.learner.learner import Learner
from onecycle.train.loop import Callback

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


class PlainLoop:
    """Training as a person would write it by hand, a step at a time."""

    def __init__(self, model: nn.Module, train: Tensors, valid: Tensors, epochs: int, seed: int) -> None:
        self.model, self.train, self.valid, self.epochs = model, train, valid, epochs
        self.optimizer = torch.optim.Adam(model.parameters(), lr=MAX_LR, betas=(0.9, 0.99), fused=True)
        self.loss_func = nn.BCEWithLogitsLoss()
        self.n_batches = len(train[0]) // BS
        self.generator = torch.Generator().manual_seed(seed)
        self.i = 0

    def step(self) -> None:
        """One update."""
        x, y = self.train
        b = self.i % self.n_batches
        if b == 0:
            self.model.train()
            self.order = torch.randperm(len(x), generator=self.generator)
        rows = self.order[b * BS : (b + 1) * BS]
        lr, mom = cycle(self.i, self.n_batches * self.epochs)
        for group in self.optimizer.param_groups:
            group["lr"], group["betas"] = lr, (mom, 0.99)
        loss = self.loss_func(self.model(x[rows].contiguous(memory_format=torch.channels_last)), y[rows])
        loss.backward()
        with torch.no_grad():
            torch._foreach_mul_(list(self.model.parameters()), 1 - lr * WD)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.i += 1

    def validate(self) -> float:
        """Validation loss."""
        return plain_validate(self.model, self.valid, self.loss_func)


class Lockstep(Callback):
    """After each of onecycle's steps, one of the plain loop: both sides see the same moments of a noisy machine."""

    def __init__(self, plain: PlainLoop) -> None:
        self.plain, self.seconds, self.loss = plain, 0.0, math.nan

    def on_batch_end(self, trainer: object, loss: torch.Tensor) -> None:
        start = time.perf_counter()
        self.plain.step()
        self.seconds += time.perf_counter() - start

    def on_epoch_end(self, trainer: object, row: object) -> None:
        start = time.perf_counter()
        self.loss = self.plain.validate()
        self.seconds += time.perf_counter() - start


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
    bunch = (
        ImageList.from_csv(args.data, "labels.csv", folder="train", suffix=".jpg")
        .split_by_rand_pct(seed=42)
        .label_from_df(label_delim=" ")
        .transform(size=args.size)
        .databunch(bs=BS, seed=round_)  # another head, order and dropout in each round, the same split
    )
    learn = cnn_learner(bunch, args.arch, path=mkdtemp(), silent=True)
    learn.unfreeze()
    bunch.prepare()
    train, valid = in_memory(learn)
    return learn, copy.deepcopy(learn.model), train, valid


def run_round(args: argparse.Namespace, round_: int) -> dict[str, tuple[float, float]]:
    """Train both sides in lockstep; returns validation loss and seconds an epoch of each."""
    learn, model, train, valid = make_sides(args, round_)
    beside = Lockstep(PlainLoop(model, train, valid, args.epochs, round_))
    start = time.perf_counter()
    learn.fit_one_cycle(args.epochs, MAX_LR, wd=WD, callbacks=beside)
    seconds = time.perf_counter() - start - beside.seconds
    return {
        "onecycle": (learn.recorder.val_losses[-1], seconds / args.epochs),
        "plain PyTorch": (beside.loss, beside.seconds / args.epochs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--arch", default="tf_efficientnet_lite0")
    parser.add_argument("--data", type=Path, default=SHARED)
    args = parser.parse_args()
    warnings.simplefilter("ignore", DataWarning)
    rounds = []
    for round_ in range(args.rounds):
        rounds.append(run_round(args, round_))
        print(f"round {round_}:", rounds[-1], flush=True)
    rows = [
        {"side": side, "measure": name, **report.summary([r[side][i] for r in rounds])}
        for side in rounds[0]
        for i, name in enumerate(("validation loss", "seconds an epoch"))
    ]
    for i, name in enumerate(("validation loss, difference", "seconds an epoch, ratio")):
        pairs = [(r["onecycle"][i], r["plain PyTorch"][i]) for r in rounds]
        values = [a / b if i else a - b for a, b in pairs]
        rows.append({"side": "onecycle to plain", "measure": name, **report.summary(values)})
    method = (
        f"{args.arch}, Planet multi-label, {args.size} px, batch {BS}, {args.epochs} epochs of one cycle, fp32, "
        "channels-last, no augmentation, decoded beforehand; an epoch is 800 training pictures "
        "(25 batches) and validation on 200. "
        "The sides take their steps in turn within one fit."
    )
    report.write(f"plain_loop_{args.arch}", method, rows)


if __name__ == "__main__":
    main()
