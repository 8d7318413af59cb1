"""Readers of streams that cost little: they send one request, and count the marks that come."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.upstream import MARK, sent_at

if TYPE_CHECKING:
    from collections.abc import Sequence

_END = b"0\r\n\r\n"


@dataclass(slots=True)
class Heard:
    """What the readers of one round heard. Times in ms."""

    chunks: int = 0
    first_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    complete: int = 0


class Reader(asyncio.Protocol):
    """One stream: its request is sent at once, and read until its end."""

    def __init__(self, request: bytes, heard: Heard) -> None:
        """Read the answer to *request* into *heard*."""
        self._request = request
        self.heard = heard
        self._tail = b""
        self._first = False
        self._status = b""
        loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a TCP one
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count."""
        if not self._status:
            self._status = data.split(b"\r\n", 1)[0]
        if marks := data.count(MARK):
            self._note(data, marks)
        enough = len(data) >= len(_END)
        self._tail = data[-len(_END) :] if enough else (self._tail + data)[-len(_END) :]
        if self._tail == _END:
            self.heard.complete += 1
            self._transport.close()

    def _note(self, data: bytes, marks: int) -> None:
        heard = self.heard
        heard.chunks += marks
        if not self._first:
            self._first = True
            heard.first_ms.append((time.perf_counter() - self._sent) * 1000)
            if not self.begun.done():
                self.begun.set_result(None)
        if (age := sent_at(data, data.find(MARK))) is not None:
            heard.late_ms.append(age * 1000)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The end, or a refusal."""
        if b" 200 " not in self._status:
            self.ended.set_exception(RuntimeError(f"a stream was refused: {self._status!r}"))
        else:
            self.ended.set_result(None)
        if not self.begun.done():
            self.begun.set_result(None)

    def hang_up(self) -> None:
        """Read no further."""
        self._transport.close()


async def open_streams(
    port: int, requests: Sequence[bytes], heard: Heard, *, at_once: int, every_s: float = 0.0
) -> list[Reader]:
    """Open a stream for each of *requests*, so many *at_once*, until each has its first chunk.

    With *every_s* one begins after the other, so many seconds apart.
    """
    loop = asyncio.get_running_loop()
    places = asyncio.Semaphore(at_once)

    async def one(number: int, request: bytes) -> Reader:
        await asyncio.sleep(number * every_s)
        async with places:
            _, reader = await loop.create_connection(
                lambda: Reader(request, heard), "127.0.0.1", port
            )
            await reader.begun
            return reader

    return await asyncio.gather(*(one(*each) for each in enumerate(requests)))


async def read_all(port: int, requests: Sequence[bytes]) -> Heard:
    """Read all of *requests* side by side to their ends."""
    heard, began = Heard(), time.perf_counter()
    readers = await open_streams(port, requests, heard, at_once=len(requests))
    await asyncio.gather(*(reader.ended for reader in readers))
    heard.seconds = time.perf_counter() - began
    return heard
