"""What a command shows: on a terminal, in a pipe, as JSON for machines; and the same lines in a run's log.

Names of files and labels come from outside: nothing is shown before ``safe_text`` took the control characters out.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.text import Text

from onecycle.errors import OnecycleWarning, OutputError
from onecycle.files import plain_json
from onecycle.foreign import Refused, append_to
from onecycle.text import aligned, cut, format_time, safe_text, wrapped
from onecycle.train.log.progress import BarProgress, Progress
from onecycle.train.log.recorder import EpochRow

if TYPE_CHECKING:
    from rich.status import Status

USUAL_WIDTH, LEAST_WIDTH, MOST_WIDTH = 80, 40, 100
"""Columns where nobody says; and the least and most that lines have, as longer ones are hard to read."""

LABEL_WIDTH = 10
"""Columns of the word that a line begins with."""


class Screen:
    """Where a command's lines go.

    Args:
        as_json: one JSON object a line on standard output, and nothing else there.
        quiet: only lines that are shown ``always``.
        stream: standard output.
        errors: for warnings.
    """

    def __init__(
        self, *, as_json: bool = False, quiet: bool = False, stream: TextIO | None = None, errors: TextIO | None = None
    ) -> None:
        self.as_json, self.quiet = as_json, quiet
        self._out = sys.stdout if stream is None else stream
        self._err = sys.stderr if errors is None else errors
        for written in (self._out, self._err):
            if isinstance(written, io.TextIOWrapper):  # what its encoding lacks must not end a run
                written.reconfigure(errors="replace")
        columns = shutil.get_terminal_size((USUAL_WIDTH, 24)).columns
        self.width = max(LEAST_WIDTH, min(MOST_WIDTH, columns))  # the most columns of a line
        self.console = _console(self._out, columns)
        self._errors = _console(self._err, columns)
        self._log: TextIO | None = None
        self._waiting: list[str] = []
        self._told: set[str] = set()
        self._status: Status | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads along; what another program reads is whole."""
        return self.console.is_terminal

    @property
    def is_live(self) -> bool:
        """Whether lines can be drawn and taken away again."""
        return self.is_terminal and not (self.as_json or self.quiet)

    # --- lines ------------------------------------------------------------------------------------

    def say(self, text: str = "", *, style: str = "") -> None:
        """Show text, broken into lines."""
        for line in self._wrapped(text, self.width):
            self._show(line, style=style)

    def line(self, text: str, *, style: str = "", always: bool = False) -> None:
        """Show one line as it is laid out; a terminal gets as much as fits. ``always``: also with ``quiet``."""
        self._show(safe_text(text), style=style, always=always, fitted=True)

    def cut(self, text: str, width: int) -> str:
        """Cut a name to ``width`` columns for a terminal; another program gets all of it."""
        return cut(text, width) if self.is_terminal else safe_text(text)

    def table(
        self,
        rows: Sequence[Sequence[str]],
        align: str = "<",
        *,
        least: Sequence[int] = (),
        indent: int = 0,
        always: bool = False,
    ) -> None:
        """Show rows of cells in columns, see ``aligned``, behind ``indent`` blanks."""
        for line in aligned(rows, align, least=least):
            self.line(" " * indent + line, always=always)

    def row(self, label: str, text: str, *, style: str = "", always: bool = False) -> None:
        """Show text behind a label, its further lines below its first.

        Args:
            label: a short word; empty goes on with the row before.
            text: of any length.
            style: of the text.
            always: also with ``quiet``.
        """
        for i, line in enumerate(self._wrapped(text, self.width - LABEL_WIDTH)):
            name = label if i == 0 else ""
            self._show(f"{name:<{LABEL_WIDTH}}{line}", style=style, label=name, always=always)

    def command(self, text: str, what: str = "") -> None:
        """Show a command to run next; it is never broken, so that it can be copied."""
        plain = safe_text(text)
        line = " " * LABEL_WIDTH + plain
        self._show(f"{line}   {what}" if cell_len(f"{line}   {what}") <= self.width else line)

    def event(self, name: str, /, **values: Any) -> None:
        """Write one JSON object on a line, where output is for machines."""
        if self.as_json:
            print(json.dumps({"event": name, **plain_json(values)}, ensure_ascii=True), file=self._out, flush=True)

    def warn(self, text: str) -> None:
        """Show a warning, once, on standard error."""
        if text in self._told:
            return
        self._told.add(text)
        lines = wrapped(f"warning: {safe_text(text)}", self.width, break_words=self._errors.is_terminal)
        self._note(lines)
        for line in lines:
            self._errors.print(Text(line, style="yellow"), soft_wrap=True)

    def _wrapped(self, text: str, width: int) -> list[str]:
        return wrapped(safe_text(text), width, break_words=self.is_terminal)

    def _show(self, line: str, *, style: str = "", label: str = "", always: bool = False, fitted: bool = False) -> None:
        self._note([line.rstrip()])
        if self.as_json or (self.quiet and not always):
            return
        if fitted and self.is_terminal:
            line = (chop_cells(line, self.width) or [""])[0]
        text = Text(line.rstrip(), style=style)
        if label:
            text.stylize("bold", 0, len(label))
        self.console.print(text, soft_wrap=True)

    # --- the log ----------------------------------------------------------------------------------

    def log_to(self, path: Path) -> None:
        """Write all lines so far, and all that come, to the end of a file.

        Raises:
            OutputError: a link or the like has its name, and would be written through.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._log = append_to(path)
        except Refused as error:
            raise OutputError(str(error)) from None
        waiting, self._waiting = self._waiting, []
        self._note(waiting)

    def _note(self, lines: Sequence[str]) -> None:
        if self._log is None:
            self._waiting += lines
            return
        try:
            self._log.writelines(f"{line}\n" for line in lines)
            self._log.flush()
        except OSError as error:  # a full disk: the run matters more than its log
            name = self._log.name
            self._close_log()
            self.warn(f"nothing more is written to {name}: {error.strerror}")

    def _close_log(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            with suppress(OSError):  # what a full disk has no room for is gone
                log.close()

    # --- while a command runs ---------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take the library's warnings, and what else it prints where that would be in the way."""
        nothing = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - closed below
        hidden = redirect_stdout(nothing) if self.as_json or self.quiet else nullcontext()
        with nothing, warnings.catch_warnings(), hidden:
            warnings.simplefilter("default")
            warnings.showwarning = self._show_warning
            try:
                yield
            finally:
                self.idle()
                self._close_log()

    def _show_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        # Not the file and line: they are this program's, and say nothing to its user. Nor do warnings of libraries
        # to those who program with them; the log has them.
        if issubclass(category, OnecycleWarning):
            self.warn(str(message))
        else:
            self._note([f"{category.__name__}: {safe_text(message)}"])

    @contextmanager
    def status(self, text: str) -> Iterator[None]:
        """Show that something takes a while, as long as it does: on a terminal only."""
        self.busy(text)
        try:
            yield
        finally:
            self.idle()

    def busy(self, text: str) -> None:
        """Show that something takes a while, until ``idle`` or the bar of a fit: on a terminal only."""
        self.idle()
        if self.is_live:
            self._status = self.console.status(safe_text(text))
            self._status.start()

    def idle(self) -> None:
        """Take that away."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def progress(self) -> Progress:
        """Return what shows the epochs of a fit."""
        return ScreenProgress(self)


def _console(stream: TextIO, columns: int) -> Console:
    # Colours, and whether there is a terminal, are found by rich, which knows NO_COLOR and TERM=dumb.
    return Console(file=stream, width=columns, highlight=False, markup=False, emoji=False)


class ScreenProgress(BarProgress):
    """One row an epoch, under which a bar runs on a terminal.

    Args:
        screen: where rows go.
    """

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen
        self._widths: list[int] = []  # of the columns

    def start(self, names: Sequence[str], n_epochs: int) -> None:
        """Set up the bar."""
        super().start(names, n_epochs)
        self._screen.idle()
        heads = [_HEADS.get(name, name.replace("_", " ")) for name in names]
        self._widths = [max(9, len(head)) for head in heads]
        if names:
            self._screen.line(aligned([heads], ">", least=self._widths)[0], style="dim")
        if self._screen.is_live:
            self.start_bar(self._screen.console, indent="  ")

    def row(self, row: EpochRow) -> None:
        """Show the row of an epoch."""
        self.rows.append([])
        values = [row.train_loss, row.valid_loss, *row.metrics]
        values += [None] * (len(self.names) - 2 - len(values))
        cells = ["–" if v is None else f"{v:.4f}" if isinstance(v, float) else str(v) for v in values]
        took = f"{row.time_s:.1f} s" if row.time_s < 10 else format_time(row.time_s)
        self._screen.table([[f"{len(self.rows)}/{self.n_epochs}", *cells, took]], ">", least=self._widths)


_HEADS = {"train_loss": "train loss", "valid_loss": "valid loss", "fbeta": "sample-F2"}
