"""Predictions beyond one pass over a loader: one batch, and test-time views."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from onecycle.data.augment.augmenter import BatchAugmenter
from onecycle.data.augment.transforms import Transform
from onecycle.data.batches import Batch, BatchLoader
from onecycle.errors import ArgumentError
from onecycle.train.device.batch_split import BatchSplit
from onecycle.train.evaluate import eval_mode, evaluate
from onecycle.train.losses import LossFunc, activation_for, per_item_loss

Activation = Callable[[torch.Tensor], torch.Tensor]


def logits_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run one batch ``(N, 3, H, W)`` through the model in evaluation mode; logits on the CPU."""
    with eval_mode(model), torch.inference_mode():
        logits = BatchSplit().forward(model, x).float().cpu()
    return logits.clone()


class _Views:
    """A loader that gives every batch once for each view; its pixels are gathered (where need be, decoded) once."""

    def __init__(self, loader: BatchLoader, augmenters: Sequence[BatchAugmenter]) -> None:
        self.loader, self.augmenters = loader, augmenters

    def __len__(self) -> int:
        return len(self.loader) * len(self.augmenters)

    def __iter__(self) -> Iterator[Batch]:
        return self.loader.views(self.augmenters)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the number of a view stands for its epoch, so that each has draws of its own."""

    def rows(self, view: int) -> torch.Tensor:
        """Return where the pictures of one view are, in order, among all that an iteration gives."""
        n, bs, n_views = self.loader.n_items, self.loader.bs, len(self.augmenters)
        batches = [(start, min(bs, n - start)) for start in range(0, n, bs)]
        return torch.cat([torch.arange(k) + start * n_views + k * view for start, k in batches])


def mean_of_views(
    model: nn.Module,
    loader: BatchLoader,
    views: Sequence[Sequence[Transform]],
    *,
    loss_func: LossFunc,
    activ: Activation,
    mode: str,
) -> torch.Tensor:
    """Average the probabilities of several views of every picture; what is kept of each view are its logits.

    Args:
        model: logits out.
        loader: pictures in order, not augmented.
        views: the transforms of each view.
        loss_func: of the learner (evaluation computes it along the way).
        activ: turns logits into probabilities.
        mode: interpolation.

    Returns:
        float32 ``(N, C)``.
    """
    spec = loader.dataset.store.spec
    augmenters = [BatchAugmenter(tfms, size=spec.size, padding_mode=spec.padding_mode, mode=mode) for tfms in views]
    batches = _Views(loader, augmenters)
    logits = evaluate(model, batches, loss_func).logits
    return sum((activ(logits[batches.rows(i)]) for i in range(len(views))), torch.zeros(())) / len(views)


def loss_of_probs(loss_func: LossFunc, probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the loss ``(N,)`` of probabilities ``(N, C)`` by going back to logits that give them."""
    safe = probs.clamp(1e-7, 1 - 1e-7)
    middle = float(activation_for(loss_func)(torch.zeros(1, 3))[0, 0])
    if abs(middle - 1 / 2) < 1e-6:  # a sigmoid
        return per_item_loss(loss_func, torch.logit(safe), targets)
    if abs(middle - 1 / 3) < 1e-6:  # a softmax
        return per_item_loss(loss_func, safe.log(), targets)
    raise ArgumentError(
        "the loss of averaged predictions is known for cross-entropy and binary cross-entropy only; leave with_loss out"
    )
