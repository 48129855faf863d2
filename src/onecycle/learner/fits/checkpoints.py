"""The checkpoints of a learner's fits, written within the epochs, and how a fit is taken up again at its last one."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import torch

from onecycle.errors import ArgumentError, CheckpointError
from onecycle.foreign import Fields, Refused, fitted
from onecycle.learner.fine_tune.noted import PrecisionFields
from onecycle.learner.heads.exchange import adopt_network
from onecycle.model.manifests import Network
from onecycle.train.callbacks import LearnerCallback
from onecycle.train.device.precision import Precision
from onecycle.train.log.recorder import EpochRow
from onecycle.train.loop import Callback, Trainer
from onecycle.train.resume.fit_state import FitState
from onecycle.train.resume.state_files import StateFiles
from onecycle.train.resume.stopping import Deferred
from onecycle.train.schedules import Schedule

EVERY_S = 20.0
"""Seconds between two checkpoints."""

MOST_STOPPED = 0.01
"""Share of the time for which copying a state may stop the steps: checkpoints come more rarely where it takes long."""


class _OfLearner(Fields):
    """What a state says of the learner, beside what the trainer reads."""

    fit: dict[str, Any]
    precision: PrecisionFields | None
    network: Network | None
    body_trained: bool


class CheckpointCallback(LearnerCallback):
    """Write checkpoints while the learner is fitted, and go on from the last one where the same script runs again.

    A checkpoint holds all that the rest of the fit depends on, so a fit that was killed and is taken up again ends with
    the weights of one that was not, bit for bit (same machine, same number of threads). It is for the fit of one
    number: the first of the learner, the second, …; one that was over is not trained again, its end is loaded. SIGINT,
    SIGTERM and SIGHUP wait until a step is over and its state is saved; a second one ends the process at once.

    Args:
        learn: the learner.
        every_s: seconds between two checkpoints, above 0.
        name: of their folder, below the folder of saved models.
        folder: the folder itself, instead of ``name``.
    """

    order = 100  # after all whose state it keeps
    learn: Any

    def __init__(
        self, learn: Any, every_s: float = EVERY_S, name: str = "resume", *, folder: Path | None = None
    ) -> None:
        super().__init__(learn)
        if not isinstance(every_s, (int, float)) or not every_s > 0:
            raise ArgumentError(f"every_s is a number of seconds above 0; received {every_s!r}")
        self.every_s, self.name, self._folder = every_s, name, folder
        self.stopped_s = 0.0  # for which the steps of the latest fit stood still
        self._number = 0  # of the latest fit
        self._has_steps = True  # whether it can go on within; a head that is solved has a beginning and an end
        self._described: dict[str, Any] = {}
        self._files: StateFiles | None = None
        self._state: FitState | None = None  # that the coming fit goes on from
        self._saved_s = self._copy_s = 0.0
        self._signals = Deferred(lambda: False, lambda: None)

    @property
    def folder(self) -> Path:
        """Where the checkpoints lie."""
        return self._folder or Path(self.learn.model_folder()) / self.name

    def open(self, epochs: int, schedule: Schedule | None, start_epoch: int) -> FitState | None:
        """Look for the state of the coming fit; it says what the fit is.

        Args:
            epochs, schedule, start_epoch: of the fit; no schedule is a head that is solved.

        Raises:
            ArgumentError: the checkpoint of this number is of another fit.
        """
        learn, folder = self.learn, self.folder
        self._number, self._has_steps = learn.n_fits, schedule is not None
        self._files = StateFiles(folder / f"fit-{self._number}")
        self._state = self._files.read()
        self._described = {
            "epochs": epochs,
            "start_epoch": start_epoch,
            "schedule": repr(schedule) if is_dataclass(schedule) else type(schedule).__name__,
            "classes": [str(c) for c in learn.data.classes],
            "training pictures": len(learn.data.split.train),
            "batch size": learn.data.batch_size,
            "seed": learn.data.seed,
        }
        before = None if self._state is None else self._checked(self._state.values)["fit"]
        for what, value in self._described.items():
            if before is not None and before.get(what) != value:
                raise ArgumentError(
                    f"fit {self._number} of this learner has a checkpoint in {folder}, and it is of another fit: "
                    f"{what} {before.get(what)!r} there, {value!r} here. Remove that folder, or name another one: "
                    "CheckpointCallback(learn, name=...)"
                )
        return self._state

    def _checked(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a state, whose fields of the learner are what they must be: anybody may have made it."""
        try:
            fitted(_OfLearner, values, f"the checkpoint of fit {self._number} in {self.folder}")
        except Refused as error:
            raise CheckpointError(f"{error}; remove that folder, and the fit begins again") from None
        return values

    def choose_precision(self, trainer: Trainer) -> bool:
        """Compute as the fit that is taken up again did; returns whether there is one."""
        if self._state is None:
            return False
        trainer.use_precision(Precision.of_values(self._state.values["precision"]))
        return True

    def take_end(self, callbacks: Sequence[Callback]) -> None:
        """Give the learner what this fit ended with, in place of running it; ``callbacks`` are those of the fit."""
        learn, state = self.learn, self._state
        trainer: Trainer = learn.trainer
        if state is None:
            raise CheckpointError(f"fit {self._number} has no checkpoint")
        adopt_network(learn, state.values["network"])
        self.choose_precision(trainer)
        trainer.recorder, trainer.callbacks = learn.recorder, sorted(callbacks, key=lambda cb: cb.order)
        state.put_into(trainer)
        learn.body_trained = state.values["body_trained"]
        learn.seen = learn.seen.after_training(learn.data, learn.norm_stats)
        self._state = None

    def on_train_begin(self, trainer: Trainer) -> None:
        """Take the fit up again, where it was begun before."""
        if self._files is None or self._number != self.learn.n_fits:
            raise ArgumentError(
                "a CheckpointCallback works in fit, fit_one_cycle, fit_schedule and fine_tune: give it to one of them, "
                "or to the learner by callbacks="
            )
        self.stopped_s, self._copy_s, self._saved_s = 0.0, 0.0, time.monotonic()
        if self._state is not None:
            self._state.put_into(trainer)
            if self._state.is_over:
                trainer.next_epoch = sys.maxsize
        self._signals = Deferred(lambda: trainer.is_validating, lambda: self._save_now(trainer))
        self._signals.__enter__()

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Within an epoch, callbacks go on as they were, too."""
        if self._state is not None and trainer.next_step:
            self._state.put_into_callbacks(trainer.callbacks)
        self._state = None

    def on_batch_end(self, trainer: Trainer, loss: torch.Tensor) -> None:
        """Save, where that is due or a signal came."""
        self._between(trainer, trainer.next_epoch, trainer.batch_no + 1)

    def on_epoch_end(self, trainer: Trainer, row: EpochRow) -> None:
        """Save, where that is due or a signal came; what was solved is saved as a whole, right afterwards."""
        if self._has_steps:
            self._between(trainer, trainer.next_epoch, 0)

    def on_train_end(self, trainer: Trainer) -> None:
        """Save what the fit ended with."""
        files, self._state = self._files, None
        try:
            if files is not None and trainer.is_over:
                self._write(files, self._taken(trainer, trainer.next_epoch, 0))
                if trainer.ranks.is_first:
                    files.keep_latest()
        finally:
            if files is not None:
                files.close()
            self._signals.__exit__()
        self._signals.obey()

    def _between(self, trainer: Trainer, epoch: int, step: int) -> None:
        """Between two steps: write a checkpoint where it is due; where a signal came, write it and obey."""
        files = self._files
        if files is None:
            return
        wait_s = max(self.every_s, self._copy_s / MOST_STOPPED)
        is_due = trainer.ranks.is_first and time.monotonic() - self._saved_s >= wait_s and not files.is_busy
        asked, due = trainer.ranks.most(self._signals.asked or 0, is_due)  # all stop after the same step
        if asked:
            self._signals.asked = int(asked)
            self._write(files, self._taken(trainer, epoch, step))
            files.wait()
            self._signals.obey()
            return
        if due:
            start_s = time.monotonic()
            self._write(files, self._taken(trainer, epoch, step))
            self._saved_s = time.monotonic()
            self._copy_s = self._saved_s - start_s
            self.stopped_s += self._copy_s

    def _save_now(self, trainer: Trainer) -> None:
        """Save while the epoch's steps are validated, which change nothing."""
        if self._files is not None and self._has_steps:
            self._write(self._files, self._taken(trainer, trainer.next_epoch, trainer.batch_no + 1))
            self._files.wait()

    def _write(self, files: StateFiles, state: FitState) -> None:
        """Begin to write a state; of several processes that train together, the first one does."""
        if self.learn.trainer.ranks.is_first:
            files.write(state)

    def _taken(self, trainer: Trainer, epoch: int, step: int) -> FitState:
        learn = self.learn
        return FitState.taken(
            trainer,
            epoch,
            step,
            fit=self._described,
            precision=trainer.precision_values(),
            network=learn.network,
            body_trained=learn.body_trained,
        )
