"""``onecycle kernel install`` and ``onecycle notebook run``: notebooks written for fastai v1, as they stand."""

from __future__ import annotations

import sys
from pathlib import Path

from onecycle.cli.screen import Screen
from onecycle.fastai1.notebook.kernel import TITLE, install_kernel
from onecycle.fastai1.notebook.running import CellRun, read_notebook, run_cells
from onecycle.runs.folder import check_free, write_output
from onecycle.text import format_time, plural


def run_kernel_install(*, this_environment: bool = False, prefix: Path | None = None) -> int:
    """Install the kernel and say where.

    Args:
        this_environment: into the environment that runs this, instead of the user's own folder.
        prefix: into another one.
    """
    folder = install_kernel(Path(sys.prefix) if this_environment else prefix)
    screen = Screen()
    screen.row("kernel", f'"{TITLE}" is installed: choose it in Jupyter', always=True)
    screen.row("folder", str(folder))
    return 0


def run_notebook(
    path: Path,
    *,
    epochs: int | None = None,
    out: Path | None = None,
    force: bool = False,
    as_json: bool = False,
    quiet: bool = False,
) -> int:
    """Execute a notebook in its folder and show a line for each cell of code.

    Args:
        path: the notebook; it is only read.
        epochs: at most so many a fit; None: as its cells say.
        out: the notebook with what its cells printed and drew.
        force: replace ``out``.
        as_json: print JSON and nothing else.
        quiet: print only cells that failed, and the count.

    Returns:
        0 where every cell ran, else 1.

    Raises:
        ArgumentError: ``out`` is there already, or a package of Jupyter's is missing.
        DataError: it cannot be read.
    """
    check_free(out, force=force)
    screen = Screen(as_json=as_json, quiet=quiet)
    notebook = read_notebook(path)
    n_cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    if epochs is not None:
        screen.row("short", f"at most {plural(epochs, 'epoch')} a fit, and fewer batches for the finder")
    runs = []
    with screen.running():
        screen.busy("starting the kernel")
        for run in run_cells(notebook, path.resolve().parent, epochs=epochs):
            runs.append(run)
            screen.idle()
            _show(screen, run)
            screen.busy(f"cell {run.number + 1} of {n_cells}")
    ran = sum(not run.error for run in runs)
    if out is not None:
        import nbformat

        write_output(out, nbformat.writes(notebook).encode())  # type: ignore[no-untyped-call]
    screen.event("notebook", path=path, cells=n_cells, ran=ran, out=out)
    screen.row("cells", f"{ran} of {n_cells} ran", style="" if ran == n_cells else "red", always=True)
    return int(ran < n_cells)


def _show(screen: Screen, run: CellRun) -> None:
    screen.event("cell", **vars(run))
    took = format_time(run.seconds) if run.seconds >= 10 else f"{run.seconds:.1f} s"
    screen.line(
        f"{run.number:>4}  {'failed' if run.error else 'ran':<6}  {took:>7}  {run.line}", always=bool(run.error)
    )
    for text in filter(None, (run.error, run.lacks)):
        screen.row("", text, style="red", always=True)
    for line in run.left_out:
        screen.row("", f"left out, as it installs packages: {line}")
