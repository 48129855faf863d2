"""The keywords that every way of making a bunch takes, and the check that none is misspelt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch

from onecycle.data.augment.augmenter import BatchAugmenter
from onecycle.data.augment.transforms import flatten
from onecycle.data.labels.pictures import Labeled, TransformLists
from onecycle.data.labels.splits import DEFAULT_SEED
from onecycle.data.pixels.resize import ResizeMethod
from onecycle.data.pixels.store import LOADING_THREADS, PixelStore
from onecycle.errors import ArgumentError, check_keywords


class CommonOptions(TypedDict, total=False):
    """The keywords that every factory of ``ImageDataBunch`` takes.

    bs: pictures in a training batch (64). val_bs: in a validation batch (as ``bs``).
    ds_tfms: what ``get_transforms()`` returns; None for no augmentation.
    size: px; a number crops by default, a (height, width) pair squishes; None keeps the pictures' own.
    resize_method: ``ResizeMethod.CROP``, ``PAD``, ``SQUISH`` or ``NO``. mult: round the size to a multiple.
    padding_mode: ``reflection``, ``border`` or ``zeros``. mode: interpolation of the augmentation.
    scaled_decode: decode a JPEG far larger than ``size`` at 1/2, 1/4 or 1/8 (True), in training and prediction alike.
    num_workers: decoding threads; they never change the result. device: ``'cpu'``, ``'cuda'``, …
    dl_tfms: functions called on each batch ``(x, y)``. no_check: do not look whether all files exist.
    unreadable: ``'stop'`` (default: an error that names every bad picture before training starts) or
    ``'skip'`` (leave them out and say how many).
    pixel_cache: where decoded pictures are kept, so that each is decoded once: ``'disk'`` (default: a file of the
    cache folder that later runs find again; ``onecycle cache`` lists and clears), ``'memory'`` (of this run) or
    ``'off'`` (decoded for each batch). It never changes the result.
    """

    bs: int
    val_bs: int | None
    ds_tfms: TransformLists | None
    size: int | tuple[int, int] | None
    resize_method: ResizeMethod | str | None
    mult: int | None
    padding_mode: str
    mode: str
    scaled_decode: bool
    num_workers: int | None
    device: str | torch.device | None
    dl_tfms: Sequence[Any] | None
    no_check: bool
    unreadable: str
    pixel_cache: str


class BunchOptions(CommonOptions, total=False):
    """``CommonOptions``, and ``test``: a folder (below ``path``) or a list of pictures without labels."""

    test: str | Path | Sequence[str | Path] | None


_OLD = {"sep": "label_delim", "tfms": "ds_tfms"}  # spellings of fastai before 1.0.47


def check_options(options: Mapping[str, object]) -> None:
    """Fail at once on a misspelt keyword."""
    check_keywords("ImageDataBunch", options, BunchOptions.__annotations__, _OLD)


@dataclass(frozen=True)
class Loading:
    """How batches are made: settings shared by all loaders of a bunch."""

    bs: int
    val_bs: int
    device: torch.device
    seed: int
    dl_tfms: tuple[Any, ...]
    train_augmenter: BatchAugmenter | None
    valid_augmenter: BatchAugmenter | None


def make_loading(
    lists: Labeled,
    *,
    bs: int,
    val_bs: int | None,
    device: str | torch.device | None,
    seed: int | None,
    dl_tfms: Sequence[Any] | None,
) -> Loading:
    """Turn the user's keywords into the settings of the loaders."""
    train, valid = lists.tfms or ((), ())
    return Loading(
        bs=bs,
        val_bs=val_bs or bs,
        device=default_device() if device is None else _checked_device(device),
        seed=DEFAULT_SEED if seed is None else seed,
        dl_tfms=tuple(dl_tfms or ()),
        train_augmenter=_augmenter(train, lists),
        valid_augmenter=_augmenter(valid, lists),
    )


def make_stores(lists: Labeled, *, num_workers: int | None, pixel_cache: str) -> tuple[PixelStore, PixelStore | None]:
    """Return the pixels of the labelled pictures, and those of the test pictures where there are any."""
    threads = LOADING_THREADS if num_workers is None else num_workers
    paths, test_paths = lists.pictures.paths, lists.test_paths
    store = PixelStore(paths, lists.resize, cache=pixel_cache, threads=threads)
    if test_paths is None:
        return store, None
    return store, PixelStore(test_paths, lists.resize, cache=pixel_cache, threads=threads)


def _augmenter(tfms: Sequence[Any], lists: Labeled) -> BatchAugmenter | None:
    """Return None where transforms only cut the window in the centre: that is the evaluation preprocess."""
    if all(t.name == "crop_pad" and t.param("row_pct") == t.param("col_pct") == 0.5 for t in flatten(tfms)):
        return None
    resize = lists.resize
    return BatchAugmenter(tfms, size=resize.size, padding_mode=resize.padding_mode, mode=lists.mode)


def _checked_device(device: str | torch.device) -> torch.device:
    chosen = torch.device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(f"device={str(device)!r} was asked for, but PyTorch sees no GPU here; leave device out")
    return chosen


def default_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
