"""People who try first: an account without an address, which may become a permanent one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from chatkeep.administration import accounts as administration
from chatkeep.errors import DatabaseUnavailable, Unavailable
from chatkeep.sign_in import anonymous_accounts
from tests.gotrue_people import (
    OURS_ALONE,
    PASSWORD,
    claims_of,
    code_of,
    new_address,
    refresh,
    sign_in,
    sign_up,
    signed_in,
)
from tests.http.mailbox import landed, newest_to, open_and_press
from tests.serving import Node, start_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from chatkeep.errors import ChatkeepError
    from chatkeep.issuance import EmbeddedIssuer
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Client

OPEN: dict[str, Any] = {"ANONYMOUS_SIGN_IN": "on", **OURS_ALONE}


@pytest.fixture(scope="module")
async def node(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[Node]:
    """A node that lets people try."""
    started = await start_node(database.url, session, project, **OPEN)
    yield started
    await started.stop()


@pytest.fixture
def caller(node: Node) -> Client:
    """A Supabase client that is not signed in."""
    return node.nobody()


async def guest(caller: Client, **more: object) -> dict[str, Any]:
    """Sign somebody up without an address; return the session."""
    answer = await caller.post("/auth/v1/signup", more)
    assert answer.status == 200, answer.text
    session: dict[str, Any] = answer.json
    return session


async def guests_who_left(caller: Client, database: MigratedDatabase, number: int) -> list[UUID]:
    """Let so many try and sign out, two hours ago; return who they were, the first one first."""
    left = [await guest(caller) for _ in range(number)]
    for one in left:
        await signed_in(caller, one).post("/auth/v1/logout")
    ids = [UUID(one["user"]["id"]) for one in left]
    database.operate(
        "update chatkeep.users set created_at = now() - interval '2 hours' where id = any(%s)", ids
    )
    database.operate(
        "update user_sessions set expires_at = now() - interval '2 hours'"
        " where right(user_id, 36)::uuid = any(%s)",
        ids,
    )
    return sorted(ids)


async def chat(here: Client) -> str:
    """Say something; return the conversation."""
    started = await here.post("/api/v1/chat/start", {})
    body = {"conversation_id": started.json["conversation_id"], "message": "Remember me"}
    assert (await here.post("/api/v1/chat/message", body)).status == 200
    return str(started.json["conversation_id"])


async def test_guest_has_an_account_without_an_address(caller: Client) -> None:
    """User and token say so, and everything else works as for others."""
    session = await guest(caller, data={"name": "Guest"})
    user, claims = session["user"], claims_of(session["access_token"])
    assert (user["is_anonymous"], user["email"], user["identities"]) == (True, "", [])
    assert user["user_metadata"] == {"name": "Guest"}
    assert claims["is_anonymous"] is True
    assert claims["amr"][0]["method"] == "anonymous"
    await chat(signed_in(caller, session))
    assert (await refresh(caller, session["refresh_token"])).json["user"]["id"] == user["id"]


async def test_guest_becomes_permanent_and_keeps_everything(caller: Client) -> None:
    """With an address and a password the id and the chats are the same, on every device."""
    session = await guest(caller)
    here, email = signed_in(caller, session), new_address()
    conversation = await chat(here)
    body = {"email": email, "password": PASSWORD}
    user = (await here.call("PUT", "/auth/v1/user", json=body)).json
    assert (user["id"], user["is_anonymous"]) == (session["user"]["id"], False)
    assert user["app_metadata"] == {"provider": "email", "providers": ["email"]}
    assert [one["provider"] for one in user["identities"]] == ["email"]
    again = (await sign_in(caller, email)).json
    assert claims_of(again["access_token"])["is_anonymous"] is False
    kept = await signed_in(caller, again).get(f"/api/v1/chat/{conversation}")
    assert "Remember me" in [one["content"] for one in kept.json["messages"]]


async def test_guest_confirms_the_address_first_where_that_is_asked(start: StartNode) -> None:
    """Until the mail was answered they stay a guest; the address of somebody else is refused."""
    asking = await start(MAILER_AUTOCONFIRM="off", **OPEN)
    caller = asking.nobody()
    session, email = await guest(caller), new_address()
    here = signed_in(caller, session)
    user = (await here.call("PUT", "/auth/v1/user", json={"email": email})).json
    assert (user["is_anonymous"], user["email"], user["new_email"]) == (True, "", email)
    mail = await newest_to(asking, email, "email_change_new")
    _, _, said = landed(await open_and_press(caller, mail.link))
    claims = claims_of(said["access_token"])
    assert (claims["sub"], claims["is_anonymous"]) == (session["user"]["id"], False)
    set_password = await here.call("PUT", "/auth/v1/user", json={"password": PASSWORD})
    assert set_password.status == 200
    assert (await sign_in(caller, email)).json["user"]["id"] == session["user"]["id"]
    other = signed_in(caller, await guest(caller))
    taken = await other.call("PUT", "/auth/v1/user", json={"email": email})
    assert code_of(taken) == (422, "email_exists")


async def test_guest_sets_no_password_without_an_address(caller: Client) -> None:
    """Nobody could sign in with it."""
    here = signed_in(caller, await guest(caller))
    answer = await here.call("PUT", "/auth/v1/user", json={"password": PASSWORD})
    assert code_of(answer) == (400, "validation_failed")


async def test_guests_are_let_in_where_the_operator_says_so(start: StartNode) -> None:
    """Not by default, not where nobody may sign up; the settings tell."""
    closed = (await start(**OURS_ALONE)).nobody()
    answer = await closed.post("/auth/v1/signup", {})
    assert code_of(answer) == (422, "anonymous_provider_disabled")
    no_sign_up = (await start(SIGN_UP="off", **OPEN)).nobody()
    assert code_of(await no_sign_up.post("/auth/v1/signup", {})) == (422, "signup_disabled")
    for at, offered in ((closed, False), (no_sign_up, True)):
        settings = (await at.get("/auth/v1/settings")).json
        assert settings["external"]["anonymous_users"] is offered


async def test_one_address_makes_so_many_guests(start: StartNode) -> None:
    """Accounts for nothing are limited by address, more narrowly than others."""
    limiting = (await start(RATE_LIMITS="on", **OPEN)).nobody()
    answers = [(await limiting.post("/auth/v1/signup", {})).status for _ in range(35)]
    assert (answers.count(200), answers.count(429)) == (30, 5)


async def test_unreachable_guests_are_deleted_with_their_chats(
    node: Node, caller: Client, database: MigratedDatabase
) -> None:
    """When the last session has ended; who is signed in, new or permanent stays."""
    gone, stays, new = [await guest(caller) for _ in range(3)]
    permanent = await sign_up(caller, new_address())
    for session in (gone, stays, new, permanent):
        await chat(signed_in(caller, session))
        await signed_in(caller, session).patch("/api/settings", {"display_name": "Ana"})
    for session in (gone, new, permanent):
        await signed_in(caller, session).post("/auth/v1/logout")
    old = [one["user"]["id"] for one in (gone, stays, permanent)]
    database.operate(
        "update chatkeep.users set created_at = now() - interval '2 hours' where id = any(%s)",
        [UUID(one) for one in old],
    )
    database.operate(
        "update user_sessions set expires_at = now() - interval '2 hours'"
        " where not is_active and right(user_id, 36) = any(%s)",
        [*old, new["user"]["id"]],
    )
    assert await anonymous_accounts.Sweep(node.services.embedded).run() == 1
    left = {str(row[0]) for row in database.operate("select id from chatkeep.users")}
    mine = {one["user"]["id"] for one in (gone, stays, new, permanent)}
    assert mine - left == {gone["user"]["id"]}
    talks = {row[0] for row in database.operate("select user_id from chat.conversations")}
    assert mine - talks == {gone["user"]["id"]}
    wishes = {row[0] for row in database.operate("select id from chat.profiles")}
    assert mine - wishes == {gone["user"]["id"]}
    assert await anonymous_accounts.Sweep(node.services.embedded).run() == 0
    assert (await signed_in(caller, stays).get("/auth/v1/user")).status == 200


async def test_guest_who_gave_an_address_comes_back_by_its_mail(
    start: StartNode, database: MigratedDatabase
) -> None:
    """Signed out before they read it, they find their chats; without the mail nobody could."""
    asking = await start(MAILER_AUTOCONFIRM="off", **OPEN)
    caller, email = asking.nobody(), new_address()
    session = await guest(caller)
    here = signed_in(caller, session)
    conversation = await chat(here)
    await here.call("PUT", "/auth/v1/user", json={"email": email})
    await here.post("/auth/v1/logout")
    database.operate(
        "update chatkeep.users set created_at = now() - interval '2 hours' where id = %s",
        UUID(session["user"]["id"]),
    )
    assert await anonymous_accounts.Sweep(asking.services.embedded).run() == 0
    mail = await newest_to(asking, email, "email_change_new")
    _, _, said = landed(await open_and_press(caller, mail.link))
    assert (await signed_in(caller, said).get(f"/api/v1/chat/{conversation}")).status == 200


async def test_guest_whose_mail_has_expired_is_deleted(
    start: StartNode, database: MigratedDatabase
) -> None:
    """An address that nobody confirmed in time brings nobody back."""
    asking = await start(MAILER_AUTOCONFIRM="off", **OPEN)
    caller = asking.nobody()
    session = await guest(caller)
    here = signed_in(caller, session)
    await here.call("PUT", "/auth/v1/user", json={"email": new_address()})
    await here.post("/auth/v1/logout")
    who = UUID(session["user"]["id"])
    database.operate(
        "update chatkeep.users set created_at = now() - interval '2 hours' where id = %s", who
    )
    database.operate(
        "update chatkeep.one_time_tokens set expires_at = now() where user_id = %s", who
    )
    assert await anonymous_accounts.Sweep(asking.services.embedded).run() == 1


async def test_guests_who_leave_are_deleted_however_many(
    node: Node, caller: Client, database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than are looked for at a time; where many try first they would grow without an end."""
    await guests_who_left(caller, database, 3)
    monkeypatch.setattr(anonymous_accounts, "_AT_A_TIME", 1)
    assert await anonymous_accounts.Sweep(node.services.embedded).run() == 3


async def test_guest_who_cannot_be_deleted_keeps_nobody_behind_them(
    node: Node,
    caller: Client,
    database: MigratedDatabase,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As whom a table of the operator names; the log says who, and a later time may do it."""
    first, *_ = await guests_who_left(caller, database, 3)
    database.operate("create table public.held (id uuid references chatkeep.users (id))")
    database.operate("insert into public.held values (%s)", first)
    monkeypatch.setattr(anonymous_accounts, "_AT_A_TIME", 1)
    try:
        assert await anonymous_accounts.Sweep(node.services.embedded).run() == 2
    finally:
        database.operate("drop table public.held")
    assert f"the guest {first} cannot be deleted" in caplog.text
    assert await anonymous_accounts.Sweep(node.services.embedded).run() == 1


async def test_guests_are_left_alone_while_the_database_is_away(
    node: Node, caller: Client, database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is away for the next one, too; two log-outs that wait for each other are theirs alone."""
    await guests_who_left(caller, database, 2)
    failures: list[ChatkeepError] = [DatabaseUnavailable(), Unavailable(), Unavailable()]

    async def fail(*_: object) -> None:
        raise failures.pop(0)

    with monkeypatch.context() as failing:
        failing.setattr("chatkeep.personal_data.erasure.erase_words", fail)
        with pytest.raises(DatabaseUnavailable):
            await anonymous_accounts.Sweep(node.services.embedded).run()
        assert await anonymous_accounts.Sweep(node.services.embedded).run() == 0
    assert failures == []
    assert await anonymous_accounts.Sweep(node.services.embedded).run() == 2


async def test_guests_on_whom_others_hold_a_lock_are_not_waited_for_one_by_one(
    node: Node,
    caller: Client,
    database: MigratedDatabase,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first one who takes too long ends the round, once in the log; the next goes behind."""
    first, second, third = await guests_who_left(caller, database, 3)
    tried: list[UUID] = []
    delete = administration.delete_account

    async def count(issuer: EmbeddedIssuer, person: UUID, *, actor: str) -> None:
        tried.append(person)
        await delete(issuer, person, actor=actor)

    monkeypatch.setattr(administration, "delete_account", count)
    sweep = anonymous_accounts.Sweep(node.services.embedded)
    with psycopg.connect(database.admin_url) as admin, monkeypatch.context() as impatient:
        impatient.setattr("chatkeep.db._STATEMENT_TIMEOUT", "500ms")
        admin.execute("select from chatkeep.users where id = any(%s) for update", [[first, second]])
        assert await sweep.run() == 0
        assert tried == [first]
        assert await sweep.run() == 0
        assert tried == [first, second]
        assert await sweep.run() == 1
        assert tried == [first, second, third]
        told = [one.getMessage() for one in caplog.records if "guest" in one.getMessage()]
        assert told == [
            f"no guest is deleted for now: {one} took too long" for one in (first, second)
        ]
    assert await sweep.run() == 2


async def test_guest_asks_for_few_addresses(start: StartNode) -> None:
    """Wishing for an address tells whether somebody has it, so that is not for thousands."""
    node = await start(**OPEN, RATE_LIMITS="on", MAILER_AUTOCONFIRM="off")
    here = signed_in(node.nobody(), await guest(node.nobody()))
    statuses = []
    for _ in range(14):
        body = {"email": new_address()}
        statuses.append((await here.call("PUT", "/auth/v1/user", json=body)).status)
    # As many from wherever, and as many from where they signed in.
    assert statuses == [200] * 12 + [429] * 2
