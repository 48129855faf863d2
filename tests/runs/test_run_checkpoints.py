"""What a run writes down while it trains and afterwards."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator

import pytest
import torch

from onecycle.errors import DataError
from onecycle.learner.fine_tune.plan import ALL, HEAD, Stage
from onecycle.runs.build import layout_of, make_bunch, make_learner, settled
from onecycle.runs.checkpoints import (
    JOURNAL,
    RunCheckpoints,
    environment,
    is_over,
    metrics_of_run,
    read_issues,
    read_sweeps,
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
def run(tmp_path, learner) -> Iterator[RunFolder]:
    """A run's folder; the learner's fits are counted from its beginning."""
    learner.n_fits = 0
    yield RunFolder.create(tmp_path, "x")
    learner.callbacks.clear()


def history(run: RunFolder) -> list[dict[str, str]]:
    return list(csv.DictReader(run.history.read_text().splitlines()))


def stage(trains: str, *, held: bool = False) -> Stage:
    return Stage(trains=trains, size=(32, 32), bs=16, epochs=2, forecast_s=1.0, hold_norms=held)


def test_history_over_two_stages(learner, run):
    checkpoints = RunCheckpoints(run, learner)
    for trains, epochs in ((HEAD, 2), (ALL, 1)):
        checkpoints.on_stage_begin(stage(trains), None)
        learner.fit_one_cycle(epochs, 1e-2)
        checkpoints.on_stage_end(stage(trains))
    rows = history(run)
    assert [(r["epoch"], r["stage"], r["size"]) for r in rows] == [
        ("0", "head", "32x32"), ("1", "head", "32x32"), ("2", "all layers", "32x32"),
    ]  # fmt: skip
    assert list(rows[0]) == ["epoch", "stage", "size", "train_loss", "valid_loss", "accuracy", "time_s"]
    assert float(rows[2]["valid_loss"]) == pytest.approx(learner.recorder.rows[0].valid_loss, rel=1e-4)


def test_fits_outside_a_stage_are_not_written(learner, run):
    checkpoints = RunCheckpoints(run, learner)
    learner.fit_one_cycle(1, 1e-2)  # the sweeps', say
    assert checkpoints.rows == []
    assert not run.history.exists()


def test_checkpoints_go_when_the_run_is_over_and_latest_points_to_it(learner, run):
    checkpoints = RunCheckpoints(run, learner)
    learner.fit_one_cycle(1, 1e-2)
    assert [p.name for p in run.checkpoints.iterdir()] == ["fit-1.0.safetensors"]
    assert not is_over(run)
    checkpoints.finish()
    assert [p.name for p in run.checkpoints.iterdir()] == [JOURNAL]
    assert is_over(run)
    assert (run.path.parent / "latest").resolve() == run.path.resolve()


def test_a_damaged_journal_is_named(learner, run):
    RunCheckpoints(run, learner).journal.once("x", lambda: float("nan"), float)
    path = run.checkpoints / JOURNAL
    path.write_text(path.read_text()[:-3])
    with pytest.raises(DataError, match=r"journal\.json is damaged"):
        is_over(run)


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
