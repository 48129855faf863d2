"""``onecycle export``: a run's model as one folder that predicts the same on a machine without PyTorch."""

from __future__ import annotations

import shlex
from pathlib import Path

from onecycle.cli.report import issue_count_of, notes_of
from onecycle.cli.screen import Screen
from onecycle.data.labels.items import list_images
from onecycle.deploy.bundle import MOST_PICTURES, Bundle, export_bundle
from onecycle.deploy.card import Card
from onecycle.deploy.predictor import Predictor
from onecycle.deploy.unlike import spread
from onecycle.errors import DataError
from onecycle.evaluation.report.verdict import Warned
from onecycle.runs.config import RunConfig
from onecycle.runs.folder import RunFolder, folder_name
from onecycle.runs.load import load_bunch
from onecycle.runs.predictions import run_predictions
from onecycle.text import human_bytes, shown_path


def run_export(
    run: str | Path,
    *,
    out: Path | None = None,
    pictures: Path | None = None,
    archive: bool = True,
    examples: bool = True,
    force: bool = False,
    as_json: bool = False,
    quiet: bool = False,
) -> int:
    """Export a run's model, verified, or leave nothing.

    Args:
        run: its folder, or its name below ``runs``.
        out: the new folder; default ``exports/NAME`` in the working directory.
        pictures: a folder of pictures to verify with, where the run's own data are gone.
        archive: write a .zip, too.
        examples: put three pictures of the data into it.
        force: replace an exported model that is there.
        as_json: print JSON and nothing else.
        quiet: print only where the folder is.

    Raises:
        DataError: no such run, or no pictures to verify with.
        ExportError: the exported model does not answer as the run does.
        ArgumentError: the folder is there, a package is missing, or the network cannot be exported.
    """
    folder, screen = RunFolder.open_finished(run), Screen(as_json=as_json, quiet=quiet)
    with screen.running():
        made = export_run(
            folder,
            out or default_folder(folder),
            screen,
            pictures=pictures,
            archive=archive,
            examples=examples,
            force=force,
        )
    _say(screen, made)
    return 0


def export_run(run: RunFolder, out: Path, screen: Screen, *, pictures: Path | None = None, **options: bool) -> Bundle:
    """Export a run's model into a folder; the options are those of ``export_bundle``."""
    with screen.status(f"loading {run.name}"):
        predictor = Predictor.load(run.path, device="cpu")
        files, training = _pictures(run, pictures)
    with screen.status(f"writing the network and verifying it with {len(files)} pictures"):
        return export_bundle(predictor, out, files, card_of(run), training=training, **options)


def default_folder(run: RunFolder) -> Path:
    """Return where a run is exported to unless another folder is named."""
    return Path("exports") / folder_name(run.name)


def card_of(run: RunFolder) -> Card:
    """Return what a run's files say about its model."""
    config = RunConfig.read(run.config)
    audit = run.read_json(run.data)["audit"]
    metrics = run.read_json(run.metrics) if run.metrics.exists() else {}
    return Card.of(
        run_predictions(run),
        name=run.name,
        warned=Warned.of(audit, issues=issue_count_of(metrics, None)),
        arch=config.arch,
        data=Path(config.data).name,
        notes=tuple(notes_of(run, audit)),
    )


def _pictures(run: RunFolder, folder: Path | None) -> tuple[list[str], list[str]]:
    """Return the pictures to verify with, of the validation part or of a folder that was named; and the training's.

    Raises:
        DataError: there are none.
    """
    if folder is not None:
        files = [str(p) for p in list_images(folder)]
        if not files:
            raise DataError(f"there is no picture in {folder}: name a folder that holds some with --pictures")
        return spread(files, MOST_PICTURES), []
    try:
        data = load_bunch(run)
    except DataError as error:
        raise DataError(
            f"an export is verified with the run's validation pictures, and {error}. Or name a folder of such pictures "
            "with --pictures"
        ) from error
    paths = data.store.paths
    return [paths[row] for row in spread(data.split.valid, MOST_PICTURES)], [paths[row] for row in data.split.train]


def _say(screen: Screen, made: Bundle) -> None:
    v = made.verification
    screen.event("exported", folder=str(made.folder), archive=made.archive, verification=v.to_dict())
    screen.row("export", f"{shown_path(made.folder)} ({human_bytes(made.n_bytes)})", always=True)
    if made.archive is not None:
        screen.row("", f"{shown_path(made.archive)}: the same as one file")
    screen.row(
        "verified",
        f"{v.pictures} validation pictures and {v.made} made ones: the same pixels, the same labels, probabilities "
        f"differ by {v.max_difference:.0e} at most",
    )
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
