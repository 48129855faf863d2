"""What goes to the device with the model, and what comes back from it without a wait."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

BATCHES_BEHIND = 2
"""Results that may be on their way from a GPU while it goes on with the next batches."""


class Arriving:
    """Results that come from the device behind its work: on a GPU by way of pinned memory, elsewhere at once."""

    def __init__(self) -> None:
        self._on_their_way: deque[tuple[Tensor, torch.cuda.Event, Callable[[Tensor], object]]] = deque()

    def put(self, values: Tensor, keep: Callable[[Tensor], object]) -> None:
        """Call ``keep`` with the values on the CPU, when they are there; they may be written over later."""
        if values.device.type != "cuda":
            keep(values.cpu())
            return
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        event = torch.cuda.current_stream(values.device).record_event()
        self._on_their_way.append((host, event, keep))
        self.finish(but=BATCHES_BEHIND)

    def finish(self, *, but: int = 0) -> None:
        """Wait for all but so many of the latest."""
        while len(self._on_their_way) > but:
            host, event, keep = self._on_their_way.popleft()
            event.synchronize()
            keep(host)


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
