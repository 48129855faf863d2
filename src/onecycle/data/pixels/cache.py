"""The folder of decoded pictures: which process decodes, how much room there is, what is there.

    <cache>/pixels/
    ├── <key>.bin, .json    a set of pictures, see ``pixel_file``
    ├── <key>.lock          held by the process that decodes; the system frees it when it ends, however it ends
    ├── <key>.….part        being written
    └── room.lock           held by the process that makes room

A kill half way leaves .part files and perhaps a .bin without a .json; the next process that writes sweeps them away,
as soon as it gets their lock. Nothing here needs numpy or torch, so that ``onecycle cache`` answers at once.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from onecycle.data.pixels import pixel_file
from onecycle.data.pixels.pixel_file import CacheUnusable, Manifest, Say, UnfinishedFile, file_path, why
from onecycle.files import NO_LOCK, locked, remove
from onecycle.settings import cache_bytes, config_file, pixel_folder
from onecycle.text import aligned, cut, human_bytes, plural, shown_path

_DAY_S = 86400.0
_COLUMNS = 80


class TooLarge(CacheUnusable):
    """The pictures alone take more than the cache may; the text is a whole sentence."""


@contextmanager
def filling(key: str, say: Say) -> Iterator[None]:
    """Be the only process that decodes this set; wait while another one does.

    Raises:
        CacheUnusable: the folder cannot be written.
    """
    with ExitStack() as held:
        try:
            pixel_folder().mkdir(parents=True, exist_ok=True)
            text = "Another process is decoding the same pictures: waiting for it to finish"
            held.enter_context(locked(file_path(key, ".lock"), waiting=lambda: say(text)))
        except NO_LOCK as error:
            raise CacheUnusable(why(error)) from error
        yield


@contextmanager
def new_store(key: str, n_bytes: int, *, say: Say) -> Iterator[UnfinishedFile]:
    """Make room for a set whose lock is held, and a file that is removed again unless it is finished.

    Args:
        key: from ``key_of``.
        n_bytes: of pixels and table.
        say: told which sets were removed to make room.

    Raises:
        TooLarge: it is larger than the whole cache may be.
        CacheUnusable: there is no room for it; here, or in any write later on.
    """
    try:
        with FileLock(pixel_folder() / "room.lock"):  # two processes must not count on the same room
            _remove_set(key)
            _sweep()
            _evict(n_bytes + pixel_file.KEY_BYTES, say)
            unfinished = UnfinishedFile(key, n_bytes)
    except NO_LOCK as error:
        raise CacheUnusable(why(error)) from error
    try:
        yield unfinished
    finally:
        unfinished.close()


# ---------------------------------------------------------------- room


@dataclass(frozen=True)
class Stored:
    """A set in the folder."""

    key: str  # its name
    manifest: Manifest | None  # None if it cannot be read
    n_bytes: int  # of the .bin
    used_s: float  # when it was last used, in seconds since 1970


def stores() -> list[Stored]:
    """List the sets in the folder, the one used last first."""
    listed = []
    for path in _files(".json"):
        manifest = None
        with suppress(OSError, ValueError, KeyError, TypeError, IndexError):
            manifest = Manifest.from_json(path.read_text(encoding="utf-8"))
        with suppress(FileNotFoundError):
            listed.append(Stored(path.stem, manifest, _size(file_path(path.stem, ".bin")), path.stat().st_mtime))
    return sorted(listed, key=lambda s: (-s.used_s, s.key))


def used_bytes() -> int:
    """Return what finished and unfinished sets take."""
    return sum(_size(p) for p in [*_files(".bin"), *_files(".part")])


@dataclass(frozen=True)
class Cleared:
    """What ``clear`` removed: sets and bytes; and how many sets it left because some process has them open."""

    n: int
    n_bytes: int
    n_in_use: int


def clear(older_than_days: float | None = None) -> Cleared:
    """Remove all sets that no process uses, or those not used for some days; and what killed processes left."""
    before = used_bytes()
    latest = float("inf") if older_than_days is None else time.time() - older_than_days * _DAY_S
    chosen = [s for s in stores() if s.used_s <= latest]
    removed = [_discard(s.key) for s in chosen]
    _sweep()
    return Cleared(sum(removed), max(0, before - used_bytes()), removed.count(False))


def clearing_text(older_than_days: float | None = None) -> str:
    """Remove sets as ``clear`` does, and say what was removed."""
    done = clear(older_than_days)
    text = f"Removed {_sets(done.n)}: {human_bytes(done.n_bytes)} freed in {shown_path(pixel_folder())}"
    if done.n_in_use:
        text += f"\nLeft {_sets(done.n_in_use)} that could not be removed: in use by another process, or not yours"
    return text


def listing_text(*, whole: bool = False) -> str:
    """List the sets in the folder: size, pictures, px, last used, made from; in 80 columns, unless ``whole``."""
    listed, used, cap = stores(), used_bytes(), cache_bytes()
    if not listed and not used:
        return f"No decoded pictures are kept in {shown_path(pixel_folder())}"
    rows = [("size", "pictures", "px", "last used", "made from"), *(_row(s) for s in listed)]
    room = max(_COLUMNS - sum(max(len(row[i]) for row in rows) + 2 for i in range(4)), 12)
    lines = [
        f"Decoded pictures in {shown_path(pixel_folder())}",
        *aligned([(*row[:4], row[4] if whole else cut(row[4], room)) for row in rows], ">>><"),
        f"{human_bytes(used)} of at most {human_bytes(cap)} (ONECYCLE_CACHE_GB, or cache_gb in config.toml).",
        "`onecycle cache --clear` removes them, with `--older-than 30` those unused for",
        "30 days.",
    ]
    return "\n".join(lines)


def _row(stored: Stored) -> tuple[str, str, str, str, str]:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(stored.used_s))
    size, manifest = human_bytes(stored.n_bytes), stored.manifest
    if manifest is None:
        return size, "?", "?", used, "damaged"
    px = "mixed" if manifest.shape is None else f"{manifest.shape[0]}×{manifest.shape[1]}"
    return size, f"{manifest.n:,}", px, used, shown_path(manifest.folder)


def _sets(n: int) -> str:
    return plural(n, "set of decoded pictures", "sets of decoded pictures")


def _evict(n_bytes: int, say: Say) -> None:
    """Remove the sets that were not used for longest until ``n_bytes`` more fit the cap and the disk."""
    cap = cache_bytes()
    if n_bytes > cap:
        needed_gb = -(-n_bytes // 10**8) / 10
        raise TooLarge(
            f"The decoded pictures take {human_bytes(n_bytes)}, more than the {human_bytes(cap)} that the pixel cache "
            f"may take: they are decoded anew in each epoch. To keep them, set ONECYCLE_CACHE_GB={needed_gb:g} or "
            f"cache_gb in {shown_path(config_file())}, or pass pixel_cache='memory'"
        )
    free = shutil.disk_usage(pixel_folder()).free
    excess = max(used_bytes() + n_bytes - cap, n_bytes - free)
    idle = [s for s in reversed(stores()) if excess > 0 and _discard(s.key, really=False)]
    if excess > sum(s.n_bytes for s in idle):
        spare, rest = human_bytes(free), human_bytes(used_bytes() - sum(s.n_bytes for s in idle))
        raise CacheUnusable(
            f"The pixel cache {shown_path(pixel_folder())} has no room for {human_bytes(n_bytes)}: the disk has "
            f"{spare} free, and other runs use {rest} of the {human_bytes(cap)} that the cache may take"
        )
    gone: list[Stored] = []
    for stored in idle:
        if excess <= 0:
            break
        if _discard(stored.key):
            excess -= stored.n_bytes
            gone.append(stored)
    if gone:
        folders = ", ".join(sorted({shown_path(s.manifest.folder) if s.manifest else "unknown" for s in gone}))
        say(
            f"Removed {human_bytes(sum(s.n_bytes for s in gone))} of decoded pictures, unused for longest, from the "
            f"pixel cache to make room (made from {folders})"
        )


def _discard(key: str, *, really: bool = True) -> bool:
    """Remove a set unless some process decodes or uses it; not ``really``: say whether that could be done."""
    with _alone(key) as idle:
        if not really:
            return idle
        if idle:
            _remove_set(key)
            # A process that waits for this lock may then decode beside one that comes later: twice the work, no harm.
            remove(file_path(key, ".lock"))
        return idle and not file_path(key, ".bin").exists()


@contextmanager
def _alone(key: str) -> Iterator[bool]:
    """Keep other processes from decoding or opening a set within the block; yields False where one does already."""
    with ExitStack() as held:
        idle = True
        try:
            held.enter_context(FileLock(file_path(key, ".lock"), timeout=0))
            if sys.platform != "win32":  # Windows removes nothing that is open, here neither
                with suppress(FileNotFoundError):
                    idle = pixel_file.lock_file(held.enter_context(file_path(key, ".bin").open("rb")), alone=True)
        except NO_LOCK:
            idle = False
        yield idle


def _sweep() -> None:
    """Remove what killed processes left: .part files, and sets without a manifest, of every key that nobody decodes."""
    left = _files(".part") + [p for p in _files(".bin") if not p.with_suffix(".json").exists()]
    for key in {_key_of(p) for p in left}:
        with _alone(key) as idle:
            if idle:
                _remove_parts(key)
                if not file_path(key, ".json").exists():  # its process may have finished it just now
                    _remove_set(key)
                    remove(file_path(key, ".lock"))


def _remove_set(key: str) -> None:
    """Remove a set with its .part files; the manifest first, so that half a removal leaves nothing usable."""
    remove(file_path(key, ".json"))
    remove(file_path(key, ".bin"))
    _remove_parts(key)


def _remove_parts(key: str) -> None:
    for path in _files(".part"):
        if _key_of(path) == key:
            remove(path)


def _key_of(path: Path) -> str:
    return path.name.split(".")[0]


def _files(suffix: str) -> list[Path]:
    try:
        return [p for p in pixel_folder().iterdir() if p.name.endswith(suffix)]
    except FileNotFoundError:
        return []


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
