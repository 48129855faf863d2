"""``cnn_learner``: a learner from a pretrained network with a new head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Unpack

import torch
from torch import nn

from onecycle.data.batches import imagenet_stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.errors import ArgumentError, check_keywords
from onecycle.files import plain_json
from onecycle.learner.checks.misfits import Seen, warn_of_trained
from onecycle.learner.features import check_views
from onecycle.learner.heads.exchange import log_prior
from onecycle.learner.learner import Learner
from onecycle.learner.options import LearnerOptions
from onecycle.learner.precision import precision_asked
from onecycle.model.backbones import Architecture
from onecycle.model.cnn import HeadOptions, create_cnn_model
from onecycle.train.metrics import Metric

L = TypeVar("L", bound=Learner)


class CnnOptions(HeadOptions, LearnerOptions, total=False):
    """The keywords of ``cnn_learner``: ``HeadOptions``, ``LearnerOptions``, and the following.

    opt_func, loss_func, metrics: as in ``Learner``.
    normalize: normalise with the backbone's own statistics where ``data.normalize`` was not called (True).
    """

    opt_func: Callable[..., torch.optim.Optimizer]
    loss_func: Any
    metrics: Metric | Sequence[Metric] | None
    normalize: bool


def cnn_learner(
    data: ImageDataBunch,
    base_arch: str | Architecture | Callable[..., nn.Module],
    cut: int | Callable[[nn.Module], nn.Module] | None = None,
    pretrained: bool | str | Path = True,
    **options: Unpack[CnnOptions],
) -> Learner:
    """Make a learner from a pretrained network with a new head.

    Args:
        data: the bunch.
        base_arch: e.g. ``models.resnet34``, or the name of any timm network.
        cut: where to cut the network: a number of children, or a function that returns the body.
        pretrained: True for the network's own weights, a file or folder of weights, or False for random ones.
        options: of the head, see ``HeadOptions``; of the learner, see ``LearnerOptions``; and ``opt_func``,
            ``loss_func``, ``metrics`` and ``normalize``, see ``CnnOptions``.

    Returns:
        a learner, frozen up to the head if ``pretrained``.

    Raises:
        TypeError: a keyword that is not among the options (with the nearest name).
        WeightsError: the weights are neither here nor to be had.
        ArgumentError: an unknown network (with near names).
    """
    return make_cnn_learner(Learner, data, base_arch, cut, pretrained, **options)


def make_cnn_learner(
    kind: type[L],
    data: ImageDataBunch,
    base_arch: str | Architecture | Callable[..., nn.Module],
    cut: int | Callable[[nn.Module], nn.Module] | None = None,
    pretrained: bool | str | Path = True,
    **options: Unpack[CnnOptions],
) -> L:
    """Make a learner of some kind, ``Learner`` or a subclass; see ``cnn_learner``."""
    check_keywords("cnn_learner", options, CnnOptions.__annotations__)
    precision_asked(options).check(data.device)  # before the network is made
    check_views(options.get("precompute", False))
    if options.get("y_range") is not None and not data.is_regression:
        raise ArgumentError("y_range is for numbers (label_cls=FloatList), and these labels are classes or tags")
    of_head: Any = {name: value for name, value in options.items() if name in HeadOptions.__annotations__}
    of_learner: Any = {name: value for name, value in options.items() if name not in {"normalize", *of_head}}
    made: Any = {"cut": cut, "pretrained": pretrained, "seed": data.seed, "log_prior": log_prior(data), **of_head}
    built = create_cnn_model(base_arch, data.c, **made)
    # A network of the user's own says nothing of its pixels; pretrained ones were fed ImageNet's statistics.
    stats = built.body.stats or (imagenet_stats if pretrained else None)
    if stats is not None and len(stats[0]) != data.lists.pictures.reading.stored_channels:
        stats = None  # of pictures with other channels it says nothing
    seen = Seen() if isinstance(pretrained, bool) else Seen.of_file(Path(pretrained).expanduser())
    stats = next(iter(seen.stats), stats) if options.get("normalize", True) else None
    learn = kind(data, built.model, layer_groups=built.layer_groups, stats=stats, **of_learner)
    learn.seen = seen
    warn_of_trained(seen, data)
    learn.network = _network(built.arch, cut, of_head)
    if pretrained:
        learn.freeze()
    if stats is not None and data.stats is None and not learn.silent:
        mean, std = (" ".join(f"{v:.3f}" for v in channels) for channels in stats)
        source = built.body.weights_source
        print(f"{source[0].upper()}{source[1:]}.\nPixels are normalised with mean {mean}, std {std}")
        print("(the network's own); data.normalize(...) or normalize=False changes that.")
    return learn


def _network(arch: Architecture, cut: Any, of_head: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what makes the network again, as JSON can hold it; None where that takes functions of the user's."""
    if arch.build is not None or cut is not None or of_head.get("custom_head") is not None:
        return None
    shape = {name: value for name, value in of_head.items() if name in _SAVED}
    return {"arch": str(arch), "head": plain_json(shape)}


_SAVED = ("lin_ftrs", "ps", "bn_final", "concat_pool", "y_range", "levels", "views", "sets")


def create_cnn(
    data: ImageDataBunch,
    base_arch: str | Architecture | Callable[..., nn.Module],
    cut: int | Callable[[nn.Module], nn.Module] | None = None,
    pretrained: bool | str | Path = True,
    **options: Unpack[CnnOptions],
) -> Learner:
    """Make a learner: the older name of ``cnn_learner``, which has the arguments and their meaning."""
    return cnn_learner(data, base_arch, cut, pretrained, **options)
