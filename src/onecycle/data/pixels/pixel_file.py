"""A set of decoded pictures as a file: its key, what it was made from, reading and writing.

    <key>.bin     pixels, picture after picture, uint8 (h, w, 3) each; a table where their shapes differ; a checksum of
                  each picture; the key
    <key>.json    what it was made from, with checksums of the table and of itself; its modification time says when it
                  was last used
    <key>.<process>-<random>.part    being written

A set is there when its .json is: both files get their names when they are whole, the .json last. What is damaged later
is seen: the .json and the table when the set is opened, a picture when a process first reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
import threading
import zlib
from array import array
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from onecycle.files import remove, reserve, short_digest, sync_folder
from onecycle.settings import pixel_folder
from onecycle.text import shown_path

Say = Callable[[str], object]
"""Takes one line for the user; ``print``, say."""

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

KEY_BYTES = 32
_FORMAT = 3  # of both files; another number makes other keys, as it must when the same decoders give other pixels
_TABLE_ROW_BYTES = 24  # first byte, height, width: int64 each
_SUM_BYTES = 4  # CRC-32. Measured: 3.3 GB/s, so that a picture of 128 px takes 15 µs, once a process
_STAMPS = 3
_GONE = -1
_INT64 = 2**63 - 1


class CacheUnusable(Exception):
    """The cache cannot take these pictures; the text says why, as the start of a sentence."""


def file_path(key: str, suffix: str) -> Path:
    """Return where a set's file lies."""
    return pixel_folder() / f"{key}{suffix}"


def why(error: BaseException) -> str:
    """Say what an error means for the cache, as the start of a sentence."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"The pixel cache {shown_path(pixel_folder())} cannot be used ({reason})"


# ---------------------------------------------------------------- keys


def stamps_of(paths: Sequence[str]) -> array[int]:
    """Return size, and times of modification and of change in ns, of every file; −1 three times where there is none.

    A picture that is replaced by one of the same size and modification time (``cp -p``, ``rsync -t``, ``touch -r``)
    has another time of change, which no program can set. Windows has none: there the file's number says the most.

    Returns:
        int64, 3 a path: 24 bytes of memory. Measured: 600,000 files in 2.4 s, their key in 0.4 s more.
    """
    stamps = array("q")
    for path in paths:
        try:
            status = os.stat(path)
            change = status.st_ino if sys.platform == "win32" else status.st_ctime_ns
            stamps.extend((status.st_size, status.st_mtime_ns, change & _INT64))
        except (OSError, ValueError):  # a name with a NUL character is a ValueError
            stamps.extend((_GONE,) * _STAMPS)
    return stamps


def first_change(before: array[int], after: array[int]) -> int | None:
    """Return the position of the first file whose stamps differ, None where none do."""
    pairs = enumerate(zip(before, after, strict=True))
    return None if before == after else next(i // _STAMPS for i, (old, new) in pairs if old != new)


def key_of(paths: Sequence[str], stamps: array[int], recipe: str) -> str:
    """Name a set of decoded pictures after all that decides about its bytes.

    Args:
        paths: the pictures, in order; relative ones start at the working directory.
        stamps: from ``stamps_of``.
        recipe: what was done to them: decoders with versions, size, method.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(f"{_FORMAT}\n{sys.byteorder}\n{recipe}\n{len(paths)}\n".encode())
    here = os.getcwd()
    for start in range(0, len(paths), 4096):  # in pieces: no second copy of all the paths
        names = (p if os.path.isabs(p) else os.path.join(here, p) for p in paths[start : start + 4096])
        digest.update(os.fsencode("\0".join(names) + "\0"))
    digest.update(stamps.tobytes())
    return digest.hexdigest()


# ---------------------------------------------------------------- what a set was made from


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the .json says about its .bin."""

    n: int  # pictures
    n_bytes: int  # of the whole .bin
    pixel_bytes: int  # of the pixels at its start
    shape: tuple[int, int] | None  # (height, width) of every picture; None: they differ, a table follows the pixels
    folder: str  # of the first picture
    recipe: str  # decoders with versions, size, method
    made: str  # date and time (UTC)
    unreadable: list[tuple[int, str]]  # (position, reason) of each picture that cannot be decoded
    table_sum: int  # CRC-32 of what follows the pixels: the table and the pictures' checksums

    def to_json(self) -> str:
        """Return the text of the .json."""
        content = {"format": _FORMAT, **asdict(self)}
        return json.dumps({**content, "digest": short_digest(content)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError, KeyError, TypeError: it did not write this.
        """
        read = json.loads(text)
        if read.pop("digest") != short_digest(read):
            raise ValueError("it is damaged")
        shape = None if read["shape"] is None else (int(read["shape"][0]), int(read["shape"][1]))
        bad = [(int(i), str(reason)) for i, reason in read["unreadable"]]
        sizes = {name: int(read[name]) for name in ("n", "n_bytes", "pixel_bytes", "table_sum")}
        texts = {name: str(read[name]) for name in ("folder", "recipe", "made")}
        manifest = cls(**sizes, **texts, shape=shape, unreadable=bad)  # type: ignore[arg-type]
        whole = Span.of(manifest.n, manifest.pixel_bytes, shape).end + KEY_BYTES
        right = manifest.pixel_bytes == manifest.n * shape[0] * shape[1] * 3 if shape else manifest.pixel_bytes > 0
        if read["format"] != _FORMAT or manifest.n_bytes != whole or not right:
            raise ValueError("its note's numbers do not belong together")
        return manifest


class Span(NamedTuple):
    """Where in a .bin what follows the pixels lies: first bytes, and the byte behind it."""

    table: int  # int64 (n, 3), as ``PixelLayout.table``; empty where one shape says it
    sums: int  # uint32 (n,), CRC-32 of each picture
    end: int  # where the key begins

    @classmethod
    def of(cls, n: int, pixel_bytes: int, shape: tuple[int, int] | None) -> Self:
        """Return it for n pictures of so many bytes together, of one shape, or of several (None)."""
        table = -(-pixel_bytes // 8) * 8  # aligned, so that it can be used where it lies
        sums = table + (n * _TABLE_ROW_BYTES if shape is None else 0)
        return cls(table, sums, sums + n * _SUM_BYTES)


# ---------------------------------------------------------------- reading


def open_store(key: str, say: Say) -> tuple[BinaryIO, Manifest] | None:
    """Open a finished set, and mark it as in use for as long as the file, or a memory map of it, is open.

    Args:
        key: from ``key_of``.
        say: told where there is one that is damaged.

    Returns:
        The .bin, to be closed by the caller, and its manifest; None where there is none that can be used.
    """
    try:
        manifest = Manifest.from_json(file_path(key, ".json").read_text(encoding="utf-8"))
        with ExitStack() as opened:
            file = opened.enter_context(file_path(key, ".bin").open("rb"))
            if not lock_file(file, alone=False):
                return None  # it is being removed right now
            problem = _problem(file, key, manifest)
            if problem is None:
                opened.pop_all()
                with suppress(OSError):  # a folder that may only be read serves as well
                    os.utime(file_path(key, ".json"))
                return file, manifest
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        problem = f"{type(error).__name__}: {error}"
    say(f"The decoded pictures in {shown_path(file_path(key, '.bin'))} cannot be used ({problem}): decoding again")
    return None


def _problem(file: BinaryIO, key: str, manifest: Manifest) -> str | None:
    size = os.fstat(file.fileno()).st_size
    if size != manifest.n_bytes:
        return f"expected {manifest.n_bytes:,} bytes, found {size:,}"
    span = Span.of(manifest.n, manifest.pixel_bytes, manifest.shape)
    file.seek(span.table)
    if zlib.crc32(file.read(span.end - span.table)) != manifest.table_sum:
        return "its table is damaged"
    return None if file.read() == bytes.fromhex(key) else "it is another set's"


def lock_file(file: BinaryIO, *, alone: bool) -> bool:
    """Mark a file as in use until its last duplicate is closed, a memory map's among them; False if it is going.

    Args:
        file: open for reading.
        alone: lock it for its removal instead; False then says that a process has it in use.
    """
    if fcntl is not None:  # Windows needs no lock: it refuses to remove a file that is open or mapped
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass  # a file system without locks; removing a mapped file is harmless to whoever maps it
    return fcntl is None or os.fstat(file.fileno()).st_nlink > 0


# ---------------------------------------------------------------- writing


class UnfinishedFile:
    """A file of known size that several threads fill, under a name that nobody takes for a finished set."""

    def __init__(self, key: str, n_bytes: int) -> None:
        self.key, self.n_bytes = key, n_bytes + KEY_BYTES
        self.path = file_path(key, f".{os.getpid()}-{secrets.token_hex(4)}.part")
        self._lock = threading.Lock()
        self._file = self.path.open("xb", buffering=0)
        try:
            reserve(self._file.fileno(), self.n_bytes)
            self.write(n_bytes, bytes.fromhex(key))
        except BaseException:
            self.close()
            raise

    def write(self, offset: int, data: memoryview | bytes) -> None:
        """Write bytes at a position; safe in several threads.

        Raises:
            CacheUnusable: the disk is full, or does not work.
        """
        # Not through a memory map: on a full disk that kills the process (SIGBUS) instead of raising an error.
        view = memoryview(data).cast("B")
        try:
            while view:
                written = self._write_some(view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise CacheUnusable(why(error)) from error

    def _write_some(self, view: memoryview, offset: int) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._file.fileno(), view, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.write(view)

    def finish(self, manifest: Manifest) -> None:
        """Give the file its name; ``manifest.n_bytes`` must be this file's.

        Raises:
            CacheUnusable: the disk is full, or does not work.
        """
        beside = self.path.with_name(f"{self.path.name}.json.part")
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            with beside.open("x", encoding="utf-8") as file:
                file.write(manifest.to_json())
                file.flush()
                os.fsync(file.fileno())
            self.path.replace(file_path(self.key, ".bin"))
            beside.replace(file_path(self.key, ".json"))
            sync_folder(self.path.parent)
        except OSError as error:
            remove(beside)
            raise CacheUnusable(why(error)) from error

    def close(self) -> None:
        """Remove what was not finished. Where another program has it open, the next sweep does."""
        self._file.close()
        remove(self.path)
