"""``onecycle export``: a run's model as one folder that predicts the same on a machine without PyTorch."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onecycle.cli.report import issue_count_of, notes_of
from onecycle.cli.screen import Screen
from onecycle.data.labels.items import list_images
from onecycle.deploy.bundle import MOST_PICTURES, Bundle, check_place, export_bundle
from onecycle.deploy.card import Card
from onecycle.deploy.predictor import Predictor
from onecycle.deploy.unlike import spread
from onecycle.deploy.weights.check import Weights, WeightsCheck, of_rows
from onecycle.errors import ArgumentError, DataError
from onecycle.evaluation.report.verdict import Warned
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder, folder_name
from onecycle.runs.load import load_bunch
from onecycle.runs.predictions import run_predictions
from onecycle.text import human_bytes, shown_path

if TYPE_CHECKING:
    from onecycle.evaluation.predictions import Predictions


def run_export(
    run: str | Path,
    *,
    out: Path | None = None,
    pictures: Path | None = None,
    archive: bool = True,
    examples: bool = True,
    web: bool = False,
    force: bool = False,
    weights: Weights = "float32",
    accept: bool = False,
    as_json: bool = False,
    quiet: bool = False,
) -> int:
    """Export a run's model, verified, or leave nothing.

    Args:
        run: its folder, or its name below ``runs``.
        out: the new folder; default ``exports/NAME`` in the working directory, ``exports/NAME-int8`` with such weights.
        pictures: a folder of pictures to verify with, where the run's own data are gone.
        archive: write a .zip, too.
        examples: put three pictures of the data into it.
        web: put a page into it that predicts in the browser.
        force: replace an exported model that is there.
        weights: how the network's are stored, see ``export_bundle``.
        accept: write them so also where too many decisions change.
        as_json: print JSON and nothing else.
        quiet: print only where the folder is.

    Raises:
        DataError: no such run, or no pictures to verify with.
        ExportError: the exported model does not answer as the run does, or too many decisions change.
        ArgumentError: the folder is there, a package is missing, or the network cannot be exported.
    """
    folder, screen = RunFolder.open_finished(run), Screen(as_json=as_json, quiet=quiet)
    out = out or default_folder(folder, weights)
    check_place(out, archive=archive, force=force)
    with screen.running():
        made = export_run(
            folder,
            out,
            screen,
            pictures=pictures,
            archive=archive,
            examples=examples,
            web=web,
            force=force,
            weights=weights,
            accept=accept,
        )
    _say(screen, made, pictures)
    return 0


def export_run(run: RunFolder, out: Path, screen: Screen, *, pictures: Path | None = None, **options: Any) -> Bundle:
    """Export a run's model into a folder; the options are those of ``export_bundle``."""
    with screen.status(f"loading {run.name}"):
        predictor = Predictor.load(run.path, device="cpu")
        predictions = run_predictions(run)
        files, known = _pictures(run, predictions, pictures)
    with screen.status(f"writing the network and verifying it with {len(files)} pictures"):
        return export_bundle(predictor, out, files, card_of(run, predictions), **known, **options)


def default_folder(run: RunFolder, weights: Weights = "float32") -> Path:
    """Return where a run is exported to unless another folder is named; ``serve`` takes it from there."""
    return Path("exports") / (folder_name(run.name) + ("" if weights == "float32" else f"-{weights}"))


def weights_of(*, half: bool, int8: bool) -> Weights:
    """Return the kind of weights that two switches ask for.

    Raises:
        ArgumentError: both.
    """
    if half and int8:
        raise ArgumentError("--half and --int8 are two ways to store the weights: give one of them")
    return "half" if half else "int8" if int8 else "float32"


def card_of(run: RunFolder, predictions: Predictions) -> Card:
    """Return what a run's files say about its model."""
    config = RunConfig.read(run.config)
    audit = run.read_json(run.data).get("audit")
    metrics = run.read_json(run.metrics) if run.metrics.exists() else {}
    return Card.of(
        predictions,
        name=run.name,
        warned=Warned.of(audit, issues=issue_count_of(metrics, None)),
        arch=config.arch,
        data=Path(config.data).name,
        notes=tuple(notes_of(run, audit)),
    )


def _pictures(run: RunFolder, predictions: Predictions, folder: Path | None) -> tuple[list[str], dict[str, Any]]:
    """Return the pictures to verify with, and what is known of the data as ``export_bundle`` takes it.

    Args:
        run: the run.
        predictions: of its validation part.
        folder: of pictures that were named instead.

    Raises:
        DataError: there are none.
    """
    if folder is not None:
        files = [str(p) for p in list_images(folder)]
        if not files:
            raise DataError(f"there is no picture in {folder}: name a folder that holds some with --pictures")
        return spread(files, MOST_PICTURES), {}
    try:
        data = load_bunch(run)
    except DataError as error:
        raise DataError(
            "name a folder of such pictures with --pictures, since an export is verified with validation pictures, and "
            f"{error}"
        ) from error
    paths, rows = data.store.paths, spread(data.split.valid, MOST_PICTURES)
    known = {"training": [paths[row] for row in data.split.train], "labelled": of_rows(predictions, rows)}
    return [paths[row] for row in rows], known


def _say(screen: Screen, made: Bundle, pictures: Path | None) -> None:
    v, kind = made.verification, "validation pictures" if pictures is None else f"pictures of {shown_path(pictures)}"
    weights = None if made.weights is None else made.weights.to_dict()
    screen.event(
        "exported", folder=str(made.folder), archive=made.archive, verification=v.to_dict(), weights_check=weights
    )
    screen.row("export", f"{shown_path(made.folder)} ({human_bytes(made.n_bytes)})", always=True)
    if made.archive is not None:
        screen.row("", f"{shown_path(made.archive)}: the same as one file")
    screen.row(
        "verified",
        f"{v.pictures} {kind} and {v.made} made ones: the same pixels, the same labels, probabilities "
        f"differ by {v.max_difference:.0e} at most{'' if made.weights is None else ', with float32 weights'}",
    )
    if made.weights is not None:
        _say_weights(screen, made.weights)
    if v.decoder:
        screen.row(
            "decoder",
            f"{len(v.decoder)} of these JPEGs are decoded to other pixels by simplejpeg here than by Pillow there, by "
            "a grey level; with ONECYCLE_DECODER=pillow a run has the pixels of its export",
        )
    screen.row("next", "it runs where numpy, pillow and onnxruntime are; README.md in it is the model card")
    where = shlex.quote(shown_path(made.folder))
    screen.command(f"python {where}/test.py")
    screen.command(f"python {where}/predict.py PICTURES")


def _say_weights(screen: Screen, check: WeightsCheck) -> None:
    screen.row(f"{check.weights}", f"{check.summary}")
    if check.score is not None:
        screen.row("", f"{check.score.own}; float32: {check.score.full}")
    before, after = (f"{n / 1e6:.1f} MB" for n in check.n_bytes)
    screen.row("", f"model.onnx {after} in place of {before}; a picture takes {check.time_ratio:.2f} times as long")
    if not check.enough:
        screen.warn(
            f"{check.weights} weights change more decisions than an export may; --accept wrote it, its card says so"
        )
