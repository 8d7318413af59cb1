"""Every authentication event is written down, with its change or not at all, and no secret is."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from fastapi import Depends, FastAPI

from chatkeep import audit
from chatkeep.errors import DatabaseUnavailable
from chatkeep.request_origin import RequestOrigin, request_origin
from chatkeep.web.guard import ChatkeepMiddleware, require
from tests.gotrue_people import OURS_ALONE, PASSWORD, refresh, sign_in
from tests.http.test_guard import served
from tests.serving import SERVER_SECRET, start_node, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from chatkeep.audit import Entry
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Client, Node

NEXT_PASSWORD = "Battery-42-staple-horse"
_numbers = count()
NODE_SETTINGS = {**OURS_ALONE, "RATE_LIMITS": "off", "SESSIONS_PER_USER": "3"}


async def signed_up(caller: Client) -> dict[str, Any]:
    """Make somebody new; return the answer."""
    email = f"audited-{next(_numbers)}@example.com"
    answer = await caller.post("/auth/v1/signup", {"email": email, "password": PASSWORD})
    assert answer.status == 200, answer.text
    return {**answer.json, "email": email}


async def entries(node: Node, **filters: str) -> list[Entry]:
    """Return what the log says, oldest first."""
    await node.services.embedded.notices.write()
    about, action = filters.get("user_id"), filters.get("action")
    outcome = filters.get("outcome")
    found = await audit.listed(node.services.db, user_id=about, action=action, outcome=outcome)
    return found[::-1]


def in_short(found: list[Entry]) -> list[tuple[str, str, str | None]]:
    """Return what was done, with which outcome and why."""
    return [(one.action, one.outcome, one.reason) for one in found]


async def test_the_life_of_an_account_is_written_down(node: Node, caller: Client) -> None:
    """Sign-up, sign-in, refresh, its repetition, an update, a new password and each log-out."""
    person = await signed_up(caller)
    user_id = person["user"]["id"]
    second = (await sign_in(caller, person["email"])).json
    bearer = caller.but(authorization=f"Bearer {second['access_token']}")
    for _ in range(2):
        assert (await refresh(caller, second["refresh_token"])).status == 200
    changed = {"data": {"nickname": "Ana"}, "password": NEXT_PASSWORD}
    assert (await bearer.call("PUT", "/auth/v1/user", json=changed)).status == 200
    assert (await bearer.post("/auth/v1/logout?scope=global")).status == 204
    found = await entries(node, user_id=user_id)
    assert in_short(found) == [
        ("user.created", "succeeded", None),
        ("session.begun", "succeeded", None),
        ("session.begun", "succeeded", None),
        ("session.refreshed", "succeeded", None),
        ("session.refreshed", "succeeded", "given_again"),
        ("session.ended", "succeeded", "password_changed"),
        ("user.updated", "succeeded", None),
        ("session.ended", "succeeded", "logout"),
    ]
    assert found[-1].details == {"scope": "global"}
    assert found[6].details == {"changed": ["password", "metadata"]}
    assert {one.actor for one in found} == {user_id}
    assert all(one.request_id and one.address == "127.0.0.1" for one in found)
    assert {one.issuer for one in found} == {"embedded"}


@pytest.mark.parametrize("scope", ["local", "others", "global"])
async def test_each_scope_of_log_out_names_the_sessions_it_ended(
    node: Node, caller: Client, scope: str
) -> None:
    """One entry a session, and which scope was asked for."""
    person = await signed_up(caller)
    await sign_in(caller, person["email"])
    bearer = caller.but(authorization=f"Bearer {person['access_token']}")
    assert (await bearer.post(f"/auth/v1/logout?scope={scope}")).status == 204
    found = await entries(node, user_id=person["user"]["id"], action="session.ended")
    assert len({one.session_id for one in found}) == (2 if scope == "global" else 1)
    assert {(one.reason, one.details["scope"]) for one in found} == {("logout", scope)}


async def test_a_stolen_refresh_token_leaves_its_trace(node: Node, caller: Client) -> None:
    """That the family ended is written with it; further tries with it are refusals."""
    person = await signed_up(caller)
    token = person["refresh_token"]
    for _ in range(3):
        token = (await refresh(caller, token)).json["refresh_token"]
    for _ in range(2):
        assert (await refresh(caller, person["refresh_token"])).status == 400
    ended = await entries(node, user_id=person["user"]["id"], action="session.ended")
    assert in_short(ended) == [("session.ended", "succeeded", "refresh_token_reused")]
    assert ended[0].actor == "server"
    tries = await entries(node, action="session.refreshed", outcome="refused")
    assert [one.reason for one in tries if one.session_id == ended[0].session_id] == [
        "refresh_token_not_found"
    ]


async def test_a_sign_in_beyond_the_number_of_sessions_says_which_it_ended(
    node: Node, caller: Client
) -> None:
    """The one that was used least lately."""
    person = await signed_up(caller)
    for _ in range(3):
        assert (await sign_in(caller, person["email"])).status == 200
    ended = await entries(node, user_id=person["user"]["id"], action="session.ended")
    assert [one.reason for one in ended] == ["too_many_sessions"]


async def test_ending_a_session_from_the_list_is_written_down(node: Node, caller: Client) -> None:
    """One, all others, and by the name its issuer gave it."""
    person = await signed_up(caller)
    bearer = caller.but(authorization=f"Bearer {person['access_token']}", apikey=None)
    other = (await sign_in(caller, person["email"])).json["user"]
    await sign_in(caller, person["email"])
    listed = (await bearer.get("/api/sessions")).json["sessions"]
    one = next(each for each in listed if not each["current"])
    assert (await bearer.delete(f"/api/sessions/{one['id']}")).status == 204
    assert (await bearer.post("/api/sessions/revoke-others")).status == 200
    assert (await bearer.post("/auth/logout")).status == 200
    ended = await entries(node, user_id=other["id"], action="session.ended")
    assert [each.reason for each in ended] == ["revoked", "revoked", "logout"]
    assert ended[0].session_id == one["id"]


async def test_what_was_refused_says_why_and_about_whom(node: Node, caller: Client) -> None:
    """A wrong password names the person, an unknown address nobody, a bad bearer its reason."""
    person = await signed_up(caller)
    assert (await sign_in(caller, person["email"], "not theirs")).status == 400
    assert (await sign_in(caller, "nobody-at-all@example.com", "not theirs")).status == 400
    known, unknown = (await entries(node, action="session.begun", outcome="refused"))[-2:]
    assert (known.user_id, known.reason) == (person["user"]["id"], "invalid_credentials")
    assert (unknown.user_id, unknown.reason) == (None, "invalid_credentials")
    for path in ("/api/v1/chat", "/auth/v1/user"):
        bearer = node.nobody(authorization=f"Bearer {person['access_token'][:-4]}AAAA")
        answer = await bearer.get(path)
        assert answer.status in {401, 403}
        newest = (await entries(node, action="credential.refused"))[-1]
        assert newest.request_id == answer.headers["x-request-id"]
        assert newest.reason == "token_invalid"


async def test_a_flood_of_bad_bearers_fills_no_disk(node: Node) -> None:
    """The first of a minute are entries; the rest is one, that says how many it stands for."""
    notices = node.services.embedded.notices
    await notices.write()  # what others were refused before
    before = len(await audit.listed(node.services.db, action="credential.refused", limit=1000))
    notices._since = float("-inf")
    bearer = node.nobody(authorization="Bearer not-a-token")
    for _ in range(10):
        await asyncio.gather(*(bearer.get("/api/v1/chat") for _ in range(10)))
    await notices.write()
    written = await audit.listed(node.services.db, action="credential.refused", limit=1000)
    assert len(written) - before == audit.EACH_A_MINUTE
    notices._since = float("-inf")
    await notices.write()
    newest = (await audit.listed(node.services.db, action="credential.refused", limit=1))[0]
    assert newest.details == {"times": 100 - audit.EACH_A_MINUTE, "within_s": 60}


async def test_a_flood_from_everywhere_is_bounded_too(node: Node) -> None:
    """However many addresses it comes from, so many entries a minute and no more."""
    notices = audit.Notices(node.services.db)
    for number in range(5000):
        request_origin.set(RequestOrigin(address=f"10.{number % 50}.{number // 50}.1"))
        notices.note("credential.refused", reason="flood_of_the_test")
    assert len(notices._waiting) == audit.ALL_A_MINUTE
    await notices.write()
    notices._since = float("-inf")
    notices._turn()
    assert len(notices._waiting) <= 201
    await notices.write()
    newest = await audit.listed(node.services.db, action="credential.refused", limit=300)
    times = sum(one.details["times"] for one in newest if "times" in one.details)
    assert times >= 5000 - audit.ALL_A_MINUTE


async def test_what_waits_for_a_database_that_is_away_is_bounded(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest are kept, however many minutes it is away and a flood goes on."""
    minute = 0.0
    notices = audit.Notices(node.services.db, clock=lambda: minute)

    async def away(*_: object) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(node.services.db, "fetch_all", away)
    for _ in range(3):
        for number in range(2000):
            request_origin.set(RequestOrigin(address=f"10.{number % 50}.{number // 50}.1"))
            notices.note("credential.refused", reason="flood_of_the_test")
        with pytest.raises(DatabaseUnavailable):
            await notices.write()
        assert len(notices._waiting) == audit.ALL_A_MINUTE
        minute += 60.0


@asynccontextmanager
async def full_disk(database: MigratedDatabase) -> AsyncIterator[None]:
    """Let no entry be written, until the block ends.

    Both statements wait for whoever is sealing the log, and that goes on in this very loop.
    """
    await asyncio.to_thread(
        database.operate,
        "create function chatkeep.no_room() returns trigger language plpgsql as"
        " $$ begin raise disk_full; end $$;"
        " create trigger no_room before insert on chatkeep.audit_log"
        " for each row execute function chatkeep.no_room()",
    )
    try:
        yield
    finally:
        await asyncio.to_thread(database.operate, "drop function chatkeep.no_room cascade")


def state(database: MigratedDatabase) -> list[tuple[Any, ...]]:
    """Return all that the operations below could have changed."""
    with psycopg.connect(database.admin_url) as connection:
        return connection.execute(
            "select 'user', id::text, user_metadata::text from chatkeep.users union all"
            " select 'session', id::text, concat(is_active, refresh_counter)"
            " from public.user_sessions union all"
            " select 'ended', subject, number::text from chatkeep.revocations order by 1, 2"
        ).fetchall()


async def test_without_a_log_nobody_signs_in_and_nothing_changes(
    node: Node, caller: Client, database: MigratedDatabase
) -> None:
    """Each operation fails whole, with an answer in the words of its surface; then all is well."""
    person = await signed_up(caller)
    bearer = caller.but(authorization=f"Bearer {person['access_token']}")
    await asyncio.gather(*(bearer.get("/api/sessions") for _ in range(2)))
    before = state(database)
    async with full_disk(database):
        again = {"email": "new-while-full@example.com", "password": PASSWORD}
        on_gotrue = [
            await caller.post("/auth/v1/signup", again),
            await sign_in(caller, person["email"]),
            await refresh(caller, person["refresh_token"]),
            await bearer.call("PUT", "/auth/v1/user", json={"data": {"a": 1}}),
            await bearer.post("/auth/v1/logout?scope=global"),
        ]
        assert [answer.status for answer in on_gotrue] == [503] * 5
        assert all(answer.json.keys() == {"code", "error_code", "msg"} for answer in on_gotrue)
        session_id = (await bearer.get("/api/sessions")).json["sessions"][0]["id"]
        elsewhere = [
            await bearer.delete(f"/api/sessions/{session_id}"),
            await bearer.post("/api/sessions/revoke-all"),
            await bearer.but(apikey=None).post("/auth/logout"),
            await caller.post("/auth/token/refresh", {"refresh_token": person["refresh_token"]}),
        ]
        assert [answer.status for answer in elsewhere] == [503] * 4
        assert all({"type", "status", "code"} <= answer.json.keys() for answer in elsewhere)
        assert state(database) == before
    assert (await refresh(caller, person["refresh_token"])).status == 200


async def test_no_secret_and_no_word_of_anybody_is_in_the_log(
    node: Node, caller: Client, database: MigratedDatabase
) -> None:
    """Tokens, passwords, keys and messages that went through the server stand nowhere in it."""
    person = await signed_up(caller)
    bearer = caller.but(authorization=f"Bearer {person['access_token']}")
    said = "canary-message-4711"
    await bearer.but(apikey=None).post("/api/v1/chat/message", {"message": said})
    await sign_in(caller, person["email"], "canary-password-4711")
    await sign_in(caller, "canary-password-as-name-4711", PASSWORD)
    await bearer.call("PUT", "/auth/v1/user", json={"password": NEXT_PASSWORD, "data": {"a": said}})
    await refresh(caller, person["refresh_token"])
    await refresh(caller, "canary-refresh-4711")
    await node.nobody(authorization="Bearer canary-bearer-4711").get("/api/v1/chat")
    await node.nobody(cookie="chatkeep_session=canary-cookie-4711").get("/api/v1/chat")
    await node.services.embedded.notices.write()
    with psycopg.connect(database.admin_url) as connection:
        rows = connection.execute("select to_jsonb(l) from chatkeep.audit_log l").fetchall()
    everything = json.dumps(rows)
    keys = node.services.embedded.supabase_keys
    secrets = (
        *(person["access_token"], person["refresh_token"], keys.secret, keys.publishable),
        *(PASSWORD, NEXT_PASSWORD, str(node.services.settings.secret), "canary", person["email"]),
    )
    assert [one for one in secrets if one in everything] == []


async def test_the_development_header_is_written_down(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> None:
    """Whoever it named, and that it was used."""
    node = await start_node(
        database.url,
        session,
        project,
        **OURS_ALONE,
        ENVIRONMENT="development",
        DEVELOPMENT_USER_HEADER="on",
    )
    try:
        assert (
            await node.nobody(**{"x-user-id": "dev-of-the-log"}).get("/api/v1/chat")
        ).status == 200
        (found,) = await entries(node, user_id="dev-of-the-log")
        assert (found.action, found.outcome) == ("development_header.used", "succeeded")
    finally:
        await node.stop()


@pytest.mark.parametrize("middleware", [False, True], ids=["dependency", "middleware"])
async def test_a_refused_step_up_is_written_down(
    node: Node,
    caller: Client,
    session: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    middleware: bool,
) -> None:
    """An application of one's own on the same database: the entry is in the server's log."""
    for name, value in (("DATABASE_URL", node.services.db.url), ("CHATKEEP_SECRET", SERVER_SECRET)):
        monkeypatch.setenv(name, value)
    app = FastAPI()

    @app.get("/vault", dependencies=[Depends(require(aal="aal2"))])
    async def vault() -> str:
        return "gold"

    guarded: Any = ChatkeepMiddleware(app) if middleware else app
    person = await signed_up(caller)
    async with served(guarded, session) as elsewhere:
        there = elsewhere.but(authorization=f"Bearer {person['access_token']}")
        assert (await there.get("/vault")).status == 401

        async def is_written() -> bool:
            found = await entries(node, user_id=person["user"]["id"], action="step_up.refused")
            return in_short(found) == [("step_up.refused", "refused", "step_up_required")]

        await until(is_written)
