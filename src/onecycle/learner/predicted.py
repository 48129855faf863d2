"""Given files through a run's model, in batches, with its own preprocess; files that cannot be read are named."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from onecycle.data.batches import BatchLoader
from onecycle.data.datasets import ImageDataset
from onecycle.data.pixels.decode import UNREADABLE, decode_for, reason
from onecycle.data.pixels.resize import ResizeSpec
from onecycle.data.pixels.store import LOADING_THREADS, PixelStore, Unreadable
from onecycle.data.progress import counting_bar
from onecycle.errors import ArgumentError
from onecycle.learner.learner import Learner
from onecycle.learner.predictor import Thresh
from onecycle.train.evaluate import evaluate
from onecycle.train.losses import activation_for

AT_ONCE = 256
"""Pictures that are decoded and kept at a time: 40 MB at 224 px, whatever the number of files."""


@dataclass(frozen=True)
class FilePredictions:
    """What a model says about the files that could be read.

    Attributes:
        positions: int64 ``(N,)``, which of the given files these are.
        probs: float32 ``(N, C)``, the model's own probabilities.
        shown: float32 ``(N, C)``, those that are shown: calibrated where the model is.
        decided: int64 ``(N,)`` class indices, or 0/1 ``(N, C)`` for tags.
        failed: files that cannot be read; ``position`` is among the given ones.
    """

    positions: np.ndarray
    probs: np.ndarray
    shown: np.ndarray
    decided: np.ndarray
    failed: tuple[Unreadable, ...]


def predict_files(learn: Learner, paths: Sequence[str], *, thresh: Thresh | None = None) -> FilePredictions:
    """Predict files with the evaluation preprocess; nothing is kept on the disk.

    Args:
        learn: of a run.
        paths: of pictures.
        thresh: probability from which on a tag is given; None: the chosen thresholds, else 0.5.

    Raises:
        ArgumentError: ``thresh`` for a model that gives one class a picture.
    """
    if thresh is not None and not learn.data.is_multi:
        raise ArgumentError(
            "a threshold decides about tags; this model gives each picture one class, the most probable"
        )
    logits, positions, failed = [], [], list[Unreadable]()
    with counting_bar("predicting", len(paths)) as advance:
        for start in range(0, len(paths), AT_ONCE):
            part = paths[start : start + AT_ONCE]
            found, good, bad = _logits(learn, part)
            logits.append(found)
            positions.append(good + start)
            failed += [replace(one, position=one.position + start) for one in bad]
            advance(len(part))
    own = activation_for(learn.loss_func)(torch.cat(logits)) if logits else torch.zeros(0, learn.data.c)
    shown = learn.calibrated.probs(own) if len(own) else own
    return FilePredictions(
        np.concatenate(positions) if positions else np.zeros(0, dtype=np.int64),
        own.numpy(),
        shown.numpy(),
        _decided(learn, own, shown, thresh),
        tuple(failed),
    )


def _logits(learn: Learner, paths: Sequence[str]) -> tuple[torch.Tensor, np.ndarray, list[Unreadable]]:
    """Return logits ``(n, C)`` of the readable files, their positions ``(n,)``, and the others."""
    data = learn.data
    spec = data.lists.resize
    with ThreadPoolExecutor(LOADING_THREADS) as pool:
        decoded = list(pool.map(lambda path: _pixels(path, spec), paths))
    bad = [Unreadable(i, paths[i], found) for i, found in enumerate(decoded) if isinstance(found, str)]
    good = np.array([i for i, found in enumerate(decoded) if not isinstance(found, str)], dtype=np.int64)
    if not len(good):
        return torch.zeros(0, data.c), good, bad
    store = _Decoded(paths, [found for found in decoded if not isinstance(found, str)], spec)
    part = ImageDataset(store, np.arange(len(good)), None, data.classes, is_multi=data.is_multi)
    loader = BatchLoader(part, bs=data.batch_size).replace(stats=learn.norm_stats, device=data.device)
    return evaluate(learn.model, loader, learn.loss_func).logits, good, bad


def _pixels(path: str, spec: ResizeSpec) -> np.ndarray | str:
    """Return the pixels of a file as a pixel store keeps them, or why it cannot be read."""
    try:
        return decode_for(path, spec)
    except UNREADABLE as error:
        return reason(error)


class _Decoded(PixelStore):
    """Pictures that are decoded and resized already."""

    def __init__(self, paths: Sequence[str], pixels: Sequence[np.ndarray], spec: ResizeSpec) -> None:
        super().__init__(paths, spec, cache="off", threads=1)
        self._pixels = pixels

    def read(self, position: int) -> np.ndarray:
        """Return the resized pixels of one picture, uint8 ``(h, w, 3)``."""
        return self._pixels[position]


def _decided(learn: Learner, own: torch.Tensor, shown: torch.Tensor, thresh: Thresh | None) -> np.ndarray:
    if not learn.data.is_multi:
        return np.asarray(own.argmax(dim=1).numpy(), dtype=np.int64)
    if not len(own):
        return np.zeros(own.shape, dtype=np.int64)
    return learn.calibrated.tags(own, shown, thresh).astype(np.int64)
