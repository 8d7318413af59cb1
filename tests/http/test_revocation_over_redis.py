"""What ended is known everywhere with Redis, without it, and whatever anybody does to it.

No node here can listen to PostgreSQL, as behind a pooler in transaction mode.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from chatkeep.redis_link import RedisLink
from tests.machine_time import quick
from tests.patience import PATIENCE_S
from tests.redis_servers import RedisServer, needs_redis, running_redis
from tests.serving import types, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Client, Node, Stream

BOUND_S = 5.0
LOOKS_NEVER = 3600.0
PASSWORD = "Correct-Horse-42"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis for the tests of this module."""
    with running_redis() as started:
        yield started


def through(server: RedisServer) -> dict[str, str]:
    """Return the settings of nodes that hear of each other there, on however busy a machine."""
    return {"DATABASE_POOLER": "on", "REDIS_URL": server.url, "REDIS_TIMEOUT": "1"}


@pytest.fixture
async def nodes(start: StartNode, server: RedisServer) -> list[Node]:
    """Two nodes that have nothing in common but the database and Redis."""
    return [await start(**through(server)) for _ in range(2)]


async def heard(nodes: list[Node]) -> None:
    """Wait until every node listens at Redis."""
    for node in nodes:
        link = node.services.embedded.revocations._announce.func.__self__  # type: ignore[union-attr]
        await asyncio.wait_for(link.listening.wait(), PATIENCE_S)


async def signed_up(node: Node) -> tuple[Client, dict[str, Any]]:
    """Return a caller with a session of our own, and what they were given."""
    body = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
    grant = (await node.nobody().post("/auth/v1/signup", body)).json
    return node.nobody(authorization=f"Bearer {grant['access_token']}"), grant


async def is_out(client: Client) -> bool:
    """Whether the caller is refused because they were signed out."""
    answer = await client.get("/auth/me")
    return answer.status == 401 and answer.json["code"] == "token_revoked"


@needs_redis
async def test_log_out_is_told_where_nobody_can_listen(
    start: StartNode, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other node hears of it, though it would look for itself only in an hour."""
    monkeypatch.setattr("chatkeep.revocations._LOOK_EVERY_S", LOOKS_NEVER)
    nodes = [await start(**through(server)) for _ in range(2)]
    await heard(nodes)
    # Nor does its memory grow so old that it asks the database for each request.
    revocations = nodes[1].services.embedded.revocations
    now = revocations._clock()
    revocations._clock = lambda: now
    for path in ("/auth/v1/logout", "/api/sessions/revoke-all", "/auth/logout"):
        here, _ = await signed_up(nodes[0])
        there = here.but(url=nodes[1].url)
        assert (await there.get("/auth/me")).status == 200
        assert (await here.post(path)).status in {200, 204}
        await until(partial(is_out, there))


@needs_redis
async def test_changed_profile_is_told_too(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a person chose on one node counts on the other at once, not when a cache ends."""
    monkeypatch.setattr("chatkeep.preferences._TTL_S", 3600.0)
    await heard(nodes)
    here, _ = await signed_up(nodes[0])
    there = here.but(url=nodes[1].url)
    assert (await there.get("/api/settings")).json["display_name"] is None
    assert (await here.patch("/api/settings", {"display_name": "Ana"})).status == 200

    async def shows() -> bool:
        profile = await nodes[1].services.preferences.get_profile(user_id)
        return profile.display_name == "Ana"

    user_id = (await here.get("/auth/me")).json["id"]
    await until(shows)


@needs_redis
@pytest.mark.parametrize("way", ["killed", "held up", "flushed"])
async def test_revocation_while_redis_is_not_itself(
    nodes: list[Node], server: RedisServer, way: str
) -> None:
    """PostgreSQL is the truth: every node finds it there within the bound, and it stays."""
    await heard(nodes)
    here, _ = await signed_up(nodes[0])
    there = here.but(url=nodes[1].url)
    assert (await there.get("/auth/me")).status == 200
    try:
        if way == "killed":
            server.kill()
        elif way == "held up":
            server.hold_up()
        assert (await here.post("/auth/v1/logout")).status == 204
        await until(lambda: is_out(there), within_s=BOUND_S)
    finally:
        if way == "killed":
            server.start()
        elif way == "held up":
            server.let_go()
    with server.client() as operator:
        operator.flushall()
    assert await is_out(here)
    assert await is_out(there)


@needs_redis
async def test_news_that_could_not_be_sent_is_sent_late(server: RedisServer) -> None:
    """Whoever ended something during an outage says so when it is over."""
    heard_by_other: list[str] = []
    other, late = RedisLink(server.url), RedisLink(server.url)
    other.subscribe("chatkeep_revocations", heard_by_other.append)
    await other.open()
    await asyncio.wait_for(other.listening.wait(), PATIENCE_S)
    heard_by_other.clear()
    late.tell("chatkeep_revocations", "while it could not be reached")
    await until(lambda: bool(late._untold))
    assert heard_by_other == []
    await late.open()
    await until(lambda: heard_by_other == [""])
    for link in (other, late):
        await link.close()


@needs_redis
async def test_forged_messages_sign_nobody_out_and_nobody_in(
    nodes: list[Node], server: RedisServer
) -> None:
    """A message makes a node look into the database, at most so often, and nothing else."""
    await heard(nodes)
    alive, _ = await signed_up(nodes[0])
    gone, _ = await signed_up(nodes[0])
    assert (await gone.post("/auth/v1/logout")).status == 204
    session_id = (await alive.get("/auth/me")).json["session_id"]
    looks = 0
    revocations = nodes[1].services.embedded.revocations
    real = revocations._look_for_news

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await real()

    revocations._look_for_news = counted  # type: ignore[method-assign]
    began = time.monotonic()
    with server.client() as attacker:
        for forged in (session_id, f"session embedded {session_id}", "-1", "9" * 99, b"\xff\xfe"):
            for _ in range(400):
                attacker.publish("chatkeep_revocations", forged)
                attacker.publish("chatkeep_profiles", forged)
    took = time.monotonic() - began
    for node in nodes:
        assert (await alive.but(url=node.url).get("/auth/me")).status == 200
        assert await is_out(gone.but(url=node.url))
    assert looks <= 2 + (took + 1) / 0.002


# --- open streams, wherever they are ----------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """Whose sessions are to end: a device of theirs, what it was given, and where."""

    client: Client
    grant: dict[str, Any]
    node: Node
    admin_url: str


async def revoke_all(of: Victim) -> None:
    """By themselves, in the list of their sessions."""
    assert (await of.client.post("/api/sessions/revoke-all")).status == 200


async def log_out_everywhere(of: Victim) -> None:
    """By themselves, with a Supabase client."""
    assert (await of.client.post("/auth/v1/logout?scope=global")).status == 204


async def change_the_password(of: Victim) -> None:
    """On another device, whose session stays."""
    body = {"email": of.grant["user"]["email"], "password": PASSWORD}
    path = "/auth/v1/token?grant_type=password"
    other = (await of.node.nobody().post(path, body)).json["access_token"]
    bearer = of.node.nobody(authorization=f"Bearer {other}")
    changed = await bearer.call("PUT", "/auth/v1/user", json={"password": "Another-Horse-43"})
    assert changed.status == 200


async def ban(of: Victim) -> None:
    """By an administrator."""
    secret = of.node.nobody(
        authorization=f"Bearer {of.node.services.embedded.supabase_keys.secret}"
    )
    path = f"/auth/v1/admin/users/{of.grant['user']['id']}"
    assert (await secret.call("PUT", path, json={"ban_duration": "24h"})).status == 200


async def update_in_psql(of: Victim) -> None:
    """By an operator who knows nothing but the table."""
    with psycopg.connect(of.admin_url, autocommit=True) as connection:
        connection.execute(
            "update user_sessions set is_active = false where user_id like %s",
            [f"%{of.grant['user']['id']}"],
        )


ENDINGS = [revoke_all, log_out_everywhere, change_the_password, ban, update_in_psql]


@pytest.mark.parametrize("with_redis", [pytest.param(True, marks=needs_redis), False])
@pytest.mark.parametrize("end", ENDINGS, ids=lambda one: one.__name__)
async def test_open_streams_end_on_every_node(
    start: StartNode,
    database: MigratedDatabase,
    request: pytest.FixtureRequest,
    end: Callable[[Victim], Awaitable[None]],
    *,
    with_redis: bool,
) -> None:
    """However everything of a person is ended on one node: within five seconds, and for good."""
    server = request.getfixturevalue("server") if with_redis else None
    settings = through(server) if server else {"DATABASE_POOLER": "on"}
    nodes = [await start(**settings) for _ in range(2)]
    me, grant = await signed_up(nodes[0])
    victim = Victim(client=me, grant=grant, node=nodes[0], admin_url=database.admin_url)
    gate = asyncio.Event()
    async with asyncio.timeout(PATIENCE_S), AsyncExitStack() as open_streams:
        streams = []
        for node in nodes:
            node.stage.play(["One", gate, ", two."])
            streams.append(await open_streams.enter_async_context(asking(me.but(url=node.url))))
            await streams[-1].until(lambda event: "One" in str(event.data))
        with quick(BOUND_S):
            await end(victim)
            for stream in streams:
                await stream.rest()
                assert types(stream.events)[-2:] == ["error", "[DONE]"]
    for node in nodes:
        await until(partial(is_out, me.but(url=node.url)))
    gate.set()


def asking(me: Client) -> AbstractAsyncContextManager[Stream]:
    """Ask something, and lend the answer that is coming."""
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Count"}]}
    return me.stream("/api/chat", {"id": str(uuid4()), "messages": [message]})
