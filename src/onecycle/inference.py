"""Predictions beyond one pass over a loader: given pictures, one tensor, and test-time views."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import IO

import numpy as np
import PIL.Image
import torch
from torch import nn

from onecycle.data.augment.augmenter import BatchAugmenter
from onecycle.data.augment.transforms import Transform
from onecycle.data.batches import BatchLoader
from onecycle.data.pixels.image import Image, open_image
from onecycle.errors import ArgumentError
from onecycle.train.loop import LossFunc, eval_mode, evaluate
from onecycle.train.losses import activation_for, per_item_loss

Picture = Image | str | os.PathLike[str] | IO[bytes] | bytes | np.ndarray | torch.Tensor | PIL.Image.Image
Activation = Callable[[torch.Tensor], torch.Tensor]


def as_image(item: Picture) -> Image:
    """Return an Image from a path, an open file, a file's bytes, a Pillow picture or pixels.

    Raises:
        ArgumentError: an array that is not uint8 ``(H, W, 3)``.
        DataError: a file that is not a picture.
    """
    if isinstance(item, Image):
        return item
    if isinstance(item, torch.Tensor):
        return Image(item)
    if isinstance(item, PIL.Image.Image):
        return Image.from_numpy(np.asarray(item.convert("RGB")))
    if not isinstance(item, np.ndarray) and (
        isinstance(item, (str, os.PathLike, bytes)) or hasattr(item, "read")
    ):
        return open_image(item)
    pixels = np.asarray(item)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ArgumentError(f"a picture's pixels are uint8 (H, W, 3); received {pixels.dtype} {pixels.shape}")
    return Image.from_numpy(pixels)


def logits_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run one batch ``(N, 3, H, W)`` through the model in evaluation mode; logits on the CPU."""
    with eval_mode(model), torch.inference_mode():
        logits: torch.Tensor = model(x).float().cpu()
    return logits.clone()


def mean_of_views(
    model: nn.Module,
    loader: BatchLoader,
    views: Sequence[Sequence[Transform]],
    *,
    loss_func: LossFunc,
    activ: Activation,
    mode: str,
) -> torch.Tensor:
    """Average the probabilities of several views of every picture.

    Args:
        model: logits out.
        loader: pictures in order, not augmented.
        views: the transforms of each view.
        loss_func: of the learner (evaluation computes it along the way).
        activ: turns logits into probabilities.
        mode: interpolation.

    Returns:
        float32 ``(N, C)``.
    """
    spec = loader.part.store.spec
    total = torch.zeros(())
    for number, tfms in enumerate(views):
        augmenter = BatchAugmenter(tfms, size=spec.size, padding_mode=spec.padding_mode, mode=mode)
        view = loader.replace(augmenter=augmenter)
        view.set_epoch(number)  # so that each view has draws of its own
        total = total + activ(evaluate(model, view, loss_func).logits)
    return total / len(views)


def loss_of_probs(loss_func: LossFunc, probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the loss ``(N,)`` of probabilities ``(N, C)`` by going back to logits that give them."""
    safe = probs.clamp(1e-7, 1 - 1e-7)
    middle = float(activation_for(loss_func)(torch.zeros(1, 3))[0, 0])
    if abs(middle - 1 / 2) < 1e-6:  # a sigmoid
        return per_item_loss(loss_func, torch.logit(safe), targets)
    if abs(middle - 1 / 3) < 1e-6:  # a softmax
        return per_item_loss(loss_func, safe.log(), targets)
    raise ArgumentError(
        "the loss of averaged predictions is known for cross-entropy and binary cross-entropy only; "
        "leave with_loss out"
    )
