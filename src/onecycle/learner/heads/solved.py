"""A linear head that is solved, not trained: the one best weights for features that stand still, in seconds.

The loss of a linear head is convex, so a quasi-Newton method finds its minimum without a learning rate. How much large
weights are held back (L2) is chosen by cross-validation on the training part: the validation part chooses nothing.

A ``learn`` here is a ``Learner``; its module imports this one, so the type is not named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onecycle.data.labels.items import Labels, need_classes
from onecycle.data.labels.stratified import stratified_folds
from onecycle.data.labels.tag_lists import tags_of_strings
from onecycle.data.pixels.store import default_store_bytes
from onecycle.errors import ArgumentError
from onecycle.learner.heads.search import FOLDS, MOST_STEPS, Weights, best, choose_penalty, search, zeros
from onecycle.learner.heads.sets import MOST_SETS, SetFit, judged_losses, solve_sets, solve_strings
from onecycle.learner.oversampling import sampling_weights
from onecycle.model.levels import LevelNorm, reads_levels
from onecycle.model.tag_sets import TagSets
from onecycle.text import by_place, plural
from onecycle.train.device.machine import free_device_bytes
from onecycle.train.device.precision import float32_products
from onecycle.train.evaluate import Loader, validate
from onecycle.train.frozen import FeatureLoader
from onecycle.train.log.progress import Progress
from onecycle.train.log.recorder import EpochRow, MetricValue, Recorder
from onecycle.train.loop import Callback
from onecycle.train.losses import BCEWithLogitsFlat, CrossEntropyFlat
from onecycle.train.metrics import Metric

LossSum = Callable[[Tensor, Tensor], Tensor]
"""Summed loss of logits (N, C) and targets, (N,) int64 or (N, C) float."""

COPIES_OF_FEATURES, COPIES_OF_LOGITS = 4, 6
"""Memory of solving at its peak, in units of all features, and of a number for each picture and class or set of tags.

Measured: 2.0 of features (30,000 pictures, 1,000 values, 3 classes), 3.2 and 4.9 of logits (60,000 pictures, 20 values,
400 classes and 200 tags); features once more where tags are predicted as sets.
"""


@dataclass(frozen=True)
class HeadFit:
    """How a head was solved."""

    penalty: float  # of the squared weights, chosen
    losses: dict[float, float]  # mean loss a picture on left-out folds, by penalty; empty where there were too few
    sets: TagSets | None = None  # the last layer, where tags are predicted as sets; None: each tag by itself
    n_tags: int = 0  # that the classes are made of, where they are predicted through these
    solved_on: int | None = None  # training pictures, where memory has no room for all

    def __str__(self) -> str:
        how = f"chosen by {FOLDS} folds of the training part" if self.losses else "the usual one for so few pictures"
        lines = [f"Head solved (L-BFGS); weight penalty {self.penalty:g}, {how}."]
        if self.solved_on is not None:
            lines += [f"It is solved on {self.solved_on:,} training pictures, drawn: memory has no room for all."]
        if self.sets is not None:
            n = plural(len(self.sets.sets), "set of tags", "sets of tags")
            lines += [f"Tags are predicted by the {n} of training: better on those folds than one by one."]
        if self.n_tags:
            off = by_place("--no-through-tags", "through_tags=False")
            lines += [
                f"The classes are strings of {self.n_tags} tags and predicted through these: better on those folds "
                f"than without ({off})."
            ]
        return "\n".join(lines)


def why_not_solved(learn: Any, callbacks: Sequence[Callback] = ()) -> str | None:
    """Say why the head of a learner must be trained, None where its minimum can be computed.

    Args:
        learn: the learner, whatever its head.
        callbacks: of the fit.
    """
    loss = learn.loss_func
    if type(loss) is not (BCEWithLogitsFlat if learn.data.is_multi else CrossEntropyFlat):
        return f"the loss {type(loss).__name__} is not the usual one for these labels"
    if (
        loss.weight is not None
        or getattr(loss, "pos_weight", None) is not None
        or getattr(loss, "label_smoothing", None)
    ):
        return "the loss has weights of its own"
    if sampling_weights(callbacks) is not None:
        return "rare classes are drawn more often"
    return None


def solve(
    learn: Any,
    *,
    train_loader: Loader,
    valid_loader: Loader | None,
    recorder: Recorder,
    metrics: Sequence[Metric],
    callbacks: Sequence[Callback],
    progress: Progress,
    through_tags: bool = True,
) -> HeadFit:
    """Solve a learner's head as one epoch of a fit; ``Learner.solve_head`` says more."""
    need_classes(learn.data.labels, "solve_head()")
    trainer, data, start_s = learn.trainer, learn.data, time.monotonic()
    reason = why_not_solved(learn, callbacks) or (None if reads_levels(trainer.model) else "it is not linear")
    if reason is not None or not isinstance(train_loader, FeatureLoader):
        raise ArgumentError(f"the head cannot be solved: {reason or 'it is fed pictures'}; use fit_one_cycle")
    norm, linear = trainer.head[0], trainer.head[1]
    callbacks = sorted(callbacks, key=lambda cb: cb.order)
    has_valid = valid_loader is not None and len(valid_loader) > 0
    running = trainer.running(recorder, progress=progress, callbacks=callbacks, validated=has_valid)
    with running, float32_products():
        progress.start(recorder.names, 1)
        trainer.epochs_done += 1
        features = train_loader.features
        fit = solve_head(
            norm,
            linear,
            features.features,
            features.targets,
            fold_of=_folds_of(data),
            is_multi=data.is_multi,
            strings=None if data.is_multi or not through_tags else tags_of_strings(data.classes),
        )
        put_sets(learn, fit.sets)
        train_loss, _ = validate(trainer.head, train_loader, trainer.loss_func)
        recorder.add_hypers([0.0] * len(trainer.layer_groups), None)
        recorder.add_loss(torch.tensor(train_loss))
        valid_loss: float | None = None
        values: list[MetricValue] = []
        if valid_loader is not None and has_valid:
            valid_loss, values = trainer.validate(valid_loader, metrics)
        row = EpochRow(0, train_loss, valid_loss, tuple(values), time.monotonic() - start_s)
        recorder.add_row(row, 1)
        progress.row(row)
        for callback in callbacks:
            callback.on_epoch_end(trainer, row)
    return fit


def put_sets(learn: Any, layer: TagSets | None) -> None:
    """Let a linear head end in the layer of its tag sets, or in none."""
    network = learn.network  # of the layers as they are: None once they are others
    head = {name: value for name, value in (network or {}).get("head", {}).items() if name != "sets"}
    for layers in (learn.model[1], learn.trainer.head):
        if isinstance(layers[-1], TagSets):
            del layers[-1]
        if layer is not None:
            layers.append(layer)
    if network is not None:
        learn.network = {**network, "head": head if layer is None else {**head, "sets": len(layer.sets)}}


def _folds_of(data: Any) -> np.ndarray:
    """Deal the training pictures into folds: a group stays in one, each has its share of each class."""
    rows = data.split.train
    labels = Labels(data.classes, data.labels.targets[rows], data.is_multi)
    groups = None if data.split.groups is None else data.split.groups[rows]
    n_groups = len(rows) if groups is None else len(np.unique(groups))
    if min(n_groups, len(rows)) < 2:
        return np.zeros(len(rows), dtype=np.int64)
    names = [data.store.paths[row] for row in rows]
    return stratified_folds(names, labels, min(FOLDS, n_groups), seed=data.seed, groups=groups)


def solve_head(
    norm: LevelNorm,
    linear: nn.Linear,
    features: Tensor,
    targets: Tensor,
    *,
    fold_of: np.ndarray,
    is_multi: bool,
    strings: np.ndarray | None = None,
    max_bytes: int | None = None,
) -> HeadFit:
    """Set a head's statistics and weights to those that fit the training part best.

    Args:
        norm: what the features go through first; its statistics are set.
        linear: changed in place.
        features: float32 (V, N, D), V views of each picture, the plain one first.
        targets: int64 (N,) or float32 (N, C).
        fold_of: int (N,), the fold of each picture in the cross-validation.
        is_multi: whether targets are tags.
        strings: 0/1 (C, T), the tags of each class where classes are strings of tags; they are then predicted through
            these where that is better on left-out folds.
        max_bytes: memory that it may take: where that is too little for all pictures, so many are drawn. Default: half
            of what is free.
    """
    n_views, device, c = len(features), linear.weight.device, linear.out_features
    n_logits = min(len(torch.unique(targets, dim=0)), MOST_SETS) if is_multi else c
    drawn = _drawn(features, n_logits, _free_bytes(device) if max_bytes is None else max_bytes)
    if drawn is not None:
        features, targets, fold_of = features[:, drawn], targets[drawn], fold_of[drawn]
    with torch.no_grad():
        flat = features.flatten(0, 1).to(device)
        norm.set_statistics(flat)
        x, axes = _turned(norm(flat))
    truth = targets.to(device).repeat(n_views, *[1] * (targets.ndim - 1))
    fit = _best_fit(x, truth, c, np.tile(fold_of, n_views), n_views, is_multi=is_multi, strings=strings)
    with torch.no_grad():
        linear.weight.copy_((axes @ fit.weights.weight if axes is not None else fit.weights.weight).T)
        linear.bias.copy_(fit.weights.bias)
    return HeadFit(fit.penalty, fit.losses, fit.layer, fit.n_tags, None if drawn is None else len(drawn))


def _best_fit(
    x: Tensor, truth: Tensor, c: int, folds: np.ndarray, n_views: int, *, is_multi: bool, strings: np.ndarray | None
) -> SetFit:
    """Solve with weights for each class, and through sets of tags; return what predicts left-out pictures better."""
    loss_sum = tags_loss if is_multi else classes_loss

    def fit(rows: Tensor, penalty: float, start: Weights | None, steps: int) -> Weights:
        return minimise(x[rows], truth[rows], loss_sum, c, penalty, start, steps=steps)

    def judge(weights: Weights, rest: Tensor, held: Tensor) -> Tensor:
        scores = weights.scores(x[held])
        if is_multi:
            return F.binary_cross_entropy_with_logits(scores, truth[held], reduction="none").sum(1)
        return judged_losses(scores, truth[rest], truth[held])

    losses = choose_penalty(fit, judge, folds, n_views, x.device)
    sets = None
    if losses and is_multi:
        sets = solve_sets(x, truth, folds, n_views, min(losses.values()))
    elif losses and strings is not None:
        of_classes = torch.from_numpy(strings).to(x)
        sets = solve_strings(x, of_classes, truth, folds, n_views, min(losses.values()))
    return sets or SetFit(minimise(x, truth, loss_sum, c, best(losses) * n_views), best(losses), losses)


def _drawn(features: Tensor, n_logits: int, max_bytes: int) -> Tensor | None:
    """Draw as many pictures as memory has room for; None where it has for all.

    Args:
        features: float32 (V, N, D).
        n_logits: of each picture: classes, or sets of tags.
        max_bytes: the most that solving may take.
    """
    n_views, n, d = features.shape
    most = max_bytes // (4 * n_views * (COPIES_OF_FEATURES * d + COPIES_OF_LOGITS * n_logits))
    if n <= most:
        return None
    return torch.from_numpy(np.sort(np.random.default_rng(0).permutation(n)[: max(most, 2)]))


def _free_bytes(device: torch.device) -> int:
    on_device = free_device_bytes(device)
    return default_store_bytes() if on_device is None else on_device


def minimise(
    x: Tensor,
    targets: Tensor,
    loss_sum: LossSum,
    n_classes: int,
    penalty: float,
    start: Weights | None = None,
    *,
    steps: int = MOST_STEPS,
) -> Weights:
    """Return the weights of the smallest loss plus penalty · ‖W‖².

    Args:
        x: float32 (N, D).
        targets: (N,) or (N, C).
        loss_sum: of logits and targets.
        n_classes: C.
        penalty: above 0.
        start: where to begin; None for zeros.
        steps: the most that are taken.
    """
    return search(start or zeros(x, n_classes), lambda w: loss_sum(w.scores(x), targets), penalty, len(x), steps)


def classes_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the summed loss of one class a picture."""
    return F.cross_entropy(logits, targets, reduction="sum")


def tags_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the summed loss of tags, each by itself."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")


def _turned(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return (N, D) features in as many coordinates as there are pictures, and the axes (D, R) of these.

    The penalty is the same in any turned coordinates, so with fewer pictures than features nothing changes but the
    time: a fifth for 800 pictures and 3,584 features. Where there are more pictures the features stay as they are.
    """
    if len(x) >= x.shape[1]:
        return x, None
    home = x.device
    x = x.cpu() if home.type == "mps" else x  # which has neither float64 nor this
    squares, vectors = torch.linalg.eigh((x @ x.T).double())
    kept = squares > squares[-1].clamp(min=1e-12) * 1e-10
    roots = squares[kept].sqrt()
    vectors = vectors[:, kept]
    return (vectors * roots).float().to(home), (x.T.double() @ (vectors / roots)).float().to(home)
