"""What the server says of a picture: labels, probabilities, what would have been close; where a label comes from.

The heat map is made by occlusion: a patch with a side of a quarter of what the network sees, in the mean colour of the
picture, is laid on 7 × 7 places that overlap by half. That holds for any network, and shows what its answer depends on;
it takes 49 runs.

Source: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks" (occlusion).
"""

from __future__ import annotations

import asyncio
import io
from typing import Any

import numpy as np
import PIL.Image

from onecycle.deploy.portable.predict import ON_ITS_SIDE, Model, orientation_of
from onecycle.deploy.serve.batching import Batcher
from onecycle.deploy.serve.pictures import formats

CLOSE = 0.1
"""How far from its threshold a tag's probability is still close, or another class's from that of the predicted one."""


def answer(model: Model, probs: np.ndarray, label: Any, unlike: float) -> dict[str, Any]:
    """Return what is said of one picture.

    Args:
        model: that answered.
        probs: float32 (C,), calibrated where the model is.
        label: a class index, or tags bool (C,).
        unlike: how far it is from the training pictures; NaN: not measured.
    """
    return model.answer(probs, label, unlike) | {"close": _close(model, probs, label)}


def _close(model: Model, probs: np.ndarray, label: Any) -> list[dict[str, Any]]:
    """Return the classes about which the decision might have gone the other way, the closest first."""
    predicted = np.asarray(label, bool) if model.is_multi else np.arange(len(probs)) == int(label)
    limits = _limits(model, probs, predicted)
    distance = np.abs(probs - limits)
    candidates = np.flatnonzero((distance <= CLOSE) & (model.is_multi | ~predicted))
    return [
        {
            "label": model.classes[i],
            "probability": float(probs[i]),
            "limit": float(limits[i]),
            "predicted": bool(predicted[i]),
        }
        for i in candidates[np.argsort(distance[candidates], kind="stable")]
    ]


def _limits(model: Model, probs: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return what each class's probability is held against: the predicted class's, or its threshold.

    Where sets of tags decide no tag has one; then it is the middle between what is predicted and what is not.
    """
    if not model.is_multi:
        return np.full(len(probs), float(probs[predicted][0]))
    if model.manifest.get("limits") is not None:
        return np.array(model.manifest["limits"], float)
    if predicted.all() or not predicted.any():
        return np.full(len(probs), 0.5)
    return np.full(len(probs), (float(probs[predicted].min()) + float(probs[~predicted].max())) / 2)


# --- where a label comes from -------------------------------------------------------------------------

PLACES = 7
"""Of a patch, along each side; it covers two of eight equal strips."""


def covered(pixels: np.ndarray, row: int) -> list[np.ndarray]:
    """Return copies of a picture, uint8 (H, W, 3), each with one of the patches of a row of places."""
    down, across = (np.linspace(0, side, PLACES + 2).round().astype(int) for side in pixels.shape[:2])
    copies = []
    for column in range(PLACES):
        copies.append(copy := pixels.copy())
        copy[down[row] : down[row + 2], across[column] : across[column + 2]] = pixels.mean((0, 1)).round()
    return copies


async def heat_map(batcher: Batcher, model: Model, pixels: np.ndarray, label: str) -> list[list[float]]:
    """Return the probability of a label with the patch on each place, 7 rows of 7.

    A row runs at a time, so that pictures of others are answered between two rows; the caller admits ``PLACES``.

    Args:
        batcher: that runs the model.
        model: whose label it is.
        pixels: uint8 (H, W, 3), as the network takes it.
        label: one of the model's.
    """
    at = model.classes.index(label)
    found = []
    for row in range(PLACES):
        answers = await asyncio.gather(*(batcher.run(copy) for copy in covered(pixels, row)))
        found.append([float(probs[at]) for probs, *_ in answers])
    return found


def window(model: Model, data: bytes) -> list[float]:
    """Return which part of an upright picture the network sees: left, top, right and bottom as shares of its sides.

    Where pictures are padded to the network's shape, these are below 0 or above 1.
    """
    size, method = model.preprocess["size"], model.preprocess["method"]
    if not size or method == "SQUISH":
        return [0.0, 0.0, 1.0, 1.0]
    with PIL.Image.open(io.BytesIO(data), formats=formats()) as picture:
        shape = picture.size if orientation_of(picture) in ON_ITS_SIDE else picture.size[::-1]
    ratios = [s / n for s, n in zip(size, shape, strict=True)]
    scale = max(ratios) if method == "CROP" else min(ratios)
    height, width = (ratio / scale for ratio in ratios)
    return [0.5 - width / 2, 0.5 - height / 2, 0.5 + width / 2, 0.5 + height / 2]
