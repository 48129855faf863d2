"""Files that are whole under their name, folders that are safe on the disk, values that JSON can hold, digests."""

from __future__ import annotations

import csv
import errno
import glob
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from onecycle.errors import DiskFullError
from onecycle.text import by_place, human_bytes

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors that say that there is no room: a full disk, a quota, a limit on the size of a file."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that under its name there is always all of it: the old content or the new.

    It is written beside ``path``, made durable, and then renamed. The name beside it is new and nobody can know it
    before, so no link that lies there is written through.

    Raises:
        DiskFullError: there is no room; what was there before is untouched.
        OSError: it cannot be written for another reason; its ``filename`` is ``path``.
    """
    tmp = beside(path)
    with writing(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(tmp, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _NO_LINK | getattr(os, "O_BINARY", 0), 0o666)
        try:
            with open(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            tmp.replace(path)
        finally:
            tmp.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_part(path: Path, data: bytes) -> None:
    """Write a file of a folder that gets its own name later, when it is whole: no name to keep whole, nothing synced.

    Raises:
        DiskFullError, OSError: as ``write_whole``; what is there of the file goes with its folder.
    """
    with writing(path, len(data)):
        path.write_bytes(data)


@contextmanager
def write_chunks(
    path: Path, *, append: bool = False, n_bytes: int | None = None, mode: int = 0o666
) -> Iterator[Callable[[bytes], object]]:
    """Give a function that writes chunks into a new file of an unfinished folder, or at the end of one.

    Args:
        path: the file.
        append: to what is there; a file that is continued is synced at the end.
        n_bytes: that it will have, where that is known.
        mode: of a new file.

    Raises:
        DiskFullError, OSError: as ``write_whole``, of writing and closing; others of the block are as they are.
    """
    flags = os.O_CREAT | os.O_WRONLY | getattr(os, "O_BINARY", 0) | (os.O_APPEND if append else os.O_EXCL | _NO_LINK)
    with writing(path, n_bytes):
        file = open(os.open(path, flags, mode), "wb")  # noqa: SIM115 - closing is writing, too: it is named below

    def write(chunk: bytes) -> None:
        with writing(path, n_bytes):
            file.write(chunk)

    try:
        yield write
        with writing(path, n_bytes):
            file.flush()
            if append:
                os.fsync(file.fileno())
    finally:
        with writing(path, n_bytes):
            file.close()


def write_zip(path: Path, folder: Path) -> Path:
    """Write the files of a folder as a .zip of stored members below the folder's name, dated alike whenever it is made.

    As with ``write_part``, the file belongs to a folder that gets its own name later.

    Raises:
        DiskFullError, OSError: as ``write_whole``.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    n_bytes = sum(p.stat().st_size for p in files)
    with writing(path, n_bytes), zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            info = zipfile.ZipInfo(f"{folder.name}/{file.relative_to(folder).as_posix()}")
            info.external_attr = 0o644 << 16
            archive.writestr(info, file.read_bytes())
    return path


def claim(path: Path) -> bool:
    """Make an empty file that nobody else has; False where the name is taken.

    Raises:
        DiskFullError, OSError: as ``write_whole``.
    """
    with writing(path):
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _NO_LINK, 0o666))
        except FileExistsError:
            return False
    return True


@contextmanager
def writing(path: Path, n_bytes: int | None = None) -> Iterator[None]:
    """Let errors of the disk within the block name the file that is written, and what it needs and has.

    Args:
        path: the file, by the name that its user knows.
        n_bytes: that it will have, where that is known.

    Raises:
        DiskFullError: there is no room.
        OSError: another error of the system; its ``filename`` is ``path``.
    """
    try:
        yield
    except DiskFullError:
        raise
    except OSError as error:
        if error.errno in FULL_DISK:
            raise disk_full(error, path, n_bytes) from error
        if error.errno is not None:  # writing says no name, and that of the file beside it says nothing to a user
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise


def disk_full(error: OSError, path: Path | None = None, n_bytes: int | None = None) -> DiskFullError:
    """Return the error that says which file has no room, how much it needs and how much there is.

    Args:
        error: what the system said.
        path: the file that was being written; None takes what ``error`` names.
        n_bytes: that it needs, where that is known.
    """
    place = path if path is not None else Path(os.fsdecode(error.filename)) if error.filename else None
    free = None if place is None else free_bytes(place)
    needed = "" if n_bytes is None else f"it needs {human_bytes(n_bytes)}"
    if error.errno == errno.EFBIG:
        reason, room = "it is larger than a file may be here (ulimit -f shows a limit)", ""
    elif free is not None and place is not None and _no_more_files(place):
        reason, room = "the disk can hold no more files (df -i shows how many)", ""
    else:
        reason = "the quota is used up" if error.errno == errno.EDQUOT else "the disk is full"
        room = "" if free is None else f"{human_bytes(free)} are free there"
    numbers = ", and ".join(filter(None, (needed, room)))
    why = f"{reason} ({numbers})" if numbers else reason
    elsewhere = by_place(", with --out where the command has it", "")
    return DiskFullError(
        f"{'a file' if place is None else place} cannot be written: {why}. Free some room there, or choose another "
        f"place{elsewhere}. Files that were there before are as they were",
        number=error.errno, reason=why, file="" if place is None else str(place), needed=n_bytes, free=free,
    )  # fmt: skip


def free_bytes(path: Path) -> int | None:
    """Return the room on the disk that ``path`` lies on or would lie on; None where the system does not say."""
    with suppress(OSError):
        return shutil.disk_usage(first_existing(path)).free
    return None


def first_existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that is there."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def _no_more_files(path: Path) -> bool:
    if not hasattr(os, "statvfs"):
        return False
    with suppress(OSError):
        status = os.statvfs(first_existing(path))
        return status.f_files > 0 and status.f_favail == 0
    return False


_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def beside(path: Path) -> Path:
    """Return a name in the folder of ``path`` that nobody can have taken; of a long name the beginning is in it."""
    return path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.tmp")


def remove_unfinished(folder: Path) -> None:
    """Remove what writers of whole files left in a folder when they were killed; one that may still write is younger.

    Args:
        folder: alone, not what lies below it.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if _BESIDE.fullmatch(path.name) and time.time() - path.lstat().st_mtime > _OLD_S:
                remove(path)


_BESIDE = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
_YOUNG_S, _OLD_S = 10.0, 86_400.0
"""What is younger is not left over; nor is, where nobody can tell whether it is in use, what is not a day old."""


@contextmanager
def unfinished(folder: Path | None, name: str, mode: int = 0o700, *, final: Path | None = None) -> Iterator[Path]:
    """Make a folder for what has no name of its own yet; it goes at the end, those that killed processes left go first.

    Args:
        folder: where what is finished will lie, which is made if need be; None: nowhere, and the folder for temporary
            files of the system is taken.
        name: of what is made.
        mode: of the new folder.
        final: what errors name in place of the new folder; None takes ``folder``.

    Raises:
        DiskFullError, OSError: of the block, too: a file in the new folder is named as it would be in ``final``.
    """
    there = Path(tempfile.gettempdir()) if folder is None else folder
    for left in there.glob(f".{glob.escape(name)}.*.unfinished"):
        _remove_abandoned(left)
    new = there / f".{name}.{secrets.token_hex(4)}.unfinished"
    with writing(there / name):
        there.mkdir(parents=True, exist_ok=True)
        new.mkdir(mode=mode)
    try:
        with _in_use(new):
            yield new
    except OSError as error:
        file = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else None
        final = final or folder
        if final is None or file is None or not file.is_relative_to(new):
            raise
        named = final / file.relative_to(new)
        if error.errno in FULL_DISK:
            raise disk_full(error, named, getattr(error, "needed", None)) from error
        raise type(error)(error.errno, error.strerror, str(named)) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove what a killed process left; one that is alive keeps its folder in use."""
    with suppress(OSError):
        age = time.time() - folder.lstat().st_mtime
        if not folder.is_symlink() and age > (_OLD_S if sys.platform == "win32" else _YOUNG_S):
            with _in_use(folder):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """Mark a folder as in use by this process, until the block ends, however it ends.

    Raises:
        OSError: another process uses it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):  # else this disk has no locks
                raise
        yield
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can; the files themselves are synced by who writes them."""
    if sys.platform == "win32":
        return  # it cannot open a folder
    with suppress(OSError):  # some network disks cannot
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_parts() -> None:
    """Make all that ``write_part`` wrote durable, once for all: an fsync for each of 100,000 files takes minutes."""
    if sys.platform != "win32":
        os.sync()


def reserve(descriptor: int, n_bytes: int) -> None:
    """Take the room on the disk now, where the system can: one that fills up under a memory map kills the process."""
    if hasattr(os, "posix_fallocate"):
        try:
            return os.posix_fallocate(descriptor, 0, n_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
    return os.truncate(descriptor, n_bytes)


def remove(path: Path) -> None:
    """Remove a file, if it is there and the system allows it."""
    with suppress(OSError):  # it is gone already, or in use on Windows
        path.unlink()


NO_LOCK = (OSError, NotImplementedError)
"""What taking a lock raises where that is not possible; filelock's Timeout is an OSError too."""


@contextmanager
def locked(path: Path, *, waiting: Callable[[], object]) -> Iterator[None]:
    """Keep all other threads and processes out of the block; the system frees the lock however this process ends.

    Args:
        path: of the lock's own file, in a folder that is there; the file stays.
        waiting: called once where another one is inside.

    Raises:
        OSError, NotImplementedError: the folder cannot be written, or its disk has no locks.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


# --- values ------------------------------------------------------------------------------------------------------


def plain_json(value: Any) -> Any:
    """Return what JSON can hold: NaN and infinities as None, numbers of NumPy as Python's, all else as text."""
    if isinstance(value, Mapping):
        return {str(k): plain_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(v) for v in value]
    if hasattr(value, "tolist"):
        return plain_json(value.tolist())
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def csv_text(rows: Iterable[Sequence[object]], *, raw: bool = True) -> str:
    """Return rows of cells, the header among them, as the text of a CSV file.

    Args:
        rows: of cells.
        raw: texts as they are; False for a table that people open in a spreadsheet, see ``escaped_cell``.
    """
    text = io.StringIO()
    cells = rows if raw else ([escaped_cell(c) if isinstance(c, str) else c for c in row] for row in rows)
    csv.writer(text, lineterminator="\n").writerows(cells)
    return text.getvalue()


_NUMBER = r"[+-]?(?:[0-9][0-9,]*\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$|[+-]?(?:inf|nan)$"
_FORMULA = re.compile(rf"'*(?!{_NUMBER})[=+\-@\t\r\n＝＋－＠]")
"""How a cell begins that a spreadsheet may run as a formula: not numbers; nor, behind apostrophes, what was escaped."""


def escaped_cell(text: str) -> str:
    """Return text with an apostrophe before it, where a spreadsheet may run it as a formula.

    Text that begins with apostrophes and then as a formula does gets one more, so ``unescaped_cell`` gives any text
    back.

    Source: OWASP, "CSV Injection".
    """
    return f"'{text}" if is_formula(text) else text


def unescaped_cell(text: str) -> str:
    """Return the text that ``escaped_cell`` was given."""
    return text[1:] if text.startswith("'") and is_formula(text) else text


def is_formula(text: str) -> bool:
    """Tell whether ``escaped_cell`` changes a text."""
    return _FORMULA.match(text) is not None


def parquet_bytes(table: Any, compression: str = "snappy", *, group: int | None = None) -> bytes:
    """Return a table of pyarrow as the content of a parquet file, in groups of so many rows where that is said."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=compression, row_group_size=group, write_page_checksum=True)
    return buffer.getvalue()


def short_digest(value: Any) -> str:
    """Return 16 hex digits of the SHA-256 of a value's JSON: a key under which what was measured is kept."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def absolute_name(path: str) -> str:
    """Return a file's path as it is from the root of the disk; no name stays no name."""
    return path if not path or os.path.isabs(path) else Path(path).absolute().as_posix()


def name_below(path: str, root: Path) -> str:
    """Return a picture's path as the table has it: below ``root`` where it lies there, else in full."""
    whole = PurePosixPath(Path(path).as_posix())
    base = PurePosixPath((root.absolute() if whole.is_absolute() else root).as_posix())
    if whole.is_relative_to(base):
        return str(whole.relative_to(base))
    real, top = Path(path).parent.resolve() / whole.name, root.resolve()
    if whole.is_absolute() and real.is_relative_to(top):  # the root is named from the working directory, or by a link
        return real.relative_to(top).as_posix()
    return str(whole)


def text_name(path: str, root: Path | None = None) -> str:
    """Return a name, ``name_below`` a root, as text that any file can hold: bytes that are no UTF-8 as ``\\udc80``."""
    name = path if root is None else name_below(path, root)
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
