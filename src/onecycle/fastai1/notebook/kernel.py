"""The kernel "fastai v1 (onecycle)": Jupyter's Python kernel in this environment, with the hook on from its start."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from onecycle.errors import ArgumentError
from onecycle.files import write_whole

NAME, TITLE = "onecycle-fastai1", "fastai v1 (onecycle)"
_NEEDED = ("ipykernel", "jupyter_client", "nbclient", "nbformat")


def check_packages() -> None:
    """Fail where a package of Jupyter's is missing.

    Raises:
        ArgumentError: it names the packages, and the extra that brings them.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ArgumentError(f"notebooks need {', '.join(missing)}: pip install 'onecycle[notebook]'")


def write_kernel(folder: Path, first: Sequence[str] = ()) -> None:
    """Write the description of the kernel that Jupyter reads.

    Args:
        folder: for ``kernel.json``; made where it is not there.
        first: lines that the kernel runs before any cell.
    """
    words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    words += ["--IPKernelApp.extra_extensions=onecycle.as_fastai"]
    words += [f"--IPKernelApp.exec_lines={line}" for line in first]
    spec = {"argv": words, "display_name": TITLE, "language": "python", "metadata": {"debugger": True}}
    write_whole(folder / "kernel.json", (json.dumps(spec, indent=1) + "\n").encode())


def install_kernel(prefix: Path | None = None) -> Path:
    """Install the kernel, so that Jupyter offers it.

    Args:
        prefix: of an environment, whose ``share/jupyter/kernels`` gets it; None: the user's own folder.

    Returns:
        The folder that was written; one of the same kernel is replaced.
    """
    check_packages()
    from jupyter_client.kernelspec import KernelSpecManager

    with TemporaryDirectory() as folder:
        write_kernel(Path(folder))
        where = {"user": True} if prefix is None else {"prefix": str(prefix)}
        return Path(KernelSpecManager().install_kernel_spec(folder, NAME, **where))
