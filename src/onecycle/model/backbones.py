"""Backbones by name: which networks there are, and the body that is cut from each.

``models.resnet34`` is a value that names a network; nothing is built or loaded until ``build_body``.
timm and torchvision are imported on first need: they take seconds.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from onecycle.errors import ArgumentError
from onecycle.model.weights import PACKAGED, PACKAGES, BodyKeys, Published, find_weights, load_into
from onecycle.train.evaluate import eval_mode

Stats = tuple[tuple[float, float, float], tuple[float, float, float]]
Cut = int | Callable[[nn.Module], nn.Module]

IMAGENET_STATS: Stats = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# TensorFlow's Lite networks were trained on (x − 127)/128 with x in 0..255; timm rounds that to 0.5, 0.5.
LITE_STATS: Stats = ((127 / 255,) * 3, (128 / 255,) * 3)

PROBE_PX = 96  # side of the picture with which an output's shape is measured, where the network allows any size

# The networks of fastai v1 keep the weights that they had there (torchvision's first ones).
_TORCHVISION_IN_TIMM = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
    *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("_bn", "")),
)
_TORCHVISION_ONLY = ("alexnet", "squeezenet1_0", "squeezenet1_1", "mobilenet_v2")
SEED_ERA: dict[str, str] = {name: f"{name}.tv_in1k" for name in _TORCHVISION_IN_TIMM} | {
    name: name for name in _TORCHVISION_ONLY
}


@dataclass(frozen=True)
class Architecture:
    """A network by name; a value that costs nothing."""

    name: str  # resnet34
    source: Literal["timm", "torchvision", "callable"]  # who builds it; "callable": a function of the user's
    weights: str
    """Name with the tag of the pretrained weights: ``resnet34.tv_in1k``. ``architecture(weights)`` gives the same value
    back, except for a function of the user's."""
    build: Callable[[bool], nn.Module] | None = field(default=None, repr=False)  # the user's, from pretrained= to it

    def __str__(self) -> str:
        return self.weights

    def __call__(self, pretrained: bool | str | Path = False) -> nn.Module:
        """Return the whole network, its own classifier included.

        Args:
            pretrained: True for the published weights, False for random ones, or a file or folder of weights.
        """
        return whole_network(self, pretrained)


@dataclass(frozen=True, kw_only=True)
class Body:
    """A body cut from a network, and what is known about it."""

    module: nn.Module  # from (N, C, H, W) to (N, nf, h, w)
    nf: int  # channels of its output
    stats: Stats | None
    """Mean and standard deviation of each channel for pixels in [0, 1] that the weights expect; None for a network of
    the user's own, of which nobody knows them."""
    input_size: tuple[int, int]  # height and width (px) that the weights were trained at
    weights_source: str  # what the weights are and where they came from, for a line in the log
    splits: tuple[str, ...] = ()  # submodules at which a new layer group begins; empty where stages decides
    stages: Mapping[str, int] = field(default_factory=dict)  # of each parameter, by name in the body; empty: not known


class UnknownArchitectureError(ArgumentError, AttributeError):
    """A name that no network has; also an AttributeError, so that ``hasattr(models, name)`` answers."""


class Models:
    """Networks as attributes: fastai v1's (``models.resnet34``) and all of timm's (``models.vgg16``)."""

    def __getattr__(self, name: str) -> Architecture:
        if name.startswith("_"):
            raise AttributeError(name)
        return architecture(name)

    def __dir__(self) -> list[str]:
        """fastai v1's names and the packaged one; timm's too once timm is loaded (that takes seconds)."""
        return sorted({*SEED_ERA, PACKAGED, *(_timm_names() if "timm" in sys.modules else ())})


models = Models()


def architecture(arch: str | Architecture | Callable[[bool], nn.Module]) -> Architecture:
    """Turn a name, an ``Architecture`` or a function into an ``Architecture``.

    Args:
        arch: ``'resnet34'``, ``'convnext_tiny.fb_in1k'``, ``models.resnet34``, a constructor of torchvision
            or a function from ``pretrained`` (bool) to a network.

    Raises:
        ArgumentError: No network has that name; the message lists the nearest.
    """
    if isinstance(arch, Architecture):
        return arch
    if isinstance(arch, str):
        return _by_name(arch)
    if not callable(arch):
        raise ArgumentError(f"a network is a name, models.<name> or a function, received {arch!r}")
    name = getattr(arch, "__name__", type(arch).__name__)
    if getattr(arch, "__module__", "").startswith("torchvision.models"):
        return Architecture(name, "torchvision", name)
    return Architecture(name, "callable", name, arch)


def _by_name(name: str) -> Architecture:
    if name in SEED_ERA:
        return Architecture(name, "torchvision" if name in _TORCHVISION_ONLY else "timm", SEED_ERA[name])
    import timm

    plain, _, tag = name.partition(".")
    if not timm.is_model(plain):
        nearest = _nearest(plain, {*SEED_ERA, *_timm_names()})
        raise UnknownArchitectureError(f"there is no network named {name!r}{nearest}")
    tagged = timm.list_pretrained(f"{plain}.*")
    if tag and name not in tagged:
        raise UnknownArchitectureError(f"{plain} has no weights {tag!r}{_nearest(name, tagged, n=len(tagged))}")
    default = None if tag else timm.models.get_pretrained_cfg(plain)
    return Architecture(plain, "timm", f"{plain}.{default.tag}" if default and default.tag else name)


def _nearest(name: str, known: Sequence[str] | set[str], n: int = 5) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=max(n, 1), cutoff=0.5)
    return f"; did you mean {', '.join(close)}?" if close else "; timm.list_models() lists all names"


def _timm_names() -> list[str]:
    import timm

    return list(timm.list_models())


# --- building -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Network:
    """A whole network as its author built it, with what its author says about it."""

    module: nn.Module
    stats: Stats | None
    input_size: tuple[int, int]
    published: Published
    classifier: tuple[str, ...] = ()
    probe: Tensor = field(default_factory=lambda: torch.zeros(1, 3, PROBE_PX, PROBE_PX))  # a picture that it takes


def build_body(
    arch: str | Architecture | Callable[[bool], nn.Module],
    pretrained: bool | str | Path = True,
    *,
    cut: Cut | None = None,
    in_chans: int = 3,
) -> Body:
    """Build a network's body, without its classifier, and load its weights.

    Args:
        arch: As for ``architecture``.
        pretrained: True for the published weights, False for random ones, or a file or folder of weights.
        cut: Where to cut: the number of children to keep (negative: to drop from the end), or a function
            from the network to its body. None means the usual place.
        in_chans: Colour channels of the pictures; other than 3 for timm's networks only.

    Returns:
        The body in training mode. Random weights come from PyTorch's global generator.

    Raises:
        ArgumentError: No such network, or ``cut`` or ``in_chans`` cannot work.
        WeightsError: The weights are missing or do not fit.
    """
    arch = architecture(arch)
    if cut is not None and (isinstance(cut, bool) or not (isinstance(cut, int) or callable(cut))):
        raise ArgumentError(f"cut must be a number of layers or a function, received {cut!r}")
    if not isinstance(pretrained, bool | str | Path):
        raise ArgumentError(f"pretrained must be True, False or a path, received {pretrained!r}")
    network = _build(arch, pretrained, in_chans)
    # Names and stages are read before the cut, which may take modules out of the network.
    tensors = network.module.state_dict(keep_vars=True)
    stage_of = _stages(network.module)
    module, splits = _cut(network, cut)
    keys = _body_keys(network, tensors, module)
    return Body(
        module=module.train(),
        nf=_output_channels(module, network),
        stats=network.stats,
        input_size=network.input_size,
        weights_source=_load(module, keys, network, arch, pretrained),
        splits=splits,
        stages={new: stage_of[old] for old, new in keys.of_network.items() if new is not None and old in stage_of},
    )


def whole_network(arch: Architecture, pretrained: bool | str | Path) -> nn.Module:
    """Build a network as its author did, and load its weights; see ``Architecture.__call__``."""
    network = _build(arch, pretrained, 3)
    keys = _body_keys(network, network.module.state_dict(keep_vars=True), network.module)
    _load(network.module, keys, network, arch, pretrained)
    return network.module.train()


def _load(module: nn.Module, keys: BodyKeys, net: _Network, arch: Architecture, pretrained: bool | str | Path) -> str:
    """Fill the body, and say with what."""
    if pretrained is False:
        return "random weights (pretrained=False)"
    if arch.source == "callable" and pretrained is True:
        return f"weights of {arch.name}(True)"
    file = find_weights(net.published, pretrained)
    load_into(module, keys, file, in_chans=net.probe.shape[1])
    return file.source


def in_channels(m: nn.Module) -> int:
    """Return how many channels the first layer with weights takes; 3 where there is none."""
    weights = (w for layer in m.modules() if isinstance(w := getattr(layer, "weight", None), Tensor) and w.ndim > 1)
    return int(first.shape[1]) if (first := next(weights, None)) is not None else 3


def _build(arch: Architecture, pretrained: bool | str | Path, in_chans: int) -> _Network:
    if arch.source == "timm":
        return _build_timm(arch, in_chans)
    if in_chans != 3:
        raise ArgumentError(
            f"{arch.name} takes pictures of 3 channels, received in_chans={in_chans}; use a timm network"
        )
    if arch.build is not None:
        net = arch.build(pretrained is True)
        probe = torch.zeros(1, in_channels(net), PROBE_PX, PROBE_PX)
        return _Network(net, None, (224, 224), Published(arch.name, (arch.name,)), probe=probe)
    import torchvision

    weights = next(iter(torchvision.models.get_model_weights(arch.name)))  # the first: the ones of fastai v1
    stem = weights.url.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    published = Published(arch.name, (arch.name, stem), url=weights.url)
    net = torchvision.models.get_model(arch.name, weights=None)
    return _Network(net, IMAGENET_STATS, (224, 224), published, ("fc", "classifier", "head"))


def _build_timm(arch: Architecture, in_chans: int) -> _Network:
    import timm

    cfg: Any = timm.models.get_pretrained_cfg(arch.weights)
    net = _create_timm(arch.weights, in_chans, any_size=cfg is None or not cfg.fixed_input_size)
    cfg = cfg or timm.models.PretrainedCfg()
    classifier = (cfg.classifier,) if isinstance(cfg.classifier, str) else tuple(cfg.classifier or ())
    stats = LITE_STATS if arch.name in PACKAGES else (_rgb(cfg.mean), _rgb(cfg.std))
    any_size = not cfg.fixed_input_size and cfg.min_input_size is None
    _, height, width = cfg.input_size
    probe = torch.zeros(1, in_chans, *((PROBE_PX, PROBE_PX) if any_size else (height, width)))
    return _Network(net, stats, (height, width), published_by_timm(arch), (*classifier, "fc", "classifier"), probe)


def published_by_timm(arch: Architecture) -> Published:
    """Return under which names timm publishes a network's weights, and where."""
    import timm

    cfg: Any = timm.models.get_pretrained_cfg(arch.weights) or timm.models.PretrainedCfg()
    # The address ends in the name that PyTorch's users know the file by.
    stems = (arch.weights, arch.name, (cfg.url or "").rsplit("/", 1)[-1].rsplit(".", 1)[0])
    names = tuple(dict.fromkeys(stem for stem in stems if stem))
    return Published(arch.weights, names, cfg.hf_hub_id or None, cfg.hf_hub_filename, cfg.url or None)


def _rgb(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)


def _create_timm(name: str, in_chans: int, *, any_size: bool) -> nn.Module:
    import timm

    # Transformers have a fixed input size unless told otherwise, each family in its own words.
    words: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})
    for options in () if any_size else words:
        try:
            return timm.create_model(name, pretrained=False, in_chans=in_chans, **options)
        except TypeError:
            continue  # this family does not know that word
    return timm.create_model(name, pretrained=False, in_chans=in_chans)


# --- cutting --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Family:
    """Networks cut as fastai v1 cut them: the children to keep, and where later layer groups begin."""

    children: tuple[str, ...]
    splits: tuple[str, ...]


_FAMILIES = {
    "DenseNet": _Family(("features",), ("0.transition2",)),
    "VGG": _Family(("features",), ("0.22",)),
    "AlexNet": _Family(("features",), ("0.6",)),
    "SqueezeNet": _Family(("features",), ("0.5", "0.8")),
    "MobileNetV2": _Family(("features",), ("0.10",)),
    "ResNet": _Family(("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"), ("6",)),
}


def _cut(network: _Network, cut: Cut | None) -> tuple[nn.Module, tuple[str, ...]]:
    net = network.module
    if cut is not None:
        return (cut(net) if callable(cut) else nn.Sequential(*list(net.children())[:cut])), ()
    library = type(net).__module__.partition(".")[0]
    family = _FAMILIES.get(type(net).__name__) if library in ("timm", "torchvision") else None
    if family is not None:
        return _cut_family(net, family)
    return _cut_timm(network) if library == "timm" else _cut_before_pool(net), ()


def _cut_family(net: nn.Module, family: _Family) -> tuple[nn.Module, tuple[str, ...]]:
    children = dict(net.named_children())
    names = ["act1" if name == "relu" and "act1" in children else name for name in family.children]
    body = nn.Sequential(*(children[name] for name in names))
    there = dict(body.named_modules())
    return body, family.splits if all(name in there for name in family.splits) else ()


def _cut_before_pool(net: nn.Module) -> nn.Module:
    """fastai v1's rule for networks that it does not know: everything before the last child that pools."""
    children = list(net.children())
    pools = [i for i, child in enumerate(children) if any("Pool" in type(m).__name__ for m in child.modules())]
    if not pools or pools[-1] == 0:
        raise ArgumentError(
            f"cannot tell where the body of {type(net).__name__} ends: no layer before its last pooling; "
            f"pass cut= (the number of children to keep, or a function from the network to its body)"
        )
    return nn.Sequential(*children[: pools[-1]])


class TimmBody(nn.Module):
    """The feature part of any timm network, with its output as (N, C, h, w).

    Args:
        net: The network; modules that its features do not need are taken out by the caller.
        layout: How ``net.forward_features`` lays out its result; ``tokens`` are put back on their grid.
        in_chans: Colour channels of the pictures that it takes.
    """

    def __init__(self, net: nn.Module, layout: Literal["NCHW", "NHWC", "tokens"], *, in_chans: int = 3) -> None:
        super().__init__()
        self.net: Any = net
        self.layout, self.in_chans = layout, in_chans

    def forward(self, x: Tensor) -> Tensor:
        if self.layout == "tokens":
            return self._grids(x, 1)[-1]
        y: Tensor = self.net.forward_features(x)
        return y.permute(0, 3, 1, 2) if self.layout == "NHWC" else y

    def intermediates(self, x: Tensor, at: Sequence[int] | None) -> tuple[Tensor, list[Tensor]]:
        """Return the output, and the maps (N, C, h, w) at these places among the intermediate ones; None for all."""
        which = None if at is None else list(at)
        if self.layout == "tokens":
            maps = self._grids(x, which)
            return maps[-1], maps
        try:
            last, maps = self.net.forward_intermediates(x, indices=which, norm=True, output_fmt="NCHW")
        except AssertionError as error:
            if "normalization" not in str(error):  # how timm says that a family has no norm at its end
                raise
            last, maps = self.net.forward_intermediates(x, indices=which, output_fmt="NCHW")
        return (last.permute(0, 3, 1, 2) if self.layout == "NHWC" else last), maps

    def _grids(self, x: Tensor, which: int | list[int] | None) -> list[Tensor]:
        """Return tokens on their grid, as maps; what a network makes of its class token may have been taken out."""
        maps: list[Tensor] = self.net.forward_intermediates(
            x, indices=which, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps


def _cut_timm(network: _Network) -> nn.Module:
    net: Any = network.module
    shape = _output_shape(net.forward_features, net, network)
    if len(shape) not in (3, 4) or (len(shape) == 3 and not hasattr(net, "forward_intermediates")):
        raise _no_map(net, f"its features have the shape {shape}" if shape else "its features are not one tensor")
    is_last = len(shape) == 4 and shape[3] == net.num_features != shape[1]
    layout: Any = "tokens" if len(shape) == 3 else "NHWC" if is_last else "NCHW"
    body = TimmBody(net, layout, in_chans=network.probe.shape[1])
    try:
        _drop_unused(body, network)
    except AssertionError as error:  # how timm says that it cannot put a network's tokens back on their grid
        raise _no_map(net, str(error)) from error
    return body


def _no_map(net: nn.Module, reason: str) -> ArgumentError:
    return ArgumentError(
        f"{type(net).__name__} does not give a map (N, C, h, w): {reason}; "
        f"pass cut=, a function from the network to its body, or choose another network"
    )


def _drop_unused(body: nn.Module, network: _Network) -> None:
    """Take out what the output does not depend on: the classifier, a norm after pooling, extra heads."""
    params = [p for p in body.parameters() if p.requires_grad]
    with eval_mode(body), torch.enable_grad():  # the caller may have switched gradients off
        grads = torch.autograd.grad(body(network.probe).sum(), params, allow_unused=True)
    _replace_unused(body, {id(p) for p, grad in zip(params, grads, strict=True) if grad is None})


def _replace_unused(module: nn.Module, unused: set[int]) -> None:
    for name, child in module.named_children():
        params = list(child.parameters())
        if params and all(id(p) in unused for p in params):
            setattr(module, name, nn.Identity())
        else:
            _replace_unused(child, unused)


# --- measuring ------------------------------------------------------------------------------------


def _output_shape(forward: Callable[[Tensor], Any], module: nn.Module, network: _Network) -> tuple[int, ...]:
    """Measure what a function of a module gives in evaluation mode; empty where it is not one tensor."""
    with eval_mode(module), torch.no_grad():
        out = forward(network.probe)
    return tuple(out.shape) if isinstance(out, Tensor) else ()


def _output_channels(body: nn.Module, network: _Network) -> int:
    shape = _output_shape(body, body, network)
    if len(shape) != 4:
        raise ArgumentError(f"a body must give (N, C, h, w), this one gives {shape or 'no tensor'}; pass another cut=")
    return shape[1]


def _stages(net: nn.Module) -> dict[str, int]:
    """Number each parameter by the stage that timm counts it to; empty for a network that is not timm's."""
    if not hasattr(net, "group_matcher"):
        return _stages_by_features(net)
    from timm.models import group_parameters

    matcher: Any = net.group_matcher
    try:
        numbers = dict(group_parameters(net, matcher(coarse=True), reverse=True))
    except AssertionError:  # how timm says that a network has no coarse grouping
        return _stages_by_features(net)
    return numbers if len(set(numbers.values())) > 1 else _stages_by_features(net)


def _stages_by_features(net: nn.Module) -> dict[str, int]:
    stages = [f"{info['module']}." for info in getattr(net, "feature_info", ())]
    if not stages:
        return {}
    numbers, current = {}, 0
    for name, _ in net.named_parameters():
        current = next((i for i, stage in enumerate(stages) if name.startswith(stage)), current)
        numbers[name] = current
    return numbers


def _body_keys(network: _Network, tensors: Mapping[str, Tensor], body: nn.Module) -> BodyKeys:
    # A body shares its tensors with the network that it was cut from, so the same object is the same tensor.
    of_body = {id(tensor): key for key, tensor in body.state_dict(keep_vars=True).items()}
    of_network = {key: of_body.get(id(tensor)) for key, tensor in tensors.items()}
    # timm's own conversion from the layout in which a network's authors published it.
    convert = getattr(sys.modules.get(type(network.module).__module__), "checkpoint_filter_fn", None)
    converter = None if convert is None else lambda state: convert(state, network.module)
    return BodyKeys(of_network, network.classifier, converter)
