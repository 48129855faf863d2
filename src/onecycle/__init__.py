"""onecycle: from labelled pictures to an image classifier that its owner can trust and ship.

``import onecycle`` is light: it loads neither torch nor matplotlib. ``onecycle.load("latest")`` gives a run's
predictor; the notebook's names come with ``from onecycle.vision import *``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onecycle.deploy.exported import ExportedPredictor
    from onecycle.deploy.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(run: str | Path, *, device: str | None = None) -> Predictor | ExportedPredictor:
    """Load the model of a run or an exported folder: ``onecycle.load("runs/planet-001").predict(files)``.

    It needs neither the training data nor anything that trains, and loads none of that.

    Args:
        run: folder of the run, or its name below ``runs``: ``planet-001``, ``latest``; or an exported folder, or its
            .zip.
        device: where to compute, ``cpu`` or ``cuda``; default the GPU where there is one.

    Raises:
        DataError: no such run; those that are there are named.
        CheckpointError: it has no model, or a damaged one.
    """
    from onecycle.deploy.folder import is_bundle, is_zipped

    if is_bundle(Path(run)) or is_zipped(Path(run)):
        from onecycle.deploy.exported import ExportedPredictor

        return ExportedPredictor.load(run)
    from onecycle.deploy.predictor import Predictor
    from onecycle.runs.folder import RunFolder

    return Predictor.load(RunFolder.open_finished(run).path, device=device)
