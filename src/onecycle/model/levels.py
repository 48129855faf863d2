"""Reading a body at several depths: the maps of its stages, and a linear head on their means and deviations.

Early stages know colour and texture, late ones things; a head on the last map alone sees neither the first nor how
much a map varies over the picture. The layers are plain operations and can be trained, exported and saved:

    0 mean and deviation of each channel of each map, 1 signed square root, 2 norm by training statistics, 3 linear

Source: Hariharan et al. 2015, "Hypercolumns for object segmentation and fine-grained localization" (several depths);
Perronnin et al. 2010, "Improving the Fisher kernel for large-scale image classification" (signed square root).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from onecycle.errors import ArgumentError
from onecycle.model.backbones import TimmBody
from onecycle.model.tag_sets import TagSets
from onecycle.train.evaluate import eval_mode

MOST_LEVELS = 6
"""Levels that are read; of more the last ones, of a transformer's blocks (all of one size) every second or third."""

PROBE_PX = 224
"""Side of the picture with which a body of any input size is looked at; the answer is the same whatever the data's."""

ROOT_EPS = 1e-4
"""Keeps the gradient of the square root finite at 0, where ReLU leaves many means."""

Levels = Literal["auto"] | int | None
"""How many maps the head reads: all stages', the last so many, or (None) the last alone, by fastai v1's head."""


class BodyLevels(nn.Module):
    """A body that gives the maps of several of its stages, first to last.

    Args:
        body: from (N, C, H, W) to (N, nf, h, w).
        at: which maps: positions among the layers of a chain, or among timm's intermediate maps.
        with_last: whether the body's own output comes after them.
    """

    def __init__(self, body: nn.Module, at: Sequence[int], *, with_last: bool) -> None:
        super().__init__()
        self.body, self.at, self.with_last = body, tuple(at), with_last

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps, each (N, C, h, w)."""
        if not self.at:
            return [self.body(x)]
        if isinstance(self.body, TimmBody):
            last, maps = self.body.intermediates(x, self.at)
            return [*maps, last] if self.with_last else maps
        maps = []
        for i, layer in enumerate(_chain(self.body)):
            x = layer(x)
            if i in self.at:
                maps.append(x)
        return maps


def read_levels(body: nn.Module, levels: Levels = "auto") -> tuple[BodyLevels, list[int]]:
    """Find the stages of a body, and return what gives their maps, and the channels of each.

    A chain of layers (fastai v1's networks) has a stage for each resolution; timm's others say themselves what
    theirs are. A body of which nothing is known gives its last map alone.

    Args:
        body: as ``build_body`` made it.
        levels: ``auto`` for all stages, or how many, counted from the last.

    Raises:
        ArgumentError: neither ``auto`` nor a number of 1 or more.
    """
    if levels != "auto" and (isinstance(levels, bool) or not isinstance(levels, int) or levels < 1):
        raise ArgumentError(f"levels is 'auto', None or the number of stages that the head reads; received {levels!r}")
    most = MOST_LEVELS if levels == "auto" else levels
    device = next((p.device for p in body.parameters()), torch.device("cpu"))
    x = torch.rand(1, *_input_shape(body), generator=torch.Generator().manual_seed(0)).to(device)
    with eval_mode(body), torch.no_grad():
        made = _of_timm(body, x, most) if isinstance(body, TimmBody) else _of_chain(body, x, most)
        return made, [int(level.shape[1]) for level in made(x)]


def _input_shape(body: nn.Module) -> tuple[int, int, int]:
    first = next((p for p in body.parameters() if p.ndim == 4), None)
    channels = 3 if first is None else int(first.shape[1])
    cfg: Any = getattr(getattr(body, "net", None), "pretrained_cfg", None) or {}
    size = cfg.get("input_size") or (3, PROBE_PX, PROBE_PX)
    return channels, int(size[1]), int(size[2])


def _of_chain(body: nn.Module, x: Tensor, most: int) -> BodyLevels:
    """Take the last map of each resolution."""
    sizes = []
    for layer in _chain(body):
        x = layer(x)
        sizes.append(tuple(x.shape[2:]))
    ends = [i for i, (size, after) in enumerate(pairwise([*sizes, None])) if size != after]
    return BodyLevels(body, ends[-most:], with_last=False)


def _chain(body: nn.Module) -> Iterator[nn.Module]:
    """Give the layers that a picture passes through in turn; nested sequences are taken apart."""
    for layer in body.children() if isinstance(body, nn.Sequential) else [body]:
        if type(layer) is nn.Sequential and len(layer):
            yield from _chain(layer)
        else:
            yield layer


def _of_timm(body: TimmBody, x: Tensor, most: int) -> BodyLevels:
    try:
        last, maps = body.intermediates(x, None)
    except (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return BodyLevels(body, (), with_last=False)  # a family that does not give them
    with_last = last.shape != maps[-1].shape or not torch.allclose(last, maps[-1], atol=1e-5)
    n = min(most - with_last, len(maps))
    at = list(range(len(maps) - n, len(maps)))
    if len({tuple(m.shape[2:]) for m in maps}) == 1:  # blocks of one size: from all over the network
        at = [round((i + 1) * len(maps) / n) - 1 for i in range(n)]
    return BodyLevels(body, at, with_last=with_last)


# --- the head -------------------------------------------------------------------------------------


class LevelPool(nn.Module):
    """Mean and standard deviation of each channel of each map: (N, Cᵢ, hᵢ, wᵢ) each to (N, 2·ΣCᵢ)."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the pooled values: of each map first its means, then its deviations; float32."""
        pooled = []
        for level in maps:
            values = level.float()
            mean = values.mean((2, 3))
            # In one pass more; torch's own var is ten times as slow on maps that lie channels last.
            variance = (values.square().mean((2, 3)) - mean.square()).clamp(min=0)
            pooled += [mean, (variance + 1e-8).sqrt()]
        return torch.cat(pooled, dim=1)


class SignedRoot(nn.Module):
    """x / √(|x| + ε): the square root with the sign of x, which brings long tails in."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the roots, of the shape of ``x``."""
        return x / (x.abs() + ROOT_EPS).sqrt()


class LevelNorm(nn.BatchNorm1d):
    """Each value by its training mean and deviation, then each level times d^(−1/4), d its number of values.

    So all levels have a say, and those of more values a little more. It is a batch-norm without weights; once
    ``set_statistics`` has seen the training part, its statistics stand still, in training too.

    Args:
        sizes: values of each level.
    """

    level_weights: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(sum(sizes), affine=False)
        weights = torch.cat([torch.full((d,), d**-0.25) for d in sizes])
        self.register_buffer("level_weights", weights, persistent=False)

    def set_statistics(self, x: Tensor) -> None:
        """Take mean and variance of all training pictures' values, (N, D), for good."""
        self.running_mean.copy_(x.mean(0))
        self.running_var.copy_(x.var(0, unbiased=False))
        self.num_batches_tracked.fill_(-1)  # which is saved with them: no batch counts any more
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Go into training mode, unless the statistics stand still."""
        return super().train(mode and int(self.num_batches_tracked) >= 0)

    def forward(self, x: Tensor) -> Tensor:
        """Return the values, (N, D)."""
        return super().forward(x) * self.level_weights


def create_levels_head(channels: Sequence[int], n_classes: int, *, n_sets: int = 0) -> nn.Sequential:
    """Build the linear head on several maps.

    Args:
        channels: of each map.
        n_classes: classes or tags.
        n_sets: sets of tags that a saved head ends in; 0 for none.

    Returns:
        A module from maps (N, Cᵢ, hᵢ, wᵢ) to logits (N, n_classes); its last layer is zero, so it predicts its bias.
    """
    sizes = [2 * c for c in channels]
    last = nn.Linear(sum(sizes), n_classes)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    sets = [TagSets(n_sets, n_classes)] if n_sets else []
    return nn.Sequential(LevelPool(), SignedRoot(), LevelNorm(sizes), last, *sets)


def reads_levels(model: nn.Module) -> bool:
    """Tell whether a model is a body and a linear head on several of its maps."""
    head = list(model.children())[-1:]
    return bool(head) and isinstance(head[0], nn.Sequential) and isinstance(head[0][0], LevelPool)
