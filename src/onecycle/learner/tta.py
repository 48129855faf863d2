"""Predictions beyond one pass over a loader: one batch, and test-time views.

A ``learn`` here is a ``Learner``; its module imports this one, so the type is not named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from onecycle.data.augment.augmenter import BatchAugmenter, augmenter_of
from onecycle.data.augment.transforms import Transform, tta_views
from onecycle.data.batches import Batch, BatchLoader, Stats, normalise_
from onecycle.data.datasets import draw_grid
from onecycle.data.labels.items import DatasetType
from onecycle.errors import ArgumentError
from onecycle.learner.checks.misfits import check_labels
from onecycle.model.levels import plain_view
from onecycle.train.device.batch_split import BatchSplit
from onecycle.train.device.precision import float32_products
from onecycle.train.evaluate import eval_mode, evaluate
from onecycle.train.losses import LossFunc, known_activation, per_item_loss

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Activation = Callable[[torch.Tensor], torch.Tensor]


def logits_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run one batch ``(N, 3, H, W)`` through the model in evaluation mode; logits on the CPU."""
    with eval_mode(model), torch.inference_mode(), float32_products():
        logits = BatchSplit().forward(model, x).float().cpu()
    return logits.clone()


def pixels_of(batch: Any, stats: Stats | None) -> torch.Tensor:
    """Return what the network takes, ``(N, 3, H, W)``, of a batch of a bunch or a pair ``(x, y)``.

    Raises:
        ArgumentError: neither, or a batch normalised with other statistics.
    """
    if isinstance(batch, Batch):
        if batch.stats is None and stats is not None:
            return normalise_(batch.x.clone(), stats)
        if batch.stats != stats:
            raise ArgumentError(f"this batch is normalised with {batch.stats}, and the network takes {stats}")
        return batch.x
    x = batch[0] if isinstance(batch, tuple | list) and len(batch) == 2 else None
    if not isinstance(x, torch.Tensor):
        raise ArgumentError(f"batch is a pair (x, y) with pictures x (N, 3, H, W); received {type(batch).__name__}")
    return x


def results_figure(learn: Any, ds_type: DatasetType, rows: int, figsize: tuple[float, float] | None) -> Figure:
    """Draw pictures of one batch with truth and prediction; ``Learner.show_results`` says more."""
    loader = learn.loader(ds_type).replace(stats=None)
    n = min(rows * rows, loader.bs)
    shown = loader.replace(bs=n).batch_at(0, 0)
    probs = learn.pred_batch(batch=learn.loader(ds_type).replace(bs=n).batch_at(0, 0))
    dataset = learn.data.dataset(ds_type)
    truths = [str(dataset.label(int(i))) for i in shown.indices]
    numbers = learn.data.is_regression
    decided = probs.numpy() if numbers else learn.predictor().decide(probs.numpy(), truths).decided
    labels, known = [str(learn.label_of(d)) for d in decided], dataset.labels is not None
    titles = [(f"truth: {t}\n" if known else "") + f"said: {s}" for t, s in zip(truths, labels, strict=True)]
    colors = ["firebrick" if known and t != s and not numbers else "black" for t, s in zip(truths, labels, strict=True)]
    return draw_grid(shown.x.cpu(), titles, figsize=figsize, colors=colors)


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
    model: nn.Module, loader: BatchLoader, views: Sequence[Sequence[Transform]], *, activ: Activation, mode: str
) -> torch.Tensor:
    """Average the probabilities of several views of every picture; what is kept of each view are its logits.

    Args:
        model: logits out.
        loader: pictures in order, not augmented.
        views: the transforms of each view.
        activ: turns logits into probabilities.
        mode: interpolation.

    Returns:
        float32 ``(N, C)``.
    """
    spec = loader.dataset.store.spec
    augmenters = [augmenter_of(tfms, size=spec.size, padding_mode=spec.padding_mode, mode=mode) for tfms in views]
    batches = _Views(loader, augmenters)
    with plain_view(model):
        logits = evaluate(model, batches, None).logits
    return sum((activ(logits[batches.rows(i)]) for i in range(len(views))), torch.zeros(())) / len(views)


def averaged(
    learn: Any, beta: float | None, *, scale: float, ds_type: DatasetType, activ: Activation | None, with_loss: bool
) -> list[torch.Tensor]:
    """Mix the plain predictions of a learner with those of views; ``Learner.TTA`` says more."""
    if beta is not None and not 0 <= beta <= 1:
        raise ArgumentError(f"beta is the share of the plain prediction, 0 to 1, or None; received {beta!r}")
    check_labels(ds_type, needed=with_loss)
    if beta is not None and not (isinstance(beta, int | float) and 0 <= beta <= 1):
        raise ArgumentError(f"beta is the share of the plain prediction, between 0 and 1, or None; received {beta!r}")
    if not (isinstance(scale, int | float) and 0 < scale < float("inf")):
        raise ArgumentError(f"scale is a zoom above 0, as 1.35; received {scale!r}")
    if with_loss and activ is not None:
        raise ArgumentError("the loss of averaged predictions needs the loss's own activation; leave activ out")
    activ = activ or learn.activation
    plain, targets = learn.get_preds(ds_type, activ)
    views = mean_of_views(
        learn.model,
        learn.loader(ds_type),
        tta_views(learn.data.train_tfms, scale=scale),
        activ=activ,
        mode=learn.data.lists.mode,
    )
    if beta is None:
        return [plain, views, targets]
    probs = plain * beta + views * (1 - beta)
    device = learn.data.device  # where the loss's weights are
    losses = [loss_of_probs(learn.loss_func, probs.to(device), targets.to(device)).cpu()] if with_loss else []
    return [probs, targets, *losses]


def loss_of_probs(loss_func: LossFunc, probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the loss ``(N,)`` of probabilities ``(N, C)`` by going back to logits that give them."""
    safe = probs.clamp(1e-7, 1 - 1e-7)
    activation = known_activation(loss_func)
    if activation == "sigmoid":
        return per_item_loss(loss_func, torch.logit(safe), targets)
    if activation == "softmax":
        return per_item_loss(loss_func, safe.log(), targets)
    raise ArgumentError(
        "the loss of averaged predictions is known for cross-entropy and binary cross-entropy only; leave with_loss out"
    )
