"""The routes of the server: pictures in, answers out, and what machines ask about a model."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from onecycle.deploy.portable.predict import Model
from onecycle.deploy.serve.answers import answer
from onecycle.deploy.serve.batching import Batcher
from onecycle.deploy.serve.guard import Guard, error
from onecycle.deploy.serve.limits import Limits, Refused
from onecycle.deploy.serve.metrics import Metrics
from onecycle.deploy.serve.pictures import decoded, formats, sent_in

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Served:
    """A model, and what its routes share.

    Args:
        model: of an exported folder.
        limits: of a request.
    """

    def __init__(self, model: Model, limits: Limits) -> None:
        self.model, self.limits, self.metrics = model, limits, Metrics()
        self.ready = False
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
        sent = await sent_in(request, self.limits)
        results = await self.results(sent.pictures)
        refusals = [r for r in results if isinstance(r, Refused)]
        if len(refusals) == len(results):
            raise refusals[0]
        shown = [{"error": r.why} if isinstance(r, Refused) else r for r in results]
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
        loop = asyncio.get_running_loop()
        try:
            pixels = await loop.run_in_executor(self._decoders, decoded, self.model, data, self.limits)
        except Refused as refused:
            self.metrics.pictures["refused"] += 1
            return refused
        result = answer(self.model, *await batcher.run(pixels))
        self.metrics.pictures["answered"] += 1
        self.metrics.labels.update(result["labels"])
        return result

    async def live(self, _: Request) -> Response:
        """Answer ``GET /v2/health/live``."""
        return JSONResponse({"live": True})

    async def is_ready(self, _: Request) -> Response:
        """Answer ``GET /v2/health/ready``."""
        return JSONResponse({"ready": self.ready}, 200 if self.ready else 503)

    async def counted(self, _: Request) -> Response:
        """Answer ``GET /metrics``."""
        waiting = self._batcher.admitted if self._batcher else 0
        text = self.metrics.text({"waiting_pictures": waiting})
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


def make_app(
    model: Model, *, limits: Limits | None = None, hosts: frozenset[str] = LOOPBACK, token: str | None = None
) -> Starlette:
    """Return the application that serves a model.

    Args:
        model: of an exported folder.
        limits: of a request; default ``Limits()``.
        hosts: names under which it may be addressed, since a stranger's may point to this machine, too; empty: any.
        token: that a request needs; None: nothing.
    """
    served = Served(model, limits or Limits())
    routes = [
        Route("/predict", served.predict, methods=["POST"]),
        Route("/v2/health/live", served.live),
        Route("/v2/health/ready", served.is_ready),
        Route("/metrics", served.counted),
    ]
    app = Starlette(
        routes=routes, lifespan=served.running, exception_handlers={HTTPException: _http_error, 500: _defect}
    )
    paths = frozenset(route.path for route in routes)
    app.add_middleware(Guard, served.limits, served.metrics, hosts=hosts, token=token, routes=paths)
    return app


async def _http_error(_: Request, failed: Exception) -> Response:
    known = {404: "there is nothing at this address", 405: "this address does not answer that method"}
    status, headers = (failed.status_code, failed.headers) if isinstance(failed, HTTPException) else (500, None)
    return error(status, known.get(status, "the request cannot be answered"), dict(headers or {}))


async def _defect(_: Request, __: Exception) -> Response:
    return error(500, "the server has a defect here; its log says which")
