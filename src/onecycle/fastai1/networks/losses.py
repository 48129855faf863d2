"""fastai v1's losses: PyTorch's over outputs and targets of any shape, which they flatten."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from onecycle.fastai1.networks.layers import Module
from onecycle.train import losses as product
from onecycle.train.losses import known_activation

__all__ = ["BCEFlat", "BCEWithLogitsFlat", "CrossEntropyFlat", "FlattenedLoss", "MixUpLoss"]


def flattened(input: Tensor, target: Tensor, axis: int, *, is_2d: bool) -> tuple[Tensor, Tensor]:
    """Return outputs and targets in a row, the dimension ``axis`` last.

    Args:
        input: outputs ``(N, …)``.
        target: targets ``(N, …)``.
        axis: of the classes.
        is_2d: keep the classes as a dimension of their own, ``(rows, C)``.
    """
    out = input.transpose(axis, -1)
    aim = (target.transpose(axis, -1) if target.ndim else target).reshape(-1)
    return (out.reshape(-1, out.shape[-1]) if is_2d else out.reshape(-1)), aim


class FlattenedLoss:
    """A loss of PyTorch over flattened outputs and targets.

    Args:
        func: its class; other arguments go to it.
        axis: of the classes, which becomes the last.
        floatify: make the targets float.
        is_2d: keep the classes as a dimension of their own.
    """

    def __init__(
        self, func: Any, *args: Any, axis: int = -1, floatify: bool = False, is_2d: bool = True, **options: Any
    ) -> None:
        self.func, self.axis, self.floatify, self.is_2d = func(*args, **options), axis, floatify, is_2d
        self.__name__ = type(self.func).__name__

    @property
    def reduction(self) -> str:
        """``mean``, ``sum`` or ``none``."""
        return cast("str", self.func.reduction)

    @reduction.setter
    def reduction(self, value: str) -> None:
        self.func.reduction = value

    def __call__(self, input: Tensor, target: Tensor, **options: Any) -> Tensor:
        aim = target.float() if self.floatify else target
        loss: Tensor = self.func(*flattened(input, aim, self.axis, is_2d=self.is_2d), **options)
        return loss

    def __repr__(self) -> str:
        return f"FlattenedLoss of {self.func}"


def BCEFlat(*args: Any, axis: int = -1, floatify: bool = True, **options: Any) -> FlattenedLoss:
    """Binary cross-entropy of probabilities, flattened."""
    return FlattenedLoss(nn.BCELoss, *args, axis=axis, floatify=floatify, is_2d=False, **options)


class CrossEntropyFlat(product.CrossEntropyFlat):
    """onecycle's cross-entropy, and v1's of sequences and other shapes: ``(N, …, C)`` with class indices ``(N, …)``.

    Args:
        weight: (C,) float, a factor for each class.
        axis: of the classes.
        reduction: 'mean', 'sum' or 'none'.
        ignore_index, label_smoothing: as in ``nn.CrossEntropyLoss``.
    """

    def __init__(
        self, weight: Tensor | None = None, *, axis: int = -1, reduction: product.Reduction = "mean",
        ignore_index: int = -100, label_smoothing: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(weight, reduction=reduction)
        self.axis, self.ignore_index, self.label_smoothing = axis, ignore_index, label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss: 0-d, or one number a row with reduction 'none'."""
        if logits.ndim == 2:
            return super().forward(logits, targets)
        return nn.CrossEntropyLoss.forward(self, *_of_rows(logits, targets, self.axis))


def _of_rows(logits: Tensor, targets: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    out, aim = flattened(logits.float(), targets, axis, is_2d=True)
    return out, aim.long()


class BCEWithLogitsFlat(product.BCEWithLogitsFlat):
    """onecycle's binary cross-entropy of logits, and v1's of any two shapes of one length, as (N, 1) with (N,).

    Args:
        weight, pos_weight: (C,) float, of each tag, and of its positive part.
        reduction: 'mean', 'sum' or 'none'.
    """

    activation = "sigmoid"

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss: 0-d, or one number each with reduction 'none'."""
        if logits.ndim == 2 and logits.shape == targets.shape:
            return super().forward(logits, targets)
        return nn.BCEWithLogitsLoss.forward(self, *flattened(logits.float(), targets.float(), -1, is_2d=False))


class MixUpLoss(Module):
    """A loss on mixed targets ``(N, 3)``: two class indices, and the share of the first.

    ``learn.mixup()`` does not need it: there targets are mixed into shares of each class.

    Args:
        crit: the loss to mix; its reduction becomes 'none'.
        reduction: 'mean', 'sum' or 'none'.
    """

    def __init__(self, crit: Any, reduction: str = "mean") -> None:
        self.old_crit, self.reduction = crit, reduction
        self.activation = known_activation(crit)
        if hasattr(crit, "reduction"):
            self.crit, self.old_red = crit, crit.reduction
            crit.reduction = "none"
        else:
            self.crit, self.old_red = partial(crit, reduction="none"), None

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss; of targets ``(N,)`` as the one inside gives it."""
        each: Tensor
        if target.ndim == 2:
            first, second = (self.crit(output, target[:, i].long()) for i in range(2))
            each = first * target[:, 2] + second * (1 - target[:, 2])
        else:
            each = self.crit(output, target)
        return each.mean() if self.reduction == "mean" else each.sum() if self.reduction == "sum" else each

    def get_old(self) -> Any:
        """Return the loss inside, with the reduction that it had."""
        if self.old_red is not None:
            self.old_crit.reduction = self.old_red
        return self.old_crit
