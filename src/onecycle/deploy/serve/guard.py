"""What stands before every route: who may ask, from where, within which limits; and what every answer carries."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onecycle.deploy.serve.limits import Body, Disconnected, Limits, Refused, Room
from onecycle.deploy.serve.metrics import Metrics
from onecycle.errors import ArgumentError

OPEN = ("/", "/v2/health/live", "/v2/health/ready")
"""Answered without a token: the page, which is the same for every model, and what an orchestrator asks."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Hosts:
    """Names under which a server may be addressed.

    A stranger's name may point to this machine, too, and the browser of whoever opens their page then asks here.
    """

    names: frozenset[str] = LOOPBACK
    addresses: bool = False  # any IP address, which is nobody's to point anywhere

    @classmethod
    def of(cls, host: str, allowed: Sequence[str] = ()) -> Hosts:
        """Return those of a server that listens at ``host``; ``allowed`` are further names.

        Raises:
            ArgumentError: a name that is none.
        """
        for name in allowed:
            if name.split() != [name] or _name_of(name) != name.lower():
                raise ArgumentError(f"--allow-host is a name as tiles.example.org, without port or path; not {name!r}")
        open_to_all = host not in LOOPBACK
        own = {host.lower(), socket.gethostname().lower()} if open_to_all else set[str]()
        return cls(LOOPBACK | own | {name.lower() for name in allowed}, open_to_all)

    def allow(self, header: str) -> bool:
        """Tell whether a request with this Host header may ask."""
        name = _name_of(header)
        return name in self.names or (self.addresses and _is_address(name))

    def __str__(self) -> str:
        own = sorted(name for name in self.names - LOOPBACK if not _is_address(name))
        return ", ".join([*(["its IP addresses"] if self.addresses else []), *own, "localhost"])


class Guard:
    """Wraps the application: refuses what may not ask or costs too much, counts the rest.

    Args:
        app: that answers.
        limits: of a request.
        metrics: that count.
        room: for the bodies of all requests.
        hosts: under which the server may be addressed.
        token: that a request needs; None: nothing.
        routes: paths that are counted under their own names.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        metrics: Metrics,
        room: Room,
        *,
        hosts: Hosts,
        token: str | None,
        routes: frozenset[str],
    ) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics
        self._hosts, self._token, self._routes = hosts, token, routes
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, started, status = Headers(scope=scope), perf_counter(), 499  # 499: the client left
        body = Body(receive, self._limits, self._room, _length(headers))

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            self._check(scope, headers)
            await self._app(scope, body.receive, answered)
        except Refused as refused:
            await body.discard()
            await error(refused.status, refused.why, self._closing(refused, body))(scope, receive, answered)
        except Disconnected:
            pass
        finally:
            body.release()
            route = scope["path"] if scope["path"] in self._routes else "other"
            self._metrics.requests[route, status] += 1
            self._metrics.seconds.add(perf_counter() - started)

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Refuse what may not ask.

        Raises:
            Refused: 421 another host's name, 403 a page of another site, 401 no token or another.
        """
        host = headers.get("host", "")
        if not self._hosts.allow(host):
            raise Refused(421, "this server is not addressed by that name; --allow-host, where it is started, adds one")
        origin = headers.get("origin")
        if origin is not None and scope["method"] not in ("GET", "HEAD") and urlsplit(origin).netloc != host:
            raise Refused(403, "pages of other sites may not send requests here")
        if self._token is None or scope["path"] in OPEN:
            return
        kind, _, sent = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(sent.strip().encode(), self._token.encode()):
            why = "this server needs its token, as Authorization: Bearer TOKEN"
            raise Refused(401, why, {"WWW-Authenticate": "Bearer"})

    @staticmethod
    def _closing(refused: Refused, body: Body) -> dict[str, str]:
        """Return the headers of a refusal; a connection whose body was not read to its end is closed."""
        return refused.headers if body.whole else refused.headers | {"Connection": "close"}


def error(status: int, why: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return the answer to a request that failed."""
    return JSONResponse({"error": why}, status, headers)


def _name_of(host: str) -> str:
    """Return the name in a Host header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _length(headers: Headers) -> int | None:
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else None
