"""What a model says about pictures, in one place: probabilities, decisions and by which thresholds, and the truth.

``train``, ``report``, ``evaluate``, ``compare`` and ``predict`` all read the same ``Predictions``, and ``decide`` is
the one function that turns probabilities into labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from onecycle.errors import ArgumentError, Unreadable
from onecycle.evaluation.certainty.decisions import UNASKED, Decisions
from onecycle.evaluation.scores import Thresh, one_hot
from onecycle.text import label_words, plural, safe_text

if TYPE_CHECKING:
    from onecycle.evaluation.certainty.calibration import Calibration
    from onecycle.evaluation.certainty.thresholds import TagThresholds

_LISTED = 5  # pictures in the repr


def decide(
    probs: np.ndarray,
    shown: np.ndarray | None = None,
    *,
    is_multi: bool,
    decisions: Decisions | None = None,
    thresh: Thresh | None = None,
) -> np.ndarray:
    """Return the predicted labels: the most probable class (of equal ones the first), or tags by the rule in use.

    Args:
        probs: float ``(N, C)``, the model's own probabilities.
        shown: float ``(N, C)``, the calibrated ones; None where nothing was calibrated.
        is_multi: whether a picture can have several labels (tags).
        decisions: the rule for tags; None: from 0.5 on.
        thresh: the caller's, compared with ``shown``, instead of that rule.

    Returns:
        int64 ``(N,)`` class indices, or 0/1 ``(N, C)``.

    Raises:
        ArgumentError: thresholds of another number than tags.
    """
    if not is_multi:
        return np.asarray(probs.argmax(axis=1), dtype=np.int64)
    shown = probs if shown is None else shown
    if thresh is None:
        return (decisions or UNASKED).decide(probs, shown).astype(np.int64)
    limit = np.asarray(thresh, dtype=np.float32)
    if limit.shape not in ((), probs.shape[1:]):
        raise ArgumentError(
            f"thresh is one number or one for each of {probs.shape[1]} tags; received shape {limit.shape}"
        )
    return np.asarray(shown >= limit, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, repr=False)
class Predictions:
    """What a model says about N pictures over C classes and, where it is known, the truth."""

    files: tuple[str, ...]  # N names below the folder of the data set, with "/"
    classes: tuple[str, ...]  # C names
    is_multi: bool  # whether a picture can have several labels (tags)
    probs: np.ndarray  # float32 (N, C), the model's own probabilities
    shown: np.ndarray | None = None  # float32 (N, C), the calibrated ones; None: nothing was calibrated
    decided: np.ndarray  # int64 (N,) class indices or 0/1 (N, C): the labels that are predicted
    decisions: Decisions = UNASKED  # the rule by which tags were decided; of no use for single labels
    held_out: np.ndarray | None = None  # 0/1 (N, C): each fold decided by thresholds that the other folds chose
    unseen: bool = False  # pictures that neither trained the model nor chose its thresholds or calibration
    targets: np.ndarray | None = None  # int64 (N,) class indices or 0/1 (N, C)
    losses: np.ndarray | None = None  # float32 (N,)
    rows: np.ndarray | None = None  # int64 (N,), rows in the labelled table, or positions among the files handed in
    groups: np.ndarray | None = None  # (N,), which pictures belong together; None: each stands alone
    train_counts: np.ndarray | None = None  # int64 (C,), training pictures of each class
    n_train: int = 0  # training pictures
    picked_of: int = 1  # epochs or stages of which these pictures picked the one whose weights stayed; 1: none
    picked: str = "epoch"  # what those are
    failed: tuple[Unreadable, ...] = ()  # files that cannot be read, which are not among the N

    def __post_init__(self) -> None:
        n, c = len(self.files), len(self.classes)
        labels = (n, c) if self.is_multi else (n,)
        shapes = {"probs": (n, c), "shown": (n, c), "decided": labels, "held_out": (n, c), "targets": labels}
        shapes |= {"losses": (n,), "rows": (n,), "groups": (n,), "train_counts": (c,)}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and np.shape(value) != shape:
                raise ArgumentError(
                    f"predictions of {n} pictures and {c} classes need {name} of shape {shape}; "
                    f"received {np.shape(value)}"
                )
        if len(set(self.classes)) != c:
            raise ArgumentError("two classes have one name, so their columns could not be told apart")

    @classmethod
    def of(
        cls,
        probs: np.ndarray,
        *,
        is_multi: bool,
        calibration: Calibration | None = None,
        decisions: Decisions | None = None,
        thresh: Thresh | None = None,
        **known: Any,
    ) -> Self:
        """Calibrate and decide what a model says.

        Args:
            probs: float32 ``(N, C)``, the model's own probabilities.
            is_multi: whether the classes are tags.
            calibration, decisions: of the model.
            thresh: the caller's, instead of the model's rule.
            known: the other fields of ``Predictions``.
        """
        shown = None
        if calibration is not None:
            shown = calibration.apply(probs).astype(np.float32) if len(probs) else probs
        rule = decisions or UNASKED
        decided = decide(probs, shown, is_multi=is_multi, decisions=rule, thresh=thresh)
        return cls(probs=probs, shown=shown, decided=decided, decisions=rule, is_multi=is_multi, **known)

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        failed = f"; {plural(len(self.failed), 'file')} could not be read" if self.failed else ""
        lines = [
            f"Predictions: {plural(len(self), 'picture')}, {plural(len(self.classes), self.word, self.words)}{failed}"
        ]
        for file, label in zip(self.files[:_LISTED], self.decided, strict=False):
            lines.append(f"  {safe_text(file)}  {safe_text(', '.join(self.names_of(label)) or 'no tag')}")
        if len(self) > _LISTED:
            lines.append(f"  and {len(self) - _LISTED:,} more")
        return "\n".join(lines)

    @property
    def word(self) -> str:
        """What a class is called."""
        return label_words(is_multi=self.is_multi).one

    @property
    def words(self) -> str:
        """What classes are called."""
        return label_words(is_multi=self.is_multi).many

    @property
    def beta(self) -> float:
        """The weight of recall in F, everywhere for these predictions: that of the tags' measure, 1 for classes."""
        return self.decisions.reported.beta if self.is_multi else 1.0

    @property
    def shown_probs(self) -> np.ndarray:
        """The probabilities that a person sees, float ``(N, C)``: calibrated where that was fitted."""
        return self.probs if self.shown is None else self.shown

    @property
    def compared(self) -> np.ndarray:
        """What thresholds are compared with, float ``(N, C)``: chosen ones with the model's own probabilities."""
        return self.decisions.compared(self.probs, self.shown_probs)

    @property
    def thresholds(self) -> TagThresholds | None:
        """The chosen thresholds; None where the default or sets of tags decide, and for single labels."""
        return self.decisions.thresholds

    @property
    def limits(self) -> np.ndarray | None:
        """The thresholds in use, float64 ``(C,)``; None for single labels and where sets of tags decide."""
        return self.decisions.limits(len(self.classes)) if self.is_multi else None

    @cached_property
    def truth(self) -> np.ndarray:
        """Which labels are true, bool ``(N, C)``."""
        return one_hot(self.known_targets, len(self.classes))

    @cached_property
    def predicted(self) -> np.ndarray:
        """Which labels are predicted, bool ``(N, C)``; ``decided`` in the form that single labels and tags share."""
        return one_hot(self.decided, len(self.classes))

    @property
    def known_targets(self) -> np.ndarray:
        """The targets, where they must be known.

        Raises:
            ArgumentError: nobody has labelled these pictures.
        """
        if self.targets is None:
            raise ArgumentError("these pictures have no labels to compare predictions with")
        return self.targets

    @property
    def known_losses(self) -> np.ndarray:
        """The losses, where they must be known."""
        if self.losses is None:
            raise ArgumentError("these predictions come without the loss of each picture")
        return self.losses

    def names_of(self, label: Any) -> tuple[str, ...]:
        """Return the names in one picture's label: a class index, or 0/1 ``(C,)``."""
        places = [int(label)] if np.ndim(label) == 0 else np.flatnonzero(label).tolist()
        return tuple(self.classes[i] for i in places)

    def taken(self, at: np.ndarray) -> Self:
        """Return the predictions of some pictures, int ``(M,)`` positions."""
        names = ("probs", "shown", "decided", "held_out", "targets", "losses", "rows", "groups")
        arrays: dict[str, Any] = {name: None if (value := getattr(self, name)) is None else value[at] for name in names}
        return replace(self, files=tuple(self.files[i] for i in at), **arrays)
