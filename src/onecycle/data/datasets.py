"""One part of the data (training, validation, test) as notebooks index it, and a grid to look at pictures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch

from onecycle.data.labels.items import DatasetType, EmptyLabel, Label, LabelObject, Labels
from onecycle.data.pixels.image import Image
from onecycle.data.pixels.resize import centre_window
from onecycle.data.pixels.store import PixelStore
from onecycle.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onecycle.data.labels.splits import Split

T = TypeVar("T")


class View(Sequence[T], Generic[T]):
    """A read-only sequence over a function of the position: nothing is made before it is asked for."""

    def __init__(self, length: int, get: Callable[[int], T]) -> None:
        self._length, self._get = length, get

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> T:  # type: ignore[override]
        if not -self._length <= index < self._length:
            raise IndexError(f"index {index} is out of range for {self._length} items")
        return self._get(index % self._length)

    def __repr__(self) -> str:
        first = ", ".join(str(self[i]) for i in range(min(5, len(self))))
        return textwrap.shorten(f"{first}{', …' if len(self) > 5 else ''}", 76, placeholder=" …")


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


class ImageDataset:
    """Pictures and labels of one part, in order, with the evaluation preprocess.

    Args:
        store: pixels of all pictures.
        rows: int64 ``(n,)``, which of them belong to this part.
        labels: encoded labels of all pictures, or None where the truth is not known.
        classes: the class list.
        is_multi: where there are no labels, whether targets have one column a class.
    """

    def __init__(
        self,
        store: PixelStore,
        rows: np.ndarray,
        labels: Labels | None,
        classes: list[Label],
        *,
        is_multi: bool = False,
    ) -> None:
        self.store, self.rows, self.labels, self.classes = store, rows, labels, classes
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
    def items(self) -> list[str]:
        """The paths of the pictures."""
        return [self.store.paths[r] for r in self.rows]

    def image(self, index: int) -> Image:
        """Return picture ``index`` as evaluation sees it."""
        return Image.from_numpy(centre_window(self.store.read(int(self.rows[index])), self.store.spec))

    def label(self, index: int) -> LabelObject:
        """Return the label of picture ``index``; ``str()`` of it is the name."""
        return EmptyLabel() if self.labels is None else self.labels.label(int(self.rows[index]))

    @property
    def x(self) -> View[Image]:
        """The pictures."""
        return View(len(self), self.image)

    @property
    def y(self) -> View[LabelObject]:
        """The labels."""
        return View(len(self), self.label)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Image, LabelObject]:
        return self.x[index], self.y[index]

    def __iter__(self) -> Iterator[tuple[Image, LabelObject]]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"{type(self).__name__} ({len(self):,} pictures, {self.c} classes)\n  {self.y!r}"


def make_datasets(
    store: PixelStore, test_store: PixelStore | None, labels: Labels, split: Split
) -> dict[DatasetType, ImageDataset | None]:
    """Return each part of the data; None for a test set that there is not."""
    train, valid = (ImageDataset(store, rows, labels, labels.classes) for rows in (split.train, split.valid))
    test = None
    if test_store is not None:
        rows = np.arange(len(test_store))
        test = ImageDataset(test_store, rows, None, labels.classes, is_multi=labels.is_multi)
    return {DatasetType.Train: train, DatasetType.Fix: train, DatasetType.Valid: valid, DatasetType.Test: test}


def draw_grid(
    x: torch.Tensor, titles: Iterable[str], *, figsize: tuple[float, float] | None = None, colors: Sequence[str] = ()
) -> Figure:
    """Draw pictures on a square grid.

    Args:
        x: float ``(n, 3, H, W)`` in [0, 1].
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
        axis.imshow(picture.clamp(0, 1).permute(1, 2, 0).numpy())
        lines = [textwrap.wrap(line.replace(";", "; "), width) or [""] for line in title.split("\n")]
        text = "\n".join(part for line in lines for part in line)
        axis.set_title(text, fontsize=font, color=colors[i] if colors else "black")
    return figure
