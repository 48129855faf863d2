"""How far the truth-telling parts can be trusted: the audit, label errors, calibration, thresholds, splits.

Known faults are planted into real or drawn pictures, and it is counted how many are found. No clock decides anything.

    python benchmarks/trust.py [--parts audit look_alikes doubts held_out splits] [--rounds 3]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import planted, report, sides
from harness.footprint import Footprint

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import Labels
from onecycle.data.labels.stratified import stratified_split
from onecycle.data.synthetic.tiles import write_sample
from onecycle.errors import OnecycleWarning
from onecycle.evaluation.certainty.label_noise import DoubtCount
from onecycle.learner.cnn import cnn_learner
from onecycle.learner.features import LabelledFeatures
from onecycle.learner.label_issues import LabelIssues, check_labels

FASHION = Path("/usr/share/datasets/fashion-mnist")
ARCH = "tf_efficientnet_lite0"
Rows = list[dict[str, object]]
FLIPPED = 0.05
TOP = 0.10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sides.add_arguments(parser)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--pictures", type=int, help="fewer than all of Planet, to try this script")
    parser.add_argument("--n-many", type=int, default=60_000, help="pictures of the large audit")
    parser.add_argument("--fashion", type=Path, default=FASHION, help="the folder of Debian's dataset-fashion-mnist")
    parser.add_argument(
        "--n-fashion", type=int, nargs="+", default=[1_000, 2_000, 10_000, 30_000, 60_000], help="ascending"
    )
    args = parser.parse_args()
    warnings.simplefilter("ignore", OnecycleWarning)
    results = report.RESULTS / "trust.json"
    earlier: Rows = json.loads(results.read_text())["rows"] if results.exists() else []
    rows = [row for row in earlier if row["part"] in PARTS and row["part"] not in args.parts]
    with sides.workplace() as folder:
        os.environ["ONECYCLE_HOME"] = str(folder / "home")
        for part in args.parts:
            for row in PARTS[part](args, folder):
                rows.append({"part": part, **row})
                report.write("trust", METHOD, rows)


METHOD = f"""
    audit: Planet's 1,000 tiles, a fifth validates. Of training tiles 50 copies each are added to the validation part as
    they are, saved anew (JPEG quality 60), resized (to 75 %), cropped (2 % of each side), flipped or turned by quarters
    and saved anew; found means that the audit puts the copy into one group with its original. Pairs on the untouched
    sample are listed by name, to be looked at. Seconds are those of data.audit() in this process.
    look_alikes: the first pictures of Fashion-MNIST as PNG files of 28 px, each audited in a process of its own; groups
    of copies are drawn to results/look_alikes.png for the largest number, to be looked at. Rows of parts that a run
    leaves out stay from an earlier one.
    doubts: in each round {FLIPPED:.0%} of the labels are made wrong (one label: another class at random; of tags so
    many taken away and so many given) and looked for as train does: five heads on all stages of the network. One row
    says the share of the planted errors among the first {TOP:.0%} of the ranked list. The next says how many more
    labels are claimed to look doubtful than if all were right, with the 95 % interval that is shown, beside as many
    as were planted; the ratio takes off what is claimed of the untouched labels of the same round, as those of Planet
    and of Fashion-MNIST have errors of their own, which nobody counted. The last says what is claimed of the
    untouched labels. Drawn tiles are right by construction, and each round draws 1,000 of its own; Planet's 1,000 and
    the first 2,000 of Fashion-MNIST are the same in each round, with other errors and other folds.
    held_out: a head on features of Lite0, 8 epochs at 3e-3; cross-fitting on the validation part (10 folds
    for calibration, 5 for thresholds); intervals are 95 % bootstrap intervals over its pictures.
    splits: largest and mean deviation of a tag's share of validation pictures from a fifth, over seeds; the reference
    is MultilabelStratifiedShuffleSplit of the package iterative-stratification, in the peers' environment.
"""


# --- audit ------------------------------------------------------------------------------------------------


def audit(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, object]]:
    """Time on Planet, pairs found on the untouched sample, recall of planted copies, and a large set."""
    items = sides.planet(args.data, 1, 200, args.pictures)
    untouched = as_bunch(folder / "untouched", items["train"], items["valid"])
    start = time.perf_counter()
    found = untouched.audit(silent=True)
    yield {"measure": "seconds for Planet, no features", "value": time.perf_counter() - start}
    pairs = [" ~ ".join(group.names) for group in found.duplicates]
    yield {"measure": "groups of copies on the untouched sample", "value": len(pairs), "note": "; ".join(pairs)}
    for seed in range(1, args.rounds + 1):
        data, copies = planted.plant(items, folder / f"planted{seed}", seed)
        groups = as_bunch(folder / f"bunch{seed}", items["train"], [*items["valid"], *data]).audit(silent=True)
        together = {
            frozenset((Path(a).name, Path(b).name)) for g in groups.duplicates for a in g.names for b in g.names
        }
        for kind, made in copies.items():
            hit = sum(frozenset((Path(a).name, Path(b).name)) in together for a, b in made)
            yield {"measure": f"planted copies found: {kind}", "value": hit / len(made), "round": seed, "n": len(made)}
    yield from large_audit(args.n_many, folder)


def large_audit(n: int, folder: Path) -> Iterator[dict[str, object]]:
    """Time and peak memory for many drawn pictures, a tenth of a percent of them copies."""
    paths = planted.many(folder / "many", n)
    memory = Footprint(os.getpid())
    start = time.perf_counter()
    found = as_bunch(folder / "large", [[p, ["a"]] for p in paths[: n // 2]], [[p, ["b"]] for p in paths[n // 2 :]])
    groups = found.audit(silent=True).duplicates
    seconds = time.perf_counter() - start
    yield {"measure": f"seconds for {n:,} pictures of 64 px", "value": seconds}
    yield {"measure": f"peak MB with {n:,} pictures", "value": memory.stop()["pss"]}
    yield {"measure": f"groups of copies in {n:,} pictures (planted: {n // 1000:,})", "value": len(groups)}


def look_alikes(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, object]]:
    """Copies, time and memory among look-alikes: Fashion-MNIST, which holds a few copies of its own."""
    for n in args.n_fashion:
        paths = planted.fashion(folder / "fashion", args.fashion, n)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows, groups = pool.submit(audited_look_alikes, paths, folder / f"fashion{n}").result()
        yield from ({**row, "n": n} for row in rows)
        planted.contact_sheet(groups, report.RESULTS / "look_alikes.png")


def audited_look_alikes(paths: list[str], folder: Path) -> tuple[Rows, list[list[str]]]:
    """Audit pictures of which every second validates; what was measured, and the files of each group of copies."""
    warnings.simplefilter("ignore", OnecycleWarning)
    data = as_bunch(folder, [[p, ["a"]] for p in paths[::2]], [[p, ["b"]] for p in paths[1::2]])
    memory, start = Footprint(os.getpid()), (time.perf_counter(), time.process_time())
    found = data.audit(silent=True)
    seconds, of_processor = time.perf_counter() - start[0], time.process_time() - start[1]
    name, by_row = "Fashion-MNIST: ", [*paths[::2], *paths[1::2]]
    groups = [[by_row[row] for row in group.rows] for group in found.duplicates]
    alike = sum(f.count for f in found.findings if f.kind == "look-alikes")
    pairs = "; ".join(" ~ ".join(Path(p).stem for p in group) for group in groups)
    return [
        {"measure": name + "seconds", "value": seconds},
        {"measure": name + "seconds of processor", "value": of_processor},
        {"measure": name + "peak MB", "value": memory.stop()["pss"]},
        {"measure": name + "groups called copies", "value": len(groups), "note": pairs},
        {"measure": name + "pairs said to look alike, a note", "value": alike},
    ], groups


def as_bunch(folder: Path, train: list[Any], valid: list[Any]) -> ImageDataBunch:
    """A bunch of given files and tags, the split by a column of a table."""
    from onecycle.data.data_block import ImageList

    folder.mkdir(parents=True, exist_ok=True)
    items = [*train, *valid]
    tags = [" ".join(names) for _, names in items]
    several = any(" " in text for text in tags)
    return (
        ImageList([path for path, _ in items], folder)
        .split_by_idxs(range(len(train)), range(len(train), len(items)))
        .label_from_list(tags, label_delim=" " if several else None)
        .transform(None, size=64)
        .databunch(bs=16)
    )


# --- label errors -----------------------------------------------------------------------------------------

WEATHER = ("clear", "partly_cloudy", "cloudy", "haze")


def doubts(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, object]]:
    """Planted label errors: how many come first in the list, and how many are claimed; and what is with none."""
    for seed in range(1, args.rounds + 1):
        for name, items in label_sets(args, folder, seed).items():
            paths, labels = [path for path, _ in items], [label for _, label in items]
            table = features_of(tuple(paths), args.size, folder)
            untouched = issues_of(table, paths, labels, seed, args.size, folder).doubts
            changed, wrong = planted.wrong_labels(labels, FLIPPED, np.random.default_rng(seed))
            issues = issues_of(table, paths, changed, seed, args.size, folder)
            row: dict[str, object] = {"round": seed, "n": len(wrong)}
            named = {(issue.row, issue.tag) for issue in issues.top(int(TOP * len(issues)))}
            share = sum(place in named for place in wrong) / len(wrong)
            yield {"measure": f"{name}: planted errors in the first {TOP:.0%}", "value": share, **row}
            more = as_excess(issues.doubts)
            yield {"measure": f"{name}: excess claimed, {FLIPPED:.0%} planted", **more, **row}
            ratio = (issues.doubts.excess - untouched.excess) / len(wrong)
            yield {"measure": f"{name}: excess beside the untouched labels, over the planted", "value": ratio, **row}
            more = as_excess(untouched)
            yield {"measure": f"{name}: excess claimed, untouched labels", **more, "round": seed, "n": len(issues)}


def as_excess(found: DoubtCount) -> dict[str, object]:
    note = f"{found.flagged} look doubtful, {found.expected:.0f} would if all were right"
    return {"value": found.excess, "low": found.low, "high": found.high, "note": note}


def label_sets(args: argparse.Namespace, folder: Path, seed: int) -> dict[str, list[Any]]:
    """Return pictures with a class or tags each: Planet, drawn tiles, and Fashion-MNIST or handwritten digits."""
    drawn = write_sample(folder / f"drawn{seed}", args.pictures or 1000, seed=seed)
    with open(drawn / "labels.csv", newline="") as file:
        tiles = [(str(drawn / "train" / f"{r['image_name']}.jpg"), r["tags"].split()) for r in csv.DictReader(file)]
    planet = sides.planet(args.data, 1, 200, args.pictures)
    if args.fashion.exists():
        small = {
            "Fashion-MNIST, classes": planted.fashion_classes(
                folder / "fashion", args.fashion, 2 * (args.pictures or 1000)
            )
        }
    else:
        small = {"handwritten digits, classes": planted.digits(folder / "digits")}
    return {
        "Planet, tags": planet["train"] + planet["valid"],
        **small,
        "drawn tiles, tags": tiles,
        "drawn tiles, weather": [(path, next(t for t in tags if t in WEATHER)) for path, tags in tiles],
    }


@lru_cache(maxsize=2)  # drawn tiles are asked for twice in a round
def features_of(paths: tuple[str, ...], size: int, folder: Path) -> np.ndarray:
    """Return what the frozen network says of pictures, float32 ``(N, D)``; labels have no part in it."""
    data = bunch(list(paths), ["ab"[i % 2] for i in range(len(paths))], 1, size, folder)
    return cnn_learner(data, ARCH, levels="auto", path=folder, silent=True).features()


def issues_of(
    table: np.ndarray, paths: list[str], labels: list[Any], seed: int, size: int, folder: Path
) -> LabelIssues:
    """Judge labels by features of all pictures, as ``learn.label_issues()`` does once it has computed them."""
    data = bunch(paths, labels, seed, size, folder)
    rows = np.concatenate([data.split.train, data.split.valid])
    features, targets = (torch.from_numpy(values[rows]) for values in (table, data.labels.targets))
    return check_labels(LabelledFeatures(features, targets, rows), data, silent=True)


def bunch(paths: list[str], labels: list[Any], seed: int, size: int, folder: Path) -> ImageDataBunch:
    """Return a bunch of files with a class or tags each."""
    from onecycle.data.data_block import ImageList

    several = isinstance(labels[0], list)
    return (
        ImageList(paths, folder)
        .split_by_rand_pct(0.2, seed=seed)
        .label_from_list([" ".join(v) for v in labels] if several else labels, label_delim=" " if several else None)
        .transform(None, size=size)
        .databunch(bs=16, seed=seed)
    )


# --- calibration and thresholds ---------------------------------------------------------------------------


def held_out(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, object]]:
    """ECE before and after, sample-F2 at a fixed threshold and at chosen ones, on folds that chose nothing."""
    for seed in range(1, args.rounds + 1):
        items = sides.planet(args.data, seed, 200, args.pictures)
        data = as_bunch(folder / f"held{seed}", items["train"], items["valid"]).resized(args.size)
        learn = cnn_learner(data, ARCH, precompute=0, path=folder, silent=True)
        learn.fit_one_cycle(8, 3e-3)
        interpretation = learn.interpret()
        judged = interpretation.calibration()
        for what, value in (("before", judged.before), ("after", judged.after), ("difference", judged.gain)):
            yield {"measure": f"ECE {what}", "round": seed, **as_row(value)}
        yield {"measure": "ECE of a perfectly calibrated model", "round": seed, "value": judged.by_chance}
        for default in (0.5, 0.2):
            chosen = interpretation.choose_thresholds(beta=2, default=default)
            for value in (*chosen.held_out, *chosen.gains):
                yield {"measure": f"default {default}: {value.name}", "round": seed, **as_row(value)}


def as_row(value: Any) -> dict[str, object]:
    return {"value": value.value, "low": value.low, "high": value.high, "n": value.n}


# --- splits --------------------------------------------------------------------------------------------


def splits(args: argparse.Namespace, _folder: Path) -> Iterator[dict[str, object]]:
    """Deviation of each tag's validation share from a fifth, against the reference."""
    for name, targets in tag_sets(args).items():
        ours = [deviation(targets, our_split(targets, seed)) for seed in range(10)]
        yield from split_rows(name, "onecycle", ours)
        if not args.no_peers:
            yield from split_rows(name, "iterative-stratification", reference(args, targets))


def our_split(targets: np.ndarray, seed: int) -> np.ndarray:
    labels = Labels(list(range(targets.shape[1])), targets.astype(np.float32), True)
    return stratified_split([f"{i:06d}" for i in range(len(targets))], labels, 0.2, seed=seed).valid


def reference(args: argparse.Namespace, targets: np.ndarray) -> list[np.ndarray]:
    """Splits of the reference package, as deviations."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "targets.npy"
        np.save(file, targets)
        script = sides.PEERS / "stratification_side.py"
        said = subprocess.check_output([args.peers_python, str(script), str(file)], text=True)
    return [deviation(targets, np.array(valid)) for valid in json.loads(said)]


def deviation(targets: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """How far each tag's share of its pictures in the validation part is from a fifth; tags of two or more pictures."""
    counts = targets.sum(0)
    kept = counts >= 2
    return np.abs(targets[valid].sum(0)[kept] / counts[kept] - 0.2)


def split_rows(name: str, side: str, found: list[np.ndarray]) -> Iterator[dict[str, object]]:
    measures: dict[str, Callable[[np.ndarray], Any]] = {"mean": np.mean, "largest": np.max}
    for word, measure in measures.items():
        values = [float(measure(each)) for each in found]
        row = {"measure": f"{name}: {word} deviation of a tag", "side": side}
        yield {**row, "value": float(np.mean(values)), "low": min(values), "high": max(values), "n": len(values)}


def tag_sets(args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Planet's tags and three drawn sets: even, rare, and correlated tags."""
    planet = sides.planet(args.data, 1, 0, args.pictures)
    classes = planet["classes"]
    real = np.array([[name in tags for name in classes] for _, tags in planet["train"]])
    rng = np.random.default_rng(0)
    even = rng.random((1000, 10)) < 0.3
    rare = rng.random((2000, 20)) < np.geomspace(0.002, 0.5, 20)
    scene = rng.integers(0, 5, 1500)
    correlated = rng.random((1500, 15)) < rng.beta(0.4, 1.2, (5, 15))[scene]
    return {"Planet": real, "even tags": even, "rare tags": rare, "correlated tags": correlated}


PARTS: dict[str, Callable[[argparse.Namespace, Path], Iterator[dict[str, object]]]] = {
    "audit": audit,
    "look_alikes": look_alikes,
    "doubts": doubts,
    "held_out": held_out,
    "splits": splits,
}


if __name__ == "__main__":
    main()
