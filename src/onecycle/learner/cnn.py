"""``cnn_learner``: a learner from a pretrained network with a new head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from torch import nn

from onecycle.data.batches import Stats, imagenet_stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.learner.features import check_views
from onecycle.learner.learner import Learner
from onecycle.model.backbones import Architecture
from onecycle.model.cnn import create_cnn_model
from onecycle.train.callbacks import Callback
from onecycle.train.device.precision import Choice, PrecisionOptions
from onecycle.train.losses import ClassWeights, class_log_prior
from onecycle.train.metrics import Metric
from onecycle.train.optimizer import AdamW_v1


class CnnOptions(TypedDict, total=False):
    """The keyword-only arguments of ``cnn_learner``, which says what each means."""

    lin_ftrs: Sequence[int] | None
    ps: float | Sequence[float]
    custom_head: nn.Module | None
    split_on: Any
    bn_final: bool
    init: Callable[[torch.Tensor], Any]
    concat_pool: bool
    normalize: bool
    loss_func: Any
    opt_func: Callable[..., torch.optim.Optimizer]
    metrics: Metric | Sequence[Metric] | None
    class_weights: ClassWeights | None
    true_wd: bool
    bn_wd: bool
    wd: float
    train_bn: bool
    precompute: bool | int
    precision: Choice
    channels_last: bool | None
    compile: bool | None
    path: str | Path | None
    model_dir: str | Path
    callback_fns: Callable[..., Callback] | Sequence[Callable[..., Callback]] | None
    callbacks: Sequence[Callback]
    silent: bool | None


def cnn_learner(
    data: ImageDataBunch,
    base_arch: str | Architecture | Callable[..., nn.Module],
    cut: int | Callable[[nn.Module], nn.Module] | None = None,
    pretrained: bool | str | Path = True,
    *,
    lin_ftrs: Sequence[int] | None = None,
    ps: float | Sequence[float] = 0.5,
    custom_head: nn.Module | None = None,
    split_on: Any = None,
    bn_final: bool = False,
    init: Callable[[torch.Tensor], Any] = nn.init.kaiming_normal_,
    concat_pool: bool = True,
    normalize: bool = True,
    loss_func: Any = None,
    opt_func: Callable[..., torch.optim.Optimizer] = AdamW_v1,
    metrics: Metric | Sequence[Metric] | None = None,
    class_weights: ClassWeights | None = None,
    true_wd: bool = True,
    bn_wd: bool = True,
    wd: float = 0.01,
    train_bn: bool = True,
    precompute: bool | int = False,
    precision: Choice = "auto",
    channels_last: bool | None = None,
    compile: bool | None = None,
    path: str | Path | None = None,
    model_dir: str | Path = "models",
    callback_fns: Callable[..., Callback] | Sequence[Callable[..., Callback]] | None = None,
    callbacks: Sequence[Callback] = (),
    silent: bool | None = None,
) -> Learner:
    """Make a learner from a pretrained network with a new head.

    Args:
        data: the bunch.
        base_arch: e.g. ``models.resnet34``, or the name of any timm network.
        cut: where to cut the network: a number of children, or a function that returns the body.
        pretrained: True for the network's own weights, a file or folder of weights, or False for random ones.
        lin_ftrs: widths of the head's hidden layers (default: one of 512).
        ps: dropout before the last layer (half of it before earlier ones), or one value a layer.
        custom_head: replaces the head.
        split_on: function or modules that divide the model into layer groups.
        bn_final: end the head with a batch-norm layer.
        init: initialises the head's weights.
        concat_pool: pool by maximum and mean, both.
        normalize: normalise with the backbone's own statistics where ``data.normalize`` was not called.
        precompute: train the head on features of the frozen body, computed once, of the plain pictures and this
            many augmented views (True: 3 where there are training transforms, else 0). It needs a body whose
            batch-norm layers stand still, and does not draw augmentation anew: ``Learner.precompute`` says what
            differs from v1's frozen stage.
        loss_func, class_weights: the loss; the remaining arguments, too, are those of ``Learner``.

    Returns:
        a learner, frozen up to the head if ``pretrained``.

    Raises:
        WeightsError: the weights are neither here nor to be had.
        ArgumentError: an unknown network (with near names).
    """
    PrecisionOptions(precision, channels_last, compile).check(data.device)  # before the network is made
    check_views(precompute)
    n_train = len(data.split.train)
    prior = None  # a bunch without pictures, for predictions only
    if n_train:
        counts = torch.from_numpy(data.labels.counts(data.split.train))
        prior = class_log_prior(counts, is_multi=data.is_multi, n=n_train)
    built = create_cnn_model(
        base_arch,
        data.c,
        cut=cut,
        pretrained=pretrained,
        lin_ftrs=lin_ftrs,
        ps=ps,
        custom_head=custom_head,
        split_on=split_on,
        bn_final=bn_final,
        init=init,
        concat_pool=concat_pool,
        seed=data.seed,
        log_prior=prior,
    )
    # A network of the user's own says nothing of its pixels; pretrained ones were fed ImageNet's statistics.
    stats = (built.stats or (imagenet_stats if pretrained else None)) if normalize else None
    learn = Learner(
        data,
        built.model,
        opt_func,
        loss_func,
        metrics,
        class_weights=class_weights,
        true_wd=true_wd,
        bn_wd=bn_wd,
        wd=wd,
        train_bn=train_bn,
        precompute=precompute,
        precision=precision,
        channels_last=channels_last,
        compile=compile,
        path=path,
        model_dir=model_dir,
        callback_fns=callback_fns,
        callbacks=callbacks,
        layer_groups=built.layer_groups,
        silent=silent,
        stats=stats,
    )
    if pretrained:
        learn.freeze()
    if stats is not None and data.stats is None and not silent:
        _say_stats(built.weights_source, stats)
    return learn


def _say_stats(source: str, stats: Stats) -> None:
    mean, std = (" ".join(f"{v:.3f}" for v in part) for part in stats)
    print(f"{source[0].upper()}{source[1:]}.")
    print(f"Pixels are normalised with mean {mean}, std {std}")
    print("(the network's own); data.normalize(...) or normalize=False changes that.")


def create_cnn(
    data: ImageDataBunch,
    base_arch: str | Architecture | Callable[..., nn.Module],
    cut: int | Callable[[nn.Module], nn.Module] | None = None,
    pretrained: bool | str | Path = True,
    **options: Unpack[CnnOptions],
) -> Learner:
    """Make a learner: the older name of ``cnn_learner``, which has the arguments and their meaning."""
    return cnn_learner(data, base_arch, cut, pretrained, **options)
