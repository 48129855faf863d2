"""Numbers that come again: seeds, the random state that the user had, and sums of one order on a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def mix_seed(*numbers: int) -> int:
    """Return a 63-bit seed that is a function of all ``numbers`` (each 0 or more)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def keep_random_state(device: torch.device) -> Iterator[None]:
    """Give back the random state of the CPU and of the device in use as they were."""
    mps_state = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        if mps_state is not None:
            torch.mps.set_rng_state(mps_state)


def seed_device(device: torch.device, seed: int) -> None:
    """Seed the CPU's generator and that of the device in use, and no other."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def fix_workspace() -> None:
    """Have cuBLAS add in one order; torch looks for this once, so it comes before a process's first product."""
    os.environ.setdefault(_WORKSPACE, ":4096:8")


@contextmanager
def deterministic(device: torch.device, on: bool) -> Iterator[None]:
    """Have a GPU compute the same bits each time inside, if ``on``; elsewhere that is so anyway.

    Raises:
        RuntimeError: inside, by torch, for an operation that has no such form.
    """
    if not on or device.type != "cuda":
        yield
        return
    fix_workspace()
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    tries, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = tries
