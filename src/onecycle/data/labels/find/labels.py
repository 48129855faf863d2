"""The labels of a table, found by looking: their column, or several of 0/1, and what stands between tags."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from onecycle.data.labels.items import Source, are_decimals, cell_text, is_missing, numbers_of, plain_text, split_tags
from onecycle.data.labels.read import YES_NO, are_flag_cells, columns, flags
from onecycle.data.labels.tag_lists import TAG_DELIMITERS, are_words, find_tag_lists
from onecycle.errors import ArgumentError, DataWarning, LabelError, warn
from onecycle.text import plural, shown

_LABEL_NAMES = {"label", "labels", "tag", "tags", "class", "classes", "category", "categories", "target", "targets"}
GROUP_NAMES = {"group", "site", "patient", "subject", "scene", "flight", "location", "camera", "case", "slide", "study"}
"""Names of columns that say what belongs together, and so are no labels."""

_GROUPS_BY_ID = {"lesion", "wsi", "animal", "individual", "person", "plot", "video", "sequence", "session", "user"}
"""Names that say it only with a word such as id: without one they may be labels."""

_ID_WORDS = {"id", "ids", "uid", "no", "nr", "number", "code", "key", "name", "index", "idx"}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def is_group_name(column: str) -> bool:
    """Say whether a column's name is that of groups: ``site``, ``Patient_ID``, ``lesion id``."""
    words = [word.lower() for word in _WORDS.findall(column)]
    plain = [word for word in words if word not in _ID_WORDS]
    return len(plain) == 1 and plain[0] in (GROUP_NAMES | _GROUPS_BY_ID if len(plain) < len(words) else GROUP_NAMES)


_BRACKETS = re.compile(r"\s*(?:\[.*\]|\{.*\}|\(.*\))\s*", re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d*\.?\d+")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_LARGEST_SHARE = 0.5
"""A column with more different values than this share of the rows does not appear to hold classes."""


@dataclass(frozen=True)
class LabelColumns:
    """Where the labels of a table are."""

    col: str  # name; of several columns of 0/1 ``"a,b,c"``
    delim: str | None  # splits a cell into tags; None takes a cell as one label
    why: str


def find_labels(
    frame: pd.DataFrame,
    taken: set[str | None],
    source: Source,
    label_col: int | str | None = None,
    label_delim: str | None = None,
    *,
    join_rows: bool = False,
) -> LabelColumns:
    """Find the labels; what was asked for is taken.

    Args:
        frame: the table.
        taken: names of columns that hold something else.
        source: what to call the table.
        label_col: column by name or position, several names with commas between them; None to look.
        label_delim: as in ``LabelColumns``; None to look, "" for one label a picture.
        join_rows: whether each row has one tag of its picture, so that nothing is looked for in its cells.

    Raises:
        ArgumentError: no such column, several that could hold the labels, or cells that can be read in two ways.
        LabelError: a column of measures.
    """
    if label_col is not None:
        names, why = [str(c.name) for c in columns(frame, label_col, source=source)], "as asked"
    else:
        names, why = _find_columns(frame, taken, source)
    col = ",".join(names)
    if len(names) > 1:
        why = f"columns {shown(names, most=6)} ({why}): {len(names)} tags, 0/1 in a column each"
        return LabelColumns(col, None, why)
    asked = "" if join_rows and label_delim is None else label_delim
    delim, why_delim = _find_delim(frame[names[0]], asked, f"{source}, column {col}")
    if join_rows and delim is None:
        why_delim = "a tag a row, the rows of a picture joined (as asked)"
    return LabelColumns(col, delim, f"column {col} ({why}), {why_delim}")


def _find_columns(frame: pd.DataFrame, taken: set[str | None], source: Source) -> tuple[list[str], str]:
    rest = [str(c) for c in frame.columns if str(c) not in taken]
    if not rest:
        raise ArgumentError(f"{source} has no column beside the file names, so there are no labels")
    by_name = [c for c in rest if is_label_name(c)]
    if len(by_name) == 1:
        return by_name, "by its name"
    if len(rest) == 1:
        return rest, "the only one left" if len(frame.columns) == 2 else "the only one that is nothing else"
    likely = [c for c in by_name or rest if holds_classes(frame[c])]
    likely = [c for c in likely if not is_group_name(c)] or likely
    zero_one = [c for c in by_name or rest if are_flag_cells(frame[c]) and "," not in c]
    if len(zero_one) > 1 and set(likely) <= set(zero_one):
        return _of_flags(frame, zero_one, source)
    nearly = _nearly_flags(frame, [c for c in rest if c not in likely])
    if len(likely) == 1 and (by_name or not nearly):
        return likely, "the only one whose values repeat as classes do"
    listed = "; ".join(f"{c} ({frame[c].nunique()} different, e.g. {short(frame[c].iloc[0])})" for c in rest[:8])
    tags = f"; --label-col {','.join(zero_one)} reads these columns of 0/1 as tags" if len(zero_one) > 1 else ""
    tags = tags or _nearly_flags(frame, rest)
    raise ArgumentError(
        f"{source} has several columns that could hold the labels: {listed}; choose one with --label-col{tags}"
    )


def _nearly_flags(frame: pd.DataFrame, names: list[str]) -> str:
    """Say what to write where columns may be tags, one a column, but hold marks, empty cells or other numbers."""
    odd = {}
    for name in names:
        cells = frame[name]
        known = {cell_text(cell).strip() for cell in cells if not is_missing(cell)}
        marks = len(known) == 1 and cells.isna().any()
        numbers = len(known) > 1 and all(map(_NUMBER.fullmatch, known)) and min(map(float, known)) < 1
        if marks or (numbers and not _holds_ids(cells)):
            odd[name] = next((text for text in sorted(known) if text.lower() not in YES_NO), "an empty cell")
    if len(odd) < 2:
        return ""
    cell = next(iter(odd.values()))
    return f"; if {shown(list(odd), most=5)} are tags, one a column, write 0 or 1 into each of their cells (not {cell})"


def _holds_ids(cells: pd.Series[Any]) -> bool:
    """Say whether each cell of a column is another one."""
    return bool(cells.nunique() == len(cells))


def _of_flags(frame: pd.DataFrame, names: list[str], source: Source) -> tuple[list[str], str]:
    """Take columns of 0/1 as tags: three or more, or two of which each row has one.

    Raises:
        ArgumentError: two columns that may be two questions.
    """
    ones = np.stack([flags(frame[c], source=source) for c in names], axis=1)
    each_one, option = bool((ones.sum(axis=1) == 1).all()), f"--label-col {','.join(names)}"
    if len(names) == 2 and not each_one:
        raise ArgumentError(
            f"{source}: columns {names[0]} and {names[1]} are 0/1, two tags or two questions: {option} reads both as "
            f"tags, --label-col {names[0]} that one alone"
        )
    what = ", of which each row has one: a single column with their names would train classes" if each_one else ""
    warn(
        f"{source}: {len(names)} columns of 0/1 are read as tags, one a column ({shown(names, most=6)}){what}; "
        f"{option} says so, --label-col {names[0]} takes one alone",
        DataWarning,
    )
    return names, "all 0/1"


def flags_beside(frame: pd.DataFrame, name: str) -> str | None:
    """Say that a column is one of several of 0/1, where its name is none of labels; None where it is not."""
    zero_one = [str(c) for c in frame.columns if are_flag_cells(frame[c])]
    if name not in zero_one or len(zero_one) < 2 or is_label_name(name):
        return None
    others = shown([repr(c) for c in zero_one if c != name], most=5)
    return (
        f"the labels are column {name!r} alone, which is 0/1 as {others} are; if these are tags, "
        f"label_col={','.join(zero_one)!r} reads them all"
    )


def are_in_brackets(cells: Sequence[object]) -> bool:
    """Say whether each cell that is not empty is a list in brackets, such as ``['a', 'b']``."""
    known = [cell for cell in cells if not is_missing(cell)]
    return bool(known) and all(isinstance(cell, str) and _BRACKETS.fullmatch(cell) for cell in known)


def is_label_name(col: str) -> bool:
    """Say whether a column is named as one with labels."""
    return col.strip().lower() in _LABEL_NAMES


def holds_classes(cells: pd.Series[Any]) -> bool:
    """Say whether the values of a column repeat as classes do, or are lists of tags."""
    known = cells.dropna()
    if are_decimals(list(known)):
        return False
    return 1 < known.nunique() <= max(2, _LARGEST_SHARE * len(known)) or find_tag_lists(known) is not None


def _find_delim(cells: pd.Series[Any], asked: str | None, where: str) -> tuple[str | None, str]:
    known = [v for v in cells if not is_missing(v)]
    if asked is None and any(isinstance(v, float) and not v.is_integer() for v in numbers_of(known)):
        raise LabelError(
            f"{where} holds numbers that are not whole, such as {cell_text(known[0])}: regression is not supported; "
            "turn them into classes first, or choose another column with --label-col"
        )
    commas = [v for v in known if isinstance(v, str) and _DECIMAL_COMMA.fullmatch(v.strip())]
    if asked is None and len(commas) == len(known) and len(set(commas)) > max(10, len(known) / 2):
        raise LabelError(
            f"{where} holds numbers that are not whole, such as {short(known[0])}: regression is not supported; turn "
            "them into classes first, or choose another column with --label-col; if these are two tags each, "
            "--label-delim , reads them"
        )
    if asked is None and are_in_brackets(known):
        raise ArgumentError(
            f"{where}: its cells are lists in brackets, such as {short(known[0])}: write tags with a delimiter alone, "
            "a;b; or --label-delim '' takes each cell as one label"
        )
    lists = [v for v in known if isinstance(v, tuple)]
    if lists:
        return None, f"several tags a picture, in lists: {len({tag for tags in lists for tag in tags})} tags"
    strings = Counter(map(plain_text, numbers_of(known) if asked is None else known))
    tag_lists = find_tag_lists(strings.elements()) if asked is None else None
    delim = tag_lists.delimiter if tag_lists is not None else _delim_of_few(strings) if asked is None else asked
    why = "" if asked is None else " (as asked)"
    if not delim:
        return None, f"one label a picture{why}: {plural(len(strings), 'class', 'classes')}"
    n = len({t for text in strings for t in split_tags(text, delim)})
    if asked is None:
        _check_no_names(list(strings), delim, n, where)
    made_of = f"{len(strings)} different cells are made of {n} tags (--label-delim '' for one label a picture)"
    return delim, f"several tags a picture, separated by {delim!r}{why}: {made_of if asked is None else f'{n} tags'}"


def _check_no_names(strings: Sequence[str], delim: str, n_tags: int, where: str) -> None:
    """Ask where each cell has the same number of words: lists of tags hardly do, names such as ``red car`` do.

    Raises:
        ArgumentError: tags and names both fit.
    """
    widths = {len(split_tags(text, delim)) for text in strings}
    if delim not in ";|" and len(widths) == 1:
        raise ArgumentError(
            f"{where}: each label has {widths.pop()} words ({shown([repr(s) for s in strings], most=3)}): names of "
            f"classes, or tags? --label-delim '' reads {len(strings)} classes, --label-delim {delim!r} {n_tags} tags"
        )


def _delim_of_few(strings: Counter[str]) -> str | None:
    """Find tags where there are few different cells: every part of a compound cell occurs in another cell too."""
    for delim in TAG_DELIMITERS:
        rows = [split_tags(text, delim) for text in strings]
        compound = [row for row in rows if len(row) > 1]
        where = Counter(tag for row in rows for tag in set(row))
        often = all(where[tag] > 1 for row in compound for tag in row)
        fewer = len(where) < len(rows) or delim in ";|"
        if len(compound) >= max(2, len(rows) / 3) and often and fewer and are_words(where):
            return delim
    return None


def short(cell: object) -> str:
    """Return a cell for a message, its beginning where it is long."""
    text = cell_text(cell)
    return text if len(text) <= 40 else f"{text[:39]}…"
