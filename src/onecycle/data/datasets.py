"""One part of the data (training, validation, test) as notebooks index it, and a grid to look at pictures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from onecycle.data.labels.items import DatasetType, Label, LabelObject, Labels
from onecycle.data.labels.lists import LabelView, View, label_view
from onecycle.data.pixels.image import Image, open_image
from onecycle.data.pixels.resize import centre_window
from onecycle.data.pixels.store import PixelStore
from onecycle.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onecycle.data.augment.transforms import Transform

T = TypeVar("T")


class Pictures(View[Image]):
    """The pictures of one part of the data.

    Args:
        dataset: that part.
    """

    def __init__(self, dataset: ImageDataset) -> None:
        super().__init__(len(dataset), dataset.image)
        self._dataset = dataset

    @property
    def items(self) -> np.ndarray:
        """Their files, ``(n,)``: paths where they were given or listed as such, texts where a table has them."""
        return self._dataset.items

    @property
    def open(self) -> Callable[[Any], Any]:
        """What reads a file. It cannot be set here: a subclass of ``ImageList`` with an ``open`` reads all pictures."""
        return self._dataset.store.reading.function or open_image


class FixedList(list[T]):
    """A list to look at; what would change it is refused."""

    def _refused(self, *_: object, **__: object) -> Any:
        raise ArgumentError(
            "the classes are in the order of the network's outputs and cannot be changed here: rename them in the "
            "table, pass classes= where the data is made, or change a copy, list(data.classes)"
        )

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refused
    append = extend = insert = remove = pop = clear = sort = reverse = _refused

    def __reduce__(self) -> tuple[type[list[T]], tuple[list[T]]]:
        return list, (list(self),)


Parts = dict[DatasetType, "ImageDataset | None"]
"""The parts of the data; None for a test set that there is not."""


class ImageDataset:
    """Pictures and labels of one part, in order, with the evaluation preprocess.

    Args:
        store: pixels of all pictures.
        rows: int64 ``(n,)``, which of them belong to this part.
        labels: encoded labels of all pictures, or None where the truth is not known.
        classes: the class list.
        is_multi: where there are no labels, whether targets have one column a class.
        item_type: what ``items`` are, ``str`` or ``Path``.
    """

    tfms: Sequence[Transform] = ()  # that the bunch's loader of this part applies
    listed: Any = None  # the list that ``x`` gives, where it is one of the user's; None: a view of the pictures

    def __init__(
        self,
        store: PixelStore,
        rows: np.ndarray,
        labels: Labels | None,
        classes: list[Label],
        *,
        is_multi: bool = False,
        item_type: Callable[[str], str | Path] = str,
    ) -> None:
        self.store, self.rows, self.labels, self.classes = store, rows, labels, classes
        self.item_type = item_type
        # int64 (n,) class indices, or float32 (n, C) 0/1; zeros where the truth is not known
        if labels is not None:
            self.targets = torch.from_numpy(labels.targets[rows])
        elif is_multi:
            self.targets = torch.zeros(len(rows), len(classes))
        else:
            self.targets = torch.zeros(len(rows), dtype=torch.int64)

    @property
    def c(self) -> int:
        """The number of classes."""
        return len(self.classes)

    @property
    def items(self) -> np.ndarray:
        """The files of the pictures, ``(n,)``; see ``Pictures.items``."""
        found = np.empty(len(self), dtype=object)
        found[:] = [self.item_type(self.store.paths[r]) for r in self.rows]
        return found

    def image(self, index: int) -> Image:
        """Return picture ``index`` as evaluation sees it."""
        return Image.from_numpy(centre_window(self.store.read(int(self.rows[index])), self.store.spec))

    def label(self, index: int) -> LabelObject:
        """Return the label of picture ``index``; ``str()`` of it is the name."""
        return self.y.at(index)

    @property
    def x(self) -> Any:
        """The pictures: as evaluation sees them, or the list of the user's that they are in."""
        return Pictures(self) if self.listed is None else self.listed

    @property
    def y(self) -> LabelView:
        """The labels."""
        return label_view(self.labels, self.rows, self.classes)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Image, LabelObject]:
        return Pictures(self)[index], self.y[index]

    def __iter__(self) -> Iterator[tuple[Image, LabelObject]]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"{type(self).__name__} ({len(self):,} pictures, {self.c} classes)\n  {self.y!r}"


def draw_grid(
    x: torch.Tensor, titles: Iterable[str], *, figsize: tuple[float, float] | None = None, colors: Sequence[str] = ()
) -> Figure:
    """Draw pictures on a square grid.

    Args:
        x: float ``(n, C, H, W)`` in [0, 1]; of one channel grey, of more than three the first three are drawn.
        titles: one a picture; long ones are wrapped.
        figsize: inches; default 3 a picture.
        colors: of the titles; default black.
    """
    import matplotlib.pyplot as plt

    side = math.ceil(math.sqrt(len(x)))
    n_rows = math.ceil(len(x) / side)
    size = figsize or (3 * side, 3.2 * n_rows)
    figure, axes = plt.subplots(n_rows, side, figsize=size, squeeze=False, layout="constrained")
    font = max(6.0, min(14.0, size[0] / side * 3.2))
    width = max(8, int(size[0] / side * 72 / (font * 0.62)))
    for axis in axes.flat:
        axis.axis("off")
    for i, (axis, picture, title) in enumerate(zip(axes.flat, x, titles, strict=False)):
        axis.imshow(picture[:3].clamp(0, 1).permute(1, 2, 0).numpy(), cmap="gray")  # of one channel; colours stay
        lines = [textwrap.wrap(line.replace(";", "; "), width) or [""] for line in title.split("\n")]
        text = "\n".join(part for line in lines for part in line)
        axis.set_title(text, fontsize=font, color=colors[i] if colors else "black")
    return figure
