"""Curves of a run in TensorBoard, MLflow or Weights & Biases, for those who use one of them; each is optional.

A tracker is a guest: whatever goes wrong in it, the run goes on. Nothing goes over the network unless the user
asked for it: MLflow writes to a folder and Weights & Biases works offline, until ``MLFLOW_TRACKING_URI`` or
``WANDB_MODE`` say otherwise.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onecycle.errors import ArgumentError
from onecycle.text import safe_text
from onecycle.train.log.recorder import EpochRow
from onecycle.train.loop import Callback

if TYPE_CHECKING:
    from onecycle.train.loop import Trainer

_LONGEST = 500  # characters of a setting: older MLflow servers refuse more


class Board:
    """One run at a tracker, open from its making to ``close``."""

    def config(self, config: Mapping[str, Any]) -> None:
        """Note the settings of the run."""
        raise NotImplementedError

    def values(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each of some curves."""
        raise NotImplementedError

    def summary(self, values: Mapping[str, float], step: int) -> None:
        """Note the numbers that the run ended with."""
        self.values(values, step)

    def flush(self) -> None:
        """Bring what is waiting to where it belongs; some libraries send by themselves."""

    def close(self) -> None:
        """End the run."""
        raise NotImplementedError


class Tracker(Callback):
    """Hands the numbers of each epoch on to a tracker; an error there is told once and ends the tracking only.

    The epochs of several fits, as ``fine_tune`` makes them, are counted on.

    Args:
        name: of the tracker, for messages.
        open_board: begins the run there; called at the first fit.
        config: settings of the run, by name.
    """

    order = 40  # after all callbacks that change something

    def __init__(self, name: str, open_board: Callable[[], Board], config: Mapping[str, Any]) -> None:
        self.name, self.config = name, dict(config)
        self.epochs, self.last = 0, dict[str, float]()
        self._open_board = open_board
        self._board: Board | None = None
        self._off = False

    def on_train_begin(self, trainer: Trainer) -> None:
        """Begin the run at the first fit; of several processes that train together, the first one does."""
        self._off = self._off or not trainer.ranks.is_first
        self._with_board(lambda _: None)

    def on_epoch_end(self, trainer: Trainer, row: EpochRow) -> None:
        """Hand on losses, metrics and learning rate; they are on the host already, so nothing waits for a device."""
        self.last = epoch_values(trainer, row)
        step, self.epochs = self.epochs, self.epochs + 1
        self._with_board(lambda board: board.values(self.last, step))

    def state_dict(self) -> dict[str, Any]:
        """Return how many epochs were handed on."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Count on from there."""
        self.epochs = state["epochs"]

    def on_train_end(self, trainer: Trainer) -> None:
        """Leave nothing waiting: another fit may follow, or not."""
        self._with_board(lambda board: board.flush())

    def finish(self, summary: Mapping[str, float] | None = None) -> None:
        """End the run at the tracker.

        Args:
            summary: the numbers that it ended with; default those of the last epoch.
        """
        if self._board is not None:
            chosen = numbers(self.last if summary is None else summary)
            final = {f"final/{name}": value for name, value in chosen.items()}
            self._with_board(lambda board: board.summary(final, max(0, self.epochs - 1)), last=True)
        self._board, self._off = None, True

    def _with_board(self, call: Callable[[Board], None], *, last: bool = False) -> None:
        if self._off:
            return
        try:
            if self._board is None:
                self._board = self._open_board()
                self._board.config(self.config)
            try:
                call(self._board)
            finally:
                if last:
                    self._board.close()
        # Whatever a tracker raises (a server that is away, a full disk, a change of its API), hours of training must
        # not end because of it. This is the one boundary where any error is caught.
        except Exception as error:  # noqa: BLE001
            self._off = True
            reason = safe_text(f"{type(error).__name__}: {error}")[:300]
            print(f"{self.name} is off from here on ({reason}). The run goes on.", file=sys.stderr)


def tracker_for(name: str, folder: Path, run_name: str, config: Mapping[str, Any]) -> Tracker:
    """Return the callback that sends a run's curves to a tracker.

    Args:
        name: ``tensorboard``, ``mlflow`` or ``wandb``.
        folder: of the run; what the tracker keeps goes into a folder below it.
        run_name: what the tracker calls the run.
        config: settings of the run.

    Raises:
        ArgumentError: another name, or a tracker that is not installed.
    """
    if name not in _BOARDS:
        near = get_close_matches(name, _BOARDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(f"a tracker is one of {', '.join(_BOARDS)}; received {name!r}{hint}")
    module, board = _BOARDS[name]
    for variable, value in _QUIET.items():  # read when the library is imported
        os.environ.setdefault(variable, value)
    try:
        import_module(module)
    except ImportError as error:
        raise ArgumentError(
            f"{name} was asked for, but it is not installed ({error}): pip install 'onecycle[{name}]', or leave it out"
        ) from error
    return Tracker(name, lambda: board(Path(folder), run_name), config)


def epoch_values(trainer: Trainer, row: EpochRow) -> dict[str, float]:
    """Return the curves' values of an epoch by name; tables and what was not measured are left out."""
    measured: dict[str, Any] = {"train_loss": row.train_loss, "valid_loss": row.valid_loss}
    measured |= dict(zip(trainer.recorder.metric_names, row.metrics, strict=False))
    lrs = trainer.recorder.all_lrs
    measured |= {"lr": lrs[-1][-1]} if lrs else {}
    return numbers({**measured, "epoch_s": row.time_s})


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return what is a finite number."""
    plain = {k: v for k, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return {name: float(value) for name, value in plain.items() if math.isfinite(value)}


class _TensorBoard(Board):
    """Event files in ``<run>/tensorboard``; look at them with ``tensorboard --logdir runs``."""

    def __init__(self, folder: Path, run_name: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(log_dir=str(folder / "tensorboard"))

    def config(self, config: Mapping[str, Any]) -> None:
        lines = [f"    {name}: {value}" for name, value in config.items()]  # indented, Markdown shows them as they are
        self._writer.add_text("config", "\n".join(lines), 0)

    def values(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _MLflow(Board):
    """A run of the experiment "onecycle": in ``<run>/mlruns``, or where ``MLFLOW_TRACKING_URI`` says."""

    def __init__(self, folder: Path, run_name: str) -> None:
        from mlflow.tracking import MlflowClient

        # A client of its own: the module's functions would change the tracker's state for the whole process.
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:  # a database file: newer versions of MLflow write no plain folders any more
            (folder / "mlflow").mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{(folder.resolve() / 'mlflow' / 'mlflow.db').as_posix()}"
        self._client = MlflowClient(tracking_uri=uri)
        known = self._client.get_experiment_by_name("onecycle")
        experiment = known.experiment_id if known else self._client.create_experiment("onecycle")
        self._run_id = self._client.create_run(experiment, run_name=run_name).info.run_id

    def config(self, config: Mapping[str, Any]) -> None:
        for name, value in config.items():
            self._client.log_param(self._run_id, _mlflow_name(name), str(value)[:_LONGEST])

    def values(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run_id, _mlflow_name(name), value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


def _mlflow_name(name: str) -> str:
    return re.sub(r"[^\w\-. /]", "_", name)


class _Wandb(Board):
    """A run of the project "onecycle" in ``<run>/wandb``; ``wandb sync`` sends an offline one later."""

    def __init__(self, folder: Path, run_name: str) -> None:
        import wandb

        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "onecycle"),
            name=run_name,
            dir=str(folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            # No banner, and stdout left alone: a live bar is drawn there.
            settings=wandb.Settings(silent=True, console="off"),
        )

    def config(self, config: Mapping[str, Any]) -> None:
        self._run.config.update(dict(config), allow_val_change=True)

    def values(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def summary(self, values: Mapping[str, float], step: int) -> None:
        self._run.summary.update(dict(values))

    def close(self) -> None:
        self._run.finish()


_BOARDS: dict[str, tuple[str, Callable[[Path, str], Board]]] = {
    "tensorboard": ("torch.utils.tensorboard", _TensorBoard),
    "mlflow": ("mlflow.tracking", _MLflow),
    "wandb": ("wandb", _Wandb),
}

# No reports to their makers, which both send by default, and no lines between those of the run.
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING", "WANDB_ERROR_REPORTING": "false"}
