"""A flood of made-up key ids, over several processes, hardly reaches the issuer."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import aiohttp
from aiohttp import web

from chatkeep.jwks import COOLDOWN_S
from tests import forge
from tests.server_process import server_process
from tests.serving import serving, token, until

if TYPE_CHECKING:
    from tests.e2e.conftest import Settle

WORKERS = 2
FLOOD = 400


class Project:
    """A Supabase project that counts how often its keys are fetched."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self.fetches = 0
        self.address = ""

    async def answer(self, _: web.Request) -> web.Response:
        """Publish the keys."""
        self.fetches += 1
        keys = forge.document(forge.jwk("ES256"))
        return web.Response(body=keys, content_type="application/json")


def children_of(pid: int) -> list[int]:
    """Return the processes that *pid* started and that serve."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {int(one): Path(f"/proc/{one}/cmdline").read_bytes() for one in listed}
    return [one for one, command in commands.items() if b"postgres" not in command]


def made_up(project: Project) -> str:
    """Return a token whose key id nobody ever published."""
    head = forge.header("ES256", kid=uuid4().hex)
    payload = forge.claims(
        iss=f"{project.address}/auth/v1", iat=int(time.time()), exp=int(time.time()) + 3600
    )
    return forge.forge(head, payload, algorithm="ES256")


async def flood(http: aiohttp.ClientSession, base: str, project: Project) -> set[int]:
    """Send tokens with made-up key ids, many at once; return the statuses seen."""

    async def one() -> int:
        headers = {"authorization": f"Bearer {made_up(project)}"}
        async with http.get(f"{base}/api/v1/chat", headers=headers) as answer:
            return answer.status

    return set(await asyncio.gather(*(one() for _ in range(FLOOD))))


async def test_flood_of_unknown_keys_costs_a_fetch_a_process_even_when_one_is_killed(
    tmp_path: Path, settle: Settle
) -> None:
    """Each process asks once, then not again within the cooldown; a new process once more."""
    project = Project()
    settle(tmp_path / "data")
    options = ("--workers", str(WORKERS))
    async with (
        serving(web.get("/auth/v1/.well-known/jwks.json", project.answer)) as project.address,
        server_process(
            tmp_path / "data",
            {"SUPABASE_PROJECT_URL": project.address, "RATE_LIMITS": "off"},
            options,
        ) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50)) as http,
    ):
        good = {"authorization": f"Bearer {token(project.address, 'ana', 'ES256')}"}
        began = time.monotonic()
        assert await flood(http, server.base, project) == {401}
        async with http.get(f"{server.base}/api/v1/chat", headers=good) as answer:
            assert answer.status == 200
        assert server.pid is not None
        killed = children_of(server.pid)[0]
        os.kill(killed, signal.SIGKILL)
        await until(lambda: len(set(children_of(server.pid or 0)) - {killed}) >= WORKERS)
        await flood_again(http, server.base, project)
        passed = time.monotonic() - began
    # Each process: the first set, and one question about unknown ids in each cooldown.
    allowed = (WORKERS + 1) * (2 + int(passed / COOLDOWN_S))
    assert 1 <= project.fetches <= allowed


async def flood_again(http: aiohttp.ClientSession, base: str, project: Project) -> None:
    """Flood once more; connections to the killed process may break, and are made anew."""
    try:
        await flood(http, base, project)
    except aiohttp.ClientError:
        await flood(http, base, project)
