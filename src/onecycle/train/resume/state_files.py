"""Where the states of a fit are kept: two files in turn, so that a whole one is there whatever happens to the other."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from onecycle.errors import CheckpointError, OnecycleWarning, warn
from onecycle.files import remove, write_whole
from onecycle.foreign import Refused, inside
from onecycle.train.resume.fit_state import FitState


class StateFiles:
    """The states of one fit.

    A state is written by a thread, never two at once; what goes wrong there is raised by the next call.

    Args:
        stem: path of the files without ``.0.safetensors`` and ``.1.safetensors``.
    """

    def __init__(self, stem: Path) -> None:
        self.paths = [stem.with_name(f"{stem.name}.{i}.safetensors") for i in (0, 1)]
        self.serial = 0  # of the next state
        self.write_s = 0.0  # that the latest one took, beside the training
        self._thread: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

    def read(self) -> FitState | None:
        """Return the newest whole state, None where there is none; a damaged one is said."""
        states, damaged = list[FitState](), list[str]()
        for path in self.paths:
            if not os.path.lexists(path):
                continue
            try:
                states.append(FitState.read(inside(path.parent, path.name)))
            except (CheckpointError, Refused) as error:
                damaged.append(getattr(error, "what", str(error)))
        if damaged:
            instead = "the state before it is used" if states else "this fit begins again from its start"
            warn(f"{'; '.join(damaged)}; {instead}", OnecycleWarning)
        newest = max(states, key=lambda state: int(state.values["serial"]), default=None)
        self.serial = 0 if newest is None else newest.values["serial"] + 1
        return newest

    @property
    def is_busy(self) -> bool:
        """Whether the latest state is still being written.

        Raises:
            OSError: an earlier one could not be written.
        """
        if self._writing is not None and self._writing.done():
            self.wait()
        return self._writing is not None

    def write(self, state: FitState) -> None:
        """Begin to write a state in place of the older one; waits for the one before."""
        self.wait()
        state, path = replace(state, values={**state.values, "serial": self.serial}), self.paths[self.serial % 2]
        self.serial += 1
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing = self._thread.submit(self._write, path, state)

    def _write(self, path: Path, state: FitState) -> None:
        start_s = time.monotonic()
        write_whole(path, state.to_bytes())
        self.write_s = time.monotonic() - start_s

    def wait(self) -> None:
        """Wait until the latest state is written.

        Raises:
            OSError: it could not be.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def keep_latest(self) -> None:
        """Remove the older state, which nothing asks for when the fit is over."""
        self.wait()
        remove(self.paths[self.serial % 2])

    def close(self) -> None:
        """End the thread; an error that nobody asked for is forgotten."""
        with suppress(OSError):
            self.wait()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
