"""Tables of labels in the formats that people have: CSV with its own delimiter, TSV, parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from onecycle.data.labels.items import Source
from onecycle.errors import ArgumentError, DataError, LabelError

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
PARQUET = ".parquet"
_DELIMITERS = (",", ";", "\t")


def is_table(path: Path) -> bool:
    """Say whether a file has the ending of a table that ``read_table`` reads."""
    return path.suffix.lower() in TABLE_SUFFIXES


def delimiter_of(path: Path) -> str:
    """Return what stands between the cells of a text table: a tab in ``.tsv``, else what its first line has most of."""
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


def read_label_csv(
    path: Path, *, delimiter: str | None = None, header: int | Literal["infer"] | None = "infer"
) -> pd.DataFrame:
    """Read a table of labels; only empty cells count as missing, so a class may be called ``NA``.

    Raises:
        DataError: the file is missing, empty or not a table.
    """
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.csv")) if path.parent.is_dir() else []
        hint = f"; tables in that folder: {', '.join(near)} (--csv, csv_labels=)" if near else ""
        raise DataError(f"expected a table of labels at {path}, but there is no such file{hint}")
    try:
        frame = pd.read_csv(
            path, sep=delimiter or ",", header=header, keep_default_na=False, na_values=[""], dtype=str, index_col=False
        )
    except pd.errors.EmptyDataError as error:
        raise DataError(
            f"{path} is empty: expected a first line with the names of its columns, such as file,label, then a line "
            "for each picture"
        ) from error
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} could not be read as a table ({error}); are the delimiter and the encoding (UTF-8) right?"
        ) from error
    return frame.apply(_numbers_where_exact)


def _numbers_where_exact(cells: pd.Series[Any]) -> pd.Series[Any]:
    """Turn a column into numbers only where nothing is lost: ``007`` stays text, or it would no longer be a file."""
    if cells.str.fullmatch(r"[+-]?0\d.*|\+.*").any():
        return cells
    try:
        return pd.to_numeric(cells)
    except (ValueError, TypeError):
        return cells


def column(df: pd.DataFrame, which: int | str, *, source: Source) -> pd.Series[Any]:
    """Return one column of ``df`` by position or name.

    Raises:
        ArgumentError: there is no such column.
    """
    if isinstance(which, str):
        if which not in df.columns:
            raise ArgumentError(f"{source} has no column {which!r}; its columns are {list(df.columns)}")
        return df[which]
    if not -len(df.columns) <= which < len(df.columns):
        raise ArgumentError(
            f"{source} has no column number {which}; it has {len(df.columns)}: {list(df.columns)}. "
            "Is the delimiter right?"
        )
    return df.iloc[:, which]


_FLAGS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def flags(cells: pd.Series[Any], *, source: Source) -> np.ndarray:
    """Read a column of yes and no: True/False or 1/0, bool ``(N,)``.

    Raises:
        LabelError: empty or other cells, each row named.
    """
    values = [_FLAGS.get(str(cell).strip().lower()) for cell in cells]
    odd = [i for i, value in enumerate(values) if value is None]
    if odd:
        raise LabelError(
            f"{source}: column {cells.name!r} must hold True/False or 1/0, but row {source.rows(odd)} does not "
            f"(first: {cells.iloc[odd[0]]!r})"
        )
    return np.array(values, dtype=bool)
