"""Where onecycle keeps things: its home folder, the optional config file, data, weights and cache.

    $ONECYCLE_HOME (default ~/.onecycle)
    ├── config.toml    optional; never written by onecycle
    ├── data/          data sets          moved by $ONECYCLE_DATA, else by `data` in config.toml
    ├── weights/       pretrained bodies  moved by $ONECYCLE_WEIGHTS, else by `weights` in config.toml
    └── cache/         decoded pictures and the like; `onecycle cache` lists and clears it; safe to delete

A whole config.toml looks like this (any key may be left out; relative folders start at the file's own):

    data = "/big/disk/data"
    weights = "~/weights"
    mirrors = ["https://mirror.example.org/onecycle/"]
    cache_gb = 20
    download_gb = 10

Everything is read when it is asked for, so a changed variable or file counts at once. Nothing is created.
"""

from __future__ import annotations

import math
import os
import shutil
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

from onecycle.errors import ArgumentError

RUN_CONFIG, RUN_MODEL = "config.yaml", Path("model", "model")
"""Where a run's folder has its settings, and the stem of its model's files."""

SAVED = (".safetensors", ".json")
"""Endings of a saved model's files."""

MANIFEST, MODEL = "manifest.json", "model.onnx"
"""Files by which an exported model is known. Its example pictures are no data, wherever it lies."""

MOST_SETTINGS = 100_000
"""Bytes of a file of settings; all of a run with their comments take 4,000."""

MOST_PX = 4_096
"""The largest side of the pictures that a network sees: settings and models may come from anybody, and a picture of
4,096 px takes 200 MB as float32."""

CORRECTIONS = "corrections.csv"
"""Of a folder that ``serve --collect`` fills: the labels that persons say are right, which ``relabel`` reads."""

_KEYS = ("data", "weights", "mirrors", "cache_gb", "download_gb")
_GB = 10**9
_MOST_DOWNLOAD_GB = 10  # the largest archive of fastai v1's list has 6
_MOST_CACHE_GB = 20  # some 130,000 pictures of 224 px: more than most sets, less than most disks would miss


def home() -> Path:
    """The folder that holds all the rest.

    Returns:
        $ONECYCLE_HOME, else ~/.onecycle, as an absolute path.

    Raises:
        ArgumentError: there is no home folder to start from.
    """
    return _absolute(os.environ.get("ONECYCLE_HOME") or "~/.onecycle", "ONECYCLE_HOME")


def config_file() -> Path:
    """Where the config file is read from, whether or not it exists."""
    return home() / "config.toml"


def data_folder() -> Path:
    """The folder of the data sets.

    Returns:
        $ONECYCLE_DATA, else `data` of config.toml, else <home>/data, as an absolute path. It need not exist.

    Raises:
        ArgumentError: config.toml is needed and cannot be used.
    """
    return _folder("ONECYCLE_DATA", "data")


def weights_folder() -> Path:
    """The folder of the pretrained weights.

    Returns:
        $ONECYCLE_WEIGHTS, else `weights` of config.toml, else <home>/weights, as an absolute path. It need not exist.

    Raises:
        ArgumentError: config.toml is needed and cannot be used.
    """
    return _folder("ONECYCLE_WEIGHTS", "weights")


def cache_folder() -> Path:
    """The folder of everything that can be made again: <home>/cache. It need not exist."""
    return home() / "cache"


def pixel_folder() -> Path:
    """The folder of the decoded pictures: <cache>/pixels. It need not exist."""
    return cache_folder() / "pixels"


def cache_bytes() -> int:
    """How many bytes all decoded pictures may take on the disk.

    Returns:
        $ONECYCLE_CACHE_GB, else `cache_gb` of config.toml, in units of 10⁹ bytes; else half of what the disk would
        have free without them, at most 20 · 10⁹. 0 keeps none.

    Raises:
        ArgumentError: the variable or config.toml cannot be used.
    """
    if value := os.environ.get("ONECYCLE_CACHE_GB"):
        return int(_number(value, "ONECYCLE_CACHE_GB") * _GB)
    if (asked := _config().get("cache_gb")) is not None:
        return int(asked * _GB)
    folder = pixel_folder()
    there = next((f for f in (folder, *folder.parents) if f.exists()), folder)
    return min(_MOST_CACHE_GB * _GB, (shutil.disk_usage(there).free + _used_bytes(folder)) // 2)


def download_bytes() -> int:
    """How many bytes a download may have of which nobody says before how many it has.

    Returns:
        $ONECYCLE_DOWNLOAD_GB, else `download_gb` of config.toml, in units of 10⁹ bytes; else 10 · 10⁹.

    Raises:
        ArgumentError: the variable or config.toml cannot be used.
    """
    if value := os.environ.get("ONECYCLE_DOWNLOAD_GB"):
        return int(_number(value, "ONECYCLE_DOWNLOAD_GB") * _GB)
    asked = _config().get("download_gb")
    return int((_MOST_DOWNLOAD_GB if asked is None else asked) * _GB)


def mirrors() -> list[str]:
    """Servers that are asked before a URL's own host.

    For the URL http://host/some/folder/planet_sample a mirror https://mirror/base/ is asked for
    https://mirror/base/planet_sample.tgz: only the file's name is kept. Mirrors are asked in the order of the
    file, then the URL's own host; the same size and hash checks hold for all.

    Returns:
        `mirrors` of config.toml, each ending in "/"; empty without one.

    Raises:
        ArgumentError: config.toml cannot be used.
    """
    return [base.rstrip("/") + "/" for base in _config().get("mirrors", [])]


class Config:
    """The spelling of older notebooks: `Config.data_path()`, `Config.model_path()`."""

    @classmethod
    def data_path(cls) -> Path:
        """The same as `data_folder()`."""
        return data_folder()

    @classmethod
    def model_path(cls) -> Path:
        """The same as `weights_folder()`."""
        return weights_folder()


def _used_bytes(folder: Path) -> int:
    used = 0
    with suppress(OSError), os.scandir(folder) as entries:  # there may be no such folder yet
        for entry in entries:
            with suppress(OSError):  # another process may have removed it since
                used += entry.stat().st_size
    return used


def _number(value: str, origin: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not _is_size(number):
        raise ArgumentError(f"{origin} must be a number of GB, 0 or more, received {value!r}")
    return number


def _is_size(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value < math.inf  # type: ignore[operator]


def _folder(variable: str, key: str) -> Path:
    if value := os.environ.get(variable):
        return _absolute(value, variable)
    if value := _config().get(key):
        return _absolute(value, f"{key!r} in {config_file()}", start=home())
    return home() / key


def _absolute(folder: str, origin: str, *, start: Path | None = None) -> Path:
    try:
        return (start or Path.cwd()) / Path(folder).expanduser()
    except RuntimeError as err:
        # An unknown user after "~", or a process without a home folder, as in some containers.
        raise ArgumentError(f"{origin}: the folder {folder!r} has no home to start from; give a full path") from err


def _config() -> dict[str, Any]:
    path = config_file()
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise ArgumentError(f"{path} cannot be read as TOML: {err}. Correct the file or delete it") from err
    for key, value in config.items():
        _check(path, key, value)
    return config


def _check(path: Path, key: str, value: object) -> None:
    if key not in _KEYS:
        raise ArgumentError(f"{path}: unknown key {key!r}; the keys are {', '.join(_KEYS)}")
    if key == "mirrors":
        bases = value if isinstance(value, list) else [None]
        if not all(isinstance(base, str) and base.startswith(("http://", "https://")) for base in bases):
            raise ArgumentError(f"{path}: {key!r} must be a list of http:// or https:// addresses, received {value!r}")
    elif key in ("cache_gb", "download_gb"):
        if not _is_size(value):
            raise ArgumentError(f"{path}: {key!r} must be a number of GB, 0 or more, received {value!r}")
    elif not isinstance(value, str) or not value:
        raise ArgumentError(f"{path}: {key!r} must be the name of a folder, received {value!r}")
