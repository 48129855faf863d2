"""What a report is made from: predictions, the truth, and which label each picture was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onecycle.errors import ArgumentError

TOO_MANY = 100_000
"""From so many decisions (pictures × classes) on, intervals take fewer half-samples, and some are left out."""

FEWER_DRAWS = 200


@dataclass(frozen=True)
class Evidence:
    """Predictions of N pictures over C classes, and what they are compared with.

    Attributes:
        classes: C names as text.
        is_multi: several labels a picture (tags).
        probs: float ``(N, C)``, the model's own probabilities.
        shown: float ``(N, C)``, as ``predict`` shows them: calibrated where that was fitted.
        decided: float ``(N, C)``, what the thresholds are compared with.
        thresholds: float64 ``(C,)``; a tag is given where ``decided`` is at least that. Not used for single labels.
        chosen: whether the thresholds were chosen from data; False for the default.
        targets: int64 ``(N,)``, or 0/1 ``(N, C)``.
        losses: float ``(N,)``.
        names: N file names, below the data's folder.
        train_counts: int64 ``(C,)``, training pictures of each class.
        n_train: training pictures.
        groups: an id for each picture, where pictures belong together.
    """

    classes: tuple[str, ...]
    is_multi: bool
    probs: np.ndarray
    shown: np.ndarray
    decided: np.ndarray
    thresholds: np.ndarray
    chosen: bool
    targets: np.ndarray
    losses: np.ndarray
    names: tuple[str, ...]
    train_counts: np.ndarray
    n_train: int
    groups: Sequence[object] | np.ndarray | None = None

    def __post_init__(self) -> None:
        n, c = len(self.names), len(self.classes)
        shapes = {"probs": self.probs.shape, "shown": self.shown.shape, "decided": self.decided.shape}
        wrong = [f"{name} {shape}" for name, shape in shapes.items() if shape != (n, c)]
        wrong += [] if self.targets.shape in ((n,), (n, c)) else [f"targets {self.targets.shape}"]
        if wrong or not n:
            raise ArgumentError(
                f"a report needs predictions of {n} pictures (1 or more) and {c} classes; received {', '.join(wrong)}"
            )

    @property
    def n(self) -> int:
        """The number of pictures."""
        return len(self.names)

    @property
    def word(self) -> str:
        """What a class is called."""
        return "tag" if self.is_multi else "class"

    @property
    def words(self) -> str:
        """What classes are called."""
        return "tags" if self.is_multi else "classes"

    @property
    def is_large(self) -> bool:
        """Whether there are so many decisions that only cheap intervals are drawn."""
        return self.probs.size > TOO_MANY

    @property
    def n_draws(self) -> int | None:
        """Half-samples for an interval; None for as many as usual."""
        return FEWER_DRAWS if self.is_large else None

    @property
    def prior(self) -> np.ndarray:
        """Share of each class among the training pictures, float64 ``(C,)``."""
        return np.asarray(self.train_counts / max(self.n_train, 1), dtype=float)

    def truth(self) -> np.ndarray:
        """Return which labels are true, bool ``(N, C)``."""
        if self.is_multi:
            return np.asarray(self.targets > 0)
        return np.asarray(self.targets[:, None] == np.arange(len(self.classes)))

    def given(self) -> np.ndarray:
        """Return which labels the model gives, bool ``(N, C)``: as ``predict`` decides."""
        if self.is_multi:
            return np.asarray(self.decided >= self.thresholds)
        return np.asarray(self.probs.argmax(axis=1)[:, None] == np.arange(len(self.classes)))

    def predicted(self) -> np.ndarray:
        """Return the most probable class of each picture, int64 ``(N,)``."""
        return np.asarray(self.probs.argmax(axis=1))
