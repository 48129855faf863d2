"""A linear head that is solved, not trained: the one best weights for features that stand still, in seconds.

The loss of a linear head is convex, so a quasi-Newton method finds its minimum without a learning rate. How much large
weights are held back (L2) is chosen by cross-validation on the training part: the validation part chooses nothing.

A ``learn`` here is a ``Learner``; its module imports this one, so the type is not named.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onecycle.data.labels.items import Labels
from onecycle.data.labels.stratified import stratified_folds
from onecycle.errors import ArgumentError
from onecycle.learner.oversampling import sampling_weights
from onecycle.model.levels import LevelNorm, reads_levels
from onecycle.train.evaluate import Loader, validate
from onecycle.train.frozen import FeatureLoader
from onecycle.train.log.progress import Progress
from onecycle.train.log.recorder import EpochRow, MetricValue, Recorder
from onecycle.train.loop import Callback
from onecycle.train.losses import BCEWithLogitsFlat, CrossEntropyFlat
from onecycle.train.metrics import Metric

PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
"""Factors of the sum of squared weights, beside the summed loss of all pictures, that cross-validation chooses among.

On Planet (800 tiles, EfficientNet-Lite0, 128 px) 10 is best on one split and 10 to 30 on another; three times as much
or as little costs 1 to 4 % of the log loss.
"""

BIAS_PENALTY = 1e-3
"""Keeps the bias of a class that no training picture has finite."""

FOLDS, LEAST_TO_CHOOSE, USUAL_PENALTY = 5, 20, 10.0
"""Folds of the cross-validation; with fewer pictures than the second the last is taken."""

MOST_TO_CHOOSE = 4096
"""Pictures that the penalty is chosen on; of more, so many that are drawn."""

MOST_STEPS, STEPS_TO_CHOOSE, HISTORY = 200, 40, 10
"""Of L-BFGS, for the head itself and for each of those that choose the penalty. Planet's tags take 110, 0.4 s of one
core."""

MOST_NUMBERS = 2**28
"""Features times pictures that a head is solved for: a gigabyte."""

LossSum = Callable[[Tensor, Tensor], Tensor]
"""Summed loss of logits (N, C) and targets, (N,) int64 or (N, C) float."""


@dataclass(frozen=True)
class HeadFit:
    """How a head was solved."""

    penalty: float  # of the squared weights, chosen
    losses: dict[float, float]  # mean loss a picture on left-out folds, by penalty; empty where there were too few

    def __str__(self) -> str:
        how = f"chosen by {FOLDS} folds of the training part" if self.losses else "the usual one for so few pictures"
        return f"Head solved (L-BFGS); weight penalty {self.penalty:g}, {how}."


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
) -> HeadFit:
    """Solve a learner's head as one epoch of a fit; ``Learner.solve_head`` says more."""
    trainer, data, start_s = learn.trainer, learn.data, time.monotonic()
    reason = why_not_solved(learn, callbacks) or (None if reads_levels(trainer.model) else "it is not linear")
    if reason is not None or not isinstance(train_loader, FeatureLoader):
        raise ArgumentError(f"the head cannot be solved: {reason or 'it is fed pictures'}; use fit_one_cycle")
    norm, linear = trainer.head
    callbacks = sorted(callbacks, key=lambda cb: cb.order)
    has_valid = valid_loader is not None and len(valid_loader) > 0
    with trainer.running(recorder, progress=progress, callbacks=callbacks, validated=has_valid):
        progress.start(recorder.names, 1)
        trainer.epochs_done += 1
        features = train_loader.features
        fit = solve_head(
            norm, linear, features.features, features.targets, fold_of=_folds_of(data), is_multi=data.is_multi
        )
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


@dataclass(frozen=True)
class Weights:
    """Of a linear layer, in the features' own or in turned coordinates."""

    weight: Tensor  # (D, C)
    bias: Tensor  # (C,)


def solve_head(
    norm: LevelNorm, linear: nn.Linear, features: Tensor, targets: Tensor, *, fold_of: np.ndarray, is_multi: bool
) -> HeadFit:
    """Set a head's statistics and weights to those that fit the training part best.

    Args:
        norm: what the features go through first; its statistics are set.
        linear: changed in place.
        features: float32 (V, N, D), V views of each picture, the plain one first.
        targets: int64 (N,) or float32 (N, C).
        fold_of: int (N,), the fold of each picture in the cross-validation.
        is_multi: whether targets are tags.
    """
    n_views = len(features)
    device = linear.weight.device
    with torch.no_grad():
        flat = features.flatten(0, 1).to(device)
        norm.set_statistics(flat)
        x, axes = _turned(norm(flat))
    truth = targets.to(device).repeat(n_views, *[1] * (targets.ndim - 1))
    loss_sum, folds = (_tags_loss if is_multi else _classes_loss), np.tile(fold_of, n_views)
    losses = _cross_validated(x, truth, folds, linear.out_features, loss_sum, n_views)
    penalty = min(losses, key=lambda p: losses[p]) if losses else USUAL_PENALTY
    solved = minimise(x, truth, loss_sum, linear.out_features, penalty * n_views)
    with torch.no_grad():
        linear.weight.copy_((axes @ solved.weight if axes is not None else solved.weight).T)
        linear.bias.copy_(solved.bias)
    return HeadFit(penalty, losses)


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
    first = Weights(x.new_zeros(x.shape[1], n_classes), x.new_zeros(n_classes)) if start is None else start
    weight, bias = (t.detach().clone().requires_grad_() for t in (first.weight, first.bias))
    search = torch.optim.LBFGS(
        [weight, bias], max_iter=steps, history_size=HISTORY, line_search_fn="strong_wolfe",
        tolerance_grad=1e-6, tolerance_change=1e-7,
    )  # fmt: skip

    def closure() -> float:
        search.zero_grad()
        held = penalty * weight.square().sum() + BIAS_PENALTY * bias.square().sum()
        loss = (loss_sum(x @ weight + bias, targets) + held) / len(x)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    with torch.enable_grad():
        search.step(closure)  # type: ignore[no-untyped-call]
    return Weights(weight.detach(), bias.detach())


def _classes_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets, reduction="sum")


def _tags_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")


def _turned(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return (N, D) features in as many coordinates as there are pictures, and the axes (D, R) of these.

    The penalty is the same in any turned coordinates, so with fewer pictures than features nothing changes but the
    time: a fifth for 800 pictures and 3,584 features. Where there are more pictures the features stay as they are.
    """
    if len(x) >= x.shape[1]:
        return x, None
    squares, vectors = torch.linalg.eigh((x @ x.T).double())
    kept = squares > squares[-1].clamp(min=1e-12) * 1e-10
    roots = squares[kept].sqrt()
    vectors = vectors[:, kept]
    return (vectors * roots).float(), (x.T.double() @ (vectors / roots)).float()


def _cross_validated(
    x: Tensor, targets: Tensor, fold_of: np.ndarray, n_classes: int, loss_sum: LossSum, n_views: int
) -> dict[float, float]:
    """Return the mean loss of left-out pictures, by penalty; from the largest, until it only gets worse."""
    n = len(x) // n_views
    if n < LEAST_TO_CHOOSE or len(np.unique(fold_of)) < 2:
        return {}
    drawn = np.random.default_rng(0).permutation(n)[:MOST_TO_CHOOSE]
    rows = (drawn + n * np.arange(n_views)[:, None]).ravel()
    share = n_views * len(drawn) / n  # the penalty of fewer pictures, with the same effect as of all
    starts: dict[int, Weights] = {}
    losses: dict[float, float] = {}
    for penalty in PENALTIES:
        total, count = 0.0, 0
        for fold in np.unique(fold_of[rows]).tolist():
            left_out = fold_of[rows] == fold
            rest, held = (torch.from_numpy(r).to(x.device) for r in (rows[~left_out], rows[left_out]))
            held = held[held < n]  # judged by their plain view
            of_rest = (x[rest], targets[rest], loss_sum, n_classes, penalty * share)
            starts[fold] = minimise(*of_rest, starts.get(fold), steps=STEPS_TO_CHOOSE)
            logits = x[held] @ starts[fold].weight + starts[fold].bias
            total, count = total + float(loss_sum(logits, targets[held])), count + len(held)
        losses[penalty] = total / max(count, 1)
        if _only_worse(list(losses.values())):
            break
    return losses


def _only_worse(losses: Sequence[float]) -> bool:
    """Whether the last two are each worse than the one before."""
    return len(losses) > 2 and losses[-3] < losses[-2] < losses[-1] and math.isfinite(losses[-1])
