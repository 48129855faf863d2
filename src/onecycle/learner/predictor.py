"""What a learner has learnt about its own probabilities: their calibration and its thresholds, saved with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from onecycle.errors import ArgumentError, CheckpointError
from onecycle.evaluation.certainty.calibration import Calibration
from onecycle.evaluation.certainty.thresholds import TagThresholds

DEFAULT_THRESH = 0.5
Thresh = float | Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Calibrated:
    """The calibration and the thresholds in use; either may be None.

    Thresholds are compared with the model's own probabilities, so calibrating before or after choosing them
    changes what is shown, not what is decided.
    """

    calibration: Calibration | None = None
    thresholds: TagThresholds | None = None

    def __bool__(self) -> bool:
        return self.calibration is not None or self.thresholds is not None

    def probs(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the probabilities to show for the model's own, float32 ``(N, C)``; these where none was fitted."""
        if self.calibration is None:
            return raw
        return torch.from_numpy(self.calibration.apply(raw.numpy())).float()

    def tags(self, raw: torch.Tensor, shown: torch.Tensor, thresh: Thresh | None = None) -> np.ndarray:
        """Return which tags are given, bool ``(N, C)``.

        Args:
            raw: the model's own probabilities ``(N, C)``.
            shown: those that are shown.
            thresh: compared with ``shown``; None takes the chosen thresholds, or 0.5.

        Raises:
            ArgumentError: thresholds of another number than tags.
        """
        if thresh is None and self.thresholds is not None:
            return self.thresholds.decide(raw.numpy())
        limit = np.asarray(DEFAULT_THRESH if thresh is None else thresh, dtype=np.float32)
        if limit.shape not in ((), shown.shape[1:]):
            raise ArgumentError(
                f"thresh is one number or one for each of {shown.shape[1]} tags; received shape {limit.shape}"
            )
        return np.asarray(shown.numpy() >= limit)

    def manifest(self) -> dict[str, Any]:
        """Return what is saved with a model, as JSON can hold it; ``from_manifest`` reads it."""
        return {
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "thresholds": None if self.thresholds is None else self.thresholds.to_dict(),
        }

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any], n_classes: int) -> Calibrated:
        """Read what ``manifest`` wrote; a file that has none gives none.

        Raises:
            CheckpointError: entries that are damaged or belong to other classes.
        """
        saved, chosen = manifest.get("calibration"), manifest.get("thresholds")
        try:
            calibration = None if saved is None else Calibration.from_dict(saved)
            thresholds = None if chosen is None else TagThresholds.from_dict(chosen)
        except ArgumentError as err:
            raise CheckpointError(f"the saved model's calibration or thresholds are damaged: {err}") from err
        lengths = {len(calibration.slope)} if calibration else set()
        lengths |= {len(thresholds.values)} if thresholds else set()
        if lengths - {n_classes}:
            raise CheckpointError(
                f"the saved model's calibration is for {max(lengths)} classes, and there are {n_classes}"
            )
        return cls(calibration, thresholds)

    def __str__(self) -> str:
        parts = [] if self.calibration is None else [f"calibration ({self.calibration})"]
        parts += [] if self.thresholds is None else [f"thresholds for {self.thresholds.goal}"]
        return " and ".join(parts)
