"""Whether somebody answers at an address, for checks of how a server is set up.

What runs with a server fetches by `chatkeep.fetching`, which is told what it may reach.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_TIMEOUT_S: Final = 5.0
_MOST_BYTES: Final = 1 << 16


async def status_at(url: str, headers: Mapping[str, str] | None = None) -> int | None:
    """Return the status of the answer to a GET; None when nobody answers within 5 s."""
    try:
        async with _asking(url, headers) as answer:
            return answer.status
    except (aiohttp.ClientError, TimeoutError):
        return None


async def body_at(url: str) -> bytes | None:
    """Return what is there; None when nobody answers, with another status or over 64 KiB."""
    try:
        async with _asking(url) as answer:
            if answer.status != HTTPStatus.OK:
                return None
            body = b""
            # A read gives what has come, which need not be all.
            while len(body) <= _MOST_BYTES and (piece := await answer.content.readany()):
                body += piece
            return body if len(body) <= _MOST_BYTES else None
    except (aiohttp.ClientError, TimeoutError):
        return None


@asynccontextmanager
async def _asking(
    url: str, headers: Mapping[str, str] | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as client,
        client.get(url, headers=headers, allow_redirects=False) as answer,
    ):
        yield answer
