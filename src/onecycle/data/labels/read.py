"""Tables of labels in the formats that people have: CSV with its own delimiter, TSV, parquet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from onecycle.data.labels.cells import BLANKS, records, values
from onecycle.data.labels.items import IMAGE_SUFFIXES, Source
from onecycle.errors import ArgumentError, DataError, LabelError
from onecycle.text import by_place, option, plural, shown

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
PARQUET = ".parquet"
_DELIMITERS = (",", ";", "\t", "|")
_LOOKED_AT = 50
"""Records by which the delimiter is found."""

_SEP_LINE = re.compile(r"\"?sep=(\\t|[^\r\n\"]?)\"?[ \t]*(?:\r\n|[\r\n]|\Z)", re.IGNORECASE)
_COMMENTS = re.compile(r"(?:[ \t]*(?:#[^\r\n]*)?(?:\r\n|[\r\n]))+")
_WHOLE = r"-?(?:0|[1-9]\d{0,17})"


def is_table(path: Path) -> bool:
    """Say whether a file has the ending of a table that ``read_table`` reads."""
    return path.suffix.lower() in TABLE_SUFFIXES


@dataclass(frozen=True)
class TableFile:
    """A table as it was read."""

    frame: pd.DataFrame
    notes: tuple[tuple[str, str], ...] = ()  # what to know about the reading, as (what, text)
    left_out: tuple[str, ...] = ()  # what is no column of values and not in the frame, such as pictures themselves


def read_table(path: Path, *, delimiter: str | None = None, tags_delim: str | None = None) -> TableFile:
    """Read a whole table, its first line the names of the columns.

    Args:
        path: a file with an ending of ``TABLE_SUFFIXES``.
        delimiter: between the cells of a text; None finds it.
        tags_delim: between the tags of a cell; where it is the delimiter too and there are two columns, the cells of a
            row after its first are its tags.

    Raises:
        DataError: no such file, or no table.
    """
    if path.suffix.lower() != PARQUET:
        text = read_text(path, delimiter)
        return TableFile(_frame_of(text, path, tags_delim=tags_delim), text.notes)
    if not path.is_file():
        raise DataError(f"expected a table of labels at {path}, but there is no such file")
    try:
        frame = pd.read_parquet(path)
    except Exception as error:  # pyarrow and pandas raise whatever damaged bytes make them raise
        raise DataError(f"{path} could not be read as a parquet table ({error})") from error
    return _flat(frame)


def _flat(frame: pd.DataFrame) -> TableFile:
    """Return a parquet table whose cells are values or tuples of tags; other columns are left out and named."""
    left_out = {}
    for name in frame.columns:
        cells = [_flat_cell(cell) for cell in frame[name]] if frame[name].dtype == object else []
        kinds = {type(value) for cell in cells for value in (cell if isinstance(cell, tuple) else (cell,))}
        if kinds & {bytes, bytearray}:
            left_out[name] = f"column {name!r} holds the pictures themselves"
        elif kinds & {dict, tuple, list, np.ndarray}:
            left_out[name] = f"column {name!r} holds records or lists of lists"
        elif cells:
            frame[name] = pd.Series(cells, frame.index, dtype=object)
    notes = tuple(("left out", text) for text in left_out.values())
    return TableFile(frame.drop(columns=list(left_out)), notes, tuple(left_out.values()))


def _flat_cell(cell: object) -> object:
    """Return a list as a tuple; of a picture as Hugging Face's data sets have it, its bytes, else its path."""
    if isinstance(cell, dict) and cell.keys() & {"bytes", "path"}:
        return cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes) and b"\0" not in cell:  # a text whose writer did not say that it is one
        with suppress(UnicodeDecodeError):
            return cell.decode()
    cell = cell.tolist() if isinstance(cell, np.ndarray) else cell
    return tuple(cell) if isinstance(cell, (list, tuple)) else cell


# -- text ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextTable:
    """The text of a table, and how its cells are told apart."""

    text: str
    start: int  # where the names of the columns begin: after a byte order mark, a line sep= and comments
    delimiter: str
    notes: tuple[tuple[str, str], ...] = ()  # as in ``TableFile``


def read_text(path: Path, delimiter: str | None = None, *, names: bool = True) -> TextTable:
    """Read the text of a table and find what stands between its cells, unless it is said.

    Args:
        path: the file.
        delimiter: between its cells.
        names: whether the names of the columns come first, perhaps after a line ``sep=`` and comments.

    Raises:
        DataError: no such file, nothing in it, another kind of file, or not UTF-8.
    """
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.csv")) if path.parent.is_dir() else []
        hint = f"; tables in that folder: {', '.join(near)} ({by_place('--csv', 'csv_labels=')})" if near else ""
        raise DataError(f"expected a table of labels at {path}, but there is no such file{hint}")
    raw = path.read_bytes()
    if kind := _other_kind(raw):
        raise DataError(f"{path} is {kind}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} could not be read as a table ({error}); save it with the encoding UTF-8") from error
    start = int(text.startswith("\ufeff"))
    if not text[start:].strip():
        raise DataError(f"{path} is empty: expected {_EXPECTED}")
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    asked = {r"\s+": BLANKS, r"\t": "\t"}.get(delimiter or "", delimiter)
    sep = _SEP_LINE.match(text, start) if names else None
    said = None if sep is None else sep[1].replace(r"\t", "\t")
    start = start if sep is None else sep.end()
    comments = _COMMENTS.match(text, start) if names else None
    header = start if comments is None else comments.end()
    if not text[header:].strip():
        raise DataError(f"{path} holds nothing but comments: expected {_EXPECTED}")
    tabs = usual == "\t" and _fit(text[header : header + 65_536], usual)[1] > 1
    between = asked or said or (usual if tabs else likely_delimiter(text, header))
    last = [] if comments is None else comments[0].strip().splitlines()[-1:]
    if last and _is_header(last[0], text, header, between):
        header = text.rindex(last[0], start, header)
    notes = []
    if between != (asked or usual):
        what = {"\t": "tabs", BLANKS: "blanks"}.get(between, repr(between))
        why = "its line sep= says" if said else "its first lines have it"
        notes.append(("cells", f"separated by {what}, as {why} ({option('delimiter')})"))
    lines = [line for line in text[start:header].splitlines() if line.strip()]
    if lines:
        notes.append(("left out", f"{plural(len(lines), 'comment line')} above the names: {shown(lines, most=2)}"))
    return TextTable(text, header, between, tuple(notes))


_EXPECTED = "a first line with the names of its columns, such as file,label, then a line for each picture"
_OTHER_KINDS = (
    (rb"\xff\xfe|\xfe\xff", "in the encoding UTF-16: save it with the encoding UTF-8 (Excel: the kind CSV UTF-8)"),
    (rb"\x1f\x8b", "compressed (gzip): unpack it, and name the table in it"),
    (rb"PK\x03\x04|\xd0\xcf\x11\xe0", "an Excel workbook or an archive: save the sheet as CSV, or unpack the table"),
    (rb"PAR1", "a parquet table: give its name the ending .parquet"),
    (rb"version https://git-lfs", "a pointer of Git LFS, not the table itself: `git lfs pull` fetches that"),
    (rb"(?i)\s*<(?:!doctype|html|\?xml)", "a web page or XML, not a table: was it the right link?"),
    (rb"\s*(?:\[\s*)?\{\s*\"", "JSON: write it as a table, a line file,label first, then one for each picture"),
)
"""What else lies under the name of a table, by its first bytes, and what to do."""


def _other_kind(raw: bytes) -> str:
    """Say what a file is that is no table; ``""`` for one."""
    return next((what for begin, what in _OTHER_KINDS if re.match(begin, raw[:512])), "")


def no_table(path: Path) -> str:
    """Say why a file is not read as a table, and what to do."""
    with path.open("rb") as file:
        kind = _other_kind(file.read(512))
    return f"{path} is {kind}" if kind else f"{path} is another file; if it is a table, give its name the ending .csv"


def likely_delimiter(text: str, start: int = 0) -> str:
    """Return the delimiter by which most records have as many cells as the first, more than one; else a comma."""
    end = text.find("\n", start + 65_536)
    sample = text[start:] if end < 0 else text[start : end + 1]
    fits = {d: _fit(sample, d) for d in (*_DELIMITERS, BLANKS)}
    best = max(_DELIMITERS, key=fits.__getitem__)
    return BLANKS if fits[best] <= (0, 1) and fits[BLANKS] == (1, max(2, fits[BLANKS][1])) else best


def _fit(sample: str, delimiter: str) -> tuple[float, int]:
    """Return the share of the records that have as many cells as the first, 0 where that has one; and that number."""
    try:
        widths = [len(record) for record in islice(records(sample, delimiter), _LOOKED_AT)]
    except DataError:  # a quote that does not end; the reading says so
        widths = []
    if not widths:  # comments alone
        return 0.0, 1
    return (sum(w == widths[0] for w in widths) / len(widths) if widths[0] > 1 else 0.0), widths[0]


def _is_header(line: str, text: str, start: int, delimiter: str) -> bool:
    """Say whether a line that begins with # has the names of the columns: what follows is a row with as many cells."""
    names = [cell.value for record in records(line, delimiter) for cell in record]
    rows = [[cell.value for cell in record] for record in islice(records(text, delimiter, start), _LOOKED_AT)]
    if len(names) < 2 or not rows or len(rows[0]) != len(names):
        return False
    later = [set(column) for column in zip(*(row for row in rows[1:] if len(row) == len(names)), strict=True)]
    return any(
        Path(cell).suffix.lower() in IMAGE_SUFFIXES or re.fullmatch(r"[\d.]+", cell) or cell in others
        for cell, others in zip(rows[0], later or [set()] * len(names), strict=True)
    )


def read_label_csv(
    path: Path, *, delimiter: str | None = None, header: int | Literal["infer"] | None = "infer"
) -> pd.DataFrame:
    """Read a table of labels; only empty cells count as missing, so a class may be called ``NA``.

    Args:
        path: the table.
        delimiter: between its cells; None finds it.
        header: row of the column names; ``"infer"`` takes the first after a line ``sep=`` and comments, None has none.

    Raises:
        DataError: the file is missing, empty or not a table, or a row has more cells than the header.
    """
    return _frame_of(read_text(path, delimiter, names=header == "infer"), path, header=header)


def _frame_of(
    text: TextTable, path: Path, *, header: int | Literal["infer"] | None = "infer", tags_delim: str | None = None
) -> pd.DataFrame:
    """Tell the cells of a text apart; columns of whole numbers alone are numbers, all others text."""
    try:
        rows = values(text.text, text.delimiter, text.start)
    except DataError as error:
        raise DataError(f"{path} could not be read as a table: {error}") from error
    first = 0 if header == "infer" else header
    if first is not None and first >= len(rows):
        raise DataError(f"{path} has {plural(len(rows), 'row')}, so row {first} cannot name its columns (header=)")
    names = [str(i) for i in range(len(rows[0]))] if first is None else _names(rows[first])
    rows = rows if first is None else rows[first + 1 :]
    if tags_delim == text.delimiter and len(names) == 2:
        rows = [[row[0], tags_delim.join(row[1:])] for row in rows]
    _check_widths(rows, names, text.delimiter, Source(str(path), 1 if first is None else 2 + first))
    while names and names[-1].startswith("Unnamed: ") and not any(len(row) >= len(names) and row[-1] for row in rows):
        names.pop()
    n = len(names)
    columns = zip(*(((*row, *[""] * (n - len(row)))[:n]) for row in rows), strict=True)
    frame = pd.DataFrame(dict(zip(names, map(_values, columns), strict=False)), columns=names)
    return frame if first is not None else frame.set_axis(range(n), axis=1)


def _names(cells: Sequence[str]) -> list[str]:
    """Return the names of columns without blanks around them; none is empty, none is there twice."""
    names: list[str] = []
    for i, cell in enumerate(cells):
        name, n = cell.strip() or f"Unnamed: {i}", 0
        while (new := f"{name}.{n}" if n else name) in names:
            n += 1
        names.append(new)
    return names


def _check_widths(rows: Sequence[Sequence[str]], names: Sequence[str], delimiter: str, source: Source) -> None:
    """Refuse rows with more cells than there are columns, unless nothing is in them.

    Raises:
        DataError: names the first such row.
    """
    n = len(names)
    longer = [i for i, row in enumerate(rows) if len(row) > n and any(cell.strip() for cell in row[n:])]
    if longer:
        row = rows[longer[0]]
        way = f", or pass {option('label_delim', delimiter)}" if n == 2 else ""
        raise DataError(
            f"{source}: {len(row)} cells at row {source.rows(longer[:1])} ({shown(row, most=4)}), but the header has "
            f"{plural(n, 'column')} ({shown(names, most=4)}); {len(longer):,} of {len(rows):,} rows have more. If "
            f'they are tags, put quotes around them, "a{delimiter}b"{way}; if not, does the first line name each '
            f"column, and is {delimiter!r} the right delimiter ({option('delimiter')})?"
        )


def _values(cells: Sequence[str]) -> list[Any]:
    """Return a column: whole numbers where each cell is one and nothing else (``007`` names another file)."""
    if all(map(re.compile(_WHOLE).fullmatch, cells)):
        return [int(cell) for cell in cells]
    return [cell if cell else np.nan for cell in cells]


def picture_as_name(df: pd.DataFrame) -> str:
    """Return the name of a column that is a picture's, as those in its cells are: a row stands there; ``""`` for none.

    A column of other cells may be named after a picture.
    """
    for name in map(str, df.columns):
        if Path(name).suffix.lower() in IMAGE_SUFFIXES:
            cells = [str(cell) for cell in df[name][:_LOOKED_AT]]
            if 2 * sum(Path(cell.strip()).suffix.lower() in IMAGE_SUFFIXES for cell in cells) > len(cells):
                return name
    return ""


def column(df: pd.DataFrame, which: int | str | Sequence[int | str], *, source: Source) -> pd.Series[Any]:
    """Return one column of ``df`` by position or name, or by a sequence of one.

    Raises:
        ArgumentError: there is no such column.
    """
    if not isinstance(which, (int, str)):
        if len(which) != 1:
            raise ArgumentError(f"{source}: expected one column, received {list(which)}")
        which = which[0]
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


def columns(df: pd.DataFrame, which: int | str | Sequence[int | str], *, source: Source) -> list[pd.Series[Any]]:
    """Return columns of ``df``: one by position or name, several in a sequence or as names with commas between them.

    Raises:
        ArgumentError: there is no such column.
    """
    if isinstance(which, str) and which not in df.columns and "," in which:
        which = [name.strip() for name in which.split(",")]
    return [column(df, one, source=source) for one in ([which] if isinstance(which, (int, str)) else which)]


_WORDS = {True: ("true", "1", "1.0", "yes", "y", "t"), False: ("false", "0", "0.0", "no", "n", "f")}
YES_NO = {word: meaning for meaning, words in _WORDS.items() for word in words}
"""What a cell of yes and no may say, in small letters."""


def are_flag_cells(cells: pd.Series[Any]) -> bool:
    """Say whether each cell of a column is 0/1, yes or no as ``flags`` reads them."""
    return bool(cells.map(lambda cell: str(cell).strip().lower() in YES_NO).all())


def flags(cells: pd.Series[Any], *, source: Source) -> np.ndarray:
    """Read a column of yes and no: True/False or 1/0, bool ``(N,)``.

    Raises:
        LabelError: empty or other cells, each row named.
    """
    values = [YES_NO.get(str(cell).strip().lower()) for cell in cells]
    odd = [i for i, value in enumerate(values) if value is None]
    if odd:
        raise LabelError(
            f"{source}: column {cells.name!r} must hold True/False or 1/0, but row {source.rows(odd)} does not "
            f"(first: {cells.iloc[odd[0]]!r})"
        )
    return np.array(values, dtype=bool)
