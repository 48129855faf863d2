"""Labels as text and as class numbers, and the pictures in a folder; nothing here needs pandas.

Classes always come from **all** rows, sorted, so that they do not depend on the split.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from onecycle.data.labels.file_names import is_folder
from onecycle.errors import ArgumentError, DataError, LabelError
from onecycle.settings import MANIFEST, MODEL
from onecycle.text import label_words, shown

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


@dataclass(frozen=True, eq=False)
class FloatItem:
    """The number (or numbers) of one picture: regression."""

    data: np.ndarray  # float32, ``()`` or ``(k,)``

    @property
    def obj(self) -> np.ndarray:
        """The number itself, as ``data``."""
        return self.data

    def __float__(self) -> float:
        return float(self.data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FloatItem) and np.array_equal(self.data, other.data)

    def __hash__(self) -> int:
        return hash(np.asarray(self.data).tobytes())

    def __str__(self) -> str:
        return str(self.data)

    __repr__ = __str__


LabelObject = Category | MultiCategory | EmptyLabel | FloatItem


@dataclass(frozen=True)
class Source:
    """Where rows came from, for messages: a table's name and the number that its first row carries."""

    name: str = "the labels"
    first_row: int = 0
    title: str = ""  # a shorter name, for reports and for messages about data that a command was called with

    def __str__(self) -> str:
        return self.name

    def rows(self, positions: Sequence[int]) -> str:
        """Name the rows at these positions as the user sees them, the first ones in full, the rest counted."""
        text = shown([p + self.first_row for p in positions])
        return f"{text} (row 1 is the header)" if self.first_row == 2 else text


@dataclass(frozen=True)
class Labels:
    """Encoded labels of N pictures."""

    classes: list[Label]  # sorted names, length C; of numbers: those of their columns
    targets: np.ndarray  # int64 (N,) class indices, or float32 (N, C) 0/1 when is_multi; of numbers (N,) or (N, C)
    is_multi: bool  # whether a picture can have several labels
    is_regression: bool = False  # whether labels are numbers, which no class stands for

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def kind(self) -> str:
        """``class``, ``tags`` or ``numbers``."""
        return "numbers" if self.is_regression else "tags" if self.is_multi else "class"

    @property
    def word(self) -> str:
        """What one of ``classes`` is called."""
        return "number" if self.is_regression else label_words(is_multi=self.is_multi).one

    @property
    def words(self) -> str:
        """What ``classes`` are, in the plural."""
        return "numbers a picture" if self.is_regression else label_words(is_multi=self.is_multi).many

    def label(self, index: int) -> Category | MultiCategory | FloatItem:
        """Return the label of picture ``index`` as an object that prints as its name."""
        if self.is_regression:
            return FloatItem(self.targets[index])
        if not self.is_multi:
            target = int(self.targets[index])
            return Category(target, self.classes[target])
        row = self.targets[index]
        names = tuple(self.classes[i] for i in np.flatnonzero(row))
        return MultiCategory(tuple(int(v) for v in row), names)

    def counts(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Count how often each class occurs, int64 ``(C,)``, over all pictures or the given ``rows``.

        Raises:
            ArgumentError: the labels are numbers.
        """
        need_classes(self, "counting classes")
        targets = self.targets if rows is None else self.targets[rows]
        if self.is_multi:
            return np.asarray(targets.sum(axis=0), dtype=np.int64)
        return np.bincount(targets, minlength=len(self.classes)).astype(np.int64)


def need_classes(labels: Labels, what: str) -> None:
    """Refuse what is for classes and tags where the labels are numbers.

    Raises:
        ArgumentError: they are.
    """
    if labels.is_regression:
        raise ArgumentError(
            f"{what} is for classes or tags, and these labels are numbers (regression); the loss, the metrics of "
            "numbers, get_preds and predict work with them"
        )


def list_images(
    folder: Path, *, recurse: bool = True, suffixes: Iterable[str] = IMAGE_SUFFIXES, lost: list[str] | None = None
) -> list[Path]:
    """List the pictures under ``folder``, sorted by path; hidden files and folders and exported models are left out.

    Links to folders are followed, but not back into a folder that they are in.

    Args:
        folder: where to look.
        recurse: look into the folders below, too.
        suffixes: of pictures.
        lost: gets the links that lead nowhere, or back.

    Raises:
        DataError: the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"expected a folder of pictures at {folder}, but there is no such folder")
    wanted = {s.lower() for s in suffixes}
    files = _files_below(str(folder), (), [] if lost is None else lost, recurse=recurse)
    return sorted(p for p in map(Path, files) if p.suffix.lower() in wanted)


def _files_below(folder: str, above: tuple[str, ...], lost: list[str], *, recurse: bool) -> Iterator[str]:
    above = (*above, os.path.realpath(folder))
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    if len(above) > 1 and {MANIFEST, MODEL} <= {entry.name for entry in visible}:
        return  # learn.export() writes beside the pictures, and puts three of them into it
    for entry in visible:
        if not is_folder(entry):
            is_picture = os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES  # which is missed as a file
            if entry.is_symlink() and not is_picture and not os.path.exists(entry.path):
                lost.append(entry.path)
            yield entry.path
        elif recurse and entry.is_symlink() and os.path.realpath(entry.path) in above:
            lost.append(entry.path)
        elif recurse:
            yield from _files_below(entry.path, above, lost, recurse=True)


def is_picture_name(path: Path) -> bool:
    """Say whether a name ends as those of pictures do, hidden ones left out."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def other_files(folder: Path) -> str:
    """Say which files lie below a folder in which no picture was found; a sentence after its colon, ``""`` for none."""
    names = (p.suffix.lower() or "no suffix" for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    kinds = [f"{n:,} {kind}" for kind, n in Counter(names).most_common(3)]
    advice = "they are not read; convert them to JPEG or PNG if they are pictures"
    return f"; there are files of other kinds ({', '.join(kinds)}): {advice}" if kinds else ""


def get_image_files(c: str | Path, check_ext: bool = True, recurse: bool = False) -> list[Path]:
    """Return the pictures in folder ``c``, sorted (v1's name and arguments).

    Args:
        c: the folder.
        check_ext: keep only names with a picture's suffix.
        recurse: look into subfolders too.
    """
    if check_ext:
        return list_images(Path(c), recurse=recurse)
    files = Path(c).rglob("*") if recurse else Path(c).iterdir()
    return sorted(p for p in files if p.is_file() and not p.name.startswith("."))


def labels_from_pattern(paths: Sequence[str], pattern: str | re.Pattern[str]) -> list[str]:
    """Return group 1 of ``pattern`` searched in each posix path.

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

    def label_of(path: str) -> str:
        text = Path(path).as_posix()
        match = regex.search(text)
        if match is None or match.group(1) is None:
            raise LabelError(f'Failed to find "{regex.pattern}" in "{text}": every name must match the pattern')
        return match.group(1)

    return [label_of(p) for p in paths]


def cell_text(value: object) -> str:
    """Return a cell as text; whole numbers have no point, though a table with gaps made them floats."""
    return str(int(value)) if isinstance(value, (float, np.floating)) and float(value).is_integer() else str(value)


def plain_text(value: object) -> str:
    """Return a label as text: one, however Unicode writes its accents (NFC) and blanks; those around it go."""
    return unicodedata.normalize("NFC", cell_text(value)).replace("\u00a0", " ").strip()


def plain_id(value: object) -> str:
    """Return the id of a group as text, its letters and blanks the plain ones (NFKC)."""
    return unicodedata.normalize("NFKC", cell_text(value)).strip()


def alike_ids(ids: Iterable[str]) -> list[list[str]]:
    """Return those ids that differ in case, leading zeros or what stands between letters and numbers alone, in sets."""
    sets: dict[tuple[str, ...], set[str]] = {}
    for name in set(ids):
        words = re.findall(r"[^\W\d_]+|\d+", name.casefold().removesuffix(".0"))
        sets.setdefault(tuple(word.lstrip("0") or word[:1] for word in words) or (name,), set()).add(name)
    return sorted(sorted(names) for names in sets.values() if len(names) > 1)


_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.0)?")  # longer ones are ids, which no number stands for
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def whole_number(text: str) -> str:
    """Return ``3.0`` as ``3``, as a number that went through a table with gaps; all other texts as they are."""
    return text.removesuffix(".0") if _WHOLE.fullmatch(text) else text


_MOST_DECIMALS = 20
"""More different numbers that are not whole are no classes: a measure."""


def are_decimals(cells: Sequence[object]) -> bool:
    """Say whether cells are numbers of which some are not whole: a measure, as it seems."""
    texts = [cell_text(cell).strip() for cell in cells]
    return all(map(_DECIMAL.fullmatch, texts)) and not all(map(_WHOLE.fullmatch, texts))


def numbers_of(cells: Sequence[object]) -> Sequence[object]:
    """Return the label cells of a text table as numbers where all are whole, as ``3`` or ``3.0``, or are a measure.

    A few decimals stay text, as any label: of ``1.1``, ``1.10`` and ``4e00`` no two are one class.
    """
    texts = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    if not texts or any(not is_missing(cell) and not isinstance(cell, str) for cell in cells):
        return cells
    if all(map(_WHOLE.fullmatch, texts)):
        return [cell if is_missing(cell) else int(whole_number(str(cell).strip())) for cell in cells]
    if len(set(texts)) > max(10, min(_MOST_DECIMALS, len(texts) / 2)) and all(map(_DECIMAL.fullmatch, texts)):
        return [cell if is_missing(cell) else float(str(cell)) for cell in cells]  # which no class can be
    return cells


def plain_label(value: object, *, source: Source, position: int) -> Label:
    """Return ``value`` as a class name: text, or a whole number."""
    if isinstance(value, str):
        return plain_text(value)  # blanks around a name are never meant, and would make a class of their own
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return int(value)
    raise LabelError(
        f"a label must be text or a whole number, but {source} row {source.rows([position])} has {value!r} "
        f"({type(value).__name__}); for regression in Python pass label_cls=FloatList (label_from_df), or turn the "
        "numbers into classes first"
    )


def is_missing(value: object) -> bool:
    """Say whether a cell is empty: blank text, None, NaN or pandas' NA."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and np.isnan(value))


def is_sequence(value: object) -> bool:
    """Say whether a label is a sequence of tags."""
    return isinstance(value, (list, tuple, set, np.ndarray))


def are_flags(labels: Any) -> bool:
    """Say whether labels are vectors of 0/1, one number a class, and no lists of tags."""
    rows = [np.asarray(row) for row in labels if is_sequence(row) and not isinstance(row, set)]
    if not rows or len(rows) < len(labels) or len({row.shape for row in rows}) != 1:
        return False
    least = 1 if isinstance(labels, np.ndarray) else 2
    return rows[0].size >= least and all(row.dtype.kind in "biuf" and np.isin(row, (0, 1)).all() for row in rows)


def flagged(labels: Any, classes: Sequence[Label] | None) -> list[list[Label]]:
    """Return the tags of vectors of 0/1.

    Raises:
        LabelError: not one class for each number of a vector.
    """
    rows = np.asarray(labels)
    if classes is None or rows.ndim != 2 or rows.shape[1] != len(classes):
        received = "no classes" if classes is None else f"{len(classes)} classes"
        raise LabelError(
            f"the labels are vectors of {rows[0].size} numbers 0/1; pass classes=[…] with a name for each, in their "
            f"order, or each picture's tags by name; received {received}"
        )
    return [[classes[int(i)] for i in np.flatnonzero(row)] for row in rows]


def text_tags(value: object, label_delim: str | None, *, is_multi: bool) -> tuple[str, ...] | None:
    """Return the labels of one cell as text, whatever it holds; None where a single label is missing."""
    if is_missing(value):
        return () if is_multi else None
    if is_sequence(value):
        return tuple(plain_text(v) for v in value)  # type: ignore[attr-defined]
    if label_delim is not None:
        return tuple(str(tag) for tag in split_tags(str(value), label_delim))
    return (plain_text(value),)


def encode_single(labels: Sequence[object], *, source: Source, classes: Sequence[Label] | None = None) -> Labels:
    """Encode one label a picture; ``classes`` fixes the list and its order, else all labels, sorted.

    Raises:
        LabelError: a missing label, a label that is not in ``classes``, or text mixed with numbers.
    """
    missing = [i for i, v in enumerate(labels) if is_missing(v)]
    if missing:
        raise LabelError(f"{source}: no label at row {source.rows(missing)}; fill these cells or leave the rows out")
    names = [plain_label(v, source=source, position=i) for i, v in enumerate(labels)]
    known = list(classes) if classes is not None else _sorted_classes(names, source)
    index = {plain_text(c) if isinstance(c, str) else c: i for i, c in enumerate(known)}
    _check_known(set(names), index, source)
    return Labels(known, np.array([index[n] for n in names], dtype=np.int64), is_multi=False)


def encode_numbers(labels: Sequence[object], *, source: Source, log: bool = False) -> Labels:
    """Take labels as numbers: one a picture, or a row of as many for each.

    Args:
        labels: numbers, texts of numbers, or sequences of them.
        source: where they are from.
        log: take the logarithm of each.

    Raises:
        LabelError: a label that is no finite number, or rows of several lengths.
    """
    try:
        values = np.array([np.asarray(label, dtype=np.float64) for label in labels])
    except (TypeError, ValueError, OverflowError) as error:
        raise LabelError(f"{source}: label_cls=FloatList takes a number a picture: {error}") from error
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.log(values) if log else values
    odd = [] if not len(values) else np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1)).tolist()
    if odd or values.ndim > 2:
        what = f"row {source.rows(odd)} has {labels[odd[0]]!r}" if odd else f"received the shape {values.shape}"
        raise LabelError(f"{source}: label_cls=FloatList takes a finite number a picture, but {what}")
    names: list[Label] = [str(i) for i in range(values.shape[1])] if values.ndim == 2 else ["0"]
    return Labels(names, values.astype(np.float32), is_multi=False, is_regression=True)


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
    index = {plain_text(c) if isinstance(c, str) else c: i for i, c in enumerate(known)}
    _check_known({t for row in tags for t in row}, index, source)
    targets = np.zeros((len(tags), len(known)), dtype=np.float32)
    for i, row in enumerate(tags):
        targets[i, [index[t] for t in row]] = 1.0
    return Labels(known, targets, is_multi=True)


def _tags_of(value: object, label_delim: str | None, source: Source, i: int) -> list[Label]:
    if is_missing(value):
        return []
    if isinstance(value, str) or not isinstance(value, Iterable):
        return split_tags(str(value), label_delim) if label_delim else [plain_label(value, source=source, position=i)]
    return [plain_label(v, source=source, position=i) for v in value]


def split_tags(cell: str, label_delim: str) -> list[Label]:
    """Split one cell at the delimiter; surrounding blanks and empty tags are left out."""
    return [t for t in map(plain_text, cell.split(label_delim)) if t]


def _sorted_classes(names: Sequence[Label], source: Source) -> list[Label]:
    unique = set(names)
    if len({type(n) for n in unique}) > 1:
        numbers, texts = ([n for n in unique if isinstance(n, kind)][:3] for kind in (int, str))
        raise LabelError(
            f"{source}: labels mix numbers ({numbers}) and text ({texts}); make them all text or all numbers"
        )
    if not unique:
        raise LabelError(f"{source}: there is not a single label")
    if odd := [n for n in unique if isinstance(n, str) and "\0" in n]:
        raise LabelError(f"{source}: the label {odd[0]!r} holds a NUL character; write it without")
    return sorted(unique)


def _check_known(names: set[Label], index: dict[Label, int], source: Source) -> None:
    unknown = sorted(str(n) for n in names if n not in index)
    if unknown:
        raise LabelError(f"{source}: labels that are not in classes=: {shown(unknown)}; add them to classes")
