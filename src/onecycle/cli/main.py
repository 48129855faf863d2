"""The command line: one function a sub-command; each imports what it needs only when it runs."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from onecycle import __version__
from onecycle.cli import options as opt

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From labelled pictures to an image classifier that its owner can trust and ship.",
    epilog="check DATA, then train DATA, then report RUN, then predict RUN PICTURES. "
    "Exit codes: 1 a check failed, 2 usage, 3 data, 4 resources, 5 unsafe file, 130 interrupted.",
)
_NETWORK, _TRAINING, _STOPS = "What the network sees", "The network and its training", "What stops a run"
_AFTER, _RUN = "After training", "The run"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"onecycle {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """From labelled pictures to an image classifier that its owner can trust and ship."""


@app.command()
def check(
    data: opt.Data,
    csv: opt.Csv = None,
    folder: opt.Folder = None,
    suffix: opt.Suffix = None,
    label_delim: opt.LabelDelim = None,
    fn_col: opt.FnCol = None,
    label_col: opt.LabelCol = None,
    group_col: opt.GroupCol = None,
    valid_pct: opt.ValidPct = None,
    seed: opt.Seed = None,
    stratify: opt.Stratify = None,
    size: Annotated[int, typer.Option(min=1, help="Picture size in px that you would train at.")] = 224,
    as_json: opt.AsJson = False,
    fail_on: Annotated[
        opt.FailOn, typer.Option(help="Exit with 1 where a finding is as bad as this.")
    ] = opt.FailOn.never,
) -> None:
    """Report what is wrong with a data set before anyone trains on it: files, labels, copies, leaks."""
    from onecycle.cli.check import run_check

    options = opt.layout_options(
        csv, folder, suffix, label_delim=label_delim, fn_col=fn_col, label_col=label_col, group_col=group_col
    )
    code = run_check(
        data,
        options,
        valid_pct=0.2 if valid_pct is None else valid_pct,
        seed=seed,
        stratify=stratify is not False,
        size=size,
        as_json=as_json,
        fail_on=fail_on.value,
    )
    raise typer.Exit(code)


@app.command()
def train(
    ctx: typer.Context,
    data: opt.OptionalData = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=0, help="With all layers; 0: the head alone; default 4.", rich_help_panel=_TRAINING, metavar="N"
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Train so long instead.", rich_help_panel=_TRAINING, metavar="MINUTES")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Peak learning rate of the head; default: found.", rich_help_panel=_TRAINING, metavar="RATE"),
    ] = None,
    freeze_epochs: Annotated[
        int | None,
        typer.Option(min=0, help="Of the head alone; default: planned.", rich_help_panel=_TRAINING, metavar="N"),
    ] = None,
    arch: opt.Arch = None,
    weights: opt.Weights = None,
    size: opt.Size = None,
    bs: opt.Bs = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Mirror pictures; default: yes.", rich_help_panel=_NETWORK)
    ] = None,
    flip_vert: Annotated[
        bool | None,
        typer.Option(
            "--flip-vert/--no-flip-vert",
            help="All 8 positions, as for pictures from above; default: no.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    max_rotate: Annotated[
        float | None, typer.Option(help="Degrees; default 10.", rich_help_panel=_NETWORK, metavar="ANGLE")
    ] = None,
    max_zoom: Annotated[
        float | None, typer.Option(help="Default 1.1.", rich_help_panel=_NETWORK, metavar="FACTOR")
    ] = None,
    max_lighting: Annotated[
        float | None, typer.Option(help="Default 0.2.", rich_help_panel=_NETWORK, metavar="SHARE")
    ] = None,
    max_warp: Annotated[
        float | None, typer.Option(help="Perspective; default 0.2.", rich_help_panel=_NETWORK, metavar="SHARE")
    ] = None,
    csv: opt.Csv = None,
    folder: opt.Folder = None,
    suffix: opt.Suffix = None,
    label_delim: opt.LabelDelim = None,
    fn_col: opt.FnCol = None,
    label_col: opt.LabelCol = None,
    group_col: opt.GroupCol = None,
    split: opt.SplitFile = None,
    valid_pct: opt.ValidPct = None,
    seed: opt.Seed = None,
    stratify: opt.Stratify = None,
    audit: Annotated[
        bool | None,
        typer.Option("--audit/--no-audit", help="Look at every file first; default: yes.", rich_help_panel=_STOPS),
    ] = None,
    together: Annotated[
        bool | None,
        typer.Option(
            "--together/--no-together",
            help="Keep copies of a picture on one side; default: no.",
            rich_help_panel=_STOPS,
        ),
    ] = None,
    allow: Annotated[
        list[opt.Allowed] | None,
        typer.Option(
            help="unreadable or missing: train without those pictures; leaks: with them as they are. "
            "May be given several times.",
            metavar="FAULT",
            rich_help_panel=_STOPS,
        ),
    ] = None,
    label_check: Annotated[
        bool | None,
        typer.Option(
            "--label-check/--no-label-check", help="Look for wrong labels; default: yes.", rich_help_panel=_AFTER
        ),
    ] = None,
    thresholds: Annotated[
        bool | None,
        typer.Option(
            "--thresholds/--no-thresholds", help="Choose them for tags; default: yes.", rich_help_panel=_AFTER
        ),
    ] = None,
    calibrate: Annotated[
        bool | None,
        typer.Option(
            "--calibrate/--no-calibrate", help="Make probabilities right; default: yes.", rich_help_panel=_AFTER
        ),
    ] = None,
    name: opt.Name = None,
    out: opt.Out = None,
    track: Annotated[
        list[opt.Tracker] | None,
        typer.Option(
            help="Log to tensorboard, mlflow or wandb, too. May be given several times.",
            rich_help_panel=_RUN,
            metavar="TRACKER",
        ),
    ] = None,
    config: opt.Config = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with an interrupted run.", rich_help_panel=_RUN, metavar="RUN")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="One batch end to end, then a forecast.", rich_help_panel=_RUN)
    ] = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Train a classifier on DATA and judge it: a run folder with the model, the numbers and a report."""
    from onecycle.cli.train import run_training
    from onecycle.runs.config import RunConfig

    given = _settings(ctx)
    if resume is not None:
        if given or config is not None:
            named = ["config"] if config is not None else list(given)
            raise typer.BadParameter(
                f"it goes on with the settings of that run: leave --{named[0].replace('_', '-')} out",
                param_hint="--resume",
            )
        raise typer.Exit(run_training(None, resume=resume, as_json=as_json, quiet=quiet, dry_run=dry_run))
    chosen = RunConfig.merged(config, given)
    raise typer.Exit(run_training(chosen, as_json=as_json, quiet=quiet, dry_run=dry_run))


@app.command("find-lr")
def find_lr(
    ctx: typer.Context,
    data: opt.OptionalData = None,
    arch: opt.Arch = None,
    weights: opt.Weights = None,
    size: opt.Size = None,
    bs: opt.Bs = None,
    csv: opt.Csv = None,
    folder: opt.Folder = None,
    suffix: opt.Suffix = None,
    label_delim: opt.LabelDelim = None,
    fn_col: opt.FnCol = None,
    label_col: opt.LabelCol = None,
    group_col: opt.GroupCol = None,
    valid_pct: opt.ValidPct = None,
    seed: opt.Seed = None,
    stratify: opt.Stratify = None,
    name: opt.Name = None,
    out: opt.Out = None,
    config: opt.Config = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Sweep the learning rate and suggest one; train does it by itself where no --lr is given."""
    from onecycle.cli.find_lr import run_lr_find
    from onecycle.runs.config import RunConfig

    chosen = RunConfig.merged(config, _settings(ctx))
    raise typer.Exit(run_lr_find(chosen, as_json=as_json, quiet=quiet))


@app.command()
def evaluate(
    run: opt.Run,
    data: Annotated[
        str | None,
        typer.Argument(
            help="Labelled pictures that the run has not seen; default: its own validation part.", show_default=False
        ),
    ] = None,
    csv: opt.Csv = None,
    folder: opt.Folder = None,
    suffix: opt.Suffix = None,
    label_delim: opt.LabelDelim = None,
    fn_col: opt.FnCol = None,
    label_col: opt.LabelCol = None,
    group_col: opt.GroupCol = None,
    fail_under: Annotated[
        float | None, typer.Option(help="Exit with 1 where the interval reaches below this.", metavar="SCORE")
    ] = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Measure a run's model again, on its own validation part or on new labelled pictures."""
    from onecycle.cli.evaluate import run_evaluate

    options = opt.layout_options(
        csv, folder, suffix, label_delim=label_delim, fn_col=fn_col, label_col=label_col, group_col=group_col
    )
    raise typer.Exit(run_evaluate(run, data, options, as_json=as_json, quiet=quiet, fail_under=fail_under))


@app.command()
def report(
    run: opt.Run,
    out: Annotated[Path | None, typer.Option(help="The page; default: report.html of the run.", metavar="FILE")] = None,
) -> None:
    """Make the page that answers how good a run's model is and what to trust: one file, to pass on."""
    from onecycle.cli.report import run_report

    raise typer.Exit(run_report(run, out=out))


@app.command()
def predict(
    run: opt.Run,
    pictures: Annotated[
        list[Path], typer.Argument(help="Files and folders; - for a list on standard input.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Where they go: .csv, .json or .parquet.", rich_help_panel="Output", metavar="FILE"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace that file.", rich_help_panel="Output")] = False,
    top: Annotated[int, typer.Option(min=1, help="How many classes are shown a picture.", metavar="N")] = 3,
    thresh: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="From which probability a tag is given; default: the run's own.", metavar="SHARE"
        ),
    ] = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Classify PICTURES with a run's model; the training data need not be there."""
    from onecycle.cli.predict import run_predict

    code = run_predict(run, pictures, out=out, force=force, as_json=as_json, quiet=quiet, top=top, thresh=thresh)
    raise typer.Exit(code)


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more run folders; the first is the base.", show_default=False)
    ],
    html: Annotated[
        Path | None, typer.Option(help="Write a page, too.", rich_help_panel="Output", metavar="FILE")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace that page.", rich_help_panel="Output")] = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Put runs side by side: differences with intervals, changed pictures, changed settings."""
    from onecycle.cli.compare import run_compare

    raise typer.Exit(run_compare(runs, as_json=as_json, quiet=quiet, html=html, force=force))


@app.command()
def relabel(
    data: Annotated[str, typer.Argument(help="The data set, or a run folder of it.", show_default=False)],
    table: Annotated[
        Path | None, typer.Argument(help="Edited table of label issues; default: the run's own.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The new table of labels.", rich_help_panel="Output", metavar="FILE")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace that table where it exists.", rich_help_panel="Output")
    ] = False,
    csv: opt.Csv = None,
    folder: opt.Folder = None,
    suffix: opt.Suffix = None,
    label_delim: opt.LabelDelim = None,
    fn_col: opt.FnCol = None,
    label_col: opt.LabelCol = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Write a new table of labels from corrections; no file of the data set is changed."""
    from onecycle.cli.relabel import run_relabel

    options = opt.layout_options(
        csv, folder, suffix, label_delim=label_delim, fn_col=fn_col, label_col=label_col, group_col=None
    )
    code = run_relabel(data, table, options, out=out, force=force, as_json=as_json, quiet=quiet)
    raise typer.Exit(code)


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove the sets instead of listing them.")] = False,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="With --clear: only those unused for so long.")
    ] = None,
) -> None:
    """List the sets of decoded pictures that onecycle keeps, or remove them; they can be made again."""
    from onecycle.data.pixels.cache import clearing_text, listing_text

    if older_than is not None and not clear:
        raise typer.BadParameter("it chooses what to remove: use it with --clear", param_hint="--older-than")
    typer.echo(clearing_text(older_than) if clear else listing_text())


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="Folder of the runs; default: runs.")] = None,
    tiles: Annotated[int, typer.Option(min=40, help="How many tiles to draw.")] = 1000,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training.")] = 4,
    size: Annotated[int, typer.Option(min=32, help="Picture size in px.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the tiles, the split and the training.")] = 42,
) -> None:
    """Draw satellite-like tiles, train on them and judge the result: no data of your own is needed."""
    from onecycle.cli.demo import run_demo

    raise typer.Exit(run_demo(out, n_tiles=tiles, epochs=epochs, size_px=size, seed=seed))


@app.command()
def info(as_json: opt.AsJson = False) -> None:
    """Show versions, devices, and where data, weights and caches live."""
    from onecycle.cli.info import run_info

    raise typer.Exit(run_info(as_json=as_json))


_NOT_SETTINGS = {"config", "resume", "dry_run", "as_json", "quiet"}
_COLUMNS = {"fn_col", "label_col", "group_col"}


def _settings(ctx: typer.Context) -> dict[str, Any]:
    """Return the settings of a run that were given as options, as a config file would have them."""
    found: dict[str, Any] = {}
    for name, value in ctx.params.items():
        if name in _NOT_SETTINGS or value is None or value in ([], ()):
            continue
        if name in _COLUMNS:
            found[name] = opt.column(value)
        else:
            found[name] = [str(v) for v in value] if isinstance(value, (list, tuple)) else value
    return found


def main() -> None:
    """Run the command line; an error ends in one clear message and an exit code of its own, not in a traceback."""
    from onecycle.cli import exit_codes

    debug = "--debug" in sys.argv[1:]
    sys.argv[1:] = [word for word in sys.argv[1:] if word != "--debug"]  # so that it may stand anywhere
    if not debug:
        warnings.showwarning = exit_codes.show_warning
    try:
        app()
    except Exception as error:  # the last stop of every error: what is not ours is named as a defect
        if debug:
            raise
        print(exit_codes.error_text(error), file=sys.stderr)
        raise SystemExit(exit_codes.exit_code(error)) from error
