"""The roles of a table's columns, found by looking at its cells and at the files that are there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from onecycle.data.labels.items import IMAGE_SUFFIXES, Source, find_tag_lists, split_tags
from onecycle.data.labels.read import column
from onecycle.errors import ArgumentError, DataError

_LOOKED_AT = 50
"""Rows whose files are looked for; spread over the table."""

_MOST_FOLDERS, _DEEPEST = 200, 3
_LABEL_NAMES = {"label", "labels", "tag", "tags", "class", "classes", "category", "categories", "target", "targets"}
_GROUP_NAMES = {
    "group",
    "site",
    "patient",
    "subject",
    "scene",
    "flight",
    "location",
    "camera",
    "case",
    "slide",
    "study",
}
_LARGEST_SHARE = 0.5
"""A column with more different values than this share of the rows does not appear to hold classes."""


@dataclass(frozen=True, kw_only=True)
class LayoutOptions:
    """What the user said about the data; None means: find it out. Columns are meant by name or position."""

    csv: str | None = None  # table below the folder of the data set
    folder: str | None = None  # of the pictures, below the folder of the data set
    suffix: str | None = None  # added to each file name of the table
    label_delim: str | None = None  # splits a label cell into tags; "" means that a cell is one label
    fn_col: int | str | None = None  # of the file names
    label_col: int | str | None = None
    group_col: int | str | None = None

    @property
    def names(self) -> list[str]:
        """The names of what was said."""
        return [name for name, value in asdict(self).items() if value is not None]


@dataclass(frozen=True)
class TableLayout:
    """Where a table says what."""

    folder: str = ""  # of the pictures, below the folder of the table's data set
    suffix: str = ""  # added to each file name, e.g. ``.jpg``
    label_delim: str | None = None  # splits a cell into tags; None takes a cell as one label
    fn_col: int | str = 0  # column of the file names, by position or name
    label_col: int | str = 1  # column of the labels
    group_col: int | str | None = None  # column of the groups that belong in one part


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
    fn_col, label_col, group_col = (
        None if col is None else str(column(frame, col, source=source).name)
        for col in (asked.fn_col, asked.label_col, asked.group_col)
    )
    names = [fn_col] if fn_col else [str(c) for c in frame.columns if str(c) not in (label_col, group_col)]
    files = _find_files(frame, root, names, asked, name)
    _check_header(frame, root, files, name)
    labels = label_col or _find_labels(frame, {files.column, group_col}, name)
    why_label = "the only one left" if len(frame.columns) == 2 else "the only one whose values repeat as classes do"
    why_label = "by its name" if labels.strip().lower() in _LABEL_NAMES else why_label
    why_label = "as asked" if label_col else why_label
    delim, why_delim = _find_delim(frame[labels], asked.label_delim)
    reasons = [("pictures", files.why), ("labels", f"column {labels} ({why_label}), {why_delim}")]
    if group_col:
        reasons.append(("groups", f"column {group_col} (as asked): a group stays in one part"))
    sample = tuple((str(c), _short(frame[c].iloc[0])) for c in frame.columns[:4])
    hints = () if group_col else _hints(frame, {files.column, labels})
    table = TableLayout(files.folder, files.suffix, delim, files.column, labels, group_col)
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
        known = [str(v) for v in frame[col].dropna()]
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
                f"{', '.join(_short(c) for c in frame.columns[:4])} ({picture} is a picture). "
                "Add a first line such as file,label"
            )


def _no_files_text(
    frame: pd.DataFrame, root: Path, name: str, columns: Sequence[str], folders: Sequence[str], suffixes: Sequence[str]
) -> str:
    tried = ", ".join(f"{f or '.'}/" for f in folders[:4]) + (" …" if len(folders) > 4 else "")
    cells = ", ".join(f"{c}={_short(frame[c].iloc[0])}" for c in columns[:4])
    backslashes = next((c for c in columns if frame[c].astype(str).str.contains("\\", regex=False).any()), None)
    if backslashes is not None:
        return (
            f"{root / name}: no column names pictures that are there. The names in column {backslashes} have "
            f"backslashes ({_short(frame[backslashes].iloc[0])}): write / between folders"
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


# -------------------------------------------------------------------- labels


def _find_labels(frame: pd.DataFrame, taken: set[str | None], name: str) -> str:
    rest = [str(c) for c in frame.columns if str(c) not in taken]
    if not rest:
        raise ArgumentError(f"{name} has no column beside the file names, so there are no labels")
    by_name = [c for c in rest if c.strip().lower() in _LABEL_NAMES]
    if len(by_name) == 1 or len(rest) == 1:
        return (by_name or rest)[0]
    likely = [c for c in by_name or rest if _holds_classes(frame[c])]
    likely = [c for c in likely if c.strip().lower() not in _GROUP_NAMES] or likely
    if len(likely) == 1:
        return likely[0]
    listed = "; ".join(f"{c} ({frame[c].nunique()} different, e.g. {_short(frame[c].iloc[0])})" for c in rest[:8])
    raise ArgumentError(f"{name} has several columns that could hold the labels: {listed}; choose one with --label-col")


def _holds_classes(cells: pd.Series[Any]) -> bool:
    known = cells.dropna()
    if pd.api.types.is_float_dtype(known) and not (known == known.round()).all():
        return False
    return 1 < known.nunique() <= max(2, _LARGEST_SHARE * len(known)) or find_tag_lists(known) is not None


def _find_delim(cells: pd.Series[Any], asked: str | None) -> tuple[str | None, str]:
    texts = [str(v) for v in cells.dropna()]
    strings = Counter(texts)
    tag_lists = find_tag_lists(texts) if asked is None else None
    delim = tag_lists.delimiter if tag_lists is not None else _delim_of_few(strings) if asked is None else asked
    why = "" if asked is None else " (as asked)"
    if not delim:
        return None, f"one label a picture{why}: {len(strings)} classes"
    n = len({t for text in strings for t in split_tags(text, delim)})
    made_of = f"{len(strings)} different cells are made of {n} tags (--label-delim '' for one label a picture)"
    return delim, f"several tags a picture, separated by {delim!r}{why}: {made_of if asked is None else f'{n} tags'}"


def _delim_of_few(strings: Counter[str]) -> str | None:
    """Find tags where there are few different cells: every part of a compound cell occurs in another cell too."""
    for delim in (";", "|", ",", " "):
        rows = [split_tags(text, delim) for text in strings]
        compound = [row for row in rows if len(row) > 1]
        where = Counter(tag for row in rows for tag in set(row))
        often = all(where[tag] > 1 for row in compound for tag in row)
        if len(compound) >= max(2, len(rows) / 3) and often and len(where) < len(rows):
            return delim
    return None


def _hints(frame: pd.DataFrame, taken: set[str]) -> tuple[str, ...]:
    """Name a column that may say which pictures belong together; nothing is done with it."""
    for col in map(str, frame.columns):
        values = frame[col].nunique()
        if col not in taken and col.strip().lower() in _GROUP_NAMES and 1 < values < len(frame):
            return (f"column {col} repeats ({values} values): --group-col {col} keeps the pictures of one in one part",)
    return ()


def _short(cell: object) -> str:
    text = str(cell)
    return text if len(text) <= 40 else f"{text[:39]}…"
