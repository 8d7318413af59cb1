"""One running server, the tokens of every kind of issuer at once, and none crosses."""

from __future__ import annotations

import re
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import aiohttp
import pytest

from tests import forge
from tests.command_line import chatkeep, serving
from tests.identity_providers import (
    AUDIENCE,
    CLIENT_ID,
    INSTALLED,
    NOT_INSTALLED,
    PASSWORD,
    SECRET,
    BetterAuthServer,
    better_auth,
    openid_provider,
    openid_sign_in,
)
from tests.serving import SERVER_SECRET, Client, publishing_keys, token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from tests.identity_providers import Account
    from tests.postgres_servers import MigratedDatabase

pytestmark = pytest.mark.skipif(not INSTALLED.exists(), reason=NOT_INSTALLED)

#: The same id at every issuer where an id can be chosen.
SUB = "4b0a6f4e-6f5e-4a0b-9d3f-0d6f1f6f7a11"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The server, everybody who signs, and somebody with an account everywhere."""

    url: str
    http: aiohttp.ClientSession
    settings: Mapping[str, str]
    project: str
    auth: BetterAuthServer
    openid: str
    ana: Account
    openid_token: str
    embedded_token: str

    async def who(self, bearer: str | None = None, **headers: str) -> tuple[str, str] | int:
        """Return id and issuer of who calls, or the status of the refusal."""
        if bearer is not None:
            headers["authorization"] = f"Bearer {bearer}"
        answer = await Client(self.url, self.http, headers).get("/auth/me")
        return (answer.json["id"], answer.json["issuer"]) if answer.status == 200 else answer.status


@pytest.fixture(scope="module")
async def world(
    database: MigratedDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """Everything, as processes of their own."""
    async with AsyncExitStack() as stack:
        jar = aiohttp.DummyCookieJar()
        http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
        project = await stack.enter_async_context(publishing_keys())
        auth = await stack.enter_async_context(better_auth(database.server, database.name, http))
        openid = await stack.enter_async_context(openid_provider("ES256"))
        settings = {
            "DATABASE_URL": database.url,
            "DATABASE_ADMIN_URL": database.admin_url,
            "CHATKEEP_SECRET": SERVER_SECRET,
            "RATE_LIMITS": "off",
            "SUPABASE_PROJECT_URL": project,
            "SUPABASE_JWT_SECRET": forge.SECRET.decode(),
            "BETTER_AUTH_URL": auth.url,
            "BETTER_AUTH_SECRET": SECRET,
            "OIDC_ISSUER": openid,
            "OIDC_AUDIENCE": AUDIENCE,
            "OIDC_CLIENT_ID": CLIENT_ID,
        }
        home = tmp_path_factory.mktemp("together")
        server = await stack.enter_async_context(
            serving("--port", "0", cwd=home, settings=settings)
        )
        said = await server.says("Stop ")
        url = re.search(r"Open +(\S+)", said)
        assert url
        ana = await auth.sign_up()
        (signed_in, _) = await openid_sign_in(openid, SUB)
        sign_up = {"email": ana.email, "password": PASSWORD}
        embedded = await Client(url[1], http).post("/auth/v1/signup", sign_up)
        yield World(
            url=url[1],
            http=http,
            settings=settings,
            project=project,
            auth=auth,
            openid=openid,
            ana=ana,
            openid_token=signed_in["access_token"],
            embedded_token=embedded.json["access_token"],
        )


async def test_every_issuer_is_taken_at_once_and_each_has_its_own_people(world: World) -> None:
    """The same `sub`, and the same address, at several issuers are several people."""
    supabase = (SUB, "supabase")
    for algorithm in ("HS256", "ES256", "RS256", "EdDSA"):
        bearer = token(world.project, SUB, algorithm, email=world.ana.email)
        assert await world.who(bearer) == supabase
    better = (f"better-auth:{world.ana.id}", "better-auth")
    for variant in ("EdDSA", "ES256", "RS256", "HS256"):
        assert await world.who(await world.auth.jwt(world.ana, variant=variant)) == better
    assert await world.who(world.ana.session) == better
    assert await world.who(world.ana.signed) == better
    assert await world.who(cookie=world.ana.cookie) == better
    assert await world.who(world.openid_token) == (f"oidc:{SUB}", "oidc")
    embedded = await world.who(world.embedded_token)
    assert isinstance(embedded, tuple)
    assert embedded[0].startswith("embedded:")


async def test_what_one_of_them_says_nobody_else_reads(world: World) -> None:
    """Each begins a chat, and finds that one alone."""
    bearers = [
        token(world.project, SUB, "ES256", email=world.ana.email),
        await world.auth.jwt(world.ana),
        world.openid_token,
        world.embedded_token,
    ]
    callers = [Client(world.url, world.http, {"authorization": f"Bearer {one}"}) for one in bearers]
    begun = [(await one.post("/api/v1/chat/start", {})).json["conversation_id"] for one in callers]
    for caller, own in zip(callers, begun, strict=True):
        listed = (await caller.get("/api/v1/chat")).json["conversations"]
        assert [one["id"] for one in listed] == [own]
        for other in set(begun) - {own}:
            assert (await caller.get(f"/api/v1/chat/{other}")).status == 403


async def test_key_of_one_issuer_signs_for_no_other(world: World) -> None:
    """Every secret and every key with every issuer's name, and only the right pair is taken."""
    now = int(time.time())
    audiences = {
        f"{world.project}/auth/v1": "authenticated",
        world.auth.url: world.auth.url,
        world.openid: AUDIENCE,
        f"{world.url}/auth/v1": "authenticated",
        "https://nobody.example": "authenticated",
    }
    signers = {
        "the project's secret": ("HS256", forge.hmac_signer(forge.SECRET)),
        "the project's key": ("ES256", forge.signer("ES256")),
        "Better Auth's secret": ("HS256", forge.hmac_signer(SECRET.encode())),
        "our own secret": ("HS256", forge.hmac_signer(SERVER_SECRET.encode())),
    }
    right = {
        ("the project's secret", f"{world.project}/auth/v1"),
        ("the project's key", f"{world.project}/auth/v1"),
        ("Better Auth's secret", world.auth.url),
    }
    taken = set()
    for name, (algorithm, sign) in signers.items():
        for iss, audience in audiences.items():
            claims = {
                "iss": iss,
                "aud": audience,
                "sub": world.ana.id,
                "email": world.ana.email,
                "iat": now,
                "exp": now + 60,
                "scope": "chat",
                "role": "authenticated",
                "session_id": str(uuid4()),
            }
            for typ in ("JWT", "at+jwt", ...):
                bearer = forge.forge(forge.header(algorithm, typ=typ), claims, sign=sign)
                if await world.who(bearer) != 401:
                    taken.add((name, iss))
    assert taken == right


async def test_check_names_every_issuer_and_what_is_wrong(world: World, tmp_path: Path) -> None:
    """A line each, while the server runs; and exit code 1 with the cure."""
    good = await chatkeep("issuers", "check", cwd=tmp_path, settings=world.settings)
    assert (good.code, good.err) == (0, "")
    lines = {line[2:17].strip(): (line[0], line[17:]) for line in good.out.splitlines()}
    assert list(lines) == ["supabase", "better-auth", "oidc", "embedded"]
    assert {mark for mark, _ in lines.values()} == {"✓"}
    assert lines["supabase"][1] == "the shared secret (HS256), 3 keys (ES256, EdDSA, RS256)"
    assert "3 keys (ES256, EdDSA, RS256), its tables can be read" in lines["better-auth"][1]
    away = {**world.settings, "OIDC_ISSUER": f"{world.openid}/", "BETTER_AUTH_SECRET": ""}
    away["BETTER_AUTH_URL"] = "http://127.0.0.1:1"
    bad = await chatkeep("issuers", "check", cwd=tmp_path, settings=away)
    assert bad.code == 1
    wrong = [line for line in bad.out.splitlines() if line.startswith("✗")]
    assert [line.split()[1] for line in wrong] == ["better-auth", "oidc"]
    assert wrong[0].endswith("check BETTER_AUTH_URL, and that Better Auth has its JWT plugin.")
    assert wrong[1].endswith("check OIDC_ISSUER, which must be exactly its name.")
    doctor = await chatkeep("doctor", cwd=tmp_path, settings=world.settings)
    assert doctor.code == 0
    assert "its tables can be read" in doctor.out
