"""Where and how predictions go wrong: by parts of the pictures, and tag by tag."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor

from onecycle.errors import ArgumentError
from onecycle.evaluation.certainty.intervals import SumScore, accuracy, sample_fbeta
from onecycle.evaluation.slices import LEAST_PICTURES, SliceReport, find_slices, label_columns
from onecycle.evaluation.tags import TagCurve, co_occurrence, tag_curves, unfounded_pairs

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Parts(ABC):
    """Predictions with the truth beside them, looked at part by part.

    Attributes:
        data: the bunch; ``data.lists.pictures.frame`` has the columns of the user's table.
        classes: C names.
        is_multi: several labels a picture.
        preds: float ``(N, C)`` probabilities.
        y_true: int64 ``(N,)``, or 0/1 ``(N, C)``.
    """

    data: Any
    classes: list[Any]
    is_multi: bool
    preds: Tensor
    y_true: Tensor

    def slices(
        self,
        columns: pd.DataFrame | Mapping[str, Sequence[object]] | str | Sequence[str] | None = None,
        *,
        score: SumScore | None = None,
        least: int = LEAST_PICTURES,
        seed: int = 0,
    ) -> SliceReport:
        """Find the parts of the pictures on which the model does worse: "worst on site B".

        Args:
            columns: names of columns that the table had beside names and labels; or a value of each column for every
                picture of this part, or for every row of the labelled table. Default: all columns of the table, and
                the truth itself.
            score: a mean over pictures; default accuracy, for tags sample-F2 at 0.2.
            least: pictures that a part must have.
            seed: of the intervals.

        Raises:
            ArgumentError: no such column, or columns of another length.
        """
        truth = self.y_true.numpy()
        rows = self._dataset().rows
        frame = self.data.lists.pictures.frame
        own = {} if frame is None else {str(name): frame[name] for name in frame.columns}
        if isinstance(columns, (str, list, tuple)):
            columns = _named([columns] if isinstance(columns, str) else columns, own)
        table: Any = own if columns is None else columns
        given = {name: table[name] for name in table}
        taken = _of_part(given, rows, len(self.data.labels))
        if columns is None:
            taken |= label_columns(truth, self.classes)
        chosen = score or (sample_fbeta() if self.is_multi else accuracy())
        return find_slices(chosen, self.preds.numpy(), truth, taken, least=least, seed=seed)

    def tag_curves(self) -> list[TagCurve]:
        """Return precision and recall of each tag at every threshold."""
        self._need_tags("tag_curves")
        return tag_curves(self.y_true.numpy(), self.preds.numpy(), self.classes)

    def plot_tag_curves(
        self, *, figsize: tuple[float, float] | None = None, return_fig: bool | None = None
    ) -> Figure | None:
        """Draw precision against recall for each tag, the worst average precision first."""
        from onecycle.evaluation.certainty import trust_plots

        figure = trust_plots.tag_curves_figure(self.tag_curves(), figsize=figsize)
        return figure if return_fig else None

    def co_occurrence(self, thresh: float = 0.5) -> pd.DataFrame:
        """Count for each pair of tags the pictures that have the one (rows) and are given the other (columns)."""
        self._need_tags("co_occurrence")
        return co_occurrence(self.y_true.numpy(), self._given(thresh), self.classes)

    def unfounded_pairs(self, thresh: float = 0.5, *, min_val: int = 1) -> list[tuple[str, str, int, int]]:
        """Return tags that are given together more often than they are: (tag, tag, given both, have both)."""
        self._need_tags("unfounded_pairs")
        return unfounded_pairs(self.y_true.numpy(), self._given(thresh), self.classes, min_val=min_val)

    def plot_grad_cam(
        self, index: int, *, figsize: tuple[float, float] | None = None, return_fig: bool | None = None
    ) -> Figure | None:
        """Draw a picture beside where it shows evidence for the predicted and for the true class.

        For tags: for the three tags with the largest losses among those that are true or given (at 0.5).

        Args:
            index: position in the data set, as ``top_losses()`` gives it.
            figsize: (width, height) in inches.
            return_fig: return the figure.
        """
        from onecycle.evaluation import plots

        picture, explained = self._picture(index), self._explained(index)
        figure = plots.grid_of_pictures(
            [picture] * (1 + len(explained)),
            ["picture", *explained.values()],
            ncols=1 + len(explained),
            figsize=figsize or (3.2 * (1 + len(explained)), 3.6),
            heatmaps=[None, *(self.grad_cam(index, c) for c in explained)],
        )
        return figure if return_fig else None

    def _explained(self, index: int) -> dict[int, str]:
        """Return the classes to explain and what to call them."""
        probs, truth = self.preds[index], self.y_true[index]
        if not self.is_multi:
            said, true = int(probs.argmax()), int(truth)
            words = {said: "predicted", true: "true"} if said != true else {true: "predicted and true"}
            return {c: f"{word}: {self.classes[c]} {float(probs[c]):.2f}" for c, word in words.items()}
        wrong = (probs - truth.float()).abs()
        concerned = np.flatnonzero(((truth > 0) | (probs >= 0.5)).numpy())
        worst = sorted(concerned.tolist(), key=lambda c: -float(wrong[c]))[:3]
        return {c: f"{self.classes[c]} {float(probs[c]):.2f}, {'true' if truth[c] > 0 else 'not true'}" for c in worst}

    def _given(self, thresh: float) -> np.ndarray:
        return np.asarray(self.preds.numpy() >= thresh)

    @abstractmethod
    def grad_cam(self, index: int, class_index: int | None = None) -> np.ndarray: ...

    @abstractmethod
    def _picture(self, index: int) -> np.ndarray: ...

    @abstractmethod
    def _dataset(self) -> Any: ...

    @abstractmethod
    def _need_tags(self, what: str) -> None: ...


def _named(names: Sequence[str], own: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in names if name not in own]
    if unknown:
        known = ", ".join(map(repr, own)) or "no column beside names and labels"
        raise ArgumentError(f"the table has no column {unknown[0]!r} to look at; it has {known}")
    return {name: own[name] for name in names}


def _of_part(columns: Mapping[Any, Any], rows: np.ndarray, n_all: int) -> dict[str, Any]:
    return {str(name): _of_rows(str(name), column, rows, n_all) for name, column in columns.items()}


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
