"""Whoever signs out at the OpenID provider is out here: with the certified provider itself."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from chatkeep import revocations
from tests import forge
from tests.free_ports import free_port
from tests.identity_providers import (
    AUDIENCE,
    CLIENT_ID,
    INSTALLED,
    NOT_INSTALLED,
    openid_provider,
    openid_sign_in,
    openid_sign_out,
)
from tests.serving import start_node, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Client, Node

pytestmark = pytest.mark.skipif(not INSTALLED.exists(), reason=NOT_INSTALLED)

ROUTE = "/auth/backchannel-logout"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A provider, and two servers on one database, of which the provider knows the first."""

    issuer: str
    here: Node
    there: Node


@asynccontextmanager
async def world(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str, names: str
) -> AsyncIterator[World]:
    """Run all three; logout tokens name what *names* says: the person, or the session too."""
    port = free_port()
    address = f"http://127.0.0.1:{port}{ROUTE}"
    async with openid_provider("ES256", logout_uri=address, logout_names=names) as issuer:
        settings = {
            "OIDC_ISSUER": issuer,
            "OIDC_AUDIENCE": AUDIENCE,
            "OIDC_CLIENT_ID": CLIENT_ID,
        }
        here = await start_node(database.url, session, project, PORT=str(port), **settings)
        there = await start_node(database.url, session, project, **settings)
        yield World(issuer=issuer, here=here, there=there)
        await here.stop()
        await there.stop()


@pytest.fixture(params=["person", "session"])
async def told_of(
    request: pytest.FixtureRequest,
    database: MigratedDatabase,
    session: aiohttp.ClientSession,
    project: str,
) -> AsyncIterator[tuple[str, World]]:
    """A world for each way to name what has ended."""
    async with world(database, session, project, request.param) as opened:
        yield request.param, opened


def caller(node: Node, got: dict[str, str]) -> Client:
    """Return whoever *got* an access token at the provider."""
    return node.nobody(authorization=f"Bearer {got['access_token']}")


async def is_out(client: Client) -> bool:
    """Whether the caller is refused because they were signed out."""
    answer = await client.get("/auth/me")
    return answer.status == 401 and answer.json["code"] == "token_revoked"


async def is_in(client: Client) -> bool:
    """Whether the caller is let in."""
    return (await client.get("/auth/me")).status == 200


async def with_cookie(node: Node, client: Client) -> Client:
    """Return the browser that got a cookie in exchange for the bearer of *client*."""
    answer = await client.but(url=node.url, origin=node.url).post("/auth/session")
    assert answer.status == 200, answer.text
    return node.nobody(cookie=answer.headers["set-cookie"].partition(";")[0])


def claims_of(token: str) -> dict[str, object]:
    """Return what *token* says, unverified."""
    said: dict[str, object] = json.loads(forge.unsegment(token.split(".")[1]))
    return said


async def test_signed_out_at_the_provider_is_out_on_every_server(
    told_of: tuple[str, World], session: aiohttp.ClientSession
) -> None:
    """With cookies and open streams, and the same person's other session only if it is meant."""
    names, world = told_of
    ana, other, bo, _ = await openid_sign_in(world.issuer, "ana", "ana", "bo")
    assert ("sid" in claims_of(ana["access_token"])) == (names == "session")
    here, there = caller(world.here, ana), caller(world.there, ana)
    assert await is_in(here)
    assert await is_in(there)
    browser = await with_cookie(world.there, there)
    assert await is_in(browser)
    gate = asyncio.Event()
    world.there.stage.play(["One", gate, ", two."])
    chat = (await there.post("/api/v1/chat/start", {})).json["conversation_id"]
    body = {"conversation_id": chat, "message": "Count"}
    async with there.stream("/api/v1/chat/message", body, accept="text/event-stream") as stream:
        await stream.until(lambda event: "One" in str(event.data))
        await openid_sign_out(world.issuer, ana["cookie"], session)
        assert await is_out(here)
        await stream.rest()
        assert stream.events[-1].data["code"] == "token_revoked"
    gate.set()
    await until(lambda: is_out(there))
    await until(lambda: is_out(browser))
    assert await is_in(caller(world.there, bo))
    elsewhere = caller(world.here, other)  # seen here for the first time
    assert await (is_in if names == "session" else is_out)(elsewhere)


async def test_token_that_names_no_session_ends_with_any_of_its_person(
    told_of: tuple[str, World], session: aiohttp.ClientSession
) -> None:
    """Nobody can tell whose it is; whoever still has a session there gets the next token."""
    _, world = told_of
    plain, seen, _ = await openid_sign_in(world.issuer, "plain-ana", "plain-ana")
    assert "sid" not in claims_of(plain["access_token"])
    assert await is_in(caller(world.here, seen))
    browser = await with_cookie(world.here, caller(world.here, seen))
    await openid_sign_out(world.issuer, plain["cookie"], session)
    assert await is_out(caller(world.here, plain))  # never seen here before
    assert await is_out(caller(world.here, seen))
    assert await is_out(browser)
    signed_out = time.time()
    await until(lambda: time.time() >= signed_out + 1)  # tokens tell whole seconds
    again, _ = await openid_sign_in(world.issuer, "plain-ana")
    assert await is_in(caller(world.here, again))
    assert await is_in(caller(world.there, again))
    assert await is_in(await with_cookie(world.there, caller(world.there, again)))


async def test_other_servers_are_told_at_once(
    told_of: tuple[str, World], session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not come upon it at their next look, nor by asking the database."""
    _, world = told_of
    monkeypatch.setattr(revocations, "_LOOK_EVERY_S", 3600.0)
    monkeypatch.setattr(revocations, "TRUSTED_S", 3600.0)
    ana, _ = await openid_sign_in(world.issuer, "ana")
    there = caller(world.there, ana)
    assert await is_in(there)
    await until(lambda: world.there.services.embedded.revocations.age_s > 1.5)
    await openid_sign_out(world.issuer, ana["cookie"], session)
    await until(lambda: is_out(there))
