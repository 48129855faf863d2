"""fastai v1's metrics on inputs of any shape: sequences, one-hot targets, whatever its formulas broadcast."""

from __future__ import annotations

from torch import Tensor

from onecycle.train import metrics as product

__all__ = ["accuracy", "accuracy_thresh", "error_rate", "fbeta", "top_k_accuracy"]


def _usual(input: Tensor, targs: Tensor) -> bool:
    return input.ndim == 2 and targs.ndim == 1


def accuracy(input: Tensor, targs: Tensor) -> Tensor:
    """Return the share of right answers: the highest of the last dimension against ``targs``, item by item."""
    if _usual(input, targs):
        return product.accuracy(input, targs)
    n = len(targs)
    return (input.argmax(dim=-1).view(n, -1) == targs.view(n, -1)).float().mean()


def error_rate(input: Tensor, targs: Tensor) -> Tensor:
    """Return 1 − ``accuracy``."""
    return product.error_rate(input, targs) if _usual(input, targs) else 1 - accuracy(input, targs)


def top_k_accuracy(input: Tensor, targs: Tensor, k: int = 5) -> Tensor:
    """Return the share of items whose true class is among the k highest of the last dimension."""
    if _usual(input, targs):
        return product.top_k_accuracy(input, targs, k)
    return (input.topk(k, dim=-1).indices == targs.unsqueeze(-1)).any(dim=-1).float().mean()


def accuracy_thresh(y_pred: Tensor, y_true: Tensor, thresh: float = 0.5, sigmoid: bool = True) -> Tensor:
    """Return the share of right answers over every number of ``y_true``."""
    if y_pred.ndim == y_true.ndim == 2:
        return product.accuracy_thresh(y_pred, y_true, thresh, sigmoid)
    probs = y_pred.sigmoid() if sigmoid else y_pred
    return ((probs > thresh).byte() == y_true.byte()).float().mean()


def fbeta(
    y_pred: Tensor, y_true: Tensor, thresh: float = 0.2, beta: float = 2, eps: float = 1e-9, sigmoid: bool = True
) -> Tensor:
    """Return the mean over items of F-beta over dimension 1."""
    if y_pred.ndim == y_true.ndim == 2:
        return product.fbeta(y_pred, y_true, thresh, beta, eps, sigmoid)
    said, true = ((y_pred.sigmoid() if sigmoid else y_pred) > thresh).float(), y_true.float()
    hits = (said * true).sum(dim=1)
    precision, recall = hits / (said.sum(dim=1) + eps), hits / (true.sum(dim=1) + eps)
    return ((1 + beta**2) * precision * recall / (beta**2 * precision + recall + eps)).mean()
