"""Text that is safe to show and fits: names of files and labels come from outside, and may be wide or hostile."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class LabelWords(NamedTuple):
    """What a label is called, and several."""

    one: str
    many: str


def label_words(*, is_multi: bool) -> LabelWords:
    """Return what labels are called where a picture has one (class), or any number of them (tag)."""
    return LabelWords("tag", "tags") if is_multi else LabelWords("class", "classes")


SHOWN_IN_ERRORS = 20  # rows named in one message; more are counted


def safe_text(text: object) -> str:
    """Return text that is safe to show: control and formatting characters, escapes of a terminal among them, as �.

    Line breaks and tabs become blanks.
    """
    plain = " ".join(str(text).replace("\x00", "\ufffd").splitlines()).replace("\t", " ")
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in plain)


def safe_lines(text: object) -> str:
    """Return text of several lines that is safe to show: each line as ``safe_text`` has it."""
    return "\n".join(safe_text(line) for line in str(text).split("\n"))


def _columns(text: str) -> int:
    from rich.cells import cell_len  # here, as this module is loaded where nothing is laid out

    return cell_len(text)


def _chopped(text: str, width: int) -> list[str]:
    from rich.cells import chop_cells

    return chop_cells(text, width)


def wrapped(text: str, width: int, *, break_words: bool = True) -> list[str]:
    """Break text into lines of at most ``width`` columns; a character may take two of them.

    A word that is longer, a path say, is broken too, or has a line of its own.
    """
    lines, line = [], ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if _columns(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *full, line = (_chopped(word, width) if break_words else [word]) or [""]
        lines += full
    return [*lines, line]


def cut(text: str, width: int) -> str:
    """Return text cut to ``width`` columns; of a long one the end says most."""
    plain = safe_text(text)
    while _columns(plain) > width:
        plain = "…" + plain[1 + (plain[0] == "…") :]
    return plain


def padded(text: str, width: int) -> str:
    """Fill text up with blanks to ``width`` columns; a character may take two of them."""
    return text + " " * (width - _columns(text))


def aligned(rows: Sequence[Sequence[str]], align: str = "<", *, least: Sequence[int] = ()) -> list[str]:
    """Lay rows of cells out in columns, two blanks apart; a character may take two columns of the screen.

    Args:
        rows: of one length each.
        align: ``<`` or ``>`` for each column of cells; the last one holds for those after it.
        least: widths that columns have at least, so that rows that are laid out one by one stand below each other.

    Returns:
        A line a row, without blanks at its end.
    """
    n = len(rows[0]) if rows else 0
    sides = align + align[-1] * (n - len(align))
    floors = [*least, *[0] * (n - len(least))]
    widths = [max(floors[i], *(_columns(row[i]) for row in rows)) for i in range(n)]
    return [
        "  ".join(
            padded(cell, width) if side == "<" else " " * (width - _columns(cell)) + cell
            for cell, side, width in zip(row, sides, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


_place = {"command line": False}


@contextmanager
def command_line_words() -> Iterator[None]:
    """Let messages name options of the command line, as long as it lasts, instead of keywords of Python."""
    before = _place["command line"]
    _place["command line"] = True
    try:
        yield
    finally:
        _place["command line"] = before


def by_place(command: str, python: str) -> str:
    """Return what a message says on the command line or in Python, whichever it appears in."""
    return command if _place["command line"] else python


def option(name: str, value: object = None) -> str:
    """Name a setting as the place where a message appears has it: ``--valid-pct 0.2``, or ``valid_pct=0.2``.

    Args:
        name: of the setting, in Python's spelling.
        value: to give it; True for a switch of the command line, None to name the setting alone.
    """
    flag = f"--{name.replace('_', '-')}"
    if value is None or value is True:
        return by_place(flag, f"{name}={'' if value is None else value}")
    return by_place(f"{flag} {shlex.quote(str(value))}", f"{name}={value!r}")


def plural(n: int, one: str, several: str = "") -> str:
    """Return ``1 row`` or ``2 rows``, with the thousands marked."""
    return f"{n:,} {one if n == 1 else several or one + 's'}"


def shown(rows: Sequence[object], *, most: int = SHOWN_IN_ERRORS, between: str = ", ") -> str:
    """Join the first rows for a message and count the rest."""
    text = between.join(str(r) for r in rows[:most])
    return text if len(rows) <= most else f"{text}{between}and {len(rows) - most:,} more"


def human_bytes(n_bytes: int) -> str:
    """Write a number of bytes as people do: ``150 MB``."""
    for size, unit, digits in ((10**9, "GB", 1), (10**6, "MB", 0), (10**3, "kB", 0)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.{digits}f} {unit}"
    return f"{n_bytes} bytes"


def shown_path(path: str | Path) -> str:
    """Write a path for people: ``~`` for the home folder, and no character that cannot be printed."""
    text, home = str(path), os.path.expanduser("~")
    if text.startswith(home + os.sep):
        text = "~" + text[len(home) :]
    return text.encode("utf-8", "replace").decode()


def format_time(seconds: float) -> str:
    """Return ``mm:ss``, or ``h:mm:ss`` from an hour on."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
