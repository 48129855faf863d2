"""Another head or another network for a learner that exists already: for ``fine_tune``, and for what is loaded.

A ``learn`` here is a ``Learner``; its module imports this one, so the type is not named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from onecycle.data.bunch import ImageDataBunch
from onecycle.model.cnn import create_cnn_model, flatten_leaves
from onecycle.model.heads import set_prior_bias
from onecycle.model.levels import create_levels_head, read_levels
from onecycle.train.losses import class_log_prior


def log_prior(data: ImageDataBunch) -> torch.Tensor | None:
    """Return the logarithms of the classes' shares; None for numbers, and for a bunch without pictures."""
    train = data.split.train
    if not len(train) or data.is_regression:
        return None
    return class_log_prior(torch.from_numpy(data.labels.counts(train)), is_multi=data.is_multi, n=len(train))


def has_untouched_head(learn: Any) -> bool:
    """Tell whether a learner's head is the usual one, as it was drawn, and nobody asked for it by an option."""
    untouched = learn.trainer.epochs_done == 0 and learn.weights_version == 0
    return untouched and learn.network is not None and learn.network["head"] == {}


def exchange_head(learn: Any, *, views: int = 1) -> Callable[[], None]:
    """Give a frozen learner a linear head on several stages of its network; returns what puts the old one back.

    Args:
        learn: the learner.
        views: mirrored views of a picture that a prediction is made from, see ``read_levels``.
    """
    before = learn.model, list(learn.layer_groups), learn.network
    maps, channels = read_levels(learn.model[0], views=views)
    head = create_levels_head(channels, learn.data.c)
    prior = log_prior(learn.data)
    if prior is not None:
        set_prior_bias(head, prior)
    groups = [*before[1][:-1], nn.ModuleList(flatten_leaves(head))]
    _put(learn, nn.Sequential(maps, head), groups, {**learn.network, "head": {"levels": "auto", "views": views}})
    return lambda: _put(learn, *before)


def adopt_network(learn: Any, saved: Mapping[str, Any] | None) -> Callable[[], None]:
    """Give a learner the head of a saved model, where one of the two reads several stages; returns the way back."""
    before = learn.model, list(learn.layer_groups), learn.network
    now, then = learn.network or {"arch": None, "head": {}}, saved or {"arch": None, "head": {}}
    with_levels = "levels" in {*now["head"], *then["head"]}
    if now["arch"] is None or now["arch"] != then["arch"] or now["head"] == then["head"] or not with_levels:
        return lambda: None
    made = create_cnn_model(then["arch"], learn.data.c, pretrained=False, seed=learn.data.seed, **then["head"])
    _put(learn, made.model, made.layer_groups, dict(then))
    return lambda: _put(learn, *before)


def _put(learn: Any, model: nn.Sequential, groups: list[nn.ModuleList], network: dict[str, Any]) -> None:
    frozen = any(not p.requires_grad for p in learn.model.parameters())
    learn.model = model.to(learn.data.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    learn.layer_groups, learn.network = groups, network
    if frozen:
        learn.freeze()
