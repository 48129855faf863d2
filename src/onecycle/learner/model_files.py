"""Where saved models go, and the settings that are saved with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from onecycle import settings
from onecycle.data.batches import Stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.errors import ArgumentError, CheckpointError


def _folders(path: Path, model_dir: Path) -> list[Path]:
    """Where saved models may be, the first choice first."""
    below = Path(path.name) / model_dir
    return [path / model_dir, Path.cwd() / "runs" / below, settings.home() / "runs" / below]


def saved_stem(path: Path, model_dir: Path, file: str | Path) -> Path:
    """Return the path without suffix of a saved model: where ``save`` writes now, else the first folder that has it."""
    folders = [f for f in _folders(path, model_dir) if f.is_dir()]
    stems = [f / file for f in sorted(folders, key=lambda f: not _is_writable(f))] or [path / model_dir / file]
    return next((s for s in stems if any(s.parent.glob(f"{s.name}.*"))), stems[0])


def stem(folder: Path, file: str | Path) -> Path:
    """Return the path without suffix that a model is saved under.

    Raises:
        ArgumentError: an empty name.
    """
    if not str(file).strip():
        raise ArgumentError("a saved model needs a name: learn.save('stage-1')")
    return folder / file


def writable_folder(path: Path, model_dir: Path) -> Path:
    """Return ``path/model_dir``, made if missing; where that cannot be written, a run folder elsewhere.

    Raises:
        CheckpointError: neither there, nor below the working directory, nor in onecycle's own folder.
    """
    for folder in _folders(path, model_dir):
        if _is_writable(folder):
            return folder
    wanted = path / model_dir
    raise CheckpointError(f"no folder to save models in: {wanted} is not writable; set learn.path to one that is")


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
        "scaled_decode": data.lists.resize.scaled_decode,
        "epochs_done": epochs_done,
        "seed": data.seed,
        "split": data.split.record([Path(p).name for p in data.store.paths]),
    }
