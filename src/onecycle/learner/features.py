"""Features of a frozen body: computed once from the pictures, cached while they hold, handed to the training loop."""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onecycle import settings
from onecycle.data.augment.augmenter import BatchAugmenter
from onecycle.data.batches import BatchLoader, Stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.labels.items import DatasetType
from onecycle.data.pixels.store import default_store_bytes
from onecycle.data.progress import Advance, counting_bar
from onecycle.errors import ArgumentError, DataError
from onecycle.model.fuse import fuse_batchnorm
from onecycle.model.heads import AdaptiveConcatPool2d, Flatten
from onecycle.model.levels import LevelPool, SignedRoot, cut_where_frozen, plain_view, views_of
from onecycle.text import by_place, option
from onecycle.train.callbacks import AccumulateScheduler
from onecycle.train.checkpoint import digest
from onecycle.train.device.batch_split import BatchSplit
from onecycle.train.device.host_memory import keep_freed_memory
from onecycle.train.device.placement import Arriving
from onecycle.train.device.precision import float32_products
from onecycle.train.device.ranks import Ranks
from onecycle.train.evaluate import BatchLike, Loader, batches_between, eval_mode
from onecycle.train.frozen import FeatureLoader, FeatureSet, SplitModel, empty_features, split_frozen
from onecycle.train.loop import Callback

DEFAULT_VIEWS = 3
"""Augmented views of each picture, beside the plain one, where ``precompute=True`` leaves the number open."""

CPU_BATCH = 16
"""Pictures a batch of the pass over the body on a CPU: small enough to be fast wherever freed memory is not kept.

EfficientNet-Lite0 folded, 224 px, one AVX-512 core, pictures a second of processor time at 16 and 64 a batch: 70 and
70 where freed memory is kept, 52 and 38 where it is not (torch 2.14); 8 a batch: 60. The peak is lower, too.
"""

EXAMPLES = 4
"""Pictures on which the folded body is compared with the body."""


@dataclass(frozen=True)
class HeadStage:
    """What the training loop needs to train a head on features."""

    head: nn.Module  # the layers that batches go through; they are the model's own
    train: FeatureLoader  # features of the training pictures
    valid: FeatureLoader | None  # features of the validation pictures, plain; None where there are none


@dataclass(frozen=True)
class LabelledFeatures:
    """The body's outputs for all labelled pictures, training before validation."""

    features: Tensor  # float32 (N, …) on the CPU
    targets: Tensor  # int64 (N,) or float32 (N, C)
    rows: np.ndarray  # int64 (N,), their rows in the labelled table

    def vectors(self) -> Tensor:
        """Return one vector a picture, float32 ``(N, D)``: maps are averaged over their cells."""
        outputs = self.features.float()
        return outputs.flatten(2).mean(2) if outputs.ndim > 2 else outputs

    def table(self, n: int) -> np.ndarray:
        """Return the vectors of all ``n`` rows of the labelled table, float32 ``(n, D)``; zeros for rows in neither."""
        vectors = self.vectors().numpy()
        table = np.zeros((n, vectors.shape[1]), dtype=np.float32)
        table[self.rows] = vectors
        return table


@dataclass(frozen=True)
class _Origin:
    """What features were made from; they hold while it is the same. The texts say what changed."""

    data: weakref.ref[ImageDataBunch]
    pixels: str
    layers: int  # modules that stand still, which are more or fewer where others are frozen
    views: int
    body: str

    def change_to(self, other: _Origin) -> str | None:
        """Say what the other one has different, None if nothing."""
        texts = {
            "data": "the learner has other data",
            "pixels": "size, transforms or pixel statistics changed",
            "layers": "other layers are frozen now",
            "views": "the number of views changed",
            "body": "the body's weights or layers changed",
        }
        changed = (texts[f.name] for f in fields(self) if getattr(self, f.name) != getattr(other, f.name))
        return next(changed, None)


@dataclass(frozen=True)
class _Viewed:
    """Pictures, or maps of them, in order, and what makes their views beside the plain one."""

    loader: BatchLoader | FeatureLoader
    targets: Tensor
    augmenters: tuple[BatchAugmenter, ...] = ()
    plain: Tensor | None = None  # (N, …), the outputs for the plain ones where they are known

    @property
    def n_views(self) -> int:
        return 1 + len(self.augmenters)


@dataclass(frozen=True)
class _Cached:
    """Features, and what they were made from."""

    origin: _Origin
    sets: list[FeatureSet]  # of training, and of validation where there is any


class FrozenFeatures:
    """The features of one learner's pictures, cached from fit to fit.

    Args:
        max_bytes: the most memory that they may take; beyond it they go to a temporary file in the cache folder.
            Default: a quarter of the memory that is free when they are made.
    """

    def __init__(self, *, max_bytes: int | None = None) -> None:
        self.max_bytes = max_bytes
        self._cached: _Cached | None = None
        self._way: SplitModel | None = None
        self._maps: _Cached | None = None
        self._said: set[str] = set()

    def forget(self) -> None:
        """Give the memory back; what is asked for next is computed anew."""
        self._cached = self._maps = None

    def go_by_maps(self, model: nn.Module) -> None:
        """Compute the next features of the whole body by way of the maps that its last stages will train on.

        The maps of the plain pictures are kept until those of all views are asked for, and not computed again.

        Args:
            model: in the state in which the last stages train.
        """
        split = split_where_frozen(model)
        self._way = None if isinstance(split, str) else split

    def stage(
        self,
        model: nn.Module,
        data: ImageDataBunch,
        *,
        stats: Stats | None,
        views: bool | int,
        callbacks: Sequence[Callback] = (),
        weights: np.ndarray | None = None,
        silent: bool = False,
        ranks: Ranks | None = None,
    ) -> HeadStage | None:
        """Return loaders of features, computed now unless those at hand still hold.

        Args:
            model: ``nn.Sequential(body, head)``.
            data: the bunch, prepared.
            stats: what pixels are normalised with.
            views: augmented views of each training picture; True for ``DEFAULT_VIEWS``.
            callbacks: of the coming fit.
            weights: how often each training picture is drawn, see ``BatchLoader``; None for once.
            silent: show no bar and print nothing.
            ranks: the processes that train together, each of which computes a share.

        Returns:
            None where the network must be fed pictures; the reason is printed once.

        Raises:
            DataError: pictures of different sizes give features of different shapes.
        """
        split = split_where_frozen(model)
        if isinstance(split, str):
            self.forget()  # training goes on below the head: the memory is worth more than the way back
            return self._refused(split, silent=silent)
        if (reason := _needs_pictures(data, callbacks)) is not None:
            return self._refused(reason, silent=silent)
        try:
            sets = self._refreshed(split, data, stats, views, silent=silent, ranks=ranks)
        except OSError as error:
            return self._refused(f"{settings.cache_folder()} has no room for them ({error})", silent=silent)
        return _head_stage(split.rest, data, sets, weights)

    def of_part(self, learn: Any, ds_type: DatasetType) -> tuple[nn.Module, Loader]:
        """Return what predicts a part of a learner's data: the rest of the network and the features at hand, where
        they hold, and are all that a prediction is made from; else the whole network and the pictures.
        """
        cached, split = self._cached, split_where_frozen(learn.model)
        if (
            views_of(learn.model) == 1
            and ds_type is DatasetType.Valid
            and cached is not None
            and len(cached.sets) > 1
            and not isinstance(split, str)
        ):
            origin = _origin(split.fixed, learn.data, learn.norm_stats, cached.origin.views)
            stage = _head_stage(split.rest, learn.data, cached.sets, None)
            if cached.origin.change_to(origin) is None and stage.valid is not None:
                return stage.head, stage.valid
        return learn.model, learn.loader(ds_type)

    def of_labelled(
        self, model: nn.Module, data: ImageDataBunch, *, stats: Stats | None, silent: bool = False
    ) -> LabelledFeatures:
        """Return the body's features of all labelled pictures, plain; those at hand are used where they hold.

        The body counts as fixed, whether or not it would train: the model is not changed.

        Args:
            model: ``nn.Sequential(body, head)``.
            data: the bunch, prepared.
            stats: what pixels are normalised with.
            silent: show no bar.

        Raises:
            ArgumentError: the model cannot be cut behind its body.
        """
        frozen = copy.deepcopy(model)
        for child in list(frozen.children())[:-1]:
            child.requires_grad_(False)
        split = split_at_head(frozen)
        if isinstance(split, str):
            raise ArgumentError(f"features of the body cannot be computed: {split}")
        cached = self._cached
        if cached and cached.origin.change_to(_origin(split.fixed, data, stats, cached.origin.views)) is None:
            sets = cached.sets  # their other views do not matter
        else:
            plain = _viewed(data, stats, n_augmented=0)
            sets = _compute(split.fixed, plain, max_bytes=default_store_bytes() // 2, silent=silent)
        return LabelledFeatures(
            features=torch.cat([one.features[0] for one in sets]),
            targets=torch.cat([one.targets for one in sets]),
            rows=np.concatenate([data.split.train, data.split.valid]),
        )

    def describe(self) -> str:
        """Say what is cached, as a clause: how many views of how many pictures, and where."""
        if self._cached is None:
            return "no features computed"
        sets = self._cached.sets
        n_views, n = sets[0].features.shape[:2]
        views = f"{n_views} views of " if n_views > 1 else ""
        where = " in a temporary file" if any(one.on_disk for one in sets) else ""
        n_mb = sum(one.features.nbytes for one in sets) / 1e6
        return f"features of the frozen layers computed once ({views}{n:,} pictures, {n_mb:,.0f} MB{where})"

    def _refreshed(
        self,
        split: SplitModel,
        data: ImageDataBunch,
        stats: Stats | None,
        views: bool | int,
        *,
        silent: bool,
        ranks: Ranks | None,
    ) -> list[FeatureSet]:
        """Return the features at hand if they hold, else new ones."""
        viewed = _viewed(data, stats, n_augmented=DEFAULT_VIEWS if views is True else int(views))
        origin = _origin(split.fixed, data, stats, viewed[0].n_views)
        if self._cached is not None:
            changed = self._cached.origin.change_to(origin)
            if changed is None:
                return self._cached.sets
            if not silent:
                print(f"Features are computed again: {changed}.")
            self._cached = None
        elif not silent:
            print("Features of the frozen layers are computed once;\nprecompute=False trains on pictures instead.")
        max_bytes = default_store_bytes() // 2 if self.max_bytes is None else self.max_bytes
        maps, way, fixed = self._maps, self._way, split.fixed
        self._maps = self._way = None
        if maps is not None and maps.origin.change_to(replace(origin, views=1)) is None:
            viewed = [replace(v, plain=one.features[0]) for v, one in zip(viewed, maps.sets, strict=True)]
        elif way is not None and viewed[0].n_views == 1 and len(way.rest) > len(split.rest):
            sets = _compute(way.fixed, viewed, max_bytes=max_bytes // 2, silent=silent, ranks=ranks)
            self._maps = _Cached(_origin(way.fixed, data, stats, 1), sets)
            viewed = [_as_viewed(one, v.loader) for one, v in zip(sets, viewed, strict=True)]
            fixed = way.rest[: len(way.rest) - len(split.rest)]
        self._cached = _Cached(origin, _compute(fixed, viewed, max_bytes=max_bytes, silent=silent, ranks=ranks))
        return self._cached.sets

    def _refused(self, reason: str, *, silent: bool) -> HeadStage | None:
        """Say once why the network is fed pictures, and return no stage."""
        if not silent and reason not in self._said:
            print(f"The network is fed pictures, not precomputed features: {reason}.")
            self._said.add(reason)
        return None


def _head_stage(head: nn.Module, data: ImageDataBunch, sets: list[FeatureSet], weights: np.ndarray | None) -> HeadStage:
    pictures = [data.loader(DatasetType.Train).replace(weights=weights)]
    pictures += [data.loader(DatasetType.Valid)] if len(sets) > 1 else []
    train, *valid = (
        FeatureLoader(features, bs=loader.bs, order=loader.order, seed=data.seed, device=data.device)
        for features, loader in zip(sets, pictures, strict=True)
    )
    return HeadStage(head, train, valid[0] if valid else None)


def why_pictures(model: nn.Module, data: ImageDataBunch, callbacks: Sequence[Callback] = ()) -> str | None:
    """Say why the layers that train must be fed pictures, None where features of the others will do.

    Args:
        model: in the state in which it would train.
        data: the bunch.
        callbacks: of the coming fit.
    """
    split = split_where_frozen(model)
    return split if isinstance(split, str) else _needs_pictures(data, callbacks)


def split_at_head(model: nn.Module) -> SplitModel | str:
    """Cut a model into what gives features and the rest of its head, or say why that cannot be done."""
    return split_frozen(model, (AdaptiveConcatPool2d, Flatten, LevelPool, SignedRoot))


def split_where_frozen(model: nn.Module) -> SplitModel | str:
    """Cut a model where layers begin to train: at its head or, where the head reads several stages, below it, too."""
    return split_at_head(cut_where_frozen(model))


def check_views(precompute: bool | int) -> bool | int:
    """Return the argument ``precompute``: False, True, or a number of augmented views.

    Raises:
        ArgumentError: neither a bool nor a whole number of 0 or more.
    """
    if not isinstance(precompute, int) or precompute < 0:
        raise ArgumentError(
            "precompute is False, True or the number of augmented views of each picture (0: plain pictures "
            f"only); received {precompute!r}"
        )
    return precompute


# --- what the features are made from --------------------------------------------------------------


def _needs_pictures(data: ImageDataBunch, callbacks: Sequence[Callback]) -> str | None:
    """Say why a fit needs pictures, None if it does not."""
    if data.loader(DatasetType.Train).dl_tfms:
        return "dl_tfms work on whole batches of pictures"
    for callback in callbacks:
        # One that is called with each batch works on pictures, unless it says otherwise itself.
        sees_batches = type(callback).on_batch_begin is not Callback.on_batch_begin
        if not getattr(callback, "takes_features", not sees_batches or isinstance(callback, AccumulateScheduler)):
            return f"{type(callback).__name__} works on the pictures of a batch"
    return None


def _viewed(data: ImageDataBunch, stats: Stats | None, *, n_augmented: int) -> list[_Viewed]:
    """Return the training pictures with so many views and, where there are any, the plain validation pictures."""
    bs = min(data.batch_size, CPU_BATCH) if data.device.type == "cpu" else data.batch_size
    augmenter = data.loader(DatasetType.Train).augmenter
    augmenters = () if augmenter is None else (augmenter,) * n_augmented
    parts = [DatasetType.Fix, *([DatasetType.Valid] if len(data.split.valid) else [])]
    loaders = [data.loader(part).replace(stats=stats, bs=bs) for part in parts]
    return [
        _Viewed(loader, loader.dataset.targets, views) for loader, views in zip(loaders, (augmenters, ()), strict=False)
    ]


def _as_viewed(maps: FeatureSet, loader: BatchLoader | FeatureLoader) -> _Viewed:
    """Return plain maps in the batches of their pictures: so what is computed from them is the same to the bit."""
    order = np.arange(len(maps.targets))
    return _Viewed(FeatureLoader(maps, bs=loader.bs, order=lambda _: order, device=loader.device), maps.targets)


def _origin(fixed: nn.Module, data: ImageDataBunch, stats: Stats | None, n_views: int) -> _Origin:
    """Describe all that lies between the stored pictures and the features; digesting Lite0's tensors takes 28 ms."""
    augmenters = [data.loader(ds_type).augmenter for ds_type in (DatasetType.Train, DatasetType.Fix)]
    pixels = repr((data.lists.resize, data.lists.mode, augmenters, stats, data.seed, data.device))
    tensors: dict[str, Tensor] = {**dict(fixed.named_parameters()), **dict(fixed.named_buffers())}
    layers = sum(1 for _ in fixed.modules())
    return _Origin(weakref.ref(data), pixels, layers, n_views, f"{digest(tensors)} {fixed!r}")


# --- the pass over the pictures -------------------------------------------------------------------


def _compute(
    fixed: nn.Module, viewed: Sequence[_Viewed], *, max_bytes: int, silent: bool, ranks: Ranks | None = None
) -> list[FeatureSet]:
    """Pass all views of the pictures through the fixed function, in evaluation mode and float32.

    Processes that train together compute a share each, and all get all.
    """
    ranks = ranks or Ranks()
    n_passes = sum((v.n_views - (v.plain is not None)) * v.loader.n_items for v in viewed)
    n_outputs = sum(v.n_views * v.loader.n_items for v in viewed)
    bar = nullcontext(lambda _: None) if silent else counting_bar("computing features", n_passes)
    with keep_freed_memory(), eval_mode(fixed), plain_view(fixed), float32_products(), torch.no_grad(), bar as advance:
        example = viewed[0].loader.batch_at(0, 0).x[:EXAMPLES]
        shape = tuple(fixed(example).shape[1:])
        network = fuse_batchnorm(fixed, example)
        fits = 4 * n_outputs * math.prod(shape) <= max_bytes
        sets = []
        for pictures in viewed:
            outputs, on_disk = empty_features(
                (pictures.n_views, pictures.loader.n_items, *shape),
                max_bytes=max_bytes if fits else 0,
                folder=settings.cache_folder() / "features",
            )
            _fill(outputs, network, pictures, ranks, advance)
            sets.append(FeatureSet(outputs, pictures.targets, on_disk))
    return sets


def _fill(outputs: Tensor, network: nn.Module, pictures: _Viewed, ranks: Ranks, advance: Advance) -> None:
    split, arriving, loader = BatchSplit(), Arriving(), pictures.loader
    if pictures.plain is not None:
        outputs[0] = pictures.plain
    for view, batch in _views(pictures, ranks.share(len(loader))):
        of_batch = split.forward(network, batch.x)
        if of_batch.shape[1:] != outputs.shape[2:]:
            raise DataError(
                f"pictures of different sizes give features of different shapes, {tuple(of_batch.shape[1:])} and "
                f"{tuple(outputs.shape[2:])}; pass {option('size', 224)}, say{by_place('', ', or precompute=False')}"
            )
        arriving.put(of_batch.float(), partial(outputs.__setitem__, (view, batch.indices)))
        advance(len(of_batch))
    arriving.finish()
    ends = [min(Ranks(r, ranks.size).share(len(loader)).stop * loader.bs, loader.n_items) for r in range(ranks.size)]
    for of_view in outputs:
        ranks.copy_shares(of_view, ends)


def _views(pictures: _Viewed, steps: range) -> Iterator[tuple[int, BatchLike]]:
    """Give the batches of these steps plain, unless that is known, then each once for each augmenter (its pixels are
    gathered once)."""
    whole = len(steps) == len(pictures.loader)
    if pictures.plain is None:
        for batch in batches_between(pictures.loader, steps.start, None if whole else steps.stop):
            yield 0, batch
    if pictures.augmenters and isinstance(pictures.loader, BatchLoader):
        for i, augmented in enumerate(pictures.loader.views(pictures.augmenters, steps.start, steps.stop)):
            yield 1 + i % len(pictures.augmenters), augmented
