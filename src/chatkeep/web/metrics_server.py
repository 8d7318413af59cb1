"""Where a monitoring system asks: an address of its own, apart from the people's.

Each process has one, because each counts for itself; whoever collects adds them up. It takes
`GET /metrics` and nothing else, and with a token only from whoever shows it.
"""

from __future__ import annotations

import hmac
import os
from typing import TYPE_CHECKING

from aiohttp import web

from chatkeep.errors import SetupError
from chatkeep.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AsyncExitStack


async def serve_metrics(
    stack: AsyncExitStack,
    collect: Callable[[], Awaitable[str]],
    *,
    host: str,
    port: int,
    token: str | None,
) -> None:
    """Answer with what *collect* returns until *stack* ends.

    Raises:
        SetupError: nobody can listen there.
    """

    async def answer(request: web.Request) -> web.Response:
        if token is not None and not _shows(request, token):
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        return web.Response(body=(await collect()).encode(), headers={"Content-Type": CONTENT_TYPE})

    application = web.Application()
    application.router.add_get("/metrics", answer)
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        # asyncio wraps the system's words in words of its own.
        why = os.strerror(error.errno) if error.errno else str(error)
        raise SetupError(
            f"METRICS_PORT: the metrics cannot be shown at {host}:{port}: {why}."
        ) from error


def _shows(request: web.Request, token: str) -> bool:
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    matches = hmac.compare_digest(shown.strip().encode("utf-8", "replace"), token.encode())
    return scheme.lower() == "bearer" and matches
