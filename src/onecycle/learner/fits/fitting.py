"""What a learner does around a fit: its batches, and its checkpoints where there are any.

A ``learn`` here is a ``Learner``; its module imports this one, so the type is not named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from onecycle.errors import ArgumentError
from onecycle.learner.fits.checkpoints import CheckpointCallback
from onecycle.learner.fits.journal import FileJournal, Journal, plain
from onecycle.learner.options import listed
from onecycle.learner.oversampling import sampling_weights
from onecycle.train.evaluate import Loader
from onecycle.train.loop import Callback
from onecycle.train.schedules import Schedule


@contextmanager
def batches(learn: Any, callbacks: Sequence[Callback]) -> Iterator[tuple[Loader, Loader | None]]:
    """Give training and validation batches: features where only the head trains on them, else pictures."""
    stage, weights, data = None, sampling_weights(callbacks), learn.data
    if learn.precompute is not False:
        stage = learn.frozen_features.stage(
            learn.model,
            data,
            stats=learn.norm_stats,
            views=learn.precompute,
            callbacks=callbacks,
            weights=weights,
            silent=learn.silent,
            ranks=learn.trainer.ranks,
        )
    if stage is None:
        pictures = data.train_dl.replace(stats=learn.norm_stats, weights=weights)
        yield pictures, None if data.empty_val else learn.loader()
        return
    learn.trainer.head = stage.head
    try:
        yield stage.train, stage.valid
    finally:
        learn.trainer.head = None


def with_checkpoints(learn: Any, callbacks: Any, resume: bool) -> list[Any]:
    """Return the callbacks of a fit, with one for checkpoints where ``resume`` asks for them and none is there.

    Raises:
        ArgumentError: ``resume`` is neither True nor False.
    """
    if not isinstance(resume, bool):
        raise ArgumentError(f"resume is True or False; received {resume!r}")
    given = listed(callbacks)
    n = sum(isinstance(cb, CheckpointCallback) for cb in (*learn.callbacks, *given))
    if n > 1:
        raise ArgumentError(
            f"this fit has {n} CheckpointCallbacks, and one writes all that there is: leave the others out"
        )
    wanted = resume and n == 0
    return [*given, *([CheckpointCallback(learn)] if wanted else [])]


@contextmanager
def resumable(learn: Any, options: Any, resume: bool) -> Iterator[Journal]:
    """Give the journal of a recipe: one that keeps nothing, or with ``resume`` one beside the checkpoints of its fits.

    Args:
        learn: the learner; its callbacks are afterwards as before.
        options: a dataclass, what the recipe was asked for.
        resume: whether it is taken up again where the same script was stopped.

    Raises:
        ArgumentError: the journal is of a recipe with other options.
    """
    before, extra = learn.callbacks, with_checkpoints(learn, (), resume)
    checkpoints = checkpoints_of([*before, *extra])
    if checkpoints is None or not resume:
        yield Journal(learn.trainer.ranks)
        return
    path = checkpoints.folder / f"recipe-{learn.n_fits + 1}.json"
    journal, asked = FileJournal(path, learn.trainer.ranks), plain(asdict(options))
    if journal.once("options", lambda: asked, dict[str, Any]) != asked:
        raise ArgumentError(
            f"{path} is of a recipe with other arguments; remove {path.parent}, or name another folder: "
            "learn.callbacks.append(CheckpointCallback(learn, name=...))"
        )
    learn.callbacks = [*before, *extra]
    try:
        yield journal
    finally:
        learn.callbacks = before


def checkpoints_of(callbacks: Sequence[Any]) -> CheckpointCallback | None:
    """Return what writes the checkpoints of a fit with these callbacks."""
    return next((cb for cb in callbacks if isinstance(cb, CheckpointCallback)), None)


def begin(learn: Any, extra: Sequence[Any], epochs: int, schedule: Schedule | None, start_epoch: int) -> bool:
    """Count a fit, and look whether its checkpoint says that it was over: then the learner has its end already.

    Args:
        learn: the learner.
        extra: callbacks of this fit, beside the learner's own.
        epochs, schedule, start_epoch: of the fit; None is a head that is solved.
    """
    learn.trainer.check_ranks()
    learn.n_fits += 1
    checkpoints = checkpoints_of([*learn.callbacks, *extra])
    if checkpoints is None:
        return False
    state = checkpoints.open(epochs, schedule, start_epoch)
    if state is None or not state.is_over:
        return False
    learn.say(f"Fit {learn.n_fits} was over: it is not run again, its end is loaded from {checkpoints.folder}.")
    learn.new_history()
    checkpoints.take_end(learn.all_callbacks(extra))
    return True


def precision_before(learn: Any, callbacks: Sequence[Callback]) -> str:
    """Compute as a fit that is taken up again did, and say so as a clause; "" where none is."""
    checkpoints = checkpoints_of(callbacks)
    if checkpoints is None or not checkpoints.choose_precision(learn.trainer):
        return ""
    precision = learn.trainer.precision
    return "fp32 as before" if precision is None else f"{precision.name} as before"
