"""Predictions of a run as a table: one row a picture, one column a class; parquet, read without running anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onecycle.errors import DataError
from onecycle.evaluation.certainty.decisions import Decisions
from onecycle.evaluation.predictions import Predictions
from onecycle.files import parquet_bytes, text_name, write_whole

if TYPE_CHECKING:
    import pyarrow as pa

    from onecycle.runs.folder import RunFolder

_KEY = b"onecycle"
_FORMAT, _VERSION = "onecycle-predictions", 1
_RAW, _SHOWN, _HELD_OUT = "p ", "calibrated ", "held out"


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write predictions of labelled pictures as a table, whole.

    Columns: file, row, truth, predicted, loss, group?, held out? (decided by thresholds that other folds chose), a
    ``p <class>`` each, and ``calibrated <class>`` where there is a calibration; of tags, labels are lists.
    """
    write_whole(path, parquet_bytes(_as_table(predictions), "zstd"))


def read_predictions(path: Path) -> Predictions:
    """Read what ``write_predictions`` wrote.

    Raises:
        DataError: no such file, or not such a table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError(
            f"there is no {path}: a run writes it when training is done; train again, or go on with "
            f"`onecycle train --resume {path.parent}`"
        )
    try:
        table = pq.read_table(path)
        return _from_table(table, _header(table, path))
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise DataError(f"{path} is damaged or no table of predictions ({error}); copy it again") from error


def run_predictions(run: RunFolder) -> Predictions:
    """Return the predictions that a run wrote, of its validation pictures, with its thresholds and training shares.

    Runs of onecycle 0.1.0 have those in ``metrics.json`` alone.
    """
    predictions = read_predictions(run.predictions)
    if predictions.train_counts is not None or not run.metrics.exists():
        return predictions
    counts, n_train = training_counts(run, predictions.classes)
    decisions = Decisions.from_dict(run.read_json(run.metrics))
    return replace(predictions, train_counts=counts, n_train=n_train, decisions=decisions)


def training_counts(run: RunFolder, classes: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return how many training pictures of a run have each class, int64 ``(C,)``, and how many there are."""
    metrics = run.read_json(run.metrics)
    n_train, shares = int(metrics.get("n_train", 0)), metrics.get("training_shares", {})
    return np.array([round(n_train * float(shares.get(c, 0.0))) for c in classes], dtype=np.int64), n_train


def _as_table(p: Predictions) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, Any] = {
        "file": pa.array([text_name(name) for name in p.files], pa.string()),
        "row": pa.array(p.rows, pa.int64()),
        "truth": _label_names(p, p.known_targets),
        "predicted": _label_names(p, p.decided),
        "loss": pa.array(p.losses, pa.float32()),
    }
    if p.groups is not None:
        columns["group"] = pa.array(p.groups, pa.int64())
    if p.held_out is not None:
        columns[_HELD_OUT] = _label_names(p, p.held_out)
    for prefix, values in ((_RAW, p.probs), (_SHOWN, p.shown)):
        if values is not None:
            columns |= {
                f"{prefix}{name}": pa.array(np.ascontiguousarray(values[:, i]), pa.float32())
                for i, name in enumerate(p.classes)
            }
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "classes": list(p.classes),
        "is_multi": p.is_multi,
        "calibrated": p.shown is not None,
        **p.decisions.to_dict(),
        "train_counts": None if p.train_counts is None else [int(k) for k in p.train_counts],
        "n_train": p.n_train,
        "picked_of": p.picked_of,
        "picked": p.picked,
    }
    return pa.table(columns).replace_schema_metadata({_KEY: json.dumps(header).encode()})


def _label_names(p: Predictions, labels: np.ndarray) -> pa.Array:
    """Return labels as names: one text a picture, or a list of texts."""
    import pyarrow as pa

    if not p.is_multi:
        return pa.array([p.classes[int(i)] for i in labels], pa.string())
    return pa.array([list(p.names_of(row)) for row in labels], pa.list_(pa.string()))


def _from_table(table: pa.Table, header: dict[str, Any]) -> Predictions:
    classes, is_multi = tuple(str(c) for c in header["classes"]), bool(header["is_multi"])
    counts = header.get("train_counts")

    def numbers(name: str, dtype: type) -> np.ndarray:
        return np.array(table.column(name).to_numpy(), dtype=dtype)  # a copy, which can be written to

    def matrix(prefix: str) -> np.ndarray:
        columns = [numbers(f"{prefix}{name}", np.float32) for name in classes]
        return np.stack(columns, axis=1) if columns else np.zeros((len(table), 0), dtype=np.float32)

    def labels(name: str) -> np.ndarray:
        return _encoded(table.column(name).to_pylist(), classes, is_multi=is_multi)

    return Predictions(
        files=tuple(table.column("file").to_pylist()),
        rows=numbers("row", np.int64),
        probs=matrix(_RAW),
        shown=matrix(_SHOWN) if header["calibrated"] else None,
        targets=labels("truth"),
        losses=numbers("loss", np.float32),
        classes=classes,
        is_multi=is_multi,
        groups=numbers("group", np.int64) if "group" in table.column_names else None,
        decided=labels("predicted"),
        held_out=labels(_HELD_OUT) if _HELD_OUT in table.column_names else None,
        decisions=Decisions.from_dict(header),
        train_counts=None if counts is None else np.array(counts, dtype=np.int64),
        n_train=int(header.get("n_train", 0)),
        picked_of=int(header.get("picked_of", 1)),
        picked=str(header.get("picked", "epoch")),
    )


def _header(table: pa.Table, path: Path) -> dict[str, Any]:
    """Return what the table says of itself."""
    header = json.loads((table.schema.metadata or {}).get(_KEY, b"{}"))
    if header.get("format") != _FORMAT:
        raise DataError(f"{path} is a table, but not one of predictions that onecycle wrote")
    if header["version"] > _VERSION:
        raise DataError(f"{path} was written by a newer onecycle (version {header['version']}); update onecycle")
    return dict(header)


def _encoded(cells: Sequence[Any], classes: Sequence[str], *, is_multi: bool) -> np.ndarray:
    """Return names as class indices int64 ``(N,)``, or lists of names as 0/1 ``(N, C)``."""
    index = {name: i for i, name in enumerate(classes)}
    if not is_multi:
        return np.array([index[name] for name in cells], dtype=np.int64)
    flags = np.zeros((len(cells), len(classes)), dtype=np.int64)
    for i, names in enumerate(cells):
        flags[i, [index[name] for name in names]] = 1
    return flags
