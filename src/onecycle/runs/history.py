"""The history of a run, read back from its table of epochs."""

from __future__ import annotations

import csv

from onecycle.errors import DataError
from onecycle.runs.folder import RunFolder
from onecycle.train.log.recorder import EpochRow, Recorder

_OURS = ("epoch", "stage", "size", "train_loss", "valid_loss", "time_s")


def read_history(run: RunFolder) -> Recorder:
    """Return losses and metrics of each epoch, all stages and sittings of the run; empty where none is written.

    Raises:
        DataError: a damaged table; the line is named.
    """
    if not run.history.exists():
        return Recorder()
    with run.history.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        names = [name for name in table.fieldnames or () if name not in _OURS]
        rows = []
        for cells in table:
            try:
                rows.append(_row(cells, names))
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{run.history}, line {table.line_num}: no row of a history ({error!r})") from error
    return Recorder.of_epochs(names, rows)


def read_stages(run: RunFolder) -> list[str]:
    """Return what each epoch trained, the head or all layers, for the rows of ``read_history``."""
    if not run.history.exists():
        return []
    with run.history.open(newline="", encoding="utf-8") as file:
        return [cells.get("stage") or "" for cells in csv.DictReader(file)]


def _row(cells: dict[str, str], names: list[str]) -> EpochRow:
    valid = cells["valid_loss"]
    metrics = tuple(float(cells[name]) for name in names) if all(cells[name] for name in names) else ()
    return EpochRow(
        int(cells["epoch"]),
        float(cells["train_loss"]),
        float(valid) if valid else None,
        metrics,
        float(cells["time_s"]),
    )
