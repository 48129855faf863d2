"""``onecycle train`` stopped and taken up again: Ctrl-C, a killed process, a time that is over."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import signal

import numpy as np
import pytest
import torch
from test_train_command import quick, train

from onecycle.cli.exit_codes import exit_code
from onecycle.cli.train import fine_tune_options
from onecycle.cli.training import results as closing
from onecycle.errors import ArgumentError, OutputError
from onecycle.learner.fine_tune import run as recipe
from onecycle.learner.fine_tune.plan import ALL
from onecycle.runs.checkpoints import Done, RunCheckpoints
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.load import load_bunch, load_learner
from onecycle.runs.predictions import read_predictions
from onecycle.train.checkpoint import read_manifest, read_weights
from processes import start_command


@pytest.fixture
def stop_after(monkeypatch):
    """Let Ctrl-C come when so many epochs are over."""
    original = RunCheckpoints.on_epoch_end

    def arrange(n: int, *, kind: type[BaseException] = KeyboardInterrupt) -> None:
        def on_epoch_end(self, trainer, row):
            original(self, trainer, row)
            if len(self.rows) == n:
                raise kind

        monkeypatch.setattr(RunCheckpoints, "on_epoch_end", on_epoch_end)

    return arrange


def stages(run: RunFolder) -> list[str]:
    return [row["stage"] for row in csv.DictReader(run.history.read_text().splitlines())]


def test_ctrl_c_saves_and_says_how_to_go_on(colour_path, tmp_path, stop_after, monkeypatch):
    stop_after(2)
    said = train(quick(colour_path, tmp_path, csv="labels.csv", epochs=3, label_check=True))
    run = RunFolder.open(tmp_path / "latest")
    assert said.code == 130
    assert f"onecycle train --resume {run.path}" in said.out
    assert run.config.exists()
    assert run.split.exists()
    assert stages(run) == ["head", "all layers"]
    assert not run.metrics.exists()
    saved = load_learner(run, bunch=load_bunch(run), stem=run.checkpoints / "interrupted")
    losses = [float(r["valid_loss"]) for r in csv.DictReader(run.history.read_text().splitlines())]
    assert saved.validate()[0] == pytest.approx(losses[-1], rel=1e-3)
    check_the_rest(run, tmp_path, stop_after, monkeypatch)


def check_the_rest(run, tmp_path, stop_after, monkeypatch) -> None:
    """Go on: the epochs left in a new cycle, norms held as before, labels not checked again, into the same folder."""
    stop_after(99)
    issues, begun, begin = run.label_issues.read_bytes(), [], RunCheckpoints.on_stage_begin
    monkeypatch.setattr(
        RunCheckpoints, "on_stage_begin", lambda self, stage, lr: (begun.append(stage), begin(self, stage, lr))
    )
    said = train(None, resume=run.path)
    assert said.code == 0
    assert "2 of 3 epochs after the head's are left; they run as a new cycle" in " ".join(said.out.split())
    assert [(s.trains, s.hold_norms) for s in begun] == [(ALL, True)]
    assert stages(run) == ["head", *["all layers"] * 3]
    assert len(read_predictions(run.predictions)) == 12
    assert run.label_issues.read_bytes() == issues
    assert run.read_json(run.metrics)["label_issues"] == Done.read(run).label_issues is not None
    assert [p.name for p in tmp_path.glob("*-00*")] == [run.name]
    with pytest.raises(ArgumentError, match="nothing to go on with"):
        train(None, resume=run.path)


def test_a_full_disk_at_a_checkpoint_says_how_to_go_on(colour_path, tmp_path, monkeypatch):
    def full(self, name):
        raise OSError(errno.ENOSPC, "No space left on device", str(self.run.checkpoints / "last.safetensors"))

    save = RunCheckpoints.save
    monkeypatch.setattr(RunCheckpoints, "save", full)
    with pytest.raises(OutputError, match=r"last.safetensors.*--out, or free some.*train --resume .*-001$") as caught:
        train(quick(colour_path, tmp_path, csv="labels.csv"))
    assert exit_code(caught.value) == 4
    monkeypatch.setattr(RunCheckpoints, "save", save)
    assert train(None, resume=RunFolder.open(tmp_path / "latest").path).code == 0


def test_a_stop_while_the_last_stages_train_goes_on_with_them(colour_path, tmp_path, stop_after):
    stop_after(2)
    solved = {"csv": "labels.csv", "freeze_epochs": None, "epochs": 3, "early_stop": False}
    assert train(quick(colour_path, tmp_path, **solved)).code == 130
    run = RunFolder.open(tmp_path / "latest")
    assert stages(run) == ["head", "last stages"]
    assert (Done.read(run).epochs, Done.read(run).held_norms) == (1, True)
    stop_after(99)
    assert train(None, resume=run.path).code == 0
    assert stages(run) == ["head", *["last stages"] * 3]


class KilledError(BaseException):
    """Nothing is saved any more, as when a process is killed."""


LAST_STAGES = {"csv": "labels.csv", "freeze_epochs": None, "epochs": 2, "early_stop": False}


@pytest.fixture(scope="module")
def whole(colour_path, tmp_path_factory):
    """Runs that nothing stopped, whose last stages are kept half way, by the share that validates."""
    runs = {}
    for share in (0.2, 0.0):
        out = tmp_path_factory.mktemp("whole")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("onecycle.learner.fine_tune.best.paired_change", lambda *_: (0.0, 0.1))
            assert train(quick(colour_path, out, **LAST_STAGES, valid_pct=share)).code == 0
        runs[share] = RunFolder.open(out / "latest")
    return runs


@pytest.mark.parametrize(
    ("owner", "name", "share", "stop"),
    [
        (recipe, "half_way", 0.2, KilledError),
        (recipe, "half_way", 0.0, KilledError),
        (RunCheckpoints, "on_stage_judged", 0.2, KeyboardInterrupt),
        (RunCheckpoints, "on_stage_end", 0.2, KilledError),
    ],
    ids=["before-they-are-judged", "nothing-validates", "while-they-are-judged", "judged"],
)
def test_a_stop_after_the_last_epoch_ends_with_the_weights_of_a_run_without_one(
    colour_path, tmp_path, monkeypatch, whole, owner, name, share, stop
):
    """They are half way between those that the last stages started from and those that they reached."""
    monkeypatch.setattr("onecycle.learner.fine_tune.best.paired_change", lambda *_: (0.0, 0.1))
    original, calls = getattr(owner, name), []

    def stopped(*args, **kwargs):
        calls.append(args)
        if len(calls) == (1 if owner is recipe else 2):  # the head's stage is judged, too
            raise stop
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, stopped)
    with contextlib.suppress(KilledError):
        assert train(quick(colour_path, tmp_path, **LAST_STAGES, valid_pct=share)).code == 130
    monkeypatch.setattr(owner, name, original)
    run = RunFolder.open(tmp_path / "latest")
    assert "it is judged now" in train(None, resume=run.path).out
    ours, theirs = (read_weights(r.model_stem.with_suffix(".safetensors")) for r in (run, whole[share]))
    assert [n for n, tensor in theirs.items() if not torch.equal(ours[n], tensor)] == []
    assert run.read_json(run.metrics)["stages"] == whole[share].read_json(whole[share].metrics)["stages"]
    assert stages(run) == ["head", "last stages", "last stages"]


@pytest.mark.parametrize(("levels", "at_epoch"), [(2, 2), ("none", 1)])
def test_the_stages_that_the_head_reads_are_those_of_the_run_after_a_stop(
    colour_path, tmp_path, stop_after, levels, at_epoch
):
    stop_after(at_epoch)
    given = {"csv": "labels.csv", "freeze_epochs": None if levels == 2 else 2, "epochs": 2, "levels": levels}
    said = train(quick(colour_path, tmp_path, **given, early_stop=False))
    assert f"levels {levels} (option)" in " ".join(said.out.split())
    run = RunFolder.open(tmp_path / "latest")
    stop_after(99)
    assert train(None, resume=run.path).code == 0
    assert RunConfig.read(run.config).levels == levels
    assert read_manifest(run.model_stem)["network"]["head"] == (
        {"levels": 2, "views": 2} if levels == 2 else {"levels": None}
    )
    assert stages(run)[-2:] == ["last stages" if levels == 2 else "all layers"] * 2


def test_a_stop_in_the_heads_stage_begins_it_again(colour_path, tmp_path, stop_after):
    stop_after(1)
    train(quick(colour_path, tmp_path, csv="labels.csv", freeze_epochs=3))
    run = RunFolder.open(tmp_path / "latest")
    assert not Done.read(run).head
    stop_after(99)
    said = train(None, resume=run.path)
    assert "the head's stage was not over" in " ".join(said.out.split())
    assert stages(run) == ["head"] * 4 + ["all layers"]


def test_a_killed_process_goes_on_from_its_last_weights(colour_path, tmp_path, stop_after):
    class Killed(BaseException):
        pass

    stop_after(2, kind=Killed)
    with pytest.raises(Killed):
        train(quick(colour_path, tmp_path, csv="labels.csv", epochs=2))
    run = RunFolder.open(tmp_path / "latest")
    done = Done.read(run)
    assert (done.weights, done.head, done.epochs) == ("best", True, 0)  # the epoch after it is too young
    stop_after(99)
    assert train(None, resume=run.path).code == 0
    assert stages(run) == ["head", "all layers", "all layers"]


def test_a_killed_run_keeps_the_best_stage_of_all_its_sessions(colour_path, tmp_path, stop_after, monkeypatch):
    """All layers do harm in both sessions, so the run's model is the head's of the first, bit for bit."""

    def harm(self, trainer, loss):
        if self._stage is not None and self._stage.trains == ALL:
            with torch.no_grad():
                list(self.learn.model.parameters())[-1].add_(torch.tensor([-3.0, 0.0, 3.0]))

    monkeypatch.setattr(RunCheckpoints, "on_batch_end", harm)
    stop_after(2)
    assert train(quick(colour_path, tmp_path, csv="labels.csv", epochs=2, early_stop=False)).code == 130
    run = RunFolder.open(tmp_path / "latest")
    best = read_weights(run.checkpoints / "best.safetensors")
    assert [s.name for s in Done.read(run).choice.stages] == ["head"]
    stop_after(99)
    said = train(None, resume=run.path)
    assert said.code == 0
    assert stages(run) == ["head", "all layers", "all layers"]
    model = read_weights(run.model_stem.with_suffix(".safetensors"))
    assert all(torch.equal(model[name], tensor) for name, tensor in best.items())
    metrics = run.read_json(run.metrics)
    assert (metrics["stages"]["kept"], [s["name"] for s in metrics["stages"]["stages"]]) == (0, ["head", "all layers"])
    assert (metrics["headline"]["picked"], metrics["headline"]["picked_of"]) == ("stage", 2)
    assert "kept stage 1, head" in " ".join(said.out.split())
    assert [p.name for p in run.checkpoints.iterdir()] == ["progress.json"]


def test_a_stop_before_anything_was_trained(colour_path, tmp_path, monkeypatch):
    from onecycle.learner.fine_tune import run as recipe

    real = recipe.fine_tune

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "fine_tune", stop)
    assert train(quick(colour_path, tmp_path, csv="labels.csv")).code == 130
    monkeypatch.setattr(recipe, "fine_tune", real)
    run = RunFolder.open(tmp_path / "latest")
    assert train(None, resume=run.path).code == 0
    assert stages(run) == ["head", "all layers"]


def test_a_stop_while_it_is_judged_trains_nothing_again(colour_path, tmp_path, monkeypatch):
    from onecycle.cli import train as module

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "judge", stop)
    assert train(quick(colour_path, tmp_path, csv="labels.csv")).code == 130
    run = RunFolder.open(tmp_path / "latest")
    assert Done.read(run).trained
    before = run.history.read_bytes()
    monkeypatch.setattr(module, "judge", closing.judge)
    said = train(None, resume=run.path)
    assert "it is judged now" in said.out
    assert run.history.read_bytes() == before
    assert run.metrics.exists()


def test_a_stop_right_after_the_last_epoch_only_judges(colour_path, tmp_path, monkeypatch):
    def stop(self):
        raise KeyboardInterrupt

    finish = RunCheckpoints.finish
    monkeypatch.setattr(RunCheckpoints, "finish", stop)
    assert train(quick(colour_path, tmp_path, csv="labels.csv")).code == 130
    monkeypatch.setattr(RunCheckpoints, "finish", finish)
    run = RunFolder.open(tmp_path / "latest")
    assert (Done.read(run).epochs, Done.read(run).trained) == (1, False)
    assert "it is judged now" in train(None, resume=run.path).out
    assert Done.read(run).trained
    with pytest.raises(ArgumentError, match="--dry-run tries a new run"):
        train(None, resume=run.path, dry_run=True)


def test_what_is_left_of_epochs_and_minutes():
    epochs = RunConfig.merged(None, {"data": "x", "epochs": 4, "lr": 1e-3})
    assert fine_tune_options(epochs).epochs == 4
    options = fine_tune_options(epochs, Done(weights="last", head=True, epochs=3, held_norms=True))
    assert (options.epochs, options.freeze_epochs, options.train_bn) == (1, 0, False)
    minutes = RunConfig.merged(None, {"data": "x", "minutes": 5.0})
    assert fine_tune_options(minutes, Done(weights="last", head=True, seconds=120.0)).minutes == pytest.approx(3.0)
    assert fine_tune_options(minutes, Done(weights="last", head=True, seconds=900.0)).minutes == pytest.approx(0.1)
    assert fine_tune_options(minutes, Done()).minutes == 5.0


def test_two_real_interrupts_in_a_row(colour_path, tmp_path):
    """A process of its own is sent SIGINT twice, the second while it saves."""
    config = quick(colour_path, tmp_path / "runs", csv="labels.csv", epochs=40)
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    out, err = tmp_path / "out", tmp_path / "err"
    os.mkfifo(out)
    process = start_command(["train", "--config", "run.yaml", "--json"], tmp_path, os.environ, out=out, err=err)
    with out.open() as said:
        for line in said:
            if json.loads(line).get("stage") == "all layers":
                os.kill(process.pid, signal.SIGINT)
                os.kill(process.pid, signal.SIGINT)
                break
        rest = said.read()
    process.join(60)
    assert process.exitcode == 130, err.read_text()
    assert json.loads(rest.splitlines()[-1])["event"] == "interrupted"
    run = RunFolder.open(tmp_path / "runs" / "latest")
    assert Done.read(run).head
    learn = load_learner(run, bunch=load_bunch(run), stem=run.checkpoints / Done.read(run).weights)
    assert np.isfinite(learn.get_preds()[0].numpy()).all()
