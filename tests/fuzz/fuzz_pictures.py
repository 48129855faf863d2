"""Pictures of strangers: files of every format that is read, changed byte by byte and along their structure."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from random import Random
from typing import Any

import numpy as np
from attack import Target
from mutate import NUMBERS, changed_bytes
from PIL import Image, features

from onecycle.data.pixels.decode import decode_for, decode_rgb, picture_shape
from onecycle.data.pixels.image import open_image
from onecycle.data.pixels.picture_file import UNREADABLE, reason
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.errors import DataError

SIZE = (24, 20)
PNG = b"\x89PNG\r\n\x1a\n"
SPECS = tuple(
    ResizeSpec.make(size, method) for size, method in ((16, "SQUISH"), (16, "CROP"), ((8, 12), "PAD"), (None, None))
)
THIN = ((1, 1), (1, 16_000), (16_000, 1), (3, 9_999))
"""Sides of pictures that are drawn whole."""


@cache
def pictures() -> tuple[bytes, ...]:
    """Return a picture of each kind that Pillow writes here."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8))
    alpha = Image.fromarray(rng.integers(0, 256, (*SIZE[::-1], 4), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, SIZE[::-1], dtype=np.uint16))
    grey, floating = colour.convert("L"), Image.fromarray(rng.random(SIZE[::-1]).astype(np.float32))
    frames = [colour.rotate(90 * i) for i in range(1, 3)]
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [
        *(_saved(colour, "JPEG", exif=exif), _saved(grey, "JPEG"), _saved(colour.convert("CMYK"), "JPEG")),
        *(
            _saved(colour, "JPEG", progressive=True),
            _saved(colour.resize((200, 160)), "JPEG", subsampling=2, restart_marker_rows=1),
        ),
        *(_saved(colour, "MPO", save_all=True, append_images=frames),),
        *(
            _saved(colour, "PNG", exif=exif),
            _saved(alpha, "PNG"),
            _saved(deep, "PNG"),
            _saved(grey.convert("1"), "PNG"),
        ),
        *(
            _saved(colour.quantize(7), "PNG", bits=4, transparency=2),
            _saved(colour, "PNG", save_all=True, append_images=frames),
        ),
        *(
            _saved(colour, "GIF"),
            _saved(colour, "GIF", save_all=True, append_images=frames),
            _saved(grey, "GIF", transparency=3),
        ),
        *(
            _saved(colour, "BMP"),
            _saved(grey.convert("1"), "BMP"),
            _saved(colour.quantize(9), "BMP"),
            _saved(alpha, "DIB"),
        ),
        *(
            _saved(i, "TIFF", compression=c)
            for i in (colour, grey)
            for c in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")
        ),
        *(_saved(colour, "TIFF", compression="jpeg"), _saved(grey.convert("1"), "TIFF", compression="group4")),
        *(
            _saved(deep, "TIFF"),
            _saved(floating, "TIFF"),
            _saved(colour.convert("LAB"), "TIFF"),
            _saved(alpha, "TIFF", big_tiff=True),
        ),
        *(_saved(colour, "TIFF", save_all=True, append_images=frames), _saved(colour.convert("CMYK"), "TIFF")),
        *(_saved(colour, "PPM"), _saved(grey, "PPM"), _saved(grey.convert("1"), "PPM"), _saved(deep, "PPM")),
        *(
            _saved(colour, "TGA", compression="tga_rle"),
            _saved(colour, "ICO", sizes=[(16, 16)]),
            _saved(colour, "PCX"),
            _saved(colour, "SGI"),
        ),
        *(_saved(colour, "JPEG2000"), _saved(colour, "ICNS")),
        *((_saved(colour, "WEBP"), _saved(alpha, "WEBP", lossless=True, exif=exif)) if features.check("webp") else ()),
        *((_saved(colour, "WEBP", save_all=True, append_images=frames),) if features.check("webp") else ()),
        *(
            (_saved(colour, "AVIF"), _saved(colour, "AVIF", save_all=True, append_images=frames), _saved(alpha, "AVIF"))
            if features.check("avif")
            else ()
        ),
    ]
    return tuple(kind for kind in kinds if kind)


def _saved(picture: Image.Image, kind: str, **how: Any) -> bytes:
    """Return a picture as a file; none where this Pillow does not write that kind."""
    buffer = io.BytesIO()
    more = {"append_images": [frame.copy() for frame in how.pop("append_images", ())]}
    try:
        picture.copy().save(buffer, kind, **more, **how)  # a copy: saving notes how it was done on the picture
    except (OSError, KeyError):
        return b""
    return buffer.getvalue()


# -- along the structure ------------------------------------------------------------------------------------------


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the (name, content) of the chunks of a PNG."""
    chunks, at = [], len(PNG)
    while at + 8 <= len(data):
        n = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + n]))
        at += 12 + n
    return chunks


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return the PNG of some chunks, each with the right check sum."""
    return PNG + b"".join(
        len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")
        for name, content in chunks
    )


def _changed_png(random: Random, data: bytes) -> bytes:
    chunks = png_chunks(data)
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(len(chunks))
        name, content = chunks[at]
        match random.randrange(7):
            case 0:
                chunks[0] = (b"IHDR", _header(random, chunks[0][1]))
            case 1:
                del chunks[at]
                chunks = chunks or [(b"IEND", b"")]
            case 2:
                chunks.insert(random.randint(0, len(chunks)), chunks[at])
            case 3:
                chunks[at] = (
                    random.choice((b"IDAT", b"tRNS", b"PLTE", b"eXIf", b"iCCP", b"zTXt", b"acTL", b"abcd")),
                    content,
                )
            case 4:
                chunks.insert(1, (random.choice((b"zTXt", b"iTXt", b"iCCP")), b"a\0\0" + random.choice(bombs())))
            case 5:
                chunks = [(n, random.choice(bombs()) if n == b"IDAT" else c) for n, c in chunks]
                chunks[0] = (b"IHDR", _header(random, chunks[0][1]))
            case _:
                chunks[at] = (name, changed_bytes(random, content))
    return png_of(chunks)


def _header(random: Random, content: bytes) -> bytes:
    """Change the sides, the depth, the kind of colour or the interlacing of a PNG's first chunk."""
    if len(content) != 13:
        return content
    sides = struct.unpack(">II", content[:8])
    sides = tuple(random.choice((s, s, random.choice(NUMBERS), random.randrange(1, 20_000))) for s in sides)
    rest = [random.choice((b, b, random.choice((0, 1, 2, 3, 4, 6, 8, 16)))) for b in content[8:]]
    return struct.pack(">II", *sides) + bytes(rest)


@cache
def bombs() -> tuple[bytes, ...]:
    """Return a little that unfolds to much: zlib streams of up to 64 MB."""
    return tuple(zlib.compress(bytes(n), 9) for n in (10**3, 10**6, 64 * 10**6))


def _changed_jpeg(random: Random, data: bytes) -> bytes:
    pieces, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        n = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        pieces.append(data[at : at + n])
        at += n
    pieces.append(data[at:])
    i = random.randrange(len(pieces))
    match random.randrange(5):
        case 0:
            pieces.insert(random.randint(0, len(pieces)), pieces[i])
        case 1:
            del pieces[i]
        case 2:  # sides and samples of the frame
            pieces = [
                _overwritten(random, p, range(4, min(18, len(p)))) if p[1:2] in b"\xc0\xc1\xc2" else p for p in pieces
            ]
        case 3:  # a remark of another kind
            pieces[i] = (
                pieces[i][:1] + bytes([random.choice((0xE0, 0xE1, 0xE2, 0xEE, 0xFE, 0xC0, 0xC4, 0xDB))]) + pieces[i][2:]
            )
        case _:
            content = changed_bytes(random, pieces[i][4:])[:65_533]
            pieces[i] = pieces[i][:2] + (len(content) + 2).to_bytes(2, "big") + content
    return data[:2] + b"".join(pieces)


def _overwritten(random: Random, data: bytes, places: range, order: str = "big") -> bytes:
    """Write a number at one of some places."""
    if not places:
        return data
    at, n = random.choice(places), random.choice((1, 2, 4))
    number = random.choice((random.choice(NUMBERS), random.randrange(20_000))) % 256**n
    return data[:at] + number.to_bytes(n, order) + data[at + n :]


def _changed_tiff(random: Random, data: bytes) -> bytes:
    """Change tags of the first page: their kind, their count, their values."""
    order, big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"\x2b\0", b"\0\x2b")
    number, entry = ("Q", 20) if big else ("I", 12)
    try:
        (page,) = struct.unpack_from(order + number, data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, page)
    except struct.error:
        return changed_bytes(random, data)
    changed, first = bytearray(data), page + (8 if big else 2)
    for _ in range(random.choice((1, 1, 2, 3))):
        at = first + entry * random.randrange(max(1, min(count, 50)))
        place, n = random.choice(((0, 2), (2, 2), (4, 8 if big else 4), (entry - (8 if big else 4), 2), (entry - 4, 4)))
        value = random.choice((random.choice(NUMBERS), random.randrange(1, 340), random.randrange(20_000))) % 256**n
        if at + entry <= len(changed):
            changed[at + place : at + place + n] = value.to_bytes(n, "little" if order == "<" else "big")
    return bytes(changed)


_HEADS: dict[bytes, tuple[range, str]] = {
    b"GIF": (range(6, 60), "little"), b"BM": (range(2, 54), "little"), b"RIFF": (range(4, 60), "little"),
    b"P5": (range(2, 16), "big"), b"P6": (range(2, 16), "big"), b"\0\0\1\0": (range(4, 60), "little"),
    b"\0\0\0\x0c": (range(0, 120), "big"), b"\0\0\0": (range(0, 400), "big"), b"\n": (range(1, 80), "little"),
}  # fmt: skip
"""Where the sides and counts of other formats stand, by how they begin; and their order of bytes."""


def _changed_along(random: Random, data: bytes) -> bytes:
    """Change a picture in a way that its reader goes far with."""
    if data.startswith(PNG):
        return _changed_png(random, data)
    if data.startswith(b"\xff\xd8"):
        return _changed_jpeg(random, data)
    if data[:2] in (b"II", b"MM"):
        return _changed_tiff(random, data)
    places, order = next((where for head, where in _HEADS.items() if data.startswith(head)), (range(64), "little"))
    for _ in range(random.choice((1, 1, 2, 4))):
        data = _overwritten(random, data, range(places.start, min(places.stop, len(data))), order)
    return data


@cache
def _thin(size: tuple[int, int], kind: str) -> bytes:
    return _saved(Image.new("RGB", size), kind)


def drawn(random: Random) -> bytes:
    """Return the file of a picture, mostly a damaged one."""
    every = pictures()
    data = random.choice(every)
    match random.randrange(10):
        case 0 | 1 | 2 | 3:
            data = _changed_along(random, data)
        case 4:
            data = changed_bytes(random, _changed_along(random, data))
        case 5:
            data = _thin(random.choice(THIN), random.choice(("PNG", "BMP", "GIF", "TIFF", "WEBP")))
        case _:
            data = changed_bytes(random, data, every)
    return data


def decode(data: bytes) -> None:
    """Decode a file as training, prediction and audit do; one outcome for all three."""
    shape = picture_shape(data)
    pixels = decode_rgb(data)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*shape, 3)


def decode_to_size(case: tuple[ResizeSpec, bytes]) -> None:
    """Decode a file to a size; what is wrong with it can be said in a line."""
    spec, data = case
    try:
        pixels = decode_for(data, spec)
    except UNREADABLE as error:
        if not reason(error):
            raise AssertionError("no reason is given") from error
        raise
    if spec.size is not None:
        assert pixels.shape == (*spec.stored_shape(*picture_shape(data)), 3)


TARGETS = (
    Target("pictures, decoded", drawn, decode, UNREADABLE),
    Target("pictures, to a size", lambda random: (random.choice(SPECS), drawn(random)), decode_to_size, UNREADABLE),
    Target("pictures, open_image", drawn, lambda data: open_image(io.BytesIO(data)), (DataError,)),
)
