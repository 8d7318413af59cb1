"""Server-sent events: a response that ends its generator when the reader goes away.

A plain `StreamingResponse` leaves its generator open after a disconnect (seen on
Starlette 1.10); this one closes it, sends no further byte to a reader that has stopped
reading for `_STALL_S`, never lets a reader keep a stream longer than `_LIFE_S`, and ends it
when the reader is signed out meanwhile.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from starlette.responses import Response

from chatkeep.metrics import Gauge
from chatkeep.patience import Patience

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping

    from starlette.types import Receive, Scope, Send

    from chatkeep.web.services import Services

# Our own connections end sooner (`web.connections`); this is for other servers.
_STALL_S = 120.0
_FAREWELL_S = 5.0
_LIFE_S = 3600.0
_OPEN = Gauge("chatkeep_open_streams", "Answers that somebody is reading from this process now.")
HEARTBEAT = b": keep-alive\n\n"
_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",
}


class EventStream(Response):
    """Send what *frames* yields, each a whole SSE block.

    *farewell* is what ends the stream of somebody who was signed out meanwhile.
    """

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        headers: Mapping[str, str] | None = None,
        *,
        farewell: bytes = b"",
    ) -> None:
        """Prepare; nothing is read from *frames* before the answer begins."""
        self.frames = frames
        self._farewell = farewell
        super().__init__(status_code=200, headers={**_HEADERS, **(headers or {})})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the end, the reader's disconnect or sign-out, or a stall.

        Raises:
            RateLimited: before anything is sent, when the reader has too many open.
        """
        async with aclosing(self.frames):  # also when it is refused
            with _one_of_theirs(scope):
                _OPEN.add()
                try:
                    await self._stream(scope, receive, send)
                finally:
                    _OPEN.add(by=-1)

    def record(self, frames: AsyncGenerator[bytes, None]) -> None:
        """Send *frames* instead, which yields the same and notes it."""
        self.frames = frames

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with _signed_out(scope) as signed_out:
            pump = asyncio.ensure_future(self._pump(send))
            gone = asyncio.ensure_future(_disconnected(receive))
            ended = asyncio.ensure_future(signed_out.wait())
            tasks = (pump, gone, ended)
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        if pump.cancelled() and not ended.cancelled():
            with suppress(TimeoutError):  # a reader who takes nothing hears no farewell either
                async with asyncio.timeout(_FAREWELL_S):
                    await send({"type": "http.response.body", "body": self._farewell})
        if not pump.cancelled() and (error := pump.exception()) is not None:
            raise error

    async def _pump(self, send: Send) -> None:
        patience, now = Patience(), asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(_LIFE_S), aclosing(self.frames) as frames:
                async for frame in frames:
                    with patience.until(now() + _STALL_S):
                        await send({"type": "http.response.body", "body": frame, "more_body": True})
        finally:
            patience.end()
        await send({"type": "http.response.body", "body": b""})


def _one_of_theirs(scope: Scope) -> AbstractContextManager[None]:
    """Count the stream among those that its reader has open; of nobody, it is not counted."""
    who = scope.get("state", {}).get("principal")
    if who is None:
        return nullcontext()
    services: Services = scope["app"].state.services
    return services.limits.hold("streams", who.user_id)


@contextmanager
def _signed_out(scope: Scope) -> Iterator[asyncio.Event]:
    """Lend an event that is set when the caller is signed out; of nobody, it never is."""
    who = scope.get("state", {}).get("principal")
    if who is None:
        yield asyncio.Event()
        return
    services: Services = scope["app"].state.services
    with services.embedded.revocations.watch(who) as event:
        yield event


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
