"""Files by the names that tables and people write; each folder is listed once, and nothing is opened."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*", re.IGNORECASE)
_DRIVE = re.compile(r"[a-z]:", re.IGNORECASE)


def spelling(name: str) -> str:
    """Return what the spellings of a file's name share: Unicode's form, the ending's case, blanks, ``%20``."""
    name = _without_percents(name)
    stem, end = os.path.splitext((name if name.isascii() else unicodedata.normalize("NFC", name)).strip())
    return stem + end.lower()


def _without_percents(name: str) -> str:
    """Return a name as it was before it became part of an address; one that never was stays as it is."""
    try:
        return unquote(name, errors="strict") if "%" in name else name
    except UnicodeDecodeError:
        return name


def is_address(name: str) -> bool:
    """Say whether a name is an address on a network: ``https://…``, ``s3://…``."""
    return _ADDRESS.match(name) is not None


def path_parts(name: str) -> list[str]:
    """Return the folders and the file of a path of any machine, or of an address; a drive and ``..`` say nothing."""
    if address := _ADDRESS.match(name):
        name = _without_percents(re.split("[?#]", name[address.end() :])[0])
    parts = re.split(r"[/\\]", name)
    parts = parts[1:] if _DRIVE.fullmatch(parts[0]) else parts
    return [part for part in parts if part not in ("", ".", "..")]


def last_parts(name: str, n: int) -> str:
    """Return the end of a path: its file and the n - 1 folders above it, with ``/`` between them."""
    return "/".join(path_parts(name)[-n:])


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry is a folder or a link to one; a link to itself is none."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


@dataclass(frozen=True)
class _Folder:
    path: str
    files: frozenset[str]
    folders: frozenset[str]

    @cached_property
    def file_spellings(self) -> dict[str, list[str]]:
        return _by_spelling(self.files)

    @cached_property
    def folder_spellings(self) -> dict[str, list[str]]:
        return _by_spelling(self.folders)


class FileNames:
    """The files of folders, by name and by spelling."""

    def __init__(self) -> None:
        self._folders: dict[str, _Folder | None] = {}

    def find(self, path: str) -> str:
        """Return the path of a file as the disk has it, ``""`` where there is none.

        The very name wins; another spelling of it counts where a single file has it.
        """
        above, name = os.path.split(path)
        folder = self._folder(above)
        if folder is None or not name:
            return ""
        if name in folder.files:
            return path if folder.path == above else os.path.join(folder.path, name)
        others = folder.file_spellings.get(spelling(name), [])
        return os.path.join(folder.path, others[0]) if len(others) == 1 else ""

    def has(self, path: str) -> bool:
        """Say whether there is a file of this name, however it is spelt."""
        above, name = os.path.split(path)
        folder = self._folder(above)
        return folder is not None and bool(name) and spelling(name) in folder.file_spellings

    def _folder(self, path: str) -> _Folder | None:
        """Return a folder, or the only one that its path is another spelling of."""
        if path not in self._folders:
            self._folders[path] = _listed(path) or self._other(path)
        return self._folders[path]

    def _other(self, path: str) -> _Folder | None:
        above, name = os.path.split(path.rstrip("/"))
        folder = self._folder(above) if name else None
        others = [] if folder is None else folder.folder_spellings.get(spelling(name), [])
        return _listed(os.path.join(folder.path, others[0])) if folder and len(others) == 1 else None


def _listed(path: str) -> _Folder | None:
    files: set[str] = set()
    folders: set[str] = set()
    try:
        with os.scandir(path or ".") as entries:
            for entry in entries:
                (folders if is_folder(entry) else files).add(entry.name)
    except (OSError, ValueError):  # no such folder, or a name that none can have
        return None
    return _Folder(path, frozenset(files), frozenset(folders))


def _by_spelling(names: frozenset[str]) -> dict[str, list[str]]:
    same = defaultdict(list)
    for name in sorted(names):
        same[spelling(name)].append(name)
    return dict(same)
