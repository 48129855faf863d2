"""Notebooks written for fastai v1 run as they stand: with this imported, ``fastai`` is onecycle in this process.

    import onecycle.as_fastai        # or: %load_ext onecycle.as_fastai, or the kernel "fastai v1 (onecycle)"
    from fastai.vision import *

It changes nothing outside the process, and no package of that name is installed; ``off()`` gives an installed fastai
back. Like fastai v1, it gives every path ``.ls()``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from onecycle.errors import OutOfScopeError
from onecycle.fastai1.modules import V1Module, module

__all__ = ["load_ipython_extension", "off", "on", "unload_ipython_extension"]


class _Finder(MetaPathFinder, Loader):
    """Finds ``fastai`` and all below it; the modules are made by the annexe."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root, _, below = fullname.partition(".")
        if root != "fastai":
            return None
        try:
            found = module(below)
        except KeyError:
            return None
        return ModuleSpec(fullname, self, origin="onecycle", is_package=hasattr(found, "__path__"))

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return module(spec.name.partition(".")[2])

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is run: names are looked up when they are asked for."""


_FINDER = _Finder()


def on() -> None:
    """Let ``fastai`` be onecycle in this process, for what is imported from now on.

    Raises:
        OutOfScopeError: another fastai is imported already, so that both would be in use at once.
    """
    there = sys.modules.get("fastai")
    if there is not None and not isinstance(there, V1Module):
        raise OutOfScopeError(
            f"{getattr(there, '__file__', None) or 'another fastai'} is imported already: restart the process and "
            "import onecycle.as_fastai before fastai"
        )
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    if not hasattr(Path, "ls"):
        Path.ls = _ls  # type: ignore[attr-defined]


def off() -> None:
    """Give an installed fastai its name back, for what is imported from now on."""
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    for name, loaded in list(sys.modules.items()):
        if isinstance(loaded, V1Module):
            del sys.modules[name]
    if getattr(Path, "ls", None) is _ls:
        del Path.ls  # type: ignore[attr-defined]


def _ls(self: Path) -> list[Path]:
    """Return what a folder holds, as a list (fastai v1's method)."""
    return list(self.iterdir())


def load_ipython_extension(ipython: Any) -> None:  # noqa: ARG001
    """``%load_ext onecycle.as_fastai``."""
    on()


def unload_ipython_extension(ipython: Any) -> None:  # noqa: ARG001
    """``%unload_ext onecycle.as_fastai``."""
    off()


on()
