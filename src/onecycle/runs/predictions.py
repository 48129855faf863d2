"""Predictions of a run as a table: one row a picture, one column a class; parquet, read without running anything."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from onecycle.errors import ArgumentError, DataError
from onecycle.files import write_whole

if TYPE_CHECKING:
    import pyarrow as pa

_KEY = b"onecycle"
_FORMAT, _VERSION = "onecycle-predictions", 1
_RAW, _SHOWN = "p ", "calibrated "


@dataclass(frozen=True)
class Predictions:
    """What a model says about N pictures, and the truth.

    Attributes:
        files: N names below the folder of the data set, with ``/``.
        rows: int64 ``(N,)``, their rows in the labelled table.
        probs: float32 ``(N, C)``, the model's own probabilities.
        shown: float32 ``(N, C)``, the calibrated ones; None where there is no calibration.
        targets: int64 ``(N,)`` class indices, or 0/1 int64 ``(N, C)`` for tags.
        losses: float32 ``(N,)``.
        classes: C names.
        is_multi: whether a picture can have several labels.
        groups: int64 ``(N,)``, which pictures belong together; None where nothing says so.
        decided: int64 ``(N,)`` or 0/1 ``(N, C)``: what is predicted, by the chosen thresholds; None: the most probable
            class, or tags from 0.5 on.
    """

    files: tuple[str, ...]
    rows: np.ndarray
    probs: np.ndarray
    shown: np.ndarray | None
    targets: np.ndarray
    losses: np.ndarray
    classes: tuple[str, ...]
    is_multi: bool
    groups: np.ndarray | None = None
    decided: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, c = len(self.files), len(self.classes)
        labels = (n, c) if self.is_multi else (n,)
        shapes = {"rows": (n,), "probs": (n, c), "targets": labels, "losses": (n,)}
        optional = {"shown": (n, c), "groups": (n,), "decided": labels}
        shapes |= {name: shape for name, shape in optional.items() if getattr(self, name) is not None}
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                raise ArgumentError(
                    f"predictions of {n} pictures and {c} classes need {name} of shape {shape}; "
                    f"received {np.shape(getattr(self, name))}"
                )
        if len(set(self.classes)) != c:
            raise ArgumentError("two classes have one name, so their columns could not be told apart")

    def __len__(self) -> int:
        return len(self.files)

    @property
    def predicted(self) -> np.ndarray:
        """What is predicted, int64 ``(N,)`` class indices or 0/1 ``(N, C)``; see ``decided``."""
        if self.decided is not None:
            return self.decided
        if self.is_multi:
            return (self.probs >= 0.5).astype(np.int64)
        return np.asarray(self.probs.argmax(axis=1), dtype=np.int64)

    def write(self, path: Path) -> None:
        """Write the table, whole. Columns: file, row, truth, predicted, loss, group?, a ``p <class>`` each, and
        ``calibrated <class>`` where there is a calibration; of tags, truth and predicted are lists."""
        import pyarrow.parquet as pq

        buffer = io.BytesIO()
        pq.write_table(self._table(), buffer, compression="zstd")
        write_whole(path, buffer.getvalue())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what ``write`` wrote.

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
            return cls._from_table(table, _header(table, path))
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise DataError(f"{path} is damaged or no table of predictions ({error}); copy it again") from error

    def _table(self) -> pa.Table:
        import pyarrow as pa

        columns: dict[str, Any] = {
            "file": pa.array([_utf8(name) for name in self.files], pa.string()),
            "row": pa.array(self.rows, pa.int64()),
            "truth": self._names(self.targets),
            "predicted": self._names(self.predicted),
            "loss": pa.array(self.losses, pa.float32()),
        }
        if self.groups is not None:
            columns["group"] = pa.array(self.groups, pa.int64())
        for prefix, values in ((_RAW, self.probs), (_SHOWN, self.shown)):
            if values is not None:
                columns |= {
                    f"{prefix}{name}": pa.array(np.ascontiguousarray(values[:, i]), pa.float32())
                    for i, name in enumerate(self.classes)
                }
        header = {
            "format": _FORMAT,
            "version": _VERSION,
            "classes": list(self.classes),
            "is_multi": self.is_multi,
            "calibrated": self.shown is not None,
        }
        return pa.table(columns).replace_schema_metadata({_KEY: json.dumps(header).encode()})

    def _names(self, labels: np.ndarray) -> pa.Array:
        """Return labels as names: one text a picture, or a list of texts."""
        import pyarrow as pa

        if not self.is_multi:
            return pa.array([self.classes[int(i)] for i in labels], pa.string())
        tags = [[self.classes[i] for i in np.flatnonzero(row)] for row in labels]
        return pa.array(tags, pa.list_(pa.string()))

    @classmethod
    def _from_table(cls, table: pa.Table, header: dict[str, Any]) -> Self:
        classes, is_multi = tuple(str(c) for c in header["classes"]), bool(header["is_multi"])

        def numbers(name: str, dtype: type) -> np.ndarray:
            return np.array(table.column(name).to_numpy(), dtype=dtype)  # a copy, which can be written to

        def matrix(prefix: str) -> np.ndarray:
            columns = [numbers(f"{prefix}{name}", np.float32) for name in classes]
            return np.stack(columns, axis=1) if columns else np.zeros((len(table), 0), dtype=np.float32)

        def labels(name: str) -> np.ndarray:
            return _encoded(table.column(name).to_pylist(), classes, is_multi=is_multi)

        return cls(
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
        )


def _utf8(name: str) -> str:
    """Return a file's name; bytes of it that are no UTF-8, which the disk allows, are written as ``\\udc80``."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


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
    found = np.zeros((len(cells), len(classes)), dtype=np.int64)
    for i, names in enumerate(cells):
        found[i, [index[name] for name in names]] = 1
    return found
