"""The Open Inference Protocol: pictures as tensors of uint8, for clients that speak to any model server.

Source: https://github.com/open-inference/open-inference-protocol, the REST form of version 2.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from onecycle.deploy.portable.predict import Model
from onecycle.deploy.serve.limits import Limits, Refused

INPUT, OUTPUTS = "pictures", ("probabilities", "labels")
VERSION = "1"
BINARY = "tensors are read as JSON here, not in binary form: send their numbers as data"


def metadata(model: Model) -> dict[str, Any]:
    """Return what ``GET /v2/models/NAME`` says."""
    c = len(model.classes)
    labels = ("BOOL", [-1, c]) if model.is_multi else ("INT64", [-1])
    return {
        "name": model.manifest["name"],
        "versions": [VERSION],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
        "outputs": [
            {"name": OUTPUTS[0], "datatype": "FP32", "shape": [-1, c]},
            {"name": OUTPUTS[1], "datatype": labels[0], "shape": labels[1]},
        ],
    }


@dataclass(frozen=True)
class Asked:
    """What a request asks."""

    pixels: np.ndarray  # uint8 (N, H, W, 3), RGB
    id: str | None
    outputs: tuple[str, ...]


def asked_in(body: bytes, limits: Limits) -> Asked:
    """Read a request.

    Raises:
        Refused: 422, it is no such request; 415, its tensor is binary; 413, more pictures or pixels than are read.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(422, "the request is no JSON in UTF-8") from None
    try:
        (tensor,) = request["inputs"]
        if "binary_data_size" in (tensor.get("parameters") or {}):
            raise Refused(415, BINARY)
        outputs = tuple(output["name"] for output in request.get("outputs") or ()) or OUTPUTS
        name, kind, shape, data = (tensor[key] for key in ("name", "datatype", "shape", "data"))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Refused(422, "the request needs one input with name, datatype, shape and data") from None
    if (name, kind) != (INPUT, "UINT8"):
        raise Refused(422, f"the input is called {INPUT} and has datatype UINT8")
    if not all(isinstance(output, str) and output in OUTPUTS for output in outputs):
        raise Refused(422, f"the outputs are called {' and '.join(OUTPUTS)}")
    asked = request.get("id")
    return Asked(_pixels(shape, data, limits), asked if isinstance(asked, str) else None, outputs)


def _pixels(shape: Any, data: Any, limits: Limits) -> np.ndarray:
    sides = shape if isinstance(shape, list) and all(type(side) is int and side > 0 for side in shape) else []
    if len(sides) != 4 or sides[3] != 3:
        raise Refused(422, "the shape is [pictures, height, width, 3], each at least 1")
    if sides[0] > limits.request_pictures or sides[0] * sides[1] * sides[2] > limits.tensor_pixels:
        raise Refused(
            413, f"a request holds {limits.request_pictures} pictures and {limits.tensor_pixels:,} pixels at most"
        )
    try:
        values = np.array(data).reshape(sides)
    except (ValueError, OverflowError, RecursionError):
        raise Refused(422, "the data do not have that shape") from None
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise Refused(422, "the data are whole numbers from 0 to 255")
    return values.astype(np.uint8)


def answered(model: Model, asked: Asked, probs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return the answer to a request.

    Args:
        model: that answered.
        asked: the request, of N pictures.
        probs: float32 (N, C).
        labels: int64 (N,) class indices, or tags bool (N, C).
    """
    kinds = {OUTPUTS[0]: ("FP32", probs), OUTPUTS[1]: ("BOOL" if model.is_multi else "INT64", labels)}
    outputs = [
        {"name": name, "datatype": kind, "shape": list(values.shape), "data": values.ravel().tolist()}
        for name, (kind, values) in kinds.items()
        if name in asked.outputs
    ]
    named = {} if asked.id is None else {"id": asked.id}
    return {"model_name": model.manifest["name"], "model_version": VERSION, **named, "outputs": outputs}
