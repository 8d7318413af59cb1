"""Better Auth, the real server: its tokens, sessions and cookies, and when they end."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest
import uvicorn
from fastapi import FastAPI
from psycopg import sql

from chatkeep import ChatkeepMiddleware, SignedIn
from chatkeep.authentication import Presented
from chatkeep.better_auth import BELIEVED_FOR_S, COOKIE, SECURE_COOKIE, BetterAuth
from chatkeep.config import Settings
from chatkeep.db import Database
from chatkeep.errors import DatabaseUnavailable, NoActiveSession, SetupError, TokenInvalid
from chatkeep.issuers import better_auth_issuer
from chatkeep.opening import open_gate
from chatkeep.sql.better_auth import allow_reading, find_problems
from tests import forge
from tests.identity_providers import (
    INSTALLED,
    NOT_INSTALLED,
    PASSWORD,
    SECRET,
    BetterAuthServer,
    better_auth,
)
from tests.postgres_servers import LOGIN
from tests.serving import Client, listening_socket, quiet_server, start_node, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import aiohttp

    from tests.http.conftest import StartNode
    from tests.identity_providers import Account
    from tests.postgres_servers import MigratedDatabase, Server
    from tests.serving import Answer, Node

pytestmark = pytest.mark.skipif(not INSTALLED.exists(), reason=NOT_INSTALLED)

INVALID = {"error": "Invalid or expired JWT token", "status": 401}
NOBODY = {"error": "User not found with provided email", "status": 404}
SIGNED_OUT = {"error": "No active sessions found for user", "status": 404}
ALONE = {"SUPABASE_PROJECT_URL": "", "SUPABASE_JWT_SECRET": ""}


@pytest.fixture(scope="module")
async def auth(
    database: MigratedDatabase, session: aiohttp.ClientSession
) -> AsyncIterator[BetterAuthServer]:
    """Better Auth in the module's database, whose tables we may read."""
    async with better_auth(database.server, database.name, session) as server:
        allow_reading(database.admin_url)
        yield server


@pytest.fixture(scope="module")
async def node(
    auth: BetterAuthServer, database: MigratedDatabase, session: aiohttp.ClientSession
) -> AsyncIterator[Node]:
    """A node whose people are Better Auth's."""
    started = await start_node(database.url, session, "", **environment(auth))
    yield started
    await started.stop()


@pytest.fixture
async def ana(auth: BetterAuthServer) -> Account:
    """Somebody new, signed in."""
    return await auth.sign_up()


@pytest.fixture(scope="module")
async def bo(auth: BetterAuthServer) -> Account:
    """Somebody who stays as they are: signing up takes its time."""
    return await auth.sign_up()


@pytest.fixture
def change(database: MigratedDatabase) -> Callable[..., None]:
    """Change Better Auth's rows behind its back."""

    def run(statement: Any, *values: object) -> None:  # noqa: ANN401 -- a literal of the test
        with psycopg.connect(database.admin_url) as connection:
            connection.execute(statement, values)

    return run


def environment(auth: BetterAuthServer, **more: str) -> dict[str, str]:
    """Return the settings of a node that knows Better Auth only."""
    return {**ALONE, "BETTER_AUTH_URL": auth.url, "BETTER_AUTH_SECRET": SECRET, **more}


async def me(node: Node, bearer: str | None = None, **headers: str) -> Answer:
    """Ask who *bearer* is."""
    if bearer is not None:
        headers["authorization"] = f"Bearer {bearer}"
    return await node.nobody(**headers).get("/auth/me")


def refused(answer: Answer, body: dict[str, object]) -> bool:
    """Whether *answer* is a refusal with the members of *body*."""
    return answer.status == body["status"] and body.items() <= answer.json.items()


def signed(token: str, secret: str = SECRET) -> str:
    """Return *token* as Better Auth signs it."""
    mac = hmac.digest(secret.encode(), token.encode(), "sha256")
    return f"{token}.{base64.b64encode(mac).decode()}"


def as_cookie(value: str) -> str:
    """Return *value* as JavaScript's encodeURIComponent does."""
    return quote(value, safe="")


def hs256(claims: dict[str, object], secret: str = SECRET) -> str:
    """Return *claims* signed with a shared secret."""
    return forge.forge(
        {"alg": "HS256", "typ": "JWT"}, claims, sign=forge.hmac_signer(secret.encode())
    )


def claims_of(auth: BetterAuthServer, ana: Account, **changes: object) -> dict[str, object]:
    """Return what Better Auth says of *ana* in a token."""
    now = int(time.time())
    said: dict[str, object] = {
        "iat": now,
        "exp": now + 900,
        "iss": auth.url,
        "aud": auth.url,
        "sub": ana.id,
        "email": ana.email,
        **changes,
    }
    return {name: value for name, value in said.items() if value is not ...}


# --- who is let in ------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256", "HS256"])
async def test_token_of_each_algorithm_is_its_user(
    node: Node, auth: BetterAuthServer, bo: Account, algorithm: str
) -> None:
    """The person is the row that the token's address leads to, and needs no prefix."""
    token = await auth.jwt(bo, variant=algorithm)
    assert forge.unsegment(token.split(".")[0]).find(f'"alg":"{algorithm}"'.encode()) >= 0
    answer = await me(node, token)
    assert answer.status == 200
    assert answer.json == {
        "id": bo.id,
        "email": bo.email,
        "name": "Ana Example",
        "picture": None,
        "email_verified": False,
        "issuer": "better-auth",
        "session_id": None,
    }
    chats = await node.nobody(authorization=f"Bearer {token}").get("/api/v1/chat")
    assert (chats.status, chats.json["user_id"]) == (200, bo.id)


async def test_session_token_is_its_user_raw_signed_and_escaped(node: Node, bo: Account) -> None:
    """Each form that Better Auth's bearer plugin gives out, or takes."""
    assert bo.signed == signed(bo.session)
    for bearer in (bo.session, bo.signed, as_cookie(bo.signed)):
        answer = await me(node, bearer)
        assert (answer.status, answer.json["id"]) == (200, bo.id), bearer
        assert answer.json["session_id"]


async def test_session_cookie_is_its_user(node: Node, bo: Account) -> None:
    """As the browser sends it; a write needs to come from a page that may write."""
    assert bo.cookie == f"{COOKIE}={as_cookie(bo.signed)}"
    assert (await me(node, cookie=bo.cookie)).json["id"] == bo.id
    by_cookie = node.nobody(cookie=bo.cookie)
    assert (await by_cookie.post("/api/v1/chat/start", {})).json["code"] == "cross_site_request"
    own = await by_cookie.but(origin=node.url).post("/api/v1/chat/start", {})
    assert own.status == 200


async def test_two_credentials_of_one_person_agree_and_of_two_do_not(
    node: Node, auth: BetterAuthServer, ana: Account
) -> None:
    """A token and a cookie may come together when they name the same person."""
    bo, token = await auth.sign_up(), await auth.jwt(ana)
    assert (await me(node, token, cookie=ana.cookie)).json["id"] == ana.id
    assert (await me(node, token, cookie=bo.cookie)).json["code"] == "credentials_conflict"


async def test_verdict_on_a_session_token_says_when_its_session_ends(
    node: Node, bo: Account
) -> None:
    """The token service takes opaque tokens as it takes others."""
    found = (await node.nobody().post("/auth/token/validate", {"token": bo.session})).json
    assert (found["valid"], found["user_id"], found["issuer"]) == (True, bo.id, "better-auth")
    assert abs(found["expires_in"] - 7 * 86_400) < 60
    unknown = await node.nobody().post("/auth/token/validate", {"token": "A" * 32})
    assert (unknown.json["valid"], unknown.json["reason"]) == (False, "invalid")


async def test_roles_are_those_of_the_admin_plugin(
    node: Node, auth: BetterAuthServer, ana: Account, change: Callable[..., None]
) -> None:
    """The row counts, and not what a token says; no other right comes out of a token."""
    forged = claims_of(auth, ana, role="owner", roles=["owner"], scope="everything", aal="aal2")
    change('update "user" set role = %s where id = %s', "admin,editor", ana.id)
    for bearer in (hs256(forged | {"session_id": "x"}), ana.session):
        who = await node.services.authenticator.principal_of(bearer)
        assert who.roles == {"admin", "editor"}
        assert (who.role, who.aal, len(who.scopes)) == ("authenticated", "aal1", 0)
        assert who.session_id != "x"


async def test_impersonation_is_no_proof_of_the_person(
    node: Node, auth: BetterAuthServer, ana: Account, change: Callable[..., None]
) -> None:
    """An admin who acts as somebody may do so here, and no fresh sign-in is claimed for it."""
    admin = await auth.sign_up()
    change('update "user" set role = %s where id = %s', "admin", admin.id)
    body, _ = await auth.call("/admin/impersonate-user", {"userId": ana.id}, session=admin.session)
    acting = await node.services.authenticator.principal_of(body["session"]["token"])
    assert (acting.user_id, acting.authenticated_at) == (ana.id, None)
    own = await node.services.authenticator.principal_of(ana.session)
    assert own.authenticated_at is not None


# --- who is not ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bend",
    [
        lambda t: t.swapcase(),
        lambda t: t[:-1],
        lambda t: f"{t}A",
        lambda t: t[:8],
        lambda t: f"{t[:-1]}%",
        lambda t: f"{t[:-1]}_",
        lambda t: f"{t[:-1]}é",
        lambda _: "' or true --",
        lambda t: f"{t}' or '1'='1",
        lambda t: f"{t};drop table session",
        lambda t: f"{t} ; ",
        lambda _: "A" * 8193,
        lambda t: f"{t}.",
        lambda t: f".{t}",
        lambda t: f"{t}..",
        lambda t: f"{t}.{t}",
        lambda t: signed(t)[:-1],
        lambda t: f"{signed(t)}=",
        lambda t: signed(t, "another secret: 0123456789abcdefghij"),
        lambda _: signed("A" * 32),
        lambda t: as_cookie(signed(t)).lower(),
        lambda t: as_cookie(as_cookie(signed(t))),
        lambda t: f"%{ord(t[0]):02X}{t[1:]}",
        lambda t: f"{signed(t)[:-2]}{chr(ord(signed(t)[-2]) ^ 1)}=",
    ],
)
async def test_bent_session_token_is_refused(
    node: Node, bo: Account, bend: Callable[[str], str]
) -> None:
    """Other letters, patterns, SQL, and signatures that are cut, swapped or of another secret."""
    answer = await me(node, bend(bo.session))
    assert refused(answer, INVALID), answer.text
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert (await me(node, bo.session)).status == 200


async def test_token_of_a_megabyte_is_refused_before_anything_looks_at_it(node: Node) -> None:
    """In a header by its size, in a body as no token."""
    assert (await me(node, "A" * (1 << 20))).status == 431
    found = await node.nobody().post("/auth/token/validate", {"token": "A" * 16_000})
    assert found.json["reason"] == "invalid"


@pytest.mark.parametrize(
    "bend",
    [
        lambda t: t,
        signed,
        lambda t: as_cookie(signed(t)).lower(),
        lambda t: as_cookie(signed(t)).replace("%3D", "="),
        lambda t: as_cookie(as_cookie(signed(t))),
        lambda t: f"{t}.",
        lambda t: as_cookie(f"{t}.{'A' * 43}="),
        lambda t: as_cookie(signed(t, "another secret: 0123456789abcdefghij")),
        lambda t: as_cookie(signed(t)) + "%20",
        lambda t: f"%{ord(t[0]):02X}{as_cookie(signed(t))[1:]}",
        lambda _: "x",
    ],
)
async def test_only_the_cookie_that_better_auth_writes_is_taken(
    node: Node, bo: Account, bend: Callable[[str], str]
) -> None:
    """Not raw, not unsigned, not of another secret, and in no other spelling."""
    answer = await me(node, cookie=f"{COOKIE}={bend(bo.session)}")
    assert refused(answer, INVALID), answer.text


async def test_two_session_cookies_are_refused(node: Node, bo: Account) -> None:
    """Somebody planted one of them."""
    assert refused(await me(node, cookie=f"{bo.cookie}; {bo.cookie}"), INVALID)


async def test_name_of_the_cookie_says_how_better_auth_is_reached(
    auth: BetterAuthServer, start: StartNode
) -> None:
    """Under https it is the one that only https sets, and the other is not looked at."""
    people = [await auth.sign_up(variant=variant) for variant in ("EdDSA", "https")]
    plain, secure = (one.cookie.partition("=") for one in people)
    assert (plain[0], secure[0]) == (COOKIE, SECURE_COOKIE)
    https = await start(**environment(auth, BETTER_AUTH_URL="https://auth.example"))
    production = await start(
        **environment(auth, BETTER_AUTH_URL="https://auth.example"),
        ENVIRONMENT="production",
        PUBLIC_URL="https://chat.example",
        TRUSTED_PROXIES="127.0.0.1",
        RATE_LIMITS="on",
    )
    http = await start(**environment(auth))
    through_proxy = {"x-forwarded-proto": "https", "host": "chat.example"}
    for node, headers, name, other in (
        (https, {}, SECURE_COOKIE, COOKIE),
        (production, through_proxy, SECURE_COOKIE, COOKIE),
        (http, {}, COOKIE, SECURE_COOKIE),
    ):
        for value in (plain[2], secure[2]):
            assert (await me(node, **headers, cookie=f"{name}={value}")).status == 200
            ignored = await me(node, **headers, cookie=f"{other}={value}")
            assert ignored.json["code"] == "unauthenticated"


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1_700_000_000, "iat": 1_699_999_000},
        {"aud": "https://elsewhere.example"},
        {"aud": ...},
        {"iss": "https://elsewhere.example"},
        {"iss": ...},
        {"sub": ...},
        {"sub": "AnotherUserAnotherUserAnotherUse"},
        {"email": ...},
        {"email": None},
        {"email": "an\0a@example.com"},
        {"exp": ...},
    ],
)
async def test_token_that_says_too_little_is_refused(
    node: Node, auth: BetterAuthServer, bo: Account, changes: dict[str, Any]
) -> None:
    """Signed with the right secret, and still none of its access tokens."""
    assert (await me(node, hs256(claims_of(auth, bo)))).status == 200
    assert refused(await me(node, hs256(claims_of(auth, bo, **changes))), INVALID)


async def test_other_things_that_better_auth_signs_are_no_access_tokens(
    node: Node, auth: BetterAuthServer, ana: Account
) -> None:
    """The token in a verification mail and the one in the cookie cache have the same secret."""
    mailed = await auth.mailed_token(ana)
    cached = (await auth.sign_in(ana, variant="cached")).cookies["better-auth.session_data"]
    for token in (mailed, cached):
        assert token.count(".") == 2
        assert refused(await me(node, token), INVALID)


async def test_token_signed_with_another_secret_is_refused(
    node: Node, auth: BetterAuthServer, bo: Account
) -> None:
    """And so is one that is signed with nothing, or with a public key as a secret."""
    claims = claims_of(auth, bo)
    assert refused(await me(node, hs256(claims, "another secret: 0123456789abcdefghij")), INVALID)
    unsigned = forge.forge({"alg": "none"}, claims, sign=lambda _: b"x")
    assert refused(await me(node, unsigned), INVALID)
    for algorithm in ("EdDSA", "ES256", "RS256"):
        honest = await auth.jwt(bo, variant=algorithm)
        head = forge.unsegment(honest.split(".")[0]).replace(algorithm.encode(), b"HS256")
        assert refused(
            await me(node, forge.forge(head, claims, sign=forge.hmac_signer(b"x"))), INVALID
        )


async def test_nobody_is_refused_in_the_same_words(node: Node) -> None:
    """No credential at all is a 401 as well."""
    answer = await me(node)
    assert refused(answer, INVALID)
    assert answer.headers["www-authenticate"] == "Bearer"


# --- when it ends -------------------------------------------------------------------------------


async def test_who_signed_out_is_refused_although_the_token_is_good_for_minutes(
    node: Node, auth: BetterAuthServer, ana: Account
) -> None:
    """The look-up finds no session; elsewhere than here it is the 401 of a revoked token."""
    token = await auth.jwt(ana)
    await auth.call("/sign-out", {}, session=ana.session)
    assert refused(await me(node, token), SIGNED_OUT)
    for bearer, code in ((token, "token_revoked"), (ana.session, "token_invalid")):
        elsewhere = await node.nobody(authorization=f"Bearer {bearer}").get("/api/settings")
        assert (elsewhere.status, elsewhere.json["code"]) == (401, code)
    assert refused(await me(node, ana.session), INVALID)
    assert refused(await me(node, cookie=ana.cookie), INVALID)
    verdict = (await node.nobody().post("/auth/token/validate", {"token": token})).json
    assert (verdict["valid"], verdict["reason"]) == (False, "revoked")


async def test_who_signs_out_of_one_of_two_devices_is_still_signed_in(
    node: Node, auth: BetterAuthServer, ana: Account
) -> None:
    """The token names no session, so the other one is enough for it."""
    token, phone = await auth.jwt(ana), await auth.sign_in(ana)
    await auth.call("/sign-out", {}, session=ana.session)
    assert (await me(node, token)).status == (await me(node, phone.session)).status == 200
    assert refused(await me(node, ana.session), INVALID)


async def test_signing_out_takes_effect_within_a_second_of_being_believed(
    node: Node, auth: BetterAuthServer, ana: Account
) -> None:
    """Whoever was just let in is not let in for long."""
    token = await auth.jwt(ana)
    assert (await me(node, token)).status == (await me(node, ana.session)).status == 200
    await auth.call("/sign-out", {}, session=ana.session)

    async def both_are_refused() -> bool:
        return refused(await me(node, token), SIGNED_OUT) and refused(
            await me(node, ana.session), INVALID
        )

    assert BELIEVED_FOR_S <= 1
    await until(both_are_refused, within_s=BELIEVED_FOR_S + 1)


async def test_what_was_found_is_believed_for_a_second_and_the_contrary_never(
    db: Database, auth: BetterAuthServer, ana: Account, change: Callable[..., None]
) -> None:
    """By a clock that stands until it is moved."""
    now = 100.0
    issuer = better_auth_issuer(url=auth.url, secret=SECRET, production=False, primary=True)
    looking = BetterAuth(db, issuer, is_ours=True, secret=SECRET, clock=lambda: now)
    rename = 'update "user" set name = %s where id = %s'
    assert (await looking.by_token(ana.session)).name == "Ana Example"
    change(rename, "Bea", ana.id)
    now += 0.99
    assert (await looking.by_token(ana.session)).name == "Ana Example"
    now += 0.01
    assert (await looking.by_token(ana.session)).name == "Bea"
    end = 'update session set "expiresAt" = now() + make_interval(secs => %s) where "userId" = %s'
    change(end, -1, ana.id)
    now += 1
    with pytest.raises(TokenInvalid):
        await looking.by_token(ana.session)
    change(end, 60, ana.id)
    assert (await looking.by_token(ana.session)).name == "Bea"


async def test_only_so_much_is_remembered(
    db: Database, auth: BetterAuthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest goes first."""
    monkeypatch.setattr("chatkeep.better_auth._MOST_REMEMBERED", 2)
    issuer = better_auth_issuer(url=auth.url, secret=SECRET, production=False, primary=True)
    looking = BetterAuth(db, issuer, is_ours=True, secret=SECRET)
    people = [await auth.sign_up() for _ in range(3)]
    for one in people:
        await looking.by_token(one.session)
    kept = [hashlib.sha256(one.session.encode()).digest() for one in people[1:]]
    assert list(looking._sessions._kept) == kept


async def test_ended_session_is_none(
    node: Node, auth: BetterAuthServer, ana: Account, change: Callable[..., None]
) -> None:
    """Better Auth leaves rows of ended sessions where they are."""
    token = await auth.jwt(ana)
    change('update session set "expiresAt" = now() where "userId" = %s', ana.id)
    assert refused(await me(node, token), SIGNED_OUT)
    assert refused(await me(node, ana.session), INVALID)


async def test_who_is_banned_is_refused_until_the_ban_ends(
    node: Node, auth: BetterAuthServer, ana: Account, change: Callable[..., None]
) -> None:
    """Better Auth's own ban ends the sessions; one that only stands in the row is seen, too."""
    admin, token = await auth.sign_up(), await auth.jwt(ana)
    change('update "user" set role = %s where id = %s', "admin", admin.id)
    await auth.call("/admin/ban-user", {"userId": ana.id}, session=admin.session)
    assert refused(await me(node, token), SIGNED_OUT)
    await auth.call("/admin/unban-user", {"userId": ana.id}, session=admin.session)
    again = await auth.sign_in(ana)
    change('update "user" set banned = true where id = %s', ana.id)
    assert refused(await me(node, token), SIGNED_OUT)
    assert refused(await me(node, again.session), INVALID)
    assert refused(await me(node, cookie=again.cookie), INVALID)
    elsewhere = await node.nobody(authorization=f"Bearer {again.session}").get("/api/settings")
    assert elsewhere.json["code"] == "token_revoked"
    change('update "user" set "banExpires" = now() + interval \'1 hour\' where id = %s', ana.id)
    assert refused(await me(node, token), SIGNED_OUT)
    change('update "user" set "banExpires" = now() - interval \'1 hour\' where id = %s', ana.id)
    assert (await me(node, token)).status == (await me(node, again.session)).status == 200


async def test_key_of_who_is_banned_or_deleted_there_is_refused_here(
    node: Node, auth: BetterAuthServer, ana: Account, change: Callable[..., None]
) -> None:
    """From its next look-up on, a minute later at most; until the ban ends."""
    wanted = {"name": "Laptop", "scopes": ["models:read"]}
    made = await node.nobody(authorization=f"Bearer {ana.session}").post("/api/keys", wanted)
    assert made.status == 200, made.text
    key = node.nobody(authorization=f"Bearer {made.json['key']}")
    remembered = node.services.personal_keys._remembered

    async def said() -> tuple[int, str | None]:
        remembered.clear()  # a minute has passed
        answer = await key.get("/v1/models")
        return answer.status, answer.json.get("error", {}).get("code")

    assert await said() == (200, None)
    change('update "user" set banned = true where id = %s', ana.id)
    assert (await said())[0] == 401
    assert not remembered
    change('update "user" set "banExpires" = now() - interval \'1 hour\' where id = %s', ana.id)
    assert await said() == (200, None)
    admin = await auth.sign_up()
    change('update "user" set role = %s where id = %s', "admin", admin.id)
    await auth.call("/admin/remove-user", {"userId": ana.id}, session=admin.session)
    assert (await said())[0] == 401


async def test_deleted_account_and_the_next_one_with_its_address_are_two_people(
    node: Node, auth: BetterAuthServer, ana: Account, change: Callable[..., None]
) -> None:
    """Nobody is found for the old token; and when somebody is, they are somebody else."""
    admin, token = await auth.sign_up(), await auth.jwt(ana)
    change('update "user" set role = %s where id = %s', "admin", admin.id)
    await auth.call("/admin/remove-user", {"userId": ana.id}, session=admin.session)
    assert refused(await me(node, token), NOBODY)
    elsewhere = await node.nobody(authorization=f"Bearer {token}").get("/api/v1/chat")
    assert (elsewhere.status, elsewhere.json["code"]) == (401, "token_revoked")
    heir = await auth.sign_up(ana.email)
    assert heir.id != ana.id
    assert refused(await me(node, token), INVALID)
    assert refused(await me(node, ana.session), INVALID)
    assert (await me(node, await auth.jwt(heir))).json["id"] == heir.id


async def test_token_with_an_address_that_changed_is_nobodys(
    node: Node, auth: BetterAuthServer, ana: Account, change: Callable[..., None]
) -> None:
    """The person gets another token; session tokens do not care."""
    token = await auth.jwt(ana)
    change('update "user" set email = %s where id = %s', f"new-{ana.email}", ana.id)
    assert refused(await me(node, token), NOBODY)
    assert (await me(node, ana.session)).json["email"] == f"new-{ana.email}"
    assert (await me(node, await auth.jwt(ana))).json["id"] == ana.id


# --- its tables ---------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(postgres: Server) -> Iterator[str]:
    """An empty database that is not ours."""
    name = postgres.new_database()
    yield name
    postgres.drop_database(name)


async def test_tables_elsewhere_without_the_admin_plugin(
    postgres: Server, elsewhere: str, session: aiohttp.ClientSession, start: StartNode
) -> None:
    """What a plugin adds may be missing, and where the tables are is a setting."""
    async with better_auth(postgres, elsewhere, session, "--plain") as auth:
        address = postgres.url(elsewhere)
        node = await start(**environment(auth, BETTER_AUTH_DATABASE_URL=address))
        ana = await auth.sign_up()
        token = await auth.jwt(ana)
        for answer in (
            await me(node, token),
            await me(node, ana.session),
            await me(node, cookie=ana.cookie),
        ):
            assert answer.json["id"] == ana.id
        await auth.call("/sign-out", {}, session=ana.session)
        await until(lambda: refused_soon(node, token))


async def refused_soon(node: Node, token: str) -> bool:
    """Whether *token* is refused by now."""
    return refused(await me(node, token), SIGNED_OUT)


OLD_TABLES = """
create table "user" (id text primary key, name text not null, email text not null unique,
  "emailVerified" boolean not null, image text, "createdAt" timestamp, "updatedAt" timestamp,
  role text default 'owner');
create table session (id text primary key, "userId" text not null references "user",
  "expiresAt" timestamp not null, token text not null unique, "ipAddress" text, "userAgent" text);
insert into "user" values ('ana', 'Ana', 'ana@example.com', true, 'https://x.example/a.png');
insert into session select name, 'ana', (now() + life) at time zone 'UTC', token
from (values ('s1', interval '1 min', 'abcdefghijklmnopqrst'),
  ('s2', interval '-1 min', 'ABCDEFGHIJKLMNOPQRST')) as made (name, life, token);
"""


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/Los_Angeles"])
async def test_tables_of_another_maker_with_times_that_have_no_zone(
    postgres: Server, elsewhere: str, start: StartNode, zone: str
) -> None:
    """They are in UTC, wherever the database is; and a role that nobody guards is none."""
    with psycopg.connect(postgres.url(elsewhere), autocommit=True) as admin:
        admin.execute(OLD_TABLES)
        admin.execute(
            sql.SQL("alter database {} set timezone to {}").format(sql.Identifier(elsewhere), zone)
        )
    issuer = "http://127.0.0.1:1"
    node = await start(
        **ALONE,
        BETTER_AUTH_ISSUER=issuer,
        BETTER_AUTH_SECRET=SECRET,
        BETTER_AUTH_DATABASE_URL=postgres.url(elsewhere),
    )
    now = int(time.time())
    said = {"iss": issuer, "aud": issuer, "sub": "ana", "email": "ana@example.com", "iat": now}
    assert (await me(node, hs256({**said, "exp": now + 60}))).json["picture"]
    who = await node.services.authenticator.principal_of("abcdefghijklmnopqrst")
    assert (who.user_id, len(who.roles), who.authenticated_at) == ("ana", 0, None)
    assert who.email_verified
    assert who.expires_at is not None
    assert 0 < who.expires_at.timestamp() - time.time() <= 60
    assert refused(await me(node, "ABCDEFGHIJKLMNOPQRST"), INVALID)


async def test_database_that_is_away_is_a_503_until_it_is_back(
    auth: BetterAuthServer, bo: Account, start: StartNode, postgres: Server, elsewhere: str
) -> None:
    """Nobody is let in and nobody is thrown out; whoever signs in elsewhere is not held up."""
    postgres.drop_database(elsewhere)
    url = postgres.url(elsewhere)
    node = await start(**environment(auth, BETTER_AUTH_DATABASE_URL=url))
    found = await asyncio.gather(
        me(node, await auth.jwt(bo)), me(node, bo.session), me(node, cookie=bo.cookie)
    )
    for answer in found:
        assert (answer.status, answer.json["status"]) == (503, 503)
        assert int(answer.headers["retry-after"]) >= 1
    signed_up = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
    assert (await node.nobody().post("/auth/v1/signup", signed_up)).status == 200
    with psycopg.connect(postgres.url(), autocommit=True) as admin:
        admin.execute(sql.SQL("create database {}").format(sql.Identifier(elsewhere)))
    with psycopg.connect(url) as admin:
        admin.execute(OLD_TABLES)

    async def is_back() -> bool:
        return (await me(node, "abcdefghijklmnopqrst")).status == 200

    await until(is_back)


async def test_tables_that_cannot_be_read_are_a_503_and_are_named(
    db: Database, database: MigratedDatabase, auth: BetterAuthServer, ana: Account
) -> None:
    """No right, no table, hidden rows: never a verdict on the person, and each has a cure."""
    issuer = better_auth_issuer(url=auth.url, secret=SECRET, production=False)
    looking = BetterAuth(db, issuer, is_ours=True, secret=SECRET)
    assert await find_problems(db, is_ours=True) == []
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("revoke select on session from chatkeep_auth")
        admin.execute('revoke select ("expiresAt") on session from chatkeep_auth')
        try:
            (problem,) = await find_problems(db, is_ours=True)
            assert problem.startswith('chatkeep_auth may not read public."session": run')
            with pytest.raises(DatabaseUnavailable):
                await looking.by_token(ana.session)
        finally:
            allow_reading(database.admin_url)
        admin.execute("alter table session enable row level security")
        (problem,) = await find_problems(db, is_ours=True)
        assert "hides the rows" in problem
        admin.execute(problem[problem.index("create policy") :].replace(";", ""))
        assert await find_problems(db, is_ours=True) == []
        assert (await looking.by_token(ana.session)).subject == ana.id
        admin.execute('alter table "user" rename column "emailVerified" to verified')
        try:
            (problem,) = await find_problems(db, is_ours=True)
            assert problem == 'public."user" lacks emailVerified: is it Better Auth\'s?'
            with pytest.raises(DatabaseUnavailable):
                await looking.by_token((await auth.sign_in(ana)).session)
        finally:
            admin.execute('alter table "user" rename column verified to "emailVerified"')


async def test_tables_that_are_not_there_yet_are_named(postgres: Server, elsewhere: str) -> None:
    """Better Auth has not run there; and then a login that may not read them."""
    url = postgres.url(elsewhere)
    allow_reading(url)
    async with opened(url) as db:
        for problem in await find_problems(db, is_ours=False):
            assert "let Better Auth make its tables" in problem
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(OLD_TABLES)
    async with opened(postgres.url(elsewhere, user=LOGIN)) as db:
        closed = await find_problems(db, is_ours=False)
    assert [one.split(" may ")[0] for one in closed] == [
        "The login of BETTER_AUTH_DATABASE_URL"
    ] * 2
    with pytest.raises(SetupError, match="another role, which must run this once"):
        allow_reading(postgres.url(elsewhere, user=LOGIN))
    allow_reading(url)
    allow_reading(postgres.url(elsewhere, user=LOGIN))
    with pytest.raises(SetupError, match="Cannot reach"):
        allow_reading("postgresql://127.0.0.1:1/x")


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """Lend the database at *url*."""
    db = Database(url, pool_size=1)
    await db.open()
    yield db
    await db.close()


async def test_right_is_to_read_what_is_needed_and_nothing_else(
    database: MigratedDatabase, auth: BetterAuthServer
) -> None:
    """No other column, no other table, and no change."""
    with psycopg.connect(database.admin_url) as admin:
        rows = admin.execute(
            "select table_name, privilege_type, string_agg(column_name, ' ' order by column_name)"
            " from information_schema.column_privileges where grantee = 'chatkeep_auth'"
            " and table_schema = 'public' and table_name in ('user', 'session')"
            " group by 1, 2 order by 1"
        ).fetchall()
    assert rows == [
        ("session", "SELECT", "createdAt expiresAt id impersonatedBy token userId"),
        ("user", "SELECT", "banExpires banned email emailVerified id image name role"),
    ]


# --- and what else ------------------------------------------------------------------------------


async def test_each_attempt_is_logged_step_by_step_and_no_token_is(
    node: Node, auth: BetterAuthServer, ana: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """How far it came, and for whom; neither the credential nor the address."""
    caplog.set_level(logging.INFO)
    token = await auth.jwt(ana)
    await me(node, token)
    await me(node, ana.session)
    await me(node, cookie=ana.cookie)
    await auth.call("/sign-out", {}, session=ana.session)
    await until(lambda: refused_soon(node, token))
    await me(node, "A" * 32)
    await me(node, "a.b.c")
    lines = [one.getMessage() for one in caplog.records if "chatkeep." in one.name]
    said = "attempt at Better Auth: "
    found, ended = "token verified, session found, user found", NoActiveSession.code
    known = "token seen, token verified, e-mail found, user found"
    for line in (
        f"{said}{known}, sessions: 1, user id {ana.id}",
        f"{said}session token seen, {found}, user id {ana.id}",
        f"{said}cookie seen, {found}, user id {ana.id}",
        f"{said}{known}, sessions: 0, refused: {ended}",
        f"{said}session token seen, token verified, refused: token_invalid",
        "support: token seen, refused: token_invalid",
    ):
        assert line in lines
    everything = caplog.text
    for secret in (token, ana.session, ana.signed, ana.email, SECRET):
        assert secret not in everything


async def test_application_without_a_server_takes_them_too(
    auth: BetterAuthServer, ana: Account, database: MigratedDatabase
) -> None:
    """With nothing but settings, and with the tables where its own database address leads."""
    environ = {"BETTER_AUTH_URL": auth.url, "BETTER_AUTH_SECRET": SECRET}
    async with AsyncExitStack() as stack:
        with pytest.raises(SetupError, match="needs BETTER_AUTH_DATABASE_URL"):
            await open_gate(stack, Settings.from_env(environ))
        settings = Settings.from_env({**environ, "DATABASE_URL": database.admin_url})
        gate = await open_gate(stack, settings)
        name, _, value = ana.cookie.partition("=")
        for presented in (
            Presented(authorization=(f"Bearer {ana.session}",)),
            Presented(authorization=(f"Bearer {await auth.jwt(ana)}",)),
            Presented(cookies={name: (value,)}),
        ):
            who = await gate.authenticator.identify(presented)
            assert who is not None
            assert who.user_id == ana.id
        bo = await auth.sign_up()
        token = await auth.jwt(bo)
        await auth.call("/sign-out", {}, session=bo.session)
        with pytest.raises(NoActiveSession):
            await gate.authenticator.principal_of(token)


async def test_dependency_of_another_application_refuses_in_the_same_words(
    auth: BetterAuthServer,
    ana: Account,
    database: MigratedDatabase,
    session: aiohttp.ClientSession,
) -> None:
    """`SignedIn` in somebody's own FastAPI application, with settings of its own."""
    app = FastAPI()
    settings = Settings.from_env(
        {"BETTER_AUTH_URL": auth.url, "BETTER_AUTH_DATABASE_URL": database.admin_url}
    )
    app.add_middleware(ChatkeepMiddleware, settings=settings)

    @app.get("/me")
    async def own_me(who: SignedIn) -> dict[str, str]:
        return {"id": who.user_id}

    token = await auth.jwt(ana)
    opened_socket = listening_socket()
    server = quiet_server(uvicorn.Config(app, ws="none", log_config=None))
    task = asyncio.create_task(server.serve([opened_socket]))
    await until(lambda: server.started or task.done())
    client = Client(f"http://127.0.0.1:{opened_socket.getsockname()[1]}", session)

    async def ask(bearer: str) -> tuple[int, dict[str, str]]:
        answer = await client.get("/me", headers={"authorization": f"Bearer {bearer}"})
        return answer.status, answer.json

    assert await ask(token) == await ask(ana.session) == (200, {"id": ana.id})
    await auth.call("/sign-out", {}, session=ana.session)

    async def is_over() -> bool:
        return await ask(token) == (404, {"detail": "No active sessions found for user"})

    await until(is_over)
    assert await ask("A" * 32) == (401, {"detail": "Invalid or expired token"})
    server.should_exit = True
    await task


async def test_without_the_secret_what_it_signs_is_refused(
    auth: BetterAuthServer, bo: Account, start: StartNode
) -> None:
    """Raw session tokens and published keys still work."""
    node = await start(**environment(auth, BETTER_AUTH_SECRET=""))
    assert (await me(node, bo.session)).json["id"] == bo.id
    assert (await me(node, await auth.jwt(bo))).json["id"] == bo.id
    assert refused(await me(node, bo.signed), INVALID)
    assert refused(await me(node, hs256(claims_of(auth, bo))), INVALID)
    assert (await me(node, cookie=bo.cookie)).json["code"] == "unauthenticated"
