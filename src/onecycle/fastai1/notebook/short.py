"""Short runs of a notebook: its cells stay as they are, and train for fewer epochs than they say."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any

FINDER_BATCHES = 20
"""Of ``lr_find`` in a short run: enough for its plot, which leaves out the first ten and the last five."""


def cut_epochs(most: int) -> None:
    """Let every fit of this process run at most so many epochs, and the finder at most ``FINDER_BATCHES``.

    Args:
        most: at least 1.
    """
    from onecycle.learner.learner import Learner

    for name, keyword, limit in (
        ("fit", "epochs", most),
        ("fit_one_cycle", "cyc_len", most),
        ("fine_tune", "epochs", most),
        ("lr_find", "num_it", FINDER_BATCHES),
    ):
        setattr(Learner, name, _limited(getattr(Learner, name), keyword, limit))


def _limited(method: Callable[..., Any], keyword: str, limit: int) -> Callable[..., Any]:
    takes = signature(method)

    @wraps(method)
    def short(*args: Any, **options: Any) -> Any:
        call = takes.bind(*args, **options)
        call.apply_defaults()
        if call.arguments[keyword] is not None:
            call.arguments[keyword] = min(call.arguments[keyword], limit)
        return method(*call.args, **call.kwargs)

    return short
