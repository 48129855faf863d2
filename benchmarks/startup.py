"""How long the shell waits: ``import onecycle`` and ``onecycle --help``, each in a fresh process.

python benchmarks/startup.py [--n 20]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from harness import report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20)
    n = parser.parse_args().n
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import onecycle": [sys.executable, "-c", "import onecycle"],
        "onecycle --help": [str(Path(sys.executable).parent / "onecycle"), "--help"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(n):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times[name].append(time.perf_counter() - start)
    rows = [{"command": name, "measure": "seconds", **report.summary(values)} for name, values in times.items()]
    report.write("startup", "Wall time of a fresh process, the commands in turn.", rows)


if __name__ == "__main__":
    main()
