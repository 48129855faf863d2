"""Changing single cells of a CSV text and nothing else: every other byte stays as its owner wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from onecycle.errors import DataError

_QUOTE = '"'


@dataclass(frozen=True)
class Cell:
    """One cell: where it begins and ends in the text, quotes included, and what it says."""

    start: int
    end: int
    value: str


def records(text: str, delimiter: str) -> Iterator[list[Cell]]:
    """Yield the cells of each record, the header first; blank lines are none, as for pandas.

    Args:
        text: a whole table.
        delimiter: one character.

    Source: RFC 4180; a quote within a cell that does not begin with one is an ordinary character.
    """
    cells: list[Cell] = []
    at = 0
    while at < len(text):
        cell = _cell(text, at, delimiter)
        cells.append(cell)
        at = cell.end
        if at < len(text) and text[at] == delimiter:
            at += 1
            if at == len(text):
                cells.append(Cell(at, at, ""))
            continue
        at += 2 if text.startswith("\r\n", at) else 1
        if len(cells) > 1 or cells[0].value.strip():
            yield cells
        cells = []
    if cells:
        yield cells


def with_cells(text: str, column: int, new: Mapping[int, str], *, delimiter: str, expected: Sequence[str]) -> str:
    """Return a table in which some cells of one column say something else.

    Args:
        text: the whole table; its first record is the header.
        column: position of the column.
        new: what a row says from now on, by the number of the row, from 0 after the header.
        delimiter: between cells.
        expected: what each row says now, as another reader of this table sees it.

    Raises:
        DataError: that reader and this one do not see the same rows, so that a wrong cell could be changed.
    """
    has_mark = text.startswith("\ufeff")  # a mark that spreadsheets put at the beginning; no part of the first name
    rows = list(records(text[1:] if has_mark else text, delimiter))[1:]
    seen = [row[column].value if column < len(row) else "" for row in rows]
    if len(seen) != len(expected) or any(a.strip() != b.strip() for a, b in zip(seen, expected, strict=True)):
        raise DataError(
            f"the rows of the table cannot be told apart safely ({len(seen)} here, {len(expected)} as it was read); "
            "save it as plain CSV in UTF-8, without comments or lines that end in the middle"
        )
    pieces, last = [], 0
    for i in sorted(new):
        if column >= len(rows[i]):
            raise DataError(f"row {i + 2} of the table has no cell to change in column {column + 1}; complete it")
        cell = rows[i][column]
        pieces += [text[last : cell.start + has_mark], _written(new[i], delimiter)]
        last = cell.end + has_mark
    return "".join([*pieces, text[last:]])


def _cell(text: str, start: int, delimiter: str) -> Cell:
    """Read the cell that begins at ``start``; it ends before a delimiter, an end of line or the end of the text."""
    at, value = start, ""
    if text.startswith(_QUOTE, start):
        at += 1
        while True:
            end = text.find(_QUOTE, at)
            if end < 0:
                return Cell(start, len(text), value + text[at:])
            value, at = value + text[at:end], end + 1
            if not text.startswith(_QUOTE, at):
                break
            value, at = value + _QUOTE, at + 1
    end = at
    while end < len(text) and text[end] not in (delimiter, "\n", "\r"):
        end += 1
    return Cell(start, end, value + text[at:end])


def _written(value: str, delimiter: str) -> str:
    if any(c in value for c in (delimiter, _QUOTE, "\n", "\r")):
        return _QUOTE + value.replace(_QUOTE, _QUOTE * 2) + _QUOTE
    return value
