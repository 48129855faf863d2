"""Reading a body at several depths: the maps of its stages, and a linear head on their means and deviations.

Early stages know colour and texture, late ones things; a head on the last map alone sees neither the first nor how
much a map varies over the picture. The layers are plain operations and can be trained, exported and saved:

    0 mean and deviation of each channel of each map, 1 signed square root, 2 norm by training statistics, 3 linear

Where mirrored pictures are the same to the user, predictions are made from the mean over a picture's mirrored views.
On inner folds of five Planet splits' training parts (solved head, 128 px, 1,000 tiles) four views at prediction alone
lowered the log loss of a tile's tags by 0.037 ± 0.011 of 2.13 and raised sample-F2 by 0.003 ± 0.002; means over all
positions of all views, before the root, brought half of that.

Source: Hariharan et al. 2015, "Hypercolumns for object segmentation and fine-grained localization" (several depths);
Perronnin et al. 2010, "Improving the Fisher kernel for large-scale image classification" (signed square root).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onecycle.errors import ArgumentError
from onecycle.model.backbones import TimmBody, in_channels
from onecycle.model.tag_sets import TagSets
from onecycle.train.evaluate import eval_mode

MOST_LEVELS = 6
"""Levels that are read; of more the last ones, of a transformer's blocks (all of one size) every second or third."""

PROBE_PX = 224
"""Side of the picture with which a body of any input size is looked at; the answer is the same whatever the data's."""

ROOT_EPS = 1e-4
"""Keeps the gradient of the square root finite at 0, where ReLU leaves many means."""

MIRRORED: Mapping[int, tuple[tuple[int, ...], ...]] = {1: (), 2: ((3,),), 4: ((3,), (2,), (2, 3))}
"""Views beside the plain one, as the axes of (N, C, H, W) that are turned round, by how many views a picture has."""

Levels = Literal["auto"] | int | None
"""How many maps the head reads: all stages', the last so many, or (None) the last alone, by fastai v1's head."""


class BodyLevels(nn.Module):
    """A body that gives the maps of several of its stages, first to last; in evaluation mode perhaps of several views.

    Args:
        body: from (N, C, H, W) to (N, nf, h, w).
        at: which maps: positions among the layers of a chain, or among timm's intermediate maps.
        with_last: whether the body's own output comes after them.
        views: 1, 2 (the picture and its mirror image) or 4 (both upside down, too).
    """

    def __init__(self, body: nn.Module, at: Sequence[int], *, with_last: bool, views: int = 1) -> None:
        super().__init__()
        self.body, self.at, self.with_last, self.views = body, tuple(at), with_last, views

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps, each (N, C, h, w), or (N, V, C, h, w) of V views."""
        if self.training or self.views == 1:
            return self.plain(x)
        # In turn: the first maps of a batch are large.
        each = [self.plain(x), *(self.plain(x.flip(axes)) for axes in MIRRORED[self.views])]
        return [torch.stack(level, dim=1) for level in zip(*each, strict=True)]

    def plain(self, x: Tensor) -> list[Tensor]:
        """Return the maps of the pictures as they are, each (N, C, h, w)."""
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


@contextmanager
def plain_view(model: nn.Module) -> Iterator[None]:
    """Inside, the model sees the plain view of a picture alone, in evaluation mode, too: for all that trains it."""
    bodies = [(m, m.views) for m in model.modules() if isinstance(m, BodyLevels)]
    for body, _ in bodies:
        body.views = 1
    try:
        yield
    finally:
        for body, views in bodies:
            body.views = views


def views_of(model: nn.Module) -> int:
    """Return how many views of a picture a model's predictions are made from."""
    return max((m.views for m in model.modules() if isinstance(m, BodyLevels)), default=1)


def read_levels(body: nn.Module, levels: Levels = "auto", *, views: int = 1) -> tuple[BodyLevels, list[int]]:
    """Find the stages of a body, and return what gives their maps, and the channels of each.

    A chain of layers (fastai v1's networks) has a stage for each resolution; timm's others say themselves what
    theirs are. A body of which nothing is known gives its last map alone.

    Args:
        body: as ``build_body`` made it.
        levels: ``auto`` for all stages, or how many, counted from the last.
        views: of each picture, in evaluation mode: 1, 2 or 4, see ``BodyLevels``.

    Raises:
        ArgumentError: neither ``auto`` nor a number of 1 or more; another number of views.
    """
    if views not in MIRRORED:
        raise ArgumentError(f"views is 1, 2 (mirrored left and right) or 4 (up and down, too); received {views!r}")
    if levels != "auto" and (isinstance(levels, bool) or not isinstance(levels, int) or levels < 1):
        raise ArgumentError(f"levels is 'auto', None or the number of stages that the head reads; received {levels!r}")
    most = MOST_LEVELS if levels == "auto" else levels
    x = _probe(body)
    with eval_mode(body), torch.no_grad():
        made = _of_timm(body, x, most) if isinstance(body, TimmBody) else _of_chain(body, x, most)
        channels = [int(level.shape[1]) for level in made(x)]
    made.views = views
    return made, channels


def _probe(body: nn.Module) -> Tensor:
    """Draw a picture that a body takes, on its device; always the same one."""
    device = next((p.device for p in body.parameters()), torch.device("cpu"))
    own = body.body if isinstance(body, BodyLevels) else body
    return torch.rand(1, *_input_shape(own), generator=torch.Generator().manual_seed(0)).to(device)


def _input_shape(body: nn.Module) -> tuple[int, int, int]:
    if not isinstance(body, TimmBody):
        return in_channels(body), PROBE_PX, PROBE_PX
    cfg: Any = getattr(body.net, "pretrained_cfg", None) or {}
    _, height, width = cfg.get("input_size") or (3, PROBE_PX, PROBE_PX)
    return body.in_chans, int(height), int(width)


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
    if not hasattr(body.net, "forward_intermediates"):
        return BodyLevels(body, (), with_last=False)  # a family that does not give them
    last, maps = body.intermediates(x, None)
    with_last = last.shape != maps[-1].shape or not torch.allclose(last, maps[-1], atol=1e-5)
    n = min(most - with_last, len(maps))
    at = list(range(len(maps) - n, len(maps)))
    if len({tuple(m.shape[2:]) for m in maps}) == 1:  # blocks of one size: from all over the network
        at = [round((i + 1) * len(maps) / n) - 1 for i in range(n)]
    return BodyLevels(body, at, with_last=with_last)


# --- the head -------------------------------------------------------------------------------------


class LevelPool(nn.Module):
    """Mean and standard deviation of each channel of each map: (N, Cᵢ, hᵢ, wᵢ) each to (N, 2·ΣCᵢ).

    Maps of V views, (N, V, Cᵢ, hᵢ, wᵢ), give (N, V, 2·ΣCᵢ).
    """

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the pooled values: of each map first its means, then its deviations; at least float32."""
        pooled = []
        for level in maps:
            values = level if level.dtype == torch.float64 else level.float()
            mean = values.mean((-2, -1))
            # From the differences: mean of squares less square of mean is rounding alone where a map is flat, and two
            # machines differ by 1e-3 there. torch's own var is ten times as slow on maps that lie channels last.
            variance = (values - mean[..., None, None]).square().mean((-2, -1))
            pooled += [mean, (variance + 1e-8).sqrt()]
        return torch.cat(pooled, dim=-1)


class SignedRoot(nn.Module):
    """x / √(|x| + ε): the square root with the sign of x, which brings long tails in."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the roots, of the shape of ``x``."""
        return x / (x.abs() + ROOT_EPS).sqrt()


class LevelNorm(nn.BatchNorm1d):
    """Each value by its training mean and deviation, then each level times d^(−1/4), d its number of values.

    So all levels have a say, and those of more values a little more. It is a batch-norm without weights; once
    ``set_statistics`` has seen the training part, its statistics stand still, in training too. Of several views it
    takes the mean first; what comes after it is linear, so tag scores are means over views, too.

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
        """Return the values, (N, D), for (N, D) or, of V views, (N, V, D)."""
        x = x.mean(1) if x.ndim == 3 else x
        if self.training:
            return super().forward(x) * self.level_weights
        # The same in plain operations: a batch-norm cannot be exported where tracing lost the number of values.
        return (x - self.running_mean) * ((self.running_var + self.eps).rsqrt() * self.level_weights)


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


# --- the network in two, where its layers begin to train -----------------------------------------------


class LowerStages(nn.Module):
    """The first layers of a body: one tensor of all that the layers after them and the head need of a picture.

    It is the map of the last of these layers with further channels, which hold the pooled values of the maps that the
    head reads up to there (Lite0 cut behind its third stage, 224 px: 41 channels of 28 × 28, 129 kB).

    Args:
        layers: in turn.
        at: after which of them a map is read.
    """

    def __init__(self, layers: Sequence[nn.Module], at: Sequence[int]) -> None:
        super().__init__()
        self.layers, self.at, self.pool = nn.Sequential(*layers), tuple(at), LevelPool()

    def forward(self, x: Tensor) -> Tensor:
        """Return the map and the values, (N, C + k, h, w), for pictures (N, 3, H, W)."""
        x, maps = _in_turn(self.layers, x, self.at)
        if not maps:
            return x
        values = self.pool(maps)
        n, _, height, width = x.shape
        filled = F.pad(values, (0, -values.shape[1] % (height * width)))
        return torch.cat([x.float(), filled.view(n, -1, height, width)], dim=1)


class UpperStages(nn.Module):
    """The other layers, up to the pooled values of all maps that the head reads.

    Args:
        layers: in turn.
        at: after which of them a map is read, the last among them.
        n_channels: of the map that the first of them takes, C.
        n_values: pooled values that come with it.
    """

    def __init__(self, layers: Sequence[nn.Module], at: Sequence[int], *, n_channels: int, n_values: int) -> None:
        super().__init__()
        self.layers, self.at, self.pool = nn.Sequential(*layers), tuple(at), LevelPool()
        self.n_channels, self.n_values = n_channels, n_values

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled values, (N, 2·ΣC), of what ``LowerStages`` gave."""
        values = x[:, self.n_channels :].flatten(1)[:, : self.n_values]
        _, maps = _in_turn(self.layers, x[:, : self.n_channels], self.at)
        return torch.cat([values, self.pool(maps)], dim=1)


def _in_turn(layers: nn.Sequential, x: Tensor, at: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """Return what the layers give, and the maps after some of them."""
    maps = []
    for i, layer in enumerate(layers):
        x = layer(x)
        if i in at:
            maps.append(x)
    return x, maps


def cut_where_frozen(model: nn.Module) -> nn.Module:
    """Return a model whose body ends where layers begin to train: the same function, by the same layers.

    Args:
        model: whatever it is.

    Returns:
        The model itself where its head does not read several stages, its whole body or its first layer trains or
        stands still, or its layers are not a chain. Else a body that stands still, and what trains with the head.
    """
    body = next(iter(model.children()), None)
    if not reads_levels(model) or not isinstance(body, BodyLevels) or not _trains(body):
        return model
    found = layers_in_turn(body)
    n = 0 if found is None else next(i for i, layer in enumerate(found[0]) if _trains(layer))
    if found is None or n == 0:
        return model
    layers, at = found
    lower_at, upper_at = [i for i in at if i < n], [i - n for i in at if i >= n]
    lower = LowerStages(layers[:n], lower_at)
    with eval_mode(lower), torch.no_grad():
        last, maps = _in_turn(lower.layers, _probe(body), lower_at)
    if last.ndim != 4:
        return model
    n_values = sum(2 * int(level.shape[1]) for level in maps)
    upper = UpperStages(layers[n:], upper_at, n_channels=int(last.shape[1]), n_values=n_values)
    _, *head = list(model.children())[-1].children()  # the first of them pools
    return nn.Sequential(lower, nn.Sequential(upper, *head))


def _trains(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def layers_in_turn(levels: BodyLevels) -> tuple[list[nn.Module], list[int]] | None:
    """Return the layers that, one after the other, give a body's maps, and after which of them each is read.

    Whether a body is such a chain is seen from what its layers give for a drawn picture; None where it is none.
    """
    body, x = levels.body, _probe(levels)
    children = body.net.children() if isinstance(body, TimmBody) else [body]
    layers, at = [layer for child in children for layer in _chain(child)], list[int]()
    with eval_mode(levels), torch.no_grad():
        expected = levels.plain(x)
        for i, layer in enumerate(layers):
            try:
                x = layer(x)
            except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
                return None  # it takes something else than what the one before it gives
            target = expected[len(at)]
            if isinstance(x, Tensor) and x.shape == target.shape and torch.allclose(x, target, atol=1e-5):
                at.append(i)
            if len(at) == len(expected):
                return layers[: i + 1], at
    return None
