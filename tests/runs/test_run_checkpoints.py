"""What a run writes down while it trains and afterwards."""

from __future__ import annotations

import csv
import json
import os
import signal
import threading

import pytest
import torch

from onecycle.learner.fine_tune.plan import ALL, HEAD, Stage
from onecycle.runs.build import layout_of, make_bunch, make_learner, settled
from onecycle.runs.checkpoints import (
    LAST,
    STOPPING,
    Done,
    RunCheckpoints,
    environment,
    metrics_of_run,
    read_issues,
    read_sweeps,
    stopped_like_ctrl_c,
    uninterrupted,
    write_sweeps,
)
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.train.device.machine import peak_memory_mb


@pytest.fixture(scope="module")
def learner(colour_path, tmp_path_factory):
    asked = RunConfig.merged(None, {"data": str(colour_path), "csv": "labels.csv", "size": 32, "bs": 16})
    layout = layout_of(asked)
    learn = make_learner(asked, make_bunch(settled(asked, layout), layout), tmp_path_factory.mktemp("run"))
    learn.precompute = 0
    return learn


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder.create(tmp_path, "x")


def history(run: RunFolder) -> list[dict[str, str]]:
    return list(csv.DictReader(run.history.read_text().splitlines()))


def stage(trains: str, *, held: bool = False) -> Stage:
    return Stage(trains=trains, size=(32, 32), bs=16, epochs=2, forecast_s=1.0, hold_norms=held)


def test_history_and_progress_over_two_stages(learner, run):
    checkpoints = RunCheckpoints(run, learner)
    checkpoints.on_stage_begin(stage(HEAD), None)
    learner.fit_one_cycle(2, 1e-2, callbacks=checkpoints)
    checkpoints.on_stage_end(stage(HEAD))
    assert Done.read(run).head
    checkpoints.on_stage_begin(stage(ALL, held=True), None)
    learner.fit_one_cycle(1, 1e-2, callbacks=checkpoints)
    checkpoints.on_stage_end(stage(ALL))
    done = Done.read(run)
    assert (done.weights, done.epochs, done.held_norms, done.trained) == (LAST, 1, True, False)
    rows = history(run)
    assert [(r["epoch"], r["stage"], r["size"]) for r in rows] == [
        ("0", "head", "32x32"), ("1", "head", "32x32"), ("2", "all layers", "32x32"),
    ]  # fmt: skip
    assert list(rows[0]) == ["epoch", "stage", "size", "train_loss", "valid_loss", "accuracy", "time_s"]
    assert float(rows[2]["valid_loss"]) == pytest.approx(learner.recorder.rows[0].valid_loss, rel=1e-4)


def test_a_later_session_adds_to_the_history(learner, run):
    for _ in range(2):
        checkpoints = RunCheckpoints(run, learner, Done.read(run))
        checkpoints.on_stage_begin(stage(ALL), None)
        learner.fit_one_cycle(1, 1e-2, callbacks=checkpoints)
        checkpoints.on_stage_end(stage(ALL))
    assert [r["epoch"] for r in history(run)] == ["0", "1"]
    assert Done.read(run).epochs == 2


def test_fits_outside_a_stage_are_not_written(learner, run):
    checkpoints = RunCheckpoints(run, learner)
    learner.fit_one_cycle(1, 1e-2, callbacks=checkpoints)  # the sweeps', say
    assert checkpoints.rows == []
    assert not run.history.exists()


def test_weights_go_when_the_model_is_there(learner, run):
    checkpoints = RunCheckpoints(run, learner)
    checkpoints.finish()
    assert (run.checkpoints / "last.safetensors").exists()
    checkpoints.clear()
    assert [p.name for p in run.checkpoints.iterdir()] == ["progress.json"]
    assert Done.read(run).trained


def test_ctrl_c_waits_for_what_must_be_whole():
    steps = []

    def work() -> None:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("went on")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["went on"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_another_thread_it_does_nothing():
    seen = []

    def work() -> None:
        with uninterrupted():
            seen.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]


def test_sweeps_come_back(run):
    sweeps = [([1e-6, 1e-3], [0.7, 0.5]), ([1e-6], [0.6])]
    assert read_sweeps(run) == []
    write_sweeps(run, sweeps)
    assert read_sweeps(run) == sweeps


def test_the_environment_names_versions_and_no_user():
    found = environment(7, torch.device("cpu"))
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert found["seed"] == 7
    assert found["device"] == "CPU"
    assert os.path.expanduser("~") not in json.dumps(found)


def test_metrics_have_intervals_baselines_and_shares(learner):
    found = metrics_of_run(learner, learner.interpret().predictions)
    first = found["metrics"][0]
    assert first["name"] == "accuracy"
    assert first["low"] <= first["value"] <= first["high"]
    assert sum(found["training_shares"].values()) == pytest.approx(1)
    assert (found["n_train"], found["n_valid"]) == (48, 12)
    json.dumps(found)


def test_label_issues_come_back(learner, run):
    issues = learner.label_issues(folds=2)
    assert read_issues(run, learner.data) is None
    issues.to_csv(run.label_issues)
    found = read_issues(run, learner.data)
    assert [(i.row, i.given, i.suggested) for i in found] == [(i.row, i.given, i.suggested) for i in issues.top()]


def test_peak_memory_is_a_plausible_number():
    host, gpu = peak_memory_mb(torch.device("cpu"))
    assert 50 < host < 100_000
    assert gpu is None


@pytest.mark.parametrize("number", STOPPING[1:])
def test_a_signal_that_ends_a_process_stops_like_ctrl_c_and_waits_for_a_save(number):
    before, saved = signal.getsignal(number), []
    with pytest.raises(KeyboardInterrupt), stopped_like_ctrl_c():
        signal.raise_signal(number)

    def save() -> None:
        with uninterrupted():
            signal.raise_signal(number)
            signal.raise_signal(signal.SIGINT)
            saved.append(number)
        saved.append("never")

    with pytest.raises(KeyboardInterrupt), stopped_like_ctrl_c():
        save()
    assert saved == [number]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_a_signal_that_somebody_handles_is_left_alone(handler):
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with stopped_like_ctrl_c():
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_another_thread_signals_are_left_alone():
    seen = []

    def work() -> None:
        with stopped_like_ctrl_c(), uninterrupted():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
