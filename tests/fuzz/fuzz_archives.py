"""Archives of strangers: tar in its forms and compressions, zip; changed byte by byte and header by header."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import warnings
import zipfile
from functools import cache
from random import Random
from unittest import mock

from attack import Target
from mutate import TEXTS, changed_bytes
from scratch import file_of, fresh

from onecycle.data.sources.archives import unpack

NAMES = (
    *(
        "a",
        "sub/b.jpg",
        "sub/deep/c",
        "../x",
        "/x",
        "sub/../../x",
        "./y",
        "",
        ".",
        "..",
        "A",
        "a/",
        "C:x",
        "a\\..\\b",
        "con",
    ),
    *("x" * 300, "/".join(["d"] * 70), "\u202e", "a\0b", "e\u0301", "é", "sub", "sub/b.jpg/d"),
)
KINDS = (
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.GNUTYPE_SPARSE,
    b"7",
    b"Z",
)
MOST_BYTES = 40 * 2**20
"""That may come out of one archive."""


@cache
def bomb() -> bytes:
    """Return a gzipped tar of one file of 64 MB of zeros."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("zeros")
        info.size = 64 * 2**20
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    return buffer.getvalue()


def drawn(random: Random) -> bytes:
    """Return an archive of a few members, some of a kind or a name that is refused, at times damaged."""
    if random.random() < 0.01:
        return bomb()
    buffer = io.BytesIO()
    members = [
        (random.choice((*NAMES, *TEXTS)), random.choice((0, 0, 0, 0, *range(len(KINDS)))))
        for _ in range(random.randint(0, 4))
    ]
    if random.random() < 0.4:
        with (
            warnings.catch_warnings(action="ignore"),
            zipfile.ZipFile(buffer, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive,
        ):
            for name, kind in members:
                info = zipfile.ZipInfo("x", (2024, 1, 1, 0, 0, 0))
                info.filename = info.orig_filename = name.encode("utf-8", "replace").decode()
                info.external_attr = (0o120777 if kind == 2 else 0o040755 if kind == 1 else 0o100644) << 16
                if info.filename not in archive.NameToInfo or random.random() < 0.1:
                    archive.writestr(info, bytes(random.choice((0, 5, 600))))
        data = buffer.getvalue()
    else:
        form = random.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
        with tarfile.open(fileobj=buffer, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as archive:
            for name, kind in members:
                info = tarfile.TarInfo(name.encode("utf-8", "replace").decode())
                info.type, info.linkname = KINDS[kind], random.choice(NAMES).replace("\0", "")
                info.size = random.choice((0, 5, 600)) if kind == 0 else 0
                with _silent():
                    archive.addfile(info, io.BytesIO(bytes(info.size)))
        data = _rechecked(random, buffer.getvalue())
        data = gzip.compress(data, 1, mtime=0) if random.random() < 0.3 else data
    return changed_bytes(random, data) if random.random() < 0.5 else data


class _silent:
    """Leave out a member that its form cannot hold."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, (ValueError, UnicodeError, OSError))


def _rechecked(random: Random, data: bytes) -> bytes:
    """Change a field of a tar's first header and write the check sum that fits."""
    if random.random() < 0.5 or len(data) < 512:
        return data
    header = bytearray(data[:512])
    at, n = random.choice(((0, 100), (124, 12), (156, 1), (157, 100), (257, 8), (345, 155)))
    header[at : at + n] = (
        random.getrandbits(8 * n).to_bytes(n, "big")
        if random.random() < 0.5
        else changed_bytes(random, bytes(header[at : at + n])).ljust(n, b"\0")[:n]
    )
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


def take_out(data: bytes) -> None:
    """Unpack an archive: inside its folder, whole, or not at all."""
    archive, above = file_of("archive", data), fresh("above")
    try:
        with mock.patch.object(os, "sync"):  # of the disk; it takes longer than all else
            unpack(archive, above / "in" / "out", max_members=1000, max_bytes=MOST_BYTES)
    except Exception:
        assert [str(p) for p in above.rglob("*")] in ([], [str(above / "in")])
        raise
    assert [p.name for p in above.iterdir()] == ["in"]
    assert [p.name for p in (above / "in").iterdir()] == ["out"]
    assert not any(p.is_symlink() for p in above.rglob("*"))


TARGETS = (Target("archives", drawn, take_out),)
