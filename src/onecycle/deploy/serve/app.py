"""The routes of the server: pictures in, answers out, and what machines ask about a model."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from onecycle.deploy.pages import page_text
from onecycle.deploy.portable.predict import Model
from onecycle.deploy.serve.answers import PLACES, answer, heat_map, window
from onecycle.deploy.serve.batching import Batcher
from onecycle.deploy.serve.collect import Collection
from onecycle.deploy.serve.guard import Guard, Hosts, error
from onecycle.deploy.serve.inference import BINARY, answered, asked_in, metadata
from onecycle.deploy.serve.limits import Limits, Refused, Room
from onecycle.deploy.serve.metrics import Metrics
from onecycle.deploy.serve.openapi import document
from onecycle.deploy.serve.pictures import decoded, formats, sent_in
from onecycle.errors import ArgumentError
from onecycle.files import plain_json


class Served:
    """A model, and what its routes share.

    Args:
        model: of an exported folder.
        limits: of a request.
        collection: of pictures with corrected labels; None: none is kept.
    """

    def __init__(self, model: Model, limits: Limits, collection: Collection | None = None) -> None:
        self.model, self.limits, self.metrics, self.collection = model, limits, Metrics(), collection
        self.ready, self.room, self._heat_maps = False, Room(limits.waiting_bytes), 0
        formats()
        self._decoders = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="decoder")
        self._batcher: Batcher | None = None

    @property
    def batcher(self) -> Batcher:
        """The queue before the network.

        Raises:
            Refused: 503, the server is starting or ending.
        """
        if self._batcher is None or not self.ready:
            raise Refused(503, "the server is not ready", {"Retry-After": "1"})
        return self._batcher

    @asynccontextmanager
    async def running(self, _: Starlette) -> AsyncIterator[None]:
        """Answer inside the block; the network runs once first, since its first run takes longest."""
        self._batcher = Batcher(self.model, self.limits.waiting_pictures, self.metrics.batches.add)
        self._batcher.start()
        height, width = self.model.preprocess["size"] or (64, 64)
        await self._batcher.run(np.zeros((height, width, 3), np.uint8))
        self.ready = True
        try:
            yield
        finally:
            self.ready = False
            await self._batcher.stop()
            self._decoders.shutdown(wait=False, cancel_futures=True)

    async def predict(self, request: Request) -> Response:
        """Answer ``POST /predict``."""
        sent, label = await sent_in(request, self.limits), request.query_params.get("heatmap")
        if label is not None and (label not in self.model.classes or len(sent.pictures) != 1):
            raise Refused(422, "a heat map is of one picture, and heatmap=LABEL names a label of the model")
        results = await self.results(sent.pictures)
        refusals = [r for r in results if isinstance(r, Refused)]
        if len(refusals) == len(results):
            raise refusals[0]
        shown: list[dict[str, Any]] = [{"error": r.why} if isinstance(r, Refused) else r for r in results]
        if label is not None:
            shown[0]["heatmap"] = await self._heat_map(sent.pictures[0], label)
        return JSONResponse({"model": self.model.manifest["name"], "predictions": shown})

    async def results(self, pictures: tuple[bytes, ...]) -> list[dict[str, Any] | Refused]:
        """Return the answer to each picture, or why it has none.

        Raises:
            Refused: 503, too many wait.
        """
        batcher, n = self.batcher, len(pictures)
        batcher.admit(n)
        try:
            return list(await asyncio.gather(*(self._result(batcher, data) for data in pictures)))
        finally:
            batcher.leave(n)

    async def _result(self, batcher: Batcher, data: bytes) -> dict[str, Any] | Refused:
        try:
            pixels = await self._decoded(data)
        except Refused as refused:
            self.metrics.pictures["refused"] += 1
            return refused
        probs, label, unlike = await batcher.run(pixels)
        result = answer(self.model, probs, label, float(unlike))
        self.metrics.pictures["answered"] += 1
        self.metrics.labels.update(result["labels"])
        return result

    async def _decoded(self, data: bytes) -> np.ndarray:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoders, decoded, self.model, data, self.limits)

    async def _heat_map(self, data: bytes, label: str) -> dict[str, Any]:
        """Return where in a picture a label comes from.

        Raises:
            Refused: 503 too many are computed, 413 a picture that the network takes as it is, and that is too large.
        """
        if self._heat_maps >= self.limits.heat_maps:
            raise Refused(503, "other heat maps are being computed; try again", {"Retry-After": "2"})
        batcher = self.batcher
        batcher.admit(PLACES)
        self._heat_maps += 1
        try:
            pixels = await self._decoded(data)
            if pixels.shape[0] * pixels.shape[1] > self.limits.tensor_pixels:
                raise Refused(413, f"a heat map is of a picture of {self.limits.tensor_pixels:,} pixels at most")
            found = await heat_map(batcher, self.model, pixels, label)
        finally:
            self._heat_maps -= 1
            batcher.leave(PLACES)
        loop = asyncio.get_running_loop()
        part = await loop.run_in_executor(self._decoders, window, self.model, data)
        return {"label": label, "covered": found, "window": part}

    async def feedback(self, request: Request) -> Response:
        """Answer ``POST /feedback``: a picture, and the labels that a person says are right."""
        if self.collection is None:
            raise HTTPException(404)
        sent = await sent_in(request, self.limits)
        if len(sent.pictures) != 1:
            raise Refused(422, "what is right is said of one picture at a time")
        (result,) = await self.results(sent.pictures)  # again: what the model says is not the client's to tell
        if isinstance(result, Refused):
            raise result
        right = sent.fields.get("label", [])
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._decoders, self.collection.keep, sent.pictures[0], result["labels"], right)
        return JSONResponse({"kept": True})

    async def infer(self, request: Request) -> Response:
        """Answer ``POST /v2/models/NAME/infer``."""
        self._check_name(request)
        if "inference-header-content-length" in request.headers:
            raise Refused(415, BINARY)
        loop = asyncio.get_running_loop()
        asked = await loop.run_in_executor(self._decoders, asked_in, await request.body(), self.limits)
        batcher, n = self.batcher, len(asked.pixels)
        batcher.admit(n)
        try:
            answers = await asyncio.gather(*(batcher.run(pixels) for pixels in asked.pixels))
        finally:
            batcher.leave(n)
        probs, labels, _ = (np.stack(values) for values in zip(*answers, strict=True))
        return JSONResponse(answered(self.model, asked, probs, labels))

    async def metadata(self, request: Request) -> Response:
        """Answer ``GET /v2/models/NAME``."""
        self._check_name(request)
        return JSONResponse(metadata(self.model))

    def _check_name(self, request: Request) -> None:
        if request.path_params["name"] != self.model.manifest["name"]:
            raise HTTPException(404)

    async def about(self, _: Request) -> Response:
        """Answer ``GET /model``: what the page shows beside its answers."""
        manifest = self.model.manifest
        kept = ("name", "made", "classes", "is_multi", "decisions", "scores", "class_quality", "unlike")
        limits = {name: getattr(self.limits, name) for name in ("request_bytes", "request_pictures")}
        more = {"limits": limits, "collects": self.collection is not None}
        return JSONResponse(plain_json({name: manifest.get(name) for name in kept} | more))

    async def live(self, _: Request) -> Response:
        """Answer ``GET /v2/health/live``."""
        return JSONResponse({"live": True})

    async def is_ready(self, _: Request) -> Response:
        """Answer ``GET /v2/health/ready``."""
        return JSONResponse({"ready": self.ready}, 200 if self.ready else 503)

    async def counted(self, _: Request) -> Response:
        """Answer ``GET /metrics``."""
        waiting = self._batcher.admitted if self._batcher else 0
        text = self.metrics.text({"waiting_pictures": waiting, "waiting_bytes": self.room.taken})
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


def make_app(
    model: Model,
    *,
    limits: Limits | None = None,
    collect: Path | None = None,
    hosts: Hosts | None = None,
    token: str | None = None,
) -> Starlette:
    """Return the application that serves a model.

    Args:
        model: of an exported folder.
        limits: of a request; default ``Limits()``.
        collect: folder for pictures with corrected labels; None: none is kept.
        hosts: names under which it may be addressed; default those of the machine itself.
        token: that a request needs; None: nothing.

    Raises:
        ArgumentError: a model of numbers, or one whose pictures a function of the user's read.
    """
    if model.is_regression:
        raise ArgumentError(f"{model.folder} gives numbers, and a server gives labels: use load_learner in Python")
    if model.read_by:
        raise ArgumentError(
            f"{model.folder} has its pictures read by {model.read_by}, which is in no file: see its card"
        )
    limits = limits or Limits()
    kept = None
    if collect is not None:
        kept = Collection(collect, model.classes, is_multi=model.is_multi, most=limits.collected_pictures)
    served = Served(model, limits, kept)
    described = document(model, served.limits, token=token is not None, collect=kept is not None)
    shown = page()
    routes = [
        Route("/", lambda _: HTMLResponse(shown.html, headers={"Content-Security-Policy": shown.policy})),
        Route("/predict", served.predict, methods=["POST"]),
        Route("/feedback", served.feedback, methods=["POST"]),
        Route("/model", served.about),
        Route("/openapi.json", lambda _: JSONResponse(described)),
        Route("/v2/models/{name}", served.metadata),
        Route("/v2/models/{name}/ready", served.is_ready),
        Route("/v2/models/{name}/infer", served.infer, methods=["POST"]),
        Route("/v2/health/live", served.live),
        Route("/v2/health/ready", served.is_ready),
        Route("/metrics", served.counted),
    ]
    app = Starlette(
        routes=routes, lifespan=served.running, exception_handlers={HTTPException: _http_error, 500: _defect}
    )
    paths = frozenset(route.path.replace("{name}", model.manifest["name"]) for route in routes)
    app.add_middleware(
        Guard, served.limits, served.metrics, served.room, hosts=hosts or Hosts(), token=token, routes=paths
    )
    return app


async def _http_error(_: Request, failed: Exception) -> Response:
    known = {404: "there is nothing at this address", 405: "this address does not answer that method"}
    status, headers = (failed.status_code, failed.headers) if isinstance(failed, HTTPException) else (500, None)
    return error(status, known.get(status, "the request cannot be answered"), dict(headers or {}))


async def _defect(_: Request, __: Exception) -> Response:
    return error(500, "the server has a defect here; its log says which")


@dataclass(frozen=True)
class Page:
    """What ``GET /`` answers: one file, whose own style and script are all that may run on it."""

    html: str
    policy: str  # the Content-Security-Policy that goes with it


def page() -> Page:
    """Return the page, which is the same for every model: it asks the server what that is."""
    text = page_text("onecycle.deploy.serve", "page.html")
    return Page(
        text,
        "default-src 'none'; img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; style-src {_hash(text, 'style')}; script-src {_hash(text, 'script')}",
    )


def _hash(text: str, element: str) -> str:
    """Return what allows the one element of this name that the page has."""
    (content,) = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
