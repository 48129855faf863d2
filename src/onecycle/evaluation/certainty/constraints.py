"""Tags of which exactly one is always present: groups that the data obey, and deciding them by the most probable."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onecycle.errors import ArgumentError

Groups = Sequence[Sequence[int]]
MAX_NODES = 20_000  # of the search for exactly-one groups; real data take some dozens


@dataclass(frozen=True)
class Constraint:
    """Tags of which every picture seen has exactly one."""

    tags: tuple[Any, ...]  # their names, in the order of the classes
    counts: tuple[int, ...]  # pictures of each
    n: int  # pictures seen

    @property
    def exceptions_up_to(self) -> float:
        """The share of exceptions among all pictures that seeing none still allows (95 %): 3/n."""
        return min(1.0, 3 / self.n)

    def __str__(self) -> str:
        tags = ", ".join(f"{t} ({k:,})" for t, k in zip(self.tags, self.counts, strict=True))
        text = f"exactly one of {tags}; in up to {self.exceptions_up_to:.1%} of pictures it may still be otherwise"
        return textwrap.fill(text, 80)


def propose_constraints(
    targets: np.ndarray, classes: Sequence[Any], *, min_count: int = 5, min_pictures: int = 100
) -> list[Constraint]:
    """Find groups of tags of which always exactly one is present, as Planet's four kinds of weather.

    Chance is kept out by support: k pictures with a tag avoid the n − k with the others by chance in one of
    n!/(k!(n−k)!) cases, one in 10¹¹ with 5 of 300, fewer than there are groups of tags to look at.

    Args:
        targets: 0/1 ``(N, C)``.
        classes: C names.
        min_count: pictures that each tag of a group must have.
        min_pictures: with fewer pictures nothing is proposed.

    Returns:
        Groups of at least two tags, the most evenly used first; a tag may be in several. Whether such a group is a
        rule or an accident of the sample is the user's to say.
    """
    truth = np.asarray(targets) > 0
    if truth.ndim != 2 or truth.shape[1] != len(classes):
        raise ArgumentError(f"expected tags 0/1 (N, {len(classes)}); received {truth.shape}")
    if len(truth) < min_pictures:
        return []
    counts = truth.sum(axis=0)
    constraints = [
        Constraint(tuple(classes[t] for t in tags), tuple(int(counts[t]) for t in tags), len(truth))
        for tags in _exact_covers(truth, counts >= min_count)
        if len(tags) > 1
    ]
    return sorted(constraints, key=lambda c: -min(c.counts))


def _exact_covers(truth: np.ndarray, allowed: np.ndarray) -> list[tuple[int, ...]]:
    """List the sets of allowed tags that split the pictures: each picture has exactly one tag of the set.

    Some picture has not been covered yet; one of its own tags must be in the set. So few branches are open.
    """
    together = truth.T.astype(np.int64) @ truth.astype(np.int64) > 0
    covers: list[tuple[int, ...]] = []
    open_sets: list[tuple[tuple[int, ...], np.ndarray, np.ndarray]] = [((), np.zeros(len(truth), dtype=bool), allowed)]
    for _ in range(MAX_NODES):
        if not open_sets:
            break
        chosen, covered, left = open_sets.pop()
        if covered.all():
            covers.append(tuple(sorted(chosen)))
            continue
        uncovered = np.flatnonzero(~covered)
        options = truth[uncovered] & left
        narrowest = options[options.sum(axis=1).argmin()]
        open_sets += [
            ((*chosen, int(t)), covered | truth[:, t], left & ~together[t]) for t in np.flatnonzero(narrowest)
        ]
    return covers


def apply_constraints(probs: np.ndarray, groups: Groups) -> np.ndarray:
    """Return probabilities in which each group is decided: 1 for its most probable tag, 0 for its others.

    Args:
        probs: float ``(N, C)``; it is not changed.
        groups: of tag indices; none leaves the probabilities as they are.

    Raises:
        ArgumentError: a group of fewer than two tags, an index out of range, or a tag in two groups.
    """
    check_groups(groups, probs.shape[1])
    decided = probs.copy()
    for group in groups:
        members = np.array(group)
        winner = members[probs[:, members].argmax(axis=1)]
        decided[:, members] = 0
        decided[np.arange(len(probs)), winner] = 1
    return decided


def check_groups(groups: Groups, c: int) -> None:
    """Refuse groups that cannot be decided, for C tags."""
    listed = [int(t) for group in groups for t in group]
    if any(len(group) < 2 for group in groups) or not all(0 <= t < c for t in listed):
        raise ArgumentError(f"a group has at least two tags, each an index in 0..{c - 1}; received {list(groups)}")
    if len(set(listed)) < len(listed):
        raise ArgumentError(f"a tag can be in one group only; received {list(groups)}")
