"""From the body of a request to pixels: which pictures it holds, and what is said of one that cannot be read."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import PIL.Image
from PIL import UnidentifiedImageError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from onecycle.deploy.portable.predict import Model, Unreadable
from onecycle.deploy.serve.limits import Limits, Refused
from onecycle.text import plural

logging.getLogger("python_multipart").addHandler(logging.NullHandler())  # else each damaged form writes to the log

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What is read from strangers: the formats of photographs, without those whose readers start programs or rarely run."""


@cache
def formats() -> tuple[str, ...]:
    """Return those of them that this Pillow has; once before threads decode, since Pillow loads them at first use."""
    PIL.Image.init()
    return tuple(name for name in FORMATS if name in PIL.Image.OPEN)


NOT_A_PICTURE = "this is not a picture in a format that is read (JPEG, PNG, WebP, GIF, BMP, TIFF)"


@dataclass(frozen=True)
class Sent:
    """What a request holds."""

    pictures: tuple[bytes, ...]
    fields: dict[str, list[str]] = field(default_factory=dict)  # the other parts of a form


class _InMemory(MultiPartParser):
    """Keeps parts in memory, which the limit on a request bounds, and writes nothing to the disk."""

    def __init__(self, request: Request, limits: Limits) -> None:
        super().__init__(request.headers, request.stream(), max_files=limits.request_pictures, max_fields=16)
        self.spool_max_size = limits.request_bytes


async def sent_in(request: Request, limits: Limits) -> Sent:
    """Return what a request holds: the parts of a form that are files, or its whole body as one picture.

    Raises:
        Refused: 415 a type that holds no picture, 422 none in it or a damaged form, 413 too many.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        sent = await _parts(request, limits)
    elif kind in ("", "application/octet-stream") or kind.startswith("image/"):
        sent = Sent((await request.body(),))
    else:
        raise Refused(415, "send pictures as multipart/form-data, or one as the body, with its type (image/jpeg)")
    if not any(sent.pictures):
        raise Refused(422, "the request holds no picture")
    return sent


async def _parts(request: Request, limits: Limits) -> Sent:
    try:
        form = await _InMemory(request, limits).parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise Refused(413, f"a request may hold {plural(limits.request_pictures, 'picture')} at most") from None
        raise Refused(422, "the form in the request is damaged") from None
    pictures: list[bytes] = []
    fields: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            pictures.append(await value.read())
        else:
            fields.setdefault(name, []).append(value)
    await form.close()
    return Sent(tuple(pictures), fields)


def decoded(model: Model, data: bytes, limits: Limits) -> np.ndarray:
    """Return a picture as the network takes it, uint8 (height, width, 3), exactly as the exported folder does.

    Raises:
        Refused: 413 too many pixels, 415 no picture, 422 one that cannot be read.
    """
    try:
        _check_size(data, limits)
        return model.pixels(data)
    except Refused:
        raise
    except Unreadable as error:
        raise Refused(422, f"this picture is not read: {error}") from None
    except UnidentifiedImageError:
        raise Refused(415, NOT_A_PICTURE) from None
    except Exception:  # noqa: BLE001 - whatever a decoder raises is about this file; its text may name what is ours
        raise Refused(422, "this picture is damaged and cannot be read") from None


def _check_size(data: bytes, limits: Limits) -> None:
    if not data:
        raise Refused(422, "this picture is empty")
    with PIL.Image.open(io.BytesIO(data), formats=formats()) as picture:
        n_pixels = picture.width * picture.height
    if n_pixels > limits.picture_pixels:
        most = limits.picture_pixels / 1e6
        raise Refused(413, f"this picture has {n_pixels / 1e6:,.0f} million pixels, and {most:,.0f} million are read")
