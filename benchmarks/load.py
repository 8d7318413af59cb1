"""A load generator that costs little: keep-alive HTTP/1.1 over bare asyncio protocols."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEAD_END = b"\r\n\r\n"
_FINE = b"HTTP/1.1 200"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one round of load saw."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Requests answered a second."""
        return self.requests / self.seconds


def request_bytes(url: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Return the bytes of a request to *url*; a body makes it a POST."""
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", f"host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join(lines).encode() + _HEAD_END + body


class _Connection(asyncio.Protocol):
    """One connection: send, wait for the whole answer, send again, until the time is up."""

    def __init__(self, request: bytes, until: float, taken: list[float]) -> None:
        self._request = request
        self._until = until
        self._taken = taken
        self._buffer = b""
        self._usual = 0
        self._sent = 0.0
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a TCP one
        self._send()

    def data_received(self, data: bytes) -> None:
        # As long as the one before, it is whole: looking closer takes as long as the server.
        if len(data) == self._usual and not self._buffer and data.startswith(_FINE):
            self._taken.append(time.perf_counter() - self._sent)
            self._send()
            return
        self._buffer += data
        head, separator, body = self._buffer.partition(_HEAD_END)
        if not separator or len(body) < _length(head):
            return
        self._usual = len(self._buffer)
        if not head.startswith(_FINE):
            self.ended.set_exception(RuntimeError(head.decode("latin-1")))
            self._transport.close()
            return
        self._taken.append(time.perf_counter() - self._sent)
        self._send()

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _send(self) -> None:
        self._buffer = b""
        self._sent = time.perf_counter()
        if self._sent >= self._until:
            self._transport.close()
            return
        self._transport.write(self._request)


class KeptAlive(asyncio.Protocol):
    """One connection that asks when it is told to, and something else each time."""

    @classmethod
    async def open(cls, port: int) -> KeptAlive:
        """Connect to *port* of this machine."""
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(cls, "127.0.0.1", port)
        return protocol

    async def ask(self, request: bytes) -> float:
        """Send *request*; return the seconds until its answer, a 200, was there whole."""
        self._buffer = b""
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        self._transport.write(request)
        await self._answered
        return time.perf_counter() - began

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready to ask."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a TCP one

    def data_received(self, data: bytes) -> None:
        """Wait for the whole answer."""
        self._buffer += data
        head, separator, body = self._buffer.partition(_HEAD_END)
        if not separator or len(body) < _length(head):
            return
        if head.startswith(b"HTTP/1.1 200"):
            self._answered.set_result(None)
        else:
            self._answered.set_exception(RuntimeError(f"{head!r} {body!r}"))


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line[15:])
    raise RuntimeError("an answer without a length")


async def load(base: str, request: bytes, *, clients: int, seconds: float) -> Measured:
    """Send *request* over *clients* connections for *seconds*; every answer must be a 200."""
    parts = urlsplit(base)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    taken: list[float] = []
    began = time.perf_counter()
    made = [
        await asyncio.get_running_loop().create_connection(
            lambda: _Connection(request, began + seconds, taken), host, port
        )
        for _ in range(clients)
    ]
    await asyncio.gather(*(protocol.ended for _, protocol in made))
    took = time.perf_counter() - began
    ordered = sorted(taken)
    return Measured(
        requests=len(ordered),
        seconds=took,
        p50_ms=ordered[len(ordered) // 2] * 1000,
        p99_ms=ordered[int(len(ordered) * 0.99)] * 1000,
    )
