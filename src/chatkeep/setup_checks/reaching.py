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
    """Return at most 64 KiB of what is there; None when nobody answers, or with another status."""
    try:
        async with _asking(url) as answer:
            if answer.status != HTTPStatus.OK:
                return None
            return await answer.content.read(_MOST_BYTES)
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
