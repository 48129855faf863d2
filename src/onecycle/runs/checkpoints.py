"""What a run writes down: while it trains, so that it can be taken up again; and when it is over."""

from __future__ import annotations

import datetime
import math
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch

from onecycle import __version__
from onecycle.errors import DataError
from onecycle.evaluation.certainty.intervals import Estimate
from onecycle.evaluation.headline import HELD_OUT, default_estimates, headline
from onecycle.evaluation.label_issues import LabelIssue
from onecycle.evaluation.predictions import Predictions
from onecycle.evaluation.report.verdict import IssueCount
from onecycle.files import csv_text, text_name, unescaped_cell
from onecycle.learner.fine_tune.best import StageChoice
from onecycle.learner.fine_tune.callback import StageCallback
from onecycle.learner.fine_tune.plan import HEAD, Stage
from onecycle.runs.folder import Cells, RunFolder
from onecycle.train.device.machine import device_name, n_cores
from onecycle.train.log.recorder import EpochRow, Recorder
from onecycle.train.lr_finder import Sweep

if TYPE_CHECKING:
    from onecycle.data.bunch import ImageDataBunch
    from onecycle.learner.learner import Learner
    from onecycle.train.loop import Trainer

LAST, INTERRUPTED, BEST = "last", "interrupted", "best"
"""Names of the weights below ``checkpoints``."""

SAVE_EVERY_S = 20.0
"""Weights are saved after an epoch when they are older than this: a head's epoch on features takes a tenth of a second,
and saving as long."""

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


@dataclass(frozen=True, kw_only=True)
class Done:
    """How far a run got, beside its weights."""

    weights: str = ""  # their name below ``checkpoints``; empty where nothing was saved
    head: bool = False  # whether the head's stage is over
    epochs: int = 0  # after the head's
    seconds: float = 0.0  # of training
    held_norms: bool | None = (
        None  # the body's batch-norm layers stay as they are; None before more than the head trains
    )
    reached: bool = False  # the last stages' epochs are over, and the weights those that they reached: not judged yet
    stopped: str = ""  # why these ended before their last epoch; "" where they did not
    trained: bool = False  # whether training is over
    label_issues: int | None = None  # labels that look doubtful; None where nobody looked yet
    label_doubts: dict[str, Any] | None = None  # the same as ``IssueCount``, with how many would if all were right
    rows: int = 0  # of the history, up to these weights
    stages: dict[str, Any] | None = None  # a ``StageChoice`` as plain values; its weights are ``BEST``

    @property
    def choice(self) -> StageChoice:
        """The stages that were judged so far."""
        return StageChoice() if self.stages is None else StageChoice.from_dict(self.stages)

    @classmethod
    def read(cls, run: RunFolder) -> Done:
        """Read how far a run got; nothing where it did not get to its first weights."""
        path = run.checkpoints / "progress.json"
        if not path.exists():
            return cls()
        values = run.read_json(path)
        try:
            return cls(**values)
        except TypeError as error:
            raise DataError(f"{path} is damaged ({error}); train again") from error


class RunCheckpoints(StageCallback):
    """Writes history and weights of a run after every epoch.

    Args:
        run: the folder.
        learn: whose weights they are.
        done: how far the run got in earlier sessions.
    """

    order = 35

    def __init__(self, run: RunFolder, learn: Learner, done: Done | None = None) -> None:
        self.run, self.learn, self.done = run, learn, done or Done()
        self.rows: list[list[str]] = []  # cells of ``history.csv``
        self._stage: Stage | None = None
        self._is_best = self._diverged = False  # of the stage that has just been judged
        self._began_s, self._before_s, self._saved_s = time.monotonic(), self.done.seconds, -math.inf
        if run.history.exists():  # an earlier session's
            self.rows = [list(row.values()) for row in run.read_table(run.history, _HISTORY_COLUMNS)][: self.done.rows]

    def on_stage_begin(self, stage: Stage, base_lr: float | None) -> None:
        """Note that a stage begins."""
        self._stage = stage
        if stage.trains != HEAD:
            self._note(held_norms=stage.hold_norms)

    def on_cycle_end(self, why: str) -> None:
        """Save what the last stages reached; what is left to do with it is done again after a stop."""
        self._note(reached=True, stopped=why)
        self.save(LAST)

    def on_stage_judged(self, choice: StageChoice, *, is_best: bool) -> None:
        """Note what was judged; ``on_stage_end`` saves the weights."""
        self._note(stages=choice.to_dict())
        self._is_best, self._diverged = is_best, not math.isfinite(choice.stages[-1].loss)

    def on_stage_end(self, stage: Stage) -> None:
        """Note that the stage is over, and save its weights: as the best ones, where they are or others start there."""
        if stage.trains == HEAD:
            self._note(head=True)
        self._stage = None
        self._note(reached=False)
        if self._diverged:
            self._write_done()  # the earlier weights stay
        else:
            is_start = stage.trains == HEAD and not self.done.choice.stages
            self.save(BEST if self._is_best or is_start else LAST)
        self._is_best = False

    def on_epoch_end(self, trainer: Trainer, row: EpochRow) -> None:
        """Write the history; save the weights where that is due."""
        if self._stage is None:
            return
        if self._stage.trains != HEAD:
            self._note(epochs=self.done.epochs + 1)
        self.rows.append(self._cells(self._stage, row))
        self.write_history()
        if time.monotonic() - self._saved_s >= SAVE_EVERY_S and math.isfinite(row.train_loss):
            self.save(LAST)

    @property
    def trained_last(self) -> str:
        """What the latest epoch trained."""
        return self.rows[-1][1]

    def save(self, name: str) -> None:
        """Save the weights, then how far they are; an interruption waits until both are there."""
        with uninterrupted():
            self.learn.save(self.run.checkpoints.resolve() / name, with_opt=False)
            self._note(weights=name, rows=len(self.rows))
            self._write_done()
        self._saved_s = time.monotonic()

    def _write_done(self) -> None:
        self.run.write_json(self.run.checkpoints / "progress.json", asdict(self.done))

    def finish(self) -> None:
        """Note that training is over, and save."""
        self._note(trained=True, reached=False)
        self.save(LAST)

    def clear(self) -> None:
        """Remove the weights below ``checkpoints``: the run's model is the one that is kept."""
        for name in (LAST, INTERRUPTED, BEST):
            for path in self.run.checkpoints.glob(f"{name}.*"):
                path.unlink(missing_ok=True)

    def note_issues(self, count: IssueCount) -> None:
        """Note how many labels look doubtful."""
        self._note(label_issues=count.flagged, label_doubts=asdict(count))

    def write_history(self) -> None:
        """Write ``history.csv``."""
        head = [*_HISTORY_COLUMNS[:-1], *self.learn.recorder.metric_names, _HISTORY_COLUMNS[-1]]
        self.run.write_text(self.run.history, csv_text([head, *self.rows]))

    def _note(self, **changes: Any) -> None:
        seconds = self._before_s + time.monotonic() - self._began_s
        self.done = replace(self.done, seconds=seconds, **changes)

    def _cells(self, stage: Stage, row: EpochRow) -> list[str]:
        size = "" if stage.size is None else "x".join(str(side) for side in stage.size)
        values = [row.train_loss, row.valid_loss, *row.metrics]
        values += [None] * (2 + len(self.learn.recorder.metric_names) - len(values))
        numbers = ["" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v) for v in values]
        return [str(len(self.rows)), stage.trains, size, *numbers, f"{row.time_s:.2f}"]


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


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and other signals that stop wait until the block is over; in the main thread, where they arrive."""
    waiting: list[int] = []
    with _handled(lambda number, _: waiting.append(number), STOPPING, callable):
        yield
    for number in waiting[:1]:  # to who would have had it
        signal.raise_signal(number)


STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C; docker stop, Slurm, systemd and kill; a terminal that is closed (Windows has none)."""


@contextmanager
def stopped_like_ctrl_c() -> Iterator[None]:
    """Let signals that would end the process at once end the block as Ctrl-C does; what is ignored (nohup) stays so.

    What stood on a terminal that is closed has nowhere to go any more: it must not keep anything from being saved.
    """
    terminals = [fd for fd in (1, 2) if os.isatty(fd)]

    def stop(number: int, _: object) -> None:
        if number != signal.SIGTERM:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for fd in terminals:
                os.dup2(nowhere, fd)
            os.close(nowhere)
        raise KeyboardInterrupt

    with _handled(stop, STOPPING[1:], lambda before: before is signal.SIG_DFL):
        yield


@contextmanager
def _handled(
    handler: Callable[[int, Any], object], numbers: Iterable[signal.Signals], where: Callable[[object], bool]
) -> Iterator[None]:
    """Handle some signals in the block, each where what handles it now allows; in the main thread alone."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in numbers if main and where(signal.getsignal(number))}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


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
        cells = {name: unescaped_cell(cell) for name, cell in row.items()}
        if (i := row_of.get(cells["file"], row_of.get(row["file"]))) is not None:
            score = Cells(run.label_issues, line, row).number("score", low=0, high=1)
            issues.append(
                LabelIssue(i, data.store.paths[i], cells.get("tag"), cells["given"], cells["suggested"], score)
            )
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
