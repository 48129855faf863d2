"""Random numbers that are functions of what they are for: seeds, and the state that the user had."""

from __future__ import annotations

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
