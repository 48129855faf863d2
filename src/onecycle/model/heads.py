"""The classification head that goes on top of a backbone.

The positions of its layers are those of fastai v1, so that a saved head keeps its keys
(``1.2.*``, ``1.4.*``, ``1.6.*``, ``1.8.*`` in the whole model):

    0 concat-pool, 1 flatten, 2 batch-norm, 3 dropout, 4 linear, 5 ReLU, 6 batch-norm, 7 dropout, 8 linear
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from onecycle.errors import ArgumentError

Init = Callable[[Tensor], object]


class AdaptiveConcatPool2d(nn.Module):
    """Max-pooling and average-pooling side by side: (N, C, H, W) to (N, 2C, sz, sz), maximum first.

    Args:
        sz: Height and width of the result in cells; None means 1.
    """

    def __init__(self, sz: int | tuple[int, int] | None = None) -> None:
        super().__init__()
        self.ap, self.mp = nn.AdaptiveAvgPool2d(sz or 1), nn.AdaptiveMaxPool2d(sz or 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda and torch.are_deterministic_algorithms_enabled() and self.mp.output_size in (1, (1, 1)):
            return torch.cat([x.amax((2, 3), keepdim=True), x.mean((2, 3), keepdim=True)], dim=1)
        return torch.cat([self.mp(x), self.ap(x)], dim=1)


class Flatten(nn.Module):
    """Flatten every picture to one row: (N, …) to (N, D); with ``full`` the whole batch to (N·D,)."""

    def __init__(self, full: bool = False) -> None:
        super().__init__()
        self.full = full

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten() if self.full else x.flatten(1)


class SigmoidRange(nn.Module):
    """Bring outputs into a range: ``low + (high − low) · sigmoid(x)``.

    Args:
        low, high: ends of the range, which are reached nowhere.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        if not low < high:
            raise ArgumentError(f"the range of outputs is (low, high) with low < high; received ({low}, {high})")
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid() * (self.high - self.low) + self.low

    def extra_repr(self) -> str:
        """What is printed in the brackets."""
        return f"{self.low}, {self.high}"


def bn_drop_lin(
    n_in: int, n_out: int, *, bn: bool = True, p: float = 0.0, actn: nn.Module | None = None
) -> list[nn.Module]:
    """List the layers batch-norm, dropout, linear and an optional activation.

    The dropout layer is there even for ``p=0``: fastai v1 left it out, which moved the keys of every
    later layer, so that a head saved with one ``ps`` did not load into a head with another.

    Args:
        n_in: Features that come in.
        n_out: Features that go out.
        bn: Begin with batch-norm.
        p: Chance in [0, 1] that dropout zeroes a feature.
        actn: Activation after the linear layer.

    Returns:
        The layers in order.
    """
    norm = [nn.BatchNorm1d(n_in)] if bn else []
    return [*norm, nn.Dropout(p), nn.Linear(n_in, n_out), *([] if actn is None else [actn])]


def create_head(
    nf: int,
    nc: int,
    lin_ftrs: Sequence[int] | None = None,
    ps: float | Sequence[float] = 0.5,
    *,
    concat_pool: bool = True,
    bn_final: bool = False,
    y_range: tuple[float, float] | None = None,
) -> nn.Sequential:
    """Build the head: pooling, then blocks of batch-norm, dropout and linear, the last with ``nc`` outputs.

    Args:
        nf: Features after pooling: twice the backbone's when ``concat_pool``.
        nc: Number of classes or tags, 1 or more.
        lin_ftrs: Sizes of the hidden layers; None means one of 512.
        ps: Dropout. One number is for the last block, half of it for those before; a list gives each block's.
        concat_pool: Pool by maximum and average; otherwise by average only.
        bn_final: End with a batch-norm (momentum 0.01) over the outputs.
        y_range: End with ``SigmoidRange``, for numbers that lie in a range.

    Returns:
        A module from (N, C, H, W) to logits (N, nc).

    Raises:
        ArgumentError: ``nf`` or ``nc`` is below 1, or ``ps`` does not fit the blocks.
    """
    if nf < 1 or nc < 1:
        raise ArgumentError(f"a head needs at least one feature and one class, received nf={nf} and nc={nc}")
    sizes = [nf, *(lin_ftrs if lin_ftrs is not None else (512,)), nc]
    drops = _dropouts(ps, len(sizes) - 1)
    layers: list[nn.Module] = [AdaptiveConcatPool2d() if concat_pool else nn.AdaptiveAvgPool2d(1), Flatten()]
    for i, p in enumerate(drops):
        is_last = i == len(drops) - 1
        layers += bn_drop_lin(sizes[i], sizes[i + 1], p=p, actn=None if is_last else nn.ReLU(inplace=True))
    if bn_final:
        layers.append(nn.BatchNorm1d(nc, momentum=0.01))
    if y_range is not None:
        layers.append(SigmoidRange(*y_range))
    return nn.Sequential(*layers)


def _dropouts(ps: float | Sequence[float], n_blocks: int) -> list[float]:
    drops = [*[ps / 2] * (n_blocks - 1), ps] if isinstance(ps, int | float) else list(ps)
    if len(drops) == 1:
        drops = [*[drops[0] / 2] * (n_blocks - 1), drops[0]]
    if len(drops) != n_blocks:
        raise ArgumentError(
            f"ps must be one number or one for each of the head's {n_blocks} linear layers, received {ps!r}"
        )
    if any(not 0 <= p < 1 for p in drops):
        raise ArgumentError(f"ps must lie in [0, 1), received {ps!r}")
    return drops


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw PyTorch's random numbers on the CPU from ``seed`` inside the block, then restore the old state."""
    # torch.manual_seed would reach the generators of every GPU as well, and those are not put back.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def init_head(head: nn.Module, *, seed: int, init: Init | None = nn.init.kaiming_normal_) -> None:
    """Draw the weights of every trainable layer that is not a normalisation, and zero its bias.

    Args:
        head: Changed in place. Normalisations and weights of fewer than two dimensions stay as they are.
        seed: The draws are a function of it; the global generators are left alone.
        init: Fills a weight in place; None leaves PyTorch's own initialisation.
    """
    if init is None:
        return
    with seeded(seed):
        for layer in head.modules():
            weight, bias = layer._parameters.get("weight"), layer._parameters.get("bias")
            if weight is None or weight.dim() < 2 or not weight.requires_grad:
                continue
            init(weight)
            if bias is not None:
                nn.init.zeros_(bias)


def set_prior_bias(head: nn.Module, log_prior: Tensor) -> bool:
    """Start the outputs at the class prior, so that the first epochs need not learn the class frequencies.

    A final batch-norm subtracts whatever the linear layer before it adds; so the last layer that has a
    bias is the one that is set.

    Args:
        head: Changed in place.
        log_prior: Float (C,): log-frequency of each class, or log-odds of each tag.

    Returns:
        Whether it was set: False unless the last layer is a linear or batch-norm with a bias of C numbers.
    """
    leaves = [m for m in head.modules() if not any(True for _ in m.children())]
    last = leaves[-1] if leaves else None
    if not isinstance(last, nn.Linear | nn.BatchNorm1d) or last.bias is None or last.bias.shape != log_prior.shape:
        return False
    with torch.no_grad():
        last.bias.copy_(log_prior)
    return True
