"""What every benchmark shares: where it ran, how a result is summed up, and how it is written down."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "results"


def machine() -> dict[str, object]:
    """Name the processor, the cores in use and the versions that matter."""
    model = "unknown processor"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    packages = ("onecycle", "torch", "timm", "numpy", "pillow")
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{p: version(p) for p in packages},
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return mean, standard deviation (of the sample), median, least and most of some values."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {
        "n": len(values),
        "mean": statistics.fmean(values),
        "sd": spread,
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
    }


def command(argv: Sequence[str]) -> str:
    """How the benchmark was started, without where the peers' interpreter and the data lie on this machine."""
    words = list(argv[1:])
    for place in ("--peers-python", "--python", "--data", "--fashion", "--exported", "--pictures"):
        if place in words:
            at = words.index(place)
            del words[at : at + 2]
    for place in ("--before", "--fashion"):
        if place in words:
            words[words.index(place) + 1] = "PATH"
    return shlex.join(["python", f"benchmarks/{Path(argv[0]).name}", *words])


def write(
    name: str,
    method: str,
    rows: list[dict[str, object]],
    *,
    peers: Mapping[str, str] | None = None,
    runs: Mapping[str, object] | None = None,
) -> None:
    """Print the rows as a table and write them with method, machine, date and command to ``results/``.

    Args:
        name: of the files.
        method: what was measured and how, in sentences.
        rows: one a line of the table; a key that a row lacks is a blank.
        peers: versions in the peers' environment, where they took part.
        runs: what the rows sum up, run by run, for a benchmark that can be taken up again; for the JSON alone.
    """
    RESULTS.mkdir(exist_ok=True)
    method = " ".join(method.split())
    record = {
        "method": method,
        "command": command(sys.argv),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        **({"peers": dict(peers)} if peers else {}),
        "rows": rows,
        **({"runs": dict(runs)} if runs else {}),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    table = _table(rows)
    words = " · ".join(f"{k} {v}" for k, v in machine().items())
    if peers:
        words += "\n\nPeers' environment: " + " · ".join(f"{k} {v}" for k, v in peers.items())
    text = f"# {name}\n\n{method}\n\n`{record['command']}`, {record['date']}\n\n{words}\n\n{table}\n"
    (RESULTS / f"{name}.md").write_text(text)
    print(table)


def _table(rows: list[dict[str, object]]) -> str:
    head = list(dict.fromkeys(k for row in rows for k in row))
    cells = [[_cell(row.get(k, "")) for k in head] for row in rows]
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
