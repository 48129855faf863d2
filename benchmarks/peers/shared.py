"""What every side shares. It runs in both environments, so it imports neither onecycle nor a peer.

A side is a script that is given one JSON file (the job) and prints JSON lines; the parent notes when each arrives.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

ARCH = "tf_efficientnet_lite0"
Job = dict[str, Any]
Item = tuple[str, list[str]]


def main(jobs: dict[str, Callable[[Job], None]]) -> None:
    """Read the job named on the command line and run it."""
    with open(sys.argv[1]) as file:
        job = json.load(file)
    jobs[job["kind"]](job)
    tell(done=True)


def tell(**values: object) -> None:
    """Print one JSON line at once; the parent adds the seconds since it started this process."""
    print(json.dumps(values), flush=True)


def sample_f2(logits: Tensor, targets: Tensor, thresh: float = 0.2) -> float:
    """F-beta with beta 2 of each picture's tags, averaged over pictures.

    Args:
        logits: float (N, C).
        targets: 0/1 (N, C).
        thresh: a tag counts as predicted where its probability is above this.

    Returns:
        0 to 1; a picture with neither true nor predicted tag counts 0.
    """
    predicted, true = torch.sigmoid(logits.float()) > thresh, targets > 0.5
    hits = (predicted & true).sum(1)
    total = (predicted.sum(1) + 4 * true.sum(1)).clamp(min=1)
    return float((5 * hits / total).mean())


def encode(items: Sequence[Item], classes: Sequence[str]) -> Tensor:
    """Return 0/1 targets, float32 (N, C)."""
    found = torch.zeros(len(items), len(classes))
    for row, (_, tags) in zip(found, items, strict=True):
        row[[classes.index(tag) for tag in tags]] = 1
    return found


class StepClock:
    """Notes the end of each training step.

    Args:
        n_warm: steps that do not count.
        n: steps that do.
    """

    def __init__(self, n_warm: int, n: int) -> None:
        self.n_warm, self.n, self.steps = n_warm, n, 0
        self.begin = self.end = 0.0

    def step(self) -> bool:
        """Count one step; True when it was the last one."""
        self.steps += 1
        if self.steps == self.n_warm:
            self.begin = now()
        if self.steps == self.n_warm + self.n:
            self.end = now()
        return self.steps >= self.n_warm + self.n

    def rate(self, bs: int) -> float:
        """Pictures a second over the steps that count."""
        return self.n * bs / (self.end - self.begin)


def now() -> float:
    """Seconds, once the GPU (if there is one in use) has finished what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def busy_share(step: Callable[[], object], n: int) -> float | None:
    """Share of the wall time in which the GPU runs a kernel, over ``n`` calls of ``step``; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        start = now()
        for _ in range(n):
            step()
        wall_us = (now() - start) * 1e6
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    return union(spans) / wall_us


def union(spans: Sequence[tuple[float, float]]) -> float:
    """Length of the union of intervals that are sorted by their start."""
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


class BareStep:
    """Forward, loss, backward and Adam on one batch that is on the device already: nothing a loop could save.

    Args:
        model: its own copy of a network, in training mode.
        x: float (N, 3, H, W), normalised.
        y: targets.
        loss_func: (logits, targets) → mean loss.
        dtype: of the autocast; None for none.
    """

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor, loss_func: nn.Module, dtype: torch.dtype | None = None
    ) -> None:
        self.model, self.x, self.y, self.loss_func, self.dtype = model.train(), x, y, loss_func, dtype
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, lr=1e-5, betas=(0.9, 0.99), fused=True)

    def __call__(self) -> None:
        with torch.autocast(self.x.device.type, self.dtype, enabled=self.dtype is not None):
            loss = self.loss_func(self.model(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def rate(self, n_warm: int, n: int) -> float:
        """Pictures a second over ``n`` steps after ``n_warm`` that do not count."""
        clock = StepClock(n_warm, n)
        while True:
            self()
            if clock.step():
                return clock.rate(len(self.x))
