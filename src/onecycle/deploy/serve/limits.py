"""What a request may cost: bytes, pixels, pictures and time; what goes beyond is refused with one sentence."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.types import Message, Receive

from onecycle.text import human_bytes


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a server."""

    request_bytes: int = 32_000_000
    request_pictures: int = 32
    picture_pixels: int = 50_000_000  # of one picture, as its file says
    tensor_pixels: int = 2_000_000  # of all pictures that come as numbers
    waiting_pictures: int = 256  # that were accepted and are not answered yet
    heat_maps: int = 2  # that are computed at one time: each is 49 runs
    waiting_bytes: int = 256_000_000  # of the bodies of all requests at one time
    collected_pictures: int = 10_000  # that feedback may leave in the folder for it
    connections: int = 512
    header_bytes: int = 32_768
    header_seconds: float = 10.0  # from the start of a connection, or of its next request, to the end of the headers
    body_seconds: float = 30.0  # for a body, beside what its bytes need at the lowest rate
    body_rate: float = 10_000.0  # bytes a second, the lowest
    drain_seconds: float = 10.0  # for requests that are being answered when the server is told to end


class Refused(Exception):
    """A request that gets no answer, and why.

    Args:
        status: of HTTP.
        why: one sentence, without anything about this machine.
        headers: that go with it.
    """

    def __init__(self, status: int, why: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(why)
        self.status, self.why, self.headers = status, why, headers or {}


class Disconnected(Exception):
    """The client left before its request was whole."""


class Room:
    """The bytes of all bodies that are being received or answered, bounded."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    def take(self, n: int) -> None:
        """Add bytes of a body.

        Raises:
            Refused: 503, there are too many.
        """
        if self.taken + n > self.most:
            raise Refused(503, "too many requests are being received; try again", {"Retry-After": "1"})
        self.taken += n


class Body:
    """The body of one request: received within the limits, and counted.

    Args:
        receive: of the server's interface.
        limits: of the server.
        room: shared by all requests.
        announced: its Content-Length, where there is one.
    """

    def __init__(self, receive: Receive, limits: Limits, room: Room, announced: int | None) -> None:
        self._receive, self._limits, self._room = receive, limits, room
        self._announced = announced
        self._ends = asyncio.get_running_loop().time() + limits.body_seconds
        self.received, self.whole = 0, False

    async def receive(self) -> Message:
        """Return the next message; in place of ``receive``.

        Raises:
            Refused: 413 too large, 408 too slow, 503 too many at one time.
            Disconnected: the client left.
        """
        if self.whole:
            return await self._receive()  # waits for the client to leave
        if self._announced is not None and self._announced > self._limits.request_bytes:
            raise self._too_large()
        message = await self._next()
        n = len(message.get("body", b""))
        if self.received + n > self._limits.request_bytes:
            raise self._too_large()
        self._room.take(n)
        self.received += n
        self.whole = not message.get("more_body", False)
        return message

    async def _next(self) -> Message:
        until = self._ends + self.received / self._limits.body_rate
        try:
            async with asyncio.timeout_at(until):
                message = await self._receive()
        except TimeoutError:
            raise Refused(408, "the request arrives too slowly") from None
        if message["type"] == "http.disconnect":
            raise Disconnected
        return message

    def _too_large(self) -> Refused:
        return Refused(413, f"the request is larger than {human_bytes(self._limits.request_bytes)}")

    def release(self) -> None:
        """Give back what was counted; once, when the request is answered."""
        self._room.taken -= self.received

    async def discard(self) -> None:
        """Read on for a short time without keeping anything, so that a client that still sends reads its answer."""
        left = 2 * self._limits.request_bytes
        try:
            async with asyncio.timeout(min(2.0, self._limits.body_seconds)):
                while not self.whole and left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    self.whole = not message.get("more_body", False)
        except TimeoutError:
            return
