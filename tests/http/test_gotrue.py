"""Signing up, in and out over HTTP, as Supabase clients do it."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from chatkeep import limits
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
from tests.postgres_servers import MigratedDatabase
from tests.serving import Client, Node, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.http.conftest import StartNode
    from tests.postgres_servers import Server

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
NODE_SETTINGS = OURS_ALONE


# --- the way in ----------------------------------------------------------------------------------


async def test_sign_up_answers_a_session(caller: Client) -> None:
    """The answer has exactly the members that clients know, and headers that name the session."""
    email = new_address()
    answer = await caller.post(
        "/auth/v1/signup",
        {
            "email": email.upper(),
            "password": PASSWORD,
            "data": {"name": "Ana"},
            "code_challenge": None,
        },
    )
    body, user = answer.json, answer.json["user"]
    assert set(body) == {
        *("access_token", "token_type", "expires_in", "expires_at", "refresh_token", "user"),
    }
    assert (body["token_type"], body["expires_in"]) == ("bearer", 3600)
    assert set(user) == {
        *("id", "aud", "role", "email", "email_confirmed_at", "phone", "confirmed_at"),
        *("last_sign_in_at", "app_metadata", "user_metadata", "identities", "created_at"),
        *("updated_at", "is_anonymous"),
    }
    assert UUID.fullmatch(user["id"])
    assert all(MOMENT.fullmatch(user[name]) for name in user if name.endswith("_at"))
    assert (user["aud"], user["role"], user["email"], user["phone"]) == (
        *("authenticated", "authenticated", email, ""),
    )
    assert user["user_metadata"] == {"name": "Ana"}
    (identity,) = user["identities"]
    assert set(identity) == {
        *("identity_id", "id", "user_id", "identity_data", "provider", "last_sign_in_at"),
        *("created_at", "updated_at", "email"),
    }
    assert all(MOMENT.fullmatch(identity[name]) for name in identity if name.endswith("_at"))
    assert (identity["id"], identity["user_id"], identity["email"]) == (
        user["id"],
        user["id"],
        email,
    )
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["sb-auth-user-id"] == user["id"]
    assert answer.headers["sb-auth-session-id"] == claims_of(body["access_token"])["session_id"]
    assert answer.headers["sb-auth-refresh-token-counter"] == "1"


async def test_access_token_says_who_and_for_how_long(caller: Client, node: Node) -> None:
    """The claims are Supabase Auth's, and an id of its own for the token."""
    session = await sign_up(caller)
    claims = claims_of(session["access_token"])
    assert set(claims) == {
        *("iss", "sub", "aud", "exp", "iat", "email", "phone", "app_metadata", "user_metadata"),
        *("role", "aal", "amr", "session_id", "is_anonymous", "jti"),
    }
    assert claims["iss"] == f"{node.services.settings.base_url}/auth/v1"
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["exp"] == session["expires_at"]
    assert claims["amr"] == [{"method": "password", "timestamp": claims["amr"][0]["timestamp"]}]
    assert abs(claims["amr"][0]["timestamp"] - claims["iat"]) <= 1


async def test_access_token_opens_the_other_surfaces(caller: Client) -> None:
    """Who signed up here may chat here."""
    session = await sign_up(caller)
    answer = await signed_in(caller, session).get("/api/v1/chat")
    assert (answer.status, answer.json["user_id"]) == (200, session["user"]["id"])


async def test_right_is_not_smuggled_in(caller: Client) -> None:
    """Nothing in a body makes anybody more than a signed-in person."""
    claimed: dict[str, Any] = {"role": "service_role", "aud": "x", "app_metadata": {"admin": True}}
    session = await sign_up(caller, data={"role": "service_role"}, **claimed)
    claims = claims_of(session["access_token"])
    assert (claims["role"], claims["aud"]) == ("authenticated", "authenticated")
    assert claims["app_metadata"] == {"provider": "email", "providers": ["email"]}
    here = signed_in(caller, session)
    assert code_of(await here.call("PUT", "/auth/v1/user", json=claimed)) == (403, "not_admin")
    await here.call("PUT", "/auth/v1/user", json={"role": "service_role", "aud": "x"})
    user = (await here.get("/auth/v1/user")).json
    assert (user["role"], user["aud"]) == ("authenticated", "authenticated")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"password": PASSWORD}, (422, "anonymous_provider_disabled")),
        ({}, (422, "anonymous_provider_disabled")),
        ({"email": "a", "password": PASSWORD}, (400, "email_address_invalid")),
        ({"email": "ana@example.com"}, (400, "validation_failed")),
        ({"email": "ana@example.com", "password": None}, (400, "validation_failed")),
        ({"email": "ana@example.com", "password": "123"}, (422, "weak_password")),
        ({"email": "ana@example.com", "password": "x" * 73}, (400, "validation_failed")),
        ({"phone": "+15550100", "password": PASSWORD}, (400, "phone_provider_disabled")),
        (
            {"email": "ana@example.com", "phone": "+15550100", "password": PASSWORD},
            (400, "validation_failed"),
        ),
        (
            {"email": "ana@example.com", "password": PASSWORD, "data": {"a": "x" * 5000}},
            (400, "validation_failed"),
        ),
        (
            {"email": "ana@example.com", "password": PASSWORD, "data": {"a": "\x00"}},
            (400, "validation_failed"),
        ),
        (
            {"email": "ana@example.com", "password": PASSWORD, "data": []},
            (400, "validation_failed"),
        ),
        ({"email": ["ana@example.com"], "password": PASSWORD}, (400, "validation_failed")),
        (
            {"email": "ana@example.com", "password": PASSWORD, "code_challenge": "short"},
            (400, "validation_failed"),
        ),
        (
            {
                "email": "ana@example.com",
                "password": PASSWORD,
                "code_challenge": "short",
                "code_challenge_method": "s256",
            },
            (400, "validation_failed"),
        ),
        (
            {
                "email": "ana@example.com",
                "password": PASSWORD,
                "code_challenge": "x" * 43,
                "code_challenge_method": "md5",
            },
            (400, "validation_failed"),
        ),
    ],
)
async def test_bad_sign_up_has_its_code_and_echoes_nothing(
    caller: Client, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    """Each kind of bad sign-up has its code, and echoes nothing."""
    answer = await caller.post("/auth/v1/signup", body)
    assert code_of(answer) == expected
    assert PASSWORD not in answer.text
    assert "ana@example.com" not in answer.text


async def test_sign_up_takes_a_sound_challenge(caller: Client) -> None:
    """A client in PKCE mode signs up as others do: nothing needs to be confirmed."""
    await sign_up(caller, code_challenge="x" * 43, code_challenge_method="s256")


async def test_address_signs_up_once(caller: Client) -> None:
    """Neither the same spelling nor another one makes a second account."""
    email = new_address()
    await sign_up(caller, email)
    for spelling in (email, email.upper()):
        answer = await caller.post("/auth/v1/signup", {"email": spelling, "password": PASSWORD})
        assert code_of(answer) == (422, "user_already_exists")


async def test_sign_up_can_be_switched_off(start: StartNode) -> None:
    """The switch is respected and told."""
    closed = await start(SIGN_UP="off", **OURS_ALONE)
    answer = await closed.nobody().post(
        "/auth/v1/signup", {"email": new_address(), "password": PASSWORD}
    )
    assert code_of(answer) == (422, "signup_disabled")
    assert (await closed.nobody().get("/auth/v1/settings")).json["disable_signup"] is True


async def test_wrong_password_and_unknown_person_look_the_same(caller: Client) -> None:
    """Status, body and headers do not tell whether somebody has an account."""
    email = new_address()
    await sign_up(caller, email)
    wrong = await sign_in(caller, email, "wrong")
    for address in ("nobody@example.com", "nobody", "' or 1=1 --", "%"):
        unknown = await sign_in(caller, address)
        assert (unknown.status, unknown.body) == (wrong.status, wrong.body)
        assert set(unknown.headers) == set(wrong.headers)
    assert code_of(wrong) == (400, "invalid_credentials")


@pytest.mark.parametrize(
    ("query", "body", "expected"),
    [
        ("password", {}, (400, "validation_failed")),
        ("password", {"phone": "+15550100", "password": "x"}, (400, "phone_provider_disabled")),
        (
            "password",
            {"email": "ana@example.com", "phone": "+15550100", "password": "x"},
            (400, "validation_failed"),
        ),
        ("password", {"email": "ana@example.com"}, (400, "invalid_credentials")),
        ("refresh_token", {}, (400, "validation_failed")),
        ("refresh_token", {"refresh_token": None}, (400, "validation_failed")),
        ("refresh_token", {"refresh_token": ""}, (400, "validation_failed")),
        ("refresh_token", {"refresh_token": 7}, (400, "validation_failed")),
        ("refresh_token", {"refresh_token": "x" * 100_000}, (400, "validation_failed")),
        ("refresh_token", {"refresh_token": "aaaaaaaaaaaa"}, (400, "refresh_token_not_found")),
        ("refresh_token", {"refresh_token": "ckr1" + "A" * 60}, (400, "refresh_token_not_found")),
        ("pkce", {"auth_code": "x", "code_verifier": "y"}, (404, "flow_state_not_found")),
        ("id_token", {"provider": "google", "id_token": "x"}, (400, "provider_disabled")),
        ("web3", {}, (422, "web3_provider_disabled")),
        ("", {}, (400, "validation_failed")),
        ("client_credentials", {}, (400, "validation_failed")),
    ],
)
async def test_token_route_refuses(
    caller: Client, query: str, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    """Each kind of bad grant has its code."""
    answer = await caller.post(f"/auth/v1/token?grant_type={query}", body)
    assert code_of(answer) == expected


# --- staying in ----------------------------------------------------------------------------------


async def test_refresh_says_whether_the_token_was_given_before(caller: Client) -> None:
    """The first exchange is new, a repeated one gets the same token and is marked."""
    session = await sign_up(caller)
    first = await refresh(caller, session["refresh_token"])
    again = await refresh(caller, session["refresh_token"])
    assert first.json["refresh_token"] == again.json["refresh_token"] != session["refresh_token"]
    marks = [one.headers["sb-auth-refresh-token-reuse"] for one in (first, again)]
    assert marks == ["false", "true"]
    assert first.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("many", [10, 100])
async def test_parallel_refreshes_converge(caller: Client, many: int) -> None:
    """As many tabs as there may be, woken at once, all stay signed in."""
    session = await sign_up(caller)
    answers = await asyncio.gather(
        *(refresh(caller, session["refresh_token"]) for _ in range(many))
    )
    assert {one.status for one in answers} == {200}
    (token,) = {one.json["refresh_token"] for one in answers}
    assert (await refresh(caller, token)).status == 200


async def test_reuse_ends_the_family_everywhere(caller: Client, database: MigratedDatabase) -> None:
    """After the refusal the newest refresh token and every access token are dead at once."""
    session = await sign_up(caller)
    second = (await refresh(caller, session["refresh_token"])).json
    third = (await refresh(caller, second["refresh_token"])).json
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute("update user_sessions set refreshed_at = now() - interval '11 seconds'")
    assert code_of(await refresh(caller, session["refresh_token"])) == (
        *(400, "refresh_token_already_used"),
    )
    assert code_of(await refresh(caller, third["refresh_token"])) == (
        400,
        "refresh_token_not_found",
    )
    here = signed_in(caller, third)
    assert code_of(await here.get("/auth/v1/user")) == (403, "session_not_found")
    assert (await here.get("/api/v1/chat")).status == 401


async def test_user_reads_and_changes_themselves(caller: Client) -> None:
    """Metadata is merged, shows in the next token, and the address changes at once."""
    session = await sign_up(caller, data={"a": 1})
    here, new = signed_in(caller, session), new_address()
    assert (await here.get("/auth/v1/user")).json == session["user"]
    body = {"data": {"b": "x", "a": None}, "email": new.upper()}
    changed = await here.call("PUT", "/auth/v1/user", json=body)
    assert changed.status == 200
    assert (changed.json["user_metadata"], changed.json["email"]) == ({"b": "x"}, new)
    claims = claims_of((await refresh(caller, session["refresh_token"])).json["access_token"])
    assert (claims["user_metadata"], claims["email"]) == ({"b": "x"}, new)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"password": "123"}, (422, "weak_password")),
        ({"password": PASSWORD}, (422, "same_password")),
        ({"email": "nobody"}, (400, "email_address_invalid")),
        ({"email": "taken@example.com"}, (422, "email_exists")),
        ({"phone": "+15550100"}, (400, "phone_provider_disabled")),
        ({"app_metadata": {}}, (403, "not_admin")),
        ({"data": {"a": 1e300}}, (400, "validation_failed")),
    ],
)
async def test_bad_change_has_its_code_and_changes_nothing(
    caller: Client, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    """Each kind of bad change has its code and changes nothing."""
    if body.get("email") == "taken@example.com":
        await caller.post("/auth/v1/signup", {"email": body["email"], "password": PASSWORD})
    session = await sign_up(caller)
    here = signed_in(caller, session)
    assert code_of(await here.call("PUT", "/auth/v1/user", json=body)) == expected
    assert (await here.get("/auth/v1/user")).json == session["user"]


async def test_empty_change_changes_nothing(caller: Client) -> None:
    """A change of nothing is no error."""
    session = await sign_up(caller)
    here = signed_in(caller, session)
    body: dict[str, Any] = {"email": "", "phone": "", "password": "", "data": None}
    changed = (await here.call("PUT", "/auth/v1/user", json=body)).json
    assert {**changed, "updated_at": ""} == {**session["user"], "updated_at": ""}


# --- who may -------------------------------------------------------------------------------------


async def test_nobody_is_not_signed_in(caller: Client, node: Node) -> None:
    """No bearer, an empty one, the publishable key or another scheme: 401."""
    publishable = node.services.embedded.supabase_keys.publishable
    for header in (None, "Bearer ", "Bearer", f"Bearer {publishable}", "Basic YTpi", ""):
        answer = await caller.but(authorization=header).get("/auth/v1/user")
        assert code_of(answer) == (401, "no_authorization")
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_bad_tokens_are_refused(caller: Client, node: Node) -> None:
    """Garbage, edited tokens and the secret key: 403, one and the same body."""
    token = (await sign_up(caller))["access_token"]
    head, payload, signature = token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    edited = base64.urlsafe_b64encode(
        json.dumps({**claims_of(token), "role": "service_role"}).encode()
    ).rstrip(b"=")
    bodies = set()
    for bearer in (
        "not.a.jwt",
        "x",
        f"{none}.{payload}.",
        f"{head}.{edited.decode()}.{signature}",
        f"{head}.{payload}.{signature[:-8]}{signature[:8]}",
        f"{token}x",
        node.services.embedded.supabase_keys.secret,
    ):
        answer = await caller.but(authorization=f"Bearer {bearer}").get("/auth/v1/user")
        assert code_of(answer) == (403, "bad_jwt")
        bodies.add(answer.body)
    assert len(bodies) == 1


async def test_two_credentials_are_refused(caller: Client, node: Node) -> None:
    """A request with two Authorization headers speaks for nobody."""
    token = (await sign_up(caller))["access_token"]
    async with node.session.get(
        f"{node.url}/auth/v1/user",
        headers=[("authorization", f"Bearer {token}")] * 2,
    ) as answer:
        assert (answer.status, (await answer.json())["error_code"]) == (400, "validation_failed")


async def test_log_out_ends_what_its_scope_says(caller: Client) -> None:
    """Local, others and global end what they say, for refreshing and for every route at once."""
    email = new_address()
    sessions = [await sign_up(caller, email)]
    sessions += [(await sign_in(caller, email)).json for _ in range(3)]
    local, stays, other, another = sessions
    answer = await signed_in(caller, local).post("/auth/v1/logout?scope=local")
    assert (answer.status, answer.body) == (204, b"")
    assert (await signed_in(caller, stays).post("/auth/v1/logout?scope=others")).status == 204
    for ended in (local, other, another):
        here = signed_in(caller, ended)
        assert code_of(await here.get("/auth/v1/user")) == (403, "session_not_found")
        assert code_of(await here.post("/auth/v1/logout")) == (403, "session_not_found")
        assert (await here.get("/api/v1/chat")).status == 401
        assert (await refresh(caller, ended["refresh_token"])).status == 400
    here = signed_in(caller, stays)
    assert (await here.get("/api/v1/chat")).status == 200
    assert code_of(await here.post("/auth/v1/logout?scope=nope")) == (400, "validation_failed")
    assert (await here.post("/auth/v1/logout")).status == 204
    assert code_of(await here.get("/auth/v1/user")) == (403, "session_not_found")


async def test_log_out_reaches_the_other_nodes(caller: Client, start: StartNode) -> None:
    """A token whose session ended on one node is refused on another."""
    other = await start(**OURS_ALONE)
    session = await sign_up(caller)
    elsewhere = signed_in(other.nobody(), session)
    assert (await elsewhere.get("/api/v1/chat")).status == 200
    await signed_in(caller, session).post("/auth/v1/logout")

    async def refused() -> bool:
        return (await elsewhere.get("/api/v1/chat")).status == 401

    await until(refused)
    assert code_of(await elsewhere.get("/auth/v1/user")) == (403, "session_not_found")


@pytest.fixture
def undecided(postgres: Server) -> Iterator[MigratedDatabase]:
    """A database in which nobody has settled yet whose people have bare ids."""
    name = postgres.new_database(template=postgres.migrated_template())
    yield MigratedDatabase(server=postgres, name=name)
    postgres.drop_database(name)


async def test_people_of_a_supabase_project_are_not_ours(
    start: StartNode, undecided: MigratedDatabase
) -> None:
    """Beside a Supabase project both kinds of people exist, and only ours have an account here."""
    both = await start(undecided.url)
    answer = await both.person().client.get("/auth/v1/user")
    assert code_of(answer) == (403, "bad_jwt")
    session = await sign_up(both.nobody())
    here = signed_in(both.nobody(), session)
    assert (await here.get("/auth/v1/user")).status == 200
    user_id = (await here.get("/api/v1/chat")).json["user_id"]
    assert user_id == f"embedded:{session['user']['id']}"
    assert (await refresh(both.nobody(), session["refresh_token"])).status == 200
    assert (await here.post("/auth/v1/logout")).status == 204
    assert (await here.get("/api/v1/chat")).status == 401


# --- limits --------------------------------------------------------------------------------------


async def test_sign_ins_are_limited_and_refreshes_are_never_signed_out(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many get 429 with a time to come back; a refresh gets 503, which clients survive."""
    monkeypatch.setitem(limits.RATES, "token", limits.Rate(2, 300))
    limited = await start(RATE_LIMITS="on", **OURS_ALONE)
    caller = limited.nobody()
    session = await sign_up(caller)
    answers = [await sign_in(caller, "nobody@example.com") for _ in range(3)]
    assert [one.status for one in answers] == [400, 400, 429]
    assert code_of(answers[-1]) == (429, "over_request_rate_limit")
    assert int(answers[-1].headers["retry-after"]) > 0
    busy = await refresh(caller, session["refresh_token"])
    assert (busy.status, int(busy.headers["retry-after"]) > 0) == (503, True)


async def test_flood_of_sign_ins_is_busy_not_stuck(caller: Client, node: Node) -> None:
    """More passwords than the queue holds: some 503 with a time to come back, then all is well."""
    email = new_address()
    await sign_up(caller, email)
    passwords, before = node.services.embedded.passwords, node.services.embedded.passwords._places
    passwords._places = 5
    many = 20
    answers = await asyncio.gather(
        *(sign_in(caller, email, "wrong") for _ in range(many)), caller.get("/auth/v1/health")
    )
    assert {one.status for one in answers} == {200, 400, 503}
    assert all("retry-after" in one.headers for one in answers if one.status == 503)
    assert (await sign_in(caller, email)).status == 200
    passwords._places = before
