"""Where saved models go, and the settings that are saved with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from onecycle import settings
from onecycle.data.batches import Stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.errors import CheckpointError


def writable_folder(path: Path, model_dir: Path) -> Path:
    """Return ``path/model_dir``, made if missing; where that cannot be written, a run folder elsewhere.

    Raises:
        CheckpointError: neither there, nor below the working directory, nor in onecycle's own folder.
    """
    wanted = path / model_dir
    for folder in (
        wanted,
        Path.cwd() / "runs" / path.name / model_dir,
        settings.home() / "runs" / path.name / model_dir,
    ):
        if _is_writable(folder):
            return folder
    raise CheckpointError(
        f"no folder to save models in: {wanted} is not writable; set learn.path to one that is"
    )


def _is_writable(folder: Path) -> bool:
    """Whether files can be made in ``folder`` (made if missing); asked of the disk, not of permission bits."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def manifest(data: ImageDataBunch, stats: Stats | None, epochs_done: int) -> dict[str, Any]:
    """Describe what a model was trained on: classes, preprocess, seed and split."""
    return {
        "classes": list(data.classes),
        "is_multi": data.is_multi,
        "stats": None if stats is None else [list(part) for part in stats],
        "size": data.lists.resize.size,
        "resize_method": data.lists.resize.method.name,
        "padding_mode": data.lists.resize.padding_mode,
        "epochs_done": epochs_done,
        "seed": data.seed,
        "split": data.split.record([Path(p).name for p in data.store.paths]),
    }
