"""Server-sent events: a response that ends its generator when the reader goes away.

A plain `StreamingResponse` leaves its generator open after a disconnect (seen on
Starlette 1.10); this one closes it, sends no further byte to a reader that has stopped
reading for `_STALL_S`, never lets a reader keep a stream longer than `_LIFE_S`, and ends it
when the reader is signed out meanwhile.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from starlette.responses import Response

from chatkeep.metrics import Gauge
from chatkeep.web.afterwards import afterwards_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from starlette.types import Receive, Scope, Send

    from chatkeep.principal import Principal
    from chatkeep.web.afterwards import Line
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
        """Begin; the rest is sent when whoever handled the request has returned.

        It ends with the frames, with the reader's disconnect or sign-out, or with a stall.

        Raises:
            RateLimited: before anything is sent, when the reader has too many open.
        """
        sending = _Sending(self.frames, self._farewell)
        try:
            sending.take_place(scope)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        except BaseException:
            await sending.close()
            raise
        left = afterwards_of(scope)
        if left is None:
            await sending.send_all(None, receive, send)
        else:
            left.sending = sending

    def record(self, frames: AsyncGenerator[bytes, None]) -> None:
        """Send *frames* instead, which yields the same and notes it."""
        self.frames = frames


class _Sending:
    """One stream while it is sent, by the task of its request."""

    __slots__ = (
        *(
            "_ends_at",
            "_farewell",
            "_frames",
            "_is_counted",
            "_loop",
            "_services",
            "_since",
            "_task",
        ),
        *("_timer", "_who", "_why"),
    )

    def __init__(self, frames: AsyncGenerator[bytes, None], farewell: bytes) -> None:
        self._frames = frames
        self._farewell = farewell
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + _LIFE_S
        self._is_counted = False
        self._who: Principal | None = None
        self._services: Services | None = None
        self._task: asyncio.Task[Any] | None = None
        self._why: Literal["gone", "late", "signed out"] | None = None
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def take_place(self, scope: Scope) -> None:
        """Count the stream among those its reader has open; of nobody, it is not counted."""
        self._who = scope.get("state", {}).get("principal")
        if self._who is not None:
            self._services = scope["app"].state.services
            self._services.limits.enter("streams", self._who.user_id)
            self._is_counted = True

    async def send_all(self, line: Line | None, receive: Receive, send: Send) -> None:
        """Send until the end, or until there is a reason to send no more."""
        hearing = self._begin_to_hear(line, receive)
        _OPEN.add()
        try:
            await self._send_frames(send)
        finally:
            _OPEN.add(by=-1)
            if hearing is not None:
                hearing.cancel()
            if line is not None:
                line.end()
            await self.close()
        if self._why is None:
            await send({"type": "http.response.body", "body": b""})
        elif self._why == "late":
            raise TimeoutError
        elif self._why == "signed out":
            with suppress(TimeoutError):  # a reader who takes nothing hears no farewell either
                async with asyncio.timeout(_FAREWELL_S):
                    await send({"type": "http.response.body", "body": self._farewell})

    async def close(self) -> None:
        """Let go of everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._who is not None and self._services is not None:
            self._services.embedded.revocations.unwatch(self._signed_out)
            if self._is_counted:
                self._is_counted = False
                self._services.limits.leave("streams", self._who.user_id)
        await self._frames.aclose()

    def _begin_to_hear(self, line: Line | None, receive: Receive) -> asyncio.Future[None] | None:
        """Be told when the reader is signed out, hangs up, or takes too long."""
        if self._who is not None and self._services is not None:
            self._services.embedded.revocations.watch(self._who, self._signed_out)
        if line is not None:
            line.begin(self._gone)
            return None
        self._look()
        hearing = asyncio.ensure_future(_disconnected(receive))
        hearing.add_done_callback(self._gone)
        return hearing

    async def _send_frames(self, send: Send) -> None:
        if self._is_over():
            return
        self._task = task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- ASGI is called by tasks
        cancelling = task.cancelling()
        try:
            async for frame in self._frames:
                self._since = now = self._loop.time()
                if now >= self._ends_at and not self._is_over():
                    self._why = "late"
                    break
                await send({"type": "http.response.body", "body": frame, "more_body": True})
                self._since = None
        except asyncio.CancelledError:
            # Somebody else's cancellation goes before our reasons.
            if not self._is_over() or task.uncancel() > cancelling:
                raise
        finally:
            self._task = None

    def _is_over(self) -> bool:
        return self._why is not None

    def _end(self, why: Literal["gone", "late", "signed out"]) -> None:
        if self._why is None:
            self._why = why
            if self._task is not None:
                self._task.cancel()

    def _gone(self, _hearing: object = None) -> None:
        self._end("gone")

    def _signed_out(self) -> None:
        self._end("signed out")

    def _look(self) -> None:
        """One timer for the life of the stream, and for what a reader may take for a frame.

        Without one of our own connections only: those end sooner when nothing is taken, and a
        sign of life, after which the clock is looked at, comes every few seconds.
        """
        now, stalls_at = self._loop.time(), float("inf")
        if self._since is not None:
            stalls_at = self._since + _STALL_S
        if now >= min(self._ends_at, stalls_at):
            self._end("late")
            return
        self._timer = self._loop.call_at(min(self._ends_at, stalls_at, now + _STALL_S), self._look)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
