"""Work that takes a while (downloads, decoding, drawing) and its bars: in a terminal only, nothing elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

Advance = Callable[[int], object]


def counting_bar(title: str, total: int, done: int = 0) -> AbstractContextManager[Advance]:
    """Count things, from ``done`` on: call what this yields with the number done since the last call."""
    from rich.progress import MofNCompleteColumn

    return _bar(title, total, done, MofNCompleteColumn())


def download_bar(title: str, total: int | None, done: int) -> AbstractContextManager[Advance]:
    """Count bytes, of ``total`` (None if unknown), from ``done`` on."""
    from rich.progress import DownloadColumn, TransferSpeedColumn

    return _bar(title, total, done, DownloadColumn(), TransferSpeedColumn())


def work_through(
    title: str, items: Sequence[int], work: Callable[[int], object], *, threads: int, silent: bool = False
) -> None:
    """Call ``work`` with every item, in threads, under a bar; the first error stops them all."""
    stop, threads = threading.Event(), max(1, min(threads, len(items)))

    def every_so_many(first: int) -> None:
        for item in items[first::threads]:
            if stop.is_set():
                return
            work(item)
            advance(1)

    bar = nullcontext(_no_advance) if silent else counting_bar(title, len(items))
    with bar as advance, ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        running = [pool.submit(every_so_many, first) for first in range(threads)]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
        for job in running:
            job.result()


def _no_advance(n: int) -> None:
    """Stand in for a bar."""


@contextmanager
def _bar(title: str, total: int | None, done: int, *columns: ProgressColumn) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console()
    if not console.is_terminal:
        yield _no_advance
        return
    shown = (TextColumn("{task.description}"), BarColumn(), *columns, TimeRemainingColumn())
    with Progress(*shown, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total, completed=done)
        yield lambda n: progress.advance(task, n)
