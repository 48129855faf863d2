"""What every target of the fuzzing shares: how a case is drawn, run and judged."""

from __future__ import annotations

import ctypes
import resource
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import onecycle
from onecycle.errors import OnecycleError

MOST_SECONDS, MOST_MB = 3.0, 500.0
"""Of processor and of memory, that one case may take."""

SOURCE = str(Path(onecycle.__file__).resolve().parent)


@dataclass(frozen=True)
class Target:
    """One door by which files and values of strangers come in."""

    name: str
    draw: Callable[[Random], Any]  # a case; nothing else than the generator decides which
    run: Callable[[Any], object]  # does with a case what the product does with it
    allowed: tuple[type[BaseException], ...] = (OnecycleError,)  # what may come out of it
    examples: int = 40  # cases in the fast tests; 0: the long run alone


@dataclass(frozen=True)
class Outcome:
    """What one case did."""

    seconds: float  # of processor, all threads
    mb: float  # by which the process' memory was larger than ever before
    error: BaseException | None  # one that may not come out

    @property
    def flaw(self) -> str:
        """What is wrong with it, the same text for the same cause; ``""`` where nothing is."""
        if self.error is not None:
            return where(self.error)
        if self.seconds > MOST_SECONDS:
            return f"more than {MOST_SECONDS:g} s of processor"
        return f"more than {MOST_MB:g} MB of memory" if self.mb > MOST_MB else ""


def run_case(target: Target, case: Any) -> Outcome:
    """Run a case and judge it; warnings are silent, as they are no answer to a stranger's file."""
    error = None
    before, began = peak_mb(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            target.run(case)
        except target.allowed:
            pass
        except Exception as raised:  # noqa: BLE001 - whatever else comes out is what is looked for
            error = raised
    return Outcome(time.process_time() - began, peak_mb() - before, error)


def peak_mb() -> float:
    """The most memory that this process ever had, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def give_memory_back() -> None:
    """Give freed memory back to the system, so that the next case's is seen."""
    ctypes.CDLL(None).malloc_trim(0)


def where(error: BaseException) -> str:
    """Return the kind of an error and the last line of this package that it came through: the same for one cause."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(SOURCE)]
    place = f"{frames[-1].filename.removeprefix(SOURCE + '/')}:{frames[-1].lineno}" if frames else "outside"
    return f"{type(error).__name__} at {place}"
