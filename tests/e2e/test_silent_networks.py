"""Networks that fall silent: no end of the connection is told that the other is gone."""

from __future__ import annotations

import asyncio
import json
import pwd
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import psycopg
import pytest

from tests.chatkit_client import said_by_user
from tests.networks import Machine, machine, why_not
from tests.patience import PATIENCE_S
from tests.postgres_servers import LOGIN, Server, new_server, throw_away
from tests.raw_upstream import Wire, provider_of, raw_upstream
from tests.server_process import ServerProcess, server_process
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

#: What the documentation promises; a machine that has much to do gets a little more.
READER_GONE_S: Final = 25
DATABASE_LOST_S: Final = 10
DATABASE_BACK_S: Final = 5
CHATS: Final = "/api/v1/chat"
HELLO: Final = [{"role": "user", "content": "Hello"}]
SURFACES: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": {"model": "m", "messages": HELLO, "stream": True},
    "/v1/responses": {"model": "m", "input": "Hello"},
    "/support/chatkit": {"type": "threads.create", "params": {"input": said_by_user("Hello")}},
}
#: Somebody on another machine: sends what it was given, and reads what comes.
READER: Final = """
import socket, sys
reader = socket.create_connection((sys.argv[1], int(sys.argv[2])))
reader.sendall(sys.argv[3].encode())
print("asked", flush=True)
while reader.recv(65536):
    print("heard", flush=True)
"""


@pytest.fixture
def elsewhere() -> Iterator[Machine]:
    """Another machine."""
    with machine() as made:
        yield made


class Talkative:
    """A provider that says a word every twentieth of a second until it is hung up on."""

    def __init__(self) -> None:
        self.talking = 0
        self.ended_at: list[float] = []

    async def answer(self, wire: Wire) -> None:
        """Talk, and note when nobody listens any more."""
        words = asyncio.create_task(self._talk(wire))
        self.talking += 1
        await wire.hung_up(within_s=None)
        self.ended_at.append(time.monotonic())
        words.cancel()
        await asyncio.gather(words, return_exceptions=True)

    async def _talk(self, wire: Wire) -> None:
        await wire.begin()
        while True:
            await wire.say("word ")
            await asyncio.sleep(0.05)


@asynccontextmanager
async def reading(
    elsewhere: Machine, port: int, path: str, body: dict[str, Any], token: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Ask from the other machine, and lend whoever reads there."""
    content = json.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {elsewhere.here}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    program = [sys.executable, "-c", READER, elsewhere.here, str(port), head + content]
    reader = await asyncio.create_subprocess_exec(
        *elsewhere.inside(*program), stdout=asyncio.subprocess.PIPE
    )
    try:
        yield reader
    finally:
        if reader.returncode is None:
            reader.kill()
        await reader.communicate()


async def test_reader_whose_network_falls_silent_is_let_go(
    elsewhere: Machine, settled: Path
) -> None:
    """Where hanging up means stopping, the provider is let go in time; the rest is kept, once."""
    provider = Talkative()
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(
            raw_upstream(provider_of("m", m=provider.answer))
        )
        settings = {
            "OPENAI_API_KEY": "any",
            "OPENAI_BASE_URL": upstream.base_url,
            "OPENAI_CHAT_MODEL": "m",
        }
        server: ServerProcess = await stack.enter_async_context(
            server_process(settled / ".chatkeep", settings, ("--host", "0.0.0.0"))
        )
        http = await stack.enter_async_context(aiohttp.ClientSession())
        token = await server.sign_up(http)
        for path, body in SURFACES.items():
            reader = await stack.enter_async_context(
                reading(elsewhere, server.port, path, body, token)
            )
            assert reader.stdout is not None
            async with asyncio.timeout(PATIENCE_S):
                assert await reader.stdout.readline() == b"asked\n"
                if path != "/v1/responses":  # whose answer comes whole
                    assert await reader.stdout.readline() == b"heard\n"

        await until(lambda: provider.talking == len(SURFACES))
        elsewhere.cut()
        began = time.monotonic()
        await until(lambda: len(provider.ended_at) == len(SURFACES), within_s=2 * READER_GONE_S)
        assert max(provider.ended_at) - began < READER_GONE_S + 5
        await _is_kept_once(http, server, token)


async def _is_kept_once(http: aiohttp.ClientSession, server: ServerProcess, token: str) -> None:
    """Each answer is booked, and what the support chat was told is there, marked."""

    async def got(path: str) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {token}"}
        async with http.get(server.base + path, headers=headers) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def booked() -> bool:
        month = (await got("/api/usage"))["this_month"]
        return bool(month["answers"] == len(SURFACES) and month["completion_tokens"] > 0)

    await until(booked)
    listed = (await got("/api/v1/chat"))["conversations"]
    pages = [await got(f"/api/v1/chat/{one['id']}") for one in listed]
    kept = [[one for one in page["messages"] if one["role"] == "assistant"] for page in pages]
    assert [len(answers) for answers in kept] == [1] * len(listed)
    assert [page["active_run"] for page in pages] == [None] * len(listed)
    assert {(one["status"], one["content"][:9]) for (one,) in kept} == {("stopped", "word word")}


@pytest.fixture
def far_database(elsewhere: Machine) -> Iterator[Server]:
    """A PostgreSQL on the other machine, which we also reach by its socket."""
    server = new_server("18")
    server.stop("fast")
    with (server.folder / "postgresql.conf").open("a") as settings:
        settings.write(f"listen_addresses = '{elsewhere.there}'\n")
    with (server.folder / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 198.18.0.0/15 trust\n")
    uid = None if server.os_user is None else pwd.getpwnam(server.os_user).pw_uid
    start = [str(server.binaries / "pg_ctl"), "-D", str(server.folder), "start", "-w"]
    options = ["-o", f"-k {server.folder}", "-l", str(server.folder / "log")]
    subprocess.run(
        elsewhere.inside(*start, *options, uid=uid),
        stdout=subprocess.DEVNULL,
        cwd="/",
        timeout=60,
        check=True,
    )
    yield server
    throw_away(server)


async def test_silent_database_is_given_up_and_found_again(
    elsewhere: Machine, far_database: Server, tmp_path: Path
) -> None:
    """Whoever waits for it is told in time, readiness follows, and soon after all is well."""
    name = far_database.migrated_template()
    settings = {
        "DATABASE_URL": f"postgresql://{LOGIN}@{elsewhere.there}:5432/{name}",
        "CHATKEEP_SECRET": "a secret for tests: 0123456789abcdef",
    }
    async with (
        server_process(tmp_path / "data", settings) as server,
        aiohttp.ClientSession() as http,
    ):
        headers = {"authorization": f"Bearer {await server.sign_up(http)}"}

        async def status(method: str, path: str, **more: Any) -> int:  # noqa: ANN401 -- a body
            async with http.request(method, server.base + path, headers=headers, **more) as answer:
                await answer.read()
                return answer.status

        with psycopg.connect(far_database.url(name)) as operator:
            # One request has been heard and is being worked on, the others come afterwards.
            operator.execute("lock table chat.profiles")
            waiting = [
                asyncio.create_task(status("PATCH", "/api/settings", json={"temperature": 1}))
            ]
            await until(lambda: _is_waited_for(far_database.url(name)))
            elsewhere.cut()
            began = time.monotonic()
            waiting += [asyncio.create_task(status("GET", path)) for path in ("/readyz", CHATS)]
            async with asyncio.timeout(2 * DATABASE_LOST_S):
                assert await asyncio.gather(*waiting) == [503, 503, 503]
            assert time.monotonic() - began < DATABASE_LOST_S + 2
        assert await status("GET", "/readyz") == 503
        elsewhere.heal()

        async def is_back() -> bool:
            return {await status("GET", path) for path in ("/readyz", CHATS)} == {200}

        await until(is_back, within_s=DATABASE_BACK_S)


def _is_waited_for(url: str) -> bool:
    """Whether somebody waits for a lock."""
    with psycopg.connect(url) as connection:
        row = connection.execute("select exists (select from pg_locks where not granted)")
        return row.fetchone() == (True,)
