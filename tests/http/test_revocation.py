"""Whoever was signed out is out: on every node, of every issuer, and with streams open."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest

from chatkeep.errors import TokenRevoked
from chatkeep.revocations import Revocations
from chatkeep.sessions.administration import force_out
from tests.serving import token, types, until

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Client, Node


async def signed_up(node: Node) -> Client:
    """Return a caller with a session of our own."""
    body = {"email": f"{uuid4()}@example.com", "password": "Correct-Horse-42"}
    grant = (await node.nobody().post("/auth/v1/signup", body)).json
    return node.nobody(authorization=f"Bearer {grant['access_token']}")


async def is_out(client: Client) -> bool:
    """Whether the caller is refused because they were signed out."""
    answer = await client.get("/auth/me")
    return answer.status == 401 and answer.json["code"] == "token_revoked"


async def _is_let_in(node: Node) -> bool:
    """Whether a token of another issuer that is made now holds."""
    somebody = node.nobody(authorization=f"Bearer {token(node.project, str(uuid4()))}")
    return (await somebody.get("/auth/me")).status == 200


async def test_log_out_on_one_node_is_known_on_the_other(node: Node, start: StartNode) -> None:
    """The access token is refused there too, while it has not expired."""
    other = await start()
    here = await signed_up(node)
    there = here.but(url=other.url)
    assert (await there.get("/auth/me")).status == 200
    assert (await here.post("/auth/v1/logout")).status == 204
    assert await is_out(here)
    await until(lambda: is_out(there))


async def test_tokens_of_a_foreign_issuer_end_here(node: Node) -> None:
    """By session, by token, by person and by issuer, whatever their issuer thinks of them."""
    revocations, until_then = (
        node.services.embedded.revocations,
        datetime.now(UTC) + timedelta(days=1),
    )
    for by in ("session", "token", "user", "issuer"):
        session_id, token_id = str(uuid4()), str(uuid4())
        person = node.person("ES256", session_id=session_id, jti=token_id)
        me = (await person.client.get("/auth/me")).json
        assert me["session_id"] == session_id
        match by:
            case "session":
                await revocations.revoke_session("supabase", session_id, until=until_then)
            case "token":
                await revocations.revoke_token("supabase", token_id, until=until_then)
            case "user":
                await force_out(node.services.db, revocations, me["id"], actor="an operator")
            case _:
                await revocations.revoke_issuer("supabase")
        assert await is_out(person.client), by


@pytest.mark.parametrize("surface", ["rest", "ai-sdk"])
async def test_open_streams_end_with_the_session(node: Node, surface: str) -> None:
    """At once and with an error of the surface's own form; the answer is made all the same."""
    me = await signed_up(node)
    gate = asyncio.Event()
    node.stage.play(["One", gate, ", two."])
    if surface == "rest":
        chat = (await me.post("/api/v1/chat/start", {})).json["conversation_id"]
        path, body = "/api/v1/chat/message", {"conversation_id": chat, "message": "Count"}
    else:
        message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Count"}]}
        path, body = "/api/chat", {"id": str(uuid4()), "messages": [message]}
    async with me.stream(path, body, accept="text/event-stream") as stream:
        await stream.until(lambda event: "One" in str(event.data))
        assert (await me.post("/auth/v1/logout")).status == 204
        await stream.rest()
    if surface == "rest":
        assert (stream.events[-1].name, stream.events[-1].data["code"]) == (
            "error",
            "token_revoked",
        )
    else:
        assert types(stream.events)[-2:] == ["error", "[DONE]"]
        assert stream.events[-2].data["errorText"] == TokenRevoked().detail
    gate.set()


@pytest.mark.parametrize(
    ("way", "days"),
    [
        ("from another device", 399),
        ("row deleted", 399),
        ("logged out", 29),
        ("logged out unseen", 29),
    ],
)
async def test_session_of_another_issuer_stays_ended_while_its_issuer_renews_it(
    node: Node, database: MigratedDatabase, way: str, days: int
) -> None:
    """Whoever has the device goes on getting tokens of that session there, for months."""
    user_id, name = str(uuid4()), str(uuid4())

    def renewed() -> Client:
        return node.nobody(authorization=f"Bearer {token(node.project, user_id, session_id=name)}")

    # What was issued in the second in which all of its issuer ended (above) has ended too.
    await until(partial(_is_let_in, node))
    if way == "logged out unseen":
        assert (await renewed().post("/auth/logout")).status == 200
    else:
        assert (await renewed().get("/auth/me")).status == 200
        if way == "logged out":
            await node.services.sightings.write()
            assert (await renewed().post("/auth/logout")).status == 200
        elif way == "row deleted":
            await node.services.sightings.write()
            with psycopg.connect(database.admin_url, autocommit=True) as admin:
                admin.execute("delete from public.user_sessions where reference = %s", [name])
            await node.services.embedded.revocations.catch_up()
        else:
            other = node.nobody(authorization=f"Bearer {token(node.project, user_id)}")
            listed = (await other.get("/api/sessions")).json["sessions"]
            (one,) = [one["id"] for one in listed if not one["current"]]
            assert (await other.delete(f"/api/sessions/{one}")).status == 204
    assert (await renewed().get("/auth/me")).json["code"] == "token_revoked"
    with psycopg.connect(database.admin_url, autocommit=True) as admin:  # so much later
        admin.execute(
            "update chatkeep.revocations set until = until - %s where subject = %s",
            [timedelta(days=days), name],
        )
    revocations = Revocations(node.services.db)
    await revocations.catch_up()
    principal = await node.services.issuers.authenticate(
        token(node.project, user_id, session_id=name)
    )
    assert await revocations.is_revoked(principal)
    assert await revocations.is_revoked_now(principal)
