"""Which picture is in which part: written as a table with each run, and read back as the split of another."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.splits import Split
from onecycle.errors import DataError, DataWarning, warn
from onecycle.files import csv_text, text_name, unescaped_cell
from onecycle.foreign import Refused, csv_records, read_plain
from onecycle.runs.folder import MOST_BYTES
from onecycle.text import plural, shown

Side = Literal["train", "valid", "left out"]


def valid_names(data: ImageDataBunch) -> list[str]:
    """Return the names of the validation pictures below the folder of the data set, in order."""
    return [text_name(data.store.paths[row], data.path) for row in data.split.valid]


def split_text(data: ImageDataBunch) -> str:
    """Return the split as ``split.csv`` has it: one line a row of the table, in order."""
    sides: np.ndarray = np.full(len(data.store), "left out", dtype=object)
    sides[data.split.train], sides[data.split.valid] = "train", "valid"
    names = (text_name(path, data.path) for path in data.store.paths)
    return csv_text([("file", "part"), *zip(names, sides, strict=True)], raw=False)


def read_split(table: Path) -> list[tuple[str, Side]]:
    """Return (file, side) of each row that the data had when the split was written.

    Raises:
        DataError: no such table, or a damaged one.
    """
    try:
        records = csv_records(read_plain(table, MOST_BYTES), str(table), ("file", "part"))
    except OSError as error:
        raise DataError(f"the split {table} cannot be read: {error.strerror}") from error
    except Refused as error:
        raise DataError(f"{error}; copy the run again") from None
    rows = [(unescaped_cell(cells["file"]), cells["part"]) for cells in records]
    bad = next((i for i, (_, side) in enumerate(rows, 2) if side not in get_args(Side)), None)
    if bad is not None:
        raise DataError(f"{table}, line {bad}, column part: expected train, valid or left out")
    return [(file, side) for file, side in rows]  # type: ignore[misc]


def split_like(paths: Sequence[str], root: Path, table: Path) -> Split:
    """Return the split of a table for these pictures, matched by file name; a name that occurs again, in order.

    Pictures that the data has got since are in neither part, which is said.

    Args:
        paths: of the pictures, one a row of the data.
        root: folder of the data set.
        table: the split.

    Raises:
        DataError: pictures of the split that are gone, each named.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, path in reversed(list(enumerate(paths))):
        rows[_same_name(text_name(path, root))].append(row)
    rows_in: dict[Side, list[int]] = {"train": [], "valid": [], "left out": []}
    gone = []
    for file, side in read_split(table):
        if rows.get(_same_name(file)):
            rows_in[side].append(rows[_same_name(file)].pop())
        elif side != "left out":
            gone.append(file)
    if gone:
        raise DataError(
            f"{plural(len(gone), 'picture')} of the split {table} no longer in {root}: {shown(gone, most=5)}; "
            "put them back, or train again"
        )
    if new := sum(len(left) for left in rows.values()):
        text = f"{plural(new, 'picture')} came to {root} after {table} was written, and will be in neither part"
        warn(text, DataWarning)
    train, valid = (np.sort(np.array(rows_in[side], dtype=np.int64)) for side in ("train", "valid"))
    return Split(train, valid, f"that of {table.parent.name}/{table.name}")


def _same_name(file: str) -> str:
    """Return a name as one that was copied between machines, which write accents in their own way, has it, too."""
    return unicodedata.normalize("NFC", file)
