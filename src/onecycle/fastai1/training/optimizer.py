"""fastai v1's view of an optimizer: ``learn.opt.lr``, ``.mom``, ``.beta``, ``.wd`` and torch's own in ``.opt``."""

from __future__ import annotations

from typing import Any

from torch import optim

from onecycle.errors import ArgumentError
from onecycle.train.optimizer import Optimizer

__all__ = ["OptimWrapper"]


class OptimWrapper:
    """An optimizer as v1 showed it; every other name is onecycle's or torch's.

    Args:
        optimizer: onecycle's.
    """

    optimizer: Optimizer

    def __init__(self, optimizer: Optimizer) -> None:
        self.__dict__["optimizer"] = optimizer

    @property
    def opt(self) -> optim.Optimizer:
        """torch's optimizer."""
        return self.optimizer.torch

    @property
    def lr(self) -> float:
        """The learning rate of the last layer group."""
        return float(self.optimizer.lrs[-1])

    @property
    def mom(self) -> float | None:
        """The momentum, or Adam's first beta."""
        return self.optimizer.mom

    @property
    def beta(self) -> float | None:
        """Adam's second beta, or RMSprop's alpha; None for others."""
        group = self.opt.param_groups[-1]
        return group["betas"][1] if "betas" in group else group.get("alpha")

    @property
    def wd(self) -> float:
        """The weight decay."""
        return float(self.optimizer.wd)

    def __getattr__(self, name: str) -> Any:
        optimizer = self.optimizer
        return getattr(optimizer, name) if hasattr(optimizer, name) else getattr(optimizer.torch, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("lr", "mom", "beta"):
            raise ArgumentError(
                f"opt.{name} cannot be set here: each step takes it from the schedule of the fit; use fit(epochs, lr), "
                "ReduceLROnPlateauCallback or a GeneralScheduler"
            )
        setattr(self.optimizer, name, value)

    def __repr__(self) -> str:
        return f"OptimWrapper over {self.opt!r}"
