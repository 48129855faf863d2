"""A part of a batch prediction: the answers for one chunk as a parquet file, written whole and checked whole.

Its columns: name; status (``predicted``, ``unreadable`` or ``set aside``) and reason; labels and probabilities in the
order of the plan's classes, or numbers; model, the digest of what predicted.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from onecycle.deploy.of_files import Numbers
from onecycle.files import parquet_bytes, text_name, write_whole
from onecycle.foreign import Refused, strict_json

if TYPE_CHECKING:
    import pyarrow as pa

    from onecycle.distributed.prediction.plan import BatchPrediction
    from onecycle.evaluation.predictions import Predictions

PREDICTED, UNREADABLE, SET_ASIDE = "predicted", "unreadable", "set aside"
_KEY, _FORMAT = b"onecycle", "onecycle-part"
NO_LABEL = ""
"""How pictures are counted for which no tag is predicted."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one part holds, in numbers."""

    number: int
    sha256: str  # of the file
    statuses: Counter[str]  # pictures by status
    labels: Counter[str] = field(default_factory=Counter)  # pictures for which each is predicted; "": no tag
    set_aside: tuple[str, ...] = ()  # their names

    @property
    def pictures(self) -> int:
        """How many there are."""
        return self.statuses.total()


def write_part(
    batch: BatchPrediction, number: int, names: Sequence[str], answers: Predictions | Numbers, tried: Sequence[int]
) -> Part:
    """Write the answers for a chunk.

    Args:
        batch: where to.
        number: of the chunk.
        names: of its N pictures.
        answers: for those that were tried.
        tried: their positions among the N; the others are set aside.

    Raises:
        OutputError: it cannot be written.
    """
    import pyarrow as pa

    rows = {} if answers.rows is None else {tried[at]: row for row, at in enumerate(answers.rows.tolist())}
    reasons = {tried[f.position]: f.reason for f in answers.failed}
    aside = set(range(len(names))) - set(tried)
    reasons |= dict.fromkeys(aside, "reading it ended the process three times")
    at = [rows.get(i) for i in range(len(names))]
    statuses = [PREDICTED if i in rows else SET_ASIDE if i in aside else UNREADABLE for i in range(len(names))]
    columns: dict[str, Any] = {
        "name": pa.array([text_name(name) for name in names], pa.string()),
        "status": pa.array(statuses).dictionary_encode(),
        "reason": pa.array([reasons.get(i) for i in range(len(names))], pa.string()),
        **_values(answers, at),
        "model": pa.array([batch.plan.model] * len(names)).dictionary_encode(),
    }
    table = pa.table(columns)
    about = {"format": _FORMAT, "plan": batch.plan.digest, "chunk": number, "classes": batch.plan.classes}
    about["digest"] = _digest(table)
    data = parquet_bytes(table.replace_schema_metadata({_KEY: json.dumps(about)}), "zstd")
    write_whole(batch.part(number), data)
    return _counted(table, number, data)


def _values(answers: Predictions | Numbers, at: Sequence[int | None]) -> dict[str, pa.Array]:
    import pyarrow as pa

    def lists(values: Any, kind: pa.DataType) -> pa.Array:
        return pa.array([None if row is None else values[row] for row in at], pa.list_(kind))

    if isinstance(answers, Numbers):
        return {"numbers": lists(answers.values, pa.float32())}
    labels = [answers.names_of(label) for label in answers.decided]
    return {
        "labels": lists(labels, pa.string()),
        "probabilities": lists(answers.shown_probs.astype("float32"), pa.float32()),
    }


def read_part(batch: BatchPrediction, number: int) -> Part | None:
    """Return what a part holds; None where it is not there.

    Raises:
        Refused: it is damaged, or that of another plan; the file is named.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = batch.part(number)
    try:
        data = path.read_bytes()
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            table = file.read()
        about = strict_json((table.schema.metadata or {}).get(_KEY, b"{}"), str(path))
        if about["digest"] != _digest(table):
            raise ValueError("its values do not give the digest in it")
        names = table.column("name").to_pylist()
        part = _counted(table, number, data)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise Refused(f"{path} is damaged ({error})") from None
    plan = batch.plan
    same = [about.get(key) for key in ("plan", "chunk", "classes")] == [plan.digest, number, plan.classes]
    if not same or names != [text_name(name) for name in batch.names(number)]:
        raise Refused(f"{path} is the part of another plan or chunk")
    return part


def _digest(table: pa.Table) -> str:
    """Return the SHA-256 of all values: the checksums of parquet's pages do not cover all of a file."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sha = hashlib.sha256()
    for name in table.column_names:
        column = values = table.column(name)
        if pa.types.is_list(column.type) and pa.types.is_floating(column.type.value_type):
            sha.update(pc.list_flatten(column).to_numpy().tobytes())
            values = pc.list_value_length(column)
        sha.update(json.dumps([name, values.to_pylist()]).encode())
    return sha.hexdigest()


def _counted(table: pa.Table, number: int, data: bytes) -> Part:
    names, statuses = table.column("name").to_pylist(), table.column("status").to_pylist()
    labels: Counter[str] = Counter()
    if "labels" in table.column_names:
        for named in table.column("labels").to_pylist():
            labels.update([] if named is None else named or [NO_LABEL])
    aside = tuple(name for name, status in zip(names, statuses, strict=True) if status == SET_ASIDE)
    digest = hashlib.sha256(data).hexdigest()
    return Part(number=number, sha256=digest, statuses=Counter(statuses), labels=labels, set_aside=aside)
