"""The search for a linear head's best weights, and the choice of how much large ones are held back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

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


@dataclass(frozen=True)
class Weights:
    """Of a linear layer, in the features' own or in turned coordinates."""

    weight: Tensor  # (D, C)
    bias: Tensor  # (C,)
    pairs: Tensor  # (P,), of pairs of tags; none where tags are independent

    def scores(self, x: Tensor) -> Tensor:
        """Return (N, C) for features (N, D)."""
        return x @ self.weight + self.bias


def zeros(x: Tensor, n_classes: int, n_pairs: int = 0) -> Weights:
    """Return weights of nothing, for features (N, D)."""
    return Weights(x.new_zeros(x.shape[1], n_classes), x.new_zeros(n_classes), x.new_zeros(n_pairs))


def search(first: Weights, loss_sum: Callable[[Weights], Tensor], penalty: float, n: int, steps: int) -> Weights:
    """Return the weights of the smallest summed loss plus penalty · ‖W‖², by L-BFGS.

    Args:
        first: where to begin.
        loss_sum: of the weights, over n pictures; convex.
        penalty: above 0.
        n: pictures.
        steps: the most that are taken.
    """
    weights = Weights(*(t.detach().clone().requires_grad_() for t in (first.weight, first.bias, first.pairs)))
    lbfgs = torch.optim.LBFGS(
        [weights.weight, weights.bias, weights.pairs], max_iter=steps, history_size=HISTORY,
        line_search_fn="strong_wolfe", tolerance_grad=1e-6, tolerance_change=1e-7,
    )  # fmt: skip

    def closure() -> float:
        lbfgs.zero_grad()
        held = penalty * weights.weight.square().sum() + BIAS_PENALTY * weights.bias.square().sum()
        loss = (loss_sum(weights) + held) / n
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    with torch.enable_grad():
        lbfgs.step(closure)  # type: ignore[no-untyped-call]
    return Weights(weights.weight.detach(), weights.bias.detach(), weights.pairs.detach())


def choose_penalty(
    fit: Callable[[Tensor, float, Weights | None, int], Weights],
    judge: Callable[[Weights, Tensor, Tensor], Tensor],
    fold_of: np.ndarray,
    n_views: int,
    device: torch.device,
) -> dict[float, float]:
    """Return the mean loss of left-out pictures, by penalty; from the largest, until it only gets worse.

    Args:
        fit: from rows, a penalty, where to begin and the most steps to weights.
        judge: from weights, the rows that they were solved on and rows that were left out, to the loss of each picture
            that can be judged.
        fold_of: int (V·N,), of V views of N pictures, all plain ones first; left-out ones are judged by these.
        n_views: V.
        device: of the rows.
    """
    n = len(fold_of) // n_views
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
            rest, held = (torch.from_numpy(r).to(device) for r in (rows[~left_out], rows[left_out]))
            held = held[held < n]
            starts[fold] = fit(rest, penalty * share, starts.get(fold), STEPS_TO_CHOOSE)
            judged = judge(starts[fold], rest, held)
            total, count = total + float(judged.sum()), count + len(judged)
        if not count:
            return {}
        losses[penalty] = total / count
        if _only_worse(list(losses.values())):
            break
    return losses


def best(losses: dict[float, float]) -> float:
    """Return the penalty of the smallest loss; the usual one where none was judged."""
    return min(losses, key=lambda penalty: losses[penalty]) if losses else USUAL_PENALTY


def _only_worse(losses: Sequence[float]) -> bool:
    """Whether the last two are each worse than the one before."""
    return len(losses) > 2 and losses[-3] < losses[-2] < losses[-1] and math.isfinite(losses[-1])
