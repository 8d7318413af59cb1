"""What goes on when a request has been handled: the sending of a stream.

Whoever handles a request is in memory until they have returned: the middleware, the routing,
the request with its body, 20 KiB in all. A stream of minutes is therefore left to the
application itself, which sends it when all of them have returned and nothing of the request
is held any more. Nothing here knows what is sent.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

from fastapi import FastAPI

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

_log = logging.getLogger("chatkeep.access")

#: What a connection of ours is called among the extensions of a request.
LINE: Final = "chatkeep.line"
_PLACE: Final = "afterwards"


class Sending(Protocol):
    """The rest of an answer that has begun."""

    async def send_all(self, line: Line | None, receive: Receive, send: Send) -> None:
        """Send it; *line* tells that the client hangs up, and without one *receive* does."""

    async def close(self) -> None:
        """Let go of it, sent or not."""


class Line(Protocol):
    """The connection that a request came on, where the server is ours."""

    def begin(self, lost: Callable[[], None]) -> None:
        """Forget the request, and call *lost*, once, when the client hangs up or has done so."""

    def end(self) -> None:
        """Call nobody any more."""


class Record(Protocol):
    """What is told of a request when it has ended."""

    @property
    def request_id(self) -> str:
        """Whose record it is."""

    def write(self) -> None:
        """Tell it."""


class Afterwards:
    """What one request leaves to be done when everybody who handled it has returned."""

    __slots__ = ("_record", "sending")

    def __init__(self) -> None:
        """Nothing yet."""
        self.sending: Sending | None = None
        self._record: Record | None = None

    def note(self, record: Record) -> bool:
        """Write *record* when what was left has ended; return whether anything was."""
        if self.sending is None:
            return False
        self._record = record
        return True

    async def run(self, line: Line | None, receive: Receive, send: Send) -> None:
        """Do it."""
        sending = self.sending
        if sending is None:
            return
        try:
            await sending.send_all(line, receive, send)
        except Exception:
            _log.exception("request %s failed", self._record and self._record.request_id)
            raise  # too late for an answer: the server closes the connection
        finally:
            if self._record is not None:
                self._record.write()

    async def close(self) -> None:
        """Let go of it."""
        if self.sending is not None:
            await self.sending.close()


class Application(FastAPI):
    """FastAPI's, that sends a stream when its request has been handled."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or the application's start and end."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        left = scope.setdefault("state", {})[_PLACE] = Afterwards()
        try:
            await super().__call__(scope, receive, send)
        except BaseException:
            await left.close()
            raise
        if left.sending is not None:
            await left.run(_line_of(scope), receive, send)


def afterwards_of(scope: Scope) -> Afterwards | None:
    """Return where to leave what is to be done later; None where nobody would do it."""
    place: Afterwards | None = scope.get("state", {}).get(_PLACE)
    return place


def _line_of(scope: Scope) -> Line | None:
    line: Line | None = scope.get("extensions", {}).get(LINE)
    return line
