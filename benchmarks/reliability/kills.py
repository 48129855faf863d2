"""Runs of ``onecycle train`` that are killed or stopped by signals, and taken up again until they are done: same bits?

A tiny network (drawn weights) on 60 drawn pictures, one thread; a checkpoint at each step. Runs are forked from a
process that has everything loaded. Compared with a run that nothing stopped: the model's file byte for byte (weights
with thresholds and calibration), the history without times, scores, predictions, doubtful labels.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch loads: a process with threads cannot be forked

import numpy as np
import pictures
import rows
import torch
from PIL import Image

from onecycle.cli import main as command_line
from onecycle.learner.fits import checkpoints
from onecycle.runs.checkpoints import is_over
from onecycle.runs.folder import RunFolder

KINDS = {
    "single label": ["--csv", "labels.csv", "--epochs", "2", "--no-early-stop"],
    "tags": ["--csv", "tags.csv", "--label-delim", " ", "--epochs", "2", "--freeze-epochs", "3", "--no-early-stop"],
}
"""One label a picture: the head is solved, the last stages train. Tags: sweeps, a head that is trained, all layers."""

QUICK = ["--no-label-check", "--no-audit", "--no-calibrate"]
"""For the kill before each single file operation, for signals, and for few attacks."""

FEW = [*KINDS["single label"], *QUICK]

STOPS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
COLOURS = {"red": (200, 40, 40), "green": (40, 180, 40), "blue": (40, 40, 200)}

Ends = dict[str, Any]


@dataclass
class Killed:
    """What happened to some runs."""

    kills: int = 0
    runs: int = 0
    equal: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, ours: Ends, theirs: Ends, what: str) -> None:
        """Compare a run that was taken up again with one that was not stopped."""
        different = [name for name in theirs if ours.get(name) != theirs[name]]
        self.runs, self.equal = self.runs + 1, self.equal + (not different)
        if different:
            self.wrong.append(f"{what}: {', '.join(different)}")

    def row(self, attack: str, n: int, detail: str) -> rows.Row:
        """Return the row."""
        wrong = "" if not self.wrong else f"; first: {self.wrong[0]}"
        figure = f"{self.equal} of {self.runs} runs bitwise equal"
        return rows.Row(attack, n, figure, detail + wrong, holds=self.equal == self.runs > 0)


class Runs:
    """Runs below a folder, all with the same data and weights."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        draw_data(folder / "d")
        pictures.draw_weights(folder / "w.safetensors")
        self.base = [
            "train",
            "d",
            "--size",
            "32",
            "--bs",
            "8",
            "--arch",
            "test_efficientnet",
            "--weights",
            "w.safetensors",
        ]

    def new(self) -> Path:
        """Return a folder of runs that is not there yet."""
        self.count += 1
        return self.folder / f"runs{self.count}"

    def words(self, given: list[str], out: Path) -> list[str]:
        """Return the command that begins a run, or the one that goes on where there is one."""
        run = the_run(out)
        return [*self.base, *given, "--out", str(out)] if run is None else ["train", "--resume", str(run.path)]

    def whole(self, given: list[str]) -> tuple[Ends, float, int]:
        """Return the ends of a run that nothing stops, its seconds, and its file operations."""
        out, counter = self.new(), self.folder / "operations"
        start_s = time.monotonic()
        code = wait(fork(self.words(given, out), self.folder, lambda: count_operations(out, counter)))
        if code != 0:
            raise RuntimeError((self.folder / "said").read_text())
        return ends(out), time.monotonic() - start_s, len(counter.read_bytes())

    def finish(self, given: list[str], out: Path) -> Ends:
        """Go on until the run is over; returns its ends."""
        code = wait(fork(self.words(given, out), self.folder))
        return ends(out) if code == 0 else {"code": f"{code}: {(self.folder / 'said').read_text()[-500:]}"}


def draw_data(root: Path) -> None:
    """Draw 60 pictures of three colours, with tables of labels and of tags."""
    (root / "train").mkdir(parents=True)
    rng, labels, tags = np.random.default_rng(0), ["name,label"], ["name,tags"]
    for i in range(60):
        label = [*COLOURS][i % 3]
        pixels = np.clip(np.array(COLOURS[label]) + rng.integers(-60, 60, (40, 40, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "train" / f"p{i:02d}.jpg", quality=92)
        labels.append(f"p{i:02d},{label}")
        tags.append(f"p{i:02d},{label}{' even' if i % 2 == 0 else ''}")
    (root / "labels.csv").write_text("\n".join(labels) + "\n")
    (root / "tags.csv").write_text("\n".join(tags) + "\n")


def the_run(out: Path) -> RunFolder | None:
    """Return the run that was begun; a folder without settings is none."""
    found = [RunFolder(p) for p in sorted(out.glob("*-0*")) if (p / "config.yaml").is_file()]
    return found[0] if found else None


def ends(out: Path) -> Ends:
    """Return all that must be the same."""
    run = the_run(out)
    if run is None or not is_over(run):
        return {"run": "not over"}
    files = {"model": run.model_stem.with_suffix(".safetensors"), "predictions": run.predictions}
    issues = run.label_issues.read_bytes() if run.label_issues.exists() else b""
    history = [line.rsplit(",", 1)[0] for line in run.history.read_text().splitlines()]
    metrics = run.read_json(run.metrics)
    return {name: p.read_bytes() for name, p in files.items()} | {
        "history": history,
        "metrics": metrics,
        "issues": issues,
    }


def fork(words: list[str], folder: Path, prepare: Callable[[], object] = lambda: None) -> int:
    """Start ``onecycle WORDS`` in a forked process; returns its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.chdir(folder)
        prepare()
        sys.argv = ["onecycle", *words]
        command_line.main()
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def wait(pid: int) -> int:
    """Return the exit code, negative where a signal ended the process."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def on_operation(out: Path, act: Callable[[], object]) -> None:
    """Call ``act`` before each operation of this process that changes a file or a name below ``out``."""

    def hook(event: str, values: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.symlink"):
            return
        if event == "open" and not (isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if any(isinstance(v, (str, os.PathLike)) and str(v).startswith(str(out)) for v in values[:2]):
            act()

    sys.addaudithook(hook)


def count_operations(out: Path, counter: Path) -> None:
    """Write a byte for each operation."""
    handle = os.open(counter, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    on_operation(out, lambda: os.write(handle, b"."))


def kill_before(out: Path, n: int) -> None:
    """Kill this process before its n-th operation."""
    left = [n]

    def act() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    on_operation(out, act)


def at_random(runs: Runs, kind: str, given: list[str], kills: int, n_runs: int) -> rows.Row:
    """Kill runs at random moments, each several times, and let them end."""
    killed, seeds = Killed(), 0
    while killed.kills < kills or killed.runs < n_runs:
        seeds += 1
        seeded = [*given, "--seed", str(seeds)]
        expected, took_s, operations = runs.whole(seeded)
        out, rng, wanted = runs.new(), random.Random(seeds), killed.kills + -(-kills // n_runs)
        for attempt in range(3 * (wanted - killed.kills)):
            if killed.kills >= wanted:
                break
            if attempt % 2:  # half of them by what was done, so that each part has its share on a busy machine, too
                n = rng.randint(1, operations)
                pid = fork(runs.words(seeded, out), runs.folder, lambda n=n, out=out: kill_before(out, n))
            else:
                pid = fork(runs.words(seeded, out), runs.folder)
                time.sleep(rng.uniform(0, took_s / 2))
                os.kill(pid, signal.SIGKILL)
            code = wait(pid)
            killed.kills += code == -signal.SIGKILL
            run = the_run(out)
            if run is not None and is_over(run):  # killed after its end, or it got there: the next one
                killed.add(ends(out), expected, f"seed {seeds}")
                out = runs.new()
        killed.add(runs.finish(seeded, out), expected, f"seed {seeds}")
    return killed.row(f"SIGKILL at random moments, {kind}", killed.kills, f"{seeds} seeds")


def before_each(runs: Runs, kind: str, most: int | None) -> rows.Row:
    """Kill a run before its first file operation, its second, …; each is then taken up again, or was not begun."""
    given = [*KINDS[kind], *QUICK]
    expected, _, operations = runs.whole(given)
    killed, begun = Killed(), 0
    step = 1 if most is None else max(1, operations // most)
    for n in range(1, operations + 1, step):
        out = runs.new()
        killed.kills += wait(fork(runs.words(given, out), runs.folder, lambda n=n, out=out: kill_before(out, n))) == -9
        begun += the_run(out) is not None
        killed.add(ends(out) if _is_over(out) else runs.finish(given, out), expected, f"operation {n}")
    which = "all" if step == 1 else f"each {step}th"
    detail = f"{which} of {operations}; {begun} resumed, {killed.runs - begun} not begun"
    return killed.row(f"SIGKILL before the n-th file operation, {kind}", killed.kills, detail)


def _is_over(out: Path) -> bool:
    run = the_run(out)
    return run is not None and is_over(run)


def by_signals(runs: Runs, each: int) -> rows.Row:
    """Send the signals that stop, once and twice, at random moments; the codes are right and the run goes on."""
    expected, took_s, _ = runs.whole(FEW)
    killed, rng, codes = Killed(), random.Random(7), 0
    for k, number in enumerate(STOPS):
        for i in range(k, k + each):  # one signal, two, one, …
            out = runs.new()
            pid = fork(runs.words(FEW, out), runs.folder)
            time.sleep(rng.uniform(0.1, took_s))
            for _ in range(1 + i % 2):
                os.kill(pid, number)
                time.sleep(0.02)
            code = wait(pid)
            killed.kills += 1
            right = code in (128 + number, 0) or (
                code == -number and (the_run(out) is None or _is_over(out))  # before and after it handles signals
            )
            codes += right
            killed.add(ends(out) if _is_over(out) else runs.finish(FEW, out), expected, f"{number.name}, {i}")
            if not right:
                killed.wrong.append(f"{number.name} ended with {code}")
                killed.equal -= 1
    detail = f"{codes} of {killed.kills} exit codes right (143, 129, 130)"
    return killed.row("SIGTERM, SIGHUP, SIGINT, once and twice", killed.kills, detail)


def main(short: bool = False) -> list[rows.Row]:
    """Return a row for each kind of stop."""
    torch.set_num_threads(1)  # also where torch was loaded before this file
    checkpoints.EVERY_S, checkpoints.MOST_STOPPED = 1e-3, float("inf")
    with tempfile.TemporaryDirectory(prefix="onecycle_kills_") as folder:
        os.environ |= {"ONECYCLE_HOME": str(Path(folder) / "home"), "HF_HUB_OFFLINE": "1"}
        runs, given = Runs(Path(folder)), sys.argv
        os.chdir(folder)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            sys.argv = ["onecycle", *runs.words(KINDS["tags"], runs.new())]
            command_line.main()  # here, so that no forked process loads anything
        sys.argv = given  # the command of the results
        more, kills, n_runs = (QUICK, 10, 1) if short else ([], 50, 5)
        found = [at_random(runs, kind, [*given, *more], kills, n_runs) for kind, given in KINDS.items()]
        found += [before_each(runs, kind, 2 if short else None) for kind in KINDS]
        return [*found, by_signals(runs, 1 if short else 20)]


if __name__ == "__main__":
    rows.show(main)
