"""How far a picture lies from the training pictures, in the features that the network's head reads.

The features of training pictures are described by their mean, the 16 directions in which they vary most with the
variance along each, and one variance for all other directions; the distance is the Mahalanobis distance under these.
It is divided by the distance that 1 % of the validation pictures exceed, so that above 1 a picture is called unlike the
training pictures, and pictures like the validation pictures are called so at that rate.

Source: Tipping and Bishop 1999, "Probabilistic principal component analysis" (the covariance); Lee et al. 2018, "A
simple unified framework for detecting out-of-distribution samples" (this distance on features); Vovk et al. 2005,
"Algorithmic learning in a random world" (the rank of the limit, which holds the rate for any distribution).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from onecycle.deploy.of_files import Numbers
    from onecycle.deploy.predictor import Predictor
    from onecycle.evaluation.predictions import Predictions

FALSE_FLAGS = 0.01
"""Share of pictures like the validation pictures that may be called unlike."""

DIRECTIONS = 16
"""With 64, or with 200 of the 800 training pictures, as much is flagged (Planet, Lite0, 3,584 features), within 3 %."""

TOLERANCE = 1e-3
"""By which an exported model's distance may differ, as a share where it is above 1; the limit is so much higher."""

MOST_TRAINING = 500
FEWEST = 20
"""Training pictures, and validation pictures, without which nothing is said."""


@dataclass(frozen=True, kw_only=True)
class FeatureDistance:
    """The distance from the training pictures, in numbers."""

    mean: np.ndarray  # float64 (D,), of the training pictures' features
    directions: np.ndarray  # float64 (D, K), orthonormal
    variances: np.ndarray  # float64 (K,), along each
    rest: float  # variance along every other direction
    limit: float  # distance above which a picture is called unlike
    training: int  # pictures that it was made from
    validation: int  # pictures that chose the limit
    flagged: int  # of these, above it

    @classmethod
    def fit(cls, training: np.ndarray, validation: np.ndarray) -> FeatureDistance | None:
        """Describe features, float (N, D) of training and (M, D) of validation pictures.

        Returns:
            None where there are fewer than 20 of either, or they do not vary.
        """
        if min(len(training), len(validation)) < FEWEST:
            return None
        n, mean = len(training), training.mean(0, dtype=np.float64)
        _, deviations, directions = np.linalg.svd(training - mean, full_matrices=False)
        k, others = min(DIRECTIONS, n // 4, training.shape[1] - 1), min(n - 1, training.shape[1])
        variances = deviations**2 / n
        rest = float(variances[k:].sum()) / max(1, others - k)
        if not np.isfinite(rest) or rest <= 1e-9 * variances[0]:
            return None
        found = cls(
            mean=mean,
            directions=directions[:k].T,
            variances=np.maximum(variances[:k], rest),
            rest=rest,
            limit=1.0,
            training=n,
            validation=len(validation),
            flagged=0,
        )
        distances = np.sort(found.of(validation))
        rank = min(len(distances), ceil((len(distances) + 1) * (1 - FALSE_FLAGS)))
        limit = float(distances[rank - 1]) * (1 + TOLERANCE)
        return replace(found, limit=limit, flagged=int((distances > limit).sum()))

    def of(self, features: np.ndarray) -> np.ndarray:
        """Return how far pictures are, float64 (N,) for features (N, D): above 1 they are unlike."""
        found = _distance(features, self.mean, self.directions, self.variances, self.rest)
        return np.asarray(found / self.limit)

    def manifest(self) -> dict[str, Any]:
        """Return what is said of it, as JSON holds it."""
        return {
            "rate": max(FALSE_FLAGS, 1 / (self.validation + 1)),
            "validation": self.validation,
            "flagged": self.flagged,
            "training": self.training,
        }


def _distance(features: Any, mean: Any, directions: Any, variances: Any, rest: float) -> Any:
    """Return the Mahalanobis distance, (N,); one formula for arrays and tensors."""
    off = features - mean
    along = off @ directions
    outside = ((off**2).sum(1) - (along**2).sum(1)).clip(min=0)
    return ((along**2 / variances).sum(1) + outside / rest) ** 0.5


class DistanceGraph(nn.Module):
    """The same in tensor operations, float32 (N,), for an exported file."""

    mean: Tensor
    directions: Tensor
    variances: Tensor

    def __init__(self, distance: FeatureDistance) -> None:
        super().__init__()
        self.rest, self.limit = distance.rest, distance.limit
        for name in ("mean", "directions", "variances"):
            self.register_buffer(name, torch.from_numpy(getattr(distance, name)).float())

    def forward(self, features: Tensor) -> Tensor:
        """Return how far pictures are, (N,), for features (N, D)."""
        found: Tensor = _distance(features.to(self.mean), self.mean, self.directions, self.variances, self.rest)
        return found / self.limit


def feature_layer(model: nn.Module) -> nn.Module | None:
    """Return the layer whose input is called the features: the last linear one; None where there is none."""
    return next((m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear)), None)


@contextmanager
def inputs_of(layer: nn.Module | None) -> Iterator[list[Tensor]]:
    """Collect what a layer receives inside the block; nothing without a layer."""
    received: list[Tensor] = []
    if layer is None:
        yield received
        return
    hook = layer.register_forward_pre_hook(lambda _, args: received.append(args[0]))
    try:
        yield received
    finally:
        hook.remove()


def predicted(predictor: Predictor, files: Sequence[str]) -> tuple[Predictions | Numbers, np.ndarray | None]:
    """Predict files; returns the features, too, float32 (N, D), or None for a network that has none of this form."""
    with inputs_of(feature_layer(predictor.model)) as received:
        ask = predictor.numbers if predictor.is_regression else predictor.predict
        predictions = ask(files)
    if not received or any(x.ndim != 2 for x in received) or sum(map(len, received)) != len(predictions):
        return predictions, None
    return predictions, torch.cat(received).cpu().float().numpy()


def distance_of(predictor: Predictor, training: Sequence[str], validation: Sequence[str]) -> FeatureDistance | None:
    """Look at training and validation pictures, and return the distance; None where that cannot be told."""
    if min(len(training), len(validation)) < FEWEST:
        return None
    (_, seen), (_, new) = (predicted(predictor, files) for files in (training, validation))
    return None if seen is None or new is None else FeatureDistance.fit(seen, new)


def spread(items: Sequence[Any] | np.ndarray, most: int) -> list[Any]:
    """Return at most so many items, evenly spaced: tables are often sorted by class."""
    n = len(items)
    return [items[i * n // most] for i in range(most)] if n > most else list(items)
