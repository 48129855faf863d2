"""A script that torchrun starts in several processes ends as in one process with as many parts, bit for bit."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

sys.path.append(str(Path(__file__).parents[1]))  # in a process of its own, too

from onecycle.data.bunch import ImageDataBunch
from onecycle.distributed.joining import join
from onecycle.errors import DistributedError
from onecycle.learner.fits import checkpoints
from onecycle.learner.fits.checkpoints import CheckpointCallback
from onecycle.learner.learner import Learner
from onecycle.train.callbacks import CSVLogger
from onecycle.train.device.ranks import Ranks
from onecycle.train.loop import Callback
from onecycle.train.metrics import accuracy
from onecycle.train.monitors import EarlyStoppingCallback, SaveModelCallback
from onecycle.train.resume.state_files import StateFiles
from processes import in_ranks

DIES_AT = 9
"""Step, of six an epoch, in which the second process dies."""


class Dies(Callback):
    order = 200

    def __init__(self, step: int) -> None:
        self.left = step

    def on_batch_end(self, trainer, loss) -> None:
        self.left -= 1
        if self.left == 0:
            os._exit(9)


def net() -> nn.Sequential:
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(body, nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(8, 3)))


def learner(data: Path, folder: Path) -> Learner:
    bunch = ImageDataBunch.from_csv(data, folder="train", suffix=".jpg", size=32, bs=8, valid_pct=0.2, seed=3)
    torch.manual_seed(5)
    learn = Learner(bunch, net(), metrics=accuracy, path=folder, silent=True)
    return learn.to_distributed()


def cycle(data: Path, folder: Path, *more: Callback, parts: int = 1) -> Learner:
    """Train as a user's script does, with checkpoints at each step."""
    learn = learner(data, folder)
    learn.trainer.parts = max(parts, learn.trainer.parts)
    learn.callbacks += [CheckpointCallback(learn, 1e-9), *more]
    callbacks = [SaveModelCallback(learn), EarlyStoppingCallback(learn, patience=5), CSVLogger(learn)]
    learn.mixup().fit_one_cycle(3, 1e-2, callbacks=callbacks)
    return learn


def recipe(data: Path, folder: Path, parts: int = 1) -> Learner:
    """Features of the frozen layers, then all layers."""
    learn = learner(data, folder)
    learn.trainer.parts = max(parts, learn.trainer.parts)
    learn.fine_tune(2, base_lr=1e-2)
    return learn


def numbers(learn: Learner) -> dict[str, torch.Tensor]:
    rows = [(r.train_loss, r.valid_loss, *r.metrics) for r in learn.recorder.rows]
    weights = {name: t.clone(memory_format=torch.contiguous_format) for name, t in learn.model.state_dict().items()}
    return {**weights, "rows": torch.tensor(rows, dtype=torch.float64)}


def in_process(rank: int, n: int, address: str, data: str, folder: str) -> None:
    """The script in one of n processes, as torchrun starts it: both ways, then one that dies."""
    host, port = address.removeprefix("tcp://").split(":")
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(n), "MASTER_ADDR": host, "MASTER_PORT": port}
    torch.set_num_threads(1)
    save_each_step()
    of_rank = Path(folder) / f"of-{rank}"  # what a process writes for itself
    for name, run in (("cycle", cycle), ("recipe", recipe)):
        safetensors.torch.save_file(numbers(run(Path(data), Path(folder) / name)), f"{of_rank}-{name}")
    try:
        cycle(Path(data), Path(folder) / "killed", *([Dies(DIES_AT)] if rank == 1 else []))
    except DistributedError:
        os._exit(1)


def save_each_step() -> None:
    checkpoints.MOST_STOPPED = float("inf")
    StateFiles.is_busy = property(lambda files: files.wait())


@pytest.fixture(scope="module")
def of_ranks(colour_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("of_ranks")
    started = in_ranks(2, in_process, str(colour_path), str(folder))
    for process in started:
        process.join(200)
    assert [p.exitcode for p in started] == [1, 9]
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name, t in ours.items() if not torch.equal(t, theirs[name])] == []


@pytest.mark.parametrize("run", [cycle, recipe])
def test_two_processes_end_as_one_with_two_parts(of_ranks, colour_path, tmp_path, run):
    alone = numbers(run(colour_path, tmp_path, parts=2))
    for rank in range(2):
        same(safetensors.torch.load_file(of_ranks / f"of-{rank}-{run.__name__}"), alone)


def test_the_first_process_writes(of_ranks):
    log = (of_ranks / "cycle" / "history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch", "0", "1", "2"]
    assert (of_ranks / "cycle" / "models" / "bestmodel.safetensors").exists()


def test_one_process_goes_on_where_one_of_two_died(of_ranks, colour_path, tmp_path):
    counted = Dies(10**6)
    learn = cycle(colour_path, of_ranks / "killed", counted)
    assert learn.trainer.parts == 2
    assert 10**6 - counted.left in (
        18 - DIES_AT,
        19 - DIES_AT,
    )  # the other one may have saved the step in which it died
    same(numbers(learn), numbers(cycle(colour_path, tmp_path, parts=2)))


def test_more_processes_than_parts_are_refused(colour_path, tmp_path):
    learn = learner(colour_path, tmp_path)
    learn.trainer.ranks = Ranks(0, 3)
    with pytest.raises(DistributedError, match="in 1 part, which decides what comes out"):
        learn.fit(1)


def test_a_process_that_nobody_started_with_others_trains_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join(torch.device("cpu")) == Ranks()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(DistributedError, match="torchrun --nproc-per-node"):
        join(torch.device("cpu"))
