"""What a model of numbers (regression) says about pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onecycle.errors import ArgumentError, Unreadable
from onecycle.text import plural, safe_text

_LISTED = 5  # pictures in the repr


@dataclass(frozen=True, kw_only=True, repr=False)
class Numbers:
    """The numbers of N pictures, k of each."""

    files: tuple[str, ...]  # N
    names: tuple[str, ...]  # k, of the numbers
    values: np.ndarray  # float32 (N, k)
    rows: np.ndarray | None = None  # int64 (N,), positions among the files handed in
    failed: tuple[Unreadable, ...] = ()  # files that cannot be read, which are not among the N

    def __post_init__(self) -> None:
        expected, received = (len(self.files), len(self.names)), np.shape(self.values)
        if received != expected:
            raise ArgumentError(f"numbers of {expected[0]} pictures have the shape {expected}; received {received}")

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        failed = f"; {plural(len(self.failed), 'file')} could not be read" if self.failed else ""
        lines = [f"Numbers: {plural(len(self), 'picture')}, {plural(len(self.names), 'number')} each{failed}"]
        for file, values in zip(self.files[:_LISTED], self.values, strict=False):
            lines.append(f"  {safe_text(file)}  {', '.join(f'{v:.4g}' for v in values)}")
        if len(self) > _LISTED:
            lines.append(f"  and {len(self) - _LISTED:,} more")
        return "\n".join(lines)


def number_scores(values: np.ndarray, targets: np.ndarray) -> tuple[dict[str, Any], ...]:
    """Return the scores of predicted numbers as a model card lists them.

    Args:
        values: float ``(N, k)``.
        targets: float ``(N,)`` or ``(N, k)``.

    Returns:
        Mean squared and mean absolute error; the baselines give every picture the mean, or the median, of the targets.
    """
    said, true = (np.asarray(v, dtype=np.float64).reshape(len(values), -1) for v in (values, targets))
    kinds: Any = {"mean squared error": (np.square, np.mean), "mean absolute error": (np.abs, np.median)}
    return tuple(
        {
            "name": name,
            "over": "",
            "value": float(of(said - true).mean()),
            "low": None,
            "high": None,
            "baseline": float(of(true - centre(true, axis=0)).mean()),
        }
        for name, (of, centre) in kinds.items()
    )


def names_of_numbers(classes: Sequence[object]) -> tuple[str, ...]:
    """Return the names of a model's numbers: ``number`` for one alone, else those that labelling gave."""
    return ("number",) if len(classes) == 1 else tuple(f"number {name}" for name in classes)
