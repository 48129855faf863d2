"""One process trains a run: the others are told which one does."""

from __future__ import annotations

import datetime
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from onecycle.errors import OutputError
from onecycle.files import NO_LOCK, remove, remove_unfinished, write_whole
from onecycle.runs.folder import RunFolder

LOCK, HOLDER = "training.lock", "training.json"
"""Below ``checkpoints``: the lock, which the system frees however its process ends; and who has it."""


@contextmanager
def training_lock(run: RunFolder, say: Callable[[str], object]) -> Iterator[None]:
    """Keep other processes from training a run within the block.

    Args:
        run: the run.
        say: is told of a process that trained it and ended without a word.

    Raises:
        OutputError: another process trains it; it is named, with its machine.
    """
    from filelock import FileLock, Timeout

    run.checkpoints.mkdir(parents=True, exist_ok=True)
    holder, lock = run.checkpoints / HOLDER, FileLock(run.checkpoints / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(_taken(run, _holder(holder))) from None
    except NO_LOCK:  # a disk without locks: what the file says must do
        before = _holder(holder)
        if before and not _is_gone(before):
            why = f"if it does not run any more, remove {holder}"
            raise OutputError(f"{_taken(run, before)}; {why}") from None
    try:
        if before := _holder(holder):
            say(f"{_who(before)} trained {run.path} and ended without a word; its lock is taken over")
        for folder in (run.path, run.checkpoints, run.model_stem.parent):
            remove_unfinished(folder)
        write_whole(holder, json.dumps(_me()).encode())
        yield
        remove(holder)
    except BaseException:
        remove(holder)
        raise
    finally:
        lock.release()


def _me() -> dict[str, Any]:
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _holder(path: Path) -> dict[str, Any]:
    """Return who has the lock; nothing where nobody says."""
    with suppress(OSError, ValueError):
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
    return {}


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether a process of this machine does not run any more."""
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _who(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')} (since {holder.get('since')})"


def _taken(run: RunFolder, holder: dict[str, Any]) -> str:
    return f"{run.path} is being trained by {_who(holder)}: wait until it ends, or stop it"
