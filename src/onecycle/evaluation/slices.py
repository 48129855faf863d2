"""Where a model does worse: slices of the pictures by any column of their table, corrected for many comparisons.

Every value of every column is compared with the rest, so some of them are worse by chance. The p-values are those of
all comparisons together (Holm), so that at most in one of twenty data sets without any bad slice one is named; for
pictures that come in groups, too, because whole groups are what is permuted.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.intervals import Estimate, SumScore, check_arrays, estimate
from onecycle.evaluation.certainty.significance import SURE, holm, part_p_values, unit_numbers
from onecycle.text import plural

LEAST_PICTURES = 10
"""Smaller slices, or rests, are not compared: their intervals say nothing."""

MOST_VALUES = 10
"""Numbers with more different values than this are cut into quarters."""

_COLUMNS = 80


@dataclass(frozen=True)
class Slice:
    """The pictures with one value of one column."""

    column: str  # its name
    value: str  # the value, or the range of numbers, as text
    score: Estimate  # of these pictures, with its interval; its ``baseline`` is the score of all others
    p_value: float  # of means as far apart as this by chance, for all slices together; 1 where it cannot be judged
    too_few_groups: bool = False  # however far apart, so few groups could be so by chance

    @property
    def n(self) -> int:
        """The number of pictures."""
        return self.score.n

    @property
    def rest(self) -> float:
        """The score of all other pictures."""
        return float("nan") if self.score.baseline is None else self.score.baseline

    @property
    def gap(self) -> float:
        """The score less that of the rest."""
        return self.score.value - self.rest

    @property
    def p_text(self) -> str:
        """The p-value as it is shown; a dash where the part cannot be judged."""
        return "–" if self.too_few_groups else "<0.001" if self.p_value < 0.001 else f"{self.p_value:.3f}"


@dataclass(frozen=True)
class SliceReport:
    """All slices that were compared, those furthest below the rest first.

    How they are tested, and how often that was right in simulation: ``docs/how-numbers-are-made.md``.
    """

    slices: tuple[Slice, ...]  # of every column
    score: str  # what was compared
    n: int  # pictures in all
    left_out: tuple[str, ...] = ()  # columns of which no value has enough pictures
    n_groups: int | None = None  # groups that the pictures come in; None: each stands alone

    @property
    def groups_note(self) -> str:
        """A sentence on how groups were taken into account; empty where there are none."""
        if self.n_groups is None:
            return ""
        few = sum(s.too_few_groups for s in self.slices)
        judged = f"Judged by whole groups, of which there are {self.n_groups:,}."
        return f"{judged} {plural(few, 'part')} in too few of them to be judged." if few else judged

    @property
    def worse(self) -> tuple[Slice, ...]:
        """The parts that do worse than the rest, and hardly by chance."""
        return tuple(s for s in self.slices if s.gap < 0 and s.p_value < SURE)

    @property
    def finding(self) -> str:
        """What was found, as a sentence: on the screen and on the page."""
        judged, worse = sum(not s.too_few_groups for s in self.slices), len(self.worse)
        if not judged:
            return f"No part can be judged: each has too few {'groups' if self.slices else 'pictures'}."
        of = f"Of {plural(judged, 'part')}{' that can be judged' if judged < len(self.slices) else ''}"
        return f"{of}, {worse or 'none'} {'are' if worse > 1 else 'is'} worse than the rest beyond chance."

    def __str__(self) -> str:
        head = f"{self.score} in {len(self.slices)} parts of {self.n:,} pictures; p is for all comparisons together."
        shown = self.worse or tuple(s for s in self.slices if s.gap < 0)[:5]
        lines = [*textwrap.wrap(head, _COLUMNS), *textwrap.wrap(self.finding, _COLUMNS)]
        if shown and not self.worse:
            lines.append("The furthest below it:" if len(shown) > 1 else "The one below it:")
        if shown:
            lines.append(f"{'part':<34} {'pictures':>8}  {'score (95 %)':<21} {'rest':>5} {'p':>6}")
        lines += map(_row, shown)
        lines += textwrap.wrap(self.groups_note, _COLUMNS)
        if self.left_out:
            names = ", ".join(self.left_out)
            lines += textwrap.wrap(f"Too few pictures a value (least=) to look at: {names}", _COLUMNS)
        return "\n".join(lines)


def _row(s: Slice) -> str:
    name = f"{s.column} = {s.value}"
    name = name if len(name) <= 34 else f"{name[:33]}…"
    score = f"{s.score.value:.3f} ({s.score.low:.2f} to {s.score.high:.2f})"
    return f"{name:<34} {s.n:>8,}  {score:<21} {s.rest:>5.3f} {s.p_text:>6}"


def find_slices(
    score: SumScore,
    probs: np.ndarray,
    targets: np.ndarray,
    columns: Mapping[str, Sequence[object] | np.ndarray | pd.Series],
    *,
    groups: Sequence[object] | np.ndarray | None = None,
    least: int = LEAST_PICTURES,
    seed: int = 0,
) -> SliceReport:
    """Compare the mean of the pictures of each value of each column with that of all others.

    Args:
        score: a mean over pictures, the more the better: ``intervals.accuracy()``, ``intervals.sample_fbeta()``.
        probs: float ``(N, C)``.
        targets: int ``(N,)``, or 0/1 ``(N, C)``.
        columns: by name, a value for each of the N pictures. Text and few different numbers are taken as they are;
            many numbers are cut into quarters. Missing values are a part of their own. A column in which no value
            has ``least`` pictures (an id, say) is left out.
        groups: an id for each picture; pictures of one group are permuted together. None: each stands alone.
        least: pictures that a part, and the rest, must have.
        seed: of the permutations and of the intervals' half-samples.

    Raises:
        ArgumentError: columns of another length than N, or a score that is no mean over pictures.

    Source: ``significance.part_p_values``; Holm as there, over the parts that differ and of which there are enough
        groups that chance can be told from more (Tarone 1990, "A modified Bonferroni method for discrete data").
    """
    check_arrays(probs, targets, groups)
    rows = score.rows(probs, targets) if isinstance(score, SumScore) else np.empty((0, 0))
    if rows.shape != (len(probs), 2) or not (rows[:, 1] == 1).all():
        wanted = "accuracy() or sample_fbeta(), say"
        raise ArgumentError(f"slices compare means over pictures: {wanted}; received {score.name!r}")
    values, ids = rows[:, 0], None if groups is None else np.asarray(groups, dtype=object)
    compared = [(name, *part) for name, column in columns.items() for part in _parts(name, column, len(probs), least)]
    p_values, few = _p_values(values, [inside for _, _, inside in compared], ids, bounded=score.bounded, seed=seed)
    slices = []
    for (name, value, inside), p, too_few in zip(compared, p_values.tolist(), few.tolist(), strict=True):
        of_part = None if ids is None else ids[inside]
        own = estimate(score, probs[inside], targets[inside], groups=of_part, seed=seed)
        with_rest = replace(own, baseline=float(values[~inside].mean()), baseline_name="the rest")
        slices.append(Slice(name, value, with_rest, p, too_few))
    seen = {name for name, _, _ in compared}
    n_groups = None if ids is None else len(set(ids.tolist()))
    left_out = tuple(name for name in columns if name not in seen)
    return SliceReport(tuple(sorted(slices, key=lambda s: s.gap)), score.name, len(probs), left_out, n_groups)


def _p_values(
    values: np.ndarray, parts: Sequence[np.ndarray], groups: np.ndarray | None, *, bounded: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return p-values of parts, bool ``(N,)`` each, for all together, and which have too few groups, ``(M,)`` each."""
    if not len(parts):
        return np.ones(0), np.zeros(0, dtype=bool)
    halves = np.stack([part ^ part[0] for part in parts])  # a part and its rest are one comparison, and count once
    distinct, at = np.unique(halves, axis=0, return_inverse=True)
    units = unit_numbers(groups, len(values))
    p_values, least = part_p_values(values, distinct, units, bounded=bounded, seed=seed)
    few = least >= SURE
    p_values[few] = 1.0
    p_values[~few] = holm(p_values[~few])
    return p_values[at], few[at]


def columns_of(
    asked: pd.DataFrame | Mapping[str, Sequence[object]] | str | Sequence[str] | None,
    frame: pd.DataFrame | None,
    rows: np.ndarray,
    n_all: int,
) -> dict[str, Any]:
    """Return columns for ``find_slices``, a value for each picture of a part of the data.

    Args:
        asked: names of the table's columns, or values for the part or for the whole table; None: all of its columns.
        frame: what the table has beside names and labels; None: nothing.
        rows: int ``(N,)``, the part's rows in the table.
        n_all: rows of the table.

    Raises:
        ArgumentError: no such column, or columns of another length.
    """
    own = {} if frame is None else {str(name): frame[name] for name in frame.columns}
    table: Any = own if asked is None else asked
    if isinstance(asked, (str, list, tuple)):
        names = [asked] if isinstance(asked, str) else asked
        unknown = [name for name in names if name not in own]
        if unknown:
            known = ", ".join(map(repr, own)) or "no column beside names and labels"
            raise ArgumentError(f"the table has no column {unknown[0]!r} to look at; it has {known}")
        table = {name: own[name] for name in names}
    return {str(name): _of_rows(str(name), table[name], rows, n_all) for name in table}


def _of_rows(name: str, column: Any, rows: np.ndarray, n_all: int) -> pd.Series[Any]:
    """Return a column's values for this part's rows, from values for them or for all rows of the table."""
    cells = pd.Series(column).reset_index(drop=True)
    if len(cells) == len(rows):
        return cells
    if len(cells) != n_all:
        raise ArgumentError(
            f"column {name!r} has {len(cells):,} values; expected one for each of the {len(rows):,} pictures of this "
            f"part, or for each of the {n_all:,} rows of the table"
        )
    return cells.iloc[rows].reset_index(drop=True)


def label_columns(targets: np.ndarray, classes: Sequence[object]) -> dict[str, np.ndarray]:
    """Return the truth as columns for ``find_slices``: the class of each picture, or for each tag yes and no."""
    if targets.ndim == 1:
        return {"class": np.array([str(c) for c in classes], dtype=object)[targets]}
    return {f"tag {name}": np.where(targets[:, i] > 0, "yes", "no") for i, name in enumerate(classes)}


def _parts(name: str, column: Any, n: int, least: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (value as text, bool ``(N,)``) for each slice by a column that is large enough."""
    cells = pd.Series(column).reset_index(drop=True)
    if len(cells) != n:
        raise ArgumentError(f"column {name!r} has {len(cells):,} values; expected one for each of {n:,} pictures")
    numbers = _numbers(cells) if cells.nunique() > MOST_VALUES else None
    if numbers is not None:
        quarters = pd.qcut(numbers, 4, duplicates="drop")
        cells = numbers.groupby(quarters, observed=True).transform(lambda q: f"{q.min():.4g} to {q.max():.4g}")
    text = cells.astype(object).where(cells.notna(), "(none)").map(str)
    for value in sorted(text.unique()):
        inside = (text == value).to_numpy()
        if least <= inside.sum() <= n - least:
            yield value, inside


def _numbers(cells: pd.Series[Any]) -> pd.Series[Any] | None:
    """Return a column as numbers, None where it has others; the cells of a table are text, ``007`` is none."""
    if pd.api.types.is_numeric_dtype(cells):
        return cells
    known = cells.dropna()
    if not known.map(lambda cell: isinstance(cell, str)).all() or known.str.match(r"[+-]?0\d").any():
        return None
    numbers = pd.to_numeric(cells, errors="coerce")
    return numbers if numbers.notna().equals(cells.notna()) else None
