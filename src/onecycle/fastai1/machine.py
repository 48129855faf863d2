"""fastai v1's small helpers about this machine: memory of GPUs, versions, where a notebook runs, and downloads."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pandas as pd
import torch

from onecycle.fastai1.pictures.files import download_url
from onecycle.settings import data_folder

__all__ = [
    "check_perf", "datapath4file", "download_data", "gpu_mem_get", "gpu_mem_get_all", "gpu_mem_get_free",
    "gpu_mem_get_free_no_cache", "gpu_mem_get_used", "gpu_mem_get_used_no_cache", "gpu_mem_restore",
    "gpu_mem_restore_ctx", "gpu_with_max_free_mem", "have_min_pkg_version", "is_in_colab", "is_in_ipython",
    "pd_max_colwidth", "pillow_version", "progress_disabled_ctx", "show_doc", "show_install", "try_import", "url2name",
    "url2path",
]  # fmt: skip


# -- memory of GPUs --------------------------------------------------------------------------------------------------


class GPUMemory(NamedTuple):
    """Of one GPU, in MiB; zeros where there is none."""

    total: int
    free: int
    used: int


def gpu_mem_get(id: int | None = None) -> GPUMemory:
    """Return the memory of a GPU, by default of the current one."""
    if not torch.cuda.is_available():
        return GPUMemory(0, 0, 0)
    free, total = (n >> 20 for n in torch.cuda.mem_get_info(id))
    return GPUMemory(total, free, total - free)


def gpu_mem_get_all() -> list[GPUMemory]:
    """Return the memory of each GPU."""
    return [gpu_mem_get(i) for i in range(torch.cuda.device_count())]


def gpu_mem_get_free() -> int:
    """Return the free memory of the current GPU."""
    return gpu_mem_get().free


def gpu_mem_get_used() -> int:
    """Return the memory of the current GPU that is in use."""
    return gpu_mem_get().used


def _emptied() -> GPUMemory:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return gpu_mem_get()


def gpu_mem_get_free_no_cache() -> int:
    """Return the free memory of the current GPU once PyTorch gave back what it keeps."""
    return _emptied().free


def gpu_mem_get_used_no_cache() -> int:
    """Return the memory in use of the current GPU once PyTorch gave back what it keeps."""
    return _emptied().used


def gpu_with_max_free_mem() -> tuple[int | None, int]:
    """Return the GPU with the most free memory, and that; (None, 0) where there is none."""
    free = [memory.free for memory in gpu_mem_get_all()]
    return (None, 0) if not free else (free.index(max(free)), max(free))


@contextmanager
def gpu_mem_restore_ctx() -> Iterator[None]:
    """Let go of what an error's frames hold, so that their memory can be freed."""
    try:
        yield
    except Exception as error:
        import traceback

        traceback.clear_frames(error.__traceback__)
        raise


def gpu_mem_restore(func: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function in ``gpu_mem_restore_ctx``."""

    @functools.wraps(func)
    def wrapped(*args: Any, **options: Any) -> Any:
        with gpu_mem_restore_ctx():
            return func(*args, **options)

    return wrapped


# -- versions and surroundings --------------------------------------------------------------------------------


def show_install(show_nvidia_smi: bool = False) -> None:
    """Print the versions that a report of a fault needs."""
    from onecycle.fastai1.names import VERSION

    rows = {"python": platform.python_version(), "fastai": f"{VERSION} (by onecycle {_version('onecycle')})"}
    rows |= {name: _version(name) for name in ("fastprogress", "torch", "torchvision", "pillow", "numpy", "pandas")}
    rows |= {"cuda": torch.version.cuda or "none", "GPUs": str(torch.cuda.device_count())}
    rows |= {"platform": platform.platform()}
    print("\n".join(f"{name:<14}: {value}" for name, value in rows.items() if value))
    if show_nvidia_smi and torch.cuda.is_available():
        print(gpu_mem_get_all())


def check_perf() -> None:
    """Print what reads JPEG files, and how many processors there are."""
    from onecycle.data.pixels.decode import uses_simplejpeg

    jpeg = "simplejpeg (libjpeg-turbo)" if uses_simplejpeg() else "Pillow"
    print(f"JPEG files are read by {jpeg}; {torch.get_num_threads()} threads; {gpu_mem_get_all() or 'no GPU'}")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def pillow_version() -> str:
    """Return Pillow's version."""
    return _version("pillow")


def have_min_pkg_version(package: str, version: str) -> bool:
    """Whether a package of at least this version is installed."""
    from packaging.version import Version

    there = _version(package)
    return bool(there) and Version(there) >= Version(version)


def pd_max_colwidth() -> int | None:
    """Return the value that means "no limit" for pandas' ``display.max_colwidth``."""
    return None if int(pd.__version__.split(".")[0]) >= 1 else -1


def try_import(module: str) -> ModuleType | None:
    """Import a module; None where that fails."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def is_in_ipython() -> bool:
    """Whether IPython runs this."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def is_in_colab() -> bool:
    """Whether this runs in Google Colaboratory."""
    return is_in_ipython() and "google.colab" in sys.modules


@contextmanager
def progress_disabled_ctx(learn: Any) -> Iterator[Any]:
    """Let a learner train without a bar and a table."""
    before, learn.silent = learn.silent, True
    try:
        yield learn
    finally:
        learn.silent = before


def show_doc(elt: Any, **_: Any) -> None:
    """Print what something is for; v1's page of its own documentation is not asked."""
    from onecycle.doc import doc

    doc(elt)


# -- downloads ------------------------------------------------------------------------------------------


def url2name(url: str) -> str:
    """Return the last part of an address."""
    return url.split("/")[-1]


def datapath4file(filename: str, ext: str = ".tgz", archive: bool = True) -> Path:
    """Return where a data set, or with ``archive`` its file, is kept; ``./data`` where it is there."""
    local = Path.cwd() / "data" / filename
    if local.exists() or local.with_suffix(ext).exists():
        return local
    return data_folder() / filename


def url2path(url: str, data: bool = True, ext: str = ".tgz") -> Path:
    """Return where a data set is kept, or with ``data=False`` a model."""
    return datapath4file(url2name(url), ext, archive=False) if data else data_folder() / "models" / url2name(url)


def download_data(url: str, fname: Any = None, data: bool = True, ext: str = ".tgz") -> Path:
    """Fetch ``url`` + ``ext`` unless its file is there; returns the file."""
    file = Path(fname) if fname is not None else Path(f"{url2path(url, data, ext)}{ext}")
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        print(f"Downloading {url}{ext}")
        download_url(f"{url}{ext}", file)
    return file
