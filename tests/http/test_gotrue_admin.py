"""Administering accounts with the secret key, as `auth.admin` of Supabase clients does it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import bcrypt
import psycopg
import pytest

from chatkeep import accounts, audit
from chatkeep.administration.durations import read_duration
from chatkeep.errors import Invalid
from tests import forge
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
from tests.serving import KEY_SECRET, Answer, Client, Node, token

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase

USERS = "/auth/v1/admin/users"
NODE_SETTINGS = OURS_ALONE


@pytest.fixture
def server(node: Node) -> Client:
    """Somebody who has the secret key."""
    return node.nobody(authorization=f"Bearer {node.services.embedded.supabase_keys.secret}")


async def create(server: Client, **wanted: object) -> dict[str, Any]:
    """Make an account; return the user."""
    body = {"email": new_address(), "password": PASSWORD, "email_confirm": True, **wanted}
    answer = await server.post(USERS, body)
    assert answer.status == 200, answer.text
    user: dict[str, Any] = answer.json
    return user


async def put(server: Client, user: dict[str, Any], **wanted: object) -> Answer:
    """Change an account."""
    return await server.call("PUT", f"{USERS}/{user['id']}", json=wanted)


# --- who may ------------------------------------------------------------------------------------


async def test_the_secret_key_opens_as_bearer_and_as_apikey(node: Node) -> None:
    """Either way of showing it is enough."""
    secret = node.services.embedded.supabase_keys.secret
    for headers in ({"authorization": f"Bearer {secret}"}, {"apikey": secret}):
        assert (await node.nobody(**headers).get(USERS)).status == 200


async def test_people_do_not_administer(node: Node, server: Client, caller: Client) -> None:
    """Neither a person nor an administrator among people, with the secret key beside it or not."""
    session = await sign_up(caller)
    await put(server, session["user"], app_metadata={"roles": ["admin", "service_role"]})
    mine = signed_in(caller, session)
    for client in (mine, mine.but(apikey=node.services.embedded.supabase_keys.secret)):
        assert code_of(await client.get(USERS)) == (403, "not_admin")
    await node.services.embedded.notices.write()
    logged = await audit.listed(node.services.db, action="administration.refused")
    assert session["user"]["id"] in {one.user_id for one in logged}


@pytest.mark.parametrize("bearer", ["service_role", "supabase_admin"])
async def test_token_of_a_legacy_server_role_is_no_administrator(
    start: StartNode, project: str, bearer: str
) -> None:
    """A JWT for `service_role` opens nothing, though its signature is right."""
    node = await start(PRIMARY_ISSUER="embedded")
    claims = forge.claims(role=bearer, iss="supabase", sub=...)
    legacy = forge.forge(payload={k: v for k, v in claims.items() if v is not ...})
    signed = token(project, str(uuid4()), role=bearer)
    assert KEY_SECRET  # what both are signed with
    for text in (legacy, signed):
        answer = await node.nobody(authorization=f"Bearer {text}", apikey=text).get(USERS)
        assert code_of(answer) == (403, "bad_jwt")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (401, "no_authorization")),
        ({"apikey": "{publishable}"}, (401, "no_authorization")),
        ({"authorization": "Bearer {publishable}"}, (401, "no_authorization")),
        (
            {"authorization": "Bearer {publishable}", "apikey": "{secret}"},
            (401, "no_authorization"),
        ),
        ({"authorization": "Bearer {secret}x"}, (403, "bad_jwt")),
        ({"authorization": "{secret}"}, (401, "no_authorization")),
        ({"authorization": "Bearer  {secret}"}, (403, "bad_jwt")),
        ({"apikey": "{secret}x"}, (401, "no_authorization")),
        ({"apikey": ""}, (401, "no_authorization")),
        ({"cookie": "apikey={secret}"}, (401, "no_authorization")),
    ],
    ids=str,
)
async def test_what_nearly_is_the_secret_key(
    node: Node, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    """Only the key itself, where it belongs, opens."""
    keys = node.services.embedded.supabase_keys
    filled = {
        name: value.format(secret=keys.secret, publishable=keys.publishable)
        for name, value in headers.items()
    }
    assert code_of(await node.nobody(**filled).get(USERS)) == expected


async def test_the_secret_key_opens_nothing_else(node: Node) -> None:
    """Every documented route but those of administration takes it for nobody's token."""
    secret = node.services.embedded.supabase_keys.secret
    holder = node.nobody(authorization=f"Bearer {secret}", apikey=secret)
    paths = (await holder.get("/openapi.json")).json["paths"]
    tried = 0
    for path, operations in paths.items():
        for method, operation in operations.items():
            if path.startswith("/auth/v1/admin/") or path == "/auth/v1/invite":
                continue
            if "security" not in operation:
                continue  # open to everybody, and it looks at no credential
            filled = path.replace("{", "").replace("}", "")
            answer = await holder.call(method.upper(), filled, json={})
            assert answer.status in {401, 403}, f"{method} {path}: {answer.text}"
            tried += 1
    assert tried > 20


# --- accounts -----------------------------------------------------------------------------------


async def test_account_is_made_and_signs_in(server: Client, caller: Client) -> None:
    """With the address confirmed, and with what only an administrator may write in its tokens."""
    email = new_address()
    made = await create(
        server,
        email=email.upper(),
        user_metadata={"name": "Ana"},
        app_metadata={"tier": "gold", "provider": "email"},
    )
    assert (made["email"], made["user_metadata"]) == (email, {"name": "Ana"})
    assert made["app_metadata"] == {"tier": "gold", "provider": "email", "providers": ["email"]}
    assert made["email_confirmed_at"]
    assert made["identities"][0]["identity_data"]["email_verified"] is True
    session = (await sign_in(caller, email)).json
    assert claims_of(session["access_token"])["app_metadata"]["tier"] == "gold"


async def test_account_without_password_or_confirmation(server: Client, caller: Client) -> None:
    """Nobody can sign in to it with any password, and its address is not confirmed."""
    made = (await server.post(USERS, {"email": new_address()})).json
    assert "email_confirmed_at" not in made
    assert code_of(await sign_in(caller, made["email"], "")) == (400, "invalid_credentials")
    assert code_of(await sign_in(caller, made["email"])) == (400, "invalid_credentials")


async def test_account_with_an_id(server: Client) -> None:
    """A server may choose the id, once."""
    wanted = str(uuid4())
    assert (await create(server, id=wanted))["id"] == wanted
    answer = await server.post(USERS, {"email": new_address(), "id": wanted})
    assert code_of(answer) == (422, "user_already_exists")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "validation_failed")),
        ({"email": "no address"}, (400, "email_address_invalid")),
        ({"email": "a@example.com", "password": "short"}, (422, "weak_password")),
        ({"email": "a@example.com", "phone": "+4930"}, (400, "phone_provider_disabled")),
        ({"email": "a@example.com", "id": "1"}, (400, "validation_failed")),
        ({"email": "a@example.com", "aud": "elsewhere"}, (400, "validation_failed")),
        ({"email": "a@example.com", "role": "service_role"}, (400, "validation_failed")),
        ({"email": "a@example.com", "role": "a b"}, (400, "validation_failed")),
        ({"email": "a@example.com", "ban_duration": "long"}, (400, "validation_failed")),
        ({"email": "a@example.com", "ban_duration": "-24h"}, (400, "validation_failed")),
        ({"email": "a@example.com", "app_metadata": []}, (400, "validation_failed")),
        ({"email": "a@example.com", "app_metadata": {"x": "x" * 5000}}, (400, "validation_failed")),
        (
            {"email": "a@example.com", "password": PASSWORD, "password_hash": "$2a$10$x"},
            (400, "validation_failed"),
        ),
    ],
    ids=str,
)
async def test_what_is_no_account_is_refused(
    server: Client, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    """Each in the code that Supabase Auth has for it."""
    assert code_of(await server.post(USERS, body)) == expected


async def test_taken_address_is_refused(server: Client) -> None:
    """In either spelling, for a new account and for another one."""
    taken, other = await create(server), await create(server)
    answer = await server.post(USERS, {"email": taken["email"].upper()})
    assert code_of(answer) == (422, "email_exists")
    assert code_of(await put(server, other, email=taken["email"])) == (422, "email_exists")


async def test_account_is_changed(server: Client, caller: Client) -> None:
    """Metadata are merged, null takes a member out, the address is the new one at once."""
    made = await create(server, app_metadata={"tier": "gold", "old": 1}, user_metadata={"a": 1})
    email = new_address()
    answer = await put(
        server, made, email=email, app_metadata={"old": None, "x": 2}, user_metadata={"b": 2}
    )
    changed = answer.json
    assert changed["app_metadata"] == {
        "provider": "email",
        "providers": ["email"],
        "tier": "gold",
        "x": 2,
    }
    assert changed["user_metadata"] == {"a": 1, "b": 2}
    assert changed["identities"][0]["identity_data"]["email"] == email
    assert (await server.get(f"{USERS}/{made['id']}")).json == changed
    assert (await sign_in(caller, email)).status == 200
    assert (await sign_in(caller, made["email"])).status == 400


async def test_new_password_ends_every_session(server: Client, caller: Client) -> None:
    """At once: the access token, the refresh token, and the old password."""
    session = await sign_up(caller)
    assert (await put(server, session["user"], password="Another-Horse-43")).status == 200
    answer = await signed_in(caller, session).get("/api/v1/chat")
    assert (answer.status, answer.json["code"]) == (401, "token_revoked")
    assert (await refresh(caller, session["refresh_token"])).status == 400
    email = session["user"]["email"]
    assert (await sign_in(caller, email)).status == 400
    assert (await sign_in(caller, email, "Another-Horse-43")).status == 200


async def test_nobody_is_found(server: Client) -> None:
    """An id that nobody has, and one that is none."""
    for method, body in (("GET", None), ("PUT", {}), ("DELETE", {})):
        answer = await server.call(method, f"{USERS}/{uuid4()}", json=body)
        assert code_of(answer) == (404, "user_not_found")
        answer = await server.call(method, f"{USERS}/7", json=body)
        assert code_of(answer) == (404, "validation_failed")


# --- passwords from elsewhere --------------------------------------------------------------------


async def test_password_of_another_server_goes_on_working(
    server: Client, caller: Client, node: Node
) -> None:
    """A hash is taken as it is, checked at sign-in, and from then on kept as ours are."""
    stored = bcrypt.hashpw(b"short", bcrypt.gensalt(4)).decode()
    made = await create(server, password=None, password_hash=stored)
    assert code_of(await sign_in(caller, made["email"], "wrong")) == (400, "invalid_credentials")
    assert (await sign_in(caller, made["email"], "short")).status == 200
    kept = await accounts.find_credential(node.services.db, made["email"])
    assert kept is not None
    assert (kept.password_hash or "").startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert (await sign_in(caller, made["email"], "short")).status == 200
    assert code_of(await sign_in(caller, made["email"], "wrong")) == (400, "invalid_credentials")


async def test_hash_replaces_a_password(server: Client, caller: Client) -> None:
    """And ends the sessions, as a password does."""
    session = await sign_up(caller)
    stored = bcrypt.hashpw(b"another", bcrypt.gensalt(4)).decode()
    assert (await put(server, session["user"], password_hash=stored)).status == 200
    assert (await signed_in(caller, session).get("/api/v1/chat")).status == 401
    assert (await sign_in(caller, session["user"]["email"], "another")).status == 200


async def test_absurd_hash_is_refused(server: Client) -> None:
    """One that would take a gigabyte to check is never kept."""
    absurd = "$argon2id$v=19$m=1073741824,t=1,p=1$c2FsdHNhbHQ$" + "A" * 43
    answer = await server.post(USERS, {"email": new_address(), "password_hash": absurd})
    assert code_of(answer) == (400, "validation_failed")


# --- bans ---------------------------------------------------------------------------------------


async def test_ban_takes_effect_at_once(server: Client, caller: Client) -> None:
    """Tokens, refreshing and the right password: all refused, and told why where it is theirs."""
    session = await sign_up(caller)
    banned = (await put(server, session["user"], ban_duration="24h")).json
    assert banned["banned_until"]
    here = signed_in(caller, session)
    assert (await here.get("/api/v1/chat")).json["code"] == "token_revoked"
    assert code_of(await here.get("/auth/v1/user")) == (400, "user_banned")
    assert code_of(await refresh(caller, session["refresh_token"])) == (400, "user_banned")
    email = session["user"]["email"]
    assert code_of(await sign_in(caller, email)) == (400, "user_banned")
    assert code_of(await sign_in(caller, email, "not it")) == (400, "invalid_credentials")


async def test_ban_that_is_lifted_lets_in_again(server: Client, caller: Client) -> None:
    """With a new sign-in: what was ended stays ended."""
    session = await sign_up(caller)
    await put(server, session["user"], ban_duration="876000h")
    lifted = (await put(server, session["user"], ban_duration="none")).json
    assert "banned_until" not in lifted
    assert (await refresh(caller, session["refresh_token"])).status == 400
    again = (await sign_in(caller, session["user"]["email"])).json
    assert (await signed_in(caller, again).get("/api/v1/chat")).status == 200


async def test_ban_ends_open_streams(node: Node, server: Client, caller: Client) -> None:
    """An answer that is being read stops, with the reason as its last event."""
    session = await sign_up(caller)
    here = signed_in(caller, session)
    gate = asyncio.Event()
    node.stage.play(["One ", gate, "two"])
    body = {
        "id": "chat-of-a-ban",
        "message": {"role": "user", "parts": [{"type": "text", "text": "x"}]},
    }
    async with here.stream("/api/chat", body) as stream:
        await stream.next()
        await put(server, session["user"], ban_duration="24h")
        rest = await stream.rest()
    gate.set()
    assert rest[-2].data == {"type": "error", "errorText": "Invalid or expired token"}


async def test_ban_beside_sign_ins_leaves_no_session(
    server: Client, caller: Client, database: MigratedDatabase
) -> None:
    """Whoever signs in while the ban is written is out afterwards."""
    session = await sign_up(caller)
    email, user_id = session["user"]["email"], session["user"]["id"]
    await asyncio.gather(
        *(sign_in(caller, email) for _ in range(8)),
        put(server, session["user"], ban_duration="24h"),
        *(sign_in(caller, email) for _ in range(8)),
    )
    with psycopg.connect(database.admin_url) as connection:
        found = connection.execute(
            "select count(*) from public.user_sessions where user_id = %s and is_active", (user_id,)
        ).fetchone()
    assert found == (0,)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("24h", 86_400),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("300ms", 0.3),
        ("2540400h10m10s", 2540400 * 3600 + 610),
    ],
)
def test_duration_is_read_as_go_writes_it(text: str, seconds: float) -> None:
    """Durations are read as Go writes them."""
    assert read_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "text", ["", "0s", "24", "h", "1d", "-1h", "1h ", "none", "1e3h", "9" * 99]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Anything else is refused, and "0s" bans nobody."""
    with pytest.raises(Invalid):
        read_duration(text)


# --- deleting -----------------------------------------------------------------------------------


async def test_deleted_account_is_gone(server: Client, caller: Client) -> None:
    """Its sessions end, its address is free again, and the log says who deleted it."""
    session = await sign_up(caller)
    user = session["user"]
    assert (await server.delete(f"{USERS}/{user['id']}")).json == {}
    assert code_of(await server.get(f"{USERS}/{user['id']}")) == (404, "user_not_found")
    here = signed_in(caller, session)
    assert code_of(await here.get("/auth/v1/user")) == (403, "user_not_found")
    assert (await here.get("/api/v1/chat")).status == 401
    assert (await refresh(caller, session["refresh_token"])).status == 400
    again = await sign_up(caller, user["email"])
    assert again["user"]["id"] != user["id"]


async def test_softly_deleted_account_says_nothing_any_more(
    server: Client, caller: Client, node: Node
) -> None:
    """The id stays taken; address, metadata and identities are gone, and so are the sessions."""
    session = await sign_up(caller, data={"name": "Ana"})
    user = session["user"]
    answer = await server.call("DELETE", f"{USERS}/{user['id']}", json={"should_soft_delete": True})
    assert answer.json == {}
    left = (await server.get(f"{USERS}/{user['id']}")).json
    assert left["deleted_at"]
    assert (left["email"], left["user_metadata"], left["app_metadata"]) == ("", {}, {})
    assert left["identities"] == []
    assert (await sign_in(caller, user["email"])).status == 400
    assert (await signed_in(caller, session).get("/api/v1/chat")).status == 401
    assert code_of(await server.post(USERS, {"email": new_address(), "id": user["id"]})) == (
        422,
        "user_already_exists",
    )
    (entry,) = await audit.listed(node.services.db, user_id=user["id"], action="user.deleted")
    assert (entry.actor, entry.details) == ("secret_key", {"kept": True, "sessions_ended": 1})


async def test_softly_deleted_account_gets_no_address_again(
    server: Client,
) -> None:
    """It could not sign in with it, and nobody else could have it."""
    user = await create(server)
    path = f"{USERS}/{user['id']}"
    await server.call("DELETE", path, json={"should_soft_delete": True})
    answer = await server.call("PUT", path, json={"email": user["email"], "email_confirm": True})
    assert (answer.status, answer.json["error_code"]) == (404, "user_not_found")
    assert (await server.post(USERS, {"email": user["email"]})).status == 200
    assert (await server.call("DELETE", path)).status == 200


# --- lists --------------------------------------------------------------------------------------


async def test_accounts_are_listed_by_page(server: Client) -> None:
    """The newest first, with links that clients follow and the total."""
    made = [await create(server, user_metadata={"full_name": "Lis 50%"}) for _ in range(5)]
    ids = [one["id"] for one in reversed(made)]
    answer = await server.get(f"{USERS}?filter=lis%2050%25&page=1&per_page=2")
    assert [one["id"] for one in answer.json["users"]] == ids[:2]
    assert answer.json["aud"] == "authenticated"
    assert answer.headers["x-total-count"] == "5"
    assert answer.headers["link"] == (
        '</auth/v1/admin/users?page=2&per_page=2>; rel="next",'
        ' </auth/v1/admin/users?page=3&per_page=2>; rel="last"'
    )
    last = await server.get(f"{USERS}?filter=Lis%2050%25&page=3&per_page=2")
    assert [one["id"] for one in last.json["users"]] == ids[4:]
    assert "next" not in last.headers["link"]
    oldest = await server.get(f"{USERS}?filter=Lis&page=&per_page=&sort=created_at%20asc")
    assert [one["id"] for one in oldest.json["users"]] == ids[::-1]
    assert (await server.get(f"{USERS}?filter=L_s")).json["users"] == []


async def test_accounts_are_listed_by_cursor(server: Client) -> None:
    """Page after page until there is no more, each account once."""
    made = [await create(server, user_metadata={"full_name": "Cursed"}) for _ in range(5)]
    found: list[str] = []
    path = f"{USERS}?filter=Cursed&limit=2"
    while True:
        body = (await server.get(path)).json
        found += [one["id"] for one in body["users"]]
        if not body["pagination"]["has_more"]:
            break
        path = f"{USERS}?filter=Cursed&limit=2&cursor={body['pagination']['next_cursor']}"
    assert found == [one["id"] for one in reversed(made)]
    assert "next_cursor" not in body["pagination"]


async def test_one_account_is_found(server: Client) -> None:
    """By part of its address, and by its id."""
    made = await create(server)
    for text in (made["email"][:-4].upper(), made["id"]):
        found = (await server.get(f"{USERS}?filter={text}")).json["users"]
        assert [one["id"] for one in found] == [made["id"]]


@pytest.mark.parametrize(
    "query",
    [
        *("page=0", "page=-1", "page=x", "per_page=0", "per_page=1001", "page=99999999999"),
        *("sort=email", "sort=created_at%20sideways", "limit=0", "cursor=x", "cursor=WyIxIiwi"),
        "filter=%00",
    ],
)
async def test_page_that_cannot_be(server: Client, query: str) -> None:
    """Is refused, not guessed."""
    assert code_of(await server.get(f"{USERS}?{query}")) == (400, "validation_failed")


# --- the log ------------------------------------------------------------------------------------


async def test_every_change_is_in_the_log(server: Client) -> None:
    """With the secret key as the actor, what was changed, and no value of it."""
    made = await create(server)
    await put(server, made, password="Another-Horse-43", app_metadata={"tier": "gold"})
    await put(server, made, ban_duration="1h")
    await put(server, made, ban_duration="none")
    entries = (await server.get(f"/auth/v1/admin/audit?query=author:{made['id']}")).json
    told = [one["payload"]["action"] for one in entries]
    assert told[:4] == ["user.unbanned", "user.banned", "user.changed", "user.created"]
    assert {one["payload"]["actor_id"] for one in entries[:4]} == {"secret_key"}
    assert entries[2]["payload"]["traits"]["changed"] == ["app_metadata", "password"]
    assert "Another-Horse" not in str(entries)
    assert "gold" not in str(entries)


async def test_the_log_is_paged(server: Client) -> None:
    """Newest first; further back with the id of the last one."""
    for _ in range(3):
        await create(server)
    path = "/auth/v1/admin/audit?query=action:user.created"
    first = (await server.get(f"{path}&per_page=2")).json
    second = (await server.get(f"{path}&per_page=2&page=2")).json
    assert len(first) == 2
    assert int(first[0]["id"]) > int(first[1]["id"]) > int(second[0]["id"])
    after = (await server.get(f"{path}&per_page=1&before={first[1]['id']}")).json
    assert after[0] == second[0]
    for wrong in ("query=x:y", "page=2&per_page=1000", "before=x"):
        answer = await server.get(f"/auth/v1/admin/audit?{wrong}")
        assert code_of(answer) == (400, "validation_failed")


async def test_what_people_call_themselves_is_inert(
    server: Client, caller: Client, node: Node
) -> None:
    """Names and programs that are HTML come as JSON that no browser takes for a page."""
    evil = "<script>alert(1)</script>"
    hostile = caller.but(user_agent=evil)
    session = await sign_up(hostile, data={"full_name": evil})
    for path in (
        f"{USERS}/{session['user']['id']}",
        f"{USERS}?filter=script",
        "/auth/v1/admin/audit",
    ):
        answer = await server.get(path)
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.headers["x-content-type-options"] == "nosniff"
    logged = await audit.listed(node.services.db, user_id=session["user"]["id"])
    assert all(evil not in str(one) for one in logged)


async def test_what_else_is_not_offered_says_so(server: Client) -> None:
    """In Supabase Auth's code, and the wrong method with those that are right."""
    answer = await server.get("/auth/v1/admin/sso/providers")
    assert code_of(answer) == (404, "feature_disabled")
    answer = await server.call("PATCH", USERS, json={})
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")
