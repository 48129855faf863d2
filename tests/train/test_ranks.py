"""Several processes that train together give the bits of one that takes the batch in as many parts."""

from __future__ import annotations

import datetime
import json
import os
import sys
import warnings
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
from torch import nn

sys.path.append(str(Path(__file__).parents[1]))  # in a process of its own, too

from train_toys import ToyLoader

from onecycle.errors import DistributedError, OnecycleWarning, OutOfMemoryError
from onecycle.train.callbacks import AccumulateScheduler, GradientClipping, MixUpCallback
from onecycle.train.checkpoint import digest
from onecycle.train.device.ranks import Ranks
from onecycle.train.log.recorder import Recorder
from onecycle.train.loop import Trainer
from onecycle.train.schedules import OneCycle
from processes import in_ranks

OPTIMIZERS = {"sgd": partial(torch.optim.SGD, momentum=0.9), "adamw": torch.optim.AdamW}
CASES = [*product(OPTIMIZERS, (True, False))]
"""Optimizer; whether the body and its norms are held."""
N_VALID = 13


def network(*, held: bool) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        body = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU())
        head = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(16), nn.Linear(16, 3))
    body.requires_grad_(not held)
    return nn.Sequential(body, head)


def trained(kind: str, held: bool, ranks: Ranks, parts: int) -> dict[str, torch.Tensor]:
    """Take 20 steps in 4 epochs, the last batch of each is not full; return all that must be equal."""
    model = network(held=held)
    trainer = Trainer(
        model=model,
        layer_groups=list(model),
        loss_func=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5])),
        opt_func=OPTIMIZERS[kind],
        ranks=ranks,
        parts=parts,
    )
    learn, recorder = SimpleNamespace(data=SimpleNamespace(c=3)), Recorder()
    callbacks = [GradientClipping(learn, 0.5), AccumulateScheduler(learn, 2), MixUpCallback(learn)]
    schedule = OneCycle(20, (1e-2, 1e-1), (0.95, 0.85))
    valid = ToyLoader(N_VALID, 4, shuffle=False)
    trainer.fit(4, schedule, ToyLoader(35, 8), valid, recorder=recorder, callbacks=callbacks)
    numbers = {
        "raw": torch.tensor(recorder.raw_losses, dtype=torch.float64),
        "valid": torch.tensor([row.valid_loss for row in recorder.rows], dtype=torch.float64),
        "items": trainer.item_losses,
    }
    return {name: t.clone() for name, t in {**model.state_dict(), **numbers}.items()}


def joined(rank: int, n: int, address: str, seconds: int = 60) -> Ranks:
    torch.set_num_threads(1)
    limit = datetime.timedelta(seconds=seconds)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=n, timeout=limit)
    return Ranks(rank, n)


def train_all(rank: int, n: int, address: str, folder: str, parts: int) -> None:
    ranks = joined(rank, n, address)
    for number, case in enumerate(CASES if n == parts else CASES[:1]):
        safetensors.torch.save_file(trained(*case, ranks, parts), Path(folder) / f"{n}-{parts}-{rank}-{number}")


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory):
    """Folder of what 2 processes with 2 parts, 2 with 4 and 4 with 4 gave."""
    folder = tmp_path_factory.mktemp("ranks")
    started = [p for n, parts in ((2, 2), (2, 4), (4, 4)) for p in in_ranks(n, train_all, str(folder), parts)]
    for process in started:
        process.join(120)
    assert [p.exitcode for p in started] == [0] * len(started)
    return folder


def run_out(rank: int, n: int, address: str, folder: str, most: int) -> None:
    """Train one step where the second process has no room for more than ``most`` pictures at a time."""
    ranks = joined(rank, n, address)
    said = {"weights": "", "warned": [], "error": ""}
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            said["weights"] = step_with_room(ranks, most if rank == 1 else 100)
        said["warned"] = [str(w.message) for w in warned if isinstance(w.message, OnecycleWarning)]
    except (OutOfMemoryError, DistributedError, ArithmeticError) as error:
        said["error"] = f"{type(error).__name__}: {error}"
    (Path(folder) / f"{most}-{rank}.json").write_text(json.dumps(said))
    os._exit(1 if said["error"] else 0)


def step_with_room(ranks: Ranks, most: int) -> str:
    """Take one step with so much room; return the digest of the weights."""

    class Room(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if most == 0:
                raise ArithmeticError("a layer that fails")
            if len(x) > most:
                raise torch.OutOfMemoryError("out of memory")
            return x

    model = nn.Sequential(Room(), network(held=False))
    trainer = Trainer(
        model=model,
        layer_groups=[model],
        loss_func=nn.CrossEntropyLoss(),
        ranks=ranks,
        parts=2,
        opt_func=OPTIMIZERS["sgd"],
    )
    trainer.fit(1, OneCycle(1, (1e-1,), (0.95, 0.85)), ToyLoader(8, 8), recorder=Recorder())
    return digest(model.state_dict())


@pytest.mark.parametrize("most", [2, 1, 0])
def test_out_of_memory_splits_all_or_none(tmp_path, most):
    """Room for a half of the part; for less than batch-norm can do with; and an error that is none of memory."""
    started = in_ranks(2, run_out, str(tmp_path), most)
    for process in started:
        process.join(60)
    said = [json.loads((tmp_path / f"{most}-{rank}.json").read_text()) for rank in range(2)]
    if most == 2:
        with pytest.warns(OnecycleWarning, match="4 × 2 pictures"):
            alone = step_with_room(Ranks(), 2)
        assert [p.exitcode for p in started] == [0, 0]
        assert [s["weights"] for s in said] == [alone, alone]
        assert all("4 × 2 pictures" in s["warned"][0] for s in said)
    else:
        assert [p.exitcode for p in started] == [1, 1]
        kinds = ["OutOfMemoryError", "OutOfMemoryError"] if most else ["DistributedError", "ArithmeticError"]
        assert [s["error"].partition(":")[0] for s in said] == kinds


def die_early(rank: int, n: int, address: str, folder: str) -> None:
    ranks = joined(rank, n, address)
    ranks.wait()
    if rank == 1:
        os._exit(9)
    try:
        ranks.wait()
    except DistributedError as error:
        (Path(folder) / "error").write_text(str(error))
        os._exit(1)


def test_a_process_that_dies_ends_the_others(tmp_path):
    first, second = in_ranks(2, die_early, str(tmp_path))
    first.join(30)
    second.join(30)
    assert (first.exitcode, second.exitcode) == (1, 9)
    assert "another process of this training is gone" in (tmp_path / "error").read_text()


@pytest.fixture(autouse=True)
def one_thread():
    """Sums have one order for one number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("n", "parts", "number"),
    [*product((2,), (2,), range(len(CASES))), *product((4,), (4,), range(len(CASES))), (2, 4, 0)],
)
def test_ranks_give_the_bits_of_one_process(of_ranks, n, parts, number):
    alone = trained(*CASES[number], Ranks(), parts)
    for rank in range(n):
        there = safetensors.torch.load_file(of_ranks / f"{n}-{parts}-{rank}-{number}")
        assert {name: torch.equal(t, there[name]) for name, t in alone.items()} == dict.fromkeys(alone, True)


def test_parts_matter_a_little_and_learn_the_same():
    """Other draws of dropout and other statistics of batch-norm, the same gradient otherwise."""
    whole, parts = (trained("sgd", True, Ranks(), n) for n in (1, 2))
    assert not torch.equal(whole["raw"], parts["raw"])
    assert abs(float(whole["valid"][-1] - parts["valid"][-1])) < 0.5
