"""What to do about rare classes: draw their pictures more often, or let them count more in the loss.

The draws are made by the loader's own order, a function of (seed, epoch), so they are the same on pictures and on
cached features of a frozen body.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import Labels, need_classes
from onecycle.errors import ArgumentError
from onecycle.learner.checks.misfits import check_loss
from onecycle.train.callbacks import LearnerCallback
from onecycle.train.loop import Callback
from onecycle.train.losses import ClassWeights, LossFunc, make_loss
from onecycle.train.regression.loss import MSELossFlat

if TYPE_CHECKING:
    from onecycle.train.loop import Trainer


def oversampling_weights(labels: Labels, rows: np.ndarray) -> np.ndarray:
    """Return how much more often each picture should be drawn than one that has only the most frequent class.

    One label a picture: the inverse frequency of its class, so that each class is drawn equally often. Tags: the
    square root of the inverse frequency of its rarest tag, relative to the most frequent tag. The root keeps a tag
    of a few pictures from filling an epoch with them; and a picture that is drawn brings its frequent tags along,
    so tags cannot come equally often.

    Args:
        labels: of all pictures.
        rows: int64 ``(n,)``, the pictures that train.

    Returns:
        float64 ``(n,)``, 1 or more.

    Raises:
        ArgumentError: no picture.

    Source: for tags, the repeat factors of Gupta, Dollár and Girshick 2019, "LVIS: a dataset for large vocabulary
    instance segmentation", with the most frequent tag as the threshold.
    """
    if len(rows) == 0:
        raise ArgumentError("there is no training picture to draw")
    counts = labels.counts(rows)
    more = counts.max() / np.maximum(counts, 1)
    targets = labels.targets[rows]
    if not labels.is_multi:
        return np.asarray(more[targets], dtype=np.float64)
    return np.asarray(np.where(targets > 0, np.sqrt(np.maximum(more, 1.0)), 1.0).max(axis=1))


class OverSamplingCallback(LearnerCallback):
    """Draw the pictures of rare classes more often, with replacement; see ``oversampling_weights``.

    An epoch has as many pictures as without it; fastai v1's was longer (the largest class times the number of
    classes). It works on pictures and on precomputed features. Validation is not touched. Predicted probabilities
    then fit the drawn frequencies, not the true ones.

    Args:
        learn: the learner that will be fitted.
    """

    in_lr_find = True

    def weights(self) -> np.ndarray:
        """Return how often to draw each training picture, float64 ``(n,)``, only relative to one another."""
        return oversampling_weights(self.learn.data.labels, self.learn.data.split.train)

    def on_train_begin(self, trainer: Trainer) -> None:
        """Say what is drawn how often."""
        if not getattr(self.learn, "silent", False):
            print(self.describe())

    def describe(self) -> str:
        """Say how often the pictures of the rarest and of the most frequent class come in an epoch."""
        weights = self.weights()
        times = len(weights) * weights / weights.sum()
        kind = self.learn.data.labels.words
        return (
            f"Oversampling: in an epoch, pictures of rare {kind} come up to {times.max():.1f} times,\n"
            f"those of frequent ones {times.min():.2f} times on average ({len(weights):,} draws)."
        )


def sampling_weights(callbacks: Sequence[Callback]) -> np.ndarray | None:
    """Return the weights with which the callbacks of a fit want pictures drawn; None draws each once.

    Raises:
        ArgumentError: more than one callback wants to.
    """
    asking = [cb for cb in callbacks if isinstance(cb, OverSamplingCallback)]
    if len(asking) > 1:
        raise ArgumentError(f"{len(asking)} callbacks oversample in one fit; give OverSamplingCallback once")
    return asking[0].weights() if asking else None


def loss_for_data(data: ImageDataBunch, loss_func: Any, class_weights: ClassWeights | None) -> LossFunc:
    """Return the loss with which a learner trains on a bunch: see ``make_loss``; counts are of its training part.

    Args:
        data: the bunch.
        loss_func: None for the default by its labels; it is not changed.
        class_weights: 'balanced', one factor a class, or None.
    """
    train = data.split.train
    if data.is_regression:
        if class_weights is not None:
            need_classes(data.labels, "class_weights=")
        if loss_func is not None and (isinstance(loss_func, type) or not callable(loss_func)):
            raise ArgumentError(
                f"loss_func is called with (outputs, numbers): pass MSELossFlat(), say; got {loss_func!r}"
            )
        return MSELossFlat() if loss_func is None else cast("LossFunc", loss_func)
    if loss_func is not None:
        check_loss(loss_func, data.is_multi, data.c)
    return make_loss(
        loss_func,
        is_multi=data.is_multi,
        class_counts=torch.from_numpy(data.labels.counts(train)),
        n=len(train),
        class_weights=class_weights,
    )
