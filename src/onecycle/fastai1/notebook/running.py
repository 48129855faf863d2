"""Execute a notebook with the hook on, cell by cell, and say of each what it lacks."""

from __future__ import annotations

import ast
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from onecycle.errors import DataError
from onecycle.fastai1.names import every_name
from onecycle.fastai1.notebook.kernel import NAME, check_packages, write_kernel

if TYPE_CHECKING:
    from nbclient import NotebookClient

_INSTALLS = re.compile(
    r"""^(\s*)(?: [!%] .* \b(?:pip3?|conda|mamba|apt(?:-get)?)\b .* \binstall\b .*
            |   ! .* \| \s* (?:ba)?sh\b .* )$""",
    re.MULTILINE | re.VERBOSE,
)
"""Lines for the shell that install packages, and those that run what they fetched."""
_COLOURS = re.compile("\x1b\\[[0-9;]*m")


@dataclass(frozen=True, kw_only=True)
class CellRun:
    """One cell of code, executed."""

    number: int  # among the cells of code, from 1
    line: str  # its first line
    seconds: float
    error: str  # '' where it ran
    lacks: str  # a sentence on what is missing; '' where nothing is known
    left_out: tuple[str, ...]  # lines that would have installed packages


def without_installs(source: str) -> tuple[str, tuple[str, ...]]:
    """Take out lines that install packages, and return them: what is installed here stays as it is."""
    lines = tuple(m[0].strip() for m in _INSTALLS.finditer(source))
    return _INSTALLS.sub(r"\1pass", source), lines


def read_notebook(path: Path) -> Any:
    """Read a notebook of any version.

    Raises:
        DataError: there is none, or it is no notebook.
    """
    check_packages()
    import nbformat

    try:
        return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except (OSError, UnicodeDecodeError, nbformat.reader.NotJSONError, nbformat.ValidationError, KeyError) as error:
        raise DataError(f"{path} cannot be read as a notebook: {str(error).splitlines()[0]}") from error


def run_cells(notebook: Any, folder: Path, *, epochs: int | None = None) -> Iterator[CellRun]:
    """Execute the cells in a kernel of their own; what they print and draw is put into ``notebook``.

    Args:
        notebook: as ``read_notebook`` gives it.
        folder: where the cells run.
        epochs: at most so many a fit, see ``short``; None: as the cells say.

    Yields:
        One for each cell of code, in order; the last is that at which the kernel died, where it did.
    """
    from nbclient.exceptions import DeadKernelError

    first = [f"from onecycle.fastai1.notebook.short import cut_epochs; cut_epochs({epochs})"] if epochs else []
    lost: dict[str, int] = {}
    cells = [(i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    with _client(notebook, folder, first) as client:
        for number, (i, cell) in enumerate(cells, start=1):
            source, cell_start = cell.source, time.perf_counter()
            cell.source, left_out = without_installs(source)
            try:
                client.execute_cell(cell, i)
                name, message = _error_of(cell)
            except DeadKernelError:
                name, message = "DeadKernelError", "the kernel died"
            finally:
                cell.source = source
            if name:
                lost |= {n: number for n in assigned(source) if n not in lost}
            yield CellRun(
                number=number,
                line=next((text for text in source.splitlines() if text.strip()), ""),
                seconds=time.perf_counter() - cell_start,
                error=f"{name}: {message}" if name else "",
                lacks=what_lacks(name, message, {n: k for n, k in lost.items() if k != number}),
                left_out=left_out,
            )
            if name == "DeadKernelError":
                return


@contextmanager
def _client(notebook: Any, folder: Path, first: list[str]) -> Iterator[NotebookClient]:
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    with TemporaryDirectory() as own:
        write_kernel(Path(own) / NAME, first)
        specs = KernelSpecManager(kernel_dirs=[own], ensure_native_kernel=False)
        manager = AsyncKernelManager(kernel_name=NAME, kernel_spec_manager=specs)
        if os.name == "posix":  # by files that no one else can read, not over ports
            manager.transport, manager.connection_file = "ipc", str(Path(own) / "connection.json")
        where = {"metadata": {"path": str(folder)}}
        client = NotebookClient(notebook, km=manager, timeout=None, allow_errors=True, resources=where)
        with client.setup_kernel(cleanup_kc=True):
            yield client


def _error_of(cell: Any) -> tuple[str, str]:
    """Name and first line of the error that a cell ended with; two empty texts where it ran."""
    for output in cell.outputs:
        if output.output_type == "error":
            return output.ename, (_COLOURS.sub("", output.evalue).splitlines() or [""])[0]
    return "", ""


def assigned(source: str) -> frozenset[str]:
    """Names that a cell would have given a value: variables, functions, classes, imports."""
    try:
        tree = ast.parse(re.sub(r"^\s*[!%].*$", "", source, flags=re.M))
    except SyntaxError:
        return frozenset()
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    return frozenset(names | {(a.asname or a.name).split(".")[0] for node in imports for a in node.names})


def what_lacks(name: str, message: str, lost: dict[str, int]) -> str:
    """Return a sentence on what a cell that failed is missing, '' where its message says all.

    Args:
        name: of the error's class.
        message: its first line.
        lost: names that earlier cells would have given, with the numbers of those cells.
    """
    quoted = re.search(r"'([\w.]+)'", message)
    word = quoted[1] if quoted else ""
    if name == "NameError" and word in lost:
        return f"{word} would come from cell {lost[word]}, which failed"
    if name in ("NameError", "ImportError") and word in every_name():
        return f"fastai v1's {word} is not in onecycle"
    if name == "ModuleNotFoundError" and not word.startswith("fastai"):
        return f"the package {word} is not installed here"
    return ""
