"""The figures of ``docs/how-numbers-are-made.md``: written from the results of the simulations, never by hand.

A block begins with ``<!-- measured: SENTENCE; SENTENCE -->`` (names, or how they begin) and ends with ``<!-- end -->``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import report
from harness.truth import CHANCE, NOTHING, Claim

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-numbers-are-made.md"
RESULTS = report.RESULTS / "truth.json"
BLOCK = re.compile(r"(<!-- measured: (.*?) -->\n).*?(<!-- end -->)", re.S)
Row = Mapping[str, Any]
HEAD = ("sentence", "settings", "what is counted", "claimed", "measured", "holds")
COUNTED = {"wrong": "it is wrong", "covers": "the truth lies inside", "said": "it is said, as it ought to be"}


def results() -> list[dict[str, Any]]:
    """Return the lines of the last results."""
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"]
    return rows


def filled(text: str, rows: Sequence[Row]) -> str:
    """Return the page with its blocks written anew."""
    return BLOCK.sub(lambda m: f"{m[1]}{_table(_chosen(m[2], rows))}{m[3]}", text)


def missing(text: str, rows: Sequence[Row]) -> list[str]:
    """Return the sentences that no block, or more than one, shows."""
    blocks = [[row["sentence"] for row in _chosen(m[2], rows)] for m in BLOCK.finditer(text)]
    return [s for s in dict.fromkeys(row["sentence"] for row in rows) if sum(s in block for block in blocks) != 1]


def write() -> None:
    """Write the figures into the page."""
    PAGE.write_text(filled(PAGE.read_text(), results()))


def _chosen(names: str, rows: Sequence[Row]) -> list[Row]:
    """Return the lines of the sentences that begin with one of the names, in the order of the names."""
    return [row for name in names.split("; ") for row in rows if row["sentence"].startswith(name)]


def _table(rows: Sequence[Row]) -> str:
    """Return a line for each sentence and claim; the settings in which it does not hold follow by name."""
    if not rows:
        return "Only the short form was run, by the tests.\n"
    together: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        together.setdefault(tuple(row[key] for key in ("sentence", "counted", "claimed")), []).append(row)
    lines = [HEAD, ("---",) * len(HEAD), *(_line(*key, same) for key, same in together.items())]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _line(sentence: str, counted: str, claimed: str, rows: Sequence[Row]) -> tuple[str, ...]:
    made = [row for row in rows if row["made"]]
    rates = sorted({_percent(row["measured"]) for row in made}, key=lambda rate: float(rate.removesuffix(" %")))
    trials = sorted({row["trials"] for row in rows})
    n = sorted({int(size.replace(",", "")) for row in rows for size in re.findall(r"n = ([\d,]+)", row["setting"])})
    groups = ", with and without groups" if any("group" in row["setting"] for row in rows) else ""
    few = f"{len(rows)} settings" if len(rows) > 1 else "1 setting"
    setting = (
        f"{few}, {_ends([f'{size:,}' for size in n])} pictures{groups}; {_ends([f'{t:,}' for t in trials])} trials"
    )
    holds = ("–" if claimed == NOTHING else "yes") if made else "never said"
    near = sum(row["holds"] == "within error" for row in rows)
    if near:
        holds = f"yes, {near} within the error of the simulation"
    hits, n_made = sum(round(row["measured"] * row["made"]) for row in made), sum(row["made"] for row in made)
    if n_made and Claim.read(claimed).chance(hits, n_made) < CHANCE:
        holds = f"not over all settings together ({_percent(hits / n_made)})"
    failing = [row for row in rows if row["holds"] == "no"]
    if failing:
        holds = "not: " + "; ".join(f"{row['setting']} ({_percent(row['measured'])})" for row in failing)
    return sentence, setting, COUNTED[counted], claimed, _ends(rates), holds


def _ends(values: Sequence[str]) -> str:
    ends = list(dict.fromkeys((values[0], values[-1]))) if values else ["–"]
    return " to ".join([*(end.removesuffix(" %") for end in ends[:-1]), ends[-1]])


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"
