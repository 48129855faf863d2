"""fastai v1's draws among the items of a list: with a ``seed``, those that v1 drew with it."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from onecycle.data.labels.splits import DEFAULT_SEED, Split, index_split
from onecycle.errors import ArgumentError


def permuted(n: int, seed: int | None) -> list[int]:
    """Return the positions of ``n`` items in the order that is drawn."""
    order: list[int] = np.random.RandomState(DEFAULT_SEED if seed is None else seed).permutation(n).tolist()
    return order


def kept(n: int, p: float, seed: int | None) -> list[int]:
    """Return which of ``n`` items are kept, each with probability ``p``."""
    draw = random.Random(DEFAULT_SEED if seed is None else seed).random
    return [i for i in range(n) if draw() < p]


def rand_split(n: int, valid_pct: float, seed: int) -> Split:
    """Draw ``int(valid_pct · n)`` rows that validate."""
    drawn = permuted(n, seed)[: int(valid_pct * n)]
    return replace(index_split(n, sorted(drawn)), how=f"random as in fastai v1, valid_pct={valid_pct}, seed={seed}")


def subsets(n: int, train_size: float, valid_size: float, seed: int | None) -> Split:
    """Draw a share of ``n`` rows that train and another one that validates.

    Raises:
        ArgumentError: a share is not between 0 and 1, or both are more than all.
    """
    if not (0 < train_size < 1 and 0 < valid_size < 1 and train_size + valid_size <= 1):
        raise ArgumentError(
            f"train_size and valid_size are shares above 0, together at most 1; received {train_size} and {valid_size}"
        )
    n_train, n_valid, order = int(train_size * n), int(valid_size * n), permuted(n, seed)
    return index_split(n, order[n - n_valid :], order[:n_train])
