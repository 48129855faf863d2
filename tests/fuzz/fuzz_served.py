"""Requests of strangers to ``onecycle serve``: bodies, forms, types, headers, and tensors as JSON."""

from __future__ import annotations

import base64
import json
import os
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from attack import Target
from fuzz_models import bundle, write_bundle
from fuzz_pictures import drawn as drawn_picture
from fuzz_tables import picture
from mutate import TEXTS, changed_bytes, changed_value, json_bytes
from scratch import fresh

from onecycle.deploy.portable.predict import Model
from onecycle.deploy.serve.app import make_app
from onecycle.deploy.serve.limits import Limits

PATHS = (
    *("/", "/predict", "/feedback", "/model", "/openapi.json", "/metrics", "/v2/models/toy", "/v2/models/toy/infer"),
    *(
        "/v2/models/x/infer",
        "/v2/health/ready",
        "/v2/health/live",
        "/../x",
        "/%00",
        "/predict?heatmap=a",
        "/predict?heatmap=%ff",
    ),
)
TENSOR: dict[str, Any] = {
    "id": "1",
    "inputs": [{"name": "pictures", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [0, 128, 255] * 4}],
    "outputs": [{"name": "probabilities"}],
}
KINDS = (
    "image/jpeg",
    "application/octet-stream",
    "",
    "text/html",
    "application/json",
    "multipart/form-data",
    "image/\x7f",
)


@cache
def client(process: int) -> Any:
    """Return what asks the server in this process; whatever it does not answer is raised."""
    from starlette.testclient import TestClient

    folder = write_bundle(fresh("served"), bundle())
    made = make_app(Model(folder, threads=1), limits=Limits(), collect=folder / "kept", hosts=None)
    opened = TestClient(made, base_url="http://127.0.0.1:8000")
    opened.__enter__()
    return opened


def stop() -> None:
    """End the server of this process, if one runs."""
    if client.cache_info().currsize:
        client(os.getpid()).__exit__(None, None, None)
        client.cache_clear()


def drawn(random: Random) -> dict[str, Any]:
    """Return a request."""
    path, headers = random.choice(PATHS), {}
    match random.randrange(6):
        case 0 | 1:
            path, kind, body = "/predict", random.choice(KINDS), random.choice((drawn_picture(random), picture()))
        case 2 | 3:
            path, boundary = random.choice(("/predict", "/feedback")), random.choice(("x", "", "-" * 80, "a b"))
            pieces = []
            for _ in range(random.randint(0, 4)):
                name = random.choice(("file", "label", "heatmap", *TEXTS[:20])).encode("utf-8", "replace")
                held = random.choice((picture(), b"a", b"b", drawn_picture(random), b""))
                said = b'; filename="p.jpg"' if len(held) > 3 else random.choice((b"", b'; filename=""'))
                pieces.append(b'Content-Disposition: form-data; name="' + name + b'"' + said + b"\r\n\r\n" + held)
            line = b"--" + boundary.encode()
            body = b"".join(line + b"\r\n" + piece + b"\r\n" for piece in pieces) + line + b"--\r\n"
            kind = f"multipart/form-data; boundary={boundary}"
            body = changed_bytes(random, body) if random.random() < 0.4 else body
        case 4:
            path, kind = "/v2/models/toy/infer", "application/json"
            body = json_bytes(random, changed_value(random, TENSOR))
        case _:
            kind, body = random.choice(KINDS), random.choice((b"", b"x", base64.b64encode(picture())))
    if random.random() < 0.2:
        name = random.choice(
            ("host", "origin", "authorization", "accept", "content-length", "expect", "inference-header-content-length")
        )
        headers[name] = random.choice(("x", "0", "-1", "9" * 30, "127.0.0.1:8000", "Bearer x", "é", "http://evil"))
    headers = {"content-type": kind, **headers}
    method = random.choice(("POST", "POST", "POST", "POST", "GET", "PUT", "HEAD", "OPTIONS"))
    return {
        "method": method,
        "url": path,
        "content": body,
        "headers": {k: v.encode("latin-1", "replace") for k, v in headers.items()},
    }


def ask(case: dict[str, Any]) -> None:
    """Send a request; there is an answer, and none of a defect."""
    answer = client(os.getpid()).request(**case)
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    if answer.content and answer.headers.get("content-type", "").startswith("application/json"):
        json.loads(answer.content)
    assert str(Path.cwd()) not in answer.text


TARGETS = (Target("requests to serve", drawn, ask, (), examples=30),)
