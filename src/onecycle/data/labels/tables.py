"""Tables of labels in the formats that people have: CSV with its own delimiter, TSV, parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from onecycle.data.labels.items import read_label_csv
from onecycle.errors import DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
PARQUET = ".parquet"
_DELIMITERS = (",", ";", "\t")


def is_table(path: Path) -> bool:
    """Say whether a file has the ending of a table that ``read_table`` reads."""
    return path.suffix.lower() in TABLE_SUFFIXES


def delimiter_of(path: Path) -> str:
    """Return what parts the cells of a text table: a tab in ``.tsv``, else what its first line has most of."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            head = file.readline()
    except OSError:
        return ","  # reading the table says what is wrong
    return max(_DELIMITERS, key=head.count)


def read_table(path: Path) -> pd.DataFrame:
    """Read a whole table, its first line the names of the columns.

    Raises:
        DataError: no such file, no table, or a parquet column that holds lists.
    """
    if path.suffix.lower() != PARQUET:
        return read_label_csv(path, delimiter=delimiter_of(path))
    if not path.is_file():
        raise DataError(f"expected a table of labels at {path}, but there is no such file")
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # what pyarrow raises for a damaged file is one of these
        raise DataError(f"{path} could not be read as a parquet table ({error})") from error
    for name in frame.columns:
        cells = frame[name].dropna()
        if len(cells) and isinstance(cells.iloc[0], (list, tuple, np.ndarray)):
            raise DataError(f"{path}: column {name!r} holds lists; write its tags as one text, such as 'a;b'")
    return frame
