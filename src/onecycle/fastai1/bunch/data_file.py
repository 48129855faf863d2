"""fastai v1's ``data.export()`` and ``load_empty``: all of the data but its pictures and the transforms of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from onecycle.data.labels.items import Labels
from onecycle.data.labels.splits import Split
from onecycle.data.pixels.reading import Reading
from onecycle.errors import CheckpointError
from onecycle.fastai1.pictures import readers
from onecycle.files import write_whole

SCHEMA = 1


def data_file(path: Any, file: Any) -> Path:
    """Return the file that stands for v1's pickle: ``export.pkl`` is ``export.data.json``."""
    return Path(path, file).with_suffix(".data.json")


def export_data(data: Any, file: Any) -> Path:
    """Write classes, preprocess, statistics and the way that pictures are read; see ``load_data``."""
    resize, labels = data.lists.resize, data.labels
    saved = {
        "schema_version": SCHEMA,
        "classes": list(labels.classes),
        "kind": labels.kind,
        "size": resize.size,
        "resize_method": resize.method.name,
        "padding_mode": resize.padding_mode,
        "scaled_decode": resize.scaled_decode,
        "stats": data.stats,
        **data.lists.pictures.reading.manifest(),
    }
    where = data_file(data.path, file)
    write_whole(where, (json.dumps(saved, indent=1, ensure_ascii=False) + "\n").encode())
    return where


def empty_lists(kind: Any, path: Any, file: Any) -> tuple[Any, Any]:
    """Read what ``export_data`` wrote.

    Args:
        kind: the class of lists to make.
        path, file: folder and name, as they were exported.

    Returns:
        Lists without a picture, and the statistics or None.

    Raises:
        CheckpointError: no such file, a damaged one, or a class that read the pictures and is not there.
    """
    where = data_file(path, file)
    if not where.is_file():
        raise CheckpointError(f"there is no {where}: data.export() writes it (v1's pickles are not read)")
    try:
        saved = json.loads(where.read_text(encoding="utf-8"))
        how = {name: saved[name] for name in ("padding_mode", "scaled_decode")}
        size = {"size": tuple(saved["size"]), "resize_method": saved["resize_method"]} if saved["size"] else {}
        labels = _labels(saved["classes"], saved["kind"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{where} is damaged ({error}): export the data again") from error
    nobody = np.zeros(0, dtype=np.int64)
    split = Split(nobody, nobody, "none, for predictions only")
    pictures = _pictures(saved.get("reading"), path, where)
    return kind(pictures=pictures, split=split, labels=labels).transform(None, **size, **how), saved["stats"]


def _labels(classes: list[Any], kind: str) -> Labels:
    one_each = kind == "class" or (kind == "numbers" and len(classes) == 1)
    targets = np.zeros((0,) if one_each else (0, len(classes)), np.int64 if kind == "class" else np.float32)
    return Labels(classes, targets, is_multi=kind == "tags", is_regression=kind == "numbers")


def _pictures(saved: dict[str, Any] | None, path: Any, where: Path) -> Any:
    name = (saved or {}).get("function")
    kind = readers.KINDS.get(name or "ImageList")
    if kind is None:
        raise CheckpointError(f"the pictures of {where} were read by {name}, which is not there: define it again")
    made = kind([], path, convert_mode="L" if saved and saved["grey"] else "RGB")
    if saved and name:
        made._reading = Reading(made.reading.function, saved["channels"], name)
    return made
