"""The roles of a table's columns, found by looking at its cells and at the files that are there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from onecycle.data.labels.find.files import Asked, Place, find_files
from onecycle.data.labels.find.labels import find_labels, is_group_name, is_label_name, short
from onecycle.data.labels.find.split import find_split
from onecycle.data.labels.items import IMAGE_SUFFIXES, Source, cell_text, is_missing
from onecycle.data.labels.read import column, columns, picture_as_name
from onecycle.errors import DataError

_LOOKED_AT = 50
"""Rows by which a table is found to have no names of columns."""

_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, kw_only=True)
class LayoutOptions:
    """What the user said about the data; None means: find it out. Columns are meant by name or position."""

    csv: str | None = None  # table below the folder of the data set
    folder: str | None = None  # of the pictures, below the folder of the data set
    suffix: str | None = None  # added to each file name of the table
    path_parts: int | None = None  # of the paths in the table, as many last parts are taken
    delimiter: str | None = None  # between the cells of the table
    label_delim: str | None = None  # splits a label cell into tags; "" means that a cell is one label
    fn_col: int | str | None = None  # of the file names
    label_col: int | str | None = None  # several columns of 0/1 as "a,b,c"
    group_col: int | str | None = None
    split_col: int | str | None = None  # of the split; "fold=4" where one value validates, "" for none
    join_rows: bool | None = None  # whether each row has one tag of its picture

    @property
    def names(self) -> list[str]:
        """The names of what was said."""
        return [name for name, value in asdict(self).items() if value is not None]


@dataclass(frozen=True, kw_only=True)
class TableLayout:
    """Where a table says what."""

    folder: str = ""  # of the pictures, below the folder of the table's data set
    suffix: str = ""  # added to each file name, e.g. ``.jpg``
    path_parts: int | None = None  # of each name's path, as many last parts are taken; None takes it as it is
    label_delim: str | None = None  # splits a cell into tags; None takes a cell as one label
    fn_col: int | str = 0  # column of the file names, by position or name
    label_col: int | str = 1  # column of the labels; of several columns of 0/1 their names, "a,b,c"
    group_col: int | str | None = None  # column of the groups that belong in one part
    split_col: str | None = None  # column of the split, ``fold=4`` where one value of it validates
    join_rows: bool = False  # whether each row has one tag of its picture
    delimiter: str | None = None  # between the cells of the table; None to find it


@dataclass(frozen=True)
class Roles:
    """Which column says what, and why."""

    table: TableLayout  # the columns by name
    reasons: tuple[tuple[str, str], ...]  # (what, why) of each
    sample: tuple[tuple[str, str], ...]  # one row: (column, cell)
    hints: tuple[str, ...] = ()  # columns that may be worth an option


def find_roles(frame: pd.DataFrame, root: Path, name: str, asked: LayoutOptions) -> Roles:
    """Find out which column names the pictures and which the labels; what was asked for is taken.

    Args:
        frame: the table.
        root: folder of the data set.
        name: of the table, for messages.
        asked: what the user said about it.

    Raises:
        DataError: an empty table, no names of columns, or no column names pictures that are there.
        ArgumentError: no such column, or several that could hold the labels.
    """
    source = Source(name, first_row=2)
    if len(frame) == 0:
        raise DataError(f"{root / name} has no rows, so there is nothing to look at")
    fn_col, group_col = (
        None if col is None else str(column(frame, col, source=source).name) for col in (asked.fn_col, asked.group_col)
    )
    asked_labels = [] if asked.label_col is None else columns(frame, asked.label_col, source=source)
    taken = [group_col, *(str(c.name) for c in asked_labels)]
    asking = Asked.of(fn_col, asked.folder, asked.suffix, asked.path_parts)
    _refuse_row_as_names(frame, root, name)
    files = find_files(frame, root, root / name, taken, asking)
    _check_names(frame, root, files, name)
    split, split_hints = find_split(frame, _no_splits(frame, [files.column, *taken]), asked.split_col, source)
    others = {files.column, group_col, None if split is None else split.column}
    join = bool(asked.join_rows)
    labels = find_labels(frame, others, source, asked.label_col, asked.label_delim, join_rows=join)
    reasons = [("pictures", files.why), ("labels", labels.why)]
    if group_col:
        drawn = split is None or "valid" not in split.parts
        promise = "a group stays in one part" if drawn else "an audit says whether one is in both parts"
        reasons.append(("groups", f"column {group_col} (as asked): {promise}"))
    if split is not None:
        how = "as asked" if asked.split_col else "as its values say; --split-col '' draws a split"
        reasons.append(("split", f"{split.why} ({how})"))
    sample = tuple((str(c), short(frame[c].iloc[0])) for c in frame.columns[:4])
    used = {files.column, *labels.col.split(",")}
    hints = [text for col, text in split_hints.items() if col not in used]
    hints += [] if group_col else _hints(frame, used)
    table = TableLayout(
        folder=files.folder, suffix=files.suffix, path_parts=files.path_parts, label_delim=labels.delim,
        fn_col=files.column, label_col=labels.col,
        group_col=group_col, split_col=None if split is None else split.asked, join_rows=join,
        delimiter=asked.delimiter,
    )  # fmt: skip
    return Roles(table, tuple(reasons), sample, tuple(hints))


def _no_splits(frame: pd.DataFrame, taken: Sequence[str | None]) -> list[str | None]:
    """Return the columns that cannot say the split: those that hold something else, and the only one for the labels."""
    free = [str(c) for c in frame.columns if str(c) not in taken]
    return [*taken, *(free if len(free) == 1 and len(taken) < 3 else filter(is_label_name, free))]


def _refuse_row_as_names(frame: pd.DataFrame, root: Path, name: str) -> None:
    """Refuse a table that begins with its first picture, which would be taken for a column's name, and be gone."""
    if column := picture_as_name(frame):
        raise DataError(_row_as_names_text(frame, root / name, f"{column} is a picture's name"))


def _check_names(frame: pd.DataFrame, root: Path, files: Place, name: str) -> None:
    """Refuse a table that begins with its first picture, by the files there or by how their names are built."""
    for cell in map(str, frame.columns):
        picture = root / files.folder / f"{cell}{files.suffix}"
        if picture.suffix.lower() in IMAGE_SUFFIXES and picture.is_file():
            raise DataError(_row_as_names_text(frame, root / name, f"{picture} is a picture"))
    cells = [cell_text(cell) for cell in frame[files.column][:_LOOKED_AT] if not is_missing(cell)]
    built, position = _DIGITS.sub("0", files.column), str(list(map(str, frame.columns)).index(files.column))
    alike = sum(_DIGITS.sub("0", cell) == built for cell in cells)
    if "0" in built and files.column != position and 10 * alike >= 9 * len(cells):
        why = f"{files.column} is built as the names below it are, such as {cells[0]}"
        raise DataError(_row_as_names_text(frame, root / name, why))


def _row_as_names_text(frame: pd.DataFrame, table: Path, why: str) -> str:
    first = ", ".join(short(c) for c in frame.columns[:4])
    return (
        f"the first line of {table} appears to be a row, not the names of columns: {first} ({why}). "
        "Add a first line such as file,label"
    )


# -------------------------------------------------------------------- hints


def _hints(frame: pd.DataFrame, taken: set[str]) -> tuple[str, ...]:
    """Name a column that may say which pictures belong together; nothing is done with it."""
    for col in map(str, frame.columns):
        values = frame[col].nunique()
        if col not in taken and is_group_name(col) and 1 < values < len(frame):
            said = shlex.quote(col)
            return (
                f"column {col} repeats ({values} values): --group-col {said} keeps the pictures of one in one part",
            )
    return ()
