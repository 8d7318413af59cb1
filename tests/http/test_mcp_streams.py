"""Streams of an MCP server that ends them at once, and wants them asked for again at once."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web
from mcp import Client, MCPError

from chatkeep.config import Settings
from chatkeep.mcp_servers.transport import http_transport
from tests.patience import PATIENCE_S
from tests.serving import serving, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: What begins the names of the events of a call's stream, and of the other's.
CALL, OTHER = "call", "other"
_EVENTS: Final = {"Content-Type": "text/event-stream"}


@dataclass(slots=True)
class Hostile:
    """A server that says nothing, and notes when it was asked for which stream again."""

    address: str = ""
    asked: list[tuple[str, float]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Shake hands; end every stream with the wish that it be asked for at once."""
        if request.method == "GET":
            stream = request.headers.get("Last-Event-ID", OTHER)
            self.asked.append((stream, time.monotonic()))
            return self._ended(stream)
        if request.method == "DELETE":
            return web.Response(status=204)
        message: dict[str, Any] = await request.json()
        if "id" not in message:
            return web.Response(status=202)
        said: dict[str, Any] = {"error": {"code": -32601, "message": "No."}}
        match message["method"]:
            case "tools/call":
                return self._ended(CALL)
            case "initialize":
                told = {"name": "hostile", "version": "1"}
                kept = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": told}
                said = {"result": kept}
        answer = {"jsonrpc": "2.0", "id": message["id"], **said}
        return web.json_response(answer, headers={"Mcp-Session-Id": "s"})

    def times(self, stream: str) -> list[float]:
        """Return when one stream was asked for again."""
        return [moment for name, moment in self.asked if name == stream]

    def connected(self, *, answers_within_s: float) -> Client:
        """Return a client of it."""
        environ = {"MCP_SERVERS": "shop", "MCP_SHOP_URL": f"{self.address}/mcp"}
        (server,) = Settings.from_env(environ).mcp_servers
        transport = http_transport(server, public_only=False, answers_within_s=answers_within_s)
        return Client(transport, cache=None)

    def _ended(self, stream: str) -> web.Response:
        return web.Response(text=f"retry: 0\nid: {stream}\ndata: \n\n", headers=_EVENTS)


@pytest.fixture
async def hostile() -> AsyncIterator[Hostile]:
    """Such a server."""
    made = Hostile()
    async with serving(web.route("*", "/mcp", made.answer)) as made.address:
        yield made


async def test_stream_is_not_asked_for_without_a_pause(hostile: Hostile) -> None:
    """It was, seven hundred times in a second."""
    async with hostile.connected(answers_within_s=PATIENCE_S):
        await until(lambda: len(hostile.times(OTHER)) >= 4)
    first, *_, last = hostile.times(OTHER)[:4]
    assert last - first > 1.5  # of three seconds


async def test_call_that_nobody_waits_for_is_not_asked_for_again(hostile: Hostile) -> None:
    """It was for as long as the connection held, in one loop for each call."""
    async with hostile.connected(answers_within_s=1.5) as client:
        with pytest.raises(MCPError, match="attempts were exhausted"):
            await client.call_tool("stock", {}, read_timeout_seconds=PATIENCE_S)
        asked = hostile.times(CALL)
        assert 1 <= len(asked) <= 3
        others = len(hostile.times(OTHER))
        await until(lambda: len(hostile.times(OTHER)) >= others + 3)
        assert hostile.times(CALL) == asked
