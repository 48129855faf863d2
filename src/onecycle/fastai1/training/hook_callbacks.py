"""fastai v1's callbacks that put hooks on layers while a fit runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from onecycle.fastai1.networks.hooks import Hooks
from onecycle.fastai1.torch_core import flatten_model
from onecycle.fastai1.training.protocol import LearnerCallback

__all__ = ["ActivationStats", "HookCallback"]


class HookCallback(LearnerCallback):
    """A callback whose method ``hook(layer, inputs, outputs)`` is called by layers while a fit runs.

    What it returns is in ``self.hooks.stored``, one a layer.

    Args:
        learn: the learner.
        modules: the layers; None for every layer with weights of its own.
        do_remove: end the hooks after the fit.
    """

    def __init__(self, learn: Any, modules: Iterable[nn.Module] | None = None, do_remove: bool = True) -> None:
        super().__init__(learn)
        self.modules, self.do_remove = modules, do_remove
        self.hooks: Hooks | None = None

    def hook(self, m: nn.Module, i: Any, o: Any) -> Any:
        """Say what is kept of a layer's inputs and outputs; a subclass does."""
        raise NotImplementedError(f"{type(self).__name__} needs a method hook(self, m, i, o)")

    def on_train_begin(self, **state: Any) -> Any:
        """Put the hooks on."""
        if self.modules is None:
            self.modules = [m for m in flatten_model(self.learn.model) if hasattr(m, "weight")]
        self.hooks = Hooks(self.modules, self.hook)

    def on_train_end(self, **state: Any) -> Any:
        """Take them off."""
        if self.do_remove:
            self.remove()

    def remove(self) -> None:
        """End the hooks."""
        if self.hooks is not None:
            self.hooks.remove()


class ActivationStats(HookCallback):
    """Keep mean and standard deviation of what layers give, of each training batch.

    ``stats`` is, after a fit, float (2, layers, batches): means, then standard deviations.
    """

    stats: Any = None

    def on_train_begin(self, **state: Any) -> Any:
        """Start without numbers."""
        super().on_train_begin(**state)
        self.stats = []

    def hook(self, m: nn.Module, i: Any, o: Any) -> tuple[Tensor, Tensor]:
        """Measure one layer."""
        return o.mean().cpu(), o.std().cpu()

    def on_batch_end(self, train: bool = True, **state: Any) -> Any:
        """Keep the numbers of a training batch."""
        if train and self.hooks is not None:
            self.stats.append(self.hooks.stored)

    def on_train_end(self, **state: Any) -> Any:
        """Put them into one tensor."""
        super().on_train_end(**state)
        if self.stats:
            self.stats = torch.tensor(self.stats).permute(2, 1, 0)
