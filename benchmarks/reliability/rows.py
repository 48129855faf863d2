"""What every attack of ``make reliability`` gives back: a row for each promise, and how a script alone shows its own.

A script of this folder (``kills.py``, ``disk.py``, …) has ``main(short: bool = False) -> list[Row]`` and ends with

    if __name__ == "__main__":
        rows.show(main)

so that ``python benchmarks/reliability/kills.py [--short]`` prints it; ``python benchmarks/reliability`` runs them all
and writes ``benchmarks/results/reliability.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One attack and what came of it."""

    attack: str  # what was done, e.g. "SIGKILL at random moments, single label"
    n: int  # how often
    figure: str  # what is promised, as measured: "100 of 100 bitwise equal"
    detail: str = ""  # settings, the worst case, what was not attacked
    holds: bool = True  # whether the promise was kept each time


def show(main: Callable[[bool], list[Row]]) -> None:
    """Run one script from the command line, print its rows, and exit with 1 where a promise does not hold."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--short", action="store_true", help="few attacks of each kind, to see that the script runs")
    rows = main(parser.parse_args().short)
    for row in rows:
        print(
            f"{'holds' if row.holds else 'FAILS'} | {row.attack} | {row.n:,} | {row.figure} | {row.detail}", flush=True
        )
    sys.exit(not all(row.holds for row in rows))
