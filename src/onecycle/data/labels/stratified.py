"""Stratified splits and folds: each part gets its share of every class or tag, and groups stay together.

Everything is a function of (names, labels, groups, seed); the order of the rows does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onecycle.data.labels.items import Labels
from onecycle.data.labels.splits import DEFAULT_SEED, Split, check_share, make_split
from onecycle.errors import ArgumentError, DataError, DataWarning, warn
from onecycle.text import shown

_FREE = -1  # a unit that has no part yet
_MOST_ROUNDS = 10  # of moving units; mostly two or three are enough


def stratified_split(
    names: Sequence[str],
    labels: Labels,
    valid_pct: float = 0.2,
    *,
    seed: int | None = None,
    groups: np.ndarray | None = None,
) -> Split:
    """Draw a split in which both parts have about the same share of each class or tag.

    One label a picture: of each class, its share of the pictures validates, rounded up or down so that
    ``int(valid_pct · N)`` validate in all. Tags, or groups: iterative stratification, see ``deal``.
    A class or tag that a single picture (group) has goes to training, with a warning: it would otherwise never be
    learned.

    Args:
        names: N names; they settle the order before the draws.
        labels: of the N pictures.
        valid_pct: share that validates, 0 ≤ valid_pct < 1.
        seed: defaults to ``DEFAULT_SEED``.
        groups: int64 ``(N,)`` group numbers; a group stays whole.

    Raises:
        ArgumentError: a share outside [0, 1), or not as many labels or groups as names.
        DataError: only one group.
    """
    check_share(valid_pct)
    _check_lengths(names, labels, groups)
    used = DEFAULT_SEED if seed is None else seed
    rng = np.random.default_rng(used)
    order = _by_name(names, labels)
    if labels.is_multi or groups is not None:
        units, counts = _units(order, labels, groups)
        if groups is not None and len(counts) < 2 and valid_pct > 0:
            raise DataError("all pictures belong to one group, so none can validate; choose other groups")
        dealt = deal(counts, [1 - valid_pct, valid_pct], rng, lone_part=0)
        parts = dealt[units]
        lone = np.flatnonzero((counts[:, :-1] > 0).sum(axis=0) == 1)
    else:
        parts = _quota_parts(labels.targets, order, valid_pct, rng)
        lone = np.flatnonzero(labels.counts() == 1)
    how = "stratified" if groups is None else "stratified by whole groups"
    how = f"{how}, valid_pct={valid_pct}, seed={used}"
    if len(lone) and valid_pct > 0:
        what, unit = labels.words, "picture" if groups is None else "group"
        names_of = shown([repr(labels.classes[c]) for c in lone], most=5)
        note = f"{what} with a single {unit}, which trains: {names_of}"
        how = f"{how}; {note}"
        warn(f"{note}; nothing measures how well they are recognised", DataWarning)
    return make_split(np.flatnonzero(parts == 0), np.flatnonzero(parts == 1), how, groups=groups)


def stratified_folds(
    names: Sequence[str], labels: Labels, n_folds: int, *, seed: int | None = None, groups: np.ndarray | None = None
) -> np.ndarray:
    """Deal N pictures into folds with about the same share of each class or tag.

    Args:
        names, labels, seed, groups: as in ``stratified_split``.
        n_folds: 2 or more, at most as many as there are pictures (groups).

    Returns:
        the fold of each picture, int64 ``(N,)`` in 0 … n_folds − 1; no fold is empty.

    Raises:
        ArgumentError: a number of folds that cannot work.
    """
    _check_lengths(names, labels, groups)
    n_units, what = (len(names), "pictures") if groups is None else (len(np.unique(groups)), "groups")
    if not 2 <= n_folds <= n_units:
        raise ArgumentError(f"folds is a number from 2 to {n_units} (the {what}); received {n_folds}")
    rng, order = np.random.default_rng(DEFAULT_SEED if seed is None else seed), _by_name(names, labels)
    if not labels.is_multi and groups is None:
        shuffled = rng.permutation(order)
        by_class = shuffled[np.argsort(labels.targets[shuffled], kind="stable")]
        folds = np.empty(len(names), dtype=np.int64)
        folds[by_class] = np.arange(len(names)) % n_folds  # each class goes round; so do the folds' sizes
        return folds
    units, counts = _units(order, labels, groups)
    folds = deal(counts, [1 / n_folds] * n_folds, rng)
    for fold in range(n_folds):  # few units, each wanted more elsewhere, can leave a fold empty
        if not (folds == fold).any():
            largest = int(np.bincount(folds, minlength=n_folds).argmax())
            folds[np.flatnonzero(folds == largest)[-1]] = fold
    return np.asarray(folds[units])


def deal(
    counts: np.ndarray, shares: Sequence[float], rng: np.random.Generator, *, lone_part: int | None = None
) -> np.ndarray:
    """Deal units into parts so that each part gets its share of every class: iterative stratification, then moves.

    Again and again the class with the fewest units left is taken. Each of its units goes to the part that still
    wants the most of this class; at a tie to the part that wants the most pictures; then at random. Units with
    many pictures come first. Units without any class fill up the parts. At the end ``_settle`` mends what looking
    at one class at a time has left: much where there are many classes, or few and large groups.

    Args:
        counts: ``(U, C + 1)`` float64: of each unit (a picture or a group), how many of its pictures have each
            class; the last column is the number of its pictures.
        shares: what each part shall get, adding up to 1.
        rng: for the order of equal units and the last ties.
        lone_part: where units go that have a class which no other unit has; None deals them like all others.

    Returns:
        the part of each unit, int64 ``(U,)``.

    Source: Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label data", algorithm 1.
    """
    n_units, sizes = len(counts), counts[:, -1]
    shuffled = rng.permutation(n_units)
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    wanted = np.outer(shares, counts.sum(axis=0))  # (parts, C + 1): what each part still wants
    parts = np.full(n_units, _FREE, dtype=np.int64)
    has = counts[:, :-1] > 0
    left = has.sum(axis=0)

    def put(unit: int, part: int) -> None:
        parts[unit] = part
        wanted[part] -= counts[unit]
        left[has[unit]] -= 1

    if lone_part is not None:
        for unit in order[has[order][:, left == 1].any(axis=1)]:
            put(int(unit), lone_part)
    free = order[parts[order] == _FREE]
    while (left > 0).any():
        label = int(np.where(left > 0, left, n_units + 1).argmin())
        for unit in order[has[order, label] & (parts[order] == _FREE)]:
            put(int(unit), _hungriest(wanted, label, rng))
    for unit in order[parts[order] == _FREE]:
        put(int(unit), _hungriest(wanted, -1, rng))
    _settle(parts, counts, shares, free, size_weight=1 if sizes.max(initial=0) <= 1 else counts.shape[1] - 1)
    return parts


def _settle(
    parts: np.ndarray, counts: np.ndarray, shares: Sequence[float], movable: np.ndarray, *, size_weight: float
) -> None:
    """Move units one by one, in place, while that brings the parts nearer to their shares.

    What falls is Σ over parts and columns of weight · (part's count / column's total)² / share, which is smallest
    where every part has its share of every class and of the pictures.

    Args:
        parts, counts, shares: as in ``deal``.
        movable: the units that may move, in the order in which they are asked.
        size_weight: of the last column; each class weighs 1. Whole groups change the size by a lot, and weighed
            like one class among many it would be left to chance.
    """
    total = counts.sum(axis=0)
    weight = np.where(total > 0, 1 / np.maximum(total, 1) ** 2, 0.0)
    weight[-1] *= size_weight
    weights = weight / np.maximum(shares, 1e-12)[:, None]
    load = np.zeros_like(weights)
    np.add.at(load, parts, counts)
    for _ in range(_MOST_ROUNDS):
        moved = False
        for unit in movable:
            now = parts[unit]
            load[now] -= counts[unit]
            added = ((2 * load + counts[unit]) * counts[unit] * weights).sum(axis=1)
            best = int(added.argmin())
            if added[best] < added[now] - 1e-12:
                parts[unit], moved = best, True
            load[parts[unit]] += counts[unit]
        if not moved:
            break


def _hungriest(wanted: np.ndarray, label: int, rng: np.random.Generator) -> int:
    """Return the part that wants the most of a class, at a tie the most pictures, then a random one."""
    best = np.flatnonzero(wanted[:, label] >= wanted[:, label].max() - 1e-9)
    if len(best) > 1:
        pictures = wanted[best, -1]
        best = best[pictures >= pictures.max() - 1e-9]
    return int(best[0] if len(best) == 1 else rng.choice(best))


def _quota_parts(targets: np.ndarray, order: np.ndarray, valid_pct: float, rng: np.random.Generator) -> np.ndarray:
    """Return 1 for the rows that validate: of each class its share, what is left over by largest remainders."""
    sizes = np.bincount(targets)
    exact = np.where(sizes > 1, valid_pct * sizes, 0.0)
    quota = np.floor(exact + 1e-9).astype(np.int64)
    n_open = max(0, int(valid_pct * len(targets)) - int(quota.sum()))
    by_remainder = np.lexsort((rng.random(len(sizes)), quota - exact))
    takes_more = [c for c in by_remainder if exact[c] > quota[c] + 1e-9 and quota[c] + 1 < sizes[c]]
    quota[takes_more[:n_open]] += 1
    parts = np.zeros(len(targets), dtype=np.int64)
    shuffled = rng.permutation(order)
    by_class = shuffled[np.argsort(targets[shuffled], kind="stable")]
    of_class = targets[by_class]
    place = np.arange(len(targets)) - (np.cumsum(sizes) - sizes)[of_class]  # of a row within its class
    parts[by_class] = place < quota[of_class]
    return parts


def _check_lengths(names: Sequence[str], labels: Labels, groups: np.ndarray | None) -> None:
    for what, values in (("labels", labels), ("groups", groups)):
        if values is not None and len(values) != len(names):
            raise ArgumentError(f"expected {what} of {len(names)} pictures, received {len(values)}")


def _by_name(names: Sequence[str], labels: Labels) -> np.ndarray:
    """Return the rows ordered by name and, where a name comes twice, by label."""
    keys = [row.tobytes() for row in labels.targets]
    return np.array(sorted(range(len(names)), key=lambda i: (names[i], keys[i])), dtype=np.int64)


def _units(order: np.ndarray, labels: Labels, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return what is dealt as a whole, pictures or groups.

    Args:
        order: the rows ordered by name, so that the numbers of the units do not depend on the rows' order.
        labels: of the N pictures.
        groups: int64 ``(N,)``, or None.

    Returns:
        the unit of each row, int64 ``(N,)``, and the counts that ``deal`` takes.
    """
    units = np.empty(len(order), dtype=np.int64)
    units[order] = np.arange(len(order))
    if groups is not None:
        units = np.unique(groups, return_inverse=True)[1].reshape(-1)
    counts = np.zeros((int(units.max(initial=-1)) + 1, len(labels.classes) + 1))
    counts[:, -1] = np.bincount(units, minlength=len(counts))
    if labels.is_multi:
        np.add.at(counts[:, :-1], units, labels.targets > 0)
    else:
        np.add.at(counts, (units, labels.targets), 1)
    return units, counts
