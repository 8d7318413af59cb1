"""Connections to other servers, kept for the next request for as long as their server keeps them.

A server ends a connection on which nothing was asked for a while, those for uvicorn or Node
after five seconds. A request that is sent into the end is lost, and whether it may be sent again
nobody can tell from that (RFC 9112 section 9.3.1): a question to a model is paid for twice.
"""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import aiohttp

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace


#: How long a connection waits for its next request, in seconds: less than the five after which
#: uvicorn and Node hang up, by as much as either side may be late.
SHORT_S: Final = 3.5
#: The same where a new one costs a TLS handshake: those who serve the public wait for a minute.
LONG_S: Final = 15.0


class KeptConnections(aiohttp.TCPConnector):
    """Connects as aiohttp does, and asks the kernel before it takes a kept connection again.

    aiohttp goes by what the event loop has heard, and a loop with much to do hears late.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 -- as aiohttp has them
        """Take the options of `aiohttp.TCPConnector`."""
        super().__init__(**options)
        self._taken: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- as aiohttp has it
    ) -> Connection:
        """Return a connection for *req*: a kept one that has not ended, or a new one."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or protocol not in self._taken or not _has_news(connection):
                if protocol is not None:
                    self._taken.add(protocol)
                return connection
            connection.close()


def _has_news(connection: Connection) -> bool:
    """Whether there is something to read: its end, where nothing was asked."""
    transport = connection.transport
    if transport is None:
        return True
    number: int = transport.get_extra_info("socket").fileno()
    if sys.platform == "win32":  # it has no `poll`, and a `select` for any number
        return bool(select.select([number], [], [], 0)[0])
    waiting = select.poll()
    waiting.register(number, select.POLLIN)
    return bool(waiting.poll(0))
