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
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import numpy as np
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


class FocalLoss(nn.Module):
    """Cross-entropy in which items (for tags: decisions) that are already right count little.

    One label a picture: −(1 − p)^γ·log p of the true class. Tags: the same for p of a tag that is there, and
    −p^γ·log(1 − p) for one that is not. What the network is fairly sure of loses its weight, so that rare and hard
    classes lead the training; its probabilities are then less extreme than the frequencies.

    Args:
        gamma: focus, 0 or more; 0 is cross-entropy.
        weight: (C,) float, a factor for each class; for tags, for the positive part of each tag's loss.
        is_multi: whether targets are tags; None takes class indices, and a learner sets it by its labels.
        reduction: 'mean' over items (for tags over all N·C decisions), 'sum', or 'none': (N,), for tags (N, C).

    Raises:
        ArgumentError: a negative gamma, an unknown reduction; when called, shapes that do not fit.

    Source: Lin et al. 2017, "Focal loss for dense object detection", equation 4.
    """

    weight: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        weight: Tensor | None = None,
        *,
        is_multi: bool | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        _check_reduction(reduction)
        _check_not_negative("FocalLoss", gamma=gamma)
        super().__init__()
        self.gamma, self.is_multi, self.reduction = gamma, is_multi, reduction
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss: 0-d, or with reduction 'none' (N,) or (N, C)."""
        if self.is_multi is None and targets.is_floating_point():
            raise ArgumentError(
                f"FocalLoss cannot tell tags from class probabilities here, got {_shapes(logits, targets)}; "
                "pass is_multi=True for tags, is_multi=False for mixed classes"
            )
        if not self.is_multi:
            return _reduced(self._of_classes(logits, targets), self.reduction)
        _check_tag_targets("FocalLoss", logits, targets)
        return _reduced(_tag_losses(logits, targets, self.gamma, self.gamma, self.weight), self.reduction)

    def _of_classes(self, logits: Tensor, targets: Tensor) -> Tensor:
        _check_class_targets("FocalLoss", logits, targets)
        soft = targets.is_floating_point()
        truth = targets.float() if soft else F.one_hot(targets.long(), logits.shape[1]).float()
        log_p = logits.float().log_softmax(1)
        each = -truth * _power(1 - log_p.exp(), self.gamma) * log_p
        return (each if self.weight is None else each * self.weight).sum(1)


class AsymmetricLoss(nn.Module):
    """Binary cross-entropy for tags that are mostly absent: easy absences count little, the easiest nothing.

    A tag that is there: −(1 − p)^γ₊·log p. One that is not: −q^γ₋·log(1 − q) with q = max(p − clip, 0), so that an
    absence of which the network is surer than ``clip`` is left out.

    Args:
        gamma_neg: focus for absent tags, 0 or more.
        gamma_pos: focus for present tags, 0 or more.
        clip: margin of probability below which an absence counts nothing, in [0, 1).
        weight: (C,) float, a factor for the positive part of each tag's loss.
        reduction: 'mean' over all N·C decisions, 'sum', or 'none', which gives (N, C).

    Raises:
        ArgumentError: an argument out of its range; when called, shapes that do not fit.

    Source: Ridnik et al. 2021, "Asymmetric loss for multi-label classification", equations 4 to 7.
    """

    weight: Tensor | None

    def __init__(
        self,
        gamma_neg: float = 4.0,
        gamma_pos: float = 0.0,
        clip: float = 0.05,
        *,
        weight: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        _check_reduction(reduction)
        _check_not_negative("AsymmetricLoss", gamma_neg=gamma_neg, gamma_pos=gamma_pos)
        if not 0 <= clip < 1:
            raise ArgumentError(f"AsymmetricLoss expects clip in [0, 1), got {clip}")
        super().__init__()
        self.gamma_neg, self.gamma_pos, self.clip, self.reduction = gamma_neg, gamma_pos, clip, reduction
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss: 0-d, or (N, C) with reduction 'none'."""
        _check_tag_targets("AsymmetricLoss", logits, targets)
        losses = _tag_losses(logits, targets, self.gamma_pos, self.gamma_neg, self.weight, self.clip)
        return _reduced(losses, self.reduction)


def _tag_losses(
    logits: Tensor, targets: Tensor, gamma_pos: float, gamma_neg: float, weight: Tensor | None, clip: float = 0.0
) -> Tensor:
    """Return the focused binary cross-entropy of each decision, (N, C)."""
    x, truth = logits.float(), targets.float()
    there = truth * _power(x.neg().sigmoid(), gamma_pos) * F.logsigmoid(x)
    # Without a margin the logarithm is taken of the logit itself, which stays exact however sure the network is.
    log_not = (x.neg().sigmoid() + clip).clamp(max=1).log() if clip else F.logsigmoid(-x)
    absent = (1 - truth) * _power((x.sigmoid() - clip).clamp(min=0), gamma_neg) * log_not
    return -(there if weight is None else there * weight) - absent


def _power(base: Tensor, exponent: float) -> Tensor:
    """Return base^exponent for a base in [0, 1] with a finite gradient, which a root does not have at 0."""
    return torch.ones_like(base) if exponent == 0 else base.clamp(min=1e-8).pow(exponent)


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


def _check_not_negative(name: str, **values: float) -> None:
    for argument, value in values.items():
        if not value >= 0:
            raise ArgumentError(f"{name} expects {argument} of 0 or more, got {value}")


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


ClassWeights = Literal["balanced"] | Sequence[float] | np.ndarray | Tensor


def make_loss(
    loss_func: LossFunc | None,
    *,
    is_multi: bool,
    class_counts: Tensor,
    n: int,
    class_weights: ClassWeights | None = None,
) -> LossFunc:
    """Return the loss for one data set: the default one, or the given one fitted to the kind of its labels.

    Args:
        loss_func: None for the default; it is not changed.
        is_multi: whether a picture has several labels.
        class_counts: (C,), how many of the n training pictures have each class.
        n: number of training pictures.
        class_weights: 'balanced' (see ``balanced_weights``), or (C,) factors of 0 or more: of each class's items,
            for tags of the positive part of each tag's loss.

    Raises:
        ArgumentError: a loss that does not fit the labels or cannot be weighted, or weights that do not fit.
    """
    made: Any = loss_for(is_multi) if loss_func is None else loss_func
    if isinstance(made, AsymmetricLoss) and not is_multi:
        raise ArgumentError("AsymmetricLoss is for tags; for one label a picture use FocalLoss or class_weights")
    if isinstance(made, FocalLoss):
        made = copy.deepcopy(made)
        made.is_multi = is_multi
    if class_weights is None:
        return cast("LossFunc", made)
    factors = _checked_weights(class_weights, class_counts, is_multi, n)
    name = "pos_weight" if isinstance(made, nn.BCEWithLogitsLoss) else "weight"
    if not isinstance(made, nn.CrossEntropyLoss | nn.BCEWithLogitsLoss | FocalLoss | AsymmetricLoss):
        raise ArgumentError(
            f"class_weights cannot be given to {getattr(made, '__name__', type(made).__name__)}: weigh the classes "
            "inside it, or use CrossEntropyFlat, BCEWithLogitsFlat, FocalLoss or AsymmetricLoss"
        )
    if getattr(made, name) is not None:
        raise ArgumentError(f"{type(made).__name__} has a {name} of its own; leave it or class_weights out")
    made = copy.deepcopy(made)
    setattr(made, name, factors)
    return cast("LossFunc", made)


def balanced_weights(class_counts: Tensor, *, is_multi: bool, n: int) -> Tensor:
    """Return factors with which rare classes count as much as frequent ones.

    Args:
        class_counts: (C,), how many of the n training pictures have each class.
        is_multi: whether a picture has several labels.
        n: number of training pictures.

    Returns:
        (C,) float32. One label: n / (C·count), which averages to 1 over the pictures, so the loss keeps its size.
        Tags: (n − count) / count, with which a tag's presences weigh as much as its absences. A class that never
        occurs counts as occurring once. Probabilities learned with such factors no longer match the frequencies.
    """
    counts = _checked_counts(class_counts, is_multi, n).clamp(min=1)
    weights = (n - counts).clamp(min=0.5) / counts if is_multi else n / (len(counts) * counts)
    return weights.float()


def _checked_weights(weights: ClassWeights, counts: Tensor, is_multi: bool, n: int) -> Tensor:
    if isinstance(weights, (str, bool)):  # True is a number for Python, and no list of weights for anyone
        if weights != "balanced":
            raise ArgumentError(f"class_weights is 'balanced' or one number a class; received {weights!r}")
        if n == 0:
            raise ArgumentError("class_weights='balanced' counts labels that train, and there are none to count")
        return balanced_weights(counts, is_multi=is_multi, n=n)
    try:
        factors = torch.as_tensor(weights, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):  # names, a dict, lists of several lengths
        factors = torch.zeros(0)
    fits = factors.shape == counts.shape and bool((factors.isfinite() & (factors >= 0)).all())
    if not (fits and factors.any()):
        raise ArgumentError(
            f"class_weights needs {len(counts)} numbers of 0 or more, not all 0, one a class in the order of "
            f"data.classes, as [weights[c] for c in data.classes]; received {weights!r:.200}"
        )
    return factors


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


def activation_for(loss_func: LossFunc, *, is_multi: bool | None = None) -> Callable[[Tensor], Tensor]:
    """Return what turns logits (N, C) into predictions (N, C) for a loss.

    Args:
        loss_func: a module, a function of ``torch.nn.functional``, or a ``functools.partial`` of one. An attribute
            ``activation`` of it, one of the names in ``ACTIVATIONS``, decides.
        is_multi: the kind of labels, for a loss of which nothing is known.

    Returns:
        softmax for cross-entropy, sigmoid for binary cross-entropy with logits, exp for the negative
        log-likelihood. For every other loss what is usual for the labels, sigmoid for tags, else softmax, and the
        identity where their kind is not said. Each computes in float32, but for the identity.
    """
    usual = "identity" if is_multi is None else "sigmoid" if is_multi else "softmax"
    return ACTIVATIONS[known_activation(loss_func) or usual]


def known_activation(loss_func: Any) -> str | None:
    """Return the name of a loss's activation, None where it is not known."""
    said = getattr(loss_func, "activation", None)
    if isinstance(said, str):
        if said not in ACTIVATIONS:
            raise ArgumentError(f"a loss's activation is one of {', '.join(ACTIVATIONS)}; received {said!r}")
        return said
    if isinstance(loss_func, functools.partial):
        return known_activation(loss_func.func)
    if isinstance(loss_func, FocalLoss):
        return "sigmoid" if loss_func.is_multi else "softmax"
    return next((name for name, kinds in _BY_KIND.items() if is_one_of(loss_func, kinds)), None)


def is_one_of(loss_func: Any, kinds: Sequence[Any]) -> bool:
    return any(isinstance(loss_func, kind) if isinstance(kind, type) else loss_func is kind for kind in kinds)


FOR_CLASSES = (
    nn.CrossEntropyLoss, F.cross_entropy, nn.NLLLoss, F.nll_loss, nn.MultiMarginLoss, F.multi_margin_loss,
)  # fmt: skip
_OF_LOGITS = (
    nn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits, nn.MultiLabelSoftMarginLoss,
    F.multilabel_soft_margin_loss, AsymmetricLoss,
)  # fmt: skip
_OF_PROBS = (nn.BCELoss, F.binary_cross_entropy)  # the network ends with the activation
FOR_TAGS = (*_OF_LOGITS, *_OF_PROBS)
_BY_KIND = {"softmax": FOR_CLASSES[:2], "exp": FOR_CLASSES[2:4], "sigmoid": _OF_LOGITS, "identity": _OF_PROBS}


def _softmax(logits: Tensor) -> Tensor:  # functions with a name: a learner that holds one can be sent to a process
    return logits.float().softmax(-1)


def _sigmoid(logits: Tensor) -> Tensor:
    return logits.float().sigmoid()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": _softmax, "sigmoid": _sigmoid, "exp": torch.exp, "identity": nn.Identity(),
}  # fmt: skip
"""What ``activation_for`` returns, by the names that saved models have for it."""


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
    counts = _checked_counts(class_counts, is_multi, n)
    if is_multi:
        return ((counts + 0.5) / (n - counts + 0.5)).log().float()
    return ((counts + 0.5) / (n + len(counts) / 2)).log().float()


def _checked_counts(class_counts: Tensor, is_multi: bool, n: int) -> Tensor:
    counts = class_counts.detach().double().cpu()
    if counts.ndim != 1 or not len(counts) or n < 1:
        raise ArgumentError(f"expected counts (C,) over n >= 1 pictures, got shape {tuple(counts.shape)}, n={n}")
    if not bool(((counts >= 0) & (counts <= n)).all()):
        raise ArgumentError(f"each class occurs in 0..{n} of {n} pictures, got counts {counts.tolist()}")
    if not is_multi and float(counts.sum()) != n:
        raise ArgumentError(
            f"with one label a picture the counts add up to n={n}, got {float(counts.sum()):g}; "
            "pass is_multi=True for tags"
        )
    return counts
