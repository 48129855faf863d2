"""Things that go to the device with the model."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn


def loss_on(loss_func: Any, device: torch.device) -> Any:
    """Return a loss whose weights lie on a device.

    Args:
        loss_func: a module, which is moved as ``model.to()`` moves a model; a ``functools.partial``, of which a copy is
            returned; or any other callable, which stays as it is.
        device: where the logits are.
    """
    if isinstance(loss_func, nn.Module):
        tensors = (*loss_func.parameters(), *loss_func.buffers())
        return loss_func if all(t.device == device for t in tensors) else loss_func.to(device)
    if isinstance(loss_func, functools.partial):
        away = {k: v for k, v in loss_func.keywords.items() if isinstance(v, Tensor) and v.device != device}
        return functools.partial(loss_func, **{k: v.to(device) for k, v in away.items()}) if away else loss_func
    return loss_func
