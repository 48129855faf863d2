"""Scores of predicted numbers, over the whole validation set at once; the names are fastai v1's.

Outputs ``(N, 1)`` or ``(N, k)`` and numbers of as many elements are compared element by element; each score is a 0-d
float32 tensor. Which is a class in v1 (``RMSE()``) gives what the function of its name gives.
"""

from __future__ import annotations

from torch import Tensor

from onecycle.train.regression.loss import same_length


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of the squared differences."""
    pred, true = same_length("mean_squared_error", outputs, targets)
    return (pred - true).pow(2).mean()


def mean_absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of the absolute differences."""
    pred, true = same_length("mean_absolute_error", outputs, targets)
    return (pred - true).abs().mean()


def root_mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the root of ``mean_squared_error``."""
    return mean_squared_error(outputs, targets).sqrt()


def mean_squared_logarithmic_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return ``mean_squared_error`` of log(1 + x); NaN where an x is below −1."""
    pred, true = same_length("mean_squared_logarithmic_error", outputs, targets)
    return mean_squared_error(pred.log1p(), true.log1p())


def exp_rmspe(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the root of the mean squared relative error of exp(x): for numbers whose logarithm is learned."""
    pred, true = same_length("exp_rmspe", outputs, targets)
    return ((true.exp() - pred.exp()) / true.exp()).pow(2).mean().sqrt()


def explained_variance(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1 − (variance of the differences) / (variance of the numbers)."""
    pred, true = same_length("explained_variance", outputs, targets)
    return 1 - (true - pred).var() / true.var()


def r2_score(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1 − (sum of squared differences) / (sum of squared deviations of the numbers from their mean)."""
    pred, true = same_length("r2_score", outputs, targets)
    return 1 - (true - pred).pow(2).sum() / (true - true.mean()).pow(2).sum()


mse, mae = mean_squared_error, mean_absolute_error
rmse, msle = root_mean_squared_error, mean_squared_logarithmic_error


class RMSE:
    """``root_mean_squared_error`` as an object."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return root_mean_squared_error(outputs, targets)


class ExpRMSPE:
    """``exp_rmspe`` as an object."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return exp_rmspe(outputs, targets)


class R2Score:
    """``r2_score`` as an object."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return r2_score(outputs, targets)


class ExplainedVariance:
    """``explained_variance`` as an object."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return explained_variance(outputs, targets)
