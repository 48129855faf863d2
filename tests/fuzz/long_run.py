"""The long run: ``make fuzz``, until a million cases or 30 minutes, and what came out of it.

    python tests/fuzz/long_run.py [--minutes 30] [--cases 1000000] [--processes 2] [--only NAME] [--seed 0]

Targets take turns of a few seconds, each in a process of its own, so that a crash ends no other and the memory of a
case is seen. A case is drawn from (target, seed, number) alone: ``--only NAME --seed S --case N`` runs one again.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing as mp
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

TURN_S, HANGS_S = 5.0, 60.0
_OWN = tempfile.TemporaryDirectory(prefix="onecycle_fuzz_", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
os.environ |= {"HOME": _OWN.name, "ONECYCLE_HOME": f"{_OWN.name}/home", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
os.environ |= {"TMPDIR": _OWN.name}
tempfile.tempdir = _OWN.name

sys.path.insert(0, str(Path(__file__).resolve().parent))

from attack import Outcome, Target, give_memory_back, peak_mb, run_case  # noqa: E402
from targets import TARGETS  # noqa: E402


@dataclass
class Tally:
    """What the cases of one target did."""

    cases: int = 0
    seconds: float = 0.0  # of the clock
    slowest: tuple[float, int] = (0.0, -1)  # s of processor, and the case's number
    largest: tuple[float, int] = (0.0, -1)  # MB, and the case's number
    flaws: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[int, str]] = field(default_factory=dict)  # of each flaw: a case's number, and its traceback

    def add(self, number: int, outcome: Outcome) -> None:
        self.cases += 1
        self.slowest = max(self.slowest, (outcome.seconds, number))
        self.largest = max(self.largest, (outcome.mb, number))
        if flaw := outcome.flaw:
            text = "" if outcome.error is None else "".join(traceback.format_exception(outcome.error))
            self.note(flaw, number, text)

    def note(self, flaw: str, number: int, text: str, times: int = 1) -> None:
        self.flaws[flaw] += times
        self.first.setdefault(flaw, (number, text))

    def join(self, other: Tally) -> None:
        self.cases += other.cases
        self.seconds += other.seconds
        self.slowest, self.largest = max(self.slowest, other.slowest), max(self.largest, other.largest)
        for flaw, n in other.flaws.items():
            self.note(flaw, *other.first[flaw], times=n)


def generator(target: Target, seed: int, number: int) -> Random:
    """Return the generator that draws a case."""
    return Random(f"{target.name} {seed} {number}")


def _turn(target: Target, seed: int, first: int, until: float, now: Any, sent: Any) -> None:
    """Run cases of one target, in a process of its own, until the time is up."""
    tally, began = Tally(), time.monotonic()
    number, high = first, peak_mb()
    while time.monotonic() < until:
        now.value = number
        outcome = run_case(target, target.draw(generator(target, seed, number)))
        tally.add(number, outcome)
        if peak_mb() > high + 50:
            give_memory_back()
            high = peak_mb()
        number += 1
    tally.seconds = time.monotonic() - began
    sent.send(tally)


def take_turn(target: Target, seed: int, first: int, seconds: float) -> Tally:
    """Run cases of one target for some seconds; a crash and a hang are flaws of the case that was under way."""
    context = mp.get_context("fork")
    here, there = context.Pipe(duplex=False)
    now = context.Value("q", first, lock=False)
    until = time.monotonic() + seconds
    process = context.Process(target=_turn, args=(target, seed, first, until, now, there))
    process.start()
    there.close()
    tally, at, since = Tally(), -1, time.monotonic()
    while True:
        if here.poll(1.0):
            try:
                tally = here.recv()
            except EOFError:
                process.join()
                if process.exitcode == 1:
                    raise RuntimeError(f"case {now.value} of {target.name} cannot be drawn") from None
                tally.cases, tally.seconds = now.value - first + 1, seconds
                tally.note(f"the process ended with {process.exitcode}", now.value, "")
            break
        if now.value != at:
            at, since = now.value, time.monotonic()
        elif time.monotonic() - since > HANGS_S:
            process.kill()
            tally.cases, tally.seconds = at - first + 1, time.monotonic() - until + seconds
            tally.note(f"no answer within {HANGS_S:g} s", at, "")
            break
    process.join()
    return tally


def long_run(
    targets: tuple[Target, ...] = TARGETS, *, seconds: float, cases: int, processes: int = 2, seed: int = 0
) -> dict[str, Tally]:
    """Let targets take turns until all have run ``cases`` together, or the time is up."""
    for target in targets:
        run_case(target, target.draw(generator(target, seed, 0)))  # what is loaded once counts for no case
    gc.collect()
    gc.freeze()
    until, tallies = time.monotonic() + seconds, {target.name: Tally() for target in targets}
    with ThreadPoolExecutor(processes) as pool:
        while time.monotonic() < until and sum(t.cases for t in tallies.values()) < cases:
            left = max(0.5, min(TURN_S, (until - time.monotonic()) * processes / len(targets)))
            turns = [pool.submit(take_turn, t, seed, tallies[t.name].cases, left) for t in targets]
            for target, turn in zip(targets, turns, strict=True):
                tallies[target.name].join(turn.result())
    return tallies


def show(tallies: dict[str, Tally]) -> None:
    """Print a line a target, and each distinct flaw with one case that has it."""
    print(
        f"{'target':26} {'cases':>9} {'a second':>8} {'worst s':>8} {'of case':>9} {'worst MB':>8} {'of case':>9} flaws"
    )
    for name, tally in tallies.items():
        rate = tally.cases / max(tally.seconds, 1e-9)
        (slow, slow_at), (large, large_at) = tally.slowest, tally.largest
        worst = f"{slow:8.2f} {slow_at:9} {large:8.0f} {large_at:9}"
        print(f"{name:26} {tally.cases:9,} {rate:8,.0f} {worst} {len(tally.flaws)}")
    for name, tally in tallies.items():
        for flaw, n in tally.flaws.most_common():
            number, text = tally.first[flaw]
            print(f"\n{name}: {flaw}, {n:,} cases; --only {name!r} --case {number}\n{text[-2500:]}")


def main() -> int:
    """Run what the command line asks for; 1 where a case has a flaw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="at most")
    parser.add_argument("--cases", type=int, default=1_000_000, help="of all targets together, after which it ends")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="part of a target's name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="run this case alone, and let what it raises through")
    args = parser.parse_args()
    chosen = tuple(target for target in TARGETS if args.only in target.name)
    if args.case is not None:
        (target,) = chosen
        case = target.draw(generator(target, args.seed, args.case))
        print(repr(case)[:3000])
        outcome = run_case(target, case)
        print(f"{outcome.seconds:.2f} s, {outcome.mb:.0f} MB, {outcome.flaw or 'no flaw'}")
        if outcome.error is not None:
            raise outcome.error
        return bool(outcome.flaw)
    tallies = long_run(chosen, seconds=60 * args.minutes, cases=args.cases, processes=args.processes, seed=args.seed)
    show(tallies)
    total, flaws = sum(t.cases for t in tallies.values()), sum(len(t.flaws) for t in tallies.values())
    print(f"\n{total:,} cases, {flaws} distinct flaws")
    return bool(flaws)


if __name__ == "__main__":
    sys.exit(main())
