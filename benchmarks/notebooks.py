"""How many notebooks written for fastai v1 are whole here: which cells lack a name, an attribute or a keyword.

python benchmarks/notebooks.py FOLDER [--out FILE.json] [--run [--epochs 1]]

Nothing of the notebooks is executed unless ``--run`` is given; scripts (.py) count as notebooks of one cell.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from harness.cells import notebooks_in, trees
from harness.lacks import scan

USES = "fastai"
"""Notebooks without this word in their code are not counted."""


def scanned(path: Path) -> dict[str, Any] | None:
    """Cells of a notebook and what they lack; None where it does not use fastai or is no notebook."""
    try:
        cells = list(trees(path))
    except (ValueError, KeyError, TypeError):
        return None
    if USES not in path.read_text(encoding="utf-8", errors="replace"):
        return None
    lacks = scan(cells)
    return {
        "notebook": str(path),
        "cells": len(cells),
        "no_python": sum(cell is None for cell in cells),
        "lacking": {i: sorted(found) for i, found in enumerate(lacks, start=1) if found},
    }


def executed(path: Path, epochs: int) -> dict[str, int]:
    """Cells of a notebook and how many of them ran."""
    words = [sys.executable, "-m", "onecycle", "notebook", "run", str(path), "--epochs", str(epochs), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    whole = json.loads(done.stdout.splitlines()[-1])
    return {"run_cells": whole["cells"], "ran": whole["ran"]}


def summary(rows: list[dict[str, Any]]) -> str:
    """The counts, and what is lacked in most notebooks."""
    whole = [row for row in rows if not row["lacking"]]
    n_cells = sum(row["cells"] for row in rows)
    n_lacking = sum(len(row["lacking"]) for row in rows)
    lines = [
        f"{len(whole)} of {len(rows)} notebooks are whole ({len(whole) / max(1, len(rows)):.0%}); "
        f"{n_cells - n_lacking} of {n_cells} cells lack nothing"
    ]
    if any("ran" in row for row in rows):
        lines.append(f"{sum(r['ran'] for r in rows)} of {sum(r['run_cells'] for r in rows)} cells ran")
    counts = Counter(what for row in rows for what in {w for found in row["lacking"].values() for w in found})
    return "\n".join(lines + [f"{n:>6}  {what}" for what, n in counts.most_common(40)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, help="JSON with each notebook")
    parser.add_argument("--run", action="store_true", help="execute them, too")
    parser.add_argument("--epochs", type=int, default=1)
    args = parser.parse_args()
    rows = [row for row in map(scanned, notebooks_in(args.folder)) if row is not None]
    if args.run:
        for row in rows:
            if row["notebook"].endswith(".ipynb"):
                row |= executed(Path(row["notebook"]), args.epochs)
    print(summary(rows))
    if args.out is not None:
        args.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
