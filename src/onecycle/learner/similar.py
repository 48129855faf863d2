"""Which training pictures are most like a picture, in the eyes of the network's body."""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from onecycle.data.bunch import ImageDataBunch
from onecycle.errors import ArgumentError
from onecycle.learner.features import LabelledFeatures
from onecycle.text import option

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SimilarPicture:
    """A training picture."""

    row: int  # in the labelled table
    path: str  # of the file
    label: str  # in the table
    cosine: float  # of its features and those of the picture asked about, −1 to 1


@dataclass(frozen=True)
class SimilarPictures:
    """The training pictures nearest to one validation picture, the nearest first."""

    asked: SimilarPicture  # the picture asked about, with a cosine of 1
    neighbours: tuple[SimilarPicture, ...]  # the nearest first
    data: ImageDataBunch = field(repr=False)

    def __str__(self) -> str:
        lines = ["Training pictures most like", *self._lines(self.asked), "by the cosine of their features:"]
        return "\n".join([*lines, *(line for p in self.neighbours for line in self._lines(p))])

    def _lines(self, picture: SimilarPicture) -> list[str]:
        name = os.path.relpath(picture.path, self.data.path)
        text = f"{picture.cosine:.3f}  {name}  {picture.label.replace(';', '; ')}"
        return textwrap.wrap(
            text, 80, initial_indent="  ", subsequent_indent=" " * 9, break_long_words=False, break_on_hyphens=False
        )

    def show(self, *, figsize: tuple[float, float] = (12, 8), return_fig: bool = False) -> Figure | None:
        """Draw the picture and its neighbours."""
        from onecycle.evaluation.plots import grid_of_pictures

        figure = grid_of_pictures(
            [self.data.store.read(p.row) for p in (self.asked, *self.neighbours)],
            [f"asked: {self.asked.label}", *(f"{p.label} / {p.cosine:.2f}" for p in self.neighbours)],
            figsize=figsize,
            suptitle="A picture and the training pictures most like it: label / cosine",
        )
        return figure if return_fig else None


def similar_pictures(features: LabelledFeatures, data: ImageDataBunch, index: int, *, k: int = 5) -> SimilarPictures:
    """Return the ``k`` training pictures nearest to validation picture ``index``, by the cosine of features.

    Args:
        features: of all labelled pictures, float ``(N, …)``; maps are averaged over their cells.
        data: their bunch.
        index: position in the validation set.
        k: how many, at least 1.

    Raises:
        ArgumentError: no such picture, or ``k`` below 1.
    """
    n_train, n_valid = len(data.split.train), len(data.split.valid)
    if not n_valid:
        raise ArgumentError(
            f"there is no validation part whose pictures could be asked about; pass {option('valid_pct', 0.2)}, say"
        )
    if not isinstance(index, (int, np.integer)) or not -n_valid <= index < n_valid:
        raise ArgumentError(f"index is a position in the validation set, 0 to {n_valid - 1}; received {index!r}")
    if k < 1:
        raise ArgumentError(f"k is the number of training pictures to return, at least 1; received {k}")
    unit = torch.nn.functional.normalize(features.vectors(), dim=1)
    place = n_train + index % n_valid
    cosines = (unit[:n_train] @ unit[place]).numpy()
    nearest = np.argsort(-cosines, kind="stable")[:k]

    def described(position: int, cosine: float) -> SimilarPicture:
        row = int(features.rows[position])
        return SimilarPicture(row, data.store.paths[row], str(data.labels.label(row)), cosine)

    neighbours = tuple(described(int(i), float(cosines[i])) for i in nearest)
    return SimilarPictures(described(place, 1.0), neighbours, data)
