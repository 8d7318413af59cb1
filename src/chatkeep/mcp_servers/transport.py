"""HTTP to an MCP server, by the rules that hold for everybody else we fetch from.

The `mcp` package speaks through httpx; here its requests are made by the client that can be
kept out of private networks at the moment of connecting. Nothing is taken from the
environment, no cookie is kept, and no redirect leaves the server's own origin.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import aiohttp
import httpx2
import msgspec
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR

from chatkeep.fetching import guarded_connector, require_fetchable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from mcp.client._transport import TransportStreams

    from chatkeep.config.mcp import McpServer

#: The most that one answer of a server may have; what a tool said is bounded again later.
ANSWER_AT_MOST: Final = 1024 * 1024
#: The header that says for whom a tool is called.
CALLER_HEADER: Final = "Chatkeep-Caller"
_CONNECT_TIMEOUT_S: Final = 10.0
#: A stream that ended is asked for again so late, however soon its server would have it.
_LEAST_PAUSE_S: Final = 1.0
_OF_THE_WIRE: Final = frozenset({b"content-length", b"content-encoding", b"transfer-encoding"})

#: What the requests of the present call say of the caller. The `mcp` package sends each
#: message in the context that it was made in.
statement_of_caller: ContextVar[str | None] = ContextVar("statement_of_caller", default=None)


@asynccontextmanager
async def http_transport(
    server: McpServer, *, public_only: bool, answers_within_s: float
) -> AsyncGenerator[TransportStreams, None]:
    """Lend what a client of *server* sends and receives through.

    Nobody waits for an answer longer than *answers_within_s*.

    Raises:
        ValueError: *public_only*, and its address is not https.
    """
    url = str(server.url)
    public_only = public_only and not server.private
    require_fetchable(url, public_only=public_only)
    headers = {} if server.token is None else {"Authorization": f"Bearer {server.token}"}
    session = aiohttp.ClientSession(
        connector=guarded_connector(public_only=public_only),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
    )
    async with (
        session,
        httpx2.AsyncClient(
            transport=_Transport(session, answers_within_s=answers_within_s),
            headers={"Accept-Encoding": "identity", **headers},
            event_hooks={"request": [_say_for_whom]},
            timeout=None,
            trust_env=False,
        ) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=ANSWER_AT_MOST) as pipes,
    ):
        yield pipes


async def _say_for_whom(request: httpx2.Request) -> None:
    statement = statement_of_caller.get()
    if statement is not None:
        request.headers[CALLER_HEADER] = statement


@dataclass(slots=True, kw_only=True)
class _Asked:
    """When a stream was asked for first, and last; *is_call*: an answer of ours is in it."""

    began: float
    is_call: bool
    last: float = -math.inf


class _Transport(httpx2.AsyncBaseTransport):
    """What httpx asks, asked by aiohttp.

    The `mcp` package ends the whole connection, everybody's, when one request fails. So a
    request that fails is answered here, with an error of that request alone.
    """

    def __init__(self, session: aiohttp.ClientSession, *, answers_within_s: float) -> None:
        """Ask through *session*; after *answers_within_s* nobody waits for an answer."""
        self._session = session
        self._answers_within_s = answers_within_s
        # By the task that asks: each asks for one stream, again and again.
        self._asked: WeakKeyDictionary[asyncio.Task[Any], _Asked] = WeakKeyDictionary()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Make one request; a stream is read by whoever asked."""
        await self._pause(request)
        assert isinstance(request.stream, httpx2.AsyncByteStream)  # noqa: S101 -- of an async client
        body = b"".join([piece async for piece in request.stream])
        try:
            response = await self._session.request(
                request.method,
                str(request.url),
                headers=list(request.headers.multi_items()),
                data=body or None,
                allow_redirects=False,
            )
            if response.content_type == "text/event-stream":
                return httpx2.Response(
                    response.status, headers=list(response.raw_headers), stream=_Stream(response)
                )
            async with response:
                return await _whole(response, body)
        except (aiohttp.ClientError, OSError) as error:
            return _failure(body, f"The server cannot be reached ({type(error).__name__}).")

    async def _pause(self, request: httpx2.Request) -> None:
        """Wait a moment before a stream is asked for again; the `mcp` package may wait for none.

        Raises:
            httpx2.ConnectError: nobody waits for the answer any more that would be in it.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- only tasks ask
        now = time.monotonic()
        asked = self._asked.setdefault(task, _Asked(began=now, is_call=request.method == "POST"))
        if request.method == "GET":
            if asked.is_call and now - asked.began > self._answers_within_s:
                raise httpx2.ConnectError("The server did not answer in time.")
            await asyncio.sleep(asked.last + _LEAST_PAUSE_S - now)
        asked.last = time.monotonic()


async def _whole(response: aiohttp.ClientResponse, asked: bytes) -> httpx2.Response:
    content = bytearray()
    async for piece in response.content.iter_any():
        content += piece
        if len(content) > ANSWER_AT_MOST:
            message = f"The server's answer has more than {ANSWER_AT_MOST} bytes."
            return _failure(asked, message, code=INTERNAL_ERROR)
    headers = [one for one in response.raw_headers if one[0].lower() not in _OF_THE_WIRE]
    return httpx2.Response(response.status, headers=headers, content=bytes(content))


def _failure(asked: bytes, message: str, *, code: int = CONNECTION_CLOSED) -> httpx2.Response:
    """Return an answer that says to whoever *asked* that there is none.

    Raises:
        httpx2.ConnectError: it was no request that could be answered.
    """
    try:
        identity = msgspec.json.decode(asked, type=_Request).id
    except msgspec.DecodeError as odd:
        raise httpx2.ConnectError(message) from odd
    error = {"code": code, "message": message}
    return httpx2.Response(200, json={"jsonrpc": "2.0", "id": identity, "error": error})


class _Request(msgspec.Struct):
    """A request of JSON-RPC, as far as its answer needs it."""

    id: int | str


class _Stream(httpx2.AsyncByteStream):
    """The body of a stream of events; the `mcp` package bounds each."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except (aiohttp.ClientError, OSError) as error:
            raise httpx2.ReadError(type(error).__name__) from error

    async def aclose(self) -> None:
        """Let go of the connection."""
        self._response.close()
