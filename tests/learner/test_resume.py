"""A fit that was stopped anywhere and is taken up again ends as one that was not, bit for bit."""

from __future__ import annotations

import json
import re
import signal
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from onecycle.data.bunch import ImageDataBunch
from onecycle.errors import ArgumentError, CheckpointError, OnecycleWarning
from onecycle.learner.cnn import cnn_learner
from onecycle.learner.fine_tune import run as recipe
from onecycle.learner.fits import checkpoints
from onecycle.learner.fits.checkpoints import CheckpointCallback
from onecycle.learner.learner import Learner
from onecycle.train.callbacks import AccumulateScheduler, CSVLogger
from onecycle.train.loop import Callback, Trainer
from onecycle.train.metrics import accuracy
from onecycle.train.monitors import EarlyStoppingCallback, ReduceLROnPlateauCallback, SaveModelCallback
from onecycle.train.resume import fit_state
from onecycle.train.resume.state_files import StateFiles


class KilledError(BaseException):
    """The process is gone, and nothing is saved any more."""


class KillAt(Callback):
    """Stop at one step of all fits, after whoever saves."""

    order = 200

    def __init__(self, step: int, stop) -> None:
        self.left, self.stop = step, stop

    def on_batch_end(self, trainer, loss) -> None:
        self.left -= 1
        if self.left == 0:
            self.stop()


def killed() -> None:
    raise KilledError


@pytest.fixture(autouse=True)
def _ctrl_c():
    """Ctrl-C as in a terminal: a shell has it ignored by what runs beside it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def often(monkeypatch) -> float:
    """Seconds between checkpoints that make one due at each step, however long the disk takes for the one before."""
    monkeypatch.setattr(checkpoints, "MOST_STOPPED", float("inf"))
    monkeypatch.setattr(StateFiles, "is_busy", property(lambda files: files.wait()))
    return 1e-9


def net() -> nn.Sequential:
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(body, nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(8, 3)))


def callbacks_of(learn: Learner, kind: str) -> list[Callback]:
    made = {
        "none": [],
        "accumulating": [AccumulateScheduler(learn, 2)],
        "watching": [
            SaveModelCallback(learn),
            EarlyStoppingCallback(learn, patience=1),
            ReduceLROnPlateauCallback(learn, patience=0),
            CSVLogger(learn),
        ],
    }
    return made[kind]


def script(data: Path, folder: Path, every_s: float, kind: str = "none", *more: Callback, epochs: int = 2) -> Learner:
    """Two fits, as a user's script has them."""
    bunch = ImageDataBunch.from_csv(data, folder="train", suffix=".jpg", size=32, bs=8, valid_pct=0.2, seed=3)
    torch.manual_seed(5)
    learn = Learner(bunch, net(), metrics=accuracy, path=folder, silent=True)
    learn.callbacks += [CheckpointCallback(learn, every_s), *more]
    if kind == "mixed":
        learn.mixup()
    for n, lr in ((epochs, 1e-2), (1, 1e-3)):
        learn.fit_one_cycle(n, lr, callbacks=callbacks_of(learn, "none" if kind == "mixed" else kind))
    return learn


def outcome(learn: Learner) -> dict[str, object]:
    rows = [(r.epoch, r.train_loss, r.valid_loss, r.metrics) for r in learn.recorder.rows]
    optimizer = learn.trainer.optimizer
    return {
        "weights": {name: t.clone() for name, t in learn.model.state_dict().items()},
        "moments": {} if optimizer is None else optimizer.state({p: n for n, p in learn.model.named_parameters()})[0],
        "history": [
            rows,
            learn.recorder.losses,
            learn.recorder.all_lrs,
            learn.recorder.moms,
            learn.recorder.nb_batches,
        ],
        "epochs": learn.trainer.epochs_done,
    }


def same(ours: dict[str, object], theirs: dict[str, object]) -> None:
    for name in ("weights", "moments"):
        assert ours[name].keys() == theirs[name].keys()
        assert [n for n, t in ours[name].items() if not torch.equal(t, theirs[name][n])] == []
    assert (ours["history"], ours["epochs"]) == (theirs["history"], theirs["epochs"])


@pytest.mark.filterwarnings("ignore:.*another training.*")
@pytest.mark.parametrize("kind", ["none", "accumulating", "watching", "mixed"])
def test_a_script_that_is_killed_again_and_again_ends_as_one_that_is_not(colour_path, tmp_path, often, kind, capsys):
    """Six steps an epoch, two epochs and one: killed within epochs, at their ends, and in the second fit."""
    whole = outcome(script(colour_path, tmp_path / "whole", often, kind))
    for step in (3, 3, 1, 7, 2):  # counted anew in each process
        with pytest.raises(KilledError):
            script(colour_path, tmp_path / "killed", often, kind, KillAt(step, killed))
    learn = script(colour_path, tmp_path / "killed", often, kind)
    same(outcome(learn), whole)
    if kind == "watching":
        assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")


def log_of(folder: Path) -> list[str]:
    """The lines of the logger's file, without times."""
    return [line.rsplit(",", 1)[0] for line in (folder / "history.csv").read_text().splitlines()]


def test_only_what_was_not_trained_is_trained_again(colour_path, tmp_path, often):
    with pytest.raises(KilledError):
        script(colour_path, tmp_path, often, "none", KillAt(9, killed))
    counted = KillAt(100, killed)
    script(colour_path, tmp_path, often, "none", counted)
    assert 100 - counted.left == 9  # of 18
    counted = KillAt(100, killed)
    script(colour_path, tmp_path, often, "none", counted)
    assert counted.left == 100


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_step_and_is_saved(colour_path, tmp_path, number):
    whole = outcome(script(colour_path, tmp_path / "whole", 1e9))

    class Early(KillAt):
        order = 0

    before = signal.signal(number, signal.default_int_handler)  # as Ctrl-C's, for both
    try:
        with pytest.raises(KeyboardInterrupt):
            script(colour_path, tmp_path / "o", 1e9, "none", Early(8, lambda: signal.raise_signal(number)))
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    counted = KillAt(100, killed)
    same(outcome(script(colour_path, tmp_path / "o", 1e9, "none", counted)), whole)
    assert 100 - counted.left == 10


def test_a_stop_in_validation_is_saved_at_once(colour_path, tmp_path, often, monkeypatch):
    whole = outcome(script(colour_path, tmp_path / "whole", 1e9))
    from onecycle.train import loop

    original = loop.evaluate

    def interrupted(*args, **how):
        signal.raise_signal(signal.SIGINT)
        return original(*args, **how)

    monkeypatch.setattr(loop, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        script(colour_path, tmp_path / "o", 1e9)
    monkeypatch.setattr(loop, "evaluate", original)
    counted = KillAt(100, killed)
    same(outcome(script(colour_path, tmp_path / "o", 1e9, "none", counted)), whole)
    assert 100 - counted.left == 12


def test_a_damaged_checkpoint_is_said_and_the_one_before_used(colour_path, tmp_path, often):
    whole = outcome(script(colour_path, tmp_path / "whole", often))
    with pytest.raises(KilledError):
        script(colour_path, tmp_path / "o", often, "none", KillAt(5, killed))
    files = sorted((tmp_path / "o" / "models" / "resume").glob("*.safetensors"), key=lambda p: p.stat().st_mtime_ns)
    assert len(files) == 2
    data = bytearray(files[-1].read_bytes())
    data[-9] ^= 4
    files[-1].write_bytes(data)
    with pytest.warns(OnecycleWarning, match="damaged.*the state before it is used"):
        same(outcome(script(colour_path, tmp_path / "o", often)), whole)


def with_values(path: Path, change) -> None:
    """Write a state with other values, and with the digest that fits, as whoever made it could."""
    with safe_open(path, framework="pt") as file:
        head, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    values = json.loads(head["values"])
    change(values)
    text = json.dumps(values)
    save_file(tensors, path, {**head, "values": text, "digest": fit_state._digest(tensors, text)})


@pytest.mark.parametrize(
    ("place", "new", "match"),
    [
        (("epoch",), -1, "epoch: expected a whole number"),
        (("over",), None, "over: expected true or false"),
        (("recorder", "rows"), [{}], r"recorder\.rows\.0.* is missing"),
        (("recorder", "picked"), [1], "picked: expected a list of 2 values"),
        (("callbacks",), [], "callbacks: expected an object"),
        (("optimizer",), {}, r"does not fit \(KeyError"),
        (("optimizer", "groups"), 3, r"does not fit \(TypeError"),
        (("fit",), [], "fit: expected an object"),
        (("precision",), {"dtype": "fp8"}, r"precision\.dtype: expected"),
        (("network",), {"arch": 1}, r"network\.arch: expected text"),
    ],
)
def test_a_checkpoint_of_a_stranger_names_what_does_not_fit(colour_path, tmp_path, often, place, new, match):
    with pytest.raises(KilledError):
        script(colour_path, tmp_path, often, "none", KillAt(5, killed))

    def change(values) -> None:
        for step in place[:-1]:
            values = values[step]
        values[place[-1]] = new

    for path in (tmp_path / "models" / "resume").glob("*.safetensors"):
        with_values(path, change)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            script(colour_path, tmp_path, often)
            said = str(caught[0].message)  # and the fit began again
        except CheckpointError as error:
            said = str(error)
    assert re.search(match, said)


def test_a_checkpoint_of_another_fit_is_refused(colour_path, tmp_path, often):
    script(colour_path, tmp_path, often)
    with pytest.raises(ArgumentError, match="of another fit: epochs 2 there, 3 here"):
        script(colour_path, tmp_path, often, epochs=3)


def test_one_callback_writes_checkpoints(colour_path, tmp_path):
    bunch = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=32, bs=8)
    learn = Learner(bunch, net(), path=tmp_path, silent=True)
    learn.callbacks += [CheckpointCallback(learn), CheckpointCallback(learn, name="other")]
    with pytest.raises(ArgumentError, match="2 CheckpointCallbacks"):
        learn.fit(1)


def test_resume_is_a_keyword_of_each_fit(colour_path, tmp_path):
    def run() -> tuple[Learner, KillAt]:
        bunch = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=32, bs=8, seed=3)
        torch.manual_seed(5)
        learn, counted = Learner(bunch, net(), path=tmp_path, silent=True), KillAt(100, killed)
        learn.fit(1, 1e-2, resume=True, callbacks=counted)
        learn.fit_one_cycle(1, 1e-2, resume=True, callbacks=counted)
        return learn, counted

    (first, n), (again, none) = run(), run()
    assert (n.left, none.left) == (88, 100)
    same(outcome(again), outcome(first))
    with pytest.raises(ArgumentError, match="resume is True or False"):
        first.fit(1, resume="yes")


def test_a_recipe_goes_on_with_what_it_measured(colour_path, tmp_path, often, monkeypatch):
    def run(folder: str, *more: Callback, epochs: int = 2) -> Learner:
        bunch = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=32, bs=8, seed=3)
        torch.manual_seed(5)
        learn = Learner(bunch, net(), path=tmp_path / folder, silent=True)
        learn.callbacks += [CheckpointCallback(learn, often), *more]
        learn.fine_tune(epochs, base_lr=1e-2, early_stop=False, resume=True)
        return learn

    whole = outcome(run("whole"))
    for step in (2, 1, 5):
        with pytest.raises(KilledError):
            run("killed", KillAt(step, killed))
    monkeypatch.setattr(recipe, "measure", lambda *_, **__: killed())
    same(outcome(run("killed")), whole)
    with pytest.raises(ArgumentError, match="of a recipe with other arguments"):
        run("killed", epochs=3)


@pytest.mark.parametrize("stop", ["killed after its epoch", "a signal in validation"])
def test_a_head_that_is_solved_has_no_state_within(colour_path, tmp_path, often, monkeypatch, stop):
    """There is nothing in it to go on from: what was stopped before its end is solved anew, as one epoch."""

    class Stop(Callback):
        order = 200

        def on_epoch_end(self, trainer, row) -> None:
            killed()

    def run(folder: str, *more: Callback) -> dict[str, object]:
        bunch = ImageDataBunch.from_csv(colour_path, folder="train", suffix=".jpg", size=32, bs=8, seed=3)
        torch.manual_seed(5)
        options = {"pretrained": False, "levels": "auto", "precompute": 0}
        learn = cnn_learner(bunch, "test_efficientnet", path=tmp_path / folder, silent=True, **options)
        learn.callbacks += [CheckpointCallback(learn, often), *more]
        learn.freeze()
        learn.solve_head()
        return outcome(learn)

    whole = run("whole")
    with monkeypatch.context() as patched:
        if stop == "a signal in validation":
            patched.setattr(Trainer, "validate", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises((KilledError, KeyboardInterrupt)):
            run("o", Stop())
    assert not (tmp_path / "o" / "models").exists() or not [*(tmp_path / "o" / "models").rglob("*.safetensors")]
    same(run("o"), whole)


def test_a_full_disk_ends_the_fit_with_the_systems_words(colour_path, tmp_path, often, monkeypatch):
    from onecycle.train.resume import state_files

    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(state_files, "write_whole", full)
    with pytest.raises(OSError, match="No space left"):
        script(colour_path, tmp_path, often)
