"""The training log: a table that grows by a row an epoch, and a bar for the epoch that runs.

Formatting is pure; the reporters only put its results where output goes: a notebook, a terminal, or a plain stream.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from onecycle.text import aligned, format_time
from onecycle.train.log.recorder import EpochRow, MetricValue

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.progress import Progress as RichProgress

UPDATE_S = 0.5
"""Seconds between two looks at the running loss; a look makes the host wait for the device once."""

SmoothLoss = Callable[[], float | None]


def format_cell(value: MetricValue | int | str | None) -> str:
    """Return a cell of the log: six decimals, whole numbers plain, ``#na#`` for what was not measured."""
    if value is None:
        return "#na#"
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def format_row(row: EpochRow, n_metrics: int) -> list[str]:
    """Return the cells of an epoch; metrics that were not measured become ``#na#``."""
    metrics: list[MetricValue | None] = [*row.metrics, *[None] * (n_metrics - len(row.metrics))]
    values = [row.epoch, row.train_loss, row.valid_loss, *metrics]
    return [*(format_cell(value) for value in values), format_time(row.time_s)]


def table_header(names: Sequence[str]) -> str:
    """Return the header of the text table: names padded to at least 8, two spaces between."""
    return table_row(names, names)


def table_row(names: Sequence[str], cells: Sequence[str]) -> str:
    """Return a line of the text table, each cell under its name."""
    return aligned([cells], least=[max(8, len(name)) for name in names])[0]


def text_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the whole text table."""
    return "\n".join([table_header(names), *(table_row(names, cells) for cells in rows)])


def html_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the table as HTML, in the look of a data frame."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in cells)}</tr>" for cells in rows)
    return (
        '<table border="1" class="dataframe"><thead><tr style="text-align: left;">'
        f"{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def html_bar(done: int, total: int, text: str) -> str:
    """Return a progress bar as HTML."""
    return (
        f'<div><progress value="{done}" max="{total}" style="width: 300px; height: 20px; vertical-align: middle;">'
        f"</progress> {html.escape(text)}</div>"
    )


def bar_text(done: int, total: int, elapsed_s: float, loss: float | None) -> str:
    """Return batches done, time left at this speed, and the running loss."""
    left = format_time(elapsed_s / done * (total - done)) if done else "--:--"
    tail = "" if loss is None else f" loss {loss:.4f}"
    return f"{done}/{total} [{format_time(elapsed_s)}<{left}]{tail}"


def in_notebook() -> bool:
    """Say whether output goes to a Jupyter kernel; IPython is looked at only where it is already loaded."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None and hasattr(module, "get_ipython") else None
    return shell is not None and hasattr(shell, "kernel")


class Progress:
    """The reporter that says nothing; base of the others."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rows: list[list[str]] = []
        self.n_epochs = 1
        self._epoch_start = self._last_look = 0.0

    def start(self, names: Sequence[str], n_epochs: int) -> None:
        """Begin a fit with these columns; no columns means that there will be no table."""
        self.names, self.rows, self.n_epochs = list(names), [], n_epochs

    def epoch(self, n_batches: int) -> None:
        """Begin an epoch."""
        self._epoch_start = self._last_look = time.monotonic()
        self.draw(0, n_batches, None)

    def batch(self, done: int, n_batches: int, loss: SmoothLoss) -> None:
        """Note a finished batch; asks for the running loss at most every ``UPDATE_S``."""
        now = time.monotonic()
        if self.shows_bar and now - self._last_look >= UPDATE_S:
            self._last_look = now
            self.draw(done, n_batches, loss())

    def row(self, row: EpochRow) -> None:
        """Add an epoch to the table."""
        cells = format_row(row, len(self.names) - 4)
        self.rows.append(cells)
        self.show_row(cells)

    @property
    def shows_bar(self) -> bool:
        """Whether :meth:`draw` does anything."""
        return False

    def draw(self, done: int, n_batches: int, loss: float | None) -> None:
        """Draw the bar of the running epoch."""
        self.bar(done, n_batches, bar_text(done, n_batches, time.monotonic() - self._epoch_start, loss))

    def validating(self) -> None:
        """Say in the bar that the validation set is being read."""
        self.bar(1, 1, "validating")

    def bar(self, done: int, total: int, text: str) -> None:
        """Draw a bar with a text behind it."""

    def show_row(self, cells: Sequence[str]) -> None:
        """Show a new row."""

    def finish(self) -> None:
        """Leave the table, take the bar away."""

    @property
    def epoch_text(self) -> str:
        """Which epoch runs, of how many."""
        return f"epoch {len(self.rows) + 1}/{self.n_epochs}"


class BarProgress(Progress):
    """A bar that runs on a terminal below what is printed, and vanishes at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: RichProgress | None = None

    @property
    def shows_bar(self) -> bool:
        """Whether there is a bar."""
        return self._bar is not None

    def start_bar(self, console: Console, indent: str = "") -> None:
        """Set up the bar."""
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        text = (TextColumn(indent + "{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
        self._bar = RichProgress(*text, console=console, transient=True, auto_refresh=False)
        self._bar.add_task("", total=1, text="")
        self._bar.start()

    def bar(self, done: int, total: int, text: str) -> None:
        """Move the bar."""
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=done, total=total, description=self.epoch_text, text=text, refresh=True)

    def finish(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class PlainProgress(BarProgress):
    """A header, then a line an epoch, without bar and control characters: for files and pipes.

    Args:
        stream: where the lines go; ``None`` is standard output at the time of writing.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream

    def start(self, names: Sequence[str], n_epochs: int) -> None:
        """Write the header."""
        super().start(names, n_epochs)
        if names:
            self._say(table_header(names))

    def show_row(self, cells: Sequence[str]) -> None:
        """Write the row, above the bar if there is one."""
        self._say(table_row(self.names, cells))

    def _say(self, line: str) -> None:
        if self._bar is None:
            print(line, file=self._stream, flush=True)
        else:
            self._bar.console.print(line, markup=False)


class TerminalProgress(PlainProgress):
    """The same table under which a bar runs and vanishes; ``stream`` is the terminal."""

    def start(self, names: Sequence[str], n_epochs: int) -> None:
        """Set up the bar and write the header."""
        from rich.console import Console

        self.start_bar(Console(file=self._stream, highlight=False, soft_wrap=True))
        super().start(names, n_epochs)


class NotebookProgress(Progress):
    """One output that is redrawn in place: bar above, table below, at the end the table alone."""

    def __init__(self) -> None:
        super().__init__()
        self._output = LiveOutput()
        self._bar_html = ""

    @property
    def shows_bar(self) -> bool:
        """True."""
        return True

    def start(self, names: Sequence[str], n_epochs: int) -> None:
        """Show the empty table."""
        super().start(names, n_epochs)
        self._output = LiveOutput()
        self._show()

    def bar(self, done: int, total: int, text: str) -> None:
        """Move the bar."""
        self._bar_html = html_bar(done, total, f"{self.epoch_text} {text}")
        self._show()

    def show_row(self, cells: Sequence[str]) -> None:
        """Redraw with the new row."""
        self._show()

    def finish(self) -> None:
        """Leave the table alone."""
        self._bar_html = ""
        if self._output.id is not None:
            self._show()

    def _show(self) -> None:
        table, text = (make(self.names, self.rows) if self.names else "" for make in (html_table, text_table))
        self._output.show({"text/html": self._bar_html + table, "text/plain": text})


class LiveOutput:
    """A place in a notebook's output that can be shown again in place."""

    def __init__(self) -> None:
        self.id: str | None = None  # of what is shown; None before

    def show(self, bundle: dict[str, Any]) -> None:
        """Show a MIME bundle: new the first time, in place afterwards."""
        from IPython.display import display, update_display

        if self.id is None:
            handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
            self.id = handle.display_id if handle is not None else None
        else:
            update_display(bundle, raw=True, display_id=self.id)  # type: ignore[no-untyped-call]


class LiveFigure:
    """A figure that is redrawn in place in a notebook; elsewhere ``live`` is False."""

    def __init__(self) -> None:
        self.live = in_notebook()
        self._output = LiveOutput()

    def show(self, figure: Figure | None) -> None:
        """Show the figure as a PNG in place of the last one, and close it."""
        if figure is None:
            return
        import base64
        import io

        from matplotlib import pyplot as plt

        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        plt.close(figure)
        png = base64.b64encode(buffer.getvalue()).decode("ascii")
        self._output.show({"image/png": png, "text/plain": "losses"})


def make_progress(*, silent: bool = False) -> Progress:
    """Return the reporter for where output goes: a notebook, a terminal, or a plain stream.

    Args:
        silent: show nothing.
    """
    if silent:
        return Progress()
    if in_notebook():
        return NotebookProgress()
    return TerminalProgress() if sys.stdout.isatty() else PlainProgress()
