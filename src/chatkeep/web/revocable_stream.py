"""Streamed files that break off when the credential of whoever asked is revoked.

An export is read from the database while it is sent, for as long as its reader takes: without
this, a log-out would not stop it. A file that breaks off must not look whole, so its connection
is closed instead of the response being ended.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.responses import StreamingResponse

from chatkeep.errors import TokenRevoked

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from chatkeep.principal import Principal
    from chatkeep.web.services import Services


class RevocableStream(StreamingResponse):
    """A streamed response to somebody who is signed in, for as long as they are."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, or the part until the caller's credential ends.

        Raises:
            TokenRevoked: it has ended before anything was sent.
        """
        who: Principal = scope["state"]["principal"]
        services: Services = scope["app"].state.services
        ending, revocations = _Ending(), services.embedded.revocations
        if revocations.knows(who):
            raise TokenRevoked
        try:
            revocations.watch(who, ending.end)
            await super().__call__(scope, receive, send)
        except asyncio.CancelledError:
            # Somebody else's cancellation goes before our reason.
            if not ending.is_ours():
                raise
        finally:
            revocations.unwatch(ending.end)


class _Ending:
    """Ends the task that made it, once, and knows whether somebody else did so too."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- ASGI is called by tasks
        self._task: asyncio.Task[Any] = task
        self._cancelling = task.cancelling()
        self._has_ended = False

    def end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._task.cancel()

    def is_ours(self) -> bool:
        return self._has_ended and self._task.uncancel() <= self._cancelling
