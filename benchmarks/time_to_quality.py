"""Time to quality on Planet as 17 tags: wall time from the start of the process to a validation sample-F2.

Every side is a process of its own with an empty cache, on the same files, split, backbone weights and picture size; the
clock runs from the start of the process, imports included, to the moment when it says that its validation sample-F2
(threshold 0.2) passed the goal. The yardstick is a plain inference pass over the training pictures.

    python benchmarks/time_to_quality.py [--rounds 3] [--cap-factor 10] [--other-cap-factor 4] [--peers-python PATH]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness import report, sides
from harness.sides import Line, Run, Side

GOALS = (0.88, 0.89)
OWN, YARDSTICK, FASTAI = "onecycle", "plain inference pass", "fastai"
HEAD_DONE = "head trained"
Round = dict[str, Run]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sides.add_arguments(parser)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--pictures", type=int, help="fewer than all, to try this script")
    parser.add_argument("--valid", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=4, help="of onecycle, after its head; as train's default")
    parser.add_argument("--cap-factor", type=float, default=10.0, help="fastai ends at this many times our time")
    parser.add_argument("--other-cap-factor", type=float, default=4.0, help="timm and Keras at this many")
    parser.add_argument("--own-cap-s", type=float, default=180.0)
    parser.add_argument("--only", nargs="+", help="peers to run: fastai timm keras")
    args = parser.parse_args()
    rounds: list[Round] = []
    with sides.workplace() as folder:
        weights = sides.export_weights(folder)
        for seed in range(1, args.rounds + 1):
            rounds.append({})
            job = {**sides.planet(args.data, seed, args.valid, args.pictures), "weights": weights}
            for name, run in run_round(args, {**job, "size": args.size}, folder):
                rounds[-1][name] = run
                print(f"round {seed}: {name}: {outcome(run)}", flush=True)
                write(args, rounds)


def run_round(args: argparse.Namespace, job: dict[str, Any], folder: Path) -> Any:
    """Run every side once on one split, this project's own first: the peers' time is a multiple of it."""
    own = sides.own(OWN, epochs=args.epochs, bs=64)
    run = sides.run(own, "quality", job, folder, cap_s=args.own_cap_s, enough=_head_done_and_passed)
    yield OWN, run
    plain = sides.own(YARDSTICK, "plain_side.py", bs=64)
    yield YARDSTICK, sides.run(plain, "inference", job, folder)
    head_s = next((line["t"] for line in run.lines if line.get("phase") == HEAD_DONE), run.seconds)
    for side in peers(args):
        factor = args.cap_factor if side.name == FASTAI else args.other_cap_factor
        yield side.name, sides.run(side, "quality", job, folder, cap_s=factor * head_s, enough=_passed_all)


def peers(args: argparse.Namespace) -> list[Side]:
    """The peers with their own defaults; timm and Keras with settings that suit so few pictures."""
    python = args.peers_python
    found = sides.peers(
        args,
        Side(FASTAI, "fastai_side.py", python, {"epochs": 4, "bs": 64}),
        Side("timm", "timm_side.py", python, {"epochs": 6, "bs": 16, "lr": 1e-3, "workers": 2}),
        Side("keras", "keras_side.py", python, {"epochs": 20, "bs": 32, "workers": 2}),
    )
    return [side for side in found if not args.only or side.name in args.only]


def passed(run: Run, goal: float) -> float | None:
    """Seconds until the goal was first passed; None where it was not."""
    return next((line["t"] for line in run.lines if line.get("f2", 0.0) >= goal), None)


def _passed_all(lines: list[Line]) -> bool:
    return lines[-1].get("f2", 0.0) >= GOALS[-1]


def _head_done_and_passed(lines: list[Line]) -> bool:
    done = any(line.get("phase") == HEAD_DONE for line in lines)
    return done and max(line.get("f2", 0.0) for line in lines) >= GOALS[-1]


def best(run: Run) -> float:
    """The best sample-F2 that a side said."""
    return max((line.get("f2", 0.0) for line in run.lines), default=0.0)


def outcome(run: Run) -> str:
    """One clause: when each goal was passed, or how far the side came."""
    if run.last("network_s") is not None:
        return f"{run.seconds:.1f} s ({run.last('decode_s'):.1f} decoding, {run.last('network_s'):.1f} network)"
    times = {goal: passed(run, goal) for goal in GOALS}
    return ", ".join(
        f"F2 {goal} after {t:.1f} s" if t is not None else f"F2 {goal} {_short(run)}" for goal, t in times.items()
    )


def _short(run: Run) -> str:
    why = "" if run.ended == "cap" else ", its recipe at an end"
    return f"not reached after {run.seconds:.0f} s (best {best(run):.2f}{why})"


def write(args: argparse.Namespace, rounds: list[Round]) -> None:
    """Write what has been measured so far."""
    rows = [row for name in rounds[0] for row in side_rows(name, [r[name] for r in rounds if name in r])]
    rows += [row for goal in GOALS for row in ratio_rows(goal, rounds)]
    n_train = 800 if not args.pictures else args.pictures - args.valid
    method = f"""
        Planet, 17 tags, EfficientNet-Lite0 with the same ImageNet weights on all sides, {args.size} px, the same lists
        of {n_train} training and {args.valid} validation files (another split each round). Seconds are from the start
        of a process with an empty cache, imports included, to the epoch whose validation sample-F2 (threshold 0.2)
        first passed the goal: the same validation set chooses the moment, on every side alike.
        onecycle: fine_tune({args.epochs}), no other choice; its epochs are validated on the plain view of a picture,
        and its predictions are means over four, which this does not count.
        Plain inference pass: Pillow and timm as torch ships, batch 64, over the training pictures, from the start of
        the process; decoding and network apart from it.
        fastai: vision_learner, aug_transforms, fine_tune(4), all by default (batch 64, its own number of workers).
        timm: its loader, transforms, BCE loss, AdamW 1e-3, cosine over 6 epochs, all layers, batch 16, 2 workers.
        Keras: torch backend, timm's body wrapped as a frozen layer (Keras has no Lite0 of its own), its
        transfer-learning guide, batch 32, 2 workers.
        Peers are ended at {args.cap_factor:g} (fastai) and {args.other_cap_factor:g} (others) times the time at which
        onecycle's head was trained in the same round; onecycle after {args.own_cap_s:g} s.
        AutoGluon does not install beside the others (see peers.txt).
    """
    # What was measured without peers stands beside what was measured with them.
    name = "time_to_quality_alone" if args.no_peers else "time_to_quality"
    report.write(name, method, rows, peers=sides.versions(args))


def side_rows(name: str, runs: list[Run]) -> list[dict[str, object]]:
    """The rows of one side."""
    if name == YARDSTICK:
        parts = {"seconds, start to end": [r.lines[-1]["t"] for r in runs]}
        parts |= {f"seconds, {key[:-2]} only": [r.last(key) for r in runs] for key in ("decode_s", "network_s")}
        parts["seconds, decode and network"] = [r.last("decode_s") + r.last("network_s") for r in runs]
        return [{"side": name, "measure": key, **report.summary(values)} for key, values in parts.items()]
    rows: list[dict[str, object]] = []
    for goal in GOALS:
        times = [passed(r, goal) for r in runs]
        reached = [t for t in times if t is not None]
        row = {"side": name, "measure": f"seconds to F2 {goal}", **(report.summary(reached) if reached else {})}
        missed = "; ".join(_short(r) for r, t in zip(runs, times, strict=True) if t is None)
        rows.append({**row, "reached": f"{len(reached)} of {len(runs)}", "note": missed})
    rows.append({"side": name, "measure": "best F2 seen", **report.summary([best(r) for r in runs])})
    return rows + phase_rows(name, runs)


def phase_rows(name: str, runs: list[Run]) -> list[dict[str, object]]:
    """Where onecycle's time goes, and its quality at the end of the head's cycle (no choice of the moment)."""
    rows: list[dict[str, object]] = []
    for phase in dict.fromkeys(line["phase"] for run in runs for line in run.lines if "phase" in line):
        times = [line["t"] for run in runs for line in run.lines if line.get("phase") == phase]
        rows.append({"side": name, "measure": f"seconds to: {phase}", **report.summary(times)})
    ends = [f2 for run in runs if (f2 := _f2_of_head(run)) is not None]
    if ends:
        rows.append({"side": name, "measure": "F2 at the end of the head's cycle", **report.summary(ends)})
    return rows


def _f2_of_head(run: Run) -> float | None:
    f2 = None
    for line in run.lines:
        f2 = line.get("f2", f2)
        if line.get("phase") == HEAD_DONE:
            return f2
    return None


def ratio_rows(goal: float, rounds: list[Round]) -> list[dict[str, object]]:
    """onecycle's time over the yardstick's, and each peer's over onecycle's (a bound where it did not get there)."""
    rows: list[dict[str, object]] = []
    complete = [r for r in rounds if YARDSTICK in r and passed(r[OWN], goal) is not None]
    for label, denominator in (
        ("decode and network", lambda r: r.last("decode_s") + r.last("network_s")),
        ("start to end", lambda r: r.lines[-1]["t"]),
    ):
        values = [passed(r[OWN], goal) / denominator(r[YARDSTICK]) for r in complete]
        measure = f"F2 {goal}: onecycle to plain pass ({label})"
        rows += [{"side": "ratio", "measure": measure, **report.summary(values)}] if values else []
    for name in dict.fromkeys(n for r in rounds for n in r if n not in (OWN, YARDSTICK)):
        pairs = [(r[OWN], r[name]) for r in complete if name in r]
        values = [(passed(peer, goal) or peer.seconds) / passed(own, goal) for own, peer in pairs]
        n_bounds = sum(passed(peer, goal) is None for _, peer in pairs)
        note = f"at least: {n_bounds} of {len(values)} ended before the goal" if n_bounds else ""
        row = {"side": "ratio", "measure": f"F2 {goal}: {name} to onecycle"}
        rows += [{**row, **report.summary(values), "note": note}] if values else []
    return rows


if __name__ == "__main__":
    main()
