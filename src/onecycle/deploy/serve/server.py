"""The process: a socket, a loop, connections that end in time, and an end that lets requests finish."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from onecycle.deploy.serve.limits import Limits
from onecycle.errors import ArgumentError


def serve(app: Starlette, listening: socket.socket, limits: Limits) -> None:
    """Serve until SIGINT or SIGTERM, then answer what was asked already, and return."""
    config = uvicorn.Config(
        app,
        http=_protocol(limits),
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.connections,
        h11_max_incomplete_event_size=limits.header_bytes,
        timeout_keep_alive=int(limits.header_seconds),
        timeout_graceful_shutdown=int(limits.drain_seconds),
    )
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # its warnings are of what strangers send
    _Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ArgumentError: the port is taken or not allowed, or the machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ArgumentError(
            f"cannot listen at port {port} of {host} ({getattr(error, 'strerror', None) or error}); choose another "
            "with --port, or 0 for any that is free"
        ) from error


class _Server(uvicorn.Server):
    """Ends with its work done and no signal of its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the two signals that end a server; uvicorn's would raise them anew, and the process would not exit 0."""
        before = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


def _protocol(limits: Limits) -> type[H11Protocol]:
    """Return the protocol of a connection, which ends one whose headers do not arrive in time."""

    class Timed(H11Protocol):
        late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.late = self.loop.call_later(limits.header_seconds, transport.close)

        def handle_events(self) -> None:
            before = self.cycle
            super().handle_events()
            if self.cycle is not before:
                self._in_time()

        def data_received(self, data: bytes) -> None:
            idle = self.cycle is not None and self.cycle.response_complete and self.late is None
            if idle:  # the first bytes of a connection's next request
                self.late = self.loop.call_later(limits.header_seconds, self.transport.close)
            super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            self._in_time()
            super().connection_lost(exc)

        def _in_time(self) -> None:
            if self.late is not None:
                self.late.cancel()
                self.late = None

    return Timed
