"""The cells of a text table (CSV), read; and changed one by one, with every other byte as its owner wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from onecycle.errors import DataError

_QUOTE = '"'
BLANKS = " "
"""The delimiter that stands for any number of blanks and tabs."""


class Cell(NamedTuple):
    """One cell: where it begins and ends in the text, quotes included, and what it says."""

    start: int
    end: int
    value: str


def records(text: str, delimiter: str, start: int = 0) -> Iterator[list[Cell]]:
    """Yield the cells of each record, the header first; blank lines are none, as for pandas.

    Args:
        text: a whole table.
        delimiter: between the cells; one blank stands for any number of blanks and tabs.
        start: where the first record begins in ``text``.

    Raises:
        DataError: a quote that never ends.

    Source: RFC 4180; blanks before and after a quoted cell do not count; a quote within a cell that does not begin
    with one is an ordinary character.
    """
    cells: list[Cell] = []
    for match in _pattern(delimiter).finditer(text, start):
        quoted, rest, plain, end = match.groups()
        if quoted is None and plain.startswith(_QUOTE):
            line = text.count("\n", 0, match.start()) + 1
            raise DataError(f"the quote at the beginning of a cell in line {line} never ends: {plain[:40]}")
        value = plain if quoted is None else quoted.replace(_QUOTE * 2, _QUOTE) + rest.rstrip(" \t")
        cells.append(Cell(match.start(), match.start("end"), value))
        if end and not end.endswith(("\n", "\r")):
            continue
        if len(cells) > 1 or cells[0].value.strip():
            yield cells
        cells = []


def values(text: str, delimiter: str, start: int = 0) -> list[list[str]]:
    """Return what the cells of each record say; arguments as for ``records``, which is five times as slow."""
    if _QUOTE in text or delimiter == BLANKS:
        return [[cell.value for cell in record] for record in records(text, delimiter, start)]
    rows = (line.split(delimiter) for line in re.split(r"\r\n|[\r\n]", text[start:]))
    return [row for row in rows if len(row) > 1 or row[0].strip()]


@cache
def _pattern(delimiter: str) -> re.Pattern[str]:
    """Return what matches one cell and the delimiter, the end of line or the end of the text after it."""
    if delimiter == BLANKS:
        lead, inside, between, trail = "[ \t]*", "[^ \t\r\n]*", "[ \t]+", "[ \t]*"
    else:
        lead, inside, between, trail = "", rf"(?:(?!{re.escape(delimiter)})[^\r\n])*", re.escape(delimiter), ""
    if len(delimiter) == 1 and delimiter != BLANKS:
        inside = rf"[^{re.escape(delimiter)}\r\n]*"
    quoted = rf'{lead or " *"}"([^"]*+(?:""[^"]*+)*+)"({inside})'
    return re.compile(rf"(?:{quoted}|{lead}({inside}))(?P<end>{trail}(?:\r\n|[\r\n]|\Z)|{between})")


def with_cells(
    text: str, column: int, new: Mapping[int, str], *, delimiter: str, expected: Sequence[str], start: int = 0
) -> str:
    """Return a table in which some cells of one column say something else.

    Args:
        text: the whole table; its first record is the header.
        column: position of the column.
        new: what a row says from now on, by the number of the row, from 0 after the header.
        delimiter: between cells.
        expected: what each row says now, as another reader of this table sees it.
        start: where the header begins, after a mark that spreadsheets put at the beginning and comments, say.

    Raises:
        DataError: that reader and this one do not see the same rows, so that a wrong cell could be changed.
    """
    start = start or int(text.startswith("\ufeff"))
    rows = list(records(text, delimiter, start))[1:]
    values = [row[column].value if column < len(row) else "" for row in rows]
    if len(values) != len(expected) or any(a.strip() != b.strip() for a, b in zip(values, expected, strict=True)):
        raise DataError(
            f"the rows of the table cannot be told apart safely ({len(values)} here, {len(expected)} as it was read); "
            "save it as plain CSV in UTF-8, without lines that end in the middle"
        )
    pieces, last = [], 0
    for i in sorted(new):
        if column >= len(rows[i]):
            raise DataError(f"row {i + 2} of the table has no cell to change in column {column + 1}; complete it")
        cell = rows[i][column]
        pieces += [text[last : cell.start], _written(new[i], delimiter)]
        last = cell.end
    return "".join([*pieces, text[last:]])


def _written(value: str, delimiter: str) -> str:
    if any(c in value for c in (delimiter, _QUOTE, "\n", "\r", *("\t" if delimiter == BLANKS else ""))):
        return _QUOTE + value.replace(_QUOTE, _QUOTE * 2) + _QUOTE
    return value
