"""The roles of a table's columns, found by looking at its cells and at the files that are there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from onecycle.data.labels.find_labels import GROUP_NAMES, find_labels, short
from onecycle.data.labels.items import IMAGE_SUFFIXES, Source, cell_text, is_missing
from onecycle.data.labels.read import column, columns
from onecycle.errors import DataError

_LOOKED_AT = 50
"""Rows whose files are looked for; spread over the table."""

_MOST_FOLDERS, _DEEPEST = 200, 3


@dataclass(frozen=True, kw_only=True)
class LayoutOptions:
    """What the user said about the data; None means: find it out. Columns are meant by name or position."""

    csv: str | None = None  # table below the folder of the data set
    folder: str | None = None  # of the pictures, below the folder of the data set
    suffix: str | None = None  # added to each file name of the table
    delimiter: str | None = None  # between the cells of the table
    label_delim: str | None = None  # splits a label cell into tags; "" means that a cell is one label
    fn_col: int | str | None = None  # of the file names
    label_col: int | str | None = None  # several columns of 0/1 as "a,b,c"
    group_col: int | str | None = None
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
    label_delim: str | None = None  # splits a cell into tags; None takes a cell as one label
    fn_col: int | str = 0  # column of the file names, by position or name
    label_col: int | str = 1  # column of the labels; of several columns of 0/1 their names, "a,b,c"
    group_col: int | str | None = None  # column of the groups that belong in one part
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
    taken = {group_col, *(str(c.name) for c in asked_labels)}
    names = [fn_col] if fn_col else [str(c) for c in frame.columns if str(c) not in taken]
    files = _find_files(frame, root, names, asked, name)
    _check_header(frame, root, files, name)
    labels = find_labels(frame, {files.column, group_col}, source, asked.label_col, asked.label_delim)
    reasons = [("pictures", files.why), ("labels", labels.why)]
    if asked.join_rows:
        reasons.append(("rows", "those of a picture are joined (as asked): each has a tag of it"))
    if group_col:
        reasons.append(("groups", f"column {group_col} (as asked): a group stays in one part"))
    sample = tuple((str(c), short(frame[c].iloc[0])) for c in frame.columns[:4])
    hints = () if group_col else _hints(frame, {files.column, *labels.col.split(",")})
    table = TableLayout(
        folder=files.folder, suffix=files.suffix, label_delim=labels.delim, fn_col=files.column, label_col=labels.col,
        group_col=group_col, join_rows=bool(asked.join_rows), delimiter=asked.delimiter,
    )  # fmt: skip
    return Roles(table, tuple(reasons), sample, hints)


# -------------------------------------------------------------------- pictures


@dataclass(frozen=True)
class _Files:
    column: str
    folder: str
    suffix: str
    hits: int
    looked_at: int
    asked: bool

    @property
    def why(self) -> str:
        path = "/".join(p for p in (self.folder, f"<{self.column}>{self.suffix}") if p)
        count = "all" if self.hits == self.looked_at else f"{self.hits} of"
        return f"{path} ({'as asked; ' if self.asked else ''}{count} {self.looked_at} rows looked at have it)"


def _find_files(frame: pd.DataFrame, root: Path, columns: list[str], said: LayoutOptions, name: str) -> _Files:
    folders = [said.folder.strip("/")] if said.folder is not None else list(_picture_folders(root))
    suffixes = [said.suffix] if said.suffix is not None else ["", *_suffixes(root, folders)]
    asked = None not in (said.fn_col, said.folder, said.suffix)
    best = _Files(columns[0] if columns else "", "", "", 0, 0, asked)
    for col in columns:
        known = [cell_text(v).strip() for v in frame[col] if not is_missing(v)]
        cells = known[:: max(1, len(known) // _LOOKED_AT)][:_LOOKED_AT]
        for below in folders:
            for end in suffixes:
                hits = sum(os.path.isfile(root / below / f"{cell}{end}") for cell in cells)
                if hits > best.hits:
                    best = _Files(col, below, end, hits, len(cells), asked)
        if best.hits and best.hits == best.looked_at:
            break
    if best.hits:
        return best
    if asked:  # an audit shows which files are gone; nothing has to be found
        return _Files(columns[0], folders[0], suffixes[0], 0, min(_LOOKED_AT, len(frame)), asked)
    raise DataError(_no_files_text(frame, root, name, columns, folders, suffixes))


def _check_header(frame: pd.DataFrame, root: Path, files: _Files, name: str) -> None:
    """Refuse a table that begins with its first picture: it would be taken for a name, and be gone."""
    for cell in map(str, frame.columns):
        picture = root / files.folder / f"{cell}{files.suffix}"
        if picture.suffix.lower() in IMAGE_SUFFIXES and picture.is_file():
            raise DataError(
                f"the first line of {root / name} appears to be a row, not the names of columns: "
                f"{', '.join(short(c) for c in frame.columns[:4])} ({picture} is a picture). "
                "Add a first line such as file,label"
            )


def _no_files_text(
    frame: pd.DataFrame, root: Path, name: str, columns: Sequence[str], folders: Sequence[str], suffixes: Sequence[str]
) -> str:
    tried = ", ".join(f"{f or '.'}/" for f in folders[:4]) + (" …" if len(folders) > 4 else "")
    cells = ", ".join(f"{c}={short(frame[c].iloc[0])}" for c in columns[:4])
    backslashes = next((c for c in columns if frame[c].astype(str).str.contains("\\", regex=False).any()), None)
    if backslashes is not None:
        return (
            f"{root / name}: no column names pictures that are there. The names in column {backslashes} have "
            f"backslashes ({short(frame[backslashes].iloc[0])}): write / between folders"
        )
    return (
        f"{root / name}: no column names pictures that are there. Its first row is {cells}; looked in "
        f"{root} below {tried} with the endings {', '.join(s or '(none)' for s in suffixes)}. "
        "Say where they are with --fn-col, --folder and --suffix"
    )


def _picture_folders(root: Path) -> Iterator[str]:
    """Yield the data set's folder and those below it, nearest first, as posix paths below it."""
    level, n = [root], 0
    for _ in range(_DEEPEST + 1):
        below: list[Path] = []
        for folder in level:
            yield "" if folder == root else folder.relative_to(root).as_posix()
            n += 1
            if n >= _MOST_FOLDERS:
                return
            with os.scandir(folder) as entries:
                below += sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))
        level = below


def _suffixes(root: Path, folders: Sequence[str]) -> list[str]:
    """Return the endings of the pictures that are there, the most frequent first."""
    counts: Counter[str] = Counter()
    for folder in folders:
        if not (root / folder).is_dir():
            continue
        with os.scandir(root / folder) as entries:
            for i, entry in enumerate(entries):
                end = os.path.splitext(entry.name)[1]
                counts[end] += end.lower() in IMAGE_SUFFIXES
                if i >= 1000:
                    break
    return [end for end, n in counts.most_common() if n]


# -------------------------------------------------------------------- hints


def _hints(frame: pd.DataFrame, taken: set[str]) -> tuple[str, ...]:
    """Name a column that may say which pictures belong together; nothing is done with it."""
    for col in map(str, frame.columns):
        values = frame[col].nunique()
        if col not in taken and col.strip().lower() in GROUP_NAMES and 1 < values < len(frame):
            return (f"column {col} repeats ({values} values): --group-col {col} keeps the pictures of one in one part",)
    return ()
