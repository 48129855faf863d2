"""Reading a data set that may be broken: what would stop a bunch becomes a finding here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from onecycle.data.audit.audit import AuditedRows
from onecycle.data.audit.findings import Finding, some
from onecycle.data.audit.label_checks import Tags, blank_findings
from onecycle.data.labels.items import Source, column, list_images, picture_path, split_tags
from onecycle.data.labels.splits import Split, check_share, random_split
from onecycle.data.labels.tables import read_table
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.errors import DataError
from onecycle.text import plural

DEFAULT_TABLE = "labels.csv"
_TRAIN, _VALID = "train", "valid"


@dataclass(frozen=True)
class TableLayout:
    """Where a table says what.

    Attributes:
        folder: of the pictures, below the folder of the table's data set.
        suffix: added to each file name, e.g. ``.jpg``.
        label_delim: splits a cell into tags; None takes a cell as one label.
        fn_col: column of the file names, by position or name.
        label_col: column of the labels.
        group_col: column of the groups that belong in one part, None if there is none.
    """

    folder: str = ""
    suffix: str = ""
    label_delim: str | None = None
    fn_col: int | str = 0
    label_col: int | str = 1
    group_col: int | str | None = None


def read_rows(
    path: str | Path,
    *,
    csv: str | Path | None = None,
    layout: TableLayout | None = None,
    valid_pct: float = 0.2,
    seed: int | None = None,
    size: int = 224,
) -> AuditedRows:
    """Read a table, or a folder with a folder for each class.

    Args:
        path: the folder of the data set, or a table.
        csv: the table below it; default ``labels.csv`` where there is one, else the folders are the classes.
        layout: of the table.
        valid_pct: share of the pictures that would validate; folders ``train`` and ``valid`` go before it.
        seed: of that split; default 42, as for a bunch.
        size: px that training would crop the pictures to.

    Raises:
        DataError: no such folder or table, or one without a single row or picture.
        ArgumentError: a column that the table has not, a share outside [0, 1).
    """
    check_share(valid_pct)
    root = Path(path)
    if root.is_file():
        root, csv = root.parent, root.name
    if not root.is_dir():
        raise DataError(f"expected a folder of pictures or a table at {path}, but there is neither")
    if csv is None and (root / DEFAULT_TABLE).is_file():
        csv = DEFAULT_TABLE
    resize = ResizeSpec.make(size)
    if csv is not None:
        return _from_table(root, csv, layout or TableLayout(), resize, valid_pct, seed)
    return _from_folders(root, resize, valid_pct, seed)


def _from_table(
    root: Path, csv: str | Path, layout: TableLayout, resize: ResizeSpec, valid_pct: float, seed: int | None
) -> AuditedRows:
    frame = read_table(root / csv)
    source = Source(str(csv), first_row=2)
    if len(frame) == 0:
        raise DataError(f"{root / csv} has no rows, so there is nothing to look at")
    names = column(frame, layout.fn_col, source=source)
    pictures = root / layout.folder
    paths = ["" if pd.isna(n) else picture_path(pictures, f"{n}{layout.suffix}") for n in names]
    cells = list(column(frame, layout.label_col, source=source))
    found = (*_unnamed(paths, source), *([] if layout.label_delim else blank_findings(cells)))
    groups = None
    if layout.group_col is not None:
        given = enumerate(column(frame, layout.group_col, source=source), start=source.first_row)
        # An empty cell is a group of its own.
        groups = [f"(row {i})" if pd.isna(cell) else cell for i, cell in given]
    return AuditedRows(
        paths,
        [_tags(cell, layout.label_delim) for cell in cells],
        layout.label_delim is not None,
        random_split(paths, valid_pct, seed=seed),
        root,
        source,
        resize,
        groups=groups,
        found=found,
    )


def _tags(cell: object, label_delim: str | None) -> Tags | None:
    """Return the labels of a cell, read as a bunch reads them; None where a single label is missing."""
    if pd.isna(cell) or not str(cell).strip():  # type: ignore[call-overload]
        return None if label_delim is None else ()
    return tuple(split_tags(str(cell), label_delim)) if label_delim else (str(cell).strip(),)


def _unnamed(paths: list[str], source: Source) -> tuple[Finding, ...]:
    empty = [f"row {i + source.first_row}" for i, path in enumerate(paths) if not path]
    if not empty:
        return ()
    message = f"{plural(len(empty), 'row')} without a file name"
    return (Finding("error", "no-file-name", len(empty), message, some(empty), "fill these cells or remove the rows"),)


def _from_folders(root: Path, resize: ResizeSpec, valid_pct: float, seed: int | None) -> AuditedRows:
    parts = [root / _TRAIN, root / _VALID]
    by_part = all(p.is_dir() for p in parts)
    tops = parts if by_part else [root]
    pictures = [p for top in tops for p in list_images(top)]
    if not pictures:
        raise DataError(
            f"no pictures in {root}, and no table: expected {root}/<class>/…, {root}/{_TRAIN}/<class>/… and "
            f"{root}/{_VALID}/<class>/…, or a table named with --csv"
        )
    labels = [None if p.parent in tops else (p.parent.name,) for p in pictures]
    paths = [p.as_posix() for p in pictures]
    if by_part:
        train, valid = (
            np.array([i for i, p in enumerate(pictures) if top in p.parents], dtype=np.int64) for top in tops
        )
        split = Split(train, valid, "by folder")
    else:
        split = random_split(paths, valid_pct, seed=seed)
    found = _empty_folders(tops, pictures)
    return AuditedRows(paths, labels, False, split, root, Source(str(root)), resize, found=found)


def _empty_folders(tops: list[Path], pictures: list[Path]) -> tuple[Finding, ...]:
    """Report class folders that hold no picture."""
    used = {parent for p in pictures for parent in p.parents}
    empty = [
        f"{top.name}/{p.name}"
        for top in tops
        for p in sorted(top.iterdir())
        if p.is_dir() and p not in used and not p.name.startswith(".")
    ]
    if not empty:
        return ()
    message = f"{plural(len(empty), 'folder')} without a picture"
    advice = "add pictures, or remove the folder"
    return (Finding("warning", "empty-folder", len(empty), message, some(empty), advice),)
