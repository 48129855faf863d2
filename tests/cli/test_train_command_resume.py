"""``onecycle train`` stopped and taken up again: Ctrl-C, signals, a killed process, a full disk, two at once."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from test_train_command import quick, train

from onecycle.cli import train as command
from onecycle.cli.exit_codes import exit_code
from onecycle.cli.training.progress import RunProgress
from onecycle.errors import ArgumentError, DataError, OnecycleWarning, OutputError
from onecycle.learner import learner as learner_module
from onecycle.learner.fine_tune import plan
from onecycle.learner.fine_tune import run as recipe
from onecycle.learner.fine_tune.plan import Speeds
from onecycle.learner.fine_tune.timing import TimedCycle
from onecycle.learner.fits import checkpoints
from onecycle.runs.checkpoints import JOURNAL, RunCheckpoints, is_over
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.train.checkpoint import read_manifest, read_weights
from onecycle.train.loop import Trainer
from onecycle.train.resume import state_files
from processes import start_command

LAST = {"csv": "labels.csv", "freeze_epochs": None, "epochs": 2, "early_stop": False, "label_check": True}
"""The head is solved, then the last stages train."""

TAGS = {"csv": "tags.csv", "label_delim": " ", "freeze_epochs": 2, "lr": None, "epochs": 2, "calibrate": True}
"""Tags; the head is trained with a learning rate that sweeps find, then all layers."""


class KilledError(BaseException):
    """Nothing is saved any more, as when a process is killed."""


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    """Write a checkpoint at each step; Ctrl-C as in a terminal: a shell has it ignored by what runs beside it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(checkpoints, "MOST_STOPPED", float("inf"))
    monkeypatch.setattr(checkpoints, "EVERY_S", 1e-9)
    yield
    signal.signal(signal.SIGINT, before)


def at(monkeypatch, owner: object, name: str, call: int, stop) -> Iterator[None]:
    """Let ``stop`` happen in place of one call of a function."""
    original, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            stop()
        return original(*args, **kwargs)

    return monkeypatch.setattr(owner, name, counted)


def killed() -> None:
    raise KilledError


def the_run(out: Path) -> RunFolder:
    return RunFolder(next(p for p in out.iterdir() if p.name.endswith("-001")))


def history(run: RunFolder) -> list[list[str]]:
    with run.history.open(newline="") as file:
        return [cells[:-1] for cells in csv.reader(file)]


def same_ends(ours: RunFolder, theirs: RunFolder) -> None:
    """Weights, manifest, history without times, scores, thresholds, calibration and predictions are the same."""
    stems = [run.model_stem.with_suffix(".safetensors") for run in (ours, theirs)]
    weights, expected = map(read_weights, stems)
    assert [n for n, tensor in expected.items() if not torch.equal(weights[n], tensor)] == []
    assert stems[0].read_bytes() == stems[1].read_bytes()
    assert history(ours) == history(theirs)
    assert ours.read_json(ours.metrics) == theirs.read_json(theirs.metrics)
    assert ours.predictions.read_bytes() == theirs.predictions.read_bytes()


POINTS = {
    "last stages": (
        LAST,
        [
            (command.recipe, "fine_tune", 1),
            (recipe, "measure", 1),
            (learner_module, "solve", 1),
            (state_files.StateFiles, "keep_latest", 1),  # the head is solved and written, and not judged
            (RunProgress, "_look_at_labels", 1),
            (TimedCycle, "on_batch_end", 2),
            (TimedCycle, "on_batch_end", 3),
            (recipe, "half_way", 1),
            (RunCheckpoints, "on_kept", 1),
            (command, "judge", 1),
            (command, "write_results", 1),
            (command, "write_report", 1),
            (RunCheckpoints, "finish", 1),
        ],
    ),
    "tags": (
        TAGS,
        [
            (learner_module.Learner, "lr_suggestion", 1),
            (Trainer, "_measure", 1),
            (TimedCycle, "on_batch_end", 1),
            (Trainer, "_measure", 2),
            (TimedCycle, "on_batch_end", 3),
            (command, "write_report", 1),
        ],
    ),
}


@pytest.mark.parametrize("kind", POINTS)
def test_a_run_killed_again_and_again_ends_as_one_that_is_not(colour_path, tmp_path, monkeypatch, kind):
    given, points = POINTS[kind]
    assert train(quick(colour_path, tmp_path / "whole", **given)).code == 0
    run, config = None, quick(colour_path, tmp_path / "killed", **given)
    for owner, name, call in points:
        with monkeypatch.context() as patch:
            at(patch, owner, name, call, killed)
            with pytest.raises(KilledError):
                train(config if run is None else None, resume=run and run.path)
        run = the_run(tmp_path / "killed")
        assert not is_over(run)
    assert train(None, resume=run.path).code == 0
    same_ends(run, the_run(tmp_path / "whole"))
    assert sorted(p.name for p in run.checkpoints.iterdir()) == [JOURNAL, "training.lock"]
    assert (tmp_path / "killed" / "latest").resolve() == run.path.resolve()
    with pytest.raises(ArgumentError, match="nothing to go on with"):
        train(None, resume=run.path)


def test_a_killed_run_keeps_the_plan_that_was_made_for_its_time(colour_path, tmp_path, monkeypatch):
    given, calls = {**LAST, "epochs": None, "minutes": 5.0, "label_check": False}, []

    def measure(*_, **__):  # a fast machine, and a slow one when the run goes on
        calls.append(1)
        speeds = Speeds(**dict.fromkeys(("forward_s", "train_s", "last_s", "maps_s"), 1e-4 if len(calls) == 1 else 1e3))
        return {"speeds": asdict(speeds), "bs": None, "precision": None, "spent_s": 0.5}

    monkeypatch.setattr(recipe, "measure", measure)
    monkeypatch.setattr(plan, "MOST_EPOCHS", 2)
    with monkeypatch.context() as patch:
        at(patch, TimedCycle, "on_batch_end", 3, killed)
        with pytest.raises(KilledError):
            train(quick(colour_path, tmp_path, **given))
    run = the_run(tmp_path)
    before = json.loads((run.checkpoints / JOURNAL).read_text())
    assert train(None, resume=run.path).code == 0
    after = json.loads((run.checkpoints / JOURNAL).read_text())
    assert {key: after[key] for key in before} == before
    assert (len(calls), [cells[1] for cells in history(run)]) == (1, ["stage", "head", "last stages", "last stages"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_says_how_to_go_on(colour_path, tmp_path, monkeypatch, number, code):
    given = {**LAST, "label_check": False, "levels": 2}
    with monkeypatch.context() as patch:
        at(patch, TimedCycle, "on_batch_end", 3, lambda: signal.raise_signal(number))
        said = train(quick(colour_path, tmp_path, **given))
    run = the_run(tmp_path)
    assert said.code == code
    assert f"onecycle train --resume {run.path}" in said.out
    steps = []
    with monkeypatch.context() as patch:
        step = TimedCycle.on_batch_end
        patch.setattr(TimedCycle, "on_batch_end", lambda *a: (steps.append(1), step(*a))[1])
        assert train(None, resume=run.path).code == 0
    assert len(steps) == 3  # of 6, and none of the first three
    assert RunConfig.read(run.config).levels == 2
    assert read_manifest(run.model_stem)["network"]["head"] == {"levels": 2, "views": 2}


def test_a_stop_before_the_run_begins_leaves_nothing(colour_path, tmp_path, monkeypatch):
    at(monkeypatch, command, "make_learner", 1, lambda: signal.raise_signal(signal.SIGTERM))
    said = train(quick(colour_path, tmp_path, **LAST))
    assert (said.code, [*tmp_path.iterdir()]) == (143, [])
    assert "nothing was trained, and nothing written" in " ".join(said.out.split())


@pytest.mark.parametrize("name", ["env", "data", "split", "config"])
def test_a_kill_while_the_folder_is_made_leaves_no_run(colour_path, tmp_path, monkeypatch, name):
    write = RunFolder.write_text

    def stop(self, path, text):
        if path == getattr(self, name):
            raise KilledError
        write(self, path, text)

    monkeypatch.setattr(RunFolder, "write_text", stop)
    with pytest.raises(KilledError):
        train(quick(colour_path, tmp_path, **LAST))
    with pytest.raises(DataError, match="is a folder, but no run"):
        RunFolder.open(the_run(tmp_path).path)


def test_a_full_disk_at_a_checkpoint_says_how_to_go_on(colour_path, tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(state_files, "write_whole", full)
        with pytest.raises(OutputError, match=r"safetensors.*--out, or free some.*train --resume .*-001") as caught:
            train(quick(colour_path, tmp_path, csv="labels.csv"))
    assert exit_code(caught.value) == 4
    assert train(None, resume=the_run(tmp_path).path).code == 0


def test_a_run_is_trained_by_one_process_and_named_by_the_commands(colour_path, tmp_path, monkeypatch):
    whole, tried = quick(colour_path, tmp_path, csv="labels.csv"), []

    def again() -> None:
        text = rf"is being trained by process {os.getpid()} on .*: wait until"
        with pytest.raises(OutputError, match=text) as caught:
            train(None, resume=the_run(tmp_path).path)
        tried.append(exit_code(caught.value))
        raise KilledError

    with monkeypatch.context() as patch:
        at(patch, Trainer, "train_step", 2, again)
        with pytest.raises(KilledError):
            train(whole)
    run = the_run(tmp_path)
    assert tried == [4]
    assert not (tmp_path / "latest").exists()
    with pytest.raises(DataError, match=rf"{run.path} is not finished.*--resume {run.path}"):
        RunFolder.open_finished(tmp_path / "latest")
    (run.checkpoints / "training.json").write_text('{"pid": 1, "host": "h", "since": "then"}')
    said = train(None, resume=tmp_path / "latest")
    assert "process 1 on h (since then) trained" in said.out
    assert RunFolder.open_finished(tmp_path / "latest").path.resolve() == run.path.resolve()
    newer = RunFolder.create(tmp_path, "x", latest=False)
    newer.config.write_text("")
    with pytest.warns(OnecycleWarning, match="x-001 is newer than .* and not finished"):
        RunFolder.open_finished(tmp_path / "latest")


@pytest.mark.parametrize(("n", "seen"), [(1, "interrupted"), (2, "")])
def test_real_signals_to_a_process_of_its_own(colour_path, tmp_path, n, seen):
    """One is obeyed when the step is over; a second one ends the process at once, and the run goes on all the same."""
    config = quick(colour_path, tmp_path / "runs", csv="labels.csv", epochs=40)
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    out, err = tmp_path / "out", tmp_path / "err"
    os.mkfifo(out)
    process = start_command(["train", "--config", "run.yaml", "--json"], tmp_path, os.environ, out=out, err=err)
    with out.open() as said:
        for line in said:
            if json.loads(line).get("stage") == "all layers":
                for _ in range(n):
                    os.kill(process.pid, signal.SIGTERM)
                break
        rest = said.read()
    process.join(60)
    assert process.exitcode == 143, err.read_text()
    assert seen in rest
    assert not is_over(the_run(tmp_path / "runs"))
