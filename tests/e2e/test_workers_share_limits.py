"""Worker processes that count together: as many guesses at an account as with one."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import aiohttp

from chatkeep.limits import RATES
from tests.redis_servers import needs_redis, running_redis
from tests.server_process import server_process

if TYPE_CHECKING:
    from pathlib import Path

RATE = RATES["account_password"]
GUESSES = 60
WORKERS = 3


@needs_redis
async def test_workers_admit_as_many_guesses_as_one_process(settled: Path) -> None:
    """Sixty at once, each on a connection of its own, so that every worker gets some.

    They may wait long for Redis: this is about what it counts, not about how quick it is.
    """
    options = ("--workers", str(WORKERS))
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    with running_redis() as redis:
        settings = {"REDIS_URL": redis.url, "REDIS_TIMEOUT": "5"}
        async with (
            server_process(settled / ".chatkeep", settings, options) as server,
            aiohttp.ClientSession(connector=connector) as http,
        ):
            url = f"{server.base}/auth/v1/token?grant_type=password"
            admitted = await guess_at(http, url, "ana@example.com")
    assert RATE.burst <= admitted <= RATE.burst + 1


async def guess_at(http: aiohttp.ClientSession, url: str, email: str) -> int:
    """Guess at an account many times at once; return how many guesses were answered."""

    async def guess(number: int) -> int:
        body = {"email": email, "password": f"guess-{number}"}
        async with http.post(url, json=body) as answer:
            assert answer.status != 429 or int(answer.headers["retry-after"]) > 0
            return answer.status

    found = Counter(await asyncio.gather(*(guess(number) for number in range(GUESSES))))
    assert set(found) <= {400, 429}
    return found[400]
