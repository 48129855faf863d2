"""fastai v1's ``load_learner``: what a notebook exported, with the notebook's own way to read pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from onecycle.deploy import exported
from onecycle.deploy.exported import ExportedPredictor, LoadedLearner
from onecycle.deploy.folder import open_model
from onecycle.fastai1.pictures import readers

__all__ = ["load_learner"]


def load_learner(
    path: Any,
    file: Any = "export.pkl",
    test: Any = None,
    tfm_y: Any = None,
    reader: Callable[[Any], Any] | None = None,
    **db_kwargs: Any,
) -> LoadedLearner:
    """Load a model to predict with; keywords of a bunch (``bs``, ``num_workers``) change nothing of its answers.

    Args:
        path, file, test: as ``onecycle.vision.load_learner``.
        tfm_y, db_kwargs: not used.
        reader: a function from a path to an Image, where one of the notebook's read the pictures; default the class or
            function of that name that this process has.
    """
    place = exported.exported_in(Path(path), Path(file))
    if place is None:
        return exported.load_learner(path, file, test, reader=reader)
    model = open_model(place)
    usual = readers.reader(model.read_by) if model.read_by else None
    return LoadedLearner(ExportedPredictor.of(model, reader or usual), test)
