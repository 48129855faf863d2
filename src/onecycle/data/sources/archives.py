"""Unpacking tar and zip archives that nobody vouches for: inside one folder, within limits, whole or not at all."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import sys
import unicodedata
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from onecycle.errors import ArchiveError, ArgumentError, DataError
from onecycle.files import sync_folder, sync_parts, unfinished, write_chunks, writing
from onecycle.text import safe_text

_MIB = 2**20
_CHUNK = 2**17
_RATIO_FROM_BYTES = 16 * _MIB  # what is smaller does no harm, however well it was compressed


class _BadArchive(Exception):
    """Why an archive is refused, in a few words; `unpack` adds which archive and what to do."""


class _Entry(NamedTuple):
    """A file or folder of an archive; `chunks` must be read to the end before the next entry is asked for."""

    name: str
    is_folder: bool
    chunks: Iterable[bytes]


@dataclass
class Budget:
    """Counts what really comes out of an archive, whatever its headers say, and stops at the limits."""

    max_members: int = 2_000_000
    max_bytes: int = 200 * 2**30
    max_ratio: float = 200.0
    members: int = 0
    bytes: int = 0

    def add_member(self) -> None:
        self.members += 1
        if self.members > self.max_members:
            raise _BadArchive(f"it holds more than {self.max_members:,} members (limit max_members)")

    def add_bytes(self, n: int) -> None:
        self.bytes += n
        if self.bytes > self.max_bytes:
            raise _BadArchive(f"it unpacks to more than {self.max_bytes:,} bytes (limits max_bytes, max_ratio)")


def unpack(
    archive: str | Path,
    folder: str | Path,
    *,
    max_members: int = Budget.max_members,
    max_bytes: int = Budget.max_bytes,
    max_ratio: float = Budget.max_ratio,
    replace: bool = False,
) -> Path:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip archive into a folder, whole or not at all.

    Only regular files and folders inside the archive's root come out, without owners and permissions.
    Anything else refuses the whole archive: links, devices, sparse files, absolute or Windows paths, "..",
    encrypted members, a file given twice, names that differ only in case. If all lies in one top folder that
    is called like `folder`, that one becomes `folder`; otherwise `folder` holds all.

    Args:
        archive: the file; its kind is read from its content, not from its name.
        folder: the result. It must be missing or empty, unless `replace`.
        max_members: most files and folders.
        max_bytes: most bytes that are written in all.
        max_ratio: most bytes written for a byte of archive; not applied to the first 16 MiB.
        replace: put the new folder in the place of the old one, once it is whole.

    Returns:
        `folder` as an absolute path.

    Raises:
        ArgumentError: `folder` has content and `replace` is False.
        ArchiveError: the archive is refused, damaged or cut off; nothing of it is left.
        DiskFullError: there is no room for it; nothing of it is left.
    """
    archive, folder = Path(archive), Path(folder)
    if is_there(folder) and not replace:
        raise ArgumentError(f"{folder} is not empty; unpack into a new folder or pass replace=True")
    return unpack_into(archive, folder, Budget(max_members, max_bytes, max_ratio), replace=replace)


def unpack_into(archive: Path, folder: Path, budget: Budget, *, replace: bool) -> Path:
    from_ratio = max(budget.max_ratio * archive.stat().st_size, _RATIO_FROM_BYTES)
    budget.max_bytes = int(min(budget.max_bytes, from_ratio))
    folder = Path(os.path.abspath(folder))
    try:
        with unfinished(folder.parent, folder.name, 0o755, final=folder) as beside, archive.open("rb") as file:
            _write_entries(_entries(file, budget), beside, budget)
            sync_parts()
            _publish(_inner_folder(beside, folder.name), folder, replace=replace)
    except _BadArchive as err:
        raise ArchiveError(
            f"{archive} was not unpacked: {err}. Nothing of it is left in {folder.parent}. Get the archive "
            "anew (untar_data: force_download=True); if it stays like this, do not use it. Limits are "
            "arguments of onecycle.data.sources.archives.unpack",
            str(err),
        ) from err.__cause__
    return folder


def _write_entries(entries: Iterable[_Entry], root: Path, budget: Budget) -> None:
    seen: dict[str, tuple[str, bool]] = {}
    for entry in entries:
        parts = [part for part in entry.name.split("/") if part not in ("", ".")]
        if flaw := name_flaw(parts) or ("it is absolute" if entry.name.startswith("/") else None):
            raise _BadArchive(f"the name {entry.name[:200]!r} cannot be used: {flaw}")
        _claim(seen, parts, entry.is_folder)
        target = root.joinpath(*parts)
        with writing(target):
            (target if entry.is_folder else target.parent).mkdir(mode=0o755, parents=True, exist_ok=True)
        if not entry.is_folder:
            _write_file(target, entry.chunks, budget)


def _write_file(target: Path, chunks: Iterable[bytes], budget: Budget) -> None:
    with write_chunks(target, mode=0o644) as write:
        for chunk in chunks:
            budget.add_bytes(len(chunk))
            write(chunk)


_NOT_ON_WINDOWS = re.compile(
    r"""[<>:"|?*\x01-\x1f] | [.\ ]$ | ^(con|prn|aux|nul|com\d|lpt\d)\ *(\..*)?$""", re.IGNORECASE | re.VERBOSE
)


def name_flaw(parts: Sequence[str], *, windows: bool = sys.platform == "win32") -> str | None:
    """Why a name must not be used as a path; None if it may."""
    name = "/".join(parts)
    if len(parts) > 64 or len(name) > 1024 or any(len(part.encode(errors="replace")) > 255 for part in parts):
        return "it is too long"
    if "\0" in name or "\\" in name:
        return "it contains a NUL or a backslash"
    if any(part == ".." for part in parts):
        return "it leaves the folder"
    if any(re.match("[A-Za-z]:", part) for part in parts):
        return "it starts with a drive"
    if windows and any(_NOT_ON_WINDOWS.search(part) for part in parts):
        return "Windows cannot store it"
    return None


def _claim(seen: dict[str, tuple[str, bool]], parts: Sequence[str], is_folder: bool) -> None:
    """Note a name and its parents; a second claim is refused, except for a folder in the same spelling.

    Names that are equal without regard to case or Unicode form count as the same one, for on macOS and
    Windows the second would overwrite the first.
    """
    if not parts and not is_folder:
        raise _BadArchive("it holds a file without a name")
    for depth in range(1, len(parts) + 1):
        claim = ("/".join(parts[:depth]), is_folder or depth < len(parts))
        first = seen.setdefault(unicodedata.normalize("NFC", claim[0]).casefold(), claim)
        if first is not claim and (first != claim or not claim[1]):
            raise _BadArchive(f"it holds the name {claim[0]!r} twice (before as {first[0]!r})")


def _inner_folder(beside: Path, name: str) -> Path:
    """The one top folder, if it has the expected name; files that macOS adds beside it do not count."""
    tops = [top.name for top in beside.iterdir() if top.name != "__MACOSX" and not top.name.startswith("._")]
    return beside / name if tops == [name] and (beside / name).is_dir() else beside


def _publish(new: Path, folder: Path, *, replace: bool) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()  # makes room only if it is empty
    if replace and folder.exists():
        _swap(new, folder)
        return
    try:
        new.rename(folder)
    except OSError:
        if not is_there(folder):
            raise
        # Another process was first; what it put there is whole.
    sync_folder(folder.parent)


def _swap(new: Path, folder: Path) -> None:
    old = folder.with_name(f"{folder.name}.old-{uuid.uuid4().hex[:8]}")
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    if old.is_symlink():
        old.unlink()  # what it points to stays
    elif any(not (folder / path.relative_to(old)).exists() for path in old.rglob("*")):
        print(safe_text(f"The folder that was at {folder} holds files that the new one lacks; it is kept as {old}"))
    else:
        shutil.rmtree(old, ignore_errors=True)


def is_there(folder: Path) -> bool:
    """Whether `folder` has content; an empty one counts as missing, for nothing can be read from it."""
    if folder.is_dir():
        return any(folder.iterdir())
    if folder.exists():
        raise DataError(f"{folder} should be the folder of a data set, but it is a file; move it away")
    return False


# ---------------------------------------------------------------- reading archives

_DAMAGE = (EOFError, OSError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_TAR_BLOCK = 512
_PAX_RECORD = re.compile(rb"([0-9]{1,7}) ([^=]+)=")
_TAR_TYPES = {
    **{b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"},
    b"S": "a sparse file",
}


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Report what the decompressors raise on bad input as one kind of error."""
    try:
        yield
    except _DAMAGE as err:
        raise _BadArchive(f"it is damaged or cut off ({type(err).__name__}: {err})") from err


def _entries(file: io.BufferedReader, budget: Budget) -> Iterator[_Entry]:
    start = file.read(6)
    file.seek(0)
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_entries(file, budget)
    if start[:2] == b"\x1f\x8b":
        return _tar_entries(gzip.GzipFile(fileobj=file), budget)
    if start[:3] == b"BZh":
        return _tar_entries(bz2.BZ2File(file), budget)
    return _tar_entries(lzma.LZMAFile(file) if start == b"\xfd7zXZ\0" else file, budget)


def _zip_entries(file: io.BufferedReader, budget: Budget) -> Iterator[_Entry]:
    with _reading():
        zipped = zipfile.ZipFile(file)
    for info in zipped.infolist():
        budget.add_member()
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _BadArchive(f"{info.orig_filename[:200]!r} is a link or a device")
        # orig_filename: zipfile cuts `filename` at a NUL, which would hide the trick.
        is_folder = info.orig_filename.endswith("/") or kind == stat.S_IFDIR
        if is_folder and info.file_size:
            raise _BadArchive(f"the folder {info.orig_filename[:200]!r} has content")
        yield _Entry(info.orig_filename, is_folder, () if is_folder else _zip_chunks(zipped, info))


def _zip_chunks(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    if info.flag_bits & 1:
        raise _BadArchive(f"{info.orig_filename[:200]!r} is encrypted")
    with _reading():
        member = zipped.open(info)
    with member:
        while chunk := _read(member, _CHUNK):
            yield chunk


def _read(stream: io.BufferedIOBase | IO[bytes], n: int) -> bytes:
    with _reading():
        return stream.read(n)


def _tar_entries(stream: io.BufferedIOBase, budget: Budget) -> Iterator[_Entry]:
    """The members of a tar stream, in ustar, GNU or pax form; everything that is not plain is refused.

    Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format".
    """
    extra: dict[str, str] = {}
    while any(header := b"".join(_tar_data(stream, _TAR_BLOCK))):
        budget.add_member()
        kind, name, size = _tar_header(header)
        if kind in b"xgL":
            if size > _MIB:
                raise _BadArchive(f"a header of {size:,} bytes")
            budget.add_bytes(size)
            _tar_extra(kind, b"".join(_tar_data(stream, size)), extra)
            continue
        name = extra.pop("path", name)
        if "size" in extra:
            digits = extra.pop("size")
            if not re.fullmatch("[0-9]{1,18}", digits):
                raise _BadArchive("a size in a pax header that is no number")
            size = int(digits)
        if kind not in (b"\0", b"0", b"5", b"7"):
            raise _BadArchive(f"{name[:200]!r} is {_TAR_TYPES.get(kind, 'of a kind that is not unpacked')}")
        is_folder = kind == b"5" or name.endswith("/")
        if is_folder and size:
            raise _BadArchive(f"the folder {name[:200]!r} has content")
        yield _Entry(name, is_folder, _tar_data(stream, size))
    while padding := _read(stream, _CHUNK):  # to the end, where gzip and xz keep their checksum
        budget.add_bytes(len(padding))


def _tar_data(stream: io.BufferedIOBase, size: int) -> Iterator[bytes]:
    """`size` bytes, then the rest of the last block, which is not given."""
    left = size
    while left:
        chunk = _read(stream, min(left, _CHUNK))
        if not chunk:
            raise _BadArchive("it is cut off")
        left -= len(chunk)
        yield chunk
    padding = -size % _TAR_BLOCK
    if padding and len(_read(stream, padding)) < padding:
        raise _BadArchive("it is cut off")


def _tar_header(header: bytes) -> tuple[bytes, str, int]:
    """(type, name, size in bytes) of a header block."""
    if _octal(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise _BadArchive("no tar or zip header where one should be")
    name = _text(header[:100].split(b"\0")[0])
    prefix = _text(header[345:500].split(b"\0")[0]) if header[257:263] == b"ustar\0" else ""
    return header[156:157], f"{prefix}/{name}" if prefix else name, _octal(header[124:136])


def _octal(field: bytes) -> int:
    if field[0] == 0x80:  # GNU: sizes from 8 GiB on, in base 256
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not re.fullmatch(b"[0-7]*", digits):
        raise _BadArchive("no tar or zip header where one should be")
    return int(digits or b"0", 8)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as err:
        raise _BadArchive(f"the name {raw[:200]!r} is not UTF-8") from err


def _tar_extra(kind: bytes, data: bytes, extra: dict[str, str]) -> None:
    """Add to `extra` what a long-name ("L") or pax ("x"; for all members "g") header says of the next."""
    said = {"path": _text(data.rstrip(b"\0"))} if kind == b"L" else _pax_records(data)
    if (kind == b"g" and said) or said.keys() & extra.keys():
        raise _BadArchive("headers that rename members in a way that is not unpacked")
    extra.update(said)


def _pax_records(data: bytes) -> dict[str, str]:
    """The records `path` and `size`; times, owners, attributes and comments are of no use here."""
    records: dict[str, str] = {}
    at = 0
    while at < len(data):
        record = _PAX_RECORD.match(data, at)
        end = at + int(record[1]) if record else 0
        if record is None or not record.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise _BadArchive("a pax header that cannot be read")
        key = _text(record[2])
        if key.startswith("GNU.sparse") or key in records:
            raise _BadArchive("a sparse file or a name given twice in a pax header")
        if key in ("path", "size"):
            records[key] = _text(data[record.end() : end - 1])
        at = end
    return records
