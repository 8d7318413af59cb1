"""A server killed in the middle of a refresh: nobody is thrown out, and no session is doubled."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp
import psycopg
import pytest

from tests.free_ports import free_port
from tests.patience import PATIENCE_S
from tests.signing_in import DEVICE, SECRET, open_test_issuer, sign_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.db import Database
    from chatkeep.issuance import EmbeddedIssuer
    from tests.postgres_servers import MigratedDatabase

#: `make races` sets a thousand.
RUNS = int(os.environ.get("RACES", "50"))


@pytest.fixture
async def issuer(db: Database) -> AsyncIterator[EmbeddedIssuer]:
    """Another node on the same database, which outlives the dying ones."""
    opened = await open_test_issuer(db)
    yield opened
    opened.close()


@pytest.fixture
async def nursery(database: MigratedDatabase) -> AsyncIterator[asyncio.subprocess.Process]:
    """What starts servers, one a line."""
    environ = {
        **os.environ,
        "DATABASE_URL": database.url,
        "CHATKEEP_SECRET": SECRET,
        "RATE_LIMITS": "off",
        "DATABASE_POOL_SIZE": "2",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.dying_server"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environ,
    )
    yield process
    process.terminate()
    await process.wait()


async def started(nursery: asyncio.subprocess.Process, how: str) -> tuple[int, str]:
    """Start one more server; return its process id and address when it is ready."""
    port = free_port()
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(f"{port} {how}\n".encode())
    pid = int(await nursery.stdout.readline())
    address = f"http://127.0.0.1:{port}"
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as http:
        while not await is_ready(http, address):  # noqa: ASYNC110 -- another process has no event of ours
            await asyncio.sleep(0.02)
    return pid, address


async def is_ready(http: aiohttp.ClientSession, address: str) -> bool:
    """Whether a server answers there."""
    try:
        async with http.get(f"{address}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def refreshed(address: str, refresh_token: str) -> str | None:
    """Return the successor of a token, None when the server died over it."""
    body = {"refresh_token": refresh_token}
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{address}/auth/token/refresh", json=body) as answer,
        ):
            found = await answer.json()
            assert answer.status == 200, found
            return str(found["refresh_token"])
    except aiohttp.ClientError:
        return None


@pytest.mark.timeout(RUNS * 6)
async def test_server_killed_between_mark_and_issue_throws_nobody_out(
    issuer: EmbeddedIssuer, nursery: asyncio.subprocess.Process, database: MigratedDatabase
) -> None:
    """C13: afterwards the old token, or the one that was given, goes on in the one session."""
    chance = random.Random(13)
    lost = 0
    for run in range(RUNS):
        grant = await sign_up(issuer)
        how = "between" if run % 2 else "outside"
        pid, address = await started(nursery, how)
        waiting = asyncio.create_task(refreshed(address, grant.refresh_token))
        if how == "outside":
            await asyncio.sleep(chance.uniform(0, 0.02))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        given = await waiting
        lost += given is None
        assert how == "outside" or given is None
        first = await issuer.refresh(given or grant.refresh_token, DEVICE)
        second = await issuer.refresh(first.refresh_token, DEVICE)
        assert first.session_id == second.session_id == grant.session_id
        if how == "between":
            # What was marked used is given again: the very successor, not another one.
            assert (first.counter, first.again) == (2, True)
        assert live_sessions(database, str(grant.user.id)) == 1
    assert lost >= RUNS // 2


def live_sessions(database: MigratedDatabase, user_id: str) -> int:
    """Count a person's sessions that have not ended."""
    with psycopg.connect(database.admin_url) as connection:
        found = connection.execute(
            "select count(*) from public.user_sessions where user_id = %s and is_active", [user_id]
        ).fetchone()
    assert found is not None
    return int(found[0])
