"""Labelled pictures for a run that never saw them, and which of them it did see."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

from onecycle.data.labels.find.columns import LayoutOptions
from onecycle.data.labels.table import LabelTable
from onecycle.data.layout import DataLayout, find_layout
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.split import read_split


def labelled_pictures(data: str, options: LayoutOptions, config: RunConfig, *, is_multi: bool) -> DataLayout:
    """Find labelled pictures for a run; where nothing is said, tags and groups are as in the run.

    In the run's own data all else is, too, as its settings say.

    Args:
        data, options: as for ``find_layout``.
        config: of the run.
        is_multi: whether the run gives tags.

    Raises:
        DataError: no such data, or a row without a file.
    """
    if config.data in (data, str(Path(data).resolve())) and options.csv in (None, config.csv):
        said = {f.name: getattr(options, f.name) for f in fields(LayoutOptions)}
        options = LayoutOptions(**{name: getattr(config, name) if v is None else v for name, v in said.items()})
    layout = find_layout(data, options)
    others = layout.pictures.frame
    more: dict[str, Any] = {}
    if layout.csv is not None and options.join_rows is None and config.join_rows:
        more["join_rows"] = True
    elif layout.csv is not None and layout.is_multi != is_multi and options.label_delim is None:
        more["label_delim"] = (config.label_delim or " ") if is_multi else None  # a small table may seem otherwise
    if options.group_col is None and others is not None and config.group_col in others.columns:
        more["group_col"] = config.group_col
    layout = layout.like(**more)
    layout.pictures.check(groups=False)
    return layout


def test_rows(table: LabelTable, config: RunConfig) -> tuple[LabelTable, tuple[tuple[str, str], ...]]:
    """Return the rows that a table says are for testing, where the run was trained by the same column; else all.

    Args:
        table: labelled pictures.
        config: of the run.

    Returns:
        the rows, and what to say about it, as (label, text).
    """
    rows = [i for i, part in enumerate(table.parts or ()) if part == "test"]
    if not rows or table.split_col != config.split_col:
        return table, ()
    text = f"the {len(rows)} rows of {len(table)} that column {table.split_col} has for testing"
    return table.rows(rows), (("rows", f"{text}; --split-col '' takes all that the run did not train on"),)


# -- what the run has seen ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """Which of N pictures a run had."""

    trained: tuple[int, ...]  # positions of those that it trained on
    validated: tuple[int, ...]  # of those that it validated, by which thresholds and calibration were chosen
    n_gone: int  # training pictures that are no longer there to be compared with


def seen_by(run: RunFolder, paths: Sequence[str]) -> Seen:
    """Find the pictures that a run had: the same file, or another one with the same bytes.

    Only files of the same size are read.

    Args:
        run: with its split, and the folder of its data in ``data.json``.
        paths: of N pictures.
    """
    root = Path(str(run.read_json(run.data).get("layout", {}).get("root", "")))
    files: dict[str, list[str]] = {"train": [], "valid": [], "left out": []}
    for file, side in read_split(run.split):
        files[side].append(os.path.join(root, file))
    known: dict[int, list[int]] = defaultdict(list)
    for i, path in enumerate(paths):
        known[_size(path)].append(i)
    known.pop(0, None)
    trained = _same(known, paths, files["train"])
    validated = _same(known, paths, files["valid"]) - trained
    gone = sum(not os.path.exists(path) for path in files["train"])
    return Seen(tuple(sorted(trained)), tuple(sorted(validated)), gone)


def _same(by_size: dict[int, list[int]], paths: Sequence[str], others: Iterable[str]) -> set[int]:
    """Return positions of the paths that are one of ``others``, or have the bytes of one."""
    digest = cache(_digest)
    same: set[int] = set()
    for other in others:
        candidates = set(by_size.get(_size(other), ())) - same
        one_file = {i for i in candidates if os.path.samefile(paths[i], other)}
        same |= one_file | {i for i in candidates - one_file if digest(paths[i]) == digest(other)}
    return same


def _size(path: str) -> int:
    """Return the bytes of a file; 0 where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16)).digest()
