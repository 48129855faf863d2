"""Labels that someone has looked at again: a table of changes, written by the label check and read back.

The table has one row a doubtful label, with the columns of ``COLUMNS``. A cell in ``new_label`` changes the label;
an empty one keeps it. With tags there is a column ``tag``, and labels are ``yes`` or ``no``.

Names that a spreadsheet may run as a formula stand there behind an apostrophe, see ``escaped_cell``; a table that was
written without it is read, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from onecycle.data.labels.items import Labels, Source
from onecycle.data.labels.read import read_text
from onecycle.errors import DataError, LabelError
from onecycle.files import is_formula, name_below, text_name, unescaped_cell
from onecycle.text import LabelWords, label_words, option, shown

FILE, TAG, GIVEN, SUGGESTED, SCORE, NEW = "file", "tag", "given", "suggested", "score", "new_label"
COLUMNS = (FILE, TAG, GIVEN, SUGGESTED, SCORE, NEW)

_SIDES = {"yes": 1, "no": 0, "true": 1, "false": 0, "1": 1, "0": 0}


@dataclass(frozen=True)
class _Change:
    """One cell of the table that says something: a label (class or 0/1) for the rows of a picture."""

    line: int
    file: str
    rows: list[int]
    c: int
    value: int


def relabelled(
    labels: Labels, paths: Sequence[str], root: Path, table: Path, *, delimiter: str = ","
) -> tuple[Labels, int]:
    """Apply a table of changes to the labels.

    A picture that is listed several times in the data gets the new label in all its rows.

    Args:
        labels: of N pictures; not changed.
        paths: of the N pictures.
        root: folder of the data set.
        table: the file.
        delimiter: between its cells.

    Returns:
        the new labels, and how many rows have another label than before.

    Raises:
        DataError: no such file, not such a table, or a picture that the data does not have; each row is named.
        LabelError: a label that is no class, two different labels for one picture, or a table made for other labels.
    """
    frame, source = _read(table, delimiter), Source(str(table), first_row=2)
    needed = [FILE, NEW, *([TAG] if labels.is_multi else [])]
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise DataError(
            f"{table} has no column {missing[0]!r}; its columns are {list(frame.columns)}. "
            f"It should be a table that LabelIssues.to_csv wrote; is the delimiter right ({option('delimiter', ';')})?"
        )
    filled = frame[frame[NEW].str.strip() != ""]
    rows_by_file: dict[str, list[int]] = defaultdict(list)
    for row, path in enumerate(paths):
        for name in {name_below(path, root), text_name(path, root)}:
            rows_by_file[name].append(row)
    filled = _unescaped(filled, rows_by_file, labels, is_raw=_is_raw(frame))
    changes = _changes(filled, labels, rows_by_file, source)
    _check_agree(changes, labels, source)
    _check_given(filled, changes, labels, source)
    targets = labels.targets.copy()
    for change in changes:
        if labels.is_multi:
            targets[change.rows, change.c] = change.value
        else:
            targets[change.rows] = change.c
    differs = targets != labels.targets
    return replace(labels, targets=targets), int((differs.any(axis=1) if labels.is_multi else differs).sum())


def with_new_classes(labels: Labels, table: Path, *, delimiter: str = ",") -> Labels:
    """Return the same labels with the classes that a table of changes names and no picture has yet, behind the others.

    Args:
        labels: not changed.
        table: the file.
        delimiter: between its cells.
    """
    frame = _read(table, delimiter)
    named = frame.get(TAG if labels.is_multi else NEW, pd.Series(dtype=str)).str.strip()
    known, is_raw = {str(c) for c in labels.classes}, _is_raw(frame)
    meant = (_meant(name, known, is_raw=is_raw) for name in dict.fromkeys(named))
    new = [name for name in dict.fromkeys(meant) if name and name not in known]
    targets = np.pad(labels.targets, ((0, 0), (0, len(new)))) if labels.is_multi else labels.targets
    return replace(labels, classes=[*labels.classes, *new], targets=targets)


def _read(table: Path, delimiter: str) -> pd.DataFrame:
    if not table.is_file():
        raise DataError(f"expected a table of new labels at {table}, but there is no such file")
    try:
        text = read_text(table, delimiter)  # past the mark, the line sep= and the comments of spreadsheets
        frame = pd.read_csv(StringIO(text.text[text.start :]), sep=delimiter, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{table} could not be read as a table ({error}); save it as CSV in UTF-8") from error
    return frame.fillna("")


def _is_raw(frame: pd.DataFrame) -> bool:
    """Tell whether a table was written without apostrophes: a cell that nobody edits begins as a formula does."""
    written = [cell for name in (FILE, TAG, GIVEN, SUGGESTED) if name in frame for cell in frame[name]]
    return any(is_formula(cell) and not cell.startswith("'") for cell in written)


def _unescaped(filled: pd.DataFrame, files: Container[str], labels: Labels, *, is_raw: bool) -> pd.DataFrame:
    """Return the table with the names that the data have."""
    classes = {str(c) for c in labels.classes}
    known = {FILE: files, TAG: classes, **({} if labels.is_multi else {GIVEN: classes, NEW: classes})}
    return filled.assign(
        **{
            name: [_meant(cell.strip(), names, is_raw=is_raw) for cell in filled[name]]
            for name, names in known.items()
            if name in filled
        }
    )


def _meant(cell: str, known: Container[str], *, is_raw: bool) -> str:
    """Return the name that a cell stands for: without the apostrophe, unless only the name with it is known."""
    plain = unescaped_cell(cell)
    return cell if is_raw or (plain not in known and cell in known) else plain


def _changes(
    filled: pd.DataFrame, labels: Labels, rows_by_file: Mapping[str, list[int]], source: Source
) -> list[_Change]:
    """Read every filled cell; the first kind of mistake is reported with all its rows."""
    index = {str(name): c for c, name in enumerate(labels.classes)}
    files = [cell.strip() for cell in filled[FILE]]
    lines = filled.index.tolist()
    unknown = [line for line, file in zip(lines, files, strict=True) if file not in rows_by_file]
    if unknown:
        first = files[lines.index(unknown[0])]
        raise DataError(
            f"{source}: pictures that the data does not have, at row {source.rows(unknown)} (first: {first!r}); "
            "write them as to_csv did, below the folder of the data set"
        )
    names = filled[TAG if labels.is_multi else NEW]
    words = label_words(is_multi=labels.is_multi)
    classes = [_class_of(cell.strip(), index, line, source, words) for cell, line in zip(names, lines, strict=True)]
    values = [1] * len(lines)
    if labels.is_multi:
        values = [_side_of(cell.strip(), line, source) for cell, line in zip(filled[NEW], lines, strict=True)]
    return [
        _Change(line, file, rows_by_file[file], c, value)
        for line, file, c, value in zip(lines, files, classes, values, strict=True)
    ]


def _class_of(name: str, index: dict[str, int], line: int, source: Source, words: LabelWords) -> int:
    if name not in index:
        near = get_close_matches(name, index, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the {words.many} are {shown(list(index))}."
        raise LabelError(
            f"{source} row {source.rows([line])}: {name!r} is not one of the {len(index)} {words.many}; {hint} "
            f"A new {words.one} needs a new bunch, made from a table that has it: `onecycle relabel --new-classes` "
            "writes one"
        )
    return index[name]


def _side_of(cell: str, line: int, source: Source) -> int:
    side = _SIDES.get(cell.lower())
    if side is None:
        raise LabelError(f"{source} row {source.rows([line])}: {NEW} is yes or no for a tag; received {cell!r}")
    return side


def _check_agree(changes: Sequence[_Change], labels: Labels, source: Source) -> None:
    """Refuse two different labels for one picture (and tag)."""
    first: dict[tuple[str, int], _Change] = {}
    for change in changes:
        before = first.setdefault((change.file, change.c if labels.is_multi else -1), change)
        if (before.c, before.value) != (change.c, change.value):
            what = f" for {labels.classes[change.c]!r}" if labels.is_multi else ""
            raise LabelError(
                f"{source}: {change.file!r} gets two different labels{what}, at rows "
                f"{source.rows([before.line, change.line])}; keep one of them"
            )


def _check_given(filled: pd.DataFrame, changes: Sequence[_Change], labels: Labels, source: Source) -> None:
    """Refuse a table that was written for other labels than these, unless it asks for what is there already."""
    if GIVEN not in filled.columns:
        return
    for change, given in zip(changes, filled[GIVEN], strict=True):
        names = ("no", "yes") if labels.is_multi else labels.classes  # in the words of the table
        values = labels.targets[change.rows, change.c] if labels.is_multi else labels.targets[change.rows]
        now = {str(names[int(v)]) for v in values}
        wanted = str(names[change.value if labels.is_multi else change.c])
        if given.strip() and given.strip() not in now and now != {wanted}:
            raise LabelError(
                f"{source} row {source.rows([change.line])}: the table was written when the label of {change.file!r} "
                f"was {given.strip()!r}, and it is {shown(sorted(now))} now; check the labels again with "
                "learn.label_issues()"
            )
