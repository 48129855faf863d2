"""The labelled table: which pictures there are and what each one is labelled with.

Reading (csv, DataFrame, folder) is apart from encoding (classes and targets). Classes always come
from **all** rows, sorted, so that they do not depend on the split.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from onecycle.errors import ArgumentError, DataError, LabelError
from onecycle.text import shown

Label = str | int
"""A class name; whole numbers stay numbers, as in the user's table."""

_SUFFIXES = "bmp gif jfif jpe jpeg jpg pbm pgm png pnm ppm tga tif tiff webp avif jp2"
IMAGE_SUFFIXES = frozenset(f".{s}" for s in _SUFFIXES.split())


class DatasetType(Enum):
    """Which part of the data a call is about. ``Fix`` is the training part, in order, not augmented."""

    Train = 1
    Valid = 2
    Test = 3
    Single = 4
    Fix = 5


@dataclass(frozen=True)
class Category:
    """One class label: ``str()`` and ``repr()`` are its name, ``int()`` its index."""

    data: int
    obj: Label

    def __str__(self) -> str:
        return str(self.obj)

    __repr__ = __str__

    def __int__(self) -> int:
        return self.data


@dataclass(frozen=True)
class MultiCategory:
    """The tags of one picture: ``str()`` joins their names with ``;``, ``data`` is 0/1 per class."""

    data: tuple[int, ...]
    obj: tuple[Label, ...]

    def __str__(self) -> str:
        return ";".join(str(o) for o in self.obj)

    __repr__ = __str__


@dataclass(frozen=True)
class EmptyLabel:
    """The label of a picture whose truth is not known (a test set)."""

    data: int = 0
    obj: str = ""

    def __str__(self) -> str:
        return ""

    __repr__ = __str__


LabelObject = Category | MultiCategory | EmptyLabel


@dataclass(frozen=True)
class Source:
    """Where rows came from, for messages: a table's name and the number that its first row carries."""

    name: str = "the labels"
    first_row: int = 0

    def __str__(self) -> str:
        return self.name

    def rows(self, positions: Sequence[int]) -> str:
        """Name the rows at these positions as the user sees them, the first ones in full, the rest counted."""
        text = shown([p + self.first_row for p in positions])
        return f"{text} (row 1 is the header)" if self.first_row == 2 else text


@dataclass(frozen=True)
class Labels:
    """Encoded labels of N pictures.

    Attributes:
        classes: sorted class names, length C.
        targets: int64 ``(N,)`` class indices, or float32 ``(N, C)`` 0/1 when ``is_multi``.
        is_multi: whether a picture can have several labels.
    """

    classes: list[Label]
    targets: np.ndarray
    is_multi: bool

    def __len__(self) -> int:
        return len(self.targets)

    def label(self, index: int) -> Category | MultiCategory:
        """Return the label of picture ``index`` as an object that prints as its name."""
        if not self.is_multi:
            target = int(self.targets[index])
            return Category(target, self.classes[target])
        row = self.targets[index]
        names = tuple(self.classes[i] for i in np.flatnonzero(row))
        return MultiCategory(tuple(int(v) for v in row), names)

    def counts(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Count how often each class occurs, int64 ``(C,)``, over all pictures or the given ``rows``."""
        targets = self.targets if rows is None else self.targets[rows]
        if self.is_multi:
            return np.asarray(targets.sum(axis=0), dtype=np.int64)
        return np.bincount(targets, minlength=len(self.classes)).astype(np.int64)


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
    found = [_FLAGS.get(str(cell).strip().lower()) for cell in cells]
    odd = [i for i, flag in enumerate(found) if flag is None]
    if odd:
        raise LabelError(
            f"{source}: column {cells.name!r} must hold True/False or 1/0, but row {source.rows(odd)} does not "
            f"(first: {cells.iloc[odd[0]]!r})"
        )
    return np.array(found, dtype=bool)


def file_names(df: pd.DataFrame, fn_col: int | str, *, source: Source, suffix: str = "") -> list[str]:
    """Return the picture names of a table with ``suffix`` added.

    Raises:
        DataError: an empty table, or rows without a file name (each row named).
    """
    if len(df) == 0:
        raise DataError(f"{source} has no rows, so there is nothing to train on")
    cells = column(df, fn_col, source=source)
    missing = np.flatnonzero(cells.isna().to_numpy())
    if len(missing):
        rows = source.rows(missing.tolist())
        raise DataError(f"{source}: no file name in column {cells.name!r} at row {rows}; fill or remove these rows")
    return [f"{cell}{suffix}" for cell in cells]


def picture_path(folder: Path, name: str) -> str:
    """Return where a picture of a table is: below ``folder``, or at its name where that is a whole path."""
    return name if os.path.isabs(name) else f"{folder.as_posix()}/{name}"


def list_images(folder: Path, *, recurse: bool = True, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> list[Path]:
    """List the pictures under ``folder``, sorted by path, hidden files and folders left out.

    Raises:
        DataError: the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"expected a folder of pictures at {folder}, but there is no such folder")
    wanted = {s.lower() for s in suffixes}
    found = folder.rglob("*") if recurse else folder.iterdir()
    return sorted(
        p
        for p in found
        if p.suffix.lower() in wanted and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )


def pictures_of_classes(
    path: Path, train: str, valid: str, test: str | None, valid_pct: float | None, classes: Sequence[Label] | None
) -> list[Path]:
    """List the pictures of a folder data set, ``<part>/<class>/…``; see ``ImageDataBunch.from_folder``."""
    if valid_pct is None:
        roots = [path / train, path / valid]
        missing = [str(r) for r in roots if not r.is_dir()]
        if missing:
            raise DataError(
                f"expected the folders {path}/{train} and {path}/{valid}, but there is no {' or '.join(missing)}; "
                "pass train= and valid=, or valid_pct=0.2 to split all pictures at random"
            )
    else:
        roots = [path]
    found = [p for root in roots for p in list_images(root)]
    if test is not None:
        found = [p for p in found if path / test not in p.parents]
    wanted = None if classes is None else {str(c) for c in classes}
    return [p for p in found if wanted is None or p.parent.name in wanted]


def get_image_files(c: str | Path, check_ext: bool = True, recurse: bool = False) -> list[Path]:
    """Return the pictures in folder ``c``, sorted (v1's name and arguments).

    Args:
        c: the folder.
        check_ext: keep only names with a picture's suffix.
        recurse: look into subfolders too.
    """
    if check_ext:
        return list_images(Path(c), recurse=recurse)
    found = Path(c).rglob("*") if recurse else Path(c).iterdir()
    return sorted(p for p in found if p.is_file() and not p.name.startswith("."))


def labels_from_pattern(paths: Sequence[str], pattern: str | re.Pattern[str], *, full_path: bool = True) -> list[str]:
    """Return group 1 of ``pattern`` searched in each posix path (or file name).

    Raises:
        LabelError: a name that the pattern does not match.
        ArgumentError: a pattern that is not valid or has no group.
    """
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise ArgumentError(f"the pattern {pattern!r} is not a valid regular expression: {error}") from error
    if regex.groups < 1:
        raise ArgumentError(f"the pattern {regex.pattern!r} has no group; put the label part in parentheses")

    def find(path: str) -> str:
        text = Path(path).as_posix() if full_path else Path(path).name
        match = regex.search(text)
        if match is None or match.group(1) is None:
            raise LabelError(f'Failed to find "{regex.pattern}" in "{text}": every name must match the pattern')
        return match.group(1)

    return [find(p) for p in paths]


def plain_label(value: object, *, source: Source, position: int) -> Label:
    """Return ``value`` as a class name: text, or a whole number."""
    if isinstance(value, str):
        return value.strip()  # blanks around a name are never meant, and would make a class of their own
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return int(value)
    raise LabelError(
        f"a label must be text or a whole number, but {source} row {source.rows([position])} has {value!r} "
        f"({type(value).__name__}); "
        "regression is not supported: turn the numbers into classes first"
    )


def _is_missing(value: object) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _check_no_missing(labels: Sequence[object], source: Source) -> None:
    missing = [i for i, v in enumerate(labels) if _is_missing(v)]
    if missing:
        raise LabelError(f"{source}: no label at row {source.rows(missing)}; fill these cells or leave the rows out")


def encode_single(labels: Sequence[object], *, source: Source, classes: Sequence[Label] | None = None) -> Labels:
    """Encode one label a picture; ``classes`` fixes the list and its order, else all labels, sorted.

    Raises:
        LabelError: a missing label, a label that is not in ``classes``, or text mixed with numbers.
    """
    _check_no_missing(labels, source)
    names = [plain_label(v, source=source, position=i) for i, v in enumerate(labels)]
    known = list(classes) if classes is not None else _sorted_classes(names, source)
    index = {c: i for i, c in enumerate(known)}
    _check_known(set(names), index, source)
    return Labels(known, np.array([index[n] for n in names], dtype=np.int64), is_multi=False)


def encode_multi(
    labels: Sequence[object], *, source: Source, label_delim: str | None = None, classes: Sequence[Label] | None = None
) -> Labels:
    """Encode several labels a picture, given as text split at ``label_delim`` or as sequences.

    An empty cell is a picture without any tag.

    Raises:
        LabelError: a tag that is not in ``classes``.
    """
    tags = [_tags_of(v, label_delim, source, i) for i, v in enumerate(labels)]
    known = list(classes) if classes is not None else _sorted_classes([t for row in tags for t in row], source)
    index = {c: i for i, c in enumerate(known)}
    _check_known({t for row in tags for t in row}, index, source)
    targets = np.zeros((len(tags), len(known)), dtype=np.float32)
    for i, row in enumerate(tags):
        targets[i, [index[t] for t in row]] = 1.0
    return Labels(known, targets, is_multi=True)


def _tags_of(value: object, label_delim: str | None, source: Source, i: int) -> list[Label]:
    if _is_missing(value):
        return []
    if isinstance(value, str) or not isinstance(value, Iterable):
        return split_tags(str(value), label_delim) if label_delim else [plain_label(value, source=source, position=i)]
    return [plain_label(v, source=source, position=i) for v in value]


def split_tags(cell: str, label_delim: str) -> list[Label]:
    """Split one cell at the delimiter; surrounding blanks and empty tags are left out."""
    return [t for t in (part.strip() for part in cell.split(label_delim)) if t]


def _sorted_classes(names: Sequence[Label], source: Source) -> list[Label]:
    unique = set(names)
    kinds = {type(n) for n in unique}
    if len(kinds) > 1:
        numbers = [n for n in unique if isinstance(n, int)][:3]
        texts = [n for n in unique if isinstance(n, str)][:3]
        raise LabelError(
            f"{source}: labels mix numbers ({numbers}) and text ({texts}); make them all text or all numbers"
        )
    if not unique:
        raise LabelError(f"{source}: there is not a single label")
    return sorted(unique)


def _check_known(names: set[Label], index: dict[Label, int], source: Source) -> None:
    unknown = sorted(str(n) for n in names if n not in index)
    if unknown:
        raise LabelError(f"{source}: labels that are not in classes=: {shown(unknown)}; add them to classes")


@dataclass(frozen=True)
class TagListFinding:
    """Evidence that single labels are really lists of tags."""

    delimiter: str
    n_strings: int
    n_tags: int
    n_once: int

    def message(self) -> str:
        """Say what was seen and which argument to pass."""
        return (
            f"the labels look like lists of tags: {self.n_strings} different label strings are made of "
            f"{self.n_tags} tags separated by {self.delimiter!r}, and {self.n_once} of the strings occur once. "
            f"Training goes on as asked, with {self.n_strings} classes; to train on the {self.n_tags} tags, "
            f"pass label_delim={self.delimiter!r} (--label-delim)"
        )


def find_tag_lists(labels: Iterable[object]) -> TagListFinding | None:
    """Look for labels such as ``"clear primary road"``: many strings made of few, often repeated parts.

    Returns the finding for the delimiter with the fewest tags, or None when labels look atomic.
    """
    counts = Counter(v for v in labels if isinstance(v, str))
    findings = [f for d in (" ", ";", ",", "|") if (f := _tag_lists_by(counts, d)) is not None]
    return min(findings, key=lambda f: f.n_tags, default=None)


def _tag_lists_by(counts: Counter[str], delimiter: str) -> TagListFinding | None:
    rows = [split_tags(label, delimiter) for label in counts]
    compound = sum(len(tags) > 1 for tags in rows)
    tags = {t for row in rows for t in row}
    # Ten strings of which most are compound, from at most half as many parts: names of several words fail this,
    # since their words are mostly their own ("golden retriever", "great pyrenees").
    if len(counts) < 10 or compound < 0.6 * len(counts) or len(tags) > 0.5 * len(counts):
        return None
    return TagListFinding(delimiter, len(counts), len(tags), sum(n == 1 for n in counts.values()))
