"""From a picture file to RGB uint8, and the one evaluation preprocess.

``decode_rgb`` → ``resize_pixels`` → (training: random window in augment; evaluation: ``centre_window``).
``evaluation_pixels`` is the one evaluation preprocess: validation, ``predict`` and everything that
ships use it, so that they see the same tensor for the same file.
"""

from __future__ import annotations

import io
import os
from typing import IO

import numpy as np
import PIL.Image
from PIL import ImageOps

from onecycle.data.pixels.resize import ResizeSpec, centre_window, resize_pixels

_EXIF_ORIENTATION = 0x0112


UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, PIL.Image.DecompressionBombError)


def decode_rgb(source: str | os.PathLike[str] | IO[bytes] | bytes) -> np.ndarray:
    """Decode a picture to RGB, with its EXIF orientation applied.

    CMYK becomes RGB by Pillow's plain conversion, 16-bit grey keeps its upper 8 bits, an alpha
    channel is dropped, and of an animation the first frame is taken.

    Args:
        source: a path, an open binary file, or a file's bytes.

    Returns:
        uint8 ``(H, W, 3)``.

    Raises:
        OSError: the file is missing, truncated or not a picture.
        ValueError: a kind of pixel that has no one meaning in 8 bits (floating point).
    """
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    with PIL.Image.open(opened) as picture:
        upright = ImageOps.exif_transpose(picture) or picture
        return np.array(_to_rgb(upright, picture.format))


def _to_rgb(picture: PIL.Image.Image, fmt: str | None) -> PIL.Image.Image:
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I;16") or (picture.mode == "I" and fmt == "PNG"):
        values = np.asarray(picture).astype(
            np.int64
        )  # 16-bit grey: Pillow's own conversion would clip it to white
        return PIL.Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode in ("F", "I"):
        raise ValueError("32-bit pixels have no fixed range; save the picture with 8 or 16 bits")
    if picture.mode == "P":  # through RGBA, since a palette may carry transparency that RGB alone warns about
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def picture_shape(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Read (height, width) in px, EXIF orientation applied, from the header alone."""
    with PIL.Image.open(path) as picture:
        width, height = picture.size
        # Of a TIFF, Pillow gives the size already turned.
        turned = picture.format != "TIFF" and picture.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def evaluation_pixels(source: str | os.PathLike[str] | IO[bytes] | bytes, spec: ResizeSpec) -> np.ndarray:
    """Decode, resize and centre a picture: what every evaluation sees, uint8 ``(h, w, 3)``."""
    return centre_window(resize_pixels(decode_rgb(source), spec), spec)


def reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PIL.UnidentifiedImageError):
        return "not a picture, or damaged at its start"
    return str(error) or type(error).__name__
