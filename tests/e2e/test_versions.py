"""Two versions at once: a migration under traffic, servers replaced, and the version taken back."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import aiohttp
import psycopg
import pytest

from chatkeep.sql.migrations import OLDEST_READER
from tests.command_line import chatkeep
from tests.patience import PATIENCE_S
from tests.postgres_servers import LOGIN, Server
from tests.server_process import ServerProcess, server_process
from tests.serving import until
from tests.source_trees import version_at, version_to_come

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PEOPLE: Final = 4
#: A statement waits for a migration two seconds at most, and a few may come one after the other.
SLOWEST_S: Final = 10.0


@dataclass
class Traffic:
    """People who sign up, chat, read, change settings and stay signed in, without a pause."""

    http: aiohttp.ClientSession
    nodes: list[ServerProcess]
    rounds: int = 0
    slowest_s: float = 0.0
    ended: bool = False

    async def somebody(self) -> None:
        """Be one person, who asks one node after the other, until told to stop."""
        nodes = self._each()
        body = {"email": f"{uuid4().hex}@example.com", "password": "a password for tests"}
        session = await self._ask(next(nodes), "POST", "/auth/v1/signup", body)
        chat = await self._ask(next(nodes), "POST", "/api/v1/chat/start", {}, session)
        while not self.ended:
            session = await self._ask(
                next(nodes),
                "POST",
                "/auth/v1/token?grant_type=refresh_token",
                {"refresh_token": session["refresh_token"]},
            )
            question = {"conversation_id": chat["conversation_id"], "message": "How are you?"}
            said = await self._ask(next(nodes), "POST", "/api/v1/chat/message", question, session)
            path = f"/api/v1/chat/{chat['conversation_id']}"
            page = await self._ask(next(nodes), "GET", path, None, session)
            assert said["message_id"] in [one["id"] for one in page["messages"]]
            await self._ask(next(nodes), "GET", "/api/v1/search?q=you", None, session)
            wish = {"temperature": self.rounds % 3 / 2}
            await self._ask(next(nodes), "PATCH", "/api/settings", wish, session)
            self.rounds += 1

    async def passes(self, rounds: int = 2 * PEOPLE) -> None:
        """Return when people have done everything several times more."""
        wanted = self.rounds + rounds
        async with asyncio.timeout(PATIENCE_S):
            while self.rounds < wanted:  # noqa: ASYNC110 -- a count of many
                await asyncio.sleep(0.02)

    def _each(self) -> Iterator[ServerProcess]:
        """Yield whoever serves at that moment, in turn."""
        for number in cycle(range(60)):
            yield self.nodes[number % len(self.nodes)]

    async def _ask(
        self,
        node: ServerProcess,
        method: str,
        path: str,
        body: object,
        session: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 -- JSON
        headers = {"authorization": f"Bearer {session['access_token']}"} if session else {}
        began = time.monotonic()
        async with self.http.request(
            method, node.base + path, json=body, headers=headers
        ) as answer:
            assert answer.status < 400, f"{method} {path}: {answer.status} {await answer.text()}"
            found = await answer.json()
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        return found


@pytest.fixture(params=["the one before and this one", "this one and one to come"])
def versions(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[dict[str, str], ...]:
    """The environments that run the older version and the newer."""
    if request.param == "this one and one to come":
        return {}, version_to_come(tmp_path / "newer")
    older = version_at(OLDEST_READER, tmp_path / "older")
    if older is None:
        pytest.skip(f"no commit with revision {OLDEST_READER} is at hand: a shallow clone?")
    return older, {}


async def test_versions_are_exchanged_under_traffic_and_back(
    versions: tuple[dict[str, str], ...], postgres: Server, tmp_path: Path
) -> None:
    """Migrated, a newer server beside the older, the older alone again: nobody gets an error."""
    older, newer = versions
    postgres.migrated_template()  # makes the login
    name = postgres.new_database()
    settings = {
        "DATABASE_URL": postgres.url(name, user=LOGIN),
        "CHATKEEP_SECRET": "a secret for tests: 0123456789abcdef",
        "PUBLIC_URL": "http://chat.localhost",
        "RATE_LIMITS": "off",
    }
    admin = settings | {"DATABASE_ADMIN_URL": postgres.url(name)}
    migrated = await chatkeep("migrate", cwd=tmp_path, settings=admin | older)
    assert migrated.code == 0, migrated.err
    early = await chatkeep("serve", "--port", "0", cwd=tmp_path, settings=settings | newer)
    assert (early.code, "DATABASE_ADMIN_URL" in early.err) == (1, True)

    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        old = await stack.enter_async_context(server_process(tmp_path / "old", settings | older))
        traffic = Traffic(http, [old])
        async with asyncio.TaskGroup() as people:
            for _ in range(PEOPLE):
                people.create_task(traffic.somebody())
            await traffic.passes()

            with psycopg.connect(postgres.url(name)) as report:
                report.execute("select count(*) from chat.runs")  # and takes its time
                migrating = asyncio.create_task(
                    chatkeep("migrate", cwd=tmp_path, settings=admin | newer)
                )
                await until(lambda: _is_waited_for(postgres.url(name)))
                await traffic.passes()
                assert not migrating.done()
            migrated = await migrating
            assert (migrated.code, "was brought from" in migrated.out) == (0, True), migrated.err
            await traffic.passes()

            new = await stack.enter_async_context(
                server_process(tmp_path / "new", settings | newer)
            )
            traffic.nodes = [old, new]
            await traffic.passes()
            if not older:
                traffic.nodes = [new]
                await traffic.passes()
                await old.stop()
                await old.start()  # on tables that it does not know

            traffic.nodes = [old]
            await traffic.passes()
            await new.stop()
            await traffic.passes()
            traffic.ended = True
        assert traffic.slowest_s < SLOWEST_S
    postgres.drop_database(name)


def _is_waited_for(url: str) -> bool:
    """Whether somebody waits for a whole table of that database."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select exists (select from pg_locks l join pg_database d on d.oid = l.database"
            " where not granted and mode = 'AccessExclusiveLock' and datname = current_database())"
        )
        return row.fetchone() == (True,)
