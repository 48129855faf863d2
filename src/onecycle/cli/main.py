"""The command line: one function a sub-command; each imports what it needs only when it runs."""

from __future__ import annotations

import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated

import typer

from onecycle import __version__
from onecycle.cli import options as opt
from onecycle.runs.config import RUN, RunConfig
from onecycle.text import command_line_words, safe_lines

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From labelled pictures to an image classifier that its owner can trust and ship.",
    epilog="check DATA, then train DATA, then report RUN, then predict RUN PICTURES. "
    "Exit codes: 1 a check failed, 2 usage, 3 data, 4 resources, 5 unsafe file, 130 interrupted.",
)
PARTS = "Into a folder, in parts"
Config = Annotated[
    Path | None, typer.Option(help="YAML with the same settings; options win.", rich_help_panel=RUN, metavar="FILE")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"onecycle {__version__}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,  # noqa: ARG001
) -> None:
    """From labelled pictures to an image classifier that its owner can trust and ship."""
    ctx.with_resource(command_line_words())


@app.command()
@opt.with_settings(*opt.TABLE, *opt.SPLIT)
def check(
    data: opt.Data,
    passed: opt.Passed,
    size: Annotated[int, typer.Option(min=8, help="Picture size in px that you would train at.")] = 224,
    as_json: opt.AsJson = False,
    fail_on: Annotated[
        opt.FailOn, typer.Option(help="Exit with 1 where a finding is as bad as this.")
    ] = opt.FailOn.never,
) -> None:
    """Report what is wrong with a data set before anyone trains on it: files, labels, copies, leaks."""
    from onecycle.cli.check import run_check

    config = RunConfig.merged(None, passed | {"data": data})
    code = run_check(config, opt.layout_options(passed), size=size, as_json=as_json, fail_on=fail_on.value)
    raise typer.Exit(code)


@app.command()
@opt.with_settings(*opt.TRAIN)
def train(
    passed: opt.Passed,
    config: Config = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with an interrupted run.", rich_help_panel=RUN, metavar="RUN")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="One batch end to end, then a forecast.", rich_help_panel=RUN)
    ] = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Train a classifier on DATA and judge it: a run folder with the model, the numbers and a report."""
    from onecycle.cli.train import run_training

    if resume is not None and (passed or config is not None):
        first = "config" if config is not None else next(iter(passed)).replace("_", "-")
        why = f"it goes on with the settings of that run: leave --{first} out"
        raise typer.BadParameter(why, param_hint="--resume")
    chosen = None if resume is not None else RunConfig.merged(config, passed)
    raise typer.Exit(run_training(chosen, resume=resume, as_json=as_json, quiet=quiet, dry_run=dry_run))


@app.command("find-lr")
@opt.with_settings(*opt.FIND_LR)
def find_lr(passed: opt.Passed, config: Config = None, as_json: opt.AsJson = False, quiet: opt.Quiet = False) -> None:
    """Sweep the learning rate and suggest one; train does it by itself where no --lr is given."""
    from onecycle.cli.find_lr import run_lr_find

    raise typer.Exit(run_lr_find(RunConfig.merged(config, passed), as_json=as_json, quiet=quiet))


@app.command()
@opt.with_settings(*opt.TABLE)
def evaluate(
    run: opt.Run,
    data: Annotated[
        str | None,
        typer.Argument(
            help="Labelled pictures that the run has not seen; default: its own validation part.", show_default=False
        ),
    ] = None,
    *,
    passed: opt.Passed,
    fail_under: Annotated[
        float | None, typer.Option(help="Exit with 1 where the interval reaches below this.", metavar="SCORE")
    ] = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Measure a run's model again, on its own validation part or on new labelled pictures."""
    from onecycle.cli.evaluate import run_evaluate

    code = run_evaluate(run, data, opt.layout_options(passed), as_json=as_json, quiet=quiet, fail_under=fail_under)
    raise typer.Exit(code)


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
    run: Annotated[
        Path, typer.Argument(help="Run folder or latest; or an exported folder or its .zip.", show_default=False)
    ],
    pictures: Annotated[
        list[Path], typer.Argument(help="Files and folders; - for a list on standard input.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where they go: .csv, .json or .parquet; or a folder, for parts of any number of pictures.",
            rich_help_panel=opt.OUTPUT,
            metavar="PATH",
        ),
    ] = None,
    force: opt.Force = False,
    raw_csv: Annotated[
        bool,
        typer.Option(
            "--raw-csv",
            help="Write texts as they are; default: an apostrophe before what a spreadsheet may run as a formula.",
            rich_help_panel=opt.OUTPUT,
        ),
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="How many classes are shown a picture.", metavar="N")] = 3,
    thresh: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="From which probability a tag is predicted; default: the run's own.", metavar="SHARE"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes for a folder of parts; default 1. 0: plan the parts alone, for a scheduler.",
            rich_help_panel=PARTS,
            metavar="N",
        ),
    ] = None,
    chunk: Annotated[
        int | None,
        typer.Option(min=1, max=10**6, help="Pictures of a part; default 1000.", rich_help_panel=PARTS, metavar="N"),
    ] = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Classify PICTURES with a run's model; the training data need not be there."""
    from onecycle.cli.predict import run_predict

    code = run_predict(
        run,
        pictures,
        out=out,
        force=force,
        raw_csv=raw_csv,
        as_json=as_json,
        quiet=quiet,
        top=top,
        thresh=thresh,
        workers=workers,
        chunk=chunk,
    )
    raise typer.Exit(code)


@app.command()
def export(
    run: opt.Run,
    out: Annotated[
        Path | None,
        typer.Option(help="The new folder; default: exports/NAME.", rich_help_panel=opt.OUTPUT, metavar="FOLDER"),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Pictures to verify with, where the run's data are gone.", metavar="FOLDER")
    ] = None,
    archive: Annotated[bool, typer.Option("--zip/--no-zip", help="Write a .zip of it, too.")] = True,
    examples: Annotated[
        bool, typer.Option("--examples/--no-examples", help="Put three pictures of the data into it.")
    ] = True,
    web: Annotated[bool, typer.Option("--web", help="Put a page into it that predicts in the browser.")] = False,
    half: Annotated[
        bool, typer.Option("--half", help="Store weights in 16 bits: half the file, the same speed.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Store most weights in 8 bits: a third of the file, the same speed.")
    ] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="With --half or --int8: also where over 0.5 % of decisions change.")
    ] = False,
    force: opt.Force = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Write a run's model as a folder that predicts the same without PyTorch, verified: ONNX and a model card."""
    from onecycle.cli.export import run_export, weights_of

    code = run_export(
        run,
        out=out,
        pictures=pictures,
        archive=archive,
        examples=examples,
        web=web,
        force=force,
        weights=weights_of(half=half, int8=int8),
        accept=accept,
        as_json=as_json,
        quiet=quiet,
    )
    raise typer.Exit(code)


@app.command()
def serve(
    model: Annotated[
        Path, typer.Argument(help="Exported folder or its .zip; or a run, which is exported first.", show_default=False)
    ],
    host: Annotated[str, typer.Option(help="Address to listen at; others than this machine's own open it to all.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Answer to this name, too, as a proxy's; again for more.", show_default=False, metavar="NAME"
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="Answer only requests with this token.", envvar="ONECYCLE_TOKEN", show_default=False, metavar="TEXT"
        ),
    ] = None,
    collect: Annotated[
        Path | None,
        typer.Option(help="Keep pictures whose labels are corrected on the page, for relabel.", metavar="FOLDER"),
    ] = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Answer pictures over HTTP: a page to drop them on, and an API; ends with Ctrl-C."""
    from onecycle.cli.serve import run_serve

    code = run_serve(
        model,
        host=host,
        port=port,
        allow_host=allow_host or (),
        token=token,
        collect=collect,
        as_json=as_json,
        quiet=quiet,
    )
    raise typer.Exit(code)


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more run folders; the first is the base.", show_default=False)
    ],
    html: Annotated[
        Path | None, typer.Option(help="Write a page, too.", rich_help_panel=opt.OUTPUT, metavar="FILE")
    ] = None,
    force: opt.Force = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Put runs side by side: differences with intervals, changed pictures, changed settings."""
    from onecycle.cli.compare import run_compare

    raise typer.Exit(run_compare(runs, as_json=as_json, quiet=quiet, html=html, force=force))


@app.command()
@opt.with_settings(*opt.TABLE[:-1])
def relabel(
    data: Annotated[str, typer.Argument(help="The data set, or a run folder of it.", show_default=False)],
    table: Annotated[
        Path | None,
        typer.Argument(
            help="Edited table of label issues; default: the run's own, or what serve collected.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The new table of labels.", rich_help_panel=opt.OUTPUT, metavar="FILE")
    ] = None,
    force: opt.Force = False,
    new_classes: Annotated[
        bool, typer.Option("--new-classes", help="Take labels that no picture has yet, too.")
    ] = False,
    *,
    passed: opt.Passed,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Write a new table of labels from corrections; no file of the data set is changed."""
    from onecycle.cli.relabel import run_relabel

    code = run_relabel(
        data,
        table,
        opt.layout_options(passed),
        out=out,
        force=force,
        new_classes=new_classes,
        as_json=as_json,
        quiet=quiet,
    )
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
    typer.echo(safe_lines(clearing_text(older_than) if clear else listing_text(whole=not sys.stdout.isatty())))


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


kernel = typer.Typer(no_args_is_help=True, help="The Jupyter kernel in which notebooks written for fastai v1 run.")
notebook = typer.Typer(no_args_is_help=True, help="Notebooks written for fastai v1, run as they stand.")
app.add_typer(kernel, name="kernel")
app.add_typer(notebook, name="notebook")


@kernel.command("install")
def kernel_install(
    this_environment: Annotated[
        bool, typer.Option("--sys-prefix", help="Into the environment that onecycle is in, not your own folder.")
    ] = False,
    prefix: Annotated[Path | None, typer.Option(help="Into another environment.", metavar="FOLDER")] = None,
) -> None:
    """Let Jupyter offer the kernel "fastai v1 (onecycle)", in which fastai is onecycle."""
    from onecycle.cli.notebook import run_kernel_install

    raise typer.Exit(run_kernel_install(this_environment=this_environment, prefix=prefix))


@notebook.command("run")
def notebook_run(
    path: Annotated[Path, typer.Argument(help="The notebook; it is only read.", show_default=False)],
    epochs: Annotated[
        int | None, typer.Option(min=1, help="At most so many epochs a fit, and 20 batches for the finder.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A copy with what the cells printed.", rich_help_panel=opt.OUTPUT, metavar="FILE"),
    ] = None,
    force: opt.Force = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Execute a notebook with fastai v1's names by onecycle, and say of each cell whether it ran and what it lacks."""
    from onecycle.cli.notebook import run_notebook

    raise typer.Exit(run_notebook(path, epochs=epochs, out=out, force=force, as_json=as_json, quiet=quiet))


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
            print(safe_lines("".join(traceback.format_exception(error))), file=sys.stderr)
            raise SystemExit(exit_codes.exit_code(error)) from None
        print(exit_codes.error_text(error), file=sys.stderr)
        raise SystemExit(exit_codes.exit_code(error)) from error
