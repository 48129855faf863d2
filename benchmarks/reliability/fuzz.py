"""Fuzzing as a row of ``make reliability``: every target of ``make fuzz``, a million cases or 30 minutes.

python benchmarks/reliability/fuzz.py [--short]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "fuzz"))

import rows
from rows import Row

MOST_CASES, MOST_S, SHORT_S = 1_000_000, 1800.0, 60.0


def main(short: bool = False) -> list[Row]:
    """Run the fuzzing, and return a row a target and one for all."""
    import long_run

    tallies = long_run.long_run(seconds=SHORT_S if short else MOST_S, cases=MOST_CASES)
    long_run.show(tallies)
    every = long_run.Tally()
    for tally in tallies.values():
        every.join(tally)
    named = {"fuzzing, all targets": every} | {f"fuzzing: {name}": tally for name, tally in tallies.items()}
    return [
        Row(
            attack=name,
            n=tally.cases,
            figure=f"{len(tally.flaws)} distinct flaws",
            detail=f"worst case: {tally.slowest[0]:.2f} s of processor, {tally.largest[0]:.0f} MB",
            holds=not tally.flaws,
        )
        for name, tally in named.items()
    ]


if __name__ == "__main__":
    rows.show(main)
