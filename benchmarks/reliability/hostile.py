"""What a stranger may send: archives, pictures, tables, answers of a server, each by a name that says what is odd."""

from __future__ import annotations

import io
import socketserver
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

BOMB = 2**28
"""Zeros that an archive unfolds to."""

# --- archives --------------------------------------------------------------------------------------------------------


def tars(outside: Path) -> dict[str, bytes]:
    """Return tars that lead to a folder elsewhere, hold what is no file, repeat names, or unfold."""
    kinds = {
        "symbolic link": tarfile.SYMTYPE,
        "hard link": tarfile.LNKTYPE,
        "character device": tarfile.CHRTYPE,
        "block device": tarfile.BLKTYPE,
        "pipe": tarfile.FIFOTYPE,
        "sparse file": tarfile.GNUTYPE_SPARSE,
    }
    names = (
        "../up",
        f"{outside}/new",
        "a/../../up",
        "a\\..\\..\\up",
        "C:x",
        "//x/y",
        "x" * 300,
        "/".join("a" * 999),
        ".",
    )
    made = {f"tar, {name[:20]!r}": tar([(name, b"x", None)]) for name in names}
    for kind, code in kinds.items():
        for to in (str(outside), "../../out", "/etc/passwd"):
            made[f"tar, {kind} to {to[-12:]}"] = tar([("a", b"", code), ("a/new", b"x", None)], link=to)
    made["tar, names that differ in case"] = tar([("a", b"1", None), ("A", b"2", None)])
    made["tar, one name twice"] = tar([("a", b"1", None), ("a", b"2", None)])
    made["tar, a file that is a folder, too"] = tar([("a", b"1", None), ("a/b", b"2", None)])
    made["tar, many members"] = tar([(f"{i}", b"", None) for i in range(3_000)])
    for how in ("gz", "bz2", "xz"):
        made[f"tar.{how}, zeros"] = tar([("a", bytes(BOMB), None)], mode=f"w:{how}")
    made["tar, a size of 2^63"] = _with_size(tar([("a", b"x", None)]), b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7)
    made["tar, a size below 0"] = _with_size(tar([("a", b"x", None)]), b"\xff" * 12)
    return made


def tar(members: list[tuple[str, bytes, bytes | None]], *, link: str = "", mode: str = "w") -> bytes:
    """Return a tar of (name, content, kind of member or None)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as out:  # type: ignore[call-overload]
        for name, data, kind in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if kind is not None:
                info.type, info.linkname = kind, link
            out.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _with_size(data: bytes, size: bytes) -> bytes:
    """Return a tar whose first member says another size, with the checksum that fits."""
    head = bytearray(data[:512])
    head[124:136], head[148:156] = size, b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + data[512:]


def zips() -> dict[str, bytes]:
    """Return zips of the same kinds."""
    odd = [("../up", 0), ("/abs", 0), ("C:\\x", 0), ("a/../../up", 0), ("..\\up", 0), ("a" * 300, 0)]
    odd += [("a", stat.S_IFLNK | 0o777), ("a", stat.S_IFIFO), ("a", stat.S_IFCHR | 0o666)]
    made = {f"zip, {name[:20]} {mode:o}": zipped([(name, b"../../out", mode)]) for name, mode in odd}
    made["zip, one name twice"] = zipped([("a", b"1", 0), ("a", b"2", 0)])
    made["zip, names that differ in case"] = zipped([("a/x", b"1", 0), ("A/x", b"2", 0)])
    made["zip, zeros"] = zipped([("zeros", bytes(BOMB), 0)])
    made["zip, zips in it"] = zipped([("in.zip", made["zip, zeros"], 0)])
    made["zip, many members"] = zipped([(f"{i}", b"", 0) for i in range(3_000)])
    made["zip, no directory"] = made["zip, one name twice"][:-30] + bytes(30)
    return made


def zipped(members: list[tuple[str, bytes, int]]) -> bytes:
    """Return a zip of (name, content, mode of the file)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for name, data, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            out.writestr(info, data)
    return buffer.getvalue()


# --- pictures --------------------------------------------------------------------------------------------------------


def pictures(good: bytes, *, cuts: int) -> dict[str, bytes]:
    """Return thin pictures, bombs, other kinds under a picture's name, and a picture that is cut.

    Args:
        good: a picture.
        cuts: how often it is cut, at even distances.
    """
    return {**thin_and_large(), **disguised(good), **laden(), **{f"cut at {n}": good[:n] for n in _places(good, cuts)}}


def _places(data: bytes, n: int) -> range:
    return range(0, len(data), max(1, len(data) // n))


def thin_and_large() -> dict[str, bytes]:
    """Return pictures that unfold to far more than they are, or say that they do."""
    sizes = ((1, 10**7), (10**7, 1), (12_000, 12_000), (30_000, 30_000), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1), (0, 0))
    jpeg = bytearray(encoded("JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = b"\xff\xff\xff\xff"
    return {f"png of {w} × {h}": png(w, h) for w, h in sizes} | {
        "jpeg that says 65,535 × 65,535": bytes(jpeg),
        "gif that says 65,535 × 65,535": encoded("GIF").replace(struct.pack("<HH", 32, 24), b"\xff" * 4),
        "ppm of 10^10 pixels": b"P6 100000 100000 255\n" + bytes(100),
        "ppm of 10^30 pixels": b"P6 " + b"9" * 15 + b" " + b"9" * 15 + b" 255\n" + bytes(100),
        "bmp of 2^31 rows": _bmp(2, -(2**31)),
        "bmp of 65,000 × 65,000": _bmp(65_000, 65_000),
        "tiff of 100,000 × 100,000": _tiff(100_000, 100_000),
        "tiff whose directory is its own next": _tiff(8, 8, again=True),
    }


def disguised(good: bytes) -> dict[str, bytes]:
    """Return other files under a picture's name, and pictures that are something else as well."""
    frames = [PIL.Image.new("RGB", (32, 24), (i % 256, 0, 0)) for i in range(300)]
    page = b"<html><script>alert(1)</script></html>"
    return {
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\n",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "HTML": page,
        "PDF": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
        "a zip": zipped([("a", b"x", 0)]),
        "a zip behind a picture": good + zipped([("zeros", bytes(2**20), 0)]),
        "a page in a picture's comment": encoded("JPEG", comment=page),
        "a picture behind a page": page + good,
        "GIF": encoded("GIF"),
        "300 frames, GIF": encoded("GIF", save_all=True, append_images=frames, duration=1),
        "300 frames, PNG": encoded("PNG", save_all=True, append_images=frames, duration=1),
        "300 frames, WEBP": encoded("WEBP", save_all=True, append_images=frames, duration=1),
        "300 pages, TIFF": encoded("TIFF", save_all=True, append_images=frames),
        "ICO": encoded("ICO"),
        "CMYK": encoded("JPEG", mode="CMYK"),
        "16 bits": encoded("PNG", mode="I;16"),
        "float TIFF": encoded("TIFF", mode="F"),
        "palette": encoded("PNG", mode="P"),
        "1 bit": encoded("PNG", mode="1"),
        "grey with alpha": encoded("PNG", mode="LA"),
        "empty": b"",
        "zeros": bytes(10**6),
        "text": b"\x89PNG\r\n\x1a\n" + b"9" * 5_000,
        "only a JPEG's first bytes": b"\xff\xd8\xff\xe0",
    }


def laden() -> dict[str, bytes]:
    """Return small pictures with much beside their pixels."""
    exif = PIL.Image.Exif()
    exif[0x010E], exif[0x0112] = "x" * 60_000, 99
    endless = b"\xff\xe1" + struct.pack(">H", 65_535) + b"Exif\0\0" + b"\xff" * 65_527
    jpeg = encoded("JPEG")
    return {
        "png of 10^5 text chunks": png(8, 8, [chunk(b"tEXt", b"a\0b")] * 10**5),
        "png, a text that unfolds to 256 MB": png(8, 8, [chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(BOMB), 9))]),
        "png, a profile that unfolds to 256 MB": png(8, 8, [chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(BOMB), 9))]),
        "png, EXIF of 30 MB": png(8, 8, [chunk(b"eXIf", b"MM\0*\0\0\0\x08" + b"\xff" * 30_000_000)]),
        "jpeg, EXIF of 60 kB, orientation 99": encoded("JPEG", exif=exif.tobytes()),
        "jpeg, EXIF of 0xff, 200 times": jpeg[:2] + endless * 200 + jpeg[2:],
        "jpeg, a profile that is none": encoded("JPEG", icc_profile=b"\xff" * 60_000),
        "jpeg, 10^5 empty comments": jpeg[:2] + b"\xff\xfe\0\x02" * 10**5 + jpeg[2:],
        "png, wrong checksums": png(8, 8).replace(b"IDAT", b"IDAT\0", 1),
    }


def encoded(kind: str, *, mode: str = "RGB", **how: Any) -> bytes:
    """Return a picture of 32 × 24 px as a file of a kind that Pillow writes."""
    buffer = io.BytesIO()
    grey = np.arange(32 * 24, dtype=np.uint8).reshape(24, 32)
    picture = PIL.Image.fromarray(grey.astype(np.uint16)) if mode == "I;16" else PIL.Image.fromarray(grey).convert(mode)
    picture.save(buffer, kind, **how)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, more: list[bytes] | None = None) -> bytes:
    """Return a grey PNG that says this size, and whose pixels are as many zeros, up to 10^9, packed."""
    packer, packed, left = zlib.compressobj(9), list[bytes](), min((width + 1) * height, 10**9)
    while left > 0:
        packed.append(packer.compress(bytes(min(left, 2**20))))
        left -= 2**20
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", b"".join([*packed, packer.flush()]))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more or []) + pixels + chunk(b"IEND", b"")


def _bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def _tiff(width: int, height: int, *, again: bool = False) -> bytes:
    tags = ((256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 2**31))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return (
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 8 if again else 0)
    )


# --- tables ----------------------------------------------------------------------------------------------------------


def tables(good: str) -> dict[str, bytes]:
    """Return tables that attack who reads them, or whom they are shown to.

    Args:
        good: a table with columns name and label, and labels red, green and blue.
    """
    first = good.splitlines()[1].partition(",")[0]
    texts = {
        "a quote without end": f'name,label\n{first},"' + "x" * 10**6,
        "a cell of 5 MB": f"name,label\n{first},{'x' * 5 * 10**6}\n",
        "10^5 columns": ",".join(f"c{i}" for i in range(10**5)) + "\n",
        "10^5 classes": "name,label\n" + "".join(f"{first},{i}\n" for i in range(10**5)),
        "paths that lead out": "name,label\n../../../etc/passwd,a\n/etc/passwd,b\n" + good.partition("\n")[2],
        "formulas": good.replace("red", "=cmd|' /C calc'!A0").replace("green", "@SUM(1)"),
        "terminal": good.replace("red", "\x1b]0;x\x07\x1b[31m").replace("green", "\u202e\u2066"),
        "names of devices": "name,label\n/dev/zero,a\n/dev/stdin,b\n" + good.partition("\n")[2],
        "NUL": good.replace("red", "r\0d"),
        "NUL in names": good.replace(first, f"{first}\0"),
        "numbers": good.replace("red", "9" * 5_000).replace("blue", "1e999"),
        "all cells empty": good.replace("red", "").replace("green", "").replace("blue", ""),
        "one row alone": "\n".join(good.splitlines()[:2]),
        "nothing": "",
        "markup": good.replace("red", "<script>alert(1)</script>"),
    }
    return {name: text.encode("utf-8", "surrogatepass") for name, text in texts.items()} | {
        "UTF-16": good.encode("utf-16"),
        "bytes of no encoding": good.replace("red", "X").encode().replace(b"X", b"\xff\xfe\x80"),
        "a picture": encoded("PNG"),
        "a parquet file that is none": b"PAR1" + b"\xff" * 1_000 + b"PAR1",
    }


# --- servers ---------------------------------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS: dict[str, Callable[[Any], object]] = {
    "no end": lambda s: [s.sendall(OK + b"\r\n"), *(s.sendall(bytes(10**6)) for _ in range(500))],
    "chunks without end": lambda s: [
        s.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n"),
        *(s.sendall(b"f4240\r\n" + bytes(10**6) + b"\r\n") for _ in range(500)),
    ],
    "zeros, packed": lambda s: s.sendall(
        OK + b"Content-Encoding: gzip\r\n\r\n" + zlib.compress(bytes(BOMB), 9, wbits=31)
    ),
    "drops": lambda s: [s.sendall(OK + b"Content-Length: 999\r\n\r\n"), *(_drop(s) for _ in range(40))],
    "drops of a header": lambda s: [s.sendall(OK + b"X: "), *(_drop(s) for _ in range(40))],
    "a length of 10^18": lambda s: s.sendall(OK + b"Content-Length: 999999999999999999\r\n\r\nx"),
    "a length of 5,000 digits": lambda s: s.sendall(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nx"),
    "a length below 0": lambda s: s.sendall(OK + b"Content-Length: -1\r\n\r\nx"),
    "two lengths": lambda s: s.sendall(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
    "a header of 1 MB": lambda s: s.sendall(OK + b"X: " + b"x" * 10**6 + b"\r\n\r\n"),
    "10^4 headers": lambda s: s.sendall(OK + b"X: x\r\n" * 10**4 + b"\r\n"),
    "no HTTP": lambda s: s.sendall(b"\x1b[31m\x00" * 100),
    "hung up": lambda s: s.close(),
    "hung up within": lambda s: s.sendall(OK + b"Content-Length: 100\r\n\r\nx"),
    "a piece that nobody asked for": lambda s: s.sendall(b"HTTP/1.1 206 x\r\nContent-Range: bytes 5-9/10\r\n\r\nx"),
    "a range that is none": lambda s: s.sendall(b"HTTP/1.1 206 x\r\nContent-Range: bytes a-b/-1\r\n\r\nx"),
    "to itself without end": lambda s: s.sendall(b"HTTP/1.1 302 x\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n"),
    "to a file": lambda s: s.sendall(
        b"HTTP/1.1 302 x\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"
    ),
    "an error page": lambda s: s.sendall(b"HTTP/1.1 500 x\r\nContent-Length: 4\r\n\r\noops"),
}  # fmt: skip
"""What a server answers to any request."""


def _drop(connection: Any) -> None:
    connection.sendall(b"x")
    threading.Event().wait(0.1)


@contextmanager
def server(answer: Callable[[Any], object]) -> Iterator[str]:
    """Give the address of a server on this machine that answers so."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                self.request.recv(65_536)
                answer(self.request)
            except OSError:
                pass  # who was answered hung up

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = allow_reuse_address = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as there:
        threading.Thread(target=there.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{there.server_address[1]}"
        there.shutdown()
