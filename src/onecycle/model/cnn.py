"""A classifier for pictures: a backbone's body with a head on top, in layer groups that can be frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from onecycle.errors import ArgumentError
from onecycle.model.backbones import Architecture, Body, Cut, architecture, build_body
from onecycle.model.heads import Init, create_head, init_head, seeded, set_prior_bias
from onecycle.model.levels import Levels, create_levels_head, plain_view, read_levels
from onecycle.train.evaluate import eval_mode

SplitOn = nn.Module | Sequence[nn.Module] | Callable[[nn.Module], Sequence[nn.Module]]


class HeadOptions(TypedDict, total=False):
    """The keywords of a network's head and layer groups.

    lin_ftrs: widths of the head's hidden layers (default: one of 512). ps: dropout before the last layer, half of it
    before earlier ones (0.5), or one value a layer. custom_head: replaces the head, from (N, nf, h, w) to logits.
    bn_final: end the head with a batch-norm layer. concat_pool: pool by maximum and mean, both (True).
    y_range: (low, high) of predicted numbers; the head ends with a sigmoid between them.
    init: initialises the head's weights (``nn.init.kaiming_normal_``); None leaves PyTorch's own.
    split_on: modules at which a new layer group begins, or a function from the model to them.
    levels: read several stages of the network by a linear head (multi-scale features): ``auto`` for all of them, or
    how many, from the last; None for fastai v1's head on the last map. Left out: v1's head, which ``fine_tune``
    exchanges where it begins with an untrained head on a frozen network. It takes the place of the options above.
    views: with levels: how many mirrored views of a picture a prediction is made from, at so many times the cost: 1, 2
    (left and right) or 4 (up and down, too); left out: 1, or what ``fine_tune`` finds in the training transforms.
    sets: of a saved head with levels: how many sets of tags it ends in (0).
    """

    lin_ftrs: Sequence[int] | None
    ps: float | Sequence[float]
    custom_head: nn.Module | None
    split_on: SplitOn | None
    bn_final: bool
    init: Init | None
    concat_pool: bool
    y_range: tuple[float, float] | None
    levels: Levels
    views: int
    sets: int


_OF_USUAL_HEAD = ("lin_ftrs", "ps", "custom_head", "bn_final", "concat_pool", "y_range")


@dataclass(frozen=True)
class CnnModel:
    """A model ready for training, and what is known about it."""

    model: nn.Sequential  # (body, head), from (N, 3, H, W) to logits (N, n_classes); nothing is frozen
    layer_groups: list[nn.ModuleList]  # the leaf modules from input to output; the last group is the head
    body: Body  # with its statistics and what its weights are
    arch: Architecture


def create_cnn_model(
    arch: str | Architecture | Callable[[bool], nn.Module],
    n_classes: int,
    *,
    cut: Cut | None = None,
    pretrained: bool | str | Path = True,
    seed: int = 0,
    log_prior: Tensor | None = None,
    **options: Unpack[HeadOptions],
) -> CnnModel:
    """Put a new head on a backbone.

    Args:
        arch: Name, ``models.<name>`` or function, as for ``architecture``.
        n_classes: Outputs: classes or tags.
        cut: Where to cut the network, as for ``build_body``.
        pretrained: True for the published weights, False for random ones, or a file or folder of weights.
        seed: Random weights are a function of it; the global generators are left alone.
        log_prior: Float (n_classes,): start of the last bias, as for ``set_prior_bias``.
        options: Of the head; see ``HeadOptions``.

    Raises:
        ArgumentError: An argument cannot work.
        WeightsError: The pretrained weights are missing or do not fit.
    """
    arch, own, levels = architecture(arch), options.get("custom_head"), options.get("levels")
    if levels is not None and (others := [name for name in _OF_USUAL_HEAD if name in options]):
        raise ArgumentError(f"levels={levels!r} has a head of its own: leave {', '.join(others)} out, or levels")
    if levels is None and options.get("views", 1) != 1:
        raise ArgumentError(f"views={options['views']!r} needs the head that reads several stages: levels='auto'")
    with seeded(seed):
        body = build_body(arch, pretrained, cut=cut)
        if levels is not None:
            maps, channels = read_levels(body.module, levels, views=options.get("views", 1))
            model = nn.Sequential(maps, create_levels_head(channels, n_classes, n_sets=options.get("sets", 0)))
        else:
            model = nn.Sequential(body.module, _usual_head(body.nf, n_classes, options) if own is None else own)
    if levels is None:
        init_head(model[1], seed=seed, init=options.get("init", nn.init.kaiming_normal_))
    if log_prior is not None and not set_prior_bias(model[1], log_prior) and own is None and not options.get("sets"):
        raise ArgumentError(f"log_prior must hold {n_classes} numbers, received the shape {tuple(log_prior.shape)}")
    return CnnModel(model, _layer_groups(model, body, options.get("split_on")), body, arch)


def _usual_head(nf: int, n_classes: int, options: HeadOptions) -> nn.Module:
    n_features = nf * (2 if options.get("concat_pool", True) else 1)
    own: Any = {name: value for name, value in options.items() if name in _OF_USUAL_HEAD}
    return create_head(n_features, n_classes, **own)


# --- layer groups ---------------------------------------------------------------------------------


class ParameterHolder(nn.Module):
    """A parameter that sits on a module beside its children, made into a leaf of its own."""

    def __init__(self, parameter: nn.Parameter) -> None:
        super().__init__()
        self.parameter = parameter


def is_norm(module: nn.Module) -> bool:
    """Tell whether a module is a batch-norm of any kind (timm's with an activation, synchronised ones)."""
    return isinstance(module, _BatchNorm)


def flatten_leaves(module: nn.Module) -> list[nn.Module]:
    """List the leaf modules in order, so that every parameter is in exactly one of them.

    A batch-norm is a leaf even if it holds an activation. A parameter that sits on a module with children (a position
    embedding, a layer scale) gets a ``ParameterHolder``. Of a tensor that two modules share, only the first counts.
    """
    return list(_leaves(module, set()))


def _leaves(module: nn.Module, seen: set[int]) -> Iterable[nn.Module]:
    if id(module) in seen:
        return
    seen.add(id(module))
    children = [] if is_norm(module) else list(module.children())
    if children:
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield ParameterHolder(parameter)
        for child in children:
            yield from _leaves(child, seen)
        return
    seen.update(id(parameter) for parameter in module.parameters())
    yield module


def split_model(model: nn.Module, splits: Sequence[nn.Module]) -> list[nn.ModuleList]:
    """Cut a model's leaves into groups, a new one at the first leaf of each module in ``splits``.

    Raises:
        ArgumentError: A module is not part of the model or has no leaf of its own.
    """
    leaves = flatten_leaves(model)
    position = {_identity(leaf): i for i, leaf in enumerate(leaves)}
    bounds = sorted({0, *(_start(split, position) for split in splits), len(leaves)})
    return [nn.ModuleList(leaves[a:b]) for a, b in pairwise(bounds)]


def _start(split: object, position: dict[int, int]) -> int:
    if not isinstance(split, nn.Module):
        raise ArgumentError(f"split_on must give modules of the model, received {split!r}")
    leaves = flatten_leaves(split)
    start = position.get(_identity(leaves[0])) if leaves else None
    if start is None:
        raise ArgumentError(f"split_on names a {type(split).__name__} that is not part of the model")
    return start


def _identity(leaf: nn.Module) -> int:
    # Holders are made anew each time; what they hold stays the same.
    return id(leaf.parameter) if isinstance(leaf, ParameterHolder) else id(leaf)


def _layer_groups(model: nn.Sequential, body: Body, split_on: SplitOn | None) -> list[nn.ModuleList]:
    if split_on is not None:
        asked = split_on if isinstance(split_on, nn.Module) or not callable(split_on) else split_on(model)
        return split_model(model, [asked] if isinstance(asked, nn.Module) else list(asked))
    head = model[1]
    if body.splits:
        return split_model(model, [*(body.module.get_submodule(name) for name in body.splits), head])
    return [*_stage_groups(body), nn.ModuleList(flatten_leaves(head))]


def _stage_groups(body: Body) -> list[nn.ModuleList]:
    """Two groups, the first half of the network's stages and the second; one if it has no stages.

    For a ResNet (stem and four layers) the halves are those of fastai v1: up to layer2, from layer3.
    """
    stage_of = {id(p): body.stages.get(name, 0) for name, p in body.module.named_parameters()}
    stages = sorted(set(stage_of.values()))
    second = stages[(len(stages) + 1) // 2] if len(stages) > 1 else None
    halves: tuple[list[nn.Module], list[nn.Module]] = ([], [])
    is_late = False
    for leaf in flatten_leaves(body.module):
        of_leaf = [stage_of[id(p)] for p in leaf.parameters() if id(p) in stage_of]
        if of_leaf and second is not None:  # a leaf without parameters stays with the one before it
            is_late = max(of_leaf) >= second
        halves[is_late].append(leaf)
    return [nn.ModuleList(half) for half in halves if half]


def group_parameters(layer_groups: Sequence[nn.Module]) -> list[list[nn.Parameter]]:
    """List each group's parameters; one that two groups share belongs to the first."""
    seen: set[int] = set()
    groups: list[list[nn.Parameter]] = []
    for group in layer_groups:
        fresh = [p for p in group.parameters() if id(p) not in seen]
        seen.update(id(p) for p in fresh)
        groups.append(fresh)
    return groups


def group_of_each(model: nn.Module, layer_groups: Sequence[nn.Module]) -> dict[str, int]:
    """Return the group of each parameter, by its name in the model; those that are in none are left out."""
    group_of = {id(p): i for i, group in enumerate(group_parameters(layer_groups)) for p in group}
    return {name: group_of[id(p)] for name, p in model.named_parameters() if id(p) in group_of}


def regroup(model: nn.Module, before: Mapping[str, int], n_groups: int) -> list[nn.ModuleList]:
    """Put the layers of a changed model into as many groups as it had.

    Args:
        model: the model as it is now.
        before: the group of each parameter by its name, of the model as it was. A new one joins the group of its
            namesake, else that of the last parameter with which it shares the most modules around it.
        n_groups: number of groups; one may come to be empty.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    groups: list[list[nn.Module]] = [[] for _ in range(n_groups)]
    i = 0
    for leaf in flatten_leaves(model):  # one without parameters stays with the one before it
        i = next((_nearest_group(names[id(p)], before, n_groups) for p in leaf.parameters()), i)
        groups[i].append(leaf)
    return [nn.ModuleList(group) for group in groups]


def _nearest_group(name: str, before: Mapping[str, int], n_groups: int) -> int:
    if name in before:
        return before[name]
    while "." in name:
        name = name.rpartition(".")[0]
        around = [group for other, group in before.items() if other.startswith(f"{name}.")]
        if around:
            return max(around)
    return n_groups - 1


# --- freezing -------------------------------------------------------------------------------------


def freeze_to(layer_groups: Sequence[nn.ModuleList], n: int, *, train_bn: bool = True) -> None:
    """Stop the groups before ``n`` from training, and let the others train.

    Args:
        layer_groups: Changed in place.
        n: Index of the first group that trains; negative counts from the end.
        train_bn: Batch-norm layers train in every group.

    Raises:
        ArgumentError: There is no group ``n``.
    """
    if not isinstance(n, int) or not -len(layer_groups) <= n <= len(layer_groups):
        raise ArgumentError(
            f"freeze_to({n!r}): expected the number of a layer group, and the model has {len(layer_groups)} of them"
        )
    for i, group in enumerate(layer_groups):
        trains = i >= (n + len(layer_groups) if n < 0 else n)
        for leaf in group:
            leaf.requires_grad_(trains or (train_bn and is_norm(leaf)))


def freeze(layer_groups: Sequence[nn.ModuleList], *, train_bn: bool = True) -> None:
    """Let only the last group train.

    Raises:
        ArgumentError: The model has a single group, which freezing would leave as it is.
    """
    if len(layer_groups) < 2:
        raise ArgumentError(
            "freeze() needs two or more layer groups, and this model has one: pass split_on= or layer_groups="
        )
    freeze_to(layer_groups, -1, train_bn=train_bn)


def unfreeze(layer_groups: Sequence[nn.ModuleList]) -> None:
    """Let every group train."""
    freeze_to(layer_groups, 0)


# --- a table of the layers ------------------------------------------------------------------------


class Summary(str):
    """Text whose ``repr`` is itself, so that a notebook shows its lines."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def model_summary(model: nn.Module, x: Tensor, *, notes: Sequence[str] = ()) -> Summary:
    """Return a table of what each leaf module gives, how many parameters it has, and whether they train.

    Args:
        model: any network.
        x: one input, ``(1, 3, H, W)``, that is passed through it in evaluation mode.
        notes: lines added below.
    """
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    lines = [f"{'Layer (type)':<24}{'Output shape':<20}{'Parameters':>14}  {'Trains':<6}", "=" * 66]
    lines += _layer_lines(model, x)
    lines += ["=" * 66, f"Parameters: {total:,}", f"  of them train: {trainable:,}", f"  frozen: {total - trainable:,}"]
    return Summary("\n".join([*lines, *notes]))


def _layer_lines(model: nn.Module, x: Tensor) -> list[str]:
    """Return a line for every leaf module that ran, in the order in which a picture passes through."""
    lines: list[str] = []

    def note(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            own = list(module.parameters(recurse=False))
            trains = ("yes" if any(p.requires_grad for p in own) else "no") if own else ""
            shape, n = " × ".join(map(str, output.shape[1:])), sum(p.numel() for p in own)
            lines.append(f"{type(module).__name__:<24}{shape:<20}{n:>14,}  {trains:<6}")

    leaves = [m for m in model.modules() if not any(True for _ in m.children())]
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    try:
        with eval_mode(model), plain_view(model), torch.inference_mode():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return lines
