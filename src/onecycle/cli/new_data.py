"""Labelled pictures for a run that never saw them: their labels as its classes, and which of them it did see."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onecycle.data.audit.audit import AuditedRows
from onecycle.data.labels.items import Source, column
from onecycle.data.labels.tables import read_table
from onecycle.data.layout import DataLayout, LayoutOptions, find_layout
from onecycle.errors import DataError, LabelError
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.split import read_split
from onecycle.text import shown

if TYPE_CHECKING:
    import pandas as pd

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Labelled:
    """N labelled pictures.

    Attributes:
        layout: where they come from.
        rows: the table.
        targets: int64 ``(N,)`` indices of the run's classes, or 0/1 ``(N, C)``.
        groups: an id for each; None where nothing says so.
        columns: what the table says beside names and labels; None for class folders.
    """

    layout: DataLayout
    rows: AuditedRows
    targets: np.ndarray
    groups: np.ndarray | None
    columns: pd.DataFrame | None

    @property
    def paths(self) -> list[str]:
        """Of the N pictures."""
        return list(self.rows.paths)


def labelled_pictures(
    data: str, options: LayoutOptions, config: RunConfig, classes: Sequence[str], *, is_multi: bool
) -> Labelled:
    """Read labelled pictures and write their labels in the classes of a run.

    Args:
        data, options: as for ``find_layout``; where the options is silent, tags and groups are as in the run.
        config: of the run.
        classes: C names, in the model's order.
        is_multi: whether the run gives tags.

    Raises:
        DataError: no such data, or a row without a file.
        LabelError: a row without a label, or with one that the run does not know; it is named with the nearest class.
    """
    layout = _layout(data, options, config, is_multi=is_multi)
    rows = layout.rows()
    nameless = [i for i, path in enumerate(rows.paths) if not path]
    if nameless:
        raise DataError(f"{rows.source}: no file name at row {rows.source.rows(nameless)}; fill or remove these rows")
    return Labelled(layout, rows, _targets(rows, classes, is_multi=is_multi), _groups(rows), _columns(layout))


def _layout(data: str, options: LayoutOptions, config: RunConfig, *, is_multi: bool) -> DataLayout:
    """Find the layout; where nothing is said, tags and groups are those of the run's own table."""
    found = find_layout(data, options)
    if found.csv is None:
        return found
    more: dict[str, Any] = {}
    if found.is_multi != is_multi and options.label_delim is None:  # a small table may look otherwise
        more["label_delim"] = (config.label_delim or " ") if is_multi else ""
    if options.group_col is None and isinstance(config.group_col, str):
        columns = read_table(found.root / found.csv).columns
        more |= {"group_col": config.group_col} if config.group_col in columns else {}
    return find_layout(data, replace(options, **more)) if more else found


def _targets(rows: AuditedRows, classes: Sequence[str], *, is_multi: bool) -> np.ndarray:
    index = {str(name): i for i, name in enumerate(classes)}
    missing = [i for i, tags in enumerate(rows.labels) if tags is None or (not tags and not is_multi)]
    if missing:
        raise LabelError(f"{rows.source}: no label at {_named(rows, missing)}; fill these cells or leave the rows out")
    unknown = [(i, str(tag)) for i, tags in enumerate(rows.labels) for tag in tags or () if str(tag) not in index]
    if unknown:
        raise LabelError(_unknown_message(rows, unknown, classes))
    if is_multi:
        targets = np.zeros((len(rows.labels), len(classes)), dtype=np.int64)
        for i, tags in enumerate(rows.labels):
            targets[i, [index[str(tag)] for tag in tags or ()]] = 1
        return targets
    several = [i for i, tags in enumerate(rows.labels) if tags is not None and len(tags) > 1]
    if several:
        raise LabelError(
            f"{rows.source}: several labels at {_named(rows, several)}, but the run gives each picture one class; pass "
            "--label-delim '' where a cell is one label"
        )
    return np.array([index[str(tags[0])] for tags in rows.labels if tags], dtype=np.int64)


def _unknown_message(rows: AuditedRows, unknown: Sequence[tuple[int, str]], classes: Sequence[str]) -> str:
    row, label = unknown[0]
    lowered = {str(c).lower(): str(c) for c in classes}
    near = [lowered[n] for n in get_close_matches(label.lower(), lowered, n=1)]
    hint = f"did you mean {near[0]!r}?" if near else f"its classes are {shown(list(classes), most=10)}."
    names = list(dict.fromkeys(name for _, name in unknown))
    others = f" {len(names)} labels are unknown: {shown(names, most=10)}." if len(names) > 1 else ""
    return (
        f"{rows.source}, {rows.row_name(row)}: the run does not know the label {label!r}; {hint}{others} "
        f"Mend these {len({i for i, _ in unknown})} rows or leave them out, or train a model that has the class"
    )


def _named(rows: AuditedRows, positions: Sequence[int]) -> str:
    return shown([rows.row_name(i) for i in positions], most=5)


def _groups(rows: AuditedRows) -> np.ndarray | None:
    return None if rows.groups is None else np.array([str(g) for g in rows.groups], dtype=object)


def _columns(layout: DataLayout) -> pd.DataFrame | None:
    """Return the columns of the table beside names and labels."""
    if layout.csv is None:
        return None
    frame, source = read_table(layout.root / layout.csv), Source(layout.csv, 2)
    used = [column(frame, c, source=source).name for c in (layout.table.fn_col, layout.table.label_col)]
    others = frame.drop(columns=used)
    return others if len(others.columns) else None


# -- what the run has seen ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """Which of N pictures a run had.

    Attributes:
        trained: positions of those that it trained on.
        validated: positions of those that it validated, by which thresholds and calibration were chosen.
        n_gone: training pictures that are no longer there to be compared with.
    """

    trained: tuple[int, ...]
    validated: tuple[int, ...]
    n_gone: int


def seen_by(run: RunFolder, paths: Sequence[str]) -> Seen:
    """Find the pictures that a run had: the same file, or another one with the same bytes.

    Only files of the same size are read.

    Args:
        run: with its split, and the folder of its data in ``data.json``.
        paths: of N pictures.
    """
    root = Path(str(run.read_json(run.data).get("layout", {}).get("root", "")))
    parts: dict[str, list[str]] = {"train": [], "valid": [], "left out": []}
    for file, part in read_split(run.split):
        parts[part].append(os.path.join(root, file))
    known = _by_size(paths)
    trained = _same(known, paths, parts["train"])
    validated = _same(known, paths, parts["valid"]) - trained
    gone = sum(not os.path.exists(path) for path in parts["train"])
    return Seen(tuple(sorted(trained)), tuple(sorted(validated)), gone)


def _by_size(paths: Iterable[str]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for i, path in enumerate(paths):
        size = _size(path)
        if size is not None:
            found[size].append(i)
    return found


def _same(by_size: dict[int, list[int]], paths: Sequence[str], others: Iterable[str]) -> set[int]:
    """Return positions of the paths that are one of ``others``, or have the bytes of one."""
    digests: dict[int, bytes] = {}
    found: set[int] = set()
    for other in others:
        candidates = [i for i in by_size.get(_size(other) or -1, ()) if i not in found]
        if not candidates:
            continue
        same_file = {i for i in candidates if os.path.samefile(paths[i], other)}
        rest = [i for i in candidates if i not in same_file]
        found |= same_file
        for i in rest:
            digests[i] = digests[i] if i in digests else _digest(paths[i])
        if rest:
            wanted = _digest(other)
            found |= {i for i in rest if digests[i] == wanted}
    return found


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _digest(path: str) -> bytes:
    import hashlib

    found = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.digest()
