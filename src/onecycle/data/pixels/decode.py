"""From a picture file to RGB uint8, and the one evaluation preprocess.

``decode_for`` (decode, resize) → (training: random window in augment; evaluation: ``centre_window``).
Validation, ``predict`` and everything that ships use the same two steps, so that they see the same tensor for the same
file.

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

import os
from contextlib import suppress
from importlib import metadata

import numpy as np
import PIL.Image
import PIL.ImageChops
from PIL import features
from PIL.ImageFile import ImageFile

from onecycle.data.pixels.memory import room_for
from onecycle.data.pixels.picture_file import Samples, Source, open_picture
from onecycle.data.pixels.resize import ResizeSpec, decode_factor, resize_pixels, scale_to
from onecycle.errors import ArgumentError

try:
    import simplejpeg
except ImportError:  # the optional extra `fast`
    simplejpeg = None

DECODER_VARIABLE = "ONECYCLE_DECODER"
_EXIF_ORIENTATION = 0x0112
_ON_ITS_SIDE = (5, 6, 7, 8)
JPEG = ("JPEG", "MPO")  # MPO: several JPEGs in one file, as phones write them; the first one counts


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

    Grey of 12 or 16 bits keeps its upper 8 bits, CMYK becomes RGB by Pillow's plain conversion, an alpha channel is
    dropped, and of an animation the first frame is taken.

    Args:
        source: a path, an open binary file, or a file's bytes.

    Returns:
        uint8 ``(H, W, 3)``.

    Raises:
        OSError, ValueError: the file is missing, truncated, damaged or not a picture, takes too much memory, or has
            a kind of pixel without one meaning in 8 bits (floating point, signed, 32 bits).
    """
    with open_picture(source) as picture, room_for(picture):
        return whole_pixels(picture)


def whole_pixels(picture: ImageFile, factor: int = 1) -> np.ndarray:
    """Decode a picture that was opened, as ``decode_rgb`` does; a JPEG at 1/factor of its size (rounded up)."""
    return _turned(_pixels(picture, factor), orientation_of(picture))


def upright_rgb(picture: PIL.Image.Image) -> np.ndarray:
    """Return the pixels that Pillow holds, as ``decode_rgb`` returns those of a file."""
    return _turned(_rgb(picture), orientation_of(picture))


def scaled_by(picture: ImageFile, spec: ResizeSpec) -> int:
    """Return 1, 2, 4 or 8: at which fraction of its size ``decode_for`` decodes this picture for this spec."""
    return decode_factor(upright_shape(picture), spec) if picture.format in JPEG else 1


def decode_for(source: Source, spec: ResizeSpec) -> np.ndarray:
    """Decode a picture and bring it to a size: what a pixel store keeps.

    Args:
        source: a path, an open binary file, or a file's bytes.
        spec: size, method, and whether a big JPEG may be decoded at a fraction of its size.

    Returns:
        uint8 ``(h, w, 3)`` of ``spec.stored_shape``; no window is cut yet.

    Raises:
        OSError, ValueError: as ``decode_rgb``.
    """
    with open_picture(source) as picture:
        factor = scaled_by(picture, spec)
        with room_for(picture, factor):
            if factor == 1:
                return resize_pixels(whole_pixels(picture), spec)
            orientation = orientation_of(picture)
            wanted = spec.stored_shape(*upright_shape(picture))
            if orientation in _ON_ITS_SIDE:
                wanted = wanted[1], wanted[0]
            # Scaled before it is turned: the row and column that may be there in part are the last ones of the file.
            visible = picture.height / factor, picture.width / factor
            return _turned(scale_to(_pixels(picture, factor), wanted, visible=visible), orientation)


def picture_shape(source: Source) -> tuple[int, int]:
    """Read (height, width) in px, EXIF orientation applied, from the header alone.

    Raises:
        OSError, ValueError: as ``decode_rgb``.
    """
    with open_picture(source) as picture:
        return upright_shape(picture)


def orientation_of(picture: PIL.Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; a TIFF's is applied by Pillow already.

    One that cannot be read, or is no such number, counts as upright: odd metadata is no fault of the pixels.
    """
    with suppress(Exception):
        # Not the method of a PNG, which would decode it: ``open_picture`` has put its remarks first.
        value = PIL.Image.Image.getexif(picture).get(_EXIF_ORIENTATION, 1)
        if picture.format != "TIFF" and value in range(1, 9):
            return int(value)
    return 1


def upright_shape(picture: PIL.Image.Image) -> tuple[int, int]:
    """Return (height, width) with the EXIF orientation applied."""
    return picture.size if orientation_of(picture) in _ON_ITS_SIDE else picture.size[::-1]


def _pixels(picture: ImageFile, factor: int) -> np.ndarray:
    """Decode as the file lies, a JPEG at 1/factor of its size (rounded up): uint8 ``(H, W, 3)``."""
    if picture.format in JPEG and picture.mode in ("RGB", "L") and uses_simplejpeg():
        pixels = _by_simplejpeg(picture, factor)
        if pixels is not None:
            return pixels
    if factor > 1:
        picture.draft(picture.mode, (picture.width // factor, picture.height // factor))
    return _rgb(picture)


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


def _rgb(picture: PIL.Image.Image) -> np.ndarray:
    picture.load()  # inside NumPy, an AttributeError of a decoder would be lost
    return np.array(_to_rgb(picture))


def _to_rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    if picture.mode == "RGB":
        return picture
    samples = Samples.of(picture)
    if samples.signed and samples.bits < 32:
        raise ValueError("signed pixels have no fixed black; save the picture with 8 or 16 unsigned bits")
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        # Pillow's own conversion would clip 16 bits to white.
        values = (np.asarray(picture).astype(np.int64) >> (samples.bits - 8)).clip(0, 255).astype(np.uint8)
        return PIL.Image.fromarray(255 - values if samples.negative else values).convert("RGB")
    if picture.mode in ("F", "I"):
        raise ValueError("32-bit pixels have no fixed range; save the picture with 8 or 16 bits")
    picture = picture.convert("LA") if picture.mode == "La" else picture
    if samples.negative and samples.bands == 2:
        picture = PIL.ImageChops.invert(picture.getchannel("L"))
    if picture.mode == "L":  # not converted, since an odd transparent colour would be, too
        return PIL.Image.merge("RGB", [picture] * 3)
    if picture.mode == "P":  # through RGBA, since a palette may carry transparency that RGB alone warns about
        picture = picture.convert("RGBA")
    return picture.convert("RGB")
