"""Routes that must not be a moment behind: the session is confirmed for each request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import psycopg
import pytest
from fastapi import Depends, FastAPI

from chatkeep import ChatkeepMiddleware, Principal, require
from chatkeep.config import Settings
from chatkeep.revocations import TRUSTED_S
from chatkeep.web.guard import Guard
from tests.http.test_guard import served
from tests.serving import SERVER_SECRET

if TYPE_CHECKING:
    import aiohttp

    from chatkeep.revocations import Revocations
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Client, Node


async def signed_up(node: Node) -> Client:
    """Return a caller with a session of our own."""
    body = {"email": f"{uuid4()}@example.com", "password": "Correct-Horse-42"}
    grant = (await node.nobody().post("/auth/v1/signup", body)).json
    return node.nobody(authorization=f"Bearer {grant['access_token']}")


class Memory:
    """What a node knows to have ended: it is told nothing more and does not look by itself."""

    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations
        self._now = revocations._clock()
        revocations._clock = lambda: self._now

    async def believe(self) -> None:
        """Look once; it is believed from now on, however long the test takes."""
        await self._revocations.close()
        await self._revocations.catch_up()

    def age(self) -> None:
        """Let so much time pass that memory is believed no more."""
        self._now += TRUSTED_S + 0.1


async def cut_off(start: StartNode) -> tuple[Node, Memory]:
    """Return a node that is told nothing and looks for nothing."""
    node = await start(DATABASE_POOLER="on")
    memory = Memory(node.services.embedded.revocations)
    await memory.believe()
    return node, memory


async def is_out(client: Client) -> bool:
    """Whether an ordinary route refuses the caller."""
    return (await client.get("/api/v1/chat")).status == 401


async def test_cut_off_node_refuses_at_once_where_it_matters(node: Node, start: StartNode) -> None:
    """An ordinary route believes its memory for a few seconds; a strict one never does."""
    deaf, memory = await cut_off(start)
    here = await signed_up(node)
    there = here.but(url=deaf.url)
    assert (await there.post("/api/sessions/revoke-others")).status == 200
    await memory.believe()
    assert (await here.post("/auth/v1/logout")).status == 204
    assert not await is_out(there)
    refused = await there.post("/api/sessions/revoke-others")
    assert (refused.status, refused.json["code"]) == (401, "token_revoked")
    assert (await there.post("/api/sessions/revoke-all")).status == 401
    assert (await there.delete(f"/api/sessions/{uuid4()}")).status == 401
    assert (await there.get("/auth/v1/user")).status == 403
    assert not await is_out(there), "confirming for one route has taught the others"
    memory.age()
    assert await is_out(there)


@pytest.mark.parametrize(
    "change",
    [
        "update chatkeep.users set banned_until = now() + interval '1 h' where id = %s",
        "update user_sessions set expires_at = now() where right(user_id, 36) = %s::text",
        "delete from chatkeep.users where id = %s",
    ],
    ids=["banned", "expired", "erased"],
)
async def test_strict_route_sees_what_ended_no_session(
    node: Node,
    database: MigratedDatabase,
    change: Any,  # noqa: ANN401
) -> None:
    """Banned, expired or erased by an operator's plain statement: refused."""
    me = await signed_up(node)
    assert (await me.post("/api/sessions/revoke-others")).status == 200
    user_id = (await me.get("/auth/v1/user")).json["id"]
    with psycopg.connect(database.admin_url, autocommit=True) as operator:
        operator.execute(change, [user_id])
    assert (await me.post("/api/sessions/revoke-others")).status == 401


async def test_foreign_sessions_are_confirmed_too(node: Node, start: StartNode) -> None:
    """A token of another issuer that was ended on one node is refused on a deaf one."""
    deaf, memory = await cut_off(start)
    person = node.person("ES256")
    there = person.client.but(url=deaf.url)
    assert (await person.client.post("/api/sessions/revoke-others")).status == 200
    assert (await there.post("/api/sessions/revoke-others")).status == 200
    await memory.believe()
    assert (await person.client.post("/api/sessions/revoke-all")).status == 200
    assert (await there.post("/api/sessions/revoke-others")).status == 401


# --- in somebody else's application ---------------------------------------------------------


@pytest.mark.parametrize("by", ["dependency", "middleware"])
async def test_strict_route_of_another_application(
    node: Node,
    database: MigratedDatabase,
    session: aiohttp.ClientSession,
    by: str,
) -> None:
    """`require(strict=True)` asks the server's database."""
    environ = {
        "DATABASE_URL": database.url,
        "CHATKEEP_SECRET": SERVER_SECRET,
        "PUBLIC_URL": node.services.settings.base_url,
    }
    app, settings = FastAPI(), Settings.from_env(environ)

    @app.get("/erase")
    async def erase(who: Annotated[Principal, Depends(require(strict=True))]) -> str:
        return who.user_id

    @app.get("/look")
    async def look(who: Annotated[Principal, Depends(require())]) -> str:
        return who.user_id

    app.state.chatkeep_guard = guard = Guard(settings)
    outer: Any = ChatkeepMiddleware(app, settings=settings) if by == "middleware" else app
    used = outer._guard if by == "middleware" else guard
    async with served(outer, session) as client:
        me = (await signed_up(node)).but(url=client.url)
        assert (await me.get("/erase")).status == 200
        issuer = (await used.open()).embedded
        assert issuer is not None
        await Memory(issuer.revocations).believe()
        assert (await me.but(url=node.url).post("/auth/v1/logout")).status == 204
        assert (await me.get("/look")).status == 200
        assert (await me.get("/erase")).status == 401
    await guard.close()


async def test_strict_route_without_a_database_lets_nobody_in(
    session: aiohttp.ClientSession, node: Node
) -> None:
    """Who cannot ask refuses."""
    settings = Settings.from_env({"SUPABASE_PROJECT_URL": node.project})
    app = FastAPI()
    app.state.chatkeep_guard = Guard(settings)

    @app.get("/erase")
    async def erase(who: Annotated[Principal, Depends(require(strict=True))]) -> str:
        return who.user_id

    async with served(app, session) as client:
        me = node.person("ES256").client.but(url=client.url)
        assert (await me.get("/erase")).status == 500
    await app.state.chatkeep_guard.close()
