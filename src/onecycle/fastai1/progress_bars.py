"""``master_bar`` and ``progress_bar``, which fastai v1 passed on from fastprogress: bars for loops of the user's own.

They go through the items and write what they are told to; nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["MasterBar", "PBar", "ProgressBar", "master_bar", "progress_bar"]


class ProgressBar:
    """Goes through the items of a loop.

    Args:
        items: to go through.
        total: how many there are; default their length.
        parent: the bar of the loop around this one.
    """

    def __init__(self, items: Iterable[Any], total: int | None = None, parent: MasterBar | None = None, **_: Any):
        self.items, self.total, self.parent = items, total, parent
        self.comment = ""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return self.total if self.total is not None else len(self.items)  # type: ignore[arg-type]

    def update(self, value: int) -> None:
        """Nothing is drawn, so nothing changes."""


class MasterBar(ProgressBar):
    """Goes through the items of an outer loop; ``child`` and ``main_bar`` take comments, as those of fastprogress."""

    def __init__(self, items: Iterable[Any], total: int | None = None, **options: Any):
        super().__init__(items, total, **options)
        self.main_bar, self.child = self, ProgressBar(())
        self.names: list[str] = []

    def write(self, line: Any, table: bool = False) -> None:
        """Print a line, or the cells of a row."""
        print(*line if table else (line,), sep="  ")

    def update_graph(self, graphs: Any, x_bounds: Any = None, y_bounds: Any = None) -> None:
        """Nothing is drawn while a loop runs."""

    def add_child(self, child: ProgressBar) -> None:
        """Take the bar of an inner loop."""
        self.child = child


PBar = MasterBar | ProgressBar
master_bar, progress_bar = MasterBar, ProgressBar
