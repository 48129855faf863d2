"""Signals that end a process: they stop what runs as Ctrl-C does, so that it can save; a second one ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C; docker stop, Slurm, systemd and kill; a terminal that is closed (Windows has none)."""


class StoppedError(KeyboardInterrupt):
    """A signal asked this process to end; ``exit_code`` is what shells expect then."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


def end_at_once(number: int) -> None:
    """End the process as a signal does: files that are being written keep their old content, whole."""
    for stream in (1, 2):
        if os.isatty(stream):
            with suppress(OSError):
                os.write(stream, b"\x1b[?25h\n")  # a bar has hidden the cursor
    os._exit(128 + number)


class _Handled(AbstractContextManager[Any]):
    """Handles some signals in a block, each where what handles it now is not somebody else's; in the main thread."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self.asked: int | None = None  # the signal that came

    def __enter__(self) -> Any:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in STOPPING if _is_free(number)}
            for number in self._before:
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}

    def _handle(self, number: int, frame: Any) -> None:
        if self.asked is not None:
            end_at_once(number)
        self.asked = number
        self.on_first(number)

    def on_first(self, number: int) -> None:
        """Do what the first signal asks for."""
        raise NotImplementedError


def _is_free(number: int) -> bool:
    """Whether nobody else handles a signal; what is ignored (nohup) stays so."""
    handler = signal.getsignal(number)
    return handler in (signal.SIG_DFL, signal.default_int_handler) or isinstance(
        getattr(handler, "__self__", None), _Handled
    )


class Stoppable(_Handled):
    """A block that signals end by ``StoppedError``; a second one ends the process.

    What stood on a terminal that is closed has nowhere to go any more: it must not keep anything from being saved.
    """

    def __init__(self) -> None:
        super().__init__()
        self._terminals = [fd for fd in (1, 2) if os.isatty(fd)]

    def on_first(self, number: int) -> None:
        """Raise."""
        if number == getattr(signal, "SIGHUP", None):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for fd in self._terminals:
                os.dup2(nowhere, fd)
            os.close(nowhere)
        raise StoppedError(number)


class Deferred(_Handled):
    """A block in which the first signal waits for ``obey``; a second one ends the process.

    Args:
        at_once: says whether the block may be left where the signal comes; ``save`` is called there then.
        save: what must be saved before.
    """

    def __init__(self, at_once: Callable[[], bool], save: Callable[[], object]) -> None:
        super().__init__()
        self.at_once, self.save = at_once, save

    def on_first(self, number: int) -> None:
        """Obey now, where that is possible."""
        if self.at_once():
            self.save()
            self.obey()

    def obey(self) -> None:
        """Hand the signal that came to who would have had it, if one came."""
        number, self.asked = self.asked, None
        if number is not None:
            self.__exit__()
            signal.raise_signal(number)
