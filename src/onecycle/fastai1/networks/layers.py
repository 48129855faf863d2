"""fastai v1's building blocks of networks, with v1's order of layers, so that its state-dict keys fit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm, weight_norm

__all__ = [
    "BatchNorm1dFlat", "Debugger", "Lambda", "MergeLayer", "Module", "NormType",
    "PartialLayer", "PoolFlatten", "ResizeBatch", "SelfAttention", "SequentialEx", "View", "batchnorm_2d",
    "bn_drop_lin", "conv2d", "conv_layer", "embedding", "init_default", "relu", "res_block", "sigmoid_range",
    "simple_cnn", "trunc_normal_",
]  # fmt: skip

from onecycle.model.heads import Flatten

Init = Callable[[Tensor], object]


class Module(nn.Module):
    """An ``nn.Module`` whose subclasses need not call ``super().__init__()``."""

    def __new__(cls, *_: Any, **__: Any) -> Module:
        made = super().__new__(cls)
        nn.Module.__init__(made)
        return made

    def __init__(self) -> None:
        """Leave what ``__new__`` made."""


class Lambda(Module):
    """Call a function."""

    def __init__(self, func: Callable[[Tensor], Tensor]) -> None:
        self.func = func

    def forward(self, x: Tensor) -> Tensor:
        return self.func(x)


class PartialLayer(Module):
    """Call a function with some keywords."""

    def __init__(self, func: Callable[..., Tensor], **options: Any) -> None:
        self.repr, self.func = f"{func}({options})", functools.partial(func, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.func(x)

    def __repr__(self) -> str:
        return self.repr


class View(Module):
    """Reshape to a size."""

    def __init__(self, *size: int) -> None:
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.view(self.size)


class ResizeBatch(Module):
    """Reshape every item to a size."""

    def __init__(self, *size: int) -> None:
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.view((x.size(0), *self.size))


class Debugger(Module):
    """Stop in the debugger when a batch passes."""

    def forward(self, x: Tensor) -> Tensor:
        breakpoint()
        return x


def PoolFlatten() -> nn.Sequential:
    """Mean over the pixels, then one row a picture."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), Flatten())


NormType = Enum("NormType", "Batch BatchZero Weight Spectral")


def batchnorm_2d(nf: int, norm_type: Any = NormType.Batch) -> nn.BatchNorm2d:
    """Return a batch-norm with a bias of 0.001 and a weight of 1, or of 0 for ``NormType.BatchZero``."""
    norm = nn.BatchNorm2d(nf)
    with torch.no_grad():
        norm.bias.fill_(1e-3)
        norm.weight.fill_(0.0 if norm_type == NormType.BatchZero else 1.0)
    return norm


class BatchNorm1dFlat(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` over the last dimension, whatever stands before it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(-1, x.shape[-1])).view(x.shape)


def bn_drop_lin(
    n_in: int, n_out: int, bn: bool = True, p: float = 0.0, actn: nn.Module | None = None
) -> list[nn.Module]:
    """List batch-norm, dropout (where ``p`` is not 0, as in v1), linear and an optional activation."""
    layers: list[nn.Module] = [nn.BatchNorm1d(n_in)] if bn else []
    layers += [nn.Dropout(p)] if p else []
    return [*layers, nn.Linear(n_in, n_out), *([] if actn is None else [actn])]


def init_default(m: nn.Module, func: Init | None = nn.init.kaiming_normal_) -> nn.Module:
    """Fill the weight of a layer with ``func`` and zero its bias; returns the layer."""
    weight, bias = getattr(m, "weight", None), getattr(m, "bias", None)
    if func is not None and isinstance(weight, Tensor):
        func(weight)
    if isinstance(bias, Tensor):
        bias.data.zero_()
    return m


def relu(inplace: bool = False, leaky: float | None = None) -> nn.Module:
    """Return a ReLU, or a leaky one with this slope."""
    return nn.ReLU(inplace=inplace) if leaky is None else nn.LeakyReLU(inplace=inplace, negative_slope=leaky)


def conv2d(
    ni: int, nf: int, ks: int = 3, stride: int = 1, padding: int | None = None, bias: bool = False,
    init: Init = nn.init.kaiming_normal_,
) -> nn.Module:  # fmt: skip
    """Return a convolution with weights drawn by ``init``; the padding is ``ks // 2`` unless said."""
    pad = ks // 2 if padding is None else padding
    return init_default(nn.Conv2d(ni, nf, kernel_size=ks, stride=stride, padding=pad, bias=bias), init)


def conv_layer(
    ni: int, nf: int, ks: int = 3, stride: int = 1, padding: int | None = None, bias: bool | None = None,
    is_1d: bool = False, norm_type: Any = NormType.Batch, use_activ: bool = True, leaky: float | None = None,
    transpose: bool = False, init: Init = nn.init.kaiming_normal_, self_attention: bool = False,
) -> nn.Sequential:  # fmt: skip
    """Return convolution, ReLU and batch-norm, in this order; arguments as in v1."""
    norm = norm_type in (NormType.Batch, NormType.BatchZero)
    pad = padding if padding is not None else 0 if transpose else (ks - 1) // 2
    kind: Any = nn.ConvTranspose2d if transpose else nn.Conv1d if is_1d else nn.Conv2d
    conv = kind(ni, nf, kernel_size=ks, stride=stride, padding=pad, bias=not norm if bias is None else bias)
    init_default(conv, init)
    if norm_type in (NormType.Weight, NormType.Spectral):
        conv = (weight_norm if norm_type == NormType.Weight else spectral_norm)(conv)
    layers: list[nn.Module] = [conv, *([relu(True, leaky=leaky)] if use_activ else [])]
    layers += [(nn.BatchNorm1d if is_1d else nn.BatchNorm2d)(nf)] if norm else []
    return nn.Sequential(*layers, *([SelfAttention(nf)] if self_attention else []))


class SelfAttention(Module):
    """Attention of every place to every other, as in SAGAN; ``gamma`` starts at 0, so that it begins as nothing.

    Source: Zhang et al. 2018, "Self-attention generative adversarial networks" (arXiv:1805.08318).
    """

    def __init__(self, n_channels: int) -> None:
        def conv(n_out: int) -> nn.Module:
            made = nn.Conv1d(n_channels, n_out, 1, bias=False)
            nn.init.kaiming_normal_(made.weight)
            return cast("nn.Module", spectral_norm(made))

        self.query, self.key, self.value = conv(n_channels // 8), conv(n_channels // 8), conv(n_channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        weights = torch.bmm(self.query(flat).transpose(1, 2), self.key(flat)).softmax(dim=1)
        return (self.gamma * torch.bmm(self.value(flat), weights) + flat).view(x.shape)


class SequentialEx(Module):
    """Layers in turn; each of them finds the block's input as ``x.orig``."""

    def __init__(self, *layers: nn.Module) -> None:
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in self.layers:
            out.orig = x  # type: ignore[attr-defined]
            after = layer(out)
            out.orig = None  # type: ignore[attr-defined]  # so that no memory hangs on it
            out = after
        return out

    def __getitem__(self, i: int) -> nn.Module:
        return self.layers[i]

    def append(self, layer: nn.Module) -> None:
        """Add a layer."""
        self.layers.append(layer)

    def extend(self, layers: Sequence[nn.Module]) -> None:
        """Add layers."""
        self.layers.extend(layers)

    def insert(self, i: int, layer: nn.Module) -> None:
        """Add a layer before number ``i``."""
        self.layers.insert(i, layer)


class MergeLayer(Module):
    """Add the block's input, or with ``dense`` put it beside, by channels."""

    def __init__(self, dense: bool = False) -> None:
        self.dense = dense

    def forward(self, x: Any) -> Tensor:
        return torch.cat([x, x.orig], dim=1) if self.dense else x + x.orig


def res_block(
    nf: int, dense: bool = False, norm_type: Any = NormType.Batch, bottle: bool = False, **conv_options: Any
) -> SequentialEx:
    """Return a residual block of two ``conv_layer``s; ``conv_options`` go to both."""
    second = NormType.BatchZero if not dense and norm_type == NormType.Batch else norm_type
    inner = nf // 2 if bottle else nf
    return SequentialEx(
        conv_layer(nf, inner, norm_type=norm_type, **conv_options),
        conv_layer(inner, nf, norm_type=second, **conv_options),
        MergeLayer(dense),
    )


def simple_cnn(
    actns: Sequence[int],
    kernel_szs: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    bn: bool = False,
) -> nn.Sequential:
    """Return ``conv_layer``s from ``actns[0]`` channels to ``actns[-1]``, then ``PoolFlatten``.

    Args:
        actns: channels, from the picture's to the classes.
        kernel_szs, strides: one a layer; 3 and 2.
        bn: batch-norm after all layers but the last.
    """
    n = len(actns) - 1
    sizes, steps = kernel_szs or [3] * n, strides or [2] * n
    layers = [
        conv_layer(actns[i], actns[i + 1], sizes[i], steps[i], norm_type=NormType.Batch if bn and i < n - 1 else None)
        for i in range(n)
    ]
    return nn.Sequential(*layers, PoolFlatten())


def sigmoid_range(x: Tensor, low: float, high: float) -> Tensor:
    """Return ``low + (high − low) · sigmoid(x)``."""
    return x.sigmoid() * (high - low) + low


def trunc_normal_(x: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fill ``x`` with normal numbers whose distance from the mean is below two deviations."""
    return x.normal_().fmod_(2).mul_(std).add_(mean)


def embedding(ni: int, nf: int) -> nn.Embedding:
    """Return an embedding with small weights."""
    made = nn.Embedding(ni, nf)
    with torch.no_grad():
        trunc_normal_(made.weight, std=0.01)
    return made
