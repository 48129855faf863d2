"""Tags as sets, solved: whether the sets that training has say more than its tags one by one, and how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from onecycle.learner.heads.search import MOST_STEPS, Weights, best, choose_penalty, search, zeros
from onecycle.model.tag_sets import TagSets

MOST_SEEN_ONCE = 0.3
"""Of more training pictures with a set that no other has, new pictures have too many new sets. (Good and Turing: the
share of sets seen once estimates the share of new ones; Planet: 0.05.)"""

MOST_SETS = 2000
"""More are not tried: each step costs pictures times sets."""

PAIR_PENALTY = 1.0
"""Of the squared weight of each pair of tags."""


@dataclass(frozen=True)
class SetProblem:
    """Pictures by the set of tags that they have."""

    x: Tensor  # float32 (N, D)
    tags: Tensor  # float32 (N, C)
    sets: Tensor  # float32 (K, C), each set of tags once
    of_each: Tensor  # int64 (N,), the set of each picture
    pairs: Tensor  # float32 (K, P): which pairs of tags each set has

    @classmethod
    def of(cls, x: Tensor, tags: Tensor) -> SetProblem:
        """Find the sets of training tags."""
        sets, of_each = torch.unique(tags, dim=0, return_inverse=True)
        first, second = torch.triu_indices(tags.shape[1], tags.shape[1], 1, device=tags.device)
        pairs = sets[:, first] * sets[:, second]
        return cls(x, tags, sets, of_each, pairs[:, pairs.sum(0) > 0])

    def minimise(self, rows: Tensor, penalty: float, start: Weights | None, steps: int) -> Weights:
        """Return the weights of the smallest loss of some pictures; sets that they lack count as not there."""
        x, of_each, unknown = self.x[rows], self.of_each[rows], self.unknown(rows)
        c = self.tags.shape[1]
        first = start or zeros(x, c, self.pairs.shape[1])

        def loss(weights: Weights) -> Tensor:
            scores = weights.scores(x) @ self.sets.T + self.pairs @ weights.pairs
            held = PAIR_PENALTY * weights.pairs.square().sum()
            return F.cross_entropy(scores.masked_fill(unknown, -torch.inf), of_each, reduction="sum") + held

        return search(first, loss, penalty, len(x), steps)

    def unknown(self, rows: Tensor) -> Tensor:
        """Tell which sets none of these pictures has, bool ``(K,)``."""
        return torch.bincount(self.of_each[rows], minlength=len(self.sets)) == 0

    def layer(self, weights: Weights, rows: Tensor, n: int) -> TagSets:
        """Return the last layer of a head that was solved on these rows, which show ``n`` pictures."""
        known = ~self.unknown(rows)
        return TagSets.of(self.sets[known], (self.pairs @ weights.pairs)[known], n)


@dataclass(frozen=True)
class SetFit:
    """A set model that was solved."""

    weights: Weights
    layer: TagSets  # the last one of the head
    penalty: float  # of the squared weights, chosen
    losses: dict[float, float]  # mean loss a picture on left-out folds, by penalty


def solve_sets(x: Tensor, tags: Tensor, fold_of: np.ndarray, n_views: int, to_beat: float) -> SetFit | None:
    """Solve the set model where it predicts left-out tags better than independent tags do.

    Args:
        x: float32 (V·N, D), V views of each picture, all plain ones first.
        tags: float32 (V·N, C).
        fold_of: int (V·N,).
        n_views: V.
        to_beat: mean loss a picture (binary cross-entropy, summed over tags) of independent tags on left-out folds.

    Returns:
        What was solved; None where independent tags are as good or too many sets are seen once.
    """
    problem, n = SetProblem.of(x, tags), len(x) // n_views
    counts = torch.bincount(problem.of_each[:n])
    if float((counts == 1).sum()) > MOST_SEEN_ONCE * n or not 1 < len(counts) <= MOST_SETS:
        return None

    def judged(weights: Weights, rest: Tensor, held: Tensor) -> Tensor:
        logits = problem.layer(weights, rest, len(rest))(weights.scores(x[held]))
        return F.binary_cross_entropy_with_logits(logits, tags[held], reduction="sum")

    losses = choose_penalty(problem.minimise, judged, fold_of, n_views, x.device)
    if not losses or min(losses.values()) >= to_beat:
        return None
    rows = torch.arange(len(x), device=x.device)
    weights = problem.minimise(rows, best(losses) * n_views, None, MOST_STEPS)
    return SetFit(weights, problem.layer(weights, rows, n), best(losses), losses)
