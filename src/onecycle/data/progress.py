"""Bars for work that takes a while: downloads, decoding, drawing. In a terminal only; nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

Advance = Callable[[int], object]


def counting_bar(title: str, total: int) -> AbstractContextManager[Advance]:
    """Count things: call what this yields with the number done since the last call."""
    from rich.progress import MofNCompleteColumn

    return _bar(title, total, 0, MofNCompleteColumn())


def download_bar(title: str, total: int | None, done: int) -> AbstractContextManager[Advance]:
    """Count bytes, of ``total`` (None if unknown), from ``done`` on."""
    from rich.progress import DownloadColumn, TransferSpeedColumn

    return _bar(title, total, done, DownloadColumn(), TransferSpeedColumn())


@contextmanager
def _bar(title: str, total: int | None, done: int, *columns: ProgressColumn) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console()
    if not console.is_terminal:
        yield lambda _: None
        return
    shown = (TextColumn("{task.description}"), BarColumn(), *columns, TimeRemainingColumn())
    with Progress(*shown, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total, completed=done)
        yield lambda n: progress.advance(task, n)
