"""Every error and warning that onecycle raises on purpose.

    OnecycleError
    ├── ArgumentError (ValueError)        an argument has a value that cannot work
    ├── DataError (ValueError)            something is wrong with the user's data
    │   ├── UnreadableImagesError         pictures that cannot be decoded, each named
    │   └── LabelError                    labels that are missing or do not fit
    ├── DownloadError (OSError)           a file could not be fetched or is not what was expected
    ├── ArchiveError (ValueError)         an archive that is damaged or tries to leave its folder
    ├── WeightsError (ValueError)         pretrained weights that are missing or do not fit
    ├── CheckpointError (ValueError)      a saved model that does not fit this learner
    │   └── WeightsFileError              a file of weights that cannot be read; a WeightsError too
    │       └── UnsafeFileError           one that would have to run code to be read
    ├── OutputError (OSError)             a file or folder cannot be written
    │   └── DiskFullError                 because there is no room: which file, what it needs, what is free
    ├── ExportError (ValueError)          an exported model that does not answer as the one that it was made from
    ├── OutOfScopeError (ImportError)     a part of fastai v1 that is not here, or another fastai in the way
    ├── DivergedError (ArithmeticError)   the training loss became NaN or infinite
    ├── DeviceError (NotImplementedError) a device lacks an operation that is needed
    ├── DistributedError (RuntimeError)   a process of those that work together is gone, or they do not fit
    └── OutOfMemoryError (MemoryError)    the smallest slice of a batch does not fit into memory

    OnecycleWarning (UserWarning)
    ├── DataWarning                       the data is usable, but the result may mislead
    └── RenamedWarning                    an old spelling that still works

A message says what was expected, what came, where (file and row) and what to do next.
"""

from __future__ import annotations

import errno
import inspect
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any


class OnecycleError(Exception):
    """Base of every error that onecycle raises on purpose.

    Args:
        what: happened, and what to do, in words for Python and the command line alike.
        in_python: more to do, in Python's words; the command line leaves it out.
    """

    def __init__(self, what: str = "", in_python: str = "") -> None:
        super().__init__(f"{what} {in_python}" if in_python else what)
        self.what = what


class ArgumentError(OnecycleError, ValueError):
    """An argument has a value that cannot work."""


class DataError(OnecycleError, ValueError):
    """Something is wrong with the user's data."""


class UnreadableImagesError(DataError):
    """One or more pictures cannot be decoded; the message names each file and row."""


@dataclass(frozen=True)
class Unreadable:
    """A picture that cannot be decoded: its position in the list, its path and what Pillow said."""

    position: int
    path: str
    reason: str


class LabelError(DataError):
    """Labels are missing or do not fit the classes."""


class DownloadError(OnecycleError, OSError):
    """A file could not be fetched, or is not the file that was expected."""


class ArchiveError(OnecycleError, ValueError):
    """An archive is damaged, too large, or tries to write outside its folder.

    Args:
        message: the whole sentence.
        why: the reason alone, in a few words.
    """

    def __init__(self, message: str, why: str = "") -> None:
        super().__init__(message)
        self.why = why or message


class WeightsError(OnecycleError, ValueError):
    """Pretrained weights are missing or do not fit the network."""


class CheckpointError(OnecycleError, ValueError):
    """A saved model does not fit the learner that loads it."""


class WeightsFileError(CheckpointError, WeightsError):
    """A file of weights is damaged, or holds something else than named tensors."""


class UnsafeFileError(WeightsFileError):
    """A file holds more than tensors and plain values, so that reading it could run code."""


class ExportError(OnecycleError, ValueError):
    """An exported model does not answer as the one that it was made from, or cannot be checked."""


class OutputError(OnecycleError, OSError):
    """A file or folder cannot be written."""


class DiskFullError(OutputError):
    """There is no room for a file; files that were there before are as they were.

    Args:
        what: the whole sentence.
        in_python: more to do, see ``OnecycleError``.
        number: of the system's error: ENOSPC, EDQUOT or EFBIG.
        reason: why there is no room, with the numbers; the file is not named.
        file: path of the file that was being written; "" where that is not known.
        needed: bytes that it needs; None where that is not known.
        free: bytes that there are; None where the system does not say.
    """

    def __init__(
        self,
        what: str = "",
        in_python: str = "",
        *,
        number: int | None = errno.ENOSPC,
        reason: str = "",
        file: str = "",
        needed: int | None = None,
        free: int | None = None,
    ) -> None:
        super().__init__(what, in_python)
        self.errno, self.strerror, self.filename = number, reason or what, file
        self.needed, self.free = needed, free

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # an OSError would give number and name


class OutOfScopeError(OnecycleError, ImportError):
    """A part of fastai v1 that onecycle does not have, or another fastai that was imported before."""


class DivergedError(OnecycleError, ArithmeticError):
    """The training loss became NaN or infinite."""


class DeviceError(OnecycleError, NotImplementedError):
    """A device lacks an operation that is needed."""


class DistributedError(OnecycleError, RuntimeError):
    """One of the processes that train or predict together is gone, or they cannot work together."""


class OutOfMemoryError(OnecycleError, MemoryError):
    """Not even the smallest slice of a batch fits into memory."""


class OnecycleWarning(UserWarning):
    """Base of every warning of onecycle."""


class DataWarning(OnecycleWarning):
    """The data is usable, but the result may mislead."""


class RenamedWarning(OnecycleWarning):
    """An old spelling that still works; the message gives the new one."""


def check_keywords(
    function: str, options: Iterable[str], known: Collection[str], older: Mapping[str, str] | None = None
) -> None:
    """Fail at once on a misspelt keyword.

    Args:
        function: that received them.
        options: names of the keywords.
        known: those that there are.
        older: spellings of earlier times, with those of today.

    Raises:
        TypeError: one that is not known; the message names the nearest.
    """
    for name in options:
        if name not in known:
            near = [older[name]] if older and name in older else get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; the options are {', '.join(known)}"
            raise TypeError(f"{function} got an unexpected keyword argument {name!r}{hint}")


_TRUTH = {
    "y",
    "y_true",
    "true",
    "truth",
    "y_test",
    "target",
    "targets",
    "label",
    "labels",
    "labels_true",
    "gt",
    "actual",
}
_OUTPUT = {
    *(
        "y_pred",
        "y_score",
        "y_prob",
        "y_proba",
        "y_hat",
        "yhat",
        "pred",
        "preds",
        "prediction",
        "predictions",
        "predicted",
    ),
    *("prob", "probs", "score", "scores", "labels_pred", "logits", "output", "outputs", "input", "inputs"),
}


def check_order(kind: str, name: str, function: Callable[..., Any]) -> None:
    """Refuse a function that takes the truth first, as those of scikit-learn and Keras do: it would compute nonsense.

    Args:
        kind: ``metric`` or ``loss``.
        name: of it.
        function: that is called with (logits, targets).

    Raises:
        ArgumentError: the names of its first two parameters say that the truth comes first.
    """
    try:
        first, second, *_ = [p.lower() for p in inspect.signature(function).parameters]
    except (TypeError, ValueError):  # no signature, or fewer than two parameters
        return
    if first in _TRUTH and second in _OUTPUT:
        raise ArgumentError(
            f"the {kind} {name} takes ({first}, {second}), the truth first, and is called with (logits, targets): wrap "
            f"it, as in def my_{kind}(logits, targets): return {name}(targets, logits.softmax(1)), or what of them "
            "it wants"
        )


_PACKAGE = str(Path(__file__).resolve().parent)


def warn(message: str, category: type[OnecycleWarning]) -> None:
    """Warn at the line of the user's that led here, however deep in this package the cause was found."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
