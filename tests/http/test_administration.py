"""Administrators among people: what they may, who is none, and what none of them can."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from chatkeep import audit
from chatkeep.administration import administrators
from chatkeep.db import AUTH
from tests.gotrue_people import OURS_ALONE, PASSWORD, nobody, sign_in, sign_up, signed_in
from tests.http.test_matrix import ENDLESS
from tests.postgres_servers import LOGIN, MigratedDatabase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.http.conftest import StartNode
    from tests.postgres_servers import Server
    from tests.serving import Node

ADMIN = "/api/admin"
TEXT = {"role": "user", "parts": [{"type": "text", "text": "Nobody else may read this"}]}
#: The first node decides whose ids are bare, so every test has it.
NODE_SETTINGS = OURS_ALONE
pytestmark = pytest.mark.usefixtures("node")


class Member:
    """Somebody with an account and a session."""

    def __init__(self, node: Node, session: dict[str, Any]) -> None:
        """Remember who that is."""
        self.node = node
        self.session = session
        self.id = str(session["user"]["id"])
        self.email = str(session["user"]["email"])
        self.client = signed_in(nobody(node), session)

    async def grant(self, role: str = "admin") -> None:
        """Give them a role, as the operator does."""
        await administrators.grant_role(
            self.node.services.embedded, UUID(self.id), role, actor="operator"
        )

    async def revoke(self, role: str = "admin") -> None:
        """Take a role away, as the operator does."""
        await administrators.revoke_role(
            self.node.services.embedded, UUID(self.id), role, actor="operator", administrators=()
        )


async def join(node: Node) -> Member:
    """Return somebody new."""
    return Member(node, await sign_up(nobody(node)))


@pytest.fixture
async def ana(node: Node) -> Member:
    """Somebody new."""
    return await join(node)


@pytest.fixture
async def admin(node: Node) -> AsyncIterator[Member]:
    """An administrator, until the test ends."""
    member = await join(node)
    await member.grant()
    yield member
    await member.revoke()


def routes(of: str) -> list[tuple[str, str, dict[str, Any] | None]]:
    """Return every route of administration, about the person *of*."""
    return [
        ("GET", f"{ADMIN}/users", None),
        ("GET", f"{ADMIN}/users/{of}", None),
        ("POST", f"{ADMIN}/users/{of}/ban", {"seconds": 60}),
        ("POST", f"{ADMIN}/users/{of}/unban", {}),
        ("POST", f"{ADMIN}/users/{of}/sign-out", {}),
        ("GET", f"{ADMIN}/users/{of}/sessions", None),
        ("DELETE", f"{ADMIN}/users/{of}/sessions/{uuid4()}", None),
        ("GET", f"{ADMIN}/users/{of}/keys", None),
        ("DELETE", f"{ADMIN}/users/{of}/keys/{uuid4()}", None),
        ("POST", f"{ADMIN}/sign-out-everybody", {}),
        ("GET", f"{ADMIN}/audit", None),
        ("GET", f"{ADMIN}/audit/export", None),
        ("GET", f"{ADMIN}/claims", None),
        ("GET", f"{ADMIN}/limits", None),
        ("GET", f"{ADMIN}/overview", None),
        ("GET", f"{ADMIN}/users/{of}/usage", None),
        ("GET", f"{ADMIN}/signing-keys", None),
    ]


async def age(node: Node, member: Member, by: str) -> None:
    """Let the member's sign-in have been longer ago; their next token says so."""
    await node.services.db.execute(
        AUTH,
        "update public.user_sessions set amr = jsonb_build_array(jsonb_build_object('method',"
        " 'password', 'timestamp', extract(epoch from now() - %s::interval)::bigint))"
        " where user_id = %s",
        (by, member.id),
    )
    answer = await nobody(node).post(
        "/auth/v1/token?grant_type=refresh_token",
        {"refresh_token": member.session["refresh_token"]},
    )
    member.client = signed_in(nobody(node), answer.json)


# --- who may --------------------------------------------------------------------------------------


async def test_the_list_above_is_complete(node: Node, ana: Member) -> None:
    """Every documented route of administration is tried below."""
    paths = (await node.nobody().get("/openapi.json")).json["paths"]
    documented = {
        (method.upper(), path.count("/"))
        for path, operations in paths.items()
        for method in operations
        if path.startswith(ADMIN)
    }
    assert {(method, path.count("/")) for method, path, _ in routes(ana.id)} == documented
    assert len(routes(ana.id)) == sum(
        len(operations) for path, operations in paths.items() if path.startswith(ADMIN)
    )


async def test_people_are_not_administrators(start: StartNode, database: MigratedDatabase) -> None:
    """Neither by what they write about themselves, nor with the secret key; and it is noted."""
    node = await start(database.url, **OURS_ALONE)
    ana = await join(node)
    await ana.client.call("PUT", "/auth/v1/user", json={"data": {"roles": ["admin"]}})
    again = signed_in(nobody(node), (await sign_in(nobody(node), ana.email)).json)
    for method, path, body in routes(ana.id):
        answer = await again.call(method, path, json=body)
        assert (answer.status, answer.json["code"]) == (403, "forbidden"), path
        answer = await node.nobody().call(method, path, json=body)
        assert answer.status == 401
        secret = node.services.embedded.supabase_keys.secret
        holder = node.nobody(authorization=f"Bearer {secret}", apikey=secret)
        assert (await holder.call(method, path, json=body)).status == 401
    await node.services.embedded.notices.write()
    refused = await audit.listed(
        node.services.db, user_id=ana.id, action="administration.refused", outcome="refused"
    )
    assert len(refused) == len(routes(ana.id))


async def test_role_is_needed_now_not_when_the_token_was_made(
    node: Node, ana: Member, admin: Member
) -> None:
    """A role counts from the next request on, and one that was taken away no more from then on."""
    assert (await ana.client.get(f"{ADMIN}/users")).status == 403
    await ana.grant()
    assert (await ana.client.get(f"{ADMIN}/users")).status == 200
    token = (await sign_in(nobody(node), ana.email)).json
    assert token["user"]["app_metadata"]["roles"] == ["admin"]
    await ana.revoke()
    for client in (ana.client, signed_in(nobody(node), token)):
        assert (await client.get(f"{ADMIN}/users")).status == 403
    assert (await admin.client.get(f"{ADMIN}/users")).status == 200


async def test_banned_administrator_is_none(node: Node, ana: Member, admin: Member) -> None:
    """Whoever is suspended is out, and learns nothing more."""
    await ana.grant()
    answer = await admin.client.post(f"{ADMIN}/users/{ana.id}/ban", {"reason": "left"})
    assert answer.status == 200, answer.text
    assert (await ana.client.get(f"{ADMIN}/users")).status == 401
    await ana.revoke()
    assert node.services


async def test_roles_of_another_name(start: StartNode, database: MigratedDatabase) -> None:
    """`ADMIN_ROLES` says which ones; the usual one is none then."""
    node = await start(database.url, **OURS_ALONE, ADMIN_ROLES="support,root")
    usual, named = await join(node), await join(node)
    await usual.grant("admin")
    await named.grant("support")
    assert (await usual.client.get(f"{ADMIN}/users")).status == 403
    assert (await named.client.get(f"{ADMIN}/users")).status == 200
    await usual.revoke()


async def test_role_of_another_issuer_counts(start: StartNode, database: MigratedDatabase) -> None:
    """Where its operator writes it: `app_metadata` of Supabase, and never `user_metadata`."""
    node = await start(database.url, PRIMARY_ISSUER="embedded")
    now: dict[str, Any] = {"amr": [{"method": "password", "timestamp": 4102444800}]}
    theirs = node.person(app_metadata={"roles": ["admin"]}, **now)
    assert (await theirs.client.get(f"{ADMIN}/users")).status == 200
    own = node.person(user_metadata={"roles": ["admin"]}, roles=["admin"], **now)
    assert (await own.client.get(f"{ADMIN}/users")).status == 403
    system = node.person(role="service_role", **now)
    assert (await system.client.get(f"{ADMIN}/users")).status == 401


async def test_development_header_administers_nothing(
    start: StartNode, database: MigratedDatabase, admin: Member
) -> None:
    """A name without proof is no administrator, though one is called so."""
    header: dict[str, Any] = {"ENVIRONMENT": "development", "DEVELOPMENT_USER_HEADER": "on"}
    node = await start(database.url, **OURS_ALONE, **header)
    answer = await node.nobody(x_user_id=admin.id).get(f"{ADMIN}/users")
    assert (answer.status, answer.json["code"]) == (403, "forbidden")


# --- how lately, and how well ---------------------------------------------------------------------


async def test_old_sign_in_reads_and_changes_nothing(node: Node, ana: Member) -> None:
    """Whoever signed in two hours ago signs in again first, and is told how (RFC 9470)."""
    member = await join(node)
    await member.grant()
    await age(node, member, "2 hours")
    for method, path, body in routes(ana.id):
        answer = await member.client.call(method, path, json=body)
        if method == "GET":
            assert answer.status == 200
        else:
            assert (answer.status, answer.json["code"]) == (401, "step_up_required"), path
            said = answer.headers["www-authenticate"]
            assert 'error="insufficient_user_authentication"' in said
            assert 'max_age="3600"' in said
    assert (await ana.client.get("/api/v1/chat")).status == 200
    await member.revoke()


async def test_second_factor_must_be_shown(node: Node, ana: Member) -> None:
    """An administrator who has one is none without it, for reading too."""
    member = await join(node)
    await member.grant()
    await node.services.db.execute(
        AUTH,
        "insert into chatkeep.factors (user_id, id, factor_type, status)"
        " values (%s, %s, 'totp', 'verified')",
        (member.id, uuid4()),
    )
    for method, path, body in routes(ana.id):
        answer = await member.client.call(method, path, json=body)
        assert (answer.status, answer.json["code"]) == (401, "step_up_required"), path
        assert 'acr_values="aal2"' in answer.headers["www-authenticate"]
    await node.services.db.execute(
        AUTH, "update public.user_sessions set aal = 'aal2' where user_id = %s", (member.id,)
    )
    await age(node, member, "1 minute")
    assert (await member.client.get(f"{ADMIN}/users")).status == 200
    await member.revoke()


async def test_page_of_another_site_administers_nothing(node: Node, admin: Member) -> None:
    """With the administrator's cookie, a write that another site sent is refused."""
    answer = await node.nobody(origin=node.url).post(
        "/auth/sign-in", {"email": admin.email, "password": PASSWORD}
    )
    assert answer.status == 200, answer.text
    cookie = answer.headers["set-cookie"].partition(";")[0]
    browser = node.nobody(cookie=cookie)
    assert (await browser.get(f"{ADMIN}/users")).status == 200
    for origin in ("https://evil.example", "null", None):
        answer = await browser.but(origin=origin).post(f"{ADMIN}/sign-out-everybody", {})
        assert (answer.status, answer.json["code"]) == (403, "cross_site_request")
    own = browser.but(origin=node.url)
    assert (await own.post(f"{ADMIN}/users/{uuid4()}/sign-out", {})).status == 200


# --- what they do ---------------------------------------------------------------------------------


async def test_people_are_found(node: Node, admin: Member, ana: Member) -> None:
    """By part of an address, with what an administrator needs and nothing that signs in."""
    found = (await admin.client.get(f"{ADMIN}/users?query={ana.email.upper()}")).json
    assert [one["user_id"] for one in found["users"]] == [ana.id]
    assert (found["total"], found["next_cursor"]) == (1, None)
    one = (await admin.client.get(f"{ADMIN}/users/{ana.id}")).json
    assert one == found["users"][0]
    assert "password" not in str(one)
    page = (await admin.client.get(f"{ADMIN}/users?limit=1")).json
    after = (await admin.client.get(f"{ADMIN}/users?limit=1&cursor={page['next_cursor']}")).json
    assert page["users"][0]["user_id"] != after["users"][0]["user_id"]
    for nobodys in (uuid4(), "x", "supabase:1"):
        assert (await admin.client.get(f"{ADMIN}/users/{nobodys}")).status == 404


async def test_ban_holds_at_once_until_it_is_lifted(node: Node, admin: Member, ana: Member) -> None:
    """At once, until it is lifted, with the reason in the log."""
    answer = await admin.client.post(f"{ADMIN}/users/{ana.id}/ban", {"reason": "spam"})
    assert answer.json["banned_until"].startswith("3")
    assert (await ana.client.get("/api/v1/chat")).json["code"] == "token_revoked"
    assert (await sign_in(nobody(node), ana.email)).json["error_code"] == "user_banned"
    answer = await admin.client.post(f"{ADMIN}/users/{ana.id}/unban", {})
    assert answer.json["banned_until"] is None
    assert (await sign_in(nobody(node), ana.email)).status == 200
    (entry,) = await audit.listed(node.services.db, user_id=ana.id, action="user.banned")
    assert (entry.actor, entry.reason) == (admin.id, "spam")


async def test_sessions_of_somebody_are_listed_without_tokens(
    node: Node, admin: Member, ana: Member
) -> None:
    """Nothing in the list works as a bearer or refreshes, and it says what ended and why."""
    listed = (await admin.client.get(f"{ADMIN}/users/{ana.id}/sessions")).json["sessions"]
    assert len(listed) == 1
    for text in {str(value) for value in listed[0].values() if value}:
        if not text.isprintable() or " " in text:
            continue
        assert (await node.nobody(authorization=f"Bearer {text}").get("/me")).status == 401
        body = {"refresh_token": text}
        answer = await nobody(node).post("/auth/v1/token?grant_type=refresh_token", body)
        assert answer.status == 400
    assert ana.session["refresh_token"] not in str(listed)
    path = f"{ADMIN}/users/{ana.id}/sessions/{listed[0]['id']}"
    assert (await admin.client.delete(path)).status == 204
    assert (await admin.client.delete(path)).status == 404
    assert (await ana.client.get("/api/v1/chat")).status == 401
    rest = (await admin.client.get(f"{ADMIN}/users/{ana.id}/sessions")).json["sessions"]
    assert rest == []
    ended = (await admin.client.get(f"{ADMIN}/users/{ana.id}/sessions?ended=true")).json
    assert ended["sessions"][0]["reason"] == "revoked"
    (entry,) = await audit.listed(node.services.db, user_id=ana.id, action="session.ended")
    assert (entry.actor, entry.session_id) == (admin.id, listed[0]["id"])


async def test_force_somebody_out(node: Node, admin: Member, ana: Member) -> None:
    """Every session and open stream ends; they may sign in again."""
    more = signed_in(nobody(node), (await sign_in(nobody(node), ana.email)).json)
    gate = asyncio.Event()
    node.stage.play(["One ", gate, "two"])
    async with more.stream("/api/chat", {"id": "out", "message": TEXT}) as stream:
        await stream.next()
        answer = await admin.client.post(f"{ADMIN}/users/{ana.id}/sign-out", {"reason": "lost"})
        assert answer.json == {"revoked": 2}
        rest = await stream.rest()
    gate.set()
    assert rest[-2].data["type"] == "error"
    for client in (ana.client, more):
        assert (await client.get("/api/v1/chat")).status == 401
    assert (await sign_in(nobody(node), ana.email)).status == 200
    assert (await admin.client.get(f"{ADMIN}/users")).status == 200


async def test_token_of_another_issuer_is_forced_out(
    start: StartNode, database: MigratedDatabase, admin: Member
) -> None:
    """Also one that was never shown here before."""
    node = await start(database.url, PRIMARY_ISSUER="embedded")
    theirs = node.person()
    seen = await theirs.client.get("/api/sessions")
    assert seen.status == 200
    here = admin.client.but(url=node.url)
    answer = await here.post(f"{ADMIN}/users/supabase:{theirs.id}/sign-out", {})
    assert answer.json == {"revoked": 1}
    assert (await theirs.client.get("/api/v1/chat")).status == 401


async def test_force_everybody_out(start: StartNode, postgres: Server) -> None:
    """Everybody's sessions and tokens end, the administrator's too; then they sign in again."""
    name = postgres.new_database(template=postgres.migrated_template())
    node = await start(MigratedDatabase(server=postgres, name=name).url, **OURS_ALONE)
    admin, ana = await join(node), await join(node)
    await admin.grant()
    answer = await admin.client.post(f"{ADMIN}/sign-out-everybody", {"reason": "breach"})
    assert answer.json == {"revoked": 2}
    for member in (admin, ana):
        assert (await member.client.get("/api/v1/chat")).status == 401


async def test_revoke_by_id_is_for_administrators_too(
    node: Node, admin: Member, ana: Member
) -> None:
    """The token service ends anybody's session for them, and for nobody else."""
    other = await join(node)
    (listed,) = (await ana.client.get("/api/sessions")).json["sessions"]
    body = {"session_id": listed["id"]}
    assert (await other.client.post("/auth/session/revoke", body)).status == 404
    assert (await admin.client.post("/auth/session/revoke", body)).json["revoked"] is True
    assert (await ana.client.get("/api/v1/chat")).status == 401
    assert (await admin.client.post("/auth/session/revoke", body)).status == 404
    assert (await admin.client.post("/auth/session/revoke", {"session_id": "x"})).status == 404


async def test_the_log_is_read(node: Node, admin: Member, ana: Member) -> None:
    """Filtered and paged, and a wrong question is said to be one."""
    path = f"{ADMIN}/audit?user_id={ana.id}"
    found = (await admin.client.get(path)).json
    assert {one["user_id"] for one in found["entries"]} == {ana.id}
    page = (await admin.client.get(f"{ADMIN}/audit?limit=1")).json
    after = (await admin.client.get(f"{ADMIN}/audit?limit=1&before={page['next_before']}")).json
    assert page["entries"][0]["number"] > after["entries"][0]["number"]
    for wrong in ("limit=0", "limit=1001", "before=0", "since=x", f"before={2**63}"):
        assert (await admin.client.get(f"{ADMIN}/audit?{wrong}")).status == 422


# --- what none of them can ------------------------------------------------------------------------


async def test_last_administrator_stays(node: Node) -> None:
    """Nobody takes the last one away, themselves included; with two, one of them goes."""
    first, second = await join(node), await join(node)
    await first.grant()
    answer = await first.client.post(f"{ADMIN}/users/{first.id}/ban", {})
    assert (answer.status, answer.json["code"]) == (409, "last_administrator")
    await second.grant()
    both = await asyncio.gather(
        first.client.post(f"{ADMIN}/users/{second.id}/ban", {}),
        second.client.post(f"{ADMIN}/users/{first.id}/ban", {}),
    )
    done, refused = sorted(one.status for one in both)
    assert done == 200
    assert refused in {401, 409}
    await first.revoke()
    await second.revoke()


@pytest.mark.parametrize("metadata", [{"role": "editor admin"}, {"roles": "admin editor"}], ids=str)
async def test_last_administrator_by_several_words_stays(
    start: StartNode, metadata: dict[str, str]
) -> None:
    """Who may administer by a text of roles counts; an object with the name as a key does not."""
    node = await start(**OURS_ALONE)
    last, phantom = await join(node), await join(node)
    for one, said in ((last, metadata), (phantom, {"roles": {"admin": True}})):
        await node.services.db.execute(
            AUTH,
            "update chatkeep.users set app_metadata = %s::jsonb where id = %s",
            (json.dumps(said), one.id),
        )
    assert (await phantom.client.get(f"{ADMIN}/users")).status == 403
    answer = await last.client.post(f"{ADMIN}/users/{last.id}/ban", {})
    assert (answer.status, answer.json["code"]) == (409, "last_administrator")
    await node.services.db.execute(
        AUTH,
        "update chatkeep.users set app_metadata = '{}' where id = any(%s)",
        ([last.id, phantom.id],),
    )


async def test_nobody_reads_what_others_say(node: Node, admin: Member, ana: Member) -> None:
    """An administrator is a stranger to everybody's conversations, on every route."""
    started = (await ana.client.post("/api/v1/chat/start", {})).json
    conversation = started["conversation_id"]
    node.stage.play(["The answer is secret too"])
    sent = await ana.client.post(
        "/api/v1/chat/message", {"conversation_id": conversation, "message": "Secret question"}
    )
    assert sent.status == 200
    paths = (await node.nobody().get("/openapi.json")).json["paths"]
    tried = 0
    for path, operations in paths.items():
        for method in operations.keys() & {"get", "patch", "delete"}:
            if path.startswith("/auth/v1/") or path == ENDLESS:  # which says nothing, for long
                continue
            filled = path.replace("{conversation_id}", conversation).replace("{user_id}", ana.id)
            filled = filled.replace("{", "").replace("}", "")
            answer = await admin.client.call(method.upper(), filled, json=None)
            assert b"ecret question" not in answer.body, path
            assert b"answer is secret" not in answer.body, path
            tried += 1
    assert tried > 15
    assert (await ana.client.get(f"/api/v1/chat/{conversation}")).status == 200


async def test_hostile_names_are_inert(node: Node, admin: Member) -> None:
    """What people call themselves and their programs is data: JSON, never a page."""
    evil = "<img src=x onerror=alert(1)>"
    hostile = await sign_up(nobody(node).but(user_agent=evil), data={"full_name": evil})
    user_id = hostile["user"]["id"]
    for path in (f"users/{user_id}", f"users/{user_id}/sessions", f"audit?user_id={user_id}"):
        answer = await admin.client.get(f"{ADMIN}/{path}")
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.headers["x-content-type-options"] == "nosniff"
        if "users/" not in path or "sessions" in path:
            assert evil not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        *(
            "users?query=%00",
            "users?cursor=x",
            "users?cursor=WyIwMDAxLTAxLTAxVDAwOjAwOjAwWiIsIngiXQ",
        ),
        *("users/%00", "users/%F0%9F%92%A9", "users/%00/sessions", "users/a%22b/sessions"),
        *("audit?user_id=%00", "audit?action=%00", "audit?since=0001-01-01T00:00:00%2B14:00"),
        *("audit?until=9999-12-31T23:59:59-14:00", "audit?since=2024-01-01", "audit?outcome=x"),
    ],
)
async def test_odd_questions_are_answered(admin: Member, path: str) -> None:
    """Whatever an administrator asks, nothing breaks."""
    answer = await admin.client.get(f"{ADMIN}/{path}")
    assert answer.status in {200, 404, 422}, answer.text


async def test_log_is_exported_whole(
    node: Node, admin: Member, ana: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every entry that is asked for, once, over as many pages as it takes."""
    monkeypatch.setattr("chatkeep.web.routes.admin.audit._PAGE", 2)
    for _ in range(5):
        await sign_in(nobody(node), ana.email)
    answer = await admin.client.get(f"{ADMIN}/audit/export?user_id={ana.id}")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    numbers = [line["number"] for line in lines]
    assert len(numbers) == len(set(numbers)) >= 6
    assert numbers == sorted(numbers, reverse=True)
    assert {line["user_id"] for line in lines} == {ana.id}
    assert PASSWORD not in answer.text


async def test_export_that_cannot_be_is_refused(admin: Member) -> None:
    """With an answer that says so, not with a file that breaks off."""
    for odd in ("user_id=%00", "action=%00", "since=yesterday"):
        answer = await admin.client.get(f"{ADMIN}/audit/export?{odd}")
        assert answer.status == 422, odd
        assert answer.headers["content-type"] == "application/problem+json"


async def test_moment_without_a_zone_is_utc_wherever_the_database_is(
    node: Node, start: StartNode, database: MigratedDatabase, admin: Member, ana: Member
) -> None:
    """Who asks for a day gets that day, whatever the zone of the server's login is."""
    await sign_in(nobody(node), ana.email)
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    database.operate(f"alter role {LOGIN} in database {database.name} set timezone = '-12'")
    try:
        far = await start(database.url, **NODE_SETTINGS)
        client = admin.client.but(url=far.url)
        for said in (f"{hour_ago:%Y-%m-%dT%H:%M:%S}", f"{hour_ago:%Y-%m-%dT%H:%M:%SZ}"):
            found = await client.get(f"{ADMIN}/audit?user_id={ana.id}&since={said}")
            assert found.json["entries"], said
            found = await client.get(f"{ADMIN}/audit?user_id={ana.id}&until={said}")
            assert found.json["entries"] == [], said
    finally:
        database.operate(f"alter role {LOGIN} in database {database.name} reset timezone")


async def test_operations_are_shown(node: Node, admin: Member) -> None:
    """The limits in force, and the same drain of claims as the command prints."""
    limits = (await admin.client.get(f"{ADMIN}/limits")).json
    assert limits["enabled"] is node.services.settings.rate_limits
    (password,) = [one for one in limits["limits"] if one["kind"] == "account_password"]
    assert (password["burst"], password["period_seconds"]) == (10, 900)
    drain = (await admin.client.get(f"{ADMIN}/claims")).json
    assert drain["newest_version"] == node.services.session_tokens.versions.newest
    assert "fallback_ends_at" in drain
