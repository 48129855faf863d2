"""Trackers: what each library is told, and that none of them ever stops a run."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest
from train_toys import ToyLoader, accuracy, toy_trainer

from onecycle.errors import ArgumentError
from onecycle.train.log import trackers
from onecycle.train.log.recorder import Recorder
from onecycle.train.log.trackers import _BOARDS, tracker_for
from onecycle.train.schedules import Constant

CONFIG = {"arch": "resnet34", "size": 128, "odd\nname": "=1+1"}


def fit(callbacks, epochs=2, valid=True):
    trainer, recorder = toy_trainer(), Recorder(["accuracy"])
    trainer.fit(
        epochs,
        Constant((1e-3, 1e-2)),
        ToyLoader(),
        ToyLoader(10, 4, shuffle=False) if valid else None,
        recorder=recorder,
        metrics=[accuracy],
        callbacks=callbacks,
    )
    return recorder


def install(monkeypatch, name: str, **content: object) -> None:
    """Put a module of this name, and its parents, where ``import`` finds them."""
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        whole = ".".join(parts[:i])
        module = ModuleType(whole)
        vars(module).update(content if whole == name else {"__path__": []})
        monkeypatch.setitem(sys.modules, whole, module)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in ("WANDB_MODE", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", *trackers._QUIET):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


class Writer:
    """Stands in for TensorBoard's SummaryWriter."""

    def __init__(self, log_dir: str) -> None:
        self.log_dir, self.scalars, self.texts, self.events = log_dir, [], {}, []
        Writer.made = self

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def add_text(self, name: str, text: str, step: int) -> None:
        self.texts[name] = text

    def flush(self) -> None:
        self.events.append("flush")

    def close(self) -> None:
        self.events.append("close")


@pytest.fixture
def tensorboard(monkeypatch):
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)


def test_tensorboard_gets_every_epoch_of_all_fits_counted_on(tensorboard, tmp_path):
    tracker = tracker_for("tensorboard", tmp_path, "planet-001", CONFIG)
    first, second = fit([tracker]), fit([tracker], epochs=1)
    tracker.finish({"accuracy": 0.75, "nothing": None, "table": [1]})
    writer = Writer.made
    assert writer.log_dir == str(tmp_path / "tensorboard")
    curve = [(v, step) for name, v, step in writer.scalars if name == "train_loss"]
    rows = [*first.rows, *second.rows]
    assert curve == [(row.train_loss, i) for i, row in enumerate(rows)]
    assert [v for name, v, _ in writer.scalars if name == "accuracy"] == [r.metrics[0] for r in rows]
    assert [v for name, v, _ in writer.scalars if name == "lr"] == pytest.approx([1e-2] * 3)
    assert [(v, s) for name, v, s in writer.scalars if name.startswith("final/")] == [(0.75, 2)]
    assert "    arch: resnet34" in writer.texts["config"].splitlines()
    assert writer.events == ["flush", "flush", "close"]


def test_without_validation_the_training_loss_alone_is_sent(tensorboard, tmp_path):
    fit([tracker_for("tensorboard", tmp_path, "run", {})], valid=False)
    assert {name for name, _, _ in Writer.made.scalars} == {"train_loss", "lr", "epoch_s"}


class Client:
    """Stands in for MlflowClient."""

    def __init__(self, tracking_uri: str) -> None:
        self.uri, self.params, self.metrics, self.ended = tracking_uri, {}, [], []
        Client.made = self

    def get_experiment_by_name(self, name: str):
        return None

    def create_experiment(self, name: str) -> str:
        return "7"

    def create_run(self, experiment: str, run_name: str):
        self.run = experiment, run_name
        return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

    def log_param(self, run_id: str, key: str, value: str) -> None:
        self.params[key] = value

    def log_metric(self, run_id: str, key: str, value: float, step: int) -> None:
        self.metrics.append((key, value, step))

    def set_terminated(self, run_id: str) -> None:
        self.ended.append(run_id)


def test_mlflow_writes_below_the_run_unless_a_server_is_named(monkeypatch, tmp_path):
    install(monkeypatch, "mlflow.tracking", MlflowClient=Client)
    tracker = tracker_for("mlflow", tmp_path, "planet-001", CONFIG)
    recorder = fit([tracker])
    tracker.finish()
    client = Client.made
    assert str(tmp_path / "mlflow") in client.uri
    assert client.run == ("7", "planet-001")
    assert client.params == {"arch": "resnet34", "size": "128", "odd_name": "=1+1"}
    assert ("valid_loss", recorder.rows[1].valid_loss, 1) in client.metrics
    assert ("final/valid_loss", recorder.rows[1].valid_loss, 1) in client.metrics
    assert client.ended == ["r1"]
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker.example")
    fit([tracker_for("mlflow", tmp_path, "planet-002", {})])
    assert Client.made.uri == "http://tracker.example"


class WandbRun:
    """Stands in for a run of Weights & Biases."""

    def __init__(self) -> None:
        self.config, self.summary, self.points, self.finished = Settings(), Settings(), [], 0

    def log(self, values: dict, step: int) -> None:
        self.points.append((step, values))

    def finish(self) -> None:
        self.finished += 1


class Settings(dict):
    def update(self, values, allow_val_change=False):
        super().update(values)


def test_wandb_stays_offline_unless_the_user_said_otherwise(monkeypatch, tmp_path):
    run, asked = WandbRun(), []
    install(
        monkeypatch, "wandb", init=lambda **options: asked.append(options) or run, Settings=lambda **options: options
    )
    tracker = tracker_for("wandb", tmp_path, "planet-001", CONFIG)
    fit([tracker])
    tracker.finish({"accuracy": 0.5})
    assert asked[0]["mode"] == "offline"
    assert (asked[0]["name"], asked[0]["dir"]) == ("planet-001", str(tmp_path))
    assert asked[0]["settings"] == {"silent": True, "console": "off"}
    assert run.config == CONFIG
    assert [step for step, _ in run.points] == [0, 1]
    assert set(run.points[0][1]) == {"train_loss", "valid_loss", "accuracy", "lr", "epoch_s"}
    assert run.summary == {"final/accuracy": 0.5}
    assert run.finished == 1
    monkeypatch.setenv("WANDB_MODE", "online")
    fit([tracker_for("wandb", tmp_path, "planet-002", {})])
    assert asked[1]["mode"] == "online"


@pytest.mark.parametrize("where", ["__init__", "add_text", "add_scalar", "flush", "close"])
def test_an_error_of_the_tracker_is_told_once_and_the_run_goes_on(where, tensorboard, tmp_path, monkeypatch, capsys):
    def fails(*args, **options):
        raise OSError("no space left\x1b[2J on device")

    monkeypatch.setattr(Writer, where, fails)
    tracker = tracker_for("tensorboard", tmp_path, "run", CONFIG)
    recorder = fit([tracker], epochs=3)
    tracker.finish()
    tracker.finish()
    assert len(recorder.rows) == 3
    said = capsys.readouterr()
    assert said.err.count("tensorboard is off from here on (OSError: no space left") == 1
    assert "\x1b" not in said.err
    assert said.out == ""


def test_ctrl_c_in_a_tracker_still_stops_the_run(tensorboard, tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Writer, "add_scalar", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit([tracker_for("tensorboard", tmp_path, "run", {})])


@pytest.mark.parametrize("name", _BOARDS)
def test_a_tracker_that_is_not_installed_is_named_with_its_extra(name, tmp_path, monkeypatch):
    module = trackers._BOARDS[name][0]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ArgumentError, match=rf"pip install 'onecycle\[{name}\]'"):
        tracker_for(name, tmp_path, "run", {})


def test_an_unknown_tracker_is_an_error_with_a_near_name(tmp_path):
    with pytest.raises(ArgumentError, match="did you mean 'tensorboard'"):
        tracker_for("tensorbord", tmp_path, "run", {})


def test_trackers_take_no_part_in_the_finder():
    assert trackers.Tracker.in_lr_find is False
