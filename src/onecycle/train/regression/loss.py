"""The loss of numbers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from onecycle.errors import ArgumentError


class MSELossFlat(nn.MSELoss):
    """Mean squared error of as many outputs as numbers: ``(N, 1)`` against ``(N,)``, or ``(N, k)`` against ``(N, k)``.

    Args:
        reduction: 'mean', 'sum' or 'none', which gives one of the targets' shape.

    Raises:
        ArgumentError: when called, outputs that are not as many as the numbers.
    """

    activation = "identity"

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss: 0-d, or with reduction 'none' of the targets' shape."""
        flat, numbers = same_length("MSELossFlat", outputs, targets)
        loss = F.mse_loss(flat, numbers, reduction=self.reduction)
        return loss.view(targets.shape) if loss.ndim else loss


def same_length(name: Any, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs and targets as float rows of one length.

    Raises:
        ArgumentError: they are not as many.
    """
    flat, numbers = outputs.float().reshape(-1), targets.float().reshape(-1)
    if len(flat) != len(numbers):
        raise ArgumentError(
            f"{name} compares as many outputs as numbers, received {tuple(outputs.shape)} and {tuple(targets.shape)}"
        )
    return flat, numbers
