"""What an open stream holds, and that it ends with its reader, whatever the connection did."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import Route

from chatkeep.web.afterwards import Application
from chatkeep.web.connections import GuardedProtocol
from chatkeep.web.sse import EventStream
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from tests.serving import Node, Person, Stage

ROUTE = "/api/chat"
WATCH = "/api/sessions/watch"


def submit(text: str = "Hi") -> dict[str, Any]:
    """Return the body of a question in a conversation of its own."""
    return {
        "id": str(uuid4()),
        "message": {"role": "user", "parts": [{"type": "text", "text": text}]},
    }


def open_here(node: Node) -> int:
    """Return how many streams are counted as open."""
    return sum(node.services.limits._held.values())


def raw(person: Person, method: str, path: str, body: bytes = b"") -> bytes:
    """Return the bytes of a request of *person*."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in person.client.headers.items()]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


async def test_open_stream_holds_nothing_of_its_request(
    node: Node, ana: Person, stage: Stage
) -> None:
    """Two tasks, one that asks and one that sends; the request and its head are forgotten."""
    gate = asyncio.Event()
    stage.play(["Well", gate, "."])
    before = asyncio.all_tasks()
    async with ana.client.stream(ROUTE, submit()) as stream:
        await stream.until(lambda event: event.data.get("delta") == "Well")
        await until(lambda: len(asyncio.all_tasks() - before) == 2)
        gc.collect()
        assert not [one for one in gc.get_objects() if isinstance(one, Request)]
        sending = [one for one in gc.get_objects() if isinstance(one, GuardedProtocol) and one.line]
        assert [set(one.cycle.scope) for one in sending] == [{"type", "method"}]
        gate.set()
        await stream.rest()
    await until(lambda: open_here(node) == 0)


async def test_line_of_a_stream_is_written_when_it_has_ended(
    ana: Person, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, with its status, its person and the time of all of it."""
    caplog.set_level(logging.INFO, "chatkeep.access")
    gate = asyncio.Event()
    stage.play(["Well", gate, "."])

    def lines() -> list[logging.LogRecord]:
        return [one for one in caplog.records if getattr(one, "path", None) == ROUTE]

    async with ana.client.stream(ROUTE, submit()) as stream:
        await stream.until(lambda event: event.data.get("delta") == "Well")
        assert not lines()
        gate.set()
        await stream.rest()
    await until(lambda: len(lines()) == 1)
    [line] = [one.__dict__ for one in lines()]
    me = (await ana.client.get("/auth/me")).json["id"]
    assert (line["status"], line["method"], line["user_id"]) == (200, "POST", me)
    assert line["request_id"] == stream.headers["x-request-id"]


@pytest.mark.parametrize("padding", [0, 200_000], ids=["short", "longer than is read ahead"])
async def test_stream_ends_with_the_connection(
    node: Node, ana: Person, stage: Stage, padding: int
) -> None:
    """Also when the question was so long that the connection was not read for a while."""
    gate = asyncio.Event()
    stage.play(["Well", gate, "."])
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    try:
        writer.write(raw(ana, "POST", ROUTE, json.dumps(submit()).encode() + b" " * padding))
        await reader.readuntil(b"Well")
        assert open_here(node) == 1
    finally:
        writer.close()
        await writer.wait_closed()
    await until(lambda: open_here(node) == 0)
    gate.set()


async def test_stream_before_a_waiting_request_ends_with_the_connection(
    node: Node, ana: Person
) -> None:
    """What was sent behind it on the same connection waits, and neither outlives the client."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    asked = raw(ana, "GET", WATCH)
    try:
        writer.write(asked + asked)
        await reader.readuntil(b"\r\n\r\n")
        await until(lambda: open_here(node) == 1)
    finally:
        writer.transport.abort()
    await until(lambda: open_here(node) == 0)


async def test_stream_that_has_lived_its_life_is_cut(
    node: Node, ana: Person, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the next sign of life, on a connection of ours; the answer is made all the same."""
    monkeypatch.setattr("chatkeep.web.sse._LIFE_S", 0.0)
    stage.play(["Well."])
    asked = submit()
    async with ana.client.stream(ROUTE, asked) as stream:
        with pytest.raises(Exception, match="not completed"):
            await stream.rest()
    assert open_here(node) == 0

    async def is_kept() -> bool:
        history = await ana.client.get(f"/api/v1/chat/{asked['id']}")
        return "Well." in history.text

    await until(is_kept)


class Breaks:
    """A middleware that fails when the application has begun to answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, badly."""
        await self._app(scope, receive, send)
        raise ZeroDivisionError


async def test_what_is_left_by_a_request_that_fails_is_closed() -> None:
    """A stream that nobody will send lets go of what it reads."""
    closed = asyncio.Event()

    async def frames() -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: x\n\n"
        finally:
            closed.set()

    answering = frames()
    await anext(answering)  # one that has begun must be ended

    async def route(_: Request) -> EventStream:
        return EventStream(answering)

    app = Application(routes=[Route("/", route)], middleware=[Middleware(Breaks)])
    sent: list[Any] = []

    async def send(message: Any) -> None:  # noqa: ANN401 -- ASGI's
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    with pytest.raises(ZeroDivisionError):
        await app(scope, asyncio.Event().wait, send)  # type: ignore[arg-type] # nothing is received
    assert closed.is_set()
    assert [one["type"] for one in sent] == ["http.response.start"]
