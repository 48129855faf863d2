"""Writes ``constraints-hashes.txt``: each package of ``constraints.txt`` that this machine installs, with its digest.

    make hashes

pip resolves what ``make setup`` installs and says the SHA-256 of each file that it would take; nothing is installed.
The files are those for this machine's system and Python: on another, ``make setup HASHES=1`` refuses them, and
``make hashes`` writes its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HASHES = ROOT / "constraints-hashes.txt"
WANTED = ("-e", ".[dev]", "hatchling>=1.24", "editables")
"""What ``make setup`` installs, and what builds this package so that it is used where it lies."""


def pip_report() -> dict[str, Any]:
    """Ask pip what it would install into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        quiet = ("--quiet", "--disable-pip-version-check")
        how = ("--dry-run", "--ignore-installed", "--report", str(report), "-c", "constraints.txt")
        subprocess.run([sys.executable, "-m", "pip", "install", *quiet, *how, *WANTED], cwd=ROOT, check=True)
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return found


def locked(report: Mapping[str, Any]) -> str:
    """Return the text of the file for a report of pip.

    Raises:
        ValueError: a package whose file has no SHA-256.
    """
    where, lines = report["environment"], []
    for package in report["install"]:
        name, info = package["metadata"]["name"].lower(), package["download_info"]
        if "dir_info" in info:
            continue  # this package itself
        digest = info.get("archive_info", {}).get("hashes", {}).get("sha256")
        if digest is None:
            raise ValueError(f"pip says no SHA-256 of {name}: {info}")
        lines.append(f"{name}=={package['metadata']['version']} --hash=sha256:{digest}\n")
    made_for = f"{where['sys_platform']} {where['platform_machine']}, Python {where['python_version']}"
    return f"# For {made_for}; written by `make hashes`, used by `make setup HASHES=1`.\n" + "".join(sorted(lines))


if __name__ == "__main__":
    HASHES.write_text(locked(pip_report()), encoding="utf-8")
    print(f"{HASHES.name}: {HASHES.read_text(encoding='utf-8').count('--hash=')} packages")
