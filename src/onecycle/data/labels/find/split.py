"""The split that data already has: columns and folders that say what trains, what validates and what is for testing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import pandas as pd

from onecycle.data.labels.items import Source, cell_text, is_missing, whole_number
from onecycle.data.labels.read import YES_NO, column
from onecycle.errors import ArgumentError, DataError
from onecycle.text import option, shown

Part = Literal["train", "valid", "test"]

_WORDS: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "trn", "trainval", "trainvalid"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "validate", "validating", "dev", "eval", "evaluation"), "valid"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "publictest", "privatetest"), "test"),
}  # fmt: skip
_NO_WORDS = frozenset(
    ("set", "sets", "data", "dataset", "split", "subset", "part", "images", "image", "imgs", "img", "pictures")
)

_NAMES = frozenset(
    [
        *(
            "split",
            "set",
            "subset",
            "part",
            "partition",
            "phase",
            "usage",
            "datasplit",
            "dataset",
            "traintest",
            "trainval",
        ),
        *("fold", "folds", "kfold", "cvfold", "foldid", "isvalid", "isval", "isvalidation", "istest", "istrain"),
        *("valid", "val", "validation", "test", "train"),
    ]
)
"""Names of columns that may say the split, letters only."""

_FLAGS: dict[str, tuple[Part, Part]] = {
    **dict.fromkeys(("isvalid", "isval", "isvalidation"), ("valid", "train")),
    "istest": ("test", "train"),
    "istrain": ("train", "valid"),
}
"""By the name of a column of yes and no: what its rows are, and the others."""

_MOST_VALUES = 20
"""A column with more different values says no split."""


def part_of(name: object) -> Part | None:
    """Return the part that the name of a folder, or a cell, plainly means: ``Validation_set`` is ``valid``."""
    words = [word for word in re.findall(r"[^\W\d_]+", str(name).casefold()) if word not in _NO_WORDS]
    return _WORDS.get(words[0]) if len(words) == 1 else None


@dataclass(frozen=True)
class SplitColumn:
    """A column that says the split."""

    column: str
    value: str | None  # which validates, where one does
    parts: tuple[Part, ...]  # of each row

    @property
    def asked(self) -> str:
        """The option that names it: ``split``, or ``fold=4``."""
        return self.column if self.value is None else f"{self.column}={self.value}"

    @property
    def why(self) -> str:
        """What was taken, in words."""
        n = Counter(self.parts)
        drawn = "" if n["valid"] else ", of which a share is drawn to validate"
        validate = f", {n['valid']:,} validate" if n["valid"] else ""
        test = f"; {n['test']:,} for testing are left out, for evaluate" if n["test"] else ""
        return f"by column {self.asked}: {n['train']:,} rows train{drawn}{validate}{test}"


def find_split(
    frame: pd.DataFrame, taken: Sequence[str | None], asked: str | int | None, source: Source
) -> tuple[SplitColumn | None, dict[str, str]]:
    """Find the column that says the split.

    Args:
        frame: the table.
        taken: names of columns that hold something else.
        asked: a column by name or position, ``"fold=4"`` where one value validates, "" for none, None to look.
        source: what to call the table.

    Returns:
        the column, and a hint at each other one that may say the split, by its name.

    Raises:
        ArgumentError: no such column or value, several columns that contradict each other, or one that is not clear.
        DataError: rows that are in no part.
    """
    if asked == "":
        return None, {}
    if asked is not None:
        return _read(frame, asked, source), {}
    columns = [str(c) for c in frame.columns if str(c) not in taken and frame[c].nunique() <= _MOST_VALUES]
    clear = [col for col in columns if _says_parts(frame, col)]
    splits = [_read(frame, col, source) for col in clear]
    if len({split.parts for split in splits}) > 1:
        raise ArgumentError(
            f"{source}: columns {shown(clear)} say different splits; choose one with {option('split_col', clear[0])}, "
            f"or {option('split_col', '')} for none of them"
        )
    others = [col for col in columns if col not in clear and _letters(col) in _NAMES and frame[col].nunique() > 1]
    return (splits[0] if splits else None), {col: _hint(frame, col) for col in others}


def unused_split(frame: pd.DataFrame | None, taken: Sequence[str | None], source: Source) -> str:
    """Say that a column plainly says the split and is not used, for a call in Python; ``""`` where none does."""
    columns = [] if frame is None or len(frame.columns) < 3 else [str(c) for c in frame.columns if str(c) not in taken]
    clear = [col for col in columns if frame is not None and _says_parts(frame, col)]
    if not clear:
        return ""
    return (
        f"{source}: column {clear[0]!r} says which rows train, and is not used: split_col={clear[0]!r} splits by it, "
        "split_col='' draws a split and says nothing"
    )


def _hint(frame: pd.DataFrame, col: str) -> str:
    texts = [whole_number(cell_text(cell).strip()) for cell in frame[col] if not is_missing(cell)]
    values = sorted(set(texts))
    what = f"column {col} ({shown(values, most=5)}) may say the split, and is not used for it"
    if _letters(col) in _FLAGS and all(text.lower() in YES_NO for text in texts):
        n = Counter(_flag_parts(col, texts))
        return f"{what}: {option('split_col', col)} takes it as it stands, {n['train']:,} rows train"
    return f"{what}: {_by_value(col, texts)}"


def _by_value(col: str, texts: Sequence[str]) -> str:
    """Name the option by which one value validates, the likeliest: by its word, or the rarest."""
    counts = Counter(texts)
    value = max(sorted(counts), key=lambda text: (part_of(text) == "valid", -counts[text], text))
    return f"{option('split_col', f'{col}={value}')} validates on the rows with {value}"


def _letters(col: str) -> str:
    return "".join(re.findall(r"[^\W\d_]+", col.casefold()))


def _says_parts(frame: pd.DataFrame, col: str) -> bool:
    """Say whether a column plainly says the split, by its values or as a column of yes and no by its name."""
    texts = [cell_text(cell).strip() for cell in frame[col] if not is_missing(cell)]
    if _letters(col) in _FLAGS and texts and all(text.lower() in YES_NO for text in texts):
        parts = _flag_parts(col, texts)
        return parts.count("train") >= len(parts) / 2
    parts_said = {part_of(text) for text in texts}
    whole = None not in parts_said or _letters(col) in _NAMES
    return whole and "train" in parts_said and len(parts_said - {None}) > 1


def _flag_parts(col: str, texts: Sequence[str]) -> list[Part]:
    yes, no = _FLAGS[_letters(col)]
    return [yes if YES_NO[text.lower()] else no for text in texts]


def _read(frame: pd.DataFrame, asked: str | int, source: Source) -> SplitColumn:
    """Read what a column says; ``asked``, errors and all, as for ``find_split``."""
    value: str | None = None
    if isinstance(asked, str) and asked not in frame.columns and "=" in asked:
        asked, _, value = asked.rpartition("=")
    cells = column(frame, asked, source=source)
    col = str(cells.name)
    empty = [i for i, cell in enumerate(cells) if is_missing(cell)]
    if empty:
        raise DataError(
            f"{source}: column {col} says the split, but nothing at row {source.rows(empty)}; fill these cells, or "
            f"{option('split_col', '')} draws a split"
        )
    texts = [whole_number(cell_text(cell).strip()) for cell in cells]
    if value is None and _letters(col) in _FLAGS and all(text.lower() in YES_NO for text in texts):
        return SplitColumn(col, None, tuple(_flag_parts(col, texts)))
    if value is not None:
        value = whole_number(value.strip())
        return SplitColumn(col, value, _parts_by_value(texts, value, col, source))
    parts = [part_of(text) for text in texts]
    _check_clear(texts, parts, col, source)
    return SplitColumn(col, None, tuple(part for part in parts if part))


def _check_clear(texts: Sequence[str], parts: Sequence[Part | None], col: str, source: Source) -> None:
    """Refuse cells that mean no part, and two words for one part to validate on, such as ``dev`` beside ``valid``.

    Raises:
        ArgumentError: names them, and the option.
    """
    draw = f"{option('split_col', '')} draws a split"
    unclear = sorted({text for text, part in zip(texts, parts, strict=True) if part is None})
    if unclear:
        ways = _by_value(col, texts) if len(unclear) == len(set(texts)) else "write one of these there"
        raise ArgumentError(
            f"{source}: column {col} says {shown(unclear, most=5)}, which is none of {', '.join(get_args(Part))}; "
            f"{ways}, {draw}"
        )
    valid = sorted({text for text, part in zip(texts, parts, strict=True) if part == "valid"})
    if len({text.casefold() for text in valid}) > 1 and not all(re.search(r"\d", text) for text in valid):
        asked = option("split_col", f"{col}={valid[-1]}")
        raise ArgumentError(
            f"{source}: column {col} has {' and '.join(valid)}, which both mean to validate; {asked} validates on "
            f"{valid[-1]} and leaves {shown(valid[:-1])} out, {draw}"
        )


def _parts_by_value(texts: Sequence[str], value: str, col: str, source: Source) -> tuple[Part, ...]:
    """Let one value validate; rows that are for testing or validating by their own value stay out of training."""
    if value not in texts:
        raise ArgumentError(f"{source}: column {col} has no {value!r}; its values are {shown(sorted(set(texts)))}")
    return tuple(
        "valid" if text == value else "test" if part_of(text) in ("valid", "test") else "train" for text in texts
    )
