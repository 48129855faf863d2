"""Whether the disk has room for a run, looked at before anything is trained."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from onecycle.errors import DiskFullError, OnecycleWarning, warn
from onecycle.files import first_existing, free_bytes
from onecycle.settings import pixel_folder
from onecycle.text import by_place, human_bytes

if TYPE_CHECKING:
    from onecycle.learner.learner import Learner

OTHER_BYTES = 5_000_000
"""The report, the log and the tables of a run, beside the predictions. Measured: 0.1 to 3 MB."""


def run_bytes(n_weights_bytes: int, n_valid: int, n_classes: int) -> tuple[int, int]:
    """Return the least that a run writes, and about the most that it has on the disk at a time.

    Args:
        n_weights_bytes: of all tensors of the model.
        n_valid: validation pictures.
        n_classes: of the data.

    Returns:
        The least: a checkpoint, and the model while the checkpoint is still there. The most: two checkpoints with two
        values of the optimizer a weight (Adam), the best weights and the model.
    """
    others = OTHER_BYTES + 16 * n_valid * n_classes  # a float64 probability and as much again for names and targets
    return 2 * n_weights_bytes + others, 8 * n_weights_bytes + others


def check_room(folder: Path, learn: Learner) -> None:
    """Refuse a run that the disk cannot take, and warn where it may become full.

    Args:
        folder: of the runs; it need not be there.
        learn: that will be trained, with its data.

    Raises:
        DiskFullError: what is free is less than the least that is written.

    Warns:
        OnecycleWarning: it is less than what may be needed at a time.
    """
    free = free_bytes(folder)
    if free is None:
        return
    weights = sum(t.nbytes for t in learn.model.state_dict().values())
    least, most = run_bytes(weights, len(learn.data.split.valid), learn.data.c)
    store = _store_bytes(learn, folder)
    with_store = f", with {human_bytes(store)} of decoded pictures" if store else ""
    elsewhere = f"free some room, or train elsewhere{by_place(' (--out)', ' (learn.path)')}"
    if free < least:
        reason = f"a run with {human_bytes(weights)} of weights needs at least {human_bytes(least)}"
        raise DiskFullError(
            f"the disk of {folder} has {human_bytes(free)} free, and {reason}, about {human_bytes(most + store)} at a "
            f"time{with_store}: {elsewhere}. Nothing was trained, and nothing written",
            reason=reason, file=str(folder), needed=least, free=free,
        )  # fmt: skip
    if free < most + store:
        warn(
            f"the disk of {folder} has {human_bytes(free)} free, and the run may need about "
            f"{human_bytes(most + store)} at a time{with_store}: {elsewhere}. A run that finds the "
            "disk full keeps what it has",
            OnecycleWarning,
        )


def _store_bytes(learn: Learner, folder: Path) -> int:
    """Return what decoded pictures will still take of the same disk."""
    store = learn.data.store
    if store.filled or store.cache != "disk" or store.spec.size is None:
        return 0
    same = os.stat(first_existing(folder)).st_dev == os.stat(first_existing(pixel_folder())).st_dev
    height, width = store.spec.size
    return len(store) * height * width * 3 if same else 0
