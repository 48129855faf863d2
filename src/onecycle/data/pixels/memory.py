"""How much memory decoding may take: of one picture, of all under way at a time, and for a file of so few bytes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL.ImageFile import ImageFile

from onecycle.text import human_bytes

MOST_BYTES = 3_300_000_000
"""What decoding may take, of all pictures under way at a time and so of one alone: 206 megapixels at full size."""

_BYTES_A_PX = 16  # Pillow's picture, the array and copies. Measured: 11 for RGB, 14 for RGBA, 7 for simplejpeg
_BYTES_A_PX_WEBP = 22  # its reader holds the canvas of an animation, too; measured: 18
_BYTES_A_PX_PROGRESSIVE = 6  # coefficients of the whole picture, however small it is decoded
_UNASKED_BYTES = 600_000_000  # that decoding any file may take: 37 megapixels, a page of A4 at 600 dpi; really 400 MB
_BYTES_FOR_A_BYTE = 10_000  # of the file, beyond that: a stranger's few bytes must not fill the memory


class _Room:
    """Bytes that decodes under way take together."""

    def __init__(self) -> None:
        self.taken = 0
        self.changed = threading.Condition()


_room = _Room()
if hasattr(os, "register_at_fork"):  # a forked process must not wait for threads of its parent
    os.register_at_fork(after_in_child=_room.__init__)  # type: ignore[misc]


@contextmanager
def room_for(picture: ImageFile, factor: int = 1) -> Iterator[None]:
    """Wait until a picture can be decoded beside those under way, and hold its room inside the block.

    Not to be nested in one thread, which would wait for itself.

    Args:
        picture: as ``open_picture`` returns it.
        factor: it is decoded at 1/factor of its size.

    Raises:
        ValueError: it alone takes more than ``MOST_BYTES``, or more than a file of so few bytes is believed.
    """
    needed = _needed(picture, factor)
    if needed > max(_UNASKED_BYTES, _BYTES_FOR_A_BYTE * _length(picture)):
        raise ValueError(
            f"{picture.width:,} × {picture.height:,} pixels take {human_bytes(needed)} to decode, too much for a file "
            f"of {human_bytes(_length(picture))}; scale the picture down, or save it uncompressed if it is right"
        )
    if needed > MOST_BYTES:
        raise ValueError(
            f"{picture.width:,} × {picture.height:,} pixels take {human_bytes(needed)} to decode, and onecycle's limit "
            f"is {human_bytes(MOST_BYTES)}; scale the picture down, or cut it into tiles"
        )
    if needed < MOST_BYTES // 100:  # not worth the wait
        yield
        return
    with _room.changed:
        _room.changed.wait_for(lambda: _room.taken + needed <= MOST_BYTES)
        _room.taken += needed
    try:
        yield
    finally:
        with _room.changed:
            _room.taken -= needed
            _room.changed.notify_all()


def _needed(picture: ImageFile, factor: int) -> int:
    """Return the bytes that decoding a picture at 1/factor of its size takes."""
    pixels, coefficients = picture.width * picture.height, 0
    if picture.info.get("progressive") or picture.info.get("progression"):
        coefficients = pixels * _BYTES_A_PX_PROGRESSIVE
    a_pixel = _BYTES_A_PX_WEBP if picture.format == "WEBP" else _BYTES_A_PX
    return pixels // factor**2 * a_pixel + coefficients


def _length(picture: ImageFile) -> int:
    """Return the bytes of the file that a picture is read from."""
    if picture.fp is None:
        return 0
    here = picture.fp.tell()
    length = picture.fp.seek(0, os.SEEK_END)
    picture.fp.seek(here)
    return length
