"""Commands on a disk that is full from the n-th call for room on, as the system itself would say it.

Slower than a test of one function: it is the only one that also counts what Rust and C++ write.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "reliability"))

import disk
import full_disk
from full_disk import Fault, Forks

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
    pytest.mark.skipif(sys.platform != "linux", reason="preloads a library as Linux does"),
]

COMMANDS: dict[str, list[str] | str] = {
    "a saved model": """
import torch
from onecycle.train.checkpoint import save_checkpoint
save_checkpoint("saved/model", model=torch.nn.Linear(200, 300), manifest={})
""",
    "a sample": 'from onecycle.data.synthetic.tiles import write_sample; write_sample("sample", 1, size_px=32)',
    "an archive": disk.COMMANDS["unpacked archive"],
    "predictions": ["predict", "runs/toy-001", "pictures", "--out", "out.csv", "--force"],
}
LOADED = ("torch", "timm", "pandas", "onecycle.train.checkpoint", "onecycle.cli.main", "onecycle.cli.predict")


@pytest.fixture(scope="module")
def forks(tmp_path_factory, class_run) -> Iterator[tuple[Forks, Path]]:
    top = tmp_path_factory.mktemp("full")
    world, keep = top / "world", top / "keep"
    for name in ("tmp", "saved"):
        (keep / name).mkdir(parents=True)
    (keep / "saved" / "model.json").write_text("{}\n")
    (keep / "out.csv").write_text("before\n")
    shutil.copytree(class_run.path, keep / "runs" / "toy-001")
    (keep / "pictures").mkdir()
    for picture in [*class_run.data.rglob("*.png"), *class_run.data.rglob("*.jpg")][:3]:
        shutil.copy(picture, keep / "pictures")
    shutil.make_archive(str(keep / "data"), "zip", keep, "pictures")
    world.mkdir()
    (top / "aside").mkdir()
    with Forks(top / "aside", world, {"ONECYCLE_HOME": str(world / "home")}, LOADED) as made:
        yield made, keep


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_said_and_leaves_all_as_it_was(forks, command):
    run, keep = forks
    full_disk.lay_out(run.world, keep)
    before = full_disk.contents(keep)
    whole = run.run(COMMANDS[command])
    assert (whole.code, full_disk.flaws(run.world, before)) == (0, []), whole.said
    names = full_disk.names(run.world)
    calls = disk.chosen(whole.calls, short=True)
    assert calls
    for call in calls:
        full_disk.lay_out(run.world, keep)
        ended = run.run(COMMANDS[command], Fault(call=call.number))
        attack = disk.judged(command, call.place, ended, run.world, before, names)
        assert not attack.flaws, str(attack)
