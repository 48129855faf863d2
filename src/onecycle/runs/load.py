"""A run that is over, taken up again: its learner, its data with its own split, its predictions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from onecycle.data.bunch import ImageDataBunch
from onecycle.errors import DataError
from onecycle.learner.learner import Learner
from onecycle.model.budget import network_of
from onecycle.model.manifests import check_saved
from onecycle.runs.build import layout_of, make_bunch, make_learner, split_of
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder
from onecycle.runs.predictions import run_predictions
from onecycle.runs.split import valid_names
from onecycle.settings import SAVED
from onecycle.text import shown
from onecycle.train.checkpoint import read_manifest

if TYPE_CHECKING:
    from onecycle.evaluation.interpretation import ClassificationInterpretation


def load_learner(run: RunFolder, *, bunch: ImageDataBunch, stem: Path | None = None) -> Learner:
    """Return the learner of a run: its network, its weights, its thresholds and calibration.

    Args:
        run: the run; its model is there.
        bunch: pictures with the run's classes, from ``load_bunch``; ``onecycle.load`` needs none to predict.
        stem: weights without their suffix; default the run's finished model.

    Raises:
        CheckpointError: no model, a damaged one, or one of other classes than ``bunch``.
        ArgumentError: the run's config.yaml cannot be used.
    """
    config = RunConfig.read(run.config)
    stem = run.model_stem if stem is None else stem
    if stem.is_relative_to(run.path):
        for ending in SAVED:
            run.inside(f"{stem}{ending}")
    manifest = read_manifest(stem)
    check_saved(manifest, stem, to_predict=True)
    head = (manifest.get("network") or {}).get("head", {})
    with network_of(Path(f"{stem}.safetensors")):
        learn = make_learner(config, bunch, run.path, pretrained=False, head=head)
    stem, stats = stem.resolve(), manifest["stats"]
    if stats is not None:
        learn.stats = bunch.backbone_stats = (tuple(stats[0]), tuple(stats[1]))
    learn.load(stem, with_opt=False)
    return learn


def load_bunch(run: RunFolder) -> ImageDataBunch:
    """Return the data of a run again, with the split that it was trained with.

    Pictures that the table has got since are in neither part, which is said.

    Raises:
        DataError: the data is gone, pictures of the split are (each named), or the classes are others.
    """
    config = replace(RunConfig.read(run.config), split=None)  # the run has its own
    record = run.read_json(run.data)
    before = record.get("classes") or []
    with _read_again(run):
        layout = layout_of(config)
        now = [str(c) for c in layout.whole_table().labels.classes]
    if now != before:
        gone, new = [c for c in before if c not in now], [c for c in now if c not in before]
        changes = [f"{what} {shown(names, most=5)}" for what, names in (("gone", gone), ("new", new)) if names]
        raise DataError(
            f"the data at {config.data} has other classes than when {run.path} was trained: "
            f"{'; '.join(changes) or 'in another order'}; put the data back, or train again"
        )
    split = split_of(replace(config, split=str(run.split)), layout)
    split = replace(split, how=str(record.get("split") or split.how))
    with _read_again(run):
        return make_bunch(config, layout, split)


@contextmanager
def _read_again(run: RunFolder) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"the data of {run.path} cannot be read again: {error}") from error


def interpretation_of(run: RunFolder, learn: Learner) -> ClassificationInterpretation:
    """Return the interpretation of the predictions that a run kept; nothing is predicted again.

    Args:
        run: the run.
        learn: its learner, with ``load_bunch``'s data.

    Raises:
        DataError: no predictions, or they are of other pictures than the learner's validation part.
    """
    from onecycle.evaluation.interpretation import ClassificationInterpretation

    predictions, names = run_predictions(run), tuple(valid_names(learn.data))
    if predictions.files != names:
        raise DataError(
            f"{run.predictions} has {len(predictions)} pictures, and of these the data has "
            f"{len(set(predictions.files) & set(names))}: put the data back as it was. The report that was written "
            f"when the run ended is {run.report}"
        )
    return ClassificationInterpretation.from_predictions(learn, predictions)
