"""Which pictures train and which validate. Pure functions of names and a seed; no global random state."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from onecycle.errors import ArgumentError, DataError
from onecycle.text import by_place, option

DEFAULT_SEED = 42
"""The seed of every split and run unless one is given: results are repeatable by default."""


@dataclass(frozen=True)
class Split:
    """Row numbers of the two parts, int64, each ascending, and how they came about."""

    train: np.ndarray  # rows that train
    valid: np.ndarray  # rows that validate; may be empty
    how: str  # the call that made the split, in words
    groups: np.ndarray | None = None  # int64 (N,), the group of each row of the table, where pictures belong together

    def record(self, names: Sequence[str], *, most_names: int = 20_000) -> dict[str, object]:
        """Describe the split for a manifest: counts, a digest and (for up to ``most_names``) the valid files."""
        valid = sorted(names[i] for i in self.valid)
        digest = hashlib.sha256("\n".join(valid).encode()).hexdigest()
        record: dict[str, object] = {"how": self.how, "n_train": len(self.train), "n_valid": len(valid)}
        if self.groups is not None:
            record["n_groups"] = len(np.unique(self.groups))
        record["valid_sha256"] = digest
        if len(valid) <= most_names:
            record["valid"] = valid
        return record


def random_split(names: Sequence[str], valid_pct: float = 0.2, *, seed: int | None = None) -> Split:
    """Draw ``int(valid_pct · n)`` validation rows; the same names and seed give the same split in any row order.

    Args:
        names: one name a picture; they are sorted before the draw, so the disk's order does not matter.
        valid_pct: share of the pictures, 0 ≤ valid_pct < 1.
        seed: defaults to ``DEFAULT_SEED``.

    Raises:
        ArgumentError: a share outside [0, 1).
    """
    check_share(valid_pct)
    used = DEFAULT_SEED if seed is None else seed
    by_name = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
    shuffled = by_name[np.random.default_rng(used).permutation(len(names))]
    n_valid = int(valid_pct * len(names))
    return make_split(shuffled[n_valid:], shuffled[:n_valid], f"random, valid_pct={valid_pct}, seed={used}")


def group_numbers(values: Sequence[object]) -> np.ndarray:
    """Number the groups in the order of their names, int64 ``(N,)``, so that rows do not change the numbers."""
    names = np.array([str(v) for v in values], dtype=object)
    return np.unique(names, return_inverse=True)[1].reshape(-1).astype(np.int64)


def group_split(groups: np.ndarray, valid_pct: float = 0.2, *, seed: int | None = None) -> Split:
    """Draw whole groups for validation until it has ``valid_pct`` of the pictures as nearly as they allow.

    Groups come in random order; each one validates if that brings the count nearer to its goal, which is then
    missed by at most half of the largest group.

    Args:
        groups: int64 ``(N,)`` group numbers.
        valid_pct: share of the pictures, 0 ≤ valid_pct < 1.
        seed: defaults to ``DEFAULT_SEED``.

    Raises:
        ArgumentError: a share outside [0, 1).
        DataError: only one group.
    """
    check_share(valid_pct)
    used = DEFAULT_SEED if seed is None else seed
    ids, sizes = np.unique(groups, return_counts=True)
    if len(ids) < 2 and valid_pct > 0:
        raise DataError("all pictures belong to one group, so none can validate; choose other groups")
    goal, taken = valid_pct * len(groups), 0
    chosen = []
    for i in np.random.default_rng(used).permutation(len(ids)):
        size = int(sizes[i])
        if abs(taken + size - goal) < abs(taken - goal) and taken + size < len(groups):
            chosen.append(ids[i])
            taken += size
    valid = np.isin(groups, chosen)
    how = f"by whole groups ({len(chosen)} of {len(ids)} validate), valid_pct={valid_pct}, seed={used}"
    return make_split(np.flatnonzero(~valid), np.flatnonzero(valid), how, groups=groups)


def keep_together(split: Split, groups: Sequence[Sequence[int]]) -> Split:
    """Move whole groups to one side: where a group has members in both parts, those that validate go to training.

    So no validation picture has a copy among the training pictures. Groups that share a row count as one, and
    groups that the split was made by stay whole.

    Args:
        split: of the table's rows.
        groups: rows that belong together, each group as its row numbers (duplicates, say).

    Returns:
        The new split; its ``how`` says how many pictures moved.

    Raises:
        ArgumentError: a negative row number.
    """
    rows = [np.asarray(group, dtype=np.int64).reshape(-1) for group in groups]
    if split.groups is not None:
        by_group = np.argsort(split.groups, kind="stable")
        rows += np.split(by_group, 1 + np.flatnonzero(np.diff(split.groups[by_group])))
    n = 1 + max(int(part.max(initial=-1)) for part in (split.train, split.valid, *rows))
    rows = [_checked_rows(group, n, "groups") for group in rows]
    together = _joined(n, [pair for group in rows for pair in pairwise(group.tolist())])
    moves = split.valid[np.isin(together[split.valid], together[split.train])]
    how = f"{split.how}; {len(moves)} validation pictures moved to training, where their group is"
    train, valid = np.union1d(split.train, moves), np.setdiff1d(split.valid, moves)
    return make_split(train, valid, how, groups=split.groups)


def _joined(n: int, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return for each of ``n`` rows one row that stands for all that pairs join it with, int64 ``(n,)``."""
    parent = list(range(n))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]  # halves the way for the next look
            row = parent[row]
        return row

    for a, b in pairs:
        parent[root(a)] = root(b)
    return np.array([root(row) for row in range(n)], dtype=np.int64)


def index_split(n: int, valid_idx: Sequence[int], train_idx: Sequence[int] | None = None) -> Split:
    """Use the given rows for validation, and the given rows (default: all others) for training.

    Raises:
        ArgumentError: a row outside the table, or one that is in both parts.
    """
    valid = _checked_rows(valid_idx, n, "valid_idx")
    train = np.setdiff1d(np.arange(n), valid) if train_idx is None else _checked_rows(train_idx, n, "train_idx")
    both = np.intersect1d(train, valid)
    if len(both):
        raise ArgumentError(f"rows in both training and validation: {both[:10].tolist()}; each row belongs to one")
    return make_split(train, valid, "given rows")


def folder_split(
    names: Sequence[str], root: Path, *, train: str = "train", valid: str = "valid", may_be_empty: bool = False
) -> Split:
    """Split by the folder directly below ``root``: ``train`` or ``valid``; pictures elsewhere are left out.

    Raises:
        DataError: one of the folders holds no picture, and it may not be empty.
    """
    tops = {folder: f"{(root / folder).as_posix()}/" for folder in (train, valid)}
    rows = {
        folder: np.array([i for i, name in enumerate(names) if Path(name).as_posix().startswith(top)], dtype=np.int64)
        for folder, top in tops.items()
    }
    for folder, members in rows.items():
        if len(members) == 0 and not may_be_empty:
            raise DataError(
                f"no pictures in {root / folder}; expected {root}/{train}/<class>/… and {root}/{valid}/<class>/…; "
                f"for another layout pass {option('valid_pct', 0.2)} to split all pictures at random"
                f"{by_place('', ' or train=, valid=')}"
            )
    return Split(rows[train], rows[valid], f"by the folders {train}/ and {valid}/")


def func_split(names: Sequence[str], func: Callable[[str], bool]) -> Split:
    """Validate on the pictures for which ``func(name)`` is true."""
    chosen = np.array([bool(func(n)) for n in names], dtype=bool)
    return make_split(np.flatnonzero(~chosen), np.flatnonzero(chosen), "by a function")


def no_split(n: int) -> Split:
    """Train on everything; the validation part is empty."""
    return make_split(np.arange(n), np.arange(0), "none")


def check_share(valid_pct: float) -> None:
    """Refuse a share of the pictures that is not in [0, 1)."""
    if not 0 <= valid_pct < 1:
        raise ArgumentError(f"valid_pct is a share of the pictures, 0 <= valid_pct < 1; received {valid_pct}")


def _checked_rows(rows: Sequence[int] | np.ndarray, n: int, argument: str) -> np.ndarray:
    numbers = np.asarray(rows, dtype=np.int64).reshape(-1)
    outside = numbers[(numbers < 0) | (numbers >= n)]
    if len(outside):
        raise ArgumentError(f"{argument} has row {outside[0]}, but the table has rows 0 to {n - 1}")
    return np.unique(numbers)


def make_split(train: np.ndarray, valid: np.ndarray, how: str, *, groups: np.ndarray | None = None) -> Split:
    """Put two sets of rows into a split.

    Raises:
        DataError: nothing is left to train on.
    """
    if len(train) == 0:
        raise DataError(f"the split ({how}) leaves no picture to train on")
    return Split(np.sort(train).astype(np.int64), np.sort(valid).astype(np.int64), how, groups)
