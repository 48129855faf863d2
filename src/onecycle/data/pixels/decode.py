"""From a picture file to RGB uint8, and the one evaluation preprocess.

``decode_for`` (decode, resize) → (training: random window in augment; evaluation: ``centre_window``).
``evaluation_pixels`` is the one evaluation preprocess: validation, ``predict`` and everything that ships use the
same two steps, so that they see the same tensor for the same file.

**Decoders.** Pillow opens every file: it says what is in it, and why it cannot be read. A JPEG in colour or grey is
then decoded by simplejpeg where that is installed (``pip install 'onecycle[fast]'``); all else, and whatever simplejpeg
refuses, by Pillow. So a file is readable or not with both alike, and pixels differ by at most one grey level (by none
where both carry the same release of libjpeg-turbo). The environment variable ``ONECYCLE_DECODER=pillow`` leaves
simplejpeg unused, ``=simplejpeg`` stops where it is missing.

**Scaled decode.** A JPEG far larger than the size that it is brought to is decoded at 1/2, 1/4 or 1/8 (see
``resize.decode_factor``), with the same factor by both decoders. It is part of the preprocess: ``scaled_decode=False``
switches it off for training and prediction alike. Measured on two photographs of 640 × 427 px (scikit-learn's) brought
to 50 and 100 px, against full decode and resize: mean 0.2 to 0.7 grey levels, at most 11.
"""

from __future__ import annotations

import io
import os
from importlib import metadata
from typing import IO

import numpy as np
import PIL.Image
from PIL import features
from PIL.ImageFile import ImageFile

from onecycle.data.pixels.resize import ResizeSpec, centre_window, decode_factor, resize_pixels, scale_to
from onecycle.errors import ArgumentError

try:
    import simplejpeg
except ImportError:  # the optional extra `fast`
    simplejpeg = None

Source = str | os.PathLike[str] | IO[bytes] | bytes
"""A picture file: its path, an open binary file, or its bytes."""

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, PIL.Image.DecompressionBombError)

DECODER_VARIABLE = "ONECYCLE_DECODER"
_EXIF_ORIENTATION = 0x0112
_ON_ITS_SIDE = (5, 6, 7, 8)
_JPEG = ("JPEG", "MPO")  # MPO: several JPEGs in one file, as phones write them; the first one counts


def uses_simplejpeg() -> bool:
    """Say whether simplejpeg decodes the JPEGs here.

    Raises:
        ArgumentError: the environment variable asks for what is not known or not installed.
    """
    asked = os.environ.get(DECODER_VARIABLE, "")
    if asked not in ("", "pillow", "simplejpeg"):
        raise ArgumentError(
            f"the environment variable {DECODER_VARIABLE} is 'pillow' or 'simplejpeg' (unset: simplejpeg where it "
            f"is installed); received {asked!r}"
        )
    if asked == "simplejpeg" and simplejpeg is None:
        raise ArgumentError(
            f"{DECODER_VARIABLE}=simplejpeg, but simplejpeg is not installed: pip install simplejpeg, or unset it"
        )
    return simplejpeg is not None and asked != "pillow"


def decoder_version() -> str:
    """Name the decoders in use with their versions, for the key of what was made with them.

    Raises:
        ArgumentError: as ``uses_simplejpeg``.
    """
    pillow = f"Pillow {PIL.__version__} with libjpeg {features.version('jpg')}"
    turbo = features.version_feature("libjpeg_turbo")
    pillow += f" (turbo {turbo})" if turbo else ""
    return f"simplejpeg {metadata.version('simplejpeg')}, {pillow}" if uses_simplejpeg() else pillow


def decode_rgb(source: Source) -> np.ndarray:
    """Decode a picture to RGB at its full size, with its EXIF orientation applied.

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
    with open_picture(source) as picture:
        return whole_pixels(picture)


def whole_pixels(picture: ImageFile) -> np.ndarray:
    """Decode a picture that was opened, as ``decode_rgb`` does."""
    return _turned(_pixels(picture, factor=1), _orientation(picture))


def scaled_by(picture: ImageFile, spec: ResizeSpec) -> int:
    """Return 1, 2, 4 or 8: at which fraction of its size ``decode_for`` decodes this picture for this spec."""
    return decode_factor(_upright_shape(picture, _orientation(picture)), spec) if picture.format in _JPEG else 1


def decode_for(source: Source, spec: ResizeSpec) -> np.ndarray:
    """Decode a picture and bring it to a size: what a pixel store keeps.

    Args:
        source: a path, an open binary file, or a file's bytes.
        spec: size, method, and whether a big JPEG may be decoded at a fraction of its size.

    Returns:
        uint8 ``(h, w, 3)`` of ``spec.stored_shape`` of the whole picture; no window is cut yet.

    Raises:
        OSError, ValueError: as ``decode_rgb``.
    """
    with open_picture(source) as picture:
        factor = scaled_by(picture, spec)
        if factor == 1:
            return resize_pixels(whole_pixels(picture), spec)
        orientation = _orientation(picture)
        wanted = spec.stored_shape(*_upright_shape(picture, orientation))
        if orientation in _ON_ITS_SIDE:
            wanted = wanted[1], wanted[0]
        # Scaled before it is turned: the row and column that may be there in part are the last ones of the file.
        visible = picture.height / factor, picture.width / factor
        return _turned(scale_to(_pixels(picture, factor), wanted, visible=visible), orientation)


def evaluation_pixels(source: Source, spec: ResizeSpec) -> np.ndarray:
    """Decode, resize and centre a picture: what every evaluation sees, uint8 ``(h, w, 3)``."""
    return centre_window(decode_for(source, spec), spec)


def picture_shape(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Read (height, width) in px, EXIF orientation applied, from the header alone."""
    with PIL.Image.open(path) as picture:
        return _upright_shape(picture, _orientation(picture))


def reason(error: Exception) -> str:
    """Say why a picture cannot be read, from the error that a decoder raised."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PIL.UnidentifiedImageError):
        return "not a picture, or damaged at its start"
    return str(error) or type(error).__name__


def open_picture(source: Source) -> ImageFile:
    """Open a picture; its pixels are not decoded yet."""
    return PIL.Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)


def _orientation(picture: PIL.Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; a TIFF's is applied by Pillow already."""
    return 1 if picture.format == "TIFF" else int(picture.getexif().get(_EXIF_ORIENTATION, 1))


def _upright_shape(picture: PIL.Image.Image, orientation: int) -> tuple[int, int]:
    width, height = picture.size
    return (width, height) if orientation in _ON_ITS_SIDE else (height, width)


def _pixels(picture: ImageFile, factor: int) -> np.ndarray:
    """Decode as the file lies, a JPEG at 1/factor of its size (rounded up): uint8 ``(H, W, 3)``."""
    if picture.format in _JPEG and picture.mode in ("RGB", "L") and uses_simplejpeg():
        pixels = _by_simplejpeg(picture, factor)
        if pixels is not None:
            return pixels
    if factor > 1:
        picture.draft(picture.mode, (picture.width // factor, picture.height // factor))
    return np.array(_to_rgb(picture, picture.format))


def _by_simplejpeg(picture: ImageFile, factor: int) -> np.ndarray | None:
    """Return the pixels, or None where simplejpeg refuses the file: Pillow then reads it, or says what is wrong."""
    if picture.fp is None:
        return None
    picture.fp.seek(0)
    data = picture.fp.read()
    wanted = -(-picture.height // factor), -(-picture.width // factor)
    # Of the fractions that give at least this size, simplejpeg takes the smallest.
    least = {"min_height": wanted[0], "min_width": wanted[1]} if factor > 1 else {}
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, "RGB", **least)
    except (ValueError, RuntimeError):
        return None
    return pixels if pixels.shape[:2] == wanted else None


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation to ``(H, W, 3)``.

    Source: Exif 2.32, tag 0x0112; the same turns as ``PIL.ImageOps.exif_transpose``.
    """
    if orientation in (2, 3, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in _ON_ITS_SIDE:
        pixels = pixels.transpose(1, 0, 2)
    return np.ascontiguousarray(pixels[::-1] if orientation == 8 else pixels)


def _to_rgb(picture: PIL.Image.Image, fmt: str | None) -> PIL.Image.Image:
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I;16") or (picture.mode == "I" and fmt == "PNG"):
        values = np.asarray(picture).astype(np.int64)  # 16-bit grey: Pillow's own conversion would clip it to white
        return PIL.Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode in ("F", "I"):
        raise ValueError("32-bit pixels have no fixed range; save the picture with 8 or 16 bits")
    if picture.mode == "P":  # through RGBA, since a palette may carry transparency that RGB alone warns about
        picture = picture.convert("RGBA")
    return picture.convert("RGB")
