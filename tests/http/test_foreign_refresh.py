"""Tokens of other issuers: renewed and ended where they come from, and nowhere else.

The Supabase project is a server of ours in a process of its own, driven as one; the OpenID
provider is the certified one. What no honest issuer does is done by a made-up one.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import pytest
from aiohttp import web

from chatkeep.db import AUTH
from chatkeep.sessions.refresh_cookies import PREFIX, Kept, RefreshCookies
from tests.identity_providers import (
    AUDIENCE,
    CLIENT_ID,
    INSTALLED,
    NOT_INSTALLED,
    openid_provider,
    openid_sign_in,
)
from tests.postgres_servers import LOGIN
from tests.server_process import server_process
from tests.serving import SERVER_SECRET, serving, start_node, token, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp

    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase, Server
    from tests.server_process import ServerProcess
    from tests.serving import Answer, Node

needs_clients = pytest.mark.skipif(not INSTALLED.exists(), reason=NOT_INSTALLED)

PREFIXES = ["/auth", "/api/auth", ""]
PASSWORD = "Correct-Horse-42"
COOKIE = "chatkeep_refresh"
ROUTE = "/auth/token/refresh"
CLIENT_SECRET = "a secret of the test client: 0123456789"


def cookie_of(answer: Answer) -> str:
    """Return the value of the refresh cookie that *answer* sets."""
    name, _, value = answer.headers["set-cookie"].partition(";")[0].partition("=")
    assert name == COOKIE
    return value


async def me(node: Node, access_token: str) -> Answer:
    """Ask who the bearer is."""
    return await node.nobody(authorization=f"Bearer {access_token}").get("/auth/me")


# --- a Supabase project -------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def supabase(
    postgres: Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ServerProcess]:
    """A second server, of its own process and database, that serves `/auth/v1`."""
    name = postgres.new_database(template=postgres.migrated_template())
    folder: Path = tmp_path_factory.mktemp("supabase")
    settings = {
        "DATABASE_URL": postgres.url(name, user=LOGIN),
        "CHATKEEP_SECRET": "another secret, of the project: 0123456789",
        "RATE_LIMITS": "off",
        "DRAIN_SECONDS": "0",
    }
    async with server_process(folder, settings) as server:
        yield server
    postgres.drop_database(name)


@pytest.fixture(scope="module")
async def here(
    supabase: ServerProcess, database: MigratedDatabase, session: aiohttp.ClientSession
) -> AsyncIterator[Node]:
    """A node for whose people that project signs."""
    started = await start_node(
        database.url,
        session,
        supabase.base,
        SUPABASE_PROJECT_URL="",
        SUPABASE_JWT_SECRET="",
        SUPABASE_AUTH_DOMAIN=supabase.base,
        SUPABASE_AUTH_CLIENT_ID="sb_publishable_x",
    )
    yield started
    await started.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a person got when they signed in at the project."""

    access_token: str
    refresh_token: str
    email: str


async def signed_up(supabase: ServerProcess, session: aiohttp.ClientSession) -> Grant:
    """Make an account at the project."""
    body = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
    async with session.post(f"{supabase.base}/auth/v1/signup", json=body) as answer:
        said = await answer.json()
        assert answer.status == 200, said
    return Grant(
        access_token=said["access_token"],
        refresh_token=said["refresh_token"],
        email=body["email"],
    )


async def at_project(supabase: ServerProcess, session: aiohttp.ClientSession, access: str) -> int:
    """Return how the project itself answers the bearer of *access*."""
    headers = {"authorization": f"Bearer {access}"}
    async with session.get(f"{supabase.base}/auth/v1/user", headers=headers) as answer:
        return answer.status


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("said", ["issuer", "iss", "access token"])
async def test_supabase_token_is_renewed_at_its_project(
    here: Node, supabase: ServerProcess, session: aiohttp.ClientSession, prefix: str, said: str
) -> None:
    """Named, or by the token beside it: the same person and session, and every member."""
    grant = await signed_up(supabase, session)
    whose = {
        "issuer": {"issuer": "supabase"},
        "iss": {"issuer": f"{supabase.base}/auth/v1"},
        "access token": {"access_token": grant.access_token},
    }[said]
    body = {"refresh_token": grant.refresh_token, **whose}
    answer = await here.nobody().post(f"{prefix}/token/refresh", body)
    assert answer.status == 200, answer.text
    assert set(answer.json) == {
        *("access_token", "token_type", "expires_in", "expires_at", "refresh_token", "user"),
    }
    assert answer.json["refresh_token"] != grant.refresh_token
    assert answer.json["user"] == (await me(here, answer.json["access_token"])).json
    before = (await me(here, grant.access_token)).json
    assert answer.json["user"] == before
    assert (before["issuer"], before["email"]) == ("supabase", grant.email)
    assert abs(answer.json["expires_in"] - 3600) < 10
    assert "set-cookie" not in answer.headers


async def test_cookie_says_whose_token_it_is_and_is_rotated(
    here: Node, supabase: ServerProcess, session: aiohttp.ClientSession
) -> None:
    """By itself from then on; the token is in no body."""
    grant = await signed_up(supabase, session)
    browser = here.nobody(origin=here.url)
    body = {"refresh_token": grant.refresh_token, "issuer": "supabase", "cookie": True}
    first = await browser.post(ROUTE, body)
    assert first.status == 200, first.text
    second = await browser.but(cookie=f"{COOKIE}={cookie_of(first)}").post(ROUTE)
    assert second.status == 200, second.text
    assert cookie_of(second) != cookie_of(first)
    for answer in (first, second):
        assert answer.json["refresh_token"] is None
        assert cookie_of(answer).startswith(PREFIX)
        attributes = answer.headers["set-cookie"].lower().split("; ")[1:]
        assert {"httponly", "samesite=strict", "path=/", "max-age=604800"} <= set(attributes)
    other_site = here.nobody(cookie=f"{COOKIE}={cookie_of(second)}", origin="https://evil.example")
    assert (await other_site.post(ROUTE)).json["code"] == "cross_site_request"
    bent = cookie_of(second)[:-2] + "xx"
    answer = await browser.but(cookie=f"{COOKIE}={bent}").post(ROUTE)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")


async def test_log_out_ends_it_at_the_project_too(
    here: Node, supabase: ServerProcess, session: aiohttp.ClientSession
) -> None:
    """By bearer; afterwards neither token is worth anything, there or here."""
    grant = await signed_up(supabase, session)
    client = here.nobody(authorization=f"Bearer {grant.access_token}")
    assert (await client.post("/auth/logout")).json == {"success": True, "revoked": True}
    assert await at_project(supabase, session, grant.access_token) == 403
    assert (await me(here, grant.access_token)).json["code"] == "token_revoked"
    body = {"refresh_token": grant.refresh_token, "issuer": "supabase"}
    answer = await here.nobody().post(ROUTE, body)
    assert (answer.status, answer.json["code"]) == (401, "refresh_token_refused")


async def test_log_out_with_cookies_alone_ends_it_at_the_project_too(
    here: Node, supabase: ServerProcess, session: aiohttp.ClientSession
) -> None:
    """A browser that holds no token of the project any more has the refresh cookie."""
    grant = await signed_up(supabase, session)
    browser = here.nobody(origin=here.url)
    exchanged = await browser.post(
        "/auth/session", headers={"authorization": f"Bearer {grant.access_token}"}
    )
    body = {"refresh_token": grant.refresh_token, "issuer": "supabase", "cookie": True}
    refreshed = await browser.post(ROUTE, body)
    pairs = [one.headers["set-cookie"].partition(";")[0] for one in (exchanged, refreshed)]
    answer = await browser.but(cookie="; ".join(pairs)).post("/auth/logout")
    assert answer.json == {"success": True, "revoked": True}
    assert await at_project(supabase, session, grant.access_token) == 403


async def test_session_ended_by_its_id_ends_at_the_project_too(
    here: Node, supabase: ServerProcess, session: aiohttp.ClientSession
) -> None:
    """One's own session, of which there is a token to show."""
    grant = await signed_up(supabase, session)
    client = here.nobody(authorization=f"Bearer {grant.access_token}")
    session_id = (await client.get("/auth/me")).json["session_id"]
    answer = await client.post("/auth/session/revoke", {"session_id": session_id})
    assert answer.json == {"success": True, "revoked": True}
    assert await at_project(supabase, session, grant.access_token) == 403


async def test_session_ended_here_is_not_renewed(
    here: Node, supabase: ServerProcess, session: aiohttp.ClientSession
) -> None:
    """From the list of another device: what the project goes on giving out is refused here."""
    grant = await signed_up(supabase, session)
    client = here.nobody(authorization=f"Bearer {grant.access_token}")
    (listed,) = (await client.get("/api/sessions")).json["sessions"]
    assert (await client.delete(f"/api/sessions/{listed['id']}")).status == 204
    body = {"refresh_token": grant.refresh_token, "issuer": "supabase"}
    answer = await here.nobody().post(ROUTE, body)
    assert (answer.status, answer.json["code"]) == (401, "token_revoked")


async def test_token_of_ours_is_never_shown_to_the_project(here: Node) -> None:
    """Ours is recognised by its proof, whoever the request names; a bent one is nobody's."""
    body = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
    ours = (await here.nobody().post("/auth/v1/signup", body)).json
    answer = await here.nobody().post(
        ROUTE, {"refresh_token": ours["refresh_token"], "issuer": "supabase"}
    )
    assert (answer.status, answer.json["user"]["issuer"]) == (200, "embedded")
    bent = ours["refresh_token"][:-4] + "AAAA"
    assert (await here.nobody().post(ROUTE, {"refresh_token": bent})).status == 401


# --- an OpenID provider -------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[str]:
    """The certified provider."""
    async with openid_provider("ES256") as address:
        yield address


@pytest.fixture(scope="module")
async def openid_node(
    provider: str, database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[Node]:
    """A node that is its client."""
    started = await start_node(
        database.url,
        session,
        project,
        OIDC_ISSUER=provider,
        OIDC_AUDIENCE=AUDIENCE,
        OIDC_CLIENT_ID=CLIENT_ID,
        OIDC_CLIENT_SECRET=CLIENT_SECRET,
    )
    yield started
    await started.stop()


@needs_clients
async def test_openid_token_is_renewed_and_revoked_at_its_provider(
    openid_node: Node, provider: str
) -> None:
    """With our client id and secret; after log-out the provider knows the token no more."""
    ana, _ = await openid_sign_in(provider, "ana")
    nobody = openid_node.nobody()
    body = {"refresh_token": ana["refresh_token"], "issuer": "oidc"}
    answer = await nobody.post(ROUTE, body)
    assert answer.status == 200, answer.text
    assert answer.json["user"]["id"] == "oidc:ana"
    client = openid_node.nobody(authorization=f"Bearer {answer.json['access_token']}")
    shown = {"refresh_token": answer.json["refresh_token"]}
    assert (await client.post("/auth/logout", shown)).json == {"success": True, "revoked": True}
    upstream = openid_node.services.foreign_sessions._upstream
    upstream._flights.clear()
    openid_node.services.embedded.revocations._ended.clear()
    refused = await nobody.post(ROUTE, {**shown, "issuer": "oidc"})
    assert (refused.status, refused.json["code"]) == (401, "refresh_token_refused")


@needs_clients
async def test_where_several_renew_somebody_must_say_whose_it_is(
    openid_node: Node, provider: str
) -> None:
    """It is tried at none: 400; and so are two answers to that question, and a wrong one."""
    ana, _ = await openid_sign_in(provider, "ana")
    body = {"refresh_token": ana["refresh_token"]}
    nobody = openid_node.nobody()
    supabase = {"access_token": token(openid_node.project, "ana")}
    for wrong in ({}, {"issuer": "nobody"}, {"issuer": "oidc", **supabase}):
        answer = await nobody.post(ROUTE, {**body, **wrong})
        assert (answer.status, answer.json["code"]) == (400, "bad_request"), wrong
    answer = await nobody.post(ROUTE, {**body, "access_token": "a.b.c"})
    assert (answer.status, answer.json["code"]) == (401, "token_invalid")
    answer = await nobody.post(ROUTE, {**body, "access_token": ana["access_token"]})
    assert answer.status == 200


# --- issuers that misbehave ---------------------------------------------------------------------


@dataclass(slots=True)
class Project:
    """A made-up Supabase project; it answers what the test wants, and counts."""

    address: str = ""
    status: int = 200
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    hold: asyncio.Event | None = None

    async def answer(self, request: web.Request) -> web.Response:
        """Remember what was asked, and answer."""
        said = await request.text()
        sent = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append((request.path, sent, json.loads(said or "null")))
        if self.hold is not None:
            await self.hold.wait()
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        return web.Response(
            status=self.status, text=text, headers=self.headers, content_type="application/json"
        )

    def gives(self, **claims: object) -> None:
        """Answer with an access token of these claims."""
        access = token(self.address, str(claims.pop("sub", "ana")), "HS256", **claims)
        self.status, self.body = 200, {"access_token": access, "refresh_token": "next-" + "x" * 9}


@pytest.fixture
async def odd() -> AsyncIterator[Project]:
    """A project that a test directs."""
    project = Project()
    async with serving(web.post("/{path:.*}", project.answer)) as project.address:
        yield project


@pytest.fixture
async def its_node(odd: Project, start: StartNode) -> Node:
    """A node of that project, with both of its keys."""
    return await start(
        SUPABASE_PROJECT_URL=odd.address,
        SUPABASE_AUTH_CLIENT_ID="the publishable key",
        SUPABASE_AUTH_CLIENT_SECRET="the secret key",
    )


async def refreshed(node: Node, **body: object) -> Answer:
    """Ask for a refresh; nobody but the one project renews tokens here."""
    return await node.nobody().post(ROUTE, {"refresh_token": "a-refresh-token", **body})


async def test_project_is_asked_as_its_clients_ask_it(its_node: Node, odd: Project) -> None:
    """Where to, with which key, for whom, and nothing of the caller's own headers."""
    odd.gives()
    answer = await refreshed(its_node)
    assert answer.status == 200, answer.text
    ((path, headers, body),) = odd.asked
    assert (path, body) == ("/auth/v1/token", {"refresh_token": "a-refresh-token"})
    assert headers["apikey"] == "the secret key"
    assert headers["sb-forwarded-for"] == "127.0.0.1"
    assert "cookie" not in headers
    assert answer.json["refresh_token"] == "next-" + "x" * 9


async def test_hundred_parallel_refreshes_are_one_exchange(its_node: Node, odd: Project) -> None:
    """All get the same successor, a little later too: an issuer that rotates throws nobody out."""
    odd.gives()
    odd.hold = asyncio.Event()
    waiting = [asyncio.create_task(refreshed(its_node)) for _ in range(100)]
    await until(lambda: bool(odd.asked))
    waiting[0].cancel()
    odd.hold.set()
    answers = await asyncio.gather(*waiting[1:])
    late = await refreshed(its_node)
    assert {one.status for one in [*answers, late]} == {200}
    assert len({one.json["access_token"] for one in [*answers, late]}) == 1
    assert len(odd.asked) == 1


async def test_whoever_had_to_go_renews_where_the_clock_is_behind(
    its_node: Node, odd: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything of an issuer ended by the database's clock; what it gives since then is good."""

    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) - timedelta(hours=1)

    monkeypatch.setattr("chatkeep.sessions.foreign.datetime", Behind)
    services = its_node.services
    try:
        # A while ago: whoever signs in for another test within this second is not meant.
        await services.db.execute(
            AUTH,
            "select chatkeep.revoke('issuer', 'supabase', '', now() - interval '10 s',"
            " now() + interval '1 h')",
            (),
        )
        await services.embedded.revocations.catch_up()
        odd.gives(iat=int(time.time()) + 2)
        answer = await refreshed(its_node)
        assert answer.status == 200, answer.text
    finally:
        await services.db.execute(
            AUTH, "delete from chatkeep.revocations where kind = 'issuer'", ()
        )


async def test_successor_is_not_shared_for_long(its_node: Node, odd: Project) -> None:
    """After some seconds the issuer is asked again, and may see a copied token for what it is."""
    odd.gives()
    assert (await refreshed(its_node)).status == 200
    upstream = its_node.services.foreign_sessions._upstream
    later = time.monotonic() + 11
    upstream._clock = lambda: later
    assert (await refreshed(its_node)).status == 200
    assert len(odd.asked) == 2


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"code": "refresh_token_not_found", "message": "x"}),
        (400, {"error": "invalid_grant", "error_description": "x"}),
        (403, {"code": "session_not_found"}),
        (400, {"code": 400, "error_code": "refresh_token_already_used", "msg": "x"}),
    ],
    ids=str,
)
async def test_refused_there_is_refused_here(
    its_node: Node, odd: Project, status: int, body: object
) -> None:
    """401, and nobody asks again for a while."""
    odd.status, odd.body = status, body
    for _ in range(2):
        answer = await refreshed(its_node)
        assert (answer.status, answer.json["code"]) == (401, "refresh_token_refused")
        assert "a-refresh-token" not in answer.text
    assert len(odd.asked) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {}),
        (502, "<html>"),
        (429, {"code": "over_request_rate_limit"}),
        (401, {"message": "No API key found in request"}),
        (400, {"error": "invalid_client"}),
        (403, "<html>"),
        (404, "<html>"),
        (400, {}),
        (302, {}),
        (200, "<html>"),
        (200, {}),
        (200, {"access_token": 1}),
        (200, {"access_token": "x", "refresh_token": "ü" * 20}),
        (200, '{"access_token":"' + "x" * 300_000 + '"}'),
        (200, "[" * 100_000),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_issuer_that_is_away_or_mad_is_a_503(
    its_node: Node, odd: Project, status: int, body: object
) -> None:
    """With `Retry-After`; a redirect is not followed, and the session is nobody's to throw away."""
    odd.status, odd.body = status, body
    odd.headers = {"Location": f"{odd.address}/elsewhere"} if status == 302 else {}
    answer = await refreshed(its_node)
    assert (answer.status, answer.json["code"]) == (503, "issuer_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert [path for path, _, _ in odd.asked] == ["/auth/v1/token"]
    odd.gives()
    odd.headers = {}
    assert (await refreshed(its_node)).status == 200


async def test_issuer_nobody_reaches_is_a_503_and_log_out_works(start: StartNode) -> None:
    """Log-out ends the session here, and says that its issuer could not be told."""
    node = await start(SUPABASE_PROJECT_URL="http://127.0.0.1:9")
    answer = await refreshed(node)
    assert (answer.status, answer.json["code"]) == (503, "issuer_unavailable")
    access = token("http://127.0.0.1:9", "ana", "HS256")
    client = node.nobody(authorization=f"Bearer {access}")
    left = await client.post("/auth/logout", {"refresh_token": "logged-out-token"})
    assert left.status == 200
    assert left.json == {"success": True, "revoked": True}
    assert left.headers["x-log-out-at-issuer"] == "unavailable"
    assert (await me(node, access)).json["code"] == "token_revoked"
    again = await refreshed(node, refresh_token="logged-out-token")
    assert (again.status, again.json["code"]) == (401, "refresh_token_refused")


@pytest.mark.parametrize("status", [401, 404, 429, 500])
async def test_log_out_that_its_issuer_did_not_hear_says_so(
    its_node: Node, odd: Project, status: int
) -> None:
    """Whatever is said there but "it is over": the session has ended here, and may live there."""
    odd.status, odd.body = status, {"message": "No API key found in request"}
    access = token(odd.address, str(uuid4()), "HS256")
    client = its_node.nobody(authorization=f"Bearer {access}")
    answer = await client.post("/auth/logout")
    assert answer.json == {"success": True, "revoked": True}
    assert answer.headers["x-log-out-at-issuer"] == "unavailable"
    assert (await me(its_node, access)).json["code"] == "token_revoked"


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "bo"},
        {"aud": "somebody else"},
        {"exp": 1_700_000_000, "iat": 1_699_999_000},
        {"role": "service_role"},
        {"exp": ...},
    ],
    ids=str,
)
async def test_another_person_or_a_token_for_others_is_refused(
    its_node: Node, odd: Project, claims: dict[str, Any]
) -> None:
    """The new access token must verify and be the same person's as the old one."""
    odd.gives(**claims)
    old = token(odd.address, "ana", "HS256", exp=int(time.time()) - 9, iat=int(time.time()) - 99)
    answer = await refreshed(its_node, access_token=old)
    assert (answer.status, answer.json["code"]) == (401, "refresh_token_refused")
    odd.gives()
    its_node.services.foreign_sessions._upstream._flights.clear()
    assert (await refreshed(its_node, access_token=old)).status == 200


async def test_person_in_the_cookie_is_held_to(its_node: Node, odd: Project) -> None:
    """A refresh by cookie that comes back as somebody else is refused."""
    cookies = RefreshCookies(SERVER_SECRET.encode())
    value = cookies.write(Kept(token="a-refresh-token", issuer="supabase", subject="bo"))
    odd.gives(sub="ana")
    browser = its_node.nobody(origin=its_node.url, cookie=f"{COOKIE}={value}")
    answer = await browser.post(ROUTE)
    assert (answer.status, answer.json["code"]) == (401, "refresh_token_refused")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("text", ["x", "ü" * 20, "a b c d e f g h", "\n" * 20, "x" * 9000])
async def test_what_is_no_refresh_token_is_shown_to_nobody(
    its_node: Node, odd: Project, text: str
) -> None:
    """400, before anybody is asked."""
    answer = await refreshed(its_node, refresh_token=text)
    assert answer.status == 400
    assert odd.asked == []


async def test_cookie_too_long_for_a_browser_is_not_set(its_node: Node, odd: Project) -> None:
    """Rather a clear refusal than a person who is signed out tomorrow."""
    odd.gives()
    assert isinstance(odd.body, dict)
    odd.body["refresh_token"] = "x" * 5000
    answer = await its_node.nobody(origin=its_node.url).post(
        ROUTE, {"refresh_token": "a-refresh-token", "cookie": True}
    )
    assert (answer.status, answer.json["code"]) == (422, "validation_failed")


def test_secrets_are_in_no_repr() -> None:
    """What could be logged by accident shows none."""
    assert "secret" not in repr(Kept(token="secret"))
