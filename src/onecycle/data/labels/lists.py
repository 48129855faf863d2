"""The labels of one part of the data as a sequence, by kind; fastai v1's names, which ``label_cls=`` takes, too."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from onecycle.data.labels.items import EmptyLabel, Label, LabelObject, Labels

T = TypeVar("T")


class View(Sequence[T], Generic[T]):
    """A read-only sequence over a function of the position: nothing is made before it is asked for."""

    def __init__(self, length: int, get: Callable[[int], T]) -> None:
        self._length, self._get = length, get

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        """Return one item, or a view of those at a slice or at several positions."""
        if isinstance(index, (slice, list)) or np.ndim(index):
            rows = np.arange(len(self))[index]
            return View(len(rows), lambda i: self._get(int(rows[i])))
        return self.at(index)

    def at(self, index: int) -> T:
        """Return one item.

        Raises:
            IndexError: there is no such position.
        """
        if not -self._length <= index < self._length:
            raise IndexError(f"index {index} is out of range for {self._length} items")
        return self._get(int(index) % self._length)

    def __repr__(self) -> str:
        first = ", ".join(str(self[i]) for i in range(min(5, len(self))))
        return textwrap.shorten(f"{first}{', …' if len(self) > 5 else ''}", 76, placeholder=" …")


class LabelView(View[LabelObject]):
    """The labels of some pictures.

    Args:
        labels: of all pictures; None where the truth is not known.
        rows: int64 ``(n,)``, which of them.
        classes: the class list.
    """

    kind: ClassVar[str] = "none"  # class, tags, numbers, or none

    def __init__(self, labels: Labels | None, rows: np.ndarray, classes: Sequence[Label]) -> None:
        super().__init__(len(rows), lambda i: EmptyLabel() if labels is None else labels.label(int(rows[i])))
        self._targets = None if labels is None else labels.targets[rows]
        self.classes = list(classes)

    @property
    def c(self) -> int:
        """The number of classes, tags or numbers."""
        return len(self.classes)

    @property
    def c2i(self) -> dict[Label, int]:
        """The index of each class."""
        return {name: i for i, name in enumerate(self.classes)}

    @property
    def items(self) -> np.ndarray:
        """The labels as numbers: class indices, the list of each picture's tag indices, or the values."""
        return np.zeros(len(self), dtype=np.int64) if self._targets is None else self._targets


class CategoryList(LabelView):
    """One class a picture; ``label_cls=CategoryList`` takes any label as a class."""

    kind = "class"


class MultiCategoryList(LabelView):
    """Several tags a picture, or none; ``label_cls=MultiCategoryList`` takes labels as tags."""

    kind = "tags"

    @property
    def items(self) -> np.ndarray:
        """The indices of each picture's tags, a list a picture."""
        found = np.empty(len(self), dtype=object)
        for i, row in enumerate([] if self._targets is None else self._targets):
            found[i] = np.flatnonzero(row).tolist()
        return found


class FloatList(LabelView):
    """A number a picture, or several: regression; ``label_cls=FloatList`` takes labels as numbers."""

    kind = "numbers"


class EmptyLabelList(LabelView):
    """Pictures whose labels are not known."""


def label_view(labels: Labels | None, rows: np.ndarray, classes: Sequence[Label]) -> LabelView:
    """Return the labels of some rows as the list of their kind."""
    made: dict[str, type[LabelView]] = {kind.kind: kind for kind in (CategoryList, MultiCategoryList, FloatList)}
    return (EmptyLabelList if labels is None else made[labels.kind])(labels, rows, classes)


def kind_of(label_cls: Any) -> str | None:
    """Return the kind of labels that ``label_cls=`` asks for, None where it leaves that to the labels."""
    return getattr(getattr(label_cls, "func", label_cls), "kind", None) if label_cls is not None else None
