"""The command line: one function a sub-command; each imports what it needs only when it runs."""

from __future__ import annotations

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


def main() -> None:
    """Run the command line; an error of the user's ends in one clear message, not in a traceback."""
    try:
        app()
    except (OnecycleError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from error
