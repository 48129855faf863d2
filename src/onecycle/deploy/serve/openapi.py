"""The OpenAPI document of the server: what each address takes and gives."""

from __future__ import annotations

from typing import Any

import onecycle
from onecycle.deploy.portable.predict import Model
from onecycle.deploy.serve.answers import PLACES
from onecycle.deploy.serve.inference import INPUT, OUTPUTS
from onecycle.deploy.serve.limits import Limits

_PICTURE = {"type": "string", "format": "binary"}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_WHY = {
    401: "The token is missing, or another.",
    404: "There is nothing at this address.",
    408: "The request arrives too slowly.",
    413: "The request, a picture or their number is too large.",
    415: "This is no picture.",
    422: "The request or its picture cannot be read.",
    507: "The folder of corrected pictures is on a disk that is full.",
    503: "Too much is waiting, or the server is not ready; Retry-After says when to try again.",
}


def document(model: Model, limits: Limits, *, token: bool, collect: bool) -> dict[str, Any]:
    """Return the document.

    Args:
        model: that is served.
        limits: of a request.
        token: whether requests need one.
        collect: whether corrections are taken.
    """
    name = model.manifest["name"]
    paths = {
        "/predict": {"post": _predict(model, limits)},
        "/model": {"get": _get("What the model is, how good it is, and for which classes.", "Model")},
        "/v2/health/live": {"get": _get("Whether the process answers.")},
        "/v2/health/ready": {"get": _get("Whether the model answers.")},
        f"/v2/models/{name}": {"get": _get("Inputs and outputs, by the Open Inference Protocol.")},
        f"/v2/models/{name}/infer": {"post": _infer(limits)},
        "/metrics": {"get": {"summary": "Counters, as Prometheus reads them.", "responses": _responses("text/plain")}},
    }
    if collect:
        paths["/feedback"] = {"post": _feedback(model)}
    secured = {"bearer": {"type": "http", "scheme": "bearer"}} if token else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{name}, served by onecycle", "version": onecycle.__version__},
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR, "Prediction": _prediction(model), "Model": {"type": "object"}},
            "securitySchemes": secured,
        },
        "security": [{"bearer": []}] if token else [],
    }


def _prediction(model: Model) -> dict[str, Any]:
    label = {"type": "string", "enum": model.classes}
    share = {"type": "number", "minimum": 0, "maximum": 1}
    close = {"label": label, "probability": share, "limit": {"type": "number"}, "predicted": {"type": "boolean"}}
    answer = {
        "labels": {"type": "array", "items": label},
        "probabilities": {"type": "object", "additionalProperties": share},
        "close": {"type": "array", "items": {"type": "object", "properties": close}},
    }
    row = {"type": "array", "items": share, "minItems": PLACES, "maxItems": PLACES}
    more = {
        "unlike": {"type": "number", "minimum": 0, "description": "Above 1: unlike the training pictures."},
        "heatmap": {
            "type": "object",
            "properties": {
                "label": label,
                "covered": {
                    "type": "array",
                    "items": row,
                    "description": "Probability of the label with a patch of a quarter of each side on 7 × 7 places.",
                },
                "window": {
                    "type": "array",
                    "items": {"type": "number"},
                    "description": "Left, top, right and bottom of the part that the places lie on, as shares.",
                },
            },
        },
    }
    whole = {"type": "object", "required": list(answer), "properties": answer | more}
    return {"oneOf": [whole, _ERROR]}


def _predict(model: Model, limits: Limits) -> dict[str, Any]:
    form = {"type": "object", "properties": {"pictures": {"type": "array", "items": _PICTURE}}}
    predictions = {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}}
    answer = {"type": "object", "properties": {"model": {"type": "string"}, "predictions": predictions}}
    return {
        "summary": f"Labels and probabilities of one picture, or of up to {limits.request_pictures}, in their order.",
        "parameters": [
            {
                "name": "heatmap",
                "in": "query",
                "description": "Of one picture: say where this label comes from, by 49 more runs.",
                "schema": {"type": "string", "enum": model.classes},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "application/octet-stream": {"schema": _PICTURE},
                "image/jpeg": {"schema": _PICTURE},
                "image/png": {"schema": _PICTURE},
            },
        },
        "responses": _responses("application/json", answer, 408, 413, 415, 422, 503),
    }


def _infer(limits: Limits) -> dict[str, Any]:
    side = {"type": "integer", "minimum": 1}
    tensor = {
        "name": {"const": INPUT},
        "datatype": {"const": "UINT8"},
        "shape": {"type": "array", "items": side, "minItems": 4, "maxItems": 4},
        "data": {"type": "array", "description": "Numbers from 0 to 255, flat or nested."},
    }
    output = {"type": "object", "required": ["name"], "properties": {"name": {"enum": list(OUTPUTS)}}}
    one = {"type": "object", "required": list(tensor), "properties": tensor}
    asked = {
        "id": {"type": "string"},
        "inputs": {"type": "array", "items": one, "minItems": 1, "maxItems": 1},
        "outputs": {"type": "array", "items": output},
    }
    schema = {"type": "object", "required": ["inputs"], "properties": asked}
    return {
        "summary": f"Probabilities and labels of tensors, by the Open Inference Protocol; {limits.tensor_pixels:,} px.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": _responses("application/json", {"type": "object"}, 408, 413, 415, 422, 503),
    }


def _feedback(model: Model) -> dict[str, Any]:
    label = {"type": "string", "enum": model.classes}
    fields = {"picture": _PICTURE, "label": {"type": "array", "items": label}}
    schema = {"type": "object", "required": ["picture"], "properties": fields}
    return {
        "summary": "Keep a picture with the labels that a person says are right.",
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}},
        "responses": _responses("application/json", {"type": "object"}, 408, 413, 415, 422, 503, 507),
    }


def _get(summary: str, schema: str | None = None) -> dict[str, Any]:
    answer = {"type": "object"} if schema is None else {"$ref": f"#/components/schemas/{schema}"}
    return {"summary": summary, "responses": _responses("application/json", answer, 503)}


def _responses(kind: str, schema: dict[str, Any] | None = None, *failures: int) -> dict[str, Any]:
    good = {"description": "The answer.", "content": {kind: {"schema": schema or {"type": "string"}}}}
    bad = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"200": good} | {str(s): {"description": _WHY[s], "content": bad} for s in (401, *failures)}
