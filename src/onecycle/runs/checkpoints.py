"""What a run writes down: while it trains, so that it can be taken up again; and when it is over."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch

from onecycle import __version__
from onecycle.evaluation.certainty.intervals import Estimate
from onecycle.evaluation.headline import HELD_OUT, default_estimates, headline
from onecycle.evaluation.label_issues import LabelIssue
from onecycle.evaluation.predictions import Predictions
from onecycle.files import csv_text, remove, text_name
from onecycle.learner.fine_tune.best import StageChoice
from onecycle.learner.fine_tune.callback import StageCallback
from onecycle.learner.fine_tune.plan import Stage
from onecycle.learner.fits import checkpoints as of_fits
from onecycle.learner.fits.journal import FileJournal
from onecycle.runs.folder import Cells, RunFolder, point_latest
from onecycle.train.device.machine import device_name, n_cores
from onecycle.train.log.recorder import EpochRow, Recorder
from onecycle.train.lr_finder import Sweep

if TYPE_CHECKING:
    from onecycle.data.bunch import ImageDataBunch
    from onecycle.learner.learner import Learner
    from onecycle.train.loop import Trainer

JOURNAL, FINISHED = "journal.json", "finished"
"""Below ``checkpoints``: what was measured and chosen; and its last entry."""

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "pillow", "simplejpeg", "scikit-learn", "safetensors")

_HISTORY_COLUMNS = ("epoch", "stage", "size", "train_loss", "valid_loss", "time_s")


def environment(seed: int, device: torch.device) -> dict[str, Any]:
    """Return what the run ran on, for ``env.json``."""
    versions = {"onecycle": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "platform": platform.platform(),
        "device": device_name(device),
        "cores": n_cores(),
        "threads": torch.get_num_threads(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": seed,
    }


class RunCheckpoints(StageCallback):
    """Writes the history of a run after every epoch, and has its journal and its checkpoints.

    Args:
        run: the folder.
        learn: the learner, whose callbacks this and the checkpoints become.

    Raises:
        DataError: a damaged journal.
    """

    order = 35

    def __init__(self, run: RunFolder, learn: Learner) -> None:
        self.run, self.learn = run, learn
        self.journal = journal_of(run)
        self.choice = StageChoice()  # the stages that were judged, once all are over
        self.rows: list[list[str]] = []  # cells of ``history.csv``
        self._stage: Stage | None = None
        learn.callbacks += [self, of_fits.CheckpointCallback(learn, of_fits.EVERY_S, folder=run.checkpoints)]

    def on_stage_begin(self, stage: Stage, base_lr: float | None) -> None:
        """Note that a stage begins."""
        self._stage = stage

    def on_stage_end(self, stage: Stage) -> None:
        """Note that the stage is over."""
        self._stage = None

    def on_kept(self, choice: StageChoice) -> None:
        """Note which stage is kept."""
        self.choice = choice

    def on_epoch_end(self, trainer: Trainer, row: EpochRow) -> None:
        """Write the history."""
        if self._stage is not None:
            self.rows.append(self._cells(self._stage, row))
            self._write_history()

    def state_dict(self) -> dict[str, Any]:
        """Return the rows of the history."""
        return {"rows": list(self.rows)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Write these rows in place of what was written since."""
        self.rows = list(state["rows"])
        self._write_history()

    def finish(self) -> None:
        """Note that the run has all that it ends with: checkpoints go, and ``latest`` points to it."""
        self.journal.once(FINISHED, lambda: True, bool)
        for path in self.run.checkpoints.glob("fit-*"):
            remove(path)
        with suppress(OSError):  # the pointer is a convenience
            point_latest(self.run.path.parent, self.run.name)

    def _write_history(self) -> None:
        head = [*_HISTORY_COLUMNS[:-1], *self.learn.recorder.metric_names, _HISTORY_COLUMNS[-1]]
        self.run.write_text(self.run.history, csv_text([head, *self.rows], raw=False))

    def _cells(self, stage: Stage, row: EpochRow) -> list[str]:
        size = "" if stage.size is None else "x".join(str(side) for side in stage.size)
        values = [row.train_loss, row.valid_loss, *row.metrics]
        values += [None] * (2 + len(self.learn.recorder.metric_names) - len(values))
        numbers = ["" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v) for v in values]
        return [str(len(self.rows)), stage.trains, size, *numbers, f"{row.time_s:.2f}"]


def journal_of(run: RunFolder) -> FileJournal:
    """Return what the recipe of a run measured and chose.

    Raises:
        DataError: a file that is damaged, or that no run wrote.
    """
    return FileJournal(run.inside(run.checkpoints / JOURNAL))


def is_over(run: RunFolder) -> bool:
    """Whether a run has all that it ends with; one of an earlier version has no journal."""
    began = (run.checkpoints / JOURNAL).exists()
    return journal_of(run).knows(FINISHED) if began else run.is_finished and run.metrics.exists()


def read_history(run: RunFolder) -> Recorder:
    """Return losses and metrics of each epoch, all stages and sessions of the run; empty where none is written.

    Raises:
        DataError: a damaged table; the line is named.
    """
    records = run.read_table(run.history, _HISTORY_COLUMNS)
    names = [name for name in (records[0] if records else ()) if name not in _HISTORY_COLUMNS]
    rows = [_epoch_row(Cells(run.history, line, cells), names) for line, cells in enumerate(records, 2)]
    return Recorder.of_epochs(names, rows)


def _epoch_row(cells: Cells, names: list[str]) -> EpochRow:
    values = [cells.number_or_none(name) for name in names]
    metrics = tuple(v for v in values if v is not None)
    return EpochRow(
        cells.count("epoch"),
        cells.number("train_loss", diverged=True),
        cells.number_or_none("valid_loss"),
        metrics if len(metrics) == len(names) else (),
        cells.number("time_s", low=0),
    )


def write_sweeps(run: RunFolder, sweeps: Sequence[Sweep]) -> None:
    """Write the sweeps of the learning rate: sweep, lr, loss."""
    rows: list[Sequence[object]] = [("sweep", "lr", "loss")]
    for i, (lrs, losses) in enumerate(sweeps, 1):
        rows += [(i, f"{lr:.6g}", f"{loss:.6g}") for lr, loss in zip(lrs, losses, strict=False)]
    run.write_text(run.lr_find, csv_text(rows))


def read_sweeps(run: RunFolder) -> list[Sweep]:
    """Return the sweeps that ``write_sweeps`` wrote; none where there are none."""
    sweeps: dict[str, Sweep] = {}
    for line, row in enumerate(run.read_table(run.lr_find, ("sweep", "lr", "loss")), 2):
        lrs, losses = sweeps.setdefault(row["sweep"], ([], []))
        cells = Cells(run.lr_find, line, row)
        lrs.append(cells.number("lr", low=0))
        losses.append(cells.number("loss", diverged=True))
    return list(sweeps.values())


def read_issues(run: RunFolder, data: ImageDataBunch) -> list[LabelIssue] | None:
    """Return the labels to look at again that an earlier session wrote down; None where it did not."""
    if not run.label_issues.exists():
        return None
    row_of = {text_name(path, data.path): row for row, path in enumerate(data.store.paths)}
    issues = []
    for line, row in enumerate(run.read_table(run.label_issues, ("file", "given", "suggested", "score")), 2):
        if (i := row_of.get(row["file"])) is not None:
            score = Cells(run.label_issues, line, row).number("score", low=0, high=1)
            issues.append(LabelIssue(i, data.store.paths[i], row.get("tag"), row["given"], row["suggested"], score))
    return issues


def metrics_of_run(
    learn: Learner, predictions: Predictions | None, choice: StageChoice | None = None
) -> dict[str, Any]:
    """Return what ``metrics.json`` holds: the headline, all scores, thresholds, calibration, counts.

    Args:
        learn: the trained learner.
        predictions: of its validation pictures; None where nothing validates.
        choice: the stages that were judged; None where nothing was.
    """
    data, train = learn.data, learn.data.split.train
    shares = data.labels.counts(train) / max(len(train), 1)
    first = None if predictions is None else headline(predictions)
    return {
        "headline": None if first is None else first.to_dict(),
        "metrics": [] if predictions is None else [e.to_dict() for e in default_estimates(predictions)],
        **learn.calibrated.manifest(),
        "with_thresholds": [Estimate.to_dict(first)] if first is not None and first.thresholds == HELD_OUT else [],
        "stages": None if choice is None or not choice.stages else choice.to_dict(),
        "n_train": len(train),
        "n_valid": len(data.split.valid),
        "classes": [str(c) for c in data.classes],
        "is_multi": data.is_multi,
        "training_shares": {str(c): float(s) for c, s in zip(data.classes, shares, strict=True)},
    }
