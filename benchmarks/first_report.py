"""How long a newcomer waits: ``onecycle train DATA`` with every default, from an empty cache to the written report.

python benchmarks/first_report.py [--data FOLDER] [--rounds 3]

Each round is a process of its own with a home, a cache and a working folder of its own. The time is that of the whole
command: imports, audit, sweeps, training, label check, thresholds, calibration, report. Then ``onecycle report`` makes
the page again from the run's folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import report

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "planet_sample"
COMMAND = str(Path(sys.executable).parent / "onecycle")


def one_round(data: Path) -> dict[str, float]:
    """Train with defaults in an empty folder; return what it took and what came out."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "ONECYCLE_HOME": str(Path(folder) / "home")}
        found = {}
        for name, words in {"train": ["train", str(data)], "report": ["report", "latest"]}.items():
            start = time.perf_counter()
            subprocess.run([COMMAND, *words], cwd=folder, env=env, check=True, capture_output=True)
            found[f"{name}, s"] = time.perf_counter() - start
        run = (Path(folder) / "runs" / "latest").resolve()
        headline = json.loads((run / "metrics.json").read_text())["metrics"][0]
        found["report, MB"] = (run / "report.html").stat().st_size / 1e6
        found[headline["name"]] = headline["value"]
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    rounds = [one_round(asked.data.resolve()) for _ in range(asked.rounds)]
    rows = [{"measure": name, **report.summary([r[name] for r in rounds])} for name in rounds[0]]
    method = (
        "onecycle train DATA with every default, and onecycle report of that run; a fresh process, an empty home and "
        f"an empty cache each time, the seed the default one. Data: {asked.data.name}."
    )
    report.write("first_report", method, rows)


if __name__ == "__main__":
    main()
