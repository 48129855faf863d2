"""Predictions of a run as a table: one row a picture, one column a class; parquet, read without running anything."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onecycle.errors import ArgumentError, DataError
from onecycle.evaluation.certainty.decisions import Decisions
from onecycle.evaluation.predictions import Predictions
from onecycle.files import parquet_bytes, text_name, write_whole
from onecycle.foreign import Refused, fitted, strict_json

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from onecycle.runs.folder import RunFolder

_KEY = b"onecycle"
_FORMAT, _VERSION = "onecycle-predictions", 1
_RAW, _SHOWN, _HELD_OUT = "p ", "calibrated ", "held out"
_ROUNDING = 1e-5  # of probabilities in float32

MOST_BYTES, TIMES_THE_FILE = 2**28, 200
"""What a table may take in memory: so much, and so many times its file (probabilities that are all 0 pack well)."""


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
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_size(file.metadata, path)
            header = _header(file.schema_arrow, path)
            _check_columns(file.schema_arrow, header, path)
            table = file.read()
        return _from_table(table, header, path)
    except Refused as error:
        raise DataError(f"{error}; copy the run again, or train again") from None
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} is damaged or no table of predictions ({error}); copy it again") from error


def run_predictions(run: RunFolder) -> Predictions:
    """Return the predictions that a run wrote, of its validation pictures, with its thresholds and training shares.

    Runs of onecycle 0.1.0 have those in ``metrics.json`` alone.
    """
    predictions = read_predictions(run.predictions)
    if predictions.train_counts is not None or not run.metrics.exists():
        return predictions
    counts, n_train = training_counts(run, predictions.classes)
    try:
        decisions = Decisions.from_dict(run.read_json(run.metrics), len(predictions.classes))
    except ArgumentError as error:
        raise DataError(f"{run.metrics}: {error}; copy the run again, or train again") from error
    return replace(predictions, train_counts=counts, n_train=n_train, decisions=decisions)


def training_counts(run: RunFolder, classes: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return how many training pictures of a run have each class, int64 ``(C,)``, and how many there are."""
    metrics = run.read_json(run.metrics)
    n_train, shares = metrics.get("n_train", 0), metrics.get("training_shares", {})
    return np.array([round(n_train * shares.get(c, 0.0)) for c in classes], dtype=np.int64), n_train


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


def _from_table(table: pa.Table, header: dict[str, Any], path: Path) -> Predictions:
    classes, is_multi = tuple(header["classes"]), header["is_multi"]
    counts = header["train_counts"]

    for column in table.column_names:
        if table.column(column).null_count:
            raise Refused(f"{path}, column {column}: expected a value in each row")

    def numbers(name: str, dtype: type) -> np.ndarray:
        return np.array(table.column(name).to_numpy(), dtype=dtype)  # a copy, which can be written to

    def matrix(prefix: str) -> np.ndarray:
        columns = [numbers(f"{prefix}{name}", np.float32) for name in classes]
        for name, column in zip(classes, columns, strict=True):
            odd = np.flatnonzero(~((column >= 0) & (column <= 1 + _ROUNDING)))
            if len(odd):
                where = f"{path}, column {prefix}{name}, row {odd[0] + 1}"
                raise Refused(f"{where}: expected a probability; received {column[odd[0]]}")
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
        decisions=Decisions.from_dict(header, len(classes)),
        train_counts=None if counts is None else np.array(counts, dtype=np.int64),
        n_train=header["n_train"],
        picked_of=header["picked_of"],
        picked=header["picked"],
    )


def _check_size(about: pq.FileMetaData, path: Path) -> None:
    """Refuse a table that takes more memory than its file justifies: one value can stand for a million cells."""
    cells, unpacked = about.num_rows * about.num_columns, 0
    for i in range(about.num_row_groups):
        unpacked += about.row_group(i).total_byte_size
    size = path.stat().st_size
    if 8 * cells > MOST_BYTES + TIMES_THE_FILE * size or unpacked > MOST_BYTES + TIMES_THE_FILE * size:
        raise Refused(
            f"{path} says that it has {about.num_rows:,} rows of {about.num_columns:,} columns, more than its "
            f"{size:,} bytes justify"
        )


def _header(schema: pa.Schema, path: Path) -> dict[str, Any]:
    """Return what the table says of itself."""
    from onecycle.runs.contents import PredictionsHeader

    raw, where = (schema.metadata or {}).get(_KEY), f"{path}, header"
    header = {} if raw is None else strict_json(raw, where)
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise DataError(f"{path} is a table, but not one of predictions that onecycle wrote")
    if isinstance(header.get("version"), int) and header["version"] > _VERSION:
        raise DataError(f"{path} was written by a newer onecycle (version {header['version']}); update onecycle")
    fitted(PredictionsHeader, header, where)
    return {"train_counts": None, "n_train": 0, "picked_of": 1, "picked": "epoch", **header}


def _check_columns(schema: pa.Schema, header: Mapping[str, Any], path: Path) -> None:
    """Refuse columns that are missing or have another type than ``write_predictions`` gives them."""
    import pyarrow as pa

    labels = pa.list_(pa.string()) if header["is_multi"] else pa.string()
    shown = [_SHOWN] if header["calibrated"] else []
    types = {"file": pa.string(), "row": pa.int64(), "truth": labels, "predicted": labels, "loss": pa.float32()}
    types |= {f"{prefix}{name}": pa.float32() for prefix in (_RAW, *shown) for name in header["classes"]}
    there = Counter(schema.names)
    types |= {name: kind for name, kind in (("group", pa.int64()), (_HELD_OUT, labels)) if name in there}
    for name, kind in types.items():
        if there[name] != 1:
            raise Refused(f"{path}, column {name}: expected once, is there {there[name]} times")
        if not schema.field(name).type.equals(kind):
            raise Refused(f"{path}, column {name}: expected {kind}, received {schema.field(name).type}")


def _encoded(cells: Sequence[Any], classes: Sequence[str], *, is_multi: bool) -> np.ndarray:
    """Return names as class indices int64 ``(N,)``, or lists of names as 0/1 ``(N, C)``."""
    index = {name: i for i, name in enumerate(classes)}
    if not is_multi:
        return np.array([index[name] for name in cells], dtype=np.int64)
    flags = np.zeros((len(cells), len(classes)), dtype=np.int64)
    for i, names in enumerate(cells):
        flags[i, [index[name] for name in names]] = 1
    return flags
