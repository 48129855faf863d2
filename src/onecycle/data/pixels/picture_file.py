"""A picture's file, opened: what it is if it is no picture, why it cannot be read, how much memory it may take.

**One bad file is one bad file.** Whatever Pillow or a decoder raises while a file is open ends as ``OSError`` or
``ValueError`` with the reason. Pillow's own readers are asked, but not through ``PIL.Image.open``: its limit on pixels
knows nothing of pictures that are decoded at a fraction of their size. The limit here is on the bytes that it takes.
"""

from __future__ import annotations

import codecs
import ctypes
import errno
import io
import logging
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import IO, Any, Self

import PIL.Image
from PIL import _imaging
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from onecycle.text import plural

Source = str | os.PathLike[str] | IO[bytes] | bytes
"""A picture file: its path, an open binary file, or its bytes."""

UNREADABLE = (OSError, ValueError)

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG, _SCAN = b"\xff\xd8\xff", 0xDA  # the start of the file, and the marker before its pixels
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"IDAT", b"fdAT", b"IEND")  # chunks that pixels hang on
_WIDTH, _BITS, _PHOTOMETRIC, _BANDS, _FORMAT = 256, 258, 262, 277, 339  # tags of TIFF
_SUBFILE, _OTHER_PAGES, _EXTRA, _DNG = 254, 330, 338, 50706
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4  # formats of samples in TIFF


@contextmanager
def open_picture(source: Source) -> Iterator[ImageFile]:
    """Open a picture; its pixels are not decoded yet.

    Raises:
        OSError, ValueError: it cannot be read, now or in anything that is done inside the block.
    """
    _ignore_warnings_of_pillow()
    with decoder_errors():
        file = open_file(source)
        try:
            yield _picture_in(file)
        finally:
            if isinstance(source, (bytes, str, os.PathLike)):
                file.close()


@contextmanager
def decoder_errors() -> Iterator[None]:
    """Raise whatever Pillow or a decoder raises inside the block as OSError or ValueError."""
    try:
        yield
    except UNREADABLE:
        raise
    except MemoryError as error:
        raise OSError(errno.ENOMEM, "there is not enough memory to decode it") from error
    except Exception as error:
        text = str(error) if isinstance(error, (SyntaxError, RuntimeError)) and str(error) else repr(error)
        raise ValueError(f"its decoder fails: {text}") from error


def open_file(source: Source) -> IO[bytes]:
    """Return an open binary file; what is no regular file is named and never opened.

    Raises:
        OSError, ValueError: there is no such file, or it is a folder, a pipe, a device.
    """
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not isinstance(source, (str, os.PathLike)):
        try:
            source.seek(0)
        except (AttributeError, io.UnsupportedOperation):
            return io.BytesIO(source.read())
        return source
    if "\0" in os.fspath(source):
        raise ValueError("its name holds a NUL character")
    try:
        mode = os.stat(source).st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError("a link that leads back to itself") from error
        raise
    if not stat.S_ISREG(mode):
        raise ValueError(f"{_NO_FILES.get(stat.S_IFMT(mode), 'a special file')}, not a file")
    return open(source, "rb")


_NO_FILES = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def picture_bytes(picture: PIL.Image.Image, name: str | os.PathLike[str], **options: Any) -> bytes:
    """Return a picture as the content of a file; the suffix of its name chooses the format.

    Args:
        picture: what to encode.
        name: of the file.
        options: of the encoder, ``quality`` say.

    Raises:
        ValueError: no format is known by that suffix.
        OSError: the format cannot hold such pixels.
    """
    suffix = os.path.splitext(os.fspath(name))[1].lower()
    known = PIL.Image.registered_extensions()
    if suffix not in known:
        raise ValueError(f"no format of pictures is known by the suffix of {os.fspath(name)!r}")
    buffer = io.BytesIO()
    picture.save(buffer, known[suffix], **options)
    return buffer.getvalue()


def reason(error: Exception) -> str:
    """Say why a picture cannot be read, from the error that ``open_picture`` raised."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # without its number, and the path that is named anyway
    text = str(error)
    return next((words for start, words in _WORDS_OF_PILLOW if text.startswith(start)), text) or type(error).__name__


_WORDS_OF_PILLOW = (
    ("could not create decoder object", "a WebP picture that is cut off or damaged"),
    ("decoder error", "its pixels are damaged"),
    ("broken data stream", "its pixels are damaged"),
)
"""How a message of Pillow starts, and what it means to who has the file."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """How a TIFF stores its samples; of other files, what is usual."""

    bits: int = 16  # of a sample, where a picture has more than 8
    negative: bool = False  # 0 is white
    signed: bool = False
    floating: bool = False
    bands: int = 0  # samples a pixel, 0 where the file does not say it
    extra: int = 0  # how many of them are said to be neither grey nor colour

    @classmethod
    def of(cls, picture: PIL.Image.Image) -> Self:
        """Read the tags of a picture."""
        if not isinstance(picture, TiffImageFile):
            return cls()
        return cls.from_tags(picture.tag_v2)

    @classmethod
    def from_tags(cls, tags: ImageFileDirectory_v2) -> Self:
        """Read the tags of a TIFF."""
        first = {t: v[0] if isinstance(v := tags.get(t), tuple) else v for t in (_BITS, _PHOTOMETRIC, _FORMAT, _BANDS)}
        return cls(
            bits=first[_BITS] or 1,
            negative=first[_PHOTOMETRIC] == 0,
            signed=first[_FORMAT] == _SIGNED,
            floating=first[_FORMAT] == _FLOAT,
            bands=first[_BANDS] or 1,
            extra=len(extra) if isinstance(extra := tags.get(_EXTRA, ()), tuple) else 1,
        )

    def __str__(self) -> str:
        kind = " signed" * self.signed + " floating-point" * self.floating
        text = f"{plural(self.bands, 'band')} of {self.bits}{kind} bits"
        text += " whose 0 is white" * self.negative
        return text + f", {self.extra} of them neither grey nor colour" * bool(self.extra)


# -------------------------------------------------------------------- what a file is


def _picture_in(file: IO[bytes]) -> ImageFile:
    """Return the picture in a file, by the first of Pillow's readers that knows it.

    Raises:
        PIL.UnidentifiedImageError: none does; says what the file is instead, where that can be told.
        Exception: whatever a reader raises on a damaged file.
    """
    head = file.read(256)
    if not isinstance(head, bytes):
        raise ValueError("an open file that gives text; open it in binary mode, 'rb'")
    tried: set[str] = {"EPS"}  # would start Ghostscript
    for load_readers in (PIL.Image.preinit, PIL.Image.init):  # the common ones, then all
        load_readers()
        for name in [n for n in PIL.Image.ID if n not in tried]:
            tried.add(name)
            reader, accepts = PIL.Image.OPEN[name]
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # as Pillow does: not this reader's
                if accepts is None or accepts(head[:16]) is True:  # a text says why it cannot here
                    picture = _read_by(reader, file, head)
                    if min(picture.size) > 0:  # else of a kind that Pillow knows the name of, and cannot read
                        return picture
    if head[:4] in _TIFF:
        return _unusual_tiff(file, head)
    raise PIL.UnidentifiedImageError(_kind_of(head) or "not a picture, or damaged at its start")


def _read_by(reader: Any, file: IO[bytes], head: bytes) -> ImageFile:
    picture: ImageFile
    is_png = head.startswith(_PNG)
    if head[:4] in _TIFF:
        _silence_libtiff()
    file.seek(0)
    try:
        picture = reader(_png_in_order(file) if is_png else file, "")
    except (SyntaxError, ValueError):  # damaged text, a damaged profile: no fault of the pixels
        if not is_png and not head.startswith(_JPEG):
            raise
        picture = reader(_rewritten_png(file, _PNG_PIXELS) if is_png else _rewritten_jpeg(file), "")
    if isinstance(picture, TiffImageFile) and _is_preview(picture.tag_v2):
        raise ValueError(f"a raw photograph of a camera, of which only a preview could be read; {_CONVERT}")
    return picture


def _png_in_order(file: IO[bytes]) -> IO[bytes]:
    """Return a PNG whose remarks (EXIF, text) come before its pixels: Pillow reads late ones once it has decoded."""
    position, names = len(_PNG), []
    file.seek(position)
    while len(start := file.read(8)) == 8:
        names.append(start[4:])
        position = file.seek(position + 12 + int.from_bytes(start[:4], "big"))
    first = names.index(b"IDAT") if b"IDAT" in names else len(names)
    if any(name not in _PNG_PIXELS for name in names[first:]):
        return _rewritten_png(file, names)
    file.seek(0)
    return file


def _rewritten_png(file: IO[bytes], names: Collection[bytes]) -> IO[bytes]:
    """Return a PNG with the pieces of these names; whole remarks come first, damaged ones are left out."""
    file.seek(len(_PNG))
    header, remarks, pixels = file.read(25), [], []
    while len(start := file.read(8)) == 8:
        rest = file.read(int.from_bytes(start[:4], "big") + 4)
        if start[4:] in _PNG_PIXELS:
            pixels += [start, rest]
        elif start[4:] in names and zlib.crc32(start[4:] + rest[:-4]).to_bytes(4, "big") == rest[-4:]:
            remarks += [start, rest]
    return io.BytesIO(b"".join([_PNG, header, *remarks, *pixels]))


def _rewritten_jpeg(file: IO[bytes]) -> IO[bytes]:
    """Return a JPEG without its remarks, but with EXIF, and with what Adobe says of its colours."""
    file.seek(2)
    pieces = [b"\xff\xd8"]
    while len(start := file.read(4)) == 4 and start[0] == 0xFF and start[1] != _SCAN:
        rest = file.read(max(0, int.from_bytes(start[2:], "big") - 2))
        is_remark = 0xE0 <= start[1] <= 0xEF or start[1] == 0xFE
        if not is_remark or rest.startswith(b"Exif\0\0") or (rest.startswith(b"Adobe") and len(rest) >= 12):
            pieces += [start, rest]
    return io.BytesIO(b"".join([*pieces, start, file.read()]))


# -------------------------------------------------------------------- TIFF


def _unusual_tiff(file: IO[bytes], head: bytes) -> ImageFile:
    """Return a TIFF that Pillow refuses for its tags alone: samples of undefined format, grey whose 0 is white.

    Raises:
        PIL.UnidentifiedImageError: it is another one; says of what samples it is, or that it is damaged.
    """
    tags = _tags_of(file, head)
    samples = Samples.from_tags(tags)
    file.seek(0)
    data = bytearray(file.read())
    for tag, old, new in ((_FORMAT, _UNDEFINED, _UNSIGNED), (_PHOTOMETRIC, 0, 1)):
        if old not in (values if isinstance(values := tags.get(tag), tuple) else (values,)):
            continue
        with suppress(SyntaxError, IndexError, TypeError, struct.error):
            _set_tag(data, tag, new)
            picture = TiffImageFile(io.BytesIO(data))
            if tag == _FORMAT or samples.bands == 2 or picture.mode.startswith("I"):  # negatives: see ``decode``
                picture.tag_v2[_PHOTOMETRIC] = tags[_PHOTOMETRIC]
                return picture
    raise PIL.UnidentifiedImageError(f"a TIFF of {samples}; save it as grey or RGB of 8 or 16 bits")


def _tags_of(file: IO[bytes], head: bytes) -> ImageFileDirectory_v2:
    """Return the tags of a TIFF's first page.

    Raises:
        PIL.UnidentifiedImageError: they cannot be read, or Pillow's reason to refuse the file is none of them.
    """
    try:
        tags = ImageFileDirectory_v2(head[: 16 if 43 in head[2:4] else 8])
        file.seek(tags.next)
        tags.load(file)
        Samples.from_tags(tags)
        file.seek(0)
        TiffImageFile(file)
    except SyntaxError as error:
        if "pixel" in str(error) and _WIDTH in tags:  # "unknown pixel mode", "samples per pixel"
            return tags
    except (*UNREADABLE, struct.error, LookupError, TypeError):
        pass
    raise PIL.UnidentifiedImageError("a TIFF that is cut off, or whose tags are damaged")


def _set_tag(data: bytearray, tag: int, value: int) -> None:
    """Give all values of a tag of the first page another value, in place."""
    order, is_big = "<" if data[:2] == b"II" else ">", 43 in data[2:4]
    length, number, entry, header = (20, "Q", 8, 8) if is_big else (12, "I", 2, 4)
    (page,) = struct.unpack_from(order + number, data, header)
    (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), data, page)
    for at in range(page + entry, page + entry + count * length, length):
        name, kind, n = struct.unpack_from(order + "HH" + number, data, at)
        if name == tag:
            place, letter = at + length - (8 if is_big else 4), {3: "H", 4: "I"}[kind]
            values = struct.pack(order + letter * n, *[value] * n)
            if len(values) > struct.calcsize(order + number):
                (place,) = struct.unpack_from(order + number, data, place)
            data[place : place + len(values)] = values


def _is_preview(tags: ImageFileDirectory_v2) -> bool:
    """Say whether the first page of a TIFF is a reduced version of the picture of a camera, as in DNG and NEF."""
    return bool(tags.get(_SUBFILE, 0) & 1 and _OTHER_PAGES in tags) or (_DNG in tags and _OTHER_PAGES in tags)


@cache
def _silence_libtiff() -> None:
    """Keep libtiff from writing to the screen what Pillow raises anyway, where the system lets it be reached."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


# -------------------------------------------------------------------- what is no picture


def _kind_of(head: bytes) -> str:
    """Say what a file is that is no picture, or one of a kind that is not read; ``""`` if that cannot be told."""
    if not head:
        return "an empty file"
    if not any(head):
        return "nothing but zeros, as an interrupted copy leaves them"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):  # UTF-16
        head = head[2:].replace(b"\0", b"")
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").lower()
    return next((text for pattern, text in _KINDS if re.match(pattern, start, re.DOTALL)), "") or _text_in(head)


def _text_in(head: bytes) -> str:
    """Quote how a file of text starts; ``""`` for other files."""
    with suppress(UnicodeDecodeError):
        words = " ".join(codecs.getincrementaldecoder("utf-8")().decode(head).split())
        if len(words) > 3 and words.isprintable():
            return f"text, not a picture; it starts with {words[:40]!r}"
    return ""


_CONVERT = "convert it to JPEG or PNG"
_KINDS = (
    (rb"....ftyp(....){0,12}?(heic|heix|hevc|heim|heis)", f"a HEIC picture, as iPhones write them; {_CONVERT}"),
    (rb"....ftyp(mif|msf|miaf)", f"a HEIF picture; {_CONVERT}"),
    (rb"....ftypcrx", f"a raw photograph of a camera (CR3); {_CONVERT}"),
    (rb"....ftyp(avif|avis)", "an AVIF picture that is damaged at its start"),
    (rb"....ftyp|\x1ae\xdf\xa3|riff....avi ", "a video; save single frames of it as pictures"),
    (rb"fujifilmccd-raw", f"a raw photograph of a camera (RAF); {_CONVERT}"),
    (rb"\x00\x00\x00\x0cjxl |\xff\x0a", f"a JPEG XL picture; {_CONVERT}"),
    (rb"(<\?xml.*)?(<!--.*)?(<!doctype svg.*)?<svg", f"an SVG drawing; {_CONVERT}"),
    (rb"(<\?xml.*)?(<!--.*)?<(!doctype html|html|head|body|script|meta)", "an HTML page; download the picture again"),
    (rb"<", "an XML file, not a picture"),
    (rb"version https://git-lfs", "a pointer of Git LFS, not a picture; `git lfs pull` fetches the picture"),
    (rb"%pdf", "a PDF; save its pages as pictures"),
    (rb"%!ps|\xc5\xd0\xd3\xc6", f"a PostScript drawing; {_CONVERT}"),
    (rb"pk\x03\x04|rar!|7z\xbc\xaf|\x1f\x8b", "an archive; unpack it"),
    (rb".{128}dicm", "a DICOM picture; save it as PNG"),
    (rb"\x93numpy", "a NumPy array; save it as PNG"),
    (rb"\x89hdf", "an HDF5 file; save its pictures as PNG"),
    (rb"parq", "a parquet table, not a picture"),
    (rb"\x00\x05\x16[\x00\x07]", "what macOS keeps beside a file (its name starts with ._), not a picture; remove it"),
    (rb"\x00\x00\x00\x01bud1", "what macOS keeps of a folder (.DS_Store), not a picture; remove it"),
    (rb"\xd0\xcf\x11\xe0", "a file of Windows or Office (Thumbs.db, .doc), not a picture"),
    (rb"8bps", f"a Photoshop file of a kind that is not read; {_CONVERT}"),
    (
        rb"v/1\x01|#\?(radiance|rgbe)",
        "a picture of high dynamic range, whose values have no fixed range; save it as PNG",
    ),
    (rb"riff....wave|id3|oggs|flac", "a sound, not a picture"),
    (rb"/9j/|ivborw0kgo|data:image/", "a picture written as text (base64); decode it into a file"),
    (rb"\{|\[", "text (JSON), not a picture; perhaps the error of a download"),
    (rb"\xff\xd8\xff", "a JPEG that is damaged at its start"),
    (rb"\x89png", "a PNG that is damaged at its start"),
    (rb"riff....webp", "a WebP picture that is damaged at its start"),
)
"""How a file starts, in small letters and without blanks before; what it is and what to do."""


# -------------------------------------------------------------------- Pillow's warnings and lines

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else errors that it raises, too, go to the screen
_MODULES = r"PIL\."
_IGNORED = ("ignore", None, UserWarning, re.compile(_MODULES), 0)


def _ignore_warnings_of_pillow() -> None:
    """Ignore what Pillow warns about: metadata that it cannot read.

    ``warnings.catch_warnings`` is not for threads, so the filter stays; in a block that resets filters it is set again.
    """
    if _IGNORED not in warnings.filters:
        warnings.filterwarnings("ignore", category=UserWarning, module=_MODULES)
