"""``onecycle info``: versions, devices, and where everything lies; what to paste into a question or a bug report."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from importlib import metadata, util
from pathlib import Path
from typing import Any

from onecycle import __version__, settings
from onecycle.cli.screen import Screen
from onecycle.errors import ArgumentError
from onecycle.text import human_bytes, plural, shown, shown_path

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "pillow", "simplejpeg")
_EXTRAS = {
    "fast": "simplejpeg", "notebook": "ipywidgets", "tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb",
}  # fmt: skip
"""The package of each extra."""
_MOST_WEIGHTS = 12


def run_info(*, as_json: bool = False) -> int:
    """Print versions, devices, folders, cache, weights and extras; nothing here is an error.

    Args:
        as_json: print JSON and nothing else.
    """
    facts = gather()
    if as_json:
        print(json.dumps(facts, indent=2))
        return 0
    screen = Screen()
    for label, text in rows_of(facts):
        screen.row(label, text)
    return 0


def gather() -> dict[str, Any]:
    """Return all facts as plain values."""
    versions = {name: _version(name) for name in _PACKAGES}
    return {
        "versions": {"onecycle": __version__, "python": platform.python_version(), **versions},
        "system": platform.platform(),
        "package": str(Path(__file__).resolve().parents[1]),
        "devices": _devices(),
        "config file": _config_file(),
        "folders": {
            "data": _asked(settings.data_folder),
            "weights": _asked(settings.weights_folder),
            "cache": _asked(settings.cache_folder),
        },
        "cache": _cache(),
        "weights": _weights(),
        "extras": {extra: _version(package) is not None for extra, package in _EXTRAS.items()},
    }


def rows_of(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Write the facts as labels and texts."""
    versions, devices = facts["versions"], facts["devices"]
    libraries = [f"{name} {version or 'not installed'}" for name, version in versions.items()]
    bf16 = "bf16 by its own instructions" if devices["bf16"] else "no instructions for bf16"
    cores = f"{devices['cores']} cores, {devices['threads']} threads in use, {bf16}"
    rows = [
        ("onecycle", f"{versions['onecycle']} in {shown_path(facts['package'])}"),
        ("versions", " · ".join(libraries[1:])),
        ("system", facts["system"]),
        ("processor", f"{devices['processor']}: {cores}"),
    ]
    rows += [("GPU", gpu) for gpu in devices["gpus"] or ["none that PyTorch sees"]]
    rows += [("config", facts["config file"])]
    rows += [(name, shown_path(folder)) for name, folder in facts["folders"].items()]
    weights = shown(facts["weights"], most=_MOST_WEIGHTS) or "none"
    rows += [("", facts["cache"]), ("networks", f"weights are here of: {weights}")]
    extras = [f"{name} {'yes' if there else 'no'}" for name, there in facts["extras"].items()]
    missing = next((name for name, there in facts["extras"].items() if not there), None)
    hint = f" (pip install 'onecycle[{missing}]')" if missing else ""
    return [*rows, ("extras", " · ".join(extras) + hint)]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    import torch

    from onecycle.train.device.machine import n_cores, processor_name
    from onecycle.train.device.precision import cpu_has_bf16

    gpus = [_gpu(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return {
        "processor": processor_name(),
        "cores": n_cores(),
        "threads": torch.get_num_threads(),
        "bf16": cpu_has_bf16(),
        "gpus": gpus,
    }


def _gpu(index: int) -> str:
    import torch

    about = torch.cuda.get_device_properties(index)
    bf16 = "bf16" if torch.cuda.is_bf16_supported(False) else "no bf16"
    return f"{about.name}, {about.total_memory / 2**30:.0f} GiB, {bf16}, CUDA {torch.version.cuda}"


def _config_file() -> str:
    """Return where the config file is, and what is wrong with it."""
    try:
        path = settings.config_file()
        settings.mirrors()  # reads and checks the whole file
    except ArgumentError as error:
        return f"cannot be used: {error}"
    return shown_path(path) + ("" if path.exists() else " (none, and none is needed)")


def _asked(folder: Callable[[], Path]) -> str:
    """Return a folder's path, or why there is none: a broken config file must not hide the rest."""
    try:
        path = folder()
    except ArgumentError:
        return "not known: the config file cannot be used"
    return str(path) if path.is_dir() else f"{path} (not there yet)"


def _cache() -> str:
    from onecycle.data.pixels.cache import stores, used_bytes

    try:
        n, used = len(stores()), human_bytes(used_bytes())
    except (ArgumentError, OSError) as error:
        return f"not readable: {error}"
    try:
        most = f" of at most {human_bytes(settings.cache_bytes())}"
    except (ArgumentError, OSError):
        most = ""
    return f"{plural(n, 'set')} of decoded pictures, {used}{most}"


def _weights() -> list[str]:
    """Name the pretrained weights that are on this machine."""
    from onecycle.model.weights import PACKAGES, SUFFIXES

    packaged = [f"{name} (packaged)" for name, p in PACKAGES.items() if util.find_spec(p.replace("-", "_"))]
    try:
        folder = settings.weights_folder()
        files = sorted(folder.iterdir()) if folder.is_dir() else []
    except (ArgumentError, OSError):
        files = []
    return packaged + [p.name for p in files if p.suffix in SUFFIXES]
