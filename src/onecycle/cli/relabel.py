"""``onecycle relabel``: an edited table of label issues, applied to the labels; a new table, nothing overwritten."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onecycle.cli.screen import Screen
from onecycle.data.labels.cells import with_cells
from onecycle.data.labels.find.columns import LayoutOptions, TableLayout
from onecycle.data.labels.items import Labels, Source, is_missing, split_tags
from onecycle.data.labels.read import PARQUET, columns, read_table, read_text
from onecycle.data.labels.relabel import FILE, NEW, relabelled, with_new_classes
from onecycle.data.labels.table import LabelTable
from onecycle.data.layout import DataLayout, find_layout
from onecycle.errors import ArgumentError, DataError
from onecycle.files import csv_text, name_below, parquet_bytes
from onecycle.runs.build import layout_of
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder, check_free, write_output
from onecycle.settings import CORRECTIONS, RUN_CONFIG
from onecycle.text import plural

_SHOWN = 20


@dataclass(frozen=True)
class Change:
    """One row that gets another label."""

    row: int  # of the data, from 0
    file: str  # below the folder of the data set
    before: tuple[str, ...]  # class names; of tags several
    after: tuple[str, ...]

    def __str__(self) -> str:
        if len(self.before) == len(self.after) == 1:
            return f"{self.before[0]} → {self.after[0]}"
        gone = [f"−{tag}" for tag in self.before if tag not in self.after]
        return " ".join(gone + [f"+{tag}" for tag in self.after if tag not in self.before])


def run_relabel(
    data: str,
    csv: Path | None,
    options: LayoutOptions,
    *,
    out: Path | None = None,
    force: bool = False,
    new_classes: bool = False,
    as_json: bool = False,
    quiet: bool = False,
) -> int:
    """Write a new table of labels in which the edited label issues are applied; the data set stays as it is.

    Args:
        data: a data set, or the folder of a run (then: its data, with its settings).
        csv: what ``LabelIssues.to_csv`` or the report wrote, with labels filled in under ``new_label``; None takes the
            run's own ``label_issues.csv``, or the corrections in a folder that ``serve --collect`` filled.
        options: what the user said about the table.
        out: the new table; default ``<name>.relabelled.csv`` in the working directory.
        force: replace a file that is there.
        new_classes: take labels that no picture has yet; they may be mistyped.
        as_json: print JSON and nothing else.
        quiet: print only where the table is.

    Returns:
        0, also where there was nothing to change (then nothing is written).

    Raises:
        DataError, LabelError: tables that do not fit; file and row are named.
        ArgumentError: the new table is there already.
    """
    run = _run_at(data)
    layout = find_layout(data, options) if run is None else layout_of(RunConfig.read(run.config))
    collected = Path(data) / CORRECTIONS
    if csv is None:
        if run is None and not collected.is_file():
            raise ArgumentError(f"which labels change? Name the edited table: onecycle relabel {data} TABLE.csv")
        csv = collected if run is None else run.label_issues
    new_classes |= csv.resolve() == collected.resolve()  # a server took only labels that its model has
    target = _target(layout, out, force=force)
    table = layout.whole_table()
    delimiter = read_text(csv).delimiter if csv.is_file() else ","
    before = with_new_classes(table.labels, csv, delimiter=delimiter) if new_classes else table.labels
    labels, _ = relabelled(before, table.paths, table.path, csv, delimiter=delimiter)
    changes = _changes(table, before, labels)
    if changes:
        write_output(target, _new_table(layout, labels, changes))
    screen = Screen(as_json=as_json, quiet=quiet)
    if changes and table.by_folder:
        screen.warn("the new table does not say which folder validates: training on it draws a split (--valid-pct)")
    _say(screen, changes, csv, target, _next(layout, run, options, target))
    return 0


def _run_at(data: str) -> RunFolder | None:
    """Return the run that was named, None where ``data`` is a data set."""
    if (Path(data) / RUN_CONFIG).is_file():
        return RunFolder.open(data)
    if not (Path(data).is_dir() or Path(data).suffix):
        with suppress(DataError):
            return RunFolder.open(data)
    return None


def _target(layout: DataLayout, out: Path | None, *, force: bool) -> Path:
    table = Path(layout.csv or f"{layout.root.resolve().name}.csv")
    suffix = table.suffix.lower() if table.suffix.lower() in (PARQUET, ".tsv") else ".csv"
    target = Path(f"{table.stem}.relabelled{suffix}") if out is None else out
    if target.suffix.lower() != suffix:
        raise ArgumentError(f"the new table has the format of the old one, {suffix}; received --out {target}")
    if layout.csv is not None and target.exists() and target.samefile(layout.root / layout.csv):
        raise ArgumentError(f"{target} is the table of the data set itself, which stays as it is; choose another --out")
    check_free(target, force=force)
    return target


def _changes(table: LabelTable, before: Labels, new: Labels) -> list[Change]:
    differs = new.targets != before.targets
    return [
        Change(row, name_below(table.paths[row], table.path), _names(before, row), _names(new, row))
        for row in np.flatnonzero(differs.any(axis=1) if new.is_multi else differs).tolist()
    ]


def _names(labels: Labels, row: int) -> tuple[str, ...]:
    label = labels.label(row).obj
    return tuple(str(tag) for tag in label) if isinstance(label, tuple) else (str(label),)


# -- the new table --------------------------------------------------------------------------------------------


def _new_table(layout: DataLayout, labels: Labels, changes: Sequence[Change]) -> bytes:
    if layout.csv is None:
        return _table_of_folders(layout.pictures, labels)
    table = layout.root / layout.csv
    if layout.table.join_rows:
        raise ArgumentError(f"{table} has a row for each tag (--join-rows): add and remove rows by hand")
    if table.suffix.lower() == PARQUET:
        return _parquet_with(table, layout, changes)
    return _text_with(table, layout, changes)


def _table_of_folders(table: LabelTable, labels: Labels) -> bytes:
    """Return a table of all pictures of class folders."""
    rows = [(name_below(path, table.path), *_names(labels, row)) for row, path in enumerate(table.paths)]
    return csv_text([(FILE, "label"), *rows]).encode("utf-8", "surrogateescape")


def _text_with(table: Path, layout: DataLayout, changes: Sequence[Change]) -> bytes:
    """Return the bytes of a table with the changed cells; all others are as they were."""
    text, frame = read_text(table, layout.table.delimiter), read_table(table, delimiter=layout.table.delimiter).frame
    new_text = text.text
    for cells in columns(frame, layout.table.label_col, source=Source(str(table), first_row=2)):
        now = ["" if is_missing(cell) else str(cell) for cell in cells]
        new = {c.row: _new_cell(now[c.row], c, str(cells.name), layout.table) for c in changes}
        new = {row: cell for row, cell in new.items() if cell != now[row]}
        at = [str(name) for name in frame.columns].index(str(cells.name))
        new_text = with_cells(new_text, at, new, delimiter=text.delimiter, expected=now, start=text.start)
    return new_text.encode("utf-8")


def _parquet_with(table: Path, layout: DataLayout, changes: Sequence[Change]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole, frame = pq.read_table(table), read_table(table).frame
    for name in (str(c.name) for c in columns(frame, layout.table.label_col, source=Source(str(table)))):
        cells = whole.column(name).to_pylist()
        for c in changes:
            old = cells[c.row]
            cell = _new_cell("" if old is None else str(old), c, name, layout.table)
            kind = (lambda text: text == "True") if isinstance(old, bool) else type(old)
            cells[c.row] = list(c.after) if isinstance(old, list) else cell if old is None else kind(cell)
        at, field = whole.schema.get_field_index(name), whole.schema.field(name)
        whole = whole.set_column(at, field, pa.array(cells, field.type))
    return parquet_bytes(whole)


_OTHER_FLAG = dict(zip("01", "10", strict=True)) | {"0.0": "1.0", "1.0": "0.0"}
_OTHER_FLAG |= {"true": "false", "false": "true", "True": "False", "False": "True", "TRUE": "FALSE", "FALSE": "TRUE"}


def _new_cell(cell: str, change: Change, column: str, table: TableLayout) -> str:
    """Return what a label cell says from now on: tags that stay keep their place, new ones come last."""
    if column != table.label_col and isinstance(table.label_col, str):  # a column of 0/1 for each tag
        changed = (column in change.before) != (column in change.after)
        return _OTHER_FLAG.get(cell.strip(), "01"[column in change.after]) if changed else cell
    if table.label_delim is None:
        return change.after[0] if change.after else ""
    before = split_tags(cell, table.label_delim)
    tags = [tag for tag in before if tag in change.after] + [tag for tag in change.after if tag not in before]
    delim = table.label_delim
    return (f"{delim} " if delim.strip() and f"{delim} " in cell else delim).join(tags)


# -- what is said ---------------------------------------------------------------------------------------------


def _next(layout: DataLayout, run: RunFolder | None, options: LayoutOptions, target: Path) -> str:
    """Return the command that trains with the new table."""
    table = str(target.resolve())
    if run is not None:
        # With the run's split: new labels would stratify anew, and the scores not compare.
        split = ["--split", str(run.split)] if run.split.exists() else []
        return shlex.join(["onecycle", "train", "--config", str(run.config), "--csv", table, *split])
    named = {"data": str(layout.root)} | {name: getattr(options, name) for name in options.names} | {"csv": table}
    return RunConfig.merged(None, named).command()


def _say(screen: Screen, changes: Sequence[Change], csv: Path, target: Path, then: str) -> None:
    if screen.as_json:
        listed = [{"row": c.row, "file": c.file, "from": list(c.before), "to": list(c.after)} for c in changes]
        changed = {"changed": listed, "out": str(target) if changes else None, "next": then if changes else None}
        print(json.dumps(changed, indent=2))
        return
    if not changes:
        screen.say(f"Nothing to change: no cell under {NEW} in {csv} asks for another label. Nothing was written.")
        return
    screen.table([(screen.cut(c.file, screen.width // 2), str(c)) for c in changes[:_SHOWN]])
    if len(changes) > _SHOWN:
        screen.line(f"… and {len(changes) - _SHOWN:,} more (--json lists all)")
    screen.say()
    screen.row("written", f"{target}: {plural(len(changes), 'label')} changed, all else as it was", always=True)
    screen.row("next", "train on the new labels:")
    screen.command(then)
