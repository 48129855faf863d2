"""Small helpers of fastai v1's ``torch_core``: to tensors and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onecycle.data.labels.items import Category, MultiCategory
from onecycle.data.pixels.image import Image

__all__ = ["tensor", "to_cpu", "to_data", "to_detach", "to_np"]


def tensor(value: Any, *rest: Any) -> Tensor:
    """Return a tensor of an array, a list, or the numbers given one by one; int32 becomes int64, as in v1."""
    value = (value, *rest) if rest else value
    made = torch.tensor(value) if isinstance(value, (tuple, list)) else torch.as_tensor(value)
    return made.long() if made.dtype == torch.int32 else made


def _each(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply ``function`` to what tuples, lists and dicts hold, however deep."""
    if isinstance(value, (tuple, list)):
        return [_each(function, v) for v in value]
    if isinstance(value, dict):
        return {k: _each(function, v) for k, v in value.items()}
    return function(value)


def to_data(value: Any) -> Any:
    """Return the data of items (a picture's tensor, a label's class number), in lists and dicts, too."""
    return _each(lambda v: v.data if isinstance(v, (Image, Category, MultiCategory)) else v, value)


def to_detach(value: Any, cpu: bool = True) -> Any:
    """Return tensors without their history, on the CPU unless told otherwise."""
    on_device = to_cpu(value) if cpu else value
    return _each(lambda v: v.detach() if isinstance(v, Tensor) else v, on_device)


def to_cpu(value: Any) -> Any:
    """Return tensors on the CPU."""
    return _each(lambda v: v.cpu() if isinstance(v, Tensor) else v, value)


def to_np(value: Tensor) -> np.ndarray:
    """Return a tensor as a numpy array."""
    return value.detach().cpu().numpy()
