"""The command line: one function a sub-command; each imports what it needs only when it runs."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from onecycle import __version__
from onecycle.errors import OnecycleError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From labelled pictures to an image classifier that its owner can trust and ship.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"onecycle {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From labelled pictures to an image classifier that its owner can trust and ship."""


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/demo-<time>.")] = None,
    tiles: Annotated[int, typer.Option(min=40, help="How many tiles to draw.")] = 1000,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training.")] = 4,
    size: Annotated[int, typer.Option(min=32, help="Picture size in px.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the tiles, the split and the training.")] = 42,
) -> None:
    """Draw satellite-like tiles, train a pretrained network on them and show what it learned."""
    from onecycle.demo import run_demo

    run_demo(out, n_tiles=tiles, epochs=epochs, size_px=size, seed=seed)


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


def _column(text: str) -> int | str:
    """Read a column: a position, or a name."""
    return int(text) if text.isdecimal() else text


class FailOn(StrEnum):
    """The least severity of a finding that ends the command with exit code 1."""

    error = "error"
    warning = "warning"
    never = "never"


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="Folder of the data set, or a table of it.")],
    csv: Annotated[
        str | None, typer.Option(help="Table below PATH; default: labels.csv, else class folders.")
    ] = None,
    folder: Annotated[str, typer.Option(help="Folder of the pictures below PATH.")] = "",
    suffix: Annotated[str, typer.Option(help="Added to each file name of the table, e.g. .jpg.")] = "",
    label_delim: Annotated[str | None, typer.Option(help="Splits a label cell into tags, e.g. ' '.")] = None,
    fn_col: Annotated[str, typer.Option(help="Column of the file names: name or position.")] = "0",
    label_col: Annotated[str, typer.Option(help="Column of the labels: name or position.")] = "1",
    group_col: Annotated[
        str | None, typer.Option(help="Column of groups that must not be in both parts.")
    ] = None,
    valid_pct: Annotated[float, typer.Option(help="Share of the pictures that would validate.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of that split.")] = 42,
    size: Annotated[int, typer.Option(min=1, help="Picture size in px that you would train at.")] = 224,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit with 1 where a finding is as bad as this.")
    ] = FailOn.never,
) -> None:
    """Report what is wrong with a data set before anyone trains on it: files, labels, copies, leaks."""
    from onecycle.data.audit.dataset import audit_rows
    from onecycle.data.audit.table import TableLayout, read_rows

    group = None if group_col is None else _column(group_col)
    layout = TableLayout(folder, suffix, label_delim, _column(fn_col), _column(label_col), group)
    rows = read_rows(path, csv=csv, layout=layout, valid_pct=valid_pct, seed=seed, size=size)
    report = audit_rows(rows, silent=as_json)
    typer.echo(json.dumps(report.to_dict(), indent=2) if as_json else str(report))
    failed = {FailOn.error: report.reaches("error"), FailOn.warning: report.reaches("warning")}
    if failed.get(fail_on):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; an error of the user's ends in one clear message, not in a traceback."""
    try:
        app()
    except (OnecycleError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from error
