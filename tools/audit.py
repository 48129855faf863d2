"""Asks pip-audit for known faults of the packages in ``constraints-hashes.txt``, and says what could not be asked.

    make audit

Exits with 1 where a fault is known, and with 2 where the service was not reached, or does not know a package: pip-audit
itself calls that "no known vulnerabilities".
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGES = Path(__file__).resolve().parents[1] / "constraints-hashes.txt"
FAULTY, UNKNOWN = 1, 2


def asked(packages: Path = PACKAGES) -> list[dict[str, Any]] | str:
    """Return what pip-audit found, one entry a package; or its last words where it found out nothing."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "found.json")
        how = ("--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json", "-o", str(out))
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *how, "-r", str(packages)], capture_output=True, text=True, check=False
        )
        if not out.is_file() or not out.stat().st_size:
            return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
        found: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))["dependencies"]
        return found


def told(found: Sequence[dict[str, Any]] | str) -> tuple[str, int]:
    """Return what to print, and the exit code."""
    if isinstance(found, str):
        return f"Nothing is known: pip-audit could not ask its service ({found}). Try again with a network.", UNKNOWN
    skipped = [package["name"] for package in found if "skip_reason" in package]
    faults = [
        f"{package['name']} {package['version']}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'none'}"
        for package in found
        for fault in package.get("vulns", ())
    ]
    lines = [
        *faults,
        f"{len(found) - len(skipped)} of {len(found)} packages were looked up, {len(faults)} known faults.",
    ]
    if skipped:
        lines.append(
            f"Nothing is known of {len(skipped)}, which the service did not answer for: {', '.join(skipped[:5])}, …"
        )
    return "\n".join(lines), FAULTY if faults else UNKNOWN if skipped else 0


if __name__ == "__main__":
    text, code = told(asked())
    print(text)
    sys.exit(code)
