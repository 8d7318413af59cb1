"""People of another issuer who are suspended here, whatever their issuer says of them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest

from chatkeep import audit
from chatkeep.administration import suspensions
from chatkeep.administration.suspensions import issuer_of
from chatkeep.devices import Device
from chatkeep.errors import TokenRevoked
from chatkeep.revocations import Revocations
from chatkeep.sessions.administration import force_out, list_sessions_of
from tests.http.test_conversations import begin
from tests.http.test_personal_keys import KEYS, make, with_key, works
from tests.http.test_shares import shared, texts, token_of
from tests.patience import PATIENCE_S
from tests.serving import token, types, until

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Client, Node, Person

ADMIN = "/api/admin/users"
FOR_EVER = 300 * 365 * 86_400


@pytest.fixture
def admin(node: Node) -> Client:
    """An administrator, whom the Supabase project names."""
    return node.person(app_metadata={"roles": ["admin"]}).client


async def ban(admin: Client, eve: Person, **body: object) -> dict[str, Any]:
    """Suspend *eve*; return what is said of them then."""
    answer = await admin.post(f"{ADMIN}/{eve.id}/ban", body)
    assert answer.status == 200, answer.text
    said: dict[str, Any] = answer.json
    return said


async def is_out(client: Client) -> bool:
    """Whether the caller is refused because everything of theirs has ended."""
    answer = await client.get("/auth/me")
    return answer.status == 401 and answer.json["code"] == "token_revoked"


def newly_signed_in(node: Node, eve: Person) -> Client:
    """Return *eve* with a token that their issuer gave them this moment."""
    return node.nobody(authorization=f"Bearer {token(node.project, eve.id)}")


async def test_everything_of_the_person_ends_and_nothing_new_is_taken(
    node: Node, start: StartNode, admin: Client
) -> None:
    """Tokens, cookie, keys and shared links, on every node; also what is new."""
    other = await start()
    eve = node.person()
    page = {"origin": node.url, "authorization": eve.client.headers["authorization"]}
    signed = await node.nobody(**page).post("/auth/session")
    cookie = signed.headers["set-cookie"].partition(";")[0]
    browser = node.nobody(cookie=cookie)
    made = await make(eve.client, "models:read")
    link = await shared(eve.client, await begin(eve.client))
    assert (await browser.get("/auth/me")).status == 200
    assert await works(with_key(node, made))
    assert await works(with_key(other, made))
    said = await ban(admin, eve, reason="spam")
    assert said["banned_until"] is not None
    assert (said["user_id"], said["email"], said["created_at"]) == (eve.id, None, None)
    callers = [eve.client, browser, newly_signed_in(node, eve)]
    there = [one.but(url=other.url) for one in callers]
    for caller in callers:
        assert await is_out(caller)
    for caller in there:
        await until(partial(is_out, caller))
    assert not await works(with_key(node, made))
    assert not await works(with_key(other, made))
    for path in ("/api/v1/shared/", "/s/"):
        assert (await node.nobody().get(path + token_of(link))).status == 404
    as_new = {"origin": node.url, "authorization": f"Bearer {token(node.project, eve.id)}"}
    assert (await node.nobody(**as_new).post("/auth/session")).status == 401
    wanted = {"name": "x", "scopes": ["chat"]}
    assert (await newly_signed_in(node, eve).post(KEYS, wanted)).status == 401


async def test_what_they_read_ends_on_every_node(
    node: Node, start: StartNode, admin: Client
) -> None:
    """The answer that they asked for, and the one that they follow over another node."""
    other, eve, gate = await start(), node.person(), asyncio.Event()
    node.stage.play(["One", gate, ", two."])
    chat = str(uuid4())
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Count"}]}
    there = eve.client.but(url=other.url)
    async with asyncio.timeout(PATIENCE_S), AsyncExitStack() as opened:
        asked = eve.client.stream("/api/chat", {"id": chat, "messages": [message]})
        streams = [await opened.enter_async_context(asked)]
        await streams[0].until(lambda event: "One" in str(event.data))
        follows = there.stream(f"/api/chat/{chat}/stream", method="GET")
        streams.append(await opened.enter_async_context(follows))
        await streams[1].until(lambda event: "One" in str(event.data))
        await ban(admin, eve)
        for stream in streams:
            await stream.rest()
            assert types(stream.events)[-2:] == ["error", "[DONE]"]
    gate.set()


async def test_nobody_else_is_touched(node: Node, admin: Client) -> None:
    """Neither others of the same issuer, nor whose id begins alike."""
    eve, ana = node.person(), node.person()
    alike = node.person(sub=f"{eve.id}0")
    await ban(admin, eve)
    for one in (ana, alike):
        assert (await one.client.get("/auth/me")).status == 200


async def test_lifted_they_come_back_with_what_is_new(node: Node, admin: Client) -> None:
    """What was ended stays ended, but that what they share can be read again."""
    eve = node.person()
    made = await make(eve.client, "models:read")
    link = await shared(eve.client, await begin(eve.client))
    await ban(admin, eve)
    assert (await admin.get(f"{ADMIN}/{eve.id}")).json["banned_until"] is not None
    during = newly_signed_in(node, eve)
    assert await is_out(during)
    lifted = await admin.post(f"{ADMIN}/{eve.id}/unban", {})
    assert (lifted.status, lifted.json["banned_until"]) == (200, None)
    assert (await admin.get(f"{ADMIN}/{eve.id}")).status == 404
    for before in (eve.client, during):
        assert await is_out(before)
    assert not await works(with_key(node, made))
    assert len(await texts(node, link)) == 1

    async def is_in() -> bool:  # tokens say in whole seconds when they were issued
        return (await newly_signed_in(node, eve).get("/auth/me")).status == 200

    await until(is_in)


async def test_it_ends_by_itself_and_can_be_made_shorter(
    node: Node, admin: Client, database: MigratedDatabase
) -> None:
    """The last word counts, until its moment has come; without somebody to lift it."""
    eve = node.person()
    long, short = await ban(admin, eve), await ban(admin, eve, seconds=3600)
    assert short["banned_until"] < long["banned_until"]
    assert await is_out(newly_signed_in(node, eve))
    with psycopg.connect(database.admin_url, autocommit=True) as operator:
        operator.execute(
            "update chatkeep.revocations set not_before = now() - interval '1 minute',"
            " number = (select max(number) from chatkeep.revocations)"
            " where kind = 'user' and subject = %s",
            [eve.id],
        )
    revocations = Revocations(node.services.db)
    await revocations.catch_up()
    principal = await node.services.issuers.authenticate(token(node.project, eve.id))
    assert not revocations.knows(principal)
    assert await suspensions.listed(node.services.db, eve.id) == []


async def test_signing_them_out_lifts_nothing(node: Node, admin: Client) -> None:
    """What ends everything until now does not shorten what ends more."""
    eve = node.person()
    await ban(admin, eve)
    assert (await admin.post(f"{ADMIN}/{eve.id}/sign-out", {})).status == 200
    assert await is_out(newly_signed_in(node, eve))
    (found,) = await suspensions.listed(node.services.db, eve.id)
    assert found.user_id == eve.id


async def test_ban_for_ever_outlives_a_restart_and_fits_every_clock(
    node: Node, start: StartNode, admin: Client
) -> None:
    """A moment in a thousand years is kept as it is, and read by a node that starts later."""
    eve = node.person()
    said = await ban(admin, eve)
    assert int(said["banned_until"][:4]) > 2900
    later = await start()
    assert await is_out(newly_signed_in(later, eve))
    known = later.services.embedded.revocations._not_before["user", "", eve.id]
    assert min(known).year > 2900  # however long this node runs


async def test_it_stands_in_the_log(node: Node, admin: Client) -> None:
    """Who did it, why and for how long; a lift of nothing is none."""
    eve = node.person()
    assert (await admin.post(f"{ADMIN}/{eve.id}/unban", {})).status == 404
    await ban(admin, eve, seconds=60, reason="spam")
    assert (await admin.post(f"{ADMIN}/{eve.id}/unban", {"reason": "sorry"})).status == 200
    found = await audit.listed(node.services.db, user_id=eve.id)
    said = {one.action: one for one in found}
    assert (said["user.banned"].reason, said["user.banned"].details["seconds"]) == ("spam", 60)
    assert said["user.unbanned"].reason == "sorry"
    assert said["user.banned"].actor != eve.id


async def test_only_who_could_be_somebody_is_suspended(node: Node, admin: Client) -> None:
    """An id that no configured issuer gives is a mistake, and says so."""
    for odd in ("nowhere:eve", f"embedded:{uuid4()}", "embedded:x"):
        assert (await admin.post(f"{ADMIN}/{odd}/ban", {})).status == 404, odd
    assert (await node.person().client.post(f"{ADMIN}/{uuid4()}/ban", {})).status == 403


@pytest.mark.parametrize("subject", ["eve/card#me?a=%2F&b", "aB3/x+Y=", "../ban", "a//"])
async def test_slashes_in_an_id_keep_nobody_in(node: Node, admin: Client, subject: str) -> None:
    """Issuers choose what they call people: base64, or an address."""
    eve = node.person(sub=f"{subject}{uuid4().hex}/")
    at = f"{ADMIN}/{quote(eve.id, safe='')}"
    assert (await eve.client.get("/auth/me")).status == 200
    found = (await admin.get(f"{at}/sessions")).json["sessions"]
    assert [one["user_id"] for one in found] == [eve.id]
    assert (await admin.get(f"{at}/usage")).json["by_day"] == []
    assert (await admin.get(f"{at}/keys")).json["keys"] == []
    one = f"{at}/sessions/{found[0]['id']}"
    assert (await admin.delete(one)).status == 204
    assert (await admin.post(f"{at}/sign-out", {})).status == 200
    said = await admin.post(f"{at}/ban", {})
    assert (said.status, said.json["user_id"]) == (200, eve.id)
    assert await is_out(newly_signed_in(node, eve))
    assert (await admin.get(at)).json["user_id"] == eve.id
    assert (await admin.post(f"{at}/unban", {})).status == 200
    assert (await admin.get(at)).status == 404


async def test_longest_id_there_can_be_keeps_nobody_in(node: Node, admin: Client) -> None:
    """What an issuer calls a person has 255 characters at most, and its own name comes before."""
    longest = f"supabase:{uuid4().hex}{'x' * (255 - 32)}"
    assert (await admin.post(f"{ADMIN}/{longest}/ban", {})).status == 200
    assert (await admin.get(f"/api/admin/audit?user_id={longest}")).json["entries"]
    assert (await admin.post(f"{ADMIN}/{longest}/unban", {})).status == 200


def test_issuer_of_an_id() -> None:
    """By its prefix; bare ids are of the one issuer that has them."""
    names = ("supabase", "acme", "embedded")
    assert issuer_of("acme:7", names, bare=True) == "acme"
    assert issuer_of("acme:a:b", names, bare=False) == "acme"
    assert issuer_of("7", names, bare=True) == ""
    assert issuer_of("google-oauth2|7", names, bare=True) == ""
    for one in ("7", "other:7", "acme:", "embedded:7"):
        assert issuer_of(one, names, bare=False) is None, one


async def test_length_is_bounded(node: Node) -> None:
    """However long is asked for, it is a moment that every part can hold."""
    eve = node.person()
    revocations = node.services.embedded.revocations
    await suspensions.suspend(
        node.services.db, revocations, eve.id, timedelta(seconds=FOR_EVER * 10), actor="operator"
    )
    assert await is_out(newly_signed_in(node, eve))


@pytest.mark.parametrize("way", ["suspended", "signed out"])
async def test_cookie_that_was_asked_for_before_is_not_given_afterwards(
    node: Node, way: str
) -> None:
    """Whoever showed a good token a moment before everything of theirs ended gets no session."""
    parts, user_id = node.services, str(uuid4())
    revocations = parts.embedded.revocations
    who = await parts.authenticator.principal_of(token(node.project, user_id))
    if way == "suspended":
        length = timedelta(hours=1)
        await suspensions.suspend(parts.db, revocations, user_id, length, actor="operator")
    else:
        await force_out(parts.db, revocations, user_id, actor="operator")
    with pytest.raises(TokenRevoked):
        await parts.browser_sessions.exchange(who, Device.of("curl/8", "192.0.2.7"))
    assert await list_sessions_of(parts.db, user_id) == []
