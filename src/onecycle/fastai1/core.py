"""Small helpers of fastai v1's ``core``, which notebooks use for themselves."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

__all__ = ["defaults", "ifnone", "is_dict", "is_listy", "is_pathlike", "is_tuple", "noop", "num_cpus"]


def num_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


defaults = SimpleNamespace(cpus=min(16, num_cpus()), cmap="viridis", return_fig=False, silent=False)
"""v1's defaults: notebooks read them, and set ``device``."""


def ifnone(value: Any, default: Any) -> Any:
    """Return ``value``, or ``default`` where it is None."""
    return default if value is None else value


def is_listy(value: Any) -> bool:
    """Whether ``value`` is a tuple or a list."""
    return isinstance(value, (tuple, list))


def is_tuple(value: Any) -> bool:
    """Whether ``value`` is a tuple."""
    return isinstance(value, tuple)


def is_dict(value: Any) -> bool:
    """Whether ``value`` is a dict."""
    return isinstance(value, dict)


def is_pathlike(value: Any) -> bool:
    """Whether ``value`` is a path or text."""
    return isinstance(value, (str, Path))


def noop(value: Any) -> Any:
    """Return ``value``."""
    return value
