"""The keywords of every way to make a bunch, each said once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

import torch

from onecycle.data.augment.transforms import Transform
from onecycle.data.pixels.resize import ResizeMethod
from onecycle.errors import check_keywords

TransformLists = tuple[Sequence[Transform], Sequence[Transform]]


class LoaderOptions(TypedDict, total=False):
    """How pictures are read and put into batches; ``CommonOptions`` says what each one means."""

    bs: int
    val_bs: int | None
    num_workers: int | None
    dl_tfms: Sequence[Any] | None
    device: str | torch.device | None
    no_check: bool
    unreadable: str
    pixel_cache: str


class CommonOptions(LoaderOptions, total=False):
    """The keywords that every factory of ``ImageDataBunch`` takes.

    bs: pictures in a training batch (64). val_bs: in a validation batch (as ``bs``).
    ds_tfms: what ``get_transforms()`` returns; None for no augmentation.
    size: px; a number crops by default, a (height, width) pair squishes; None keeps the pictures' own.
    resize_method: ``ResizeMethod.CROP``, ``PAD``, ``SQUISH`` or ``NO``. mult: round the size to a multiple.
    padding_mode: ``reflection``, ``border`` or ``zeros``.
    mode: interpolation of the augmentation, ``bilinear``, ``bicubic`` or ``nearest``.
    scaled_decode: decode a JPEG far larger than ``size`` at 1/2, 1/4 or 1/8 (True), in training and prediction alike.
    num_workers: decoding threads; they never change the result. device: ``'cpu'``, ``'cuda'``, …
    dl_tfms: functions called on each batch ``(x, y)``. no_check: do not look whether all files exist.
    unreadable: ``'stop'`` (default: an error that names every bad picture before training starts) or
    ``'skip'`` (leave them out and say how many).
    pixel_cache: where decoded pictures are kept, so that each is decoded once: ``'disk'`` (default: a file of the
    cache folder that later runs find again; ``onecycle cache`` lists and clears), ``'memory'`` (of this run) or
    ``'off'`` (decoded for each batch). It never changes the result.
    """

    ds_tfms: TransformLists | None
    size: int | tuple[int, int] | None
    resize_method: ResizeMethod | str | None
    mult: int | None
    padding_mode: str
    mode: str
    scaled_decode: bool


class BunchOptions(CommonOptions, total=False):
    """``CommonOptions``, and ``test``: a folder (below ``path``) or a list of pictures without labels."""

    test: str | Path | Sequence[str | Path] | None


_OLD = {"sep": "label_delim", "tfms": "ds_tfms"}  # spellings of fastai before 1.0.47


def check_options(options: Mapping[str, object]) -> None:
    """Fail at once on a misspelt keyword."""
    check_keywords("ImageDataBunch", options, list(get_type_hints(BunchOptions)), _OLD)
