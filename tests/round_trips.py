"""Counts how often a client of PostgreSQL waits for it, by listening on the wire.

A proxy in a thread of its own passes every byte on and counts the server's ReadyForQuery
messages: there is one for each Sync or simple query, however many statements went before it.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from tests.listeners import accept_no_more

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Iterator

_READY_FOR_QUERY = ord("Z")
_PREFIX = 5  # a type byte and four bytes of length, which counts itself


@dataclass(slots=True)
class RoundTrips:
    """How many a block took; read it after the block."""

    count: int = 0


class RoundTripCounter:
    """A proxy before the PostgreSQL at an address that leads to a socket; `url` leads to it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = parse_qs(parts.query)["host"][0] + "/.s.PGSQL.5432"
        self._login, self._database = parts.username, parts.path
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])
        self.total = 0
        self.url = ""

    @contextmanager
    def round_trips(self) -> Iterator[RoundTrips]:
        """Count those of the block; nothing else may talk to the database meanwhile."""
        trips, before = RoundTrips(), self.total
        yield trips
        trips.count = self.total - before

    def start(self) -> None:
        """Return when connections are taken."""
        self._thread.start()
        self._listening.wait()

    def stop(self) -> None:
        """End, with every connection."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = listener.sockets[0].getsockname()
        # What comes before the first message with a type byte would have to be told apart.
        plain = "sslmode=disable&gssencmode=disable"
        self.url = f"postgresql://{self._login}@{host}:{port}{self._database}?{plain}"
        self._listening.set()
        await self._end.wait()
        await accept_no_more(listener)
        listener.close()
        while open_ones := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in open_ones:
                task.cancel()
            await asyncio.gather(*open_ones, return_exceptions=True)

    async def _connected(self, client: StreamReader, to_client: StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(self._server)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(client, to_server))
                both.create_task(self._pass_on(from_server, to_client, counted=_Messages()))
        finally:
            to_client.close()
            to_server.close()

    async def _pass_on(
        self, source: StreamReader, target: StreamWriter, *, counted: _Messages | None = None
    ) -> None:
        with suppress(ConnectionError):
            while data := await source.read(1 << 16):
                if counted is not None:
                    # Before the client can go on, so that it never sees an old number.
                    self.total += counted.ready(data)
                target.write(data)
                await target.drain()
        target.close()


@dataclass(slots=True)
class _Messages:
    """Finds where each message begins in what a server sends."""

    rest: bytes = b""
    skip: int = 0
    connected: bool = False

    def ready(self, data: bytes) -> int:
        """Return how many ReadyForQuery begin in *data*, without the one after connecting."""
        found = 0
        self.rest += data
        while self.rest:
            if self.skip:
                passed = min(self.skip, len(self.rest))
                self.rest, self.skip = self.rest[passed:], self.skip - passed
                continue
            if len(self.rest) < _PREFIX:
                break
            if self.rest[0] == _READY_FOR_QUERY:
                found += self.connected
                self.connected = True
            self.skip = 1 + int.from_bytes(self.rest[1:_PREFIX], "big")
        return found
