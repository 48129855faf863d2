"""Losses, and what follows from the choice of a loss: activation, loss of each item, the prior as first bias.

``logits`` are (N, C) floating. Targets of one label a picture are (N,) int64 class indices, or (N, C) float
class probabilities ("soft", from mixup); tags are (N, C) of 0 and 1, or numbers between them. The names
ending in ``Flat`` are fastai v1's. All losses compute in float32 whatever the logits' precision, and
none of their checks waits for the device.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onecycle.errors import ArgumentError

LossFunc = Callable[[Tensor, Tensor], Tensor]
Reduction = Literal["mean", "sum", "none"]


class CrossEntropyFlat(nn.CrossEntropyLoss):
    """Cross-entropy of logits (N, C) with class indices (N,) or soft targets (N, C).

    Args:
        weight: (C,) float, a factor for each class; the mean is then taken over the weights, as in torch.
        reduction: 'mean', 'sum' or 'none', which gives (N,).

    Raises:
        ArgumentError: an unknown reduction; when called, shapes or types that do not fit.
    """

    def __init__(self, weight: Tensor | None = None, *, reduction: Reduction = "mean") -> None:
        _check_reduction(reduction)
        super().__init__(weight=weight, reduction=reduction)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss: 0-d, or (N,) with reduction 'none'."""
        _check_class_targets(type(self).__name__, logits, targets)
        soft = targets.is_floating_point()
        return super().forward(logits.float(), targets.float() if soft else targets.long())


class LabelSmoothingCrossEntropy(CrossEntropyFlat):
    """Cross-entropy with targets moved a little towards all classes.

    Args:
        eps: share of the target that is spread evenly over the C classes, 0 <= eps <= 1.
        reduction: 'mean', 'sum' or 'none'.

    The loss of an item is eps·mean over classes(−log p) + (1 − eps)·(cross-entropy).
    Source: Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision", section 7.
    """

    def __init__(self, eps: float = 0.1, *, reduction: Reduction = "mean") -> None:
        _check_eps("LabelSmoothingCrossEntropy", eps)
        super().__init__(reduction=reduction)
        self.eps = eps
        self.label_smoothing = eps  # torch's own argument is the same formula, for soft targets too


class BCEWithLogitsFlat(nn.BCEWithLogitsLoss):
    """Binary cross-entropy of logits (N, C) with tags (N, C).

    Args:
        weight: (C,) float, a factor for each tag.
        pos_weight: (C,) float, a factor for the positive part of each tag's loss.
        reduction: 'mean' over all N·C decisions, 'sum', or 'none', which gives (N, C).

    Raises:
        ArgumentError: an unknown reduction; when called, shapes that do not fit.
    """

    def __init__(
        self, weight: Tensor | None = None, *, pos_weight: Tensor | None = None, reduction: Reduction = "mean"
    ) -> None:
        _check_reduction(reduction)
        super().__init__(weight=weight, pos_weight=pos_weight, reduction=reduction)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss: 0-d, or (N, C) with reduction 'none'."""
        _check_tag_targets(type(self).__name__, logits, targets)
        return super().forward(logits.float(), targets.float())


class LabelSmoothingBCE(BCEWithLogitsFlat):
    """Binary cross-entropy whose tags 0 and 1 become eps/2 and 1 − eps/2.

    Args:
        eps: how far the targets are moved towards one half, 0 <= eps <= 1.
        reduction: as in ``BCEWithLogitsFlat``.
    """

    def __init__(self, eps: float = 0.1, *, reduction: Reduction = "mean") -> None:
        _check_eps("LabelSmoothingBCE", eps)
        super().__init__(reduction=reduction)
        self.eps = eps

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss: 0-d, or (N, C) with reduction 'none'."""
        _check_tag_targets(type(self).__name__, logits, targets)
        return super().forward(logits, targets.float() * (1 - self.eps) + self.eps / 2)


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


def _check_eps(name: str, eps: float) -> None:
    if not 0 <= eps <= 1:
        raise ArgumentError(f"{name} expects eps in 0..1, got {eps}")


def _check_class_targets(name: str, logits: Tensor, targets: Tensor) -> None:
    soft = targets.is_floating_point()
    if logits.ndim != 2 or targets.shape != (logits.shape if soft else logits.shape[:1]):
        raise ArgumentError(
            f"{name} expects logits (N, C) with class indices (N,) or float class probabilities (N, C), "
            f"got {_shapes(logits, targets)}; for tags use BCEWithLogitsFlat"
        )


def _check_tag_targets(name: str, logits: Tensor, targets: Tensor) -> None:
    if logits.ndim != 2 or targets.shape != logits.shape:
        raise ArgumentError(
            f"{name} expects logits and tags of one shape (N, C), got {_shapes(logits, targets)}; "
            "for one label a picture use CrossEntropyFlat"
        )


def _shapes(logits: Tensor, targets: Tensor) -> str:
    return f"logits {tuple(logits.shape)} {logits.dtype}, targets {tuple(targets.shape)} {targets.dtype}"


def loss_for(is_multi: bool) -> nn.Module:
    """Return the default loss: cross-entropy for one label a picture, binary cross-entropy for tags."""
    return BCEWithLogitsFlat() if is_multi else CrossEntropyFlat()


def per_item_loss(loss_func: LossFunc, logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each item on its own.

    Args:
        loss_func: a module or function ``(logits, targets) -> loss``; it is not changed.
        logits: (N, C).
        targets: (N,), or (N, C), whose tags are averaged within an item.

    Returns:
        (N,). Its mean is the loss itself for every unweighted mean loss. With class weights an item's loss
        carries its weight as a factor.

    Raises:
        ArgumentError: not as many targets as logits.

    A ``reduction`` that the loss has, as an attribute or an argument, is set to 'none' on a copy. Any other
    callable is called with one item at a time: right for each loss that is a mean over items, and slow.
    """
    if len(logits) != len(targets):
        raise ArgumentError(f"expected a target for each of the logits, got {_shapes(logits, targets)}")
    unreduced = _unreduced(loss_func)
    if unreduced is not None and len(logits):
        losses = unreduced(logits, targets)
        if losses.ndim and len(losses) == len(logits):
            return losses.flatten(1).mean(1) if losses.ndim > 1 else losses
    # no reduction to switch off, or one that the loss does not heed
    each = [loss_func(logits[i : i + 1], targets[i : i + 1]).mean() for i in range(len(logits))]
    return torch.stack(each) if each else logits.new_zeros(0)


def _unreduced(loss_func: LossFunc) -> LossFunc | None:
    """Return the loss without its reduction, or None where it has none that can be switched off."""
    if isinstance(loss_func, nn.Module):
        if not isinstance(getattr(loss_func, "reduction", None), str):
            return None
        single = copy.copy(loss_func)  # shares weights and buffers; only the plain attribute differs
        single.reduction = "none"  # type: ignore[assignment]  # torch annotates module attributes as tensors
        return single
    # a function written in C has no signature to look at
    if not inspect.isbuiltin(loss_func) and "reduction" in inspect.signature(loss_func).parameters:
        return functools.partial(cast("Callable[..., Tensor]", loss_func), reduction="none")
    return None


def activation_for(loss_func: LossFunc) -> Callable[[Tensor], Tensor]:
    """Return what turns logits (N, C) into predictions (N, C) for a loss.

    Args:
        loss_func: a module, a function of ``torch.nn.functional``, or a ``functools.partial`` of one.

    Returns:
        softmax for cross-entropy, sigmoid for binary cross-entropy with logits, exp for the negative
        log-likelihood, and for every other loss the identity. Each computes in float32, but for the identity.
    """
    while isinstance(loss_func, functools.partial):
        loss_func = loss_func.func
    if isinstance(loss_func, nn.CrossEntropyLoss) or loss_func is F.cross_entropy:
        return _softmax
    if (
        isinstance(loss_func, nn.BCEWithLogitsLoss | nn.MultiLabelSoftMarginLoss)
        or loss_func in _SIGMOID_FUNCTIONS
    ):
        return _sigmoid
    if isinstance(loss_func, nn.NLLLoss) or loss_func is F.nll_loss:
        return _exp
    return _identity


_SIGMOID_FUNCTIONS = (F.binary_cross_entropy_with_logits, F.multilabel_soft_margin_loss)


def _softmax(logits: Tensor) -> Tensor:
    return logits.float().softmax(-1)


def _sigmoid(logits: Tensor) -> Tensor:
    return logits.float().sigmoid()


def _exp(log_probs: Tensor) -> Tensor:
    return log_probs.float().exp()


def _identity(outputs: Tensor) -> Tensor:
    return outputs


def class_log_prior(class_counts: Tensor, *, is_multi: bool, n: int) -> Tensor:
    """Return the last bias with which an untrained head predicts each class as often as it occurs.

    Args:
        class_counts: (C,), how many of the n training pictures have each class.
        is_multi: whether a picture has several labels (tags).
        n: number of training pictures, at least 1; with one label a picture it is the sum of the counts.

    Returns:
        (C,) float32. Half a picture with and, for tags, half a picture without each class is added, so that a
        class that never or always occurs has a finite value:
        tags: log((count + ½) / (n − count + ½)), so that sigmoid gives (count + ½)/(n + 1);
        one label: log((count + ½) / (n + C/2)), so that softmax gives (count + ½)/(n + C/2).

    Raises:
        ArgumentError: counts that n pictures cannot have.

    Source: Krichevsky and Trofimov 1981, "The performance of universal encoding" (one half to each count).
    """
    counts = class_counts.detach().double().cpu()
    _check_counts(counts, is_multi, n)
    if is_multi:
        return ((counts + 0.5) / (n - counts + 0.5)).log().float()
    return ((counts + 0.5) / (n + len(counts) / 2)).log().float()


def _check_counts(counts: Tensor, is_multi: bool, n: int) -> None:
    if counts.ndim != 1 or not len(counts) or n < 1:
        raise ArgumentError(
            f"expected counts (C,) over n >= 1 pictures, got shape {tuple(counts.shape)}, n={n}"
        )
    if not bool(((counts >= 0) & (counts <= n)).all()):
        raise ArgumentError(f"each class occurs in 0..{n} of {n} pictures, got counts {counts.tolist()}")
    if not is_multi and float(counts.sum()) != n:
        raise ArgumentError(
            f"with one label a picture the counts add up to n={n}, got {float(counts.sum()):g}; "
            "pass is_multi=True for tags"
        )
