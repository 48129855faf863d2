"""A run that is over, taken up again: its learner, its data with its own split, its predictions."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import shown
from onecycle.data.labels.relabel import file_name
from onecycle.errors import DataError, DataWarning, warn
from onecycle.learner import Learner
from onecycle.runs.build import Part, layout_of, make_bunch, make_learner, parts_of
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.predictions import Predictions
from onecycle.train.checkpoint import read_manifest

if TYPE_CHECKING:
    from onecycle.evaluation.interpretation import ClassificationInterpretation


def load_learner(run: RunFolder, *, bunch: ImageDataBunch | None = None, stem: Path | None = None) -> Learner:
    """Return the learner of a run: its network, its weights, its thresholds and calibration.

    Args:
        run: the run; its model is there.
        bunch: pictures with the run's classes, from ``load_bunch``; None for a learner that only predicts given
            pictures, which needs none of those it was trained on.
        stem: weights without their suffix; default the run's finished model.

    Raises:
        CheckpointError: no model, a damaged one, or one of other classes than ``bunch``.
        ArgumentError: the run's config.yaml cannot be used.
    """
    config = RunConfig.read(run.config)
    stem = (run.model_stem if stem is None else stem).resolve()
    manifest = read_manifest(stem)
    data = empty_bunch(run, manifest) if bunch is None else bunch
    learn = make_learner(config, data, run.path, pretrained=False)
    stats = manifest["stats"]
    if stats is not None:
        learn.stats = data.backbone_stats = (tuple(stats[0]), tuple(stats[1]))
    learn.load(stem, with_opt=False)
    return learn


def empty_bunch(run: RunFolder, manifest: dict[str, Any]) -> ImageDataBunch:
    """Return a bunch without pictures, with the classes and the evaluation preprocess of a saved model."""
    size = manifest["size"]
    return ImageDataBunch.single_from_classes(
        run.path,
        manifest["classes"],
        is_multi=manifest["is_multi"],
        size=None if size is None else tuple(size),
        resize_method=manifest["resize_method"] if size is not None else None,
        padding_mode=manifest["padding_mode"],
        scaled_decode=manifest.get("scaled_decode", True),
    )


def load_bunch(run: RunFolder) -> ImageDataBunch:
    """Return the data of a run again, with the split that it was trained with.

    Pictures that the table has got since are in neither part, which is said.

    Raises:
        DataError: the data is gone, pictures of the split are (each named), or the classes are others.
    """
    config = RunConfig.read(run.config)
    classes = run.read_json(run.data).get("classes")
    try:
        data = make_bunch(config, layout_of(config))
    except DataError as error:
        raise DataError(f"the data of {run.path} cannot be read again: {error}") from error
    if [str(c) for c in data.classes] != classes:
        raise DataError(
            f"the data at {config.data} has other classes than when {run.path} was trained: "
            f"{_difference(classes or [], [str(c) for c in data.classes])}; put the data back, or train again"
        )
    return _with_split(data, read_split(run), run)


def interpretation_of(run: RunFolder, learn: Learner) -> ClassificationInterpretation:
    """Return the interpretation of the predictions that a run kept; nothing is predicted again.

    Args:
        run: the run.
        learn: its learner, with ``load_bunch``'s data.

    Raises:
        DataError: no predictions, or they are of other pictures than the learner's validation part.
    """
    import torch

    from onecycle.evaluation.interpretation import ClassificationInterpretation

    kept = Predictions.read(run.predictions)
    names = tuple(valid_names(learn.data))
    if kept.files != names:
        raise DataError(
            f"{run.predictions} has {len(kept)} pictures, and the validation part of the data {len(names)} or others; "
            f"put the data back as it was, or predict anew with `onecycle evaluate {run.path}`"
        )
    probs, targets, losses = (torch.from_numpy(a) for a in (kept.probs, kept.targets, kept.losses))
    return ClassificationInterpretation(learn, probs, targets, losses)


def valid_names(data: ImageDataBunch) -> list[str]:
    """Return the names of the validation pictures below the folder of the data set, in order."""
    return [name_of(data.store.paths[row], data.path) for row in data.split.valid]


def name_of(path: str, root: Path) -> str:
    """Return a picture's name below the folder of the data set, as the run's tables have it."""
    return file_name(path, root).encode("utf-8", "backslashreplace").decode("utf-8")


def split_text(data: ImageDataBunch) -> str:
    """Return the split as ``split.csv`` has it: one line a row of the table, in order."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "part"])
    names = (name_of(path, data.path) for path in data.store.paths)
    table.writerows(zip(names, parts_of(data), strict=True))
    return text.getvalue()


def read_split(run: RunFolder) -> list[tuple[str, Part]]:
    """Return (file, part) of each row that the data had when the run began.

    Raises:
        DataError: no such table, or a damaged one.
    """
    try:
        rows = list(csv.reader(io.StringIO(run.split.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the split of {run.path} cannot be read: {error}") from error
    known = {"train", "valid", "left out"}
    bad = next((i for i, row in enumerate(rows[1:], 2) if len(row) != 2 or row[1] not in known), None)
    if rows[:1] != [["file", "part"]] or bad is not None:
        raise DataError(f"{run.split}, line {bad or 1}: expected a file and train, valid or left out")
    return [(file, part) for file, part in rows[1:]]  # type: ignore[misc]


def _with_split(data: ImageDataBunch, split: Sequence[tuple[str, Part]], run: RunFolder) -> ImageDataBunch:
    """Give the data the split of the run, matched by file name; a name that occurs again, in order."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, path in reversed(list(enumerate(data.store.paths))):
        rows[name_of(path, data.path)].append(row)
    found: dict[Part, list[int]] = {"train": [], "valid": [], "left out": []}
    gone = []
    for file, part in split:
        if rows.get(file):
            found[part].append(rows[file].pop())
        elif part != "left out":
            gone.append(file)
    if gone:
        raise DataError(
            f"{len(gone)} pictures that {run.path} was trained with are no longer in {data.path}: "
            f"{shown(gone, most=5)}; put them back, or train again"
        )
    new = sum(len(left) for left in rows.values())
    if new:
        warn(
            f"{new} pictures have come to {data.path} since {run.path} was trained; they are in neither part",
            DataWarning,
        )
    usable = np.union1d(data.split.train, data.split.valid)  # without those that cannot be read
    parts = (np.intersect1d(found[part], usable) for part in ("train", "valid"))
    train, valid = (part.tolist() for part in parts)
    return data.split_by_rows(train, valid, f"that of {run.name}")


def _difference(before: Sequence[str], now: Sequence[str]) -> str:
    gone, new = [c for c in before if c not in now], [c for c in now if c not in before]
    texts = [f"{what} {shown(names, most=5)}" for what, names in (("gone", gone), ("new", new)) if names]
    return "; ".join(texts) or "in another order"
