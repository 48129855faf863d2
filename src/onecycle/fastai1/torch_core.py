"""Small helpers of fastai v1's ``torch_core``: to tensors and back."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onecycle.data.labels.items import Category, EmptyLabel, FloatItem, MultiCategory
from onecycle.data.pixels.image import Image

__all__ = [
    "apply_init", "apply_leaf", "bn_types", "children", "data_collate", "first_layer", "flatten_check", "flatten_model",
    "get_model", "grab_idx", "has_params", "last_layer", "log_uniform", "logit", "logit_", "num_children",
    "num_distrib", "one_param", "rand_bool", "rank_distrib", "requires_grad", "set_all_seed", "set_bn_eval",
    "split_model_idx", "tensor", "to_cpu", "to_data", "to_detach", "to_device", "to_float", "to_half", "to_np",
    "trainable_params", "uniform", "uniform_int",
]  # fmt: skip


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
    return _each(
        lambda v: v.data if isinstance(v, (Image, Category, MultiCategory, EmptyLabel, FloatItem)) else v, value
    )


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


def to_device(value: Any, device: Any) -> Any:
    """Return tensors on a device."""
    return _each(lambda v: v.to(device) if isinstance(v, Tensor) else v, value)


def to_half(value: Any) -> Any:
    """Return floating tensors as half floats."""
    return _each(lambda v: v.half() if isinstance(v, Tensor) and v.is_floating_point() else v, value)


def to_float(value: Any) -> Any:
    """Return floating tensors as float32."""
    return _each(lambda v: v.float() if isinstance(v, Tensor) and v.is_floating_point() else v, value)


def grab_idx(x: Any, i: int, batch_first: bool = True) -> Any:
    """Return item ``i`` of a batch, on the CPU."""
    return _each(lambda v: v[i].cpu() if batch_first else v[:, i].cpu(), x)


def data_collate(batch: Any) -> Any:
    """Return items as a batch."""
    return torch.utils.data.default_collate(to_data(batch))


def flatten_check(out: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
    """Return both flattened; they must be as many."""
    flat, aim = out.reshape(-1), targ.reshape(-1)
    if len(flat) != len(aim):
        raise ValueError(f"expected output and target of one length, received {len(flat)} and {len(aim)}")
    return flat, aim


# -- networks ------------------------------------------------------------------------------------------------------

bn_types = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def children(m: nn.Module) -> list[nn.Module]:
    """Return the direct children of a module."""
    return list(m.children())


def num_children(m: nn.Module) -> int:
    """Return how many there are."""
    return len(children(m))


def flatten_model(m: nn.Module) -> list[nn.Module]:
    """Return the modules without children, in order."""
    return [part for part in m.modules() if not children(part)]


def first_layer(m: nn.Module) -> nn.Module:
    """Return the first of ``flatten_model``."""
    return flatten_model(m)[0]


def last_layer(m: nn.Module) -> nn.Module:
    """Return the last of ``flatten_model``."""
    return flatten_model(m)[-1]


def split_model_idx(model: nn.Module, idxs: Any) -> list[nn.Sequential]:
    """Split the layers of ``flatten_model`` at positions."""
    layers = flatten_model(model)
    ends = sorted({0, *idxs, len(layers)})
    return [nn.Sequential(*layers[i:j]) for i, j in itertools.pairwise(ends)]


def has_params(m: nn.Module) -> bool:
    """Whether a module has parameters."""
    return any(True for _ in m.parameters())


def one_param(m: nn.Module) -> nn.Parameter:
    """Return the first parameter."""
    return next(iter(m.parameters()))


def trainable_params(m: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that train."""
    return [p for p in m.parameters() if p.requires_grad]


def requires_grad(m: nn.Module, b: bool | None = None) -> bool | None:
    """Say whether the first parameter trains or, with ``b``, set that for all."""
    if b is None:
        return next((p.requires_grad for p in m.parameters()), None)
    for p in m.parameters():
        p.requires_grad_(b)
    return None


def apply_leaf(m: nn.Module, f: Callable[[nn.Module], Any]) -> None:
    """Call a function on a module and all below it."""
    for part in m.modules():
        f(part)


def apply_init(m: nn.Module, init_func: Callable[[Tensor], Any]) -> None:
    """Draw the weights of all layers but batch-norms by ``init_func``, and zero their biases."""
    for part in m.modules():
        weight, bias = part._parameters.get("weight"), part._parameters.get("bias")
        if isinstance(part, bn_types) or weight is None or weight.ndim < 2 or not weight.requires_grad:
            continue
        init_func(weight)
        if bias is not None:
            bias.data.zero_()


def set_bn_eval(m: nn.Module) -> None:
    """Put batch-norms whose parameters do not train into evaluation mode."""
    for part in m.modules():
        if isinstance(part, bn_types) and not requires_grad(part):
            part.eval()


def get_model(model: nn.Module) -> nn.Module:
    """Return a network without what runs it on several devices."""
    return model.module if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)) else model


# -- draws ---------------------------------------------------------------------------------------------------------


def set_all_seed(seed: int) -> None:
    """Seed Python's, numpy's and PyTorch's generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def uniform(low: float, high: float | None = None, size: Any = None) -> Any:
    """Draw between ``low`` and ``high``; one number is itself."""
    ends = (low, low if high is None else high)
    return random.uniform(*ends) if size is None else torch.empty(size).uniform_(*ends)


def log_uniform(low: float, high: float | None = None, size: Any = None) -> Any:
    """Draw between two numbers, each factor alike; one number is itself."""
    drawn = uniform(float(np.log(low)), None if high is None else float(np.log(high)), size)
    return float(np.exp(drawn)) if size is None else drawn.exp_()


def rand_bool(p: float, size: Any = None) -> Any:
    """Draw whether, with probability ``p``."""
    return uniform(0, 1, size) < p


def uniform_int(low: int, high: int | None = None, size: Any = None) -> Any:
    """Draw a whole number from ``low`` to ``high``, both included; one number is itself."""
    last = low if high is None else high
    return random.randint(low, last) if size is None else torch.randint(low, last + 1, size)


def logit(x: Tensor) -> Tensor:
    """Return log(x / (1 − x)), x kept away from 0 and 1."""
    kept = x.clamp(1e-7, 1 - 1e-7)
    return -(1 / kept - 1).log()


def logit_(x: Tensor) -> Tensor:
    """``logit`` in place."""
    return x.copy_(logit(x))


def num_distrib() -> int:
    """Return how many processes train together: 0 where it is one alone."""
    return 0


def rank_distrib() -> int:
    """Return the number of this process among them."""
    return 0
