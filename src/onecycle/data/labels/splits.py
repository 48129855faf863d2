"""Which pictures train and which validate. Pure functions of names and a seed; no global random state."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onecycle.errors import ArgumentError, DataError

DEFAULT_SEED = 42
"""The seed of every split and run unless one is given: results are repeatable by default."""


@dataclass(frozen=True)
class Split:
    """Row numbers of the two parts, int64, each ascending, and how they came about.

    Attributes:
        train: rows that train.
        valid: rows that validate; may be empty.
        how: the call that made the split, in words.
    """

    train: np.ndarray
    valid: np.ndarray
    how: str

    def record(self, names: Sequence[str], *, most_names: int = 20_000) -> dict[str, object]:
        """Describe the split for a manifest: counts, a digest and (for up to ``most_names``) the valid files."""
        valid = sorted(names[i] for i in self.valid)
        digest = hashlib.sha256("\n".join(valid).encode()).hexdigest()
        record: dict[str, object] = {"how": self.how, "n_train": len(self.train), "n_valid": len(valid)}
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
    if not 0 <= valid_pct < 1:
        raise ArgumentError(f"valid_pct is a share of the pictures, 0 <= valid_pct < 1; received {valid_pct}")
    used = DEFAULT_SEED if seed is None else seed
    by_name = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
    shuffled = by_name[np.random.default_rng(used).permutation(len(names))]
    n_valid = int(valid_pct * len(names))
    return _split(shuffled[n_valid:], shuffled[:n_valid], f"random, valid_pct={valid_pct}, seed={used}")


def index_split(n: int, valid_idx: Sequence[int], train_idx: Sequence[int] | None = None) -> Split:
    """Use the given rows for validation, and the given rows (default: all others) for training.

    Raises:
        ArgumentError: a row outside the table, or one that is in both parts.
    """
    valid = _checked_rows(valid_idx, n, "valid_idx")
    train = (
        np.setdiff1d(np.arange(n), valid) if train_idx is None else _checked_rows(train_idx, n, "train_idx")
    )
    both = np.intersect1d(train, valid)
    if len(both):
        raise ArgumentError(
            f"rows in both training and validation: {both[:10].tolist()}; each row belongs to one"
        )
    return _split(train, valid, "given rows")


def folder_split(names: Sequence[str], root: Path, *, train: str = "train", valid: str = "valid") -> Split:
    """Split by the folder directly below ``root``: ``train`` or ``valid``; pictures elsewhere are left out.

    Raises:
        DataError: one of the folders holds no picture.
    """

    def rows_of(folder: str) -> np.ndarray:
        parts = Path(folder).parts
        below = [Path(n).relative_to(root).parts for n in names]
        return np.array([i for i, p in enumerate(below) if p[: len(parts)] == parts], dtype=np.int64)

    rows = {folder: rows_of(folder) for folder in (train, valid)}
    for folder, found in rows.items():
        if len(found) == 0:
            raise DataError(
                f"no pictures in {root / folder}; expected {root}/{train}/<class>/… and {root}/{valid}/<class>/…; "
                "for another layout pass train=, valid=, or valid_pct=0.2 to split all pictures at random"
            )
    return _split(rows[train], rows[valid], f"by folder, train={train!r}, valid={valid!r}")


def func_split(names: Sequence[str], func: Callable[[str], bool]) -> Split:
    """Validate on the pictures for which ``func(name)`` is true."""
    chosen = np.array([bool(func(n)) for n in names], dtype=bool)
    return _split(np.flatnonzero(~chosen), np.flatnonzero(chosen), "by a function")


def no_split(n: int) -> Split:
    """Train on everything; the validation part is empty."""
    return _split(np.arange(n), np.arange(0), "none")


def _checked_rows(rows: Sequence[int], n: int, argument: str) -> np.ndarray:
    found = np.asarray(rows, dtype=np.int64).reshape(-1)
    outside = found[(found < 0) | (found >= n)]
    if len(outside):
        raise ArgumentError(f"{argument} has row {outside[0]}, but the table has rows 0 to {n - 1}")
    return np.unique(found)


def _split(train: np.ndarray, valid: np.ndarray, how: str) -> Split:
    if len(train) == 0:
        raise DataError(f"the split ({how}) leaves no picture to train on")
    return Split(np.sort(train).astype(np.int64), np.sort(valid).astype(np.int64), how)
