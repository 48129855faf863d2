"""What a failed command says and exits with: 2 usage, 3 data, 4 resources, 5 unsafe file; 1 for the rest."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from itertools import chain
from typing import TextIO

from onecycle import errors
from onecycle.files import FULL_DISK, disk_full
from onecycle.text import command_line_words, safe_text

FAILED, USAGE, DATA, RESOURCES, UNSAFE, INTERRUPTED = 1, 2, 3, 4, 5, 130

_CODES: tuple[tuple[int, tuple[type[BaseException], ...]], ...] = (
    (UNSAFE, (errors.UnsafeFileError, errors.ArchiveError)),
    (USAGE, (errors.ArgumentError,)),
    (DATA, (errors.DataError, errors.DownloadError, errors.WeightsError, errors.CheckpointError, FileNotFoundError)),
    (RESOURCES, (MemoryError, OSError, errors.DeviceError, errors.DistributedError)),
    (INTERRUPTED, (KeyboardInterrupt,)),
)
"""Codes with what ends in them; the first that fits counts."""
_WIDEST = 100


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error; a signal that stopped a command has its own."""
    own = getattr(error, "exit_code", None) if isinstance(error, KeyboardInterrupt) else None
    return own or next((code for code, kinds in _CODES if isinstance(error, kinds)), FAILED)


def error_text(error: BaseException) -> str:
    """Return what is printed for an error: its message, and for one that nobody foresaw how to see more."""
    if isinstance(error, errors.OnecycleError):
        return in_lines(f"error: {error.what}")
    if isinstance(error, OSError):
        if error.errno in FULL_DISK:
            with command_line_words():
                return in_lines(f"error: {disk_full(error).what}")
        where = f" ({error.filename})" if error.filename else ""
        return in_lines(f"error: {error.strerror or error}{where}")
    if isinstance(error, MemoryError):
        return in_lines("error: not enough memory; close other programs, or make --bs or --size smaller")
    what = f"{type(error).__name__}: {error}. The same command with --debug shows where; please report it with that"
    return in_lines(f"error: onecycle has a defect here: {what}")


def show_warning(
    message: Warning | str,
    category: type[Warning],  # noqa: ARG001
    filename: str,  # noqa: ARG001
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,
    line: str | None = None,  # noqa: ARG001
) -> None:
    """Print a warning as a sentence: the line of code that it came from says nothing to a user.

    The arguments are those of ``warnings.showwarning``, which this replaces.
    """
    print(in_lines(f"warning: {message}"), file=file or sys.stderr)


def in_lines(text: str) -> str:
    """Return a message without control characters, in lines as wide as the terminal."""
    width = min(_WIDEST, max(40, shutil.get_terminal_size((80, 24)).columns))
    plain = [_COMMAND.sub(lambda m: m[0].replace(" ", _JOINED), safe_text(line)) for line in text.splitlines()]
    lines = (textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""] for line in plain)
    return "\n".join(chain.from_iterable(lines)).replace(_JOINED, " ")


_COMMAND = re.compile(r"`onecycle [^`]+`")  # to copy, so in one line
_JOINED = "\ue000"  # a blank at which no line ends; safe_text lets no such character through
