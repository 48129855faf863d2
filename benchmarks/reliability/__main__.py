"""Attacks each promise, one script after the other, and writes ``benchmarks/results/reliability.md``.

    python benchmarks/reliability [--short] [--only NAME] [--minutes 30]

``--only`` runs one script (kills, checkpoint_cost, disk, bits, strangers, endurance, fuzz); the rows of the others stay
from an earlier run. ``--short`` makes few attacks of each kind, to see that the scripts run, and writes nothing down.
Exits with 1 where a promise was not kept, or a script failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))  # for ``harness``

from harness import report  # noqa: E402
from rows import Row  # noqa: E402

import fuzz  # noqa: E402

SCRIPTS = ("kills", "checkpoint_cost", "disk", "bits", "strangers", "endurance", "fuzz")
RESULTS = report.RESULTS / "reliability.json"
METHOD = """
    Each row is an attack on a promise of README.md and SECURITY.md: what was done, how often (n), what came of it,
    and whether the promise was kept each time (holds). The scripts are in benchmarks/reliability; each says in its head
    how it attacks. A foreign error is any that is not one of onecycle's own classes; a flaw of the fuzzing is a foreign
    error, told apart by the line that it came from, a crash, more than 3 s of processor or more than 500 MB for one
    case. Dates and seconds are those of the script that a row comes from.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="few attacks of each kind; writes nothing down")
    parser.add_argument("--only", choices=there(), help="one script alone")
    parser.add_argument("--minutes", type=float, default=30.0, help="of the fuzzing, at most")
    args = parser.parse_args()
    fuzz.MOST_S = 60 * args.minutes
    kept = True
    for script in [args.only] if args.only else there():
        began = time.monotonic()
        rows = attacked(script, short=args.short)
        kept &= all(row.holds for row in rows)
        if not args.short:  # what is done is written down, whatever becomes of the rest
            write(script, rows, time.monotonic() - began)
    sys.exit(not kept)


def there() -> list[str]:
    """Return the scripts that are there, in order."""
    return [name for name in SCRIPTS if (HERE / f"{name}.py").exists()]


def attacked(script: str, *, short: bool) -> list[Row]:
    """Run a script; one that fails is a row that does not hold."""
    print(f"--- {script}", flush=True)
    try:
        rows: list[Row] = importlib.import_module(script).main(short)
    except Exception as error:  # noqa: BLE001 - the other scripts are run all the same
        traceback.print_exc()
        rows = [Row(script, 0, "the script failed", f"{type(error).__name__}: {error}", holds=False)]
    for row in rows:
        print(
            f"{'holds' if row.holds else 'FAILS'} | {row.attack} | {row.n:,} | {row.figure} | {row.detail}", flush=True
        )
    return rows


def write(script: str, rows: list[Row], seconds: float) -> None:
    """Put the rows of a script into the results; those of the others stay."""
    before = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    own = [
        {"script": script, **asdict(row), "holds": "yes" if row.holds else "no"}
        | {"date": time.strftime("%Y-%m-%d"), "seconds": round(seconds)}
        for row in rows
    ]
    others = [row for row in before if row["script"] != script and row["script"] in SCRIPTS]
    report.write("reliability", METHOD, sorted([*others, *own], key=lambda row: SCRIPTS.index(row["script"])))


if __name__ == "__main__":
    main()
