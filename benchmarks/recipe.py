"""The recipe against the state before it and against its own head alone: quality, calibration and processor seconds.

    python benchmarks/recipe.py --before CHECKOUT [--fashion FOLDER] [--seeds 1 2 3 4 5] [--only "Planet, tags"]
                                [--train 100 200 400] [--sides before head default] [--again]

CHECKOUT is a working copy of this project at the commit e892294, the last one before heads read several stages of the
network (`git worktree add CHECKOUT e892294`); FOLDER has Fashion-MNIST's four files. Each side is a process of its own
with an empty cache. What was measured earlier is kept and not measured again (--again: it is), so a run can be stopped
and taken up; the sides of a split run one after the other. ``--train`` measures the learning curve of Planet as tags.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from harness import report, sides
from harness.recipe_data import Task, tasks
from scipy.stats import t as student

from onecycle.evaluation.certainty.reliability import probability_error, reliability_curve, top_class
from onecycle.evaluation.scores import average_precision, sample_fbeta_score

BEFORE, HEAD, DEFAULT = "before", "head", "default"
EPOCHS = {BEFORE: 4, HEAD: 0, DEFAULT: 6}
"""Epochs after the head's stage: the defaults of ``onecycle train`` for so many pictures, then and now."""

CURVE = "Planet, tags"
LEVEL = 0.95
Measured = dict[str, Any]

METHOD = """
    Sides: before, the commit e892294 with its fine_tune(4); head, fine_tune(0); default, fine_tune(6), which is what
    onecycle train does with its default settings. EfficientNet-Lite0 with ImageNet weights, everything else left to
    fine_tune. Each is a process with an empty cache, on the same files, in turn within a split; n pictures train, and
    all numbers are of the held-out ones, which decide nothing but which stage is kept. Tags: exact-match error
    and sample-F2 by the decision that is made for each (before: probabilities from 0.5 and from 0.2 on), macro average
    precision over the tags that occur. Log loss: mean over pictures (and tags), natural logarithm. ECE is that of the
    model's own probabilities, beside what a perfectly calibrated model would show by chance; within chance says on how
    many splits the interval of their error begins at 0. Seconds are from the start of the process to the predictions:
    those of the processors, and those on the wall, on a machine that others may have used at the same time; with one
    thread (OMP_NUM_THREADS=1).
    "default - before" is the mean of the differences on the same splits, ± half its 95 % interval (Student). Data:
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="the checkout to compare with; without it, that side is left out")
    parser.add_argument("--data", type=Path, default=sides.PLANET, help="the Planet sample")
    parser.add_argument("--fashion", type=Path, help="the folder of Fashion-MNIST; without it, that set is left out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--only", default="", help="part of a data set's name")
    parser.add_argument("--train", type=int, nargs="*", default=[], help=f"fewer training pictures of {CURVE}")
    parser.add_argument("--sides", nargs="+", default=[BEFORE, HEAD, DEFAULT], choices=[*EPOCHS])
    parser.add_argument("--again", action="store_true", help="measure what was measured earlier, too")
    args = parser.parse_args()
    with sides.workplace() as folder:
        found = tasks(folder, args.data, args.fashion)
        runs = earlier()
        for task in found:
            if args.only.lower() in task.name.lower():
                measure(args, task, folder, runs, found)
        write(found, runs)


def earlier() -> dict[str, Measured]:
    """Return what was measured already, by what it is of."""
    results = report.RESULTS / "recipe.json"
    return json.loads(results.read_text())["runs"] if results.exists() else {}


def measure(args: argparse.Namespace, task: Task, folder: Path, runs: dict[str, Measured], found: list[Task]) -> None:
    """Run the sides of a data set, split by split, and write down what is known after each."""
    chosen = [side for side in args.sides if side != BEFORE or args.before is not None]
    for seed in args.seeds:
        for n in sorted({*(args.train if task.name == CURVE else []), task.n_train}):
            job = None
            for side in chosen:
                key = f"{task.name} | {n} | {seed} | {side}"
                if key in runs and not args.again:
                    continue
                job = job or task.job(seed, n)
                runs[key] = one(side, {**job, "epochs": EPOCHS[side]}, args.before, folder)
                print(key, {name: round(value, 4) for name, value in runs[key].items()}, flush=True)
                write(found, runs)


def one(name: str, job: dict[str, Any], before: Path | None, folder: Path) -> Measured:
    """Run a side and judge what it says."""
    env = {"PYTHONPATH": str(before.resolve() / "src")} if name == BEFORE and before is not None else {}
    with tempfile.TemporaryDirectory(dir=folder) as out:
        job["out"] = str(Path(out) / "said.npz")
        run = sides.run(sides.own(name, "recipe_side.py", env=env), "recipe", job, folder, cap_s=7200)
        if name == BEFORE and before is not None and not run.last("source").startswith(str(before.resolve())):
            raise SystemExit(f"the side before ran {run.last('source')}, not the sources below {before}")
        seconds = {"processor seconds": run.last("cpu_s"), "wall seconds": run.seconds}
        with np.load(job["out"]) as said:
            return {**scores({key: said[key] for key in said}), **seconds}


def scores(said: dict[str, np.ndarray]) -> Measured:
    """Return the scores of probabilities float (N, C), the truth (N,) or (N, C), and decisions 0/1 (N, C) of tags."""
    probs, targets = said["probs"].astype(float), said["targets"]
    safe = probs.clip(1e-7, 1 - 1e-7)
    if targets.ndim == 1:
        true = safe[np.arange(len(targets)), targets.astype(int)]
        found = {"error": float((probs.argmax(1) != targets).mean()), "log loss": float(-np.log(true).mean())}
    else:
        truth = targets > 0.5
        f2 = sample_fbeta_score(said["f2"], truth, 2.0)
        found = {
            "exact-match error": float((said["exact"] != truth).any(1).mean()),
            "sample-F2": float(f2.mean()),
            "macro-AP": float(np.nanmean([average_precision(t, p) for t, p in zip(truth.T, probs.T, strict=True)])),
            "log loss": float(-np.where(truth, np.log(safe), np.log1p(-safe)).mean()),
        }
    return {**found, **calibration(probs, targets)}


def calibration(probs: np.ndarray, targets: np.ndarray) -> Measured:
    """Return how far probabilities are from the shares that came true, and whether chance alone explains that."""
    confidence, outcome = top_class(probs, targets)
    curve = reliability_curve(confidence, outcome)
    each = len(confidence) // len(probs)  # decisions of a picture
    kinds = np.tile(np.arange(each), len(probs))
    error = probability_error(confidence, outcome, kinds=kinds, groups=np.repeat(np.arange(len(probs)), each))
    return {"ECE": curve.ece, "ECE by chance": curve.ece_by_chance, "within chance": float(error.low == 0)}


# --- what is written --------------------------------------------------------------------------------


def write(found: list[Task], runs: dict[str, Measured]) -> None:
    """Write all that has been measured."""
    says = "; ".join(f"{t.name}: {t.says}, {t.size_px} px, {t.n_valid} held out" for t in found)
    report.write("recipe", f"{METHOD} {says}.", [*rows(runs)], runs=runs)


def rows(runs: dict[str, Measured]) -> Iterable[dict[str, object]]:
    """Give the lines of the table: each measure of each side, and the differences between sides."""
    by: dict[tuple[str, str], dict[str, dict[str, Measured]]] = {}
    for key, run in runs.items():
        name, n, seed, side = key.split(" | ")
        by.setdefault((name, n), {}).setdefault(side, {})[seed] = run
    for (name, n), of in sorted(by.items(), key=lambda item: (item[0][0], int(item[0][1]))):
        for measure in dict.fromkeys(m for side in of.values() for run in side.values() for m in run):
            row: dict[str, object] = {"data": name, "n": n, "measure": measure}
            row |= {side: _spread([run[measure] for run in of[side].values()]) for side in EPOCHS if side in of}
            for side, other in ((HEAD, BEFORE), (DEFAULT, BEFORE), (DEFAULT, HEAD)):
                both = sorted({*of.get(side, {})} & {*of.get(other, {})})
                changes = [of[side][seed][measure] - of[other][seed][measure] for seed in both]
                row[f"{side} - {other}"] = _change(changes)
            yield row


def _spread(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3g}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4g}{spread} ({len(values)})"


def _change(changes: list[float]) -> str:
    """Say the mean of some differences, and half its interval."""
    n = len(changes)
    if n < 2:
        return ""
    half = float(student.ppf((1 + LEVEL) / 2, n - 1)) * statistics.stdev(changes) / math.sqrt(n)
    return f"{statistics.fmean(changes):+.3g} ± {half:.2g}"


if __name__ == "__main__":
    main()
