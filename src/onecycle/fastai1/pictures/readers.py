"""What reads the pictures of a notebook in a way of its own, as long as the notebook runs: exports name it.

fastai v1 pickled the class of a list and, on loading, imported it by its name. Here a file names it and nothing is
imported: what the notebook defines counts, under that name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from onecycle.data.labels.items import are_flags
from onecycle.data.pixels.reading import Reading
from onecycle.errors import ArgumentError

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
        f"open={getattr(pictures.open, '__name__', 'function')}" if "open" in vars(pictures) else "",
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


def options_of(how: dict[str, Any]) -> dict[str, Any]:
    """Take out of v1's keywords those about reading, and those that mean nothing here."""
    refused(processor=how.pop("processor", None))
    for name in ("presort", "label_cls", "ignore_empty", "x"):
        how.pop(name, None)
    return {name: how.pop(name) for name in ("convert_mode", "after_open") if name in how}


def refused(**given: Any) -> None:
    """Refuse what v1 would have obeyed and is not done here."""
    why = {"tfms": "test pictures have the transforms of validation", "processor": "labels become numbers without one"}
    for name in (name for name, value in given.items() if value is not None):
        raise ArgumentError(f"{name}= is not known here: {why[name]}")


def check_one_hot(one_hot: bool | None, labels: Sequence[object]) -> None:
    """Compare v1's ``one_hot`` with the labels, which say themselves whether they are vectors of 0 and 1.

    Raises:
        ArgumentError: they say otherwise.
    """
    if one_hot is None or not len(labels) or one_hot == are_flags(labels):
        return
    if one_hot:
        raise ArgumentError(
            f"one_hot=True is for labels that are vectors of 0 and 1, a number a class; the first is {labels[0]!r:.100}"
        )
    raise ArgumentError("one_hot=False with vectors of 0 and 1 would take each 0 and 1 for a tag's name: leave it out")


OLDER = {"sep": "label_delim", "tfms": "ds_tfms"}  # spellings of v1 before 1.0.47


def today(options: dict[str, Any]) -> dict[str, Any]:
    """Return today's keywords for v1's; what only other kinds of targets need is taken out where it says nothing."""
    idle = {"collate_fn": None, "tfm_y": False}
    kept = {name: value for name, value in options.items() if name not in idle or value not in (None, idle[name])}
    return {OLDER.get(name, name): value for name, value in kept.items()}
