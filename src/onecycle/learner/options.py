"""The keywords that every way of making a learner takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from onecycle.train.device.precision import Choice
    from onecycle.train.loop import Callback
    from onecycle.train.losses import ClassWeights


class LearnerOptions(TypedDict, total=False):
    """The keywords that every way of making a ``Learner`` takes.

    class_weights: ``balanced``, or one factor a class in the order of ``data.classes``: rare classes then count
    more in the loss (for tags: their presences). Probabilities then no longer match the frequencies. None.
    true_wd: decoupled weight decay (True); False adds it to the gradient. bn_wd: decay batch-norm parameters, too
    (True). wd: weight decay (0.01).
    train_bn: batch-norm layers of frozen groups go on training (True), unless ``precompute`` is on.
    precompute: train the head on features of the frozen body, computed once, of the plain pictures and this many
    augmented views (False; True: 3 where there are training transforms, else 0): see ``Learner.precompute``.
    precision: ``auto`` measures before a fit whether bf16 (or, on a GPU, tf32 or fp16) is faster than fp32 for this
    network; or one of ``fp32``, ``tf32``, ``bf16``, ``fp16``. Weights, losses and all that is reported are float32
    in any case. What was measured is remembered in the cache folder, and said at the first fit.
    channels_last: layout of the activations; None measures.
    compile: send the network through ``torch.compile``; None: in long fits on a GPU, where that is faster. True works
    on a CPU too, where compiling takes a minute and a C++ compiler.
    deterministic: on a GPU, train to the same bits each time, by slower operations; one that has no such form is named
    in torch's error (False). A CPU does so anyway. Fix ``precision`` and ``channels_last``, too.
    path: where models are saved (the data's folder). model_dir: folder below ``path`` (``models``).
    callback_fns: called with the learner at each fit, to make callbacks. callbacks: callbacks of every fit.
    silent: print no table and no bar.
    """

    class_weights: ClassWeights | None
    true_wd: bool
    bn_wd: bool
    wd: float
    train_bn: bool
    precompute: bool | int
    precision: Choice
    channels_last: bool | None
    compile: bool | None
    deterministic: bool
    path: str | Path | None
    model_dir: str | Path
    callback_fns: Callable[..., Callback] | Sequence[Callable[..., Callback]] | None
    callbacks: Sequence[Callback]
    silent: bool | None


def listed(value: Any) -> list[Any]:
    """Return a list of what may be one thing, several, or None."""
    if value is None or (isinstance(value, Iterable) and not callable(value)):
        return list(value or ())
    return [value]


class TrainerAttribute:
    """An attribute that lives in the trainer, so that assigning it changes the training too."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, learn: Any, owner: type) -> Any:
        return getattr(learn.trainer, self.name)

    def __set__(self, learn: Any, value: Any) -> None:
        setattr(learn.trainer, self.name, value)
        learn.trainer.optimizer = None  # made anew from the new settings
