"""One connection to each MCP server: made again whenever it is lost, used by every caller.

A server that is away keeps nobody waiting: its tools are not offered then, and a call that
was asked for before fails with words that the model is told.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT, Implementation, TextContent

import chatkeep
from chatkeep import tokens
from chatkeep.ids import new_id
from chatkeep.mcp_servers.offering import TOOLS_AT_MOST, offered_tools
from chatkeep.mcp_servers.transport import http_transport, statement_of_caller
from chatkeep.tools import ToolFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    import mcp_types

    from chatkeep.config import Settings
    from chatkeep.config.mcp import McpServer
    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.principal import Principal
    from chatkeep.tools import ToolContext, Tools

_log = logging.getLogger(__name__)

CONNECT_WITHIN_S: Final = 15.0
#: How often a server is asked for its tools again; which also shows that it is there.
_LIST_EVERY_S: Final = 60.0
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_STATEMENT_LIFE_S: Final = 60
#: A statement of ours for somebody else; nobody, and we least of all, takes it for a token.
STATEMENT_TYPE: Final = "chatkeep-caller+jwt"
_SAID_AT_MOST: Final = 2000


@asynccontextmanager
async def connected(server: McpServer, *, public_only: bool) -> AsyncIterator[Client]:
    """Lend a client that has shaken hands with *server*.

    Raises:
        TimeoutError: it did not, within `CONNECT_WITHIN_S`.
        Exception: whatever else the `mcp` package raises.
    """
    transport = (
        stdio_client(_process(server))
        if server.command
        else http_transport(
            server,
            public_only=public_only,
            answers_within_s=max(server.timeout_s, CONNECT_WITHIN_S),
        )
    )
    info = Implementation(name="chatkeep", version=chatkeep.__version__)
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            client = await stack.enter_async_context(
                Client(transport, client_info=info, cache=None)
            )
        yield client


async def list_all(client: Client) -> list[mcp_types.Tool]:
    """Return the server's tools, page by page, as far as that is sensible."""
    found: list[mcp_types.Tool] = []
    cursor: str | None = None
    async with asyncio.timeout(CONNECT_WITHIN_S):
        while True:
            page = await client.list_tools(cursor=cursor)
            found.extend(page.tools)
            cursor = page.next_cursor
            if cursor is None or not page.tools or len(found) > TOOLS_AT_MOST * 10:
                return found


class McpConnection:
    """One server, and the present connection to it."""

    def __init__(
        self,
        server: McpServer,
        tools: Tools,
        *,
        public_only: bool,
        state: Callable[[Principal], str] | None = None,
    ) -> None:
        """Offer the tools of *server* in *tools*; *state* says for whom one is called."""
        self._server = server
        self._tools = tools
        self._public_only = public_only
        self._state = state
        self._client: Client | None = None
        self._doubtful = asyncio.Event()

    @property
    def is_there(self) -> bool:
        """Whether the server can be called now."""
        return self._client is not None

    async def run(self) -> None:
        """Be connected, again and again, until cancelled."""
        name, pause = self._server.name, _FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                await self._serve()
            except Exception as error:  # noqa: BLE001 -- whatever it was, the server is tried again
                _log.warning("the MCP server %s is away: %s", name, _kind(error))
            finally:
                self._client = None
                self._tools.withdraw(name)
            if time.monotonic() - began > _LONGEST_PAUSE_S:
                pause = _FIRST_PAUSE_S  # it was there for a while
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _serve(self) -> None:
        self._doubtful.clear()
        async with connected(self._server, public_only=self._public_only) as client:
            await self._offer(client)
            self._client = client
            _log.info("the MCP server %s is there", self._server.name)
            while True:
                await self._until_doubtful()
                await self._offer(client)

    async def _until_doubtful(self) -> None:
        """Wait until it is time to look, or a call has lost its answer, which others may not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LIST_EVERY_S):
                await self._doubtful.wait()
        self._doubtful.clear()

    async def _offer(self, client: Client) -> None:
        found = await list_all(client)
        offered = offered_tools(self._server, found, lambda name: partial(self.call, name))
        self._tools.put(self._server.name, offered)

    async def call(self, name: str, context: ToolContext, *, arguments: dict[str, Any]) -> object:
        """Call the server's tool *name* for the caller of *context*.

        Raises:
            ToolFailed: it has no answer, with words for the model.
        """
        client = self._client
        if client is None:
            raise ToolFailed("The server of this tool cannot be reached now.")
        said = statement_of_caller.set(self._state(context.who) if self._state else None)
        try:
            result = await client.call_tool(
                name, arguments, read_timeout_seconds=self._server.timeout_s
            )
        except MCPError as error:
            raise self._failed(error) from error
        except Exception as error:
            # What it answered is no answer of this protocol, or the connection ended.
            _log.warning("the tool %s of %s failed: %s", name, self._server.name, _kind(error))
            raise ToolFailed("The server of this tool gave no usable answer.") from error
        finally:
            statement_of_caller.reset(said)
        return _output(result)

    def _failed(self, error: MCPError) -> ToolFailed:
        if error.error.code == REQUEST_TIMEOUT:
            return ToolFailed("The tool took too long.")
        if error.error.code == CONNECTION_CLOSED:
            self._doubtful.set()
            return ToolFailed(
                "The connection to the server of this tool was lost before it answered;"
                " what was asked may have been done."
            )
        return ToolFailed(error.error.message[:_SAID_AT_MOST])


async def open_mcp_servers(
    stack: AsyncExitStack, settings: Settings, tools: Tools, issuer: EmbeddedIssuer
) -> Tools:
    """Begin to connect to the servers of *settings*; *stack* ends that. Waits for none.

    Returns *tools* and, as they come, those of the servers.
    """
    joined = tools.copy()
    running = []
    for server in settings.mcp_servers:
        state = (
            partial(_statement, issuer, str(server.url)) if server.caller == "statement" else None
        )
        one = McpConnection(server, joined, public_only=settings.production, state=state)
        running.append(asyncio.create_task(one.run()))
    stack.push_async_callback(_end, running)
    return joined


async def _end(running: Sequence[asyncio.Task[None]]) -> None:
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _statement(issuer: EmbeddedIssuer, audience: str, who: Principal) -> str:
    """Return our signed word, for *audience* alone and a minute, that *who* is asking."""
    now = int(time.time())
    claims: dict[str, object] = {
        "iss": issuer.issuer.rules.iss,
        "sub": who.user_id,
        "aud": audience,
        "iat": now,
        "exp": now + _STATEMENT_LIFE_S,
        "jti": new_id(),
    }
    return tokens.issue(claims, issuer.signing_keys.current, typ=STATEMENT_TYPE)


def _process(server: McpServer) -> StdioServerParameters:
    """Return the command, with nothing of our environment but what is harmless or named."""
    command, *arguments = server.command
    env = {name: os.environ[name] for name in server.env if name in os.environ}
    return StdioServerParameters(command=command, args=arguments, env=env)


def _output(result: mcp_types.CallToolResult) -> object:
    """Return what a tool said: its data where it has some, else its words.

    Raises:
        ToolFailed: it said that it failed.
    """
    words = "\n".join(
        part.text if isinstance(part, TextContent) else f"({part.type} left out)"
        for part in result.content
    )
    if result.is_error:
        raise ToolFailed(words[:_SAID_AT_MOST] or "The tool failed.")
    return words if result.structured_content is None else result.structured_content


def first_of(error: BaseException) -> BaseException:
    """Return *error*, or of several the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _kind(error: BaseException) -> str:
    """Name an error without its words, which may be a server's."""
    return type(first_of(error)).__name__
