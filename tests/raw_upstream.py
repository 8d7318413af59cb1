"""A provider that answers by hand, byte for byte: for everything a real one never shows.

The server runs in the test's own loop, so nothing has to be waited for by the clock.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Answer = Callable[["Wire"], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client sent: *headers* by lower-case name, *body* parsed if it is JSON."""

    line: str
    headers: dict[str, str]
    body: Any


@dataclass(slots=True, kw_only=True)
class Wire:
    """One request and the connection to answer it on."""

    request: Request
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    connection: int
    number: int

    async def begin(
        self, status: int = 200, content_type: str = "text/event-stream", **headers: str
    ) -> None:
        """Send the head of a chunked response; underscores in *headers* become dashes."""
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw("\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode())

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def send(self, data: bytes) -> None:
        """Send a piece of a chunked body."""
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, value: object) -> None:
        """Send a chunk of a chat completion."""
        await self.send(b"data: " + json.dumps(value).encode() + b"\n\n")

    async def say(self, text: str) -> None:
        """Send a chunk that adds *text*."""
        await self.event(delta(content=text))

    async def finish(self, reason: str = "stop") -> None:
        """Send the reason to stop, `[DONE]` and the end of the body."""
        await self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        await self.send(b"data: [DONE]\n\n")
        await self.end()

    async def end(self) -> None:
        """End the body."""
        await self.raw(b"0\r\n\r\n")

    async def answer(self, status: int, body: object, **headers: str) -> None:
        """Send a whole JSON response."""
        await self.begin(status, "application/json", **headers)
        await self.send(json.dumps(body).encode())
        await self.end()

    async def hung_up(self, *, within_s: float | None = PATIENCE_S) -> None:
        """Wait until the client closes the connection; whatever it sends is not looked at.

        A close while something of ours was on its way arrives as a reset, which is an end too.
        """
        async with asyncio.timeout(within_s):
            try:
                while await self.reader.read(1 << 16):
                    pass
            except ConnectionError:
                return


def delta(**members: object) -> dict[str, Any]:
    """Return a chunk whose delta has these members."""
    return {
        "id": "gen-1",
        "model": "vendor/model",
        "choices": [{"index": 0, "delta": members, "finish_reason": None}],
    }


def provider_of(*models: str, **by_model: Answer) -> Answer:
    """Return a provider that lists *models*; each says its own name, but for *by_model*."""

    async def answer(wire: Wire) -> None:
        if wire.request.line.startswith("GET"):
            await wire.answer(200, {"data": [{"id": one} for one in models]})
            return
        model = wire.request.body["model"]
        if model in by_model:
            await by_model[model](wire)
            return
        await wire.begin()
        await wire.say(model)
        await wire.finish()

    return answer


def failing(status: int, message: str = "no", **headers: str) -> Answer:
    """Return an answer of one error."""

    async def answer(wire: Wire) -> None:
        await wire.answer(status, {"error": {"message": message}}, **headers)

    return answer


@dataclass(slots=True)
class RawUpstream:
    """A server whose answers the test writes."""

    base_url: str
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    problems: list[BaseException] = field(default_factory=list)

    @property
    def asked(self) -> list[str]:
        """The models that answers were asked of, in that order."""
        return [one.body["model"] for one in self.requests if one.line.startswith("POST")]


@asynccontextmanager
async def raw_upstream(answer: Answer, port: int = 0) -> AsyncIterator[RawUpstream]:
    """Serve *answer* on *port*, by default a free one.

    What goes wrong inside *answer* fails the test at the end.
    """
    upstream = RawUpstream("")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream.connections += 1
        connection = upstream.connections
        try:
            while (request := await _read_request(reader)) is not None:
                upstream.requests.append(request)
                number = len(upstream.requests)
                wire = Wire(
                    request=request,
                    reader=reader,
                    writer=writer,
                    connection=connection,
                    number=number,
                )
                await answer(wire)
        except ConnectionError:
            pass  # the client hung up, which it may
        except Exception as error:  # noqa: BLE001 -- handed to the test below
            upstream.problems.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    upstream.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield upstream
    finally:
        server.close()
    assert not upstream.problems


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    line, *fields = head.rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
    try:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except asyncio.IncompleteReadError:
        return None
    return Request(line=line, headers=headers, body=json.loads(body) if body else None)
