"""Lesson 2's widgets: pictures with the largest losses or the most alike, to relabel or leave out; and confused ones.

Nothing of the data set is changed: decisions go into ``cleaned.csv``, with the columns ``name`` and ``label``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onecycle.data.labels.items import DatasetType
from onecycle.files import csv_text, write_whole

__all__ = ["ClassConfusion", "DatasetFormatter", "ImageCleaner"]


class DatasetFormatter:
    """Finds the pictures that ``ImageCleaner`` shows, among those that train."""

    @classmethod
    def from_toplosses(cls, learn: Any, n_imgs: int | None = None, **_: Any) -> tuple[Any, list[int]]:
        """Return the training pictures, and the positions of those with the largest losses."""
        losses = learn.get_preds(ds_type=DatasetType.Fix, with_loss=True)[2]
        n = len(losses) if not n_imgs else min(n_imgs, len(losses))
        return learn.data.dataset(DatasetType.Fix), torch.topk(losses, n).indices.tolist()

    @classmethod
    def from_similars(cls, learn: Any, *_: Any, **__: Any) -> tuple[Any, list[int]]:
        """Return the training pictures, and the positions of pairs that look alike, the most alike first.

        They are compared by the features of the network's body, not by those of the layer that v1's ``layer_ls`` names.
        """
        rows = learn.data.split.train
        features = learn.features()[rows]
        unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        first, second = np.tril_indices(len(unit), -1)
        order = np.argsort(-(unit @ unit.T)[first, second], kind="stable")[:1000]
        return learn.data.dataset(DatasetType.Fix), np.stack([first[order], second[order]], axis=1).flatten().tolist()


class ImageCleaner:
    """Shows some pictures at a time, to relabel or to leave out; in a notebook with ipywidgets, else by its methods.

    Args:
        dataset: pictures and labels, of a ``DatasetFormatter``.
        fns_idxs: positions of those to show, the first first.
        path: folder of ``cleaned.csv``; names in it are below this folder.
        batch_size: pictures at a time; pairs for ``duplicates``.
        duplicates: show pairs.
    """

    def __init__(
        self, dataset: Any, fns_idxs: Sequence[int], path: Any, batch_size: int = 5, duplicates: bool = False
    ) -> None:
        self.path, self.duplicates = Path(path), duplicates
        self.batch_size = 2 * batch_size if duplicates else batch_size
        self.dataset, self.waiting = dataset, [int(i) for i in fns_idxs]
        self.labels: dict[str, str] = {str(f): str(label) for f, label in zip(dataset.items, dataset.y, strict=True)}
        self.shown: list[int] = []
        self.next_batch()

    def delete(self, index: int) -> None:
        """Leave a picture, by its position, out of ``cleaned.csv``."""
        self.labels.pop(str(self.dataset.items[index]), None)

    def relabel(self, index: int, label: str) -> None:
        """Give a picture, by its position, another label in ``cleaned.csv``."""
        self.labels[str(self.dataset.items[index])] = label

    def next_batch(self) -> None:
        """Write what was decided, and show the next pictures."""
        if self.shown:
            self.write_csv()
        self.shown, self.waiting = self.waiting[: self.batch_size], self.waiting[self.batch_size :]
        if not self.shown:
            print("No images to show :)")
            return
        self._render()

    def write_csv(self) -> None:
        """Write ``cleaned.csv`` with all pictures that are left."""
        root = os.path.abspath(self.path)
        rows = ([os.path.relpath(os.path.abspath(f), root), label] for f, label in self.labels.items())
        text = csv_text([("name", "label"), *rows])  # as they are: it is a data set that is trained on
        write_whole(self.path / "cleaned.csv", text.encode("utf-8", "surrogateescape"))

    def _render(self) -> None:
        """Show the pictures with a list of classes and a button each, where this is a notebook with ipywidgets."""
        try:
            import ipywidgets  # type: ignore[import-untyped]
            from IPython import get_ipython
            from IPython.display import display
        except ImportError:
            return
        if get_ipython() is None:
            return
        boxes = [self._box(ipywidgets, i) for i in self.shown]
        further = ipywidgets.Button(description="Next Batch")
        further.on_click(lambda _: self.next_batch())
        display(ipywidgets.HBox(boxes), further)  # type: ignore[no-untyped-call]

    def _box(self, widgets: Any, index: int) -> Any:
        picture, label = self.dataset[index]
        image = widgets.Image(value=picture._repr_png_(), format="png", width=150)
        out = widgets.ToggleButton(description="Delete")
        out.observe(lambda change: self.delete(index) if change["new"] else self.relabel(index, str(label)), "value")
        if self.duplicates:
            return widgets.VBox([image, out])
        classes = widgets.Dropdown(options=[str(c) for c in self.dataset.classes], value=str(label))
        classes.observe(lambda change: self.relabel(index, change["new"]), "value")
        return widgets.VBox([image, classes, out])


class ClassConfusion:
    """Shows the pictures of each pair of classes that were confused.

    Args:
        interp: the interpretation.
        classlist: classes to look at, or pairs (actual, predicted) of ``most_confused``.
        is_ordered: take pairs as they are; else both orders.
        cut_off: pictures of a pair, at most.
        figsize: inches of each figure.
    """

    def __init__(
        self, interp: Any, classlist: Sequence[Any], is_ordered: bool = False, cut_off: int = 100,
        figsize: tuple[float, float] = (8, 8), **_: Any,
    ) -> None:  # fmt: skip
        names = [str(c) for c in interp.classes]
        if is_ordered:
            pairs = [(str(pair[0]), str(pair[1])) for pair in classlist]
        else:
            pairs = [(str(a), str(b)) for a in classlist for b in classlist if a != b]
        actual, said = interp.y_true.tolist(), interp.pred_class.tolist()
        both = [(names[a], names[p]) for a, p in zip(actual, said, strict=True)]
        self.found = {pair: [i for i, seen in enumerate(both) if seen == pair][:cut_off] for pair in pairs}
        for (a, p), rows in self.found.items():
            if rows:
                self._draw(interp, f"{a} predicted as {p}", rows, figsize)

    def _draw(self, interp: Any, title: str, rows: Sequence[int], figsize: tuple[float, float]) -> None:
        from onecycle.evaluation import plots

        names = [f"loss {float(interp.losses[i]):.2f}" for i in rows]
        plots.grid_of_pictures([interp.picture(i) for i in rows], names, figsize=figsize, suptitle=title)
