"""Small helpers of fastai v1's ``torch_core``: to tensors and back."""

from __future__ import annotations

import functools
import itertools
import os
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onecycle.data.labels.items import Category, EmptyLabel, FloatItem, MultiCategory
from onecycle.data.pixels.image import Image

__all__ = [
    "ModelOnCPU", "ParameterModule", "apply_init", "apply_leaf", "batch_to_half", "bias_types", "bn2float", "bn_types",
    "children", "children_and_parameters", "cond_init", "data_collate", "first_layer", "flatten_check", "flatten_model",
    "get_model", "get_param_groups", "grab_idx", "has_params", "init_default", "is_pool_type",
    "last_layer", "log_uniform", "logit", "logit_", "model2half", "model_type", "no_wd_types", "np2model_tensor",
    "np_address", "np_func", "num_children", "num_distrib", "one_param", "rand_bool", "range_children", "rank_distrib",
    "requires_grad", "set_all_seed", "set_bn_eval", "split_model_idx", "split_no_wd_params", "tensor", "to_cpu",
    "to_data", "to_detach", "to_device", "to_float", "to_half", "to_np", "trainable_params", "trange_of", "uniform",
    "uniform_int",
]  # fmt: skip


def tensor(value: Any, *rest: Any) -> Tensor:
    """Return a tensor of an array, a list, or the numbers given one by one; int32 becomes int64, as in v1."""
    value = (value, *rest) if rest else value
    if isinstance(value, (tuple, list)) and not value:
        return torch.tensor(0)  # as v1 gave for an empty list
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


def batch_to_half(b: Any) -> list[Any]:
    """Return a batch ``(x, y)`` with its pictures as half floats."""
    return [to_half(b[0]), b[1]]


def trange_of(x: Any) -> Tensor:
    """Return the positions of a sequence as a tensor."""
    return torch.arange(len(x))


def model_type(dtype: Any) -> torch.dtype | None:
    """Return torch's float32 or int64 for a floating or whole numpy type; None for any other."""
    if np.issubdtype(dtype, np.floating):
        return torch.float32
    return torch.int64 if np.issubdtype(dtype, np.integer) else None


def np2model_tensor(a: np.ndarray) -> Tensor:
    """Return an array as a tensor of float32 or int64."""
    return torch.as_tensor(a).to(model_type(a.dtype))


def np_address(x: np.ndarray) -> int:
    """Return where an array's numbers are in memory."""
    address: int = x.__array_interface__["data"][0]
    return address


def np_func(f: Callable[..., Any]) -> Callable[..., Tensor]:
    """Return a function of arrays as a function of tensors."""

    @functools.wraps(f)
    def of_tensors(*args: Any, **options: Any) -> Tensor:
        return tensor(f(*(to_np(a) if isinstance(a, Tensor) else a for a in args), **options))

    return of_tensors


def flatten_check(out: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
    """Return both flattened; they must be as many."""
    flat, aim = out.reshape(-1), targ.reshape(-1)
    if len(flat) != len(aim):
        raise ValueError(f"expected output and target of one length, received {len(flat)} and {len(aim)}")
    return flat, aim


# -- networks ------------------------------------------------------------------------------------------------------

bn_types = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
no_wd_types = (*bn_types, nn.LayerNorm)
bias_types = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


def is_pool_type(layer: Any) -> bool:
    """Whether a layer is one of torch's poolings, adaptive ones, too."""
    return re.search(r"Pool[123]d$", type(layer).__name__) is not None


def children(m: nn.Module) -> list[nn.Module]:
    """Return the direct children of a module."""
    return list(m.children())


def num_children(m: nn.Module) -> int:
    """Return how many there are."""
    return len(children(m))


def range_children(m: nn.Module) -> range:
    """Return their positions."""
    return range(num_children(m))


class ParameterModule(nn.Module):
    """Holds a parameter that is in no layer, so that a list of layers has it; it gives what it is given."""

    def __init__(self, p: nn.Parameter) -> None:
        super().__init__()
        self.val = p

    def forward(self, x: Any) -> Any:
        """Return ``x``."""
        return x


def children_and_parameters(m: nn.Module) -> list[nn.Module]:
    """Return the direct children, then each parameter of the module's own as a module."""
    inside = {id(p) for child in m.children() for p in child.parameters()}
    return [*m.children(), *(ParameterModule(p) for p in m.parameters() if id(p) not in inside)]


def flatten_model(m: nn.Module) -> list[nn.Module]:
    """Return the modules without children, in order, and the parameters that are in none of them as modules."""
    if not num_children(m):
        return [m]
    return [layer for child in children_and_parameters(m) for layer in flatten_model(child)]


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


def split_no_wd_params(layer_groups: Any) -> list[list[nn.Parameter]]:
    """Return the trained parameters of each group of layers in two lists: those with decay, then biases and norms."""
    lists = []
    for layer in layer_groups:
        decayed: list[nn.Parameter] = []
        free: list[nn.Parameter] = []
        for child in layer.children():
            bias = getattr(child, "bias", None) if isinstance(child, bias_types) else None
            for p in trainable_params(child):
                (free if isinstance(child, no_wd_types) or p is bias else decayed).append(p)
        lists += [list(dict.fromkeys(decayed)), list(dict.fromkeys(free))]
    return lists


def get_param_groups(layer_groups: Any) -> list[list[nn.Parameter]]:
    """Return the trained parameters of each group of layers."""
    return [[p for child in group.children() for p in trainable_params(child)] for group in layer_groups]


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


def init_default(m: nn.Module, func: Callable[[Tensor], Any] | None = nn.init.kaiming_normal_) -> nn.Module:
    """Draw a layer's weights by ``func``, zero its bias and return it; ``None`` leaves it as it is."""
    if func is not None:
        weight, bias = getattr(m, "weight", None), getattr(m, "bias", None)
        if isinstance(weight, Tensor):
            func(weight)
        if isinstance(bias, Tensor):
            bias.data.zero_()
    return m


def cond_init(m: nn.Module, init_func: Callable[[Tensor], Any]) -> None:
    """``init_default`` of a layer that trains and is no batch-norm."""
    if not isinstance(m, bn_types) and requires_grad(m):
        init_default(m, init_func)


def model2half(model: nn.Module) -> nn.Module:
    """Make a network compute in half floats, all but its batch-norms."""
    return bn2float(model.half())


def bn2float(module: nn.Module) -> nn.Module:
    """Make the batch-norms of a network compute in float32."""
    for layer in module.modules():
        if isinstance(layer, bn_types):
            layer.float()
    return module


class ModelOnCPU:
    """A network on the CPU for a while; afterwards it is where it was."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> nn.Module:
        self.device = one_param(self.model).device
        return self.model.cpu()

    def __exit__(self, *_: object) -> None:
        self.model.to(self.device)


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
    """Return how many processes torchrun started: 0 where it is one alone."""
    return int(os.environ.get("WORLD_SIZE", 0))


def rank_distrib() -> int:
    """Return the number of this process among them."""
    return int(os.environ.get("RANK", 0))
