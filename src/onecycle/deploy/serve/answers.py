"""What the server says of a picture: its labels, each class's probability, and what would have been close."""

from __future__ import annotations

from typing import Any

import numpy as np

from onecycle.deploy.portable.predict import Model

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
