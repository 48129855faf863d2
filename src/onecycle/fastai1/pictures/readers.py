"""What reads the pictures of a notebook in a way of its own, as long as the notebook runs: exports name it.

fastai v1 pickled the class of a list and, on loading, imported it by its name. Here a file names it and nothing is
imported: what the notebook defines counts, under that name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onecycle.data.pixels.reading import Reading

KINDS: dict[str, Any] = {}
"""The subclasses of ``ImageList`` by name; one that is defined again replaces the earlier one."""

_USED: dict[str, Callable[[Any], Any]] = {}


def name_of(pictures: Any, *, replaced: bool) -> str:
    """Return how an export calls what reads a list.

    Args:
        pictures: an ``ImageList``.
        replaced: whether the notebook put a function in place of ``open_image``.
    """
    after = pictures.after_open
    more = [
        "" if pictures.convert_mode == "RGB" else f"convert_mode={pictures.convert_mode!r}",
        "" if after is None else f"after_open={getattr(after, '__name__', 'function')}",
        "open_image replaced" if replaced else "",
    ]
    said = ", ".join(part for part in more if part)
    return type(pictures).__name__ + (f"({said})" if said else "")


def remember(reading: Reading) -> Reading:
    """Keep what reads the pictures of some data, for exports that are loaded later in this process."""
    if reading.function is not None:
        _USED[reading.name] = reading.function
    return reading


def reader(name: str) -> Callable[[Any], Any] | None:
    """Return what this process reads pictures with under a name: a class as it is defined now, else what was used."""
    kind = KINDS.get(name)
    try:
        made = None if kind is None else kind([])
    except TypeError:  # it takes more than its pictures
        made = None
    return _USED.get(name) if made is None else made.reading.function
