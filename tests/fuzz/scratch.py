"""Where cases that must be files are written: one folder a process, in memory where the system has that."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

_folders: dict[int, Path] = {}


def scratch() -> Path:
    """Return this process' folder; it is removed with the temporary folder of the whole run."""
    if os.getpid() not in _folders:
        _folders[os.getpid()] = Path(tempfile.mkdtemp(prefix="cases_"))
    return _folders[os.getpid()]


def fresh(name: str) -> Path:
    """Return an empty folder of this name."""
    folder = scratch() / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def file_of(name: str, data: bytes) -> Path:
    """Write a case to a file."""
    path = scratch() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
