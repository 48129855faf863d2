"""Every sentence of the page, simulated: how often it is right where the truth is known.

    python benchmarks/truth.py [--short] [--only "mean what they say"] [--trials 1000] [--processes 2]

``--only`` takes part of a theme's or a sentence's name; the other lines of the results stay from an earlier run.
The figures of docs/how-numbers-are-made.md are written from the results.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core: numpy shall not start more threads

from harness import page, report, truth

METHOD = f"""
    Pictures, groups and models are drawn from worlds whose truth is known in closed form or from a population of
    200,000 pictures; the product's own functions say what they say, and it is counted how often that is so: how often
    a sentence is wrong, how often a 95 % interval covers the truth, or how often a sentence is said where it ought to
    be (counted). ± is the Monte-Carlo standard error. made: trials in which the sentence was made at all; only these
    count. holds: yes; within error, where the rate is outside its claim by what chance alone does in more than one of
    {1 / truth.CHANCE:,.0f} simulations; no; –, where nothing is claimed. Models: blind never looks at a picture,
    mediocre, good, very good and perfect see a score that lies 1.2, 2.5, 4 and 14 standard deviations apart for
    pictures with and without a label. Groups share a random intercept of labels and noise: two pictures of a group
    correlate by 0.25 in a yes or no at even odds. Each trial is seeded by the sentence's name and its number.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of a theme's or a sentence's name")
    parser.add_argument("--short", action="store_true", help="what the test runs; writes nothing down")
    parser.add_argument("--trials", type=int, default=1000, help="at most, of each sentence")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    wrong = False
    for theme in truth.themes():  # what is done is written down, whatever becomes of the rest
        sentences = [s for s in truth.all_sentences(f"{theme}: ") if args.only.lower() in f"{theme}: {s.name}".lower()]
        measured = truth.measure_all(sentences, short=args.short, most=args.trials, processes=args.processes)
        rows = {found.sentence.name: _told(found) for found in measured}
        wrong |= any(row["holds"] == "no" for row in rows.values())
        if rows and not args.short:
            report.write("truth", METHOD, _with_earlier(rows))
            page.write()
    sys.exit(wrong)


def _told(found: truth.Measured) -> dict[str, object]:
    """Return the line of the table, and print how it went."""
    print(f"{found.rate:.3f} ± {found.error:.3f}  {found.holds:>12}  {found.sentence.name}", flush=True)
    return found.row()


def _with_earlier(rows: dict[str, dict[str, Any]]) -> list[dict[str, object]]:
    """Return the lines of all sentences, in their order; what was not run now is held against today's claims."""
    results = report.RESULTS / "truth.json"
    earlier = json.loads(results.read_text())["rows"] if results.exists() else []
    known = {f"{row['sentence']} | {row['setting']}": row for row in earlier} | rows
    again = []
    for s in truth.all_sentences():
        if s.name in known:
            row = known[s.name]
            hits = round(row["measured"] * row["made"]) if row["made"] else 0
            again.append(truth.Measured(s, hits, row["made"], row["trials"]).row())
    return again


if __name__ == "__main__":
    main()
