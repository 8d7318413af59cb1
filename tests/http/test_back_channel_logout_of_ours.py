"""Who signed in here with an OpenID provider and signs out there is out here as well."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from chatkeep.issuers.logout_tokens import EVENT
from tests import forge
from tests.free_ports import free_port
from tests.identity_providers import (
    AUDIENCE,
    INSTALLED,
    NOT_INSTALLED,
    openid_provider,
    openid_sign_in,
    openid_sign_out,
)
from tests.serving import start_node, until
from tests.sign_in_providers import (
    CLIENT_ID,
    CLIENT_SECRET,
    Browser,
    StandIn,
    authorize_url,
    person,
    pkce,
    stand_in,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node

needs_clients = pytest.mark.skipif(not INSTALLED.exists(), reason=NOT_INSTALLED)
ROUTE: Final = "/auth/backchannel-logout"
PASSWORD: Final = "Correct-Horse-42"
_numbers = count()


def settings_of(name: str, issuer: str) -> dict[str, str]:
    """Return the settings with which people may sign in at *issuer*."""
    said = {"ISSUER": issuer, "CLIENT_ID": CLIENT_ID, "CLIENT_SECRET": CLIENT_SECRET}
    return {f"SIGN_IN_{name.upper()}_{one}": value for one, value in said.items()}


async def is_in(client: Client) -> bool:
    """Whether the caller is let in; if not, they were signed out."""
    answer = await client.get("/auth/me")
    assert answer.status == 200 or answer.json["code"] == "token_revoked", answer.text
    return answer.status == 200


async def signed_in(node: Node, browser: Browser, **asked: str) -> Client:
    """Sign in with the provider; return the caller that the application then is."""
    page = await browser.go(authorize_url(node, **asked))
    assert "access_token" in page.fragment, page
    return node.nobody(authorization=f"Bearer {page.fragment['access_token']}")


# --- the certified provider ---------------------------------------------------------------------


@needs_clients
@pytest.mark.parametrize("names", ["person", "session"])
async def test_session_that_began_with_the_provider_ends_with_its_own(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str, names: str
) -> None:
    """On every server; with what the same client got there for itself, and with codes under way."""
    port = free_port()
    home = f"http://127.0.0.1:{port}"
    async with openid_provider(
        "ES256", f"{home}/auth/v1/callback", logout_uri=home + ROUTE, logout_names=names
    ) as issuer:
        settings = {"SIGN_IN_PROVIDERS": "acme", **settings_of("acme", issuer)}
        settings |= {
            "OIDC_ISSUER": issuer,
            "OIDC_AUDIENCE": AUDIENCE,
            "OIDC_CLIENT_ID": CLIENT_ID,
            "PUBLIC_URL": home,
        }
        here = await start_node(database.url, session, project, PORT=str(port), **settings)
        there = await start_node(database.url, session, project, **settings)
        name = f"ana-{next(_numbers)}"
        browser, elsewhere = Browser(session), Browser(session)
        mine = await signed_in(here, browser, login_hint=name)
        page = await browser.go(authorize_url(here, login_hint=name, **pkce()))
        other = await signed_in(here, elsewhere, login_hint=name)
        bo = await signed_in(here, Browser(session), login_hint="bo")
        (api, _) = await openid_sign_in(issuer, name)
        by_token = here.nobody(authorization=f"Bearer {api['access_token']}")
        away = mine.but(url=there.url)
        for one in (mine, other, bo, by_token, away):
            assert await is_in(one)
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        await openid_sign_out(issuer, cookie, session)
        assert not await is_in(mine)

        async def is_out_there() -> bool:
            return not await is_in(away)

        await until(is_out_there)
        body = {"auth_code": page.query["code"], "code_verifier": "v" * 56}
        late = await here.nobody().post("/auth/v1/token?grant_type=pkce", body)
        assert (late.status, late.json["error_code"]) == (404, "flow_state_not_found")
        still = names == "session"  # theirs are other sessions there
        assert [await is_in(one) for one in (other, by_token)] == [still, still]
        assert await is_in(bo)
        await here.stop()
        await there.stop()


# --- a provider that we play --------------------------------------------------------------------


@pytest.fixture
async def acme() -> AsyncIterator[StandIn]:
    """A provider that names the session in ID tokens."""
    async with stand_in() as provider:
        yield provider


@pytest.fixture
async def other() -> AsyncIterator[StandIn]:
    """Another one."""
    async with stand_in() as provider:
        yield provider


@pytest.fixture
async def node(
    acme: StandIn,
    other: StandIn,
    database: MigratedDatabase,
    session: aiohttp.ClientSession,
    project: str,
) -> AsyncIterator[Node]:
    """A server at which people may sign in with either."""
    names = {"SIGN_IN_PROVIDERS": "acme,other"}
    both = settings_of("acme", acme.url) | settings_of("other", other.url)
    names["PORT"] = str(free_port())
    started = await start_node(database.url, session, project, **names, **both)
    yield started
    await started.stop()


def logout_token(provider: StandIn, **changes: Any) -> str:  # noqa: ANN401 -- claims
    """Return what *provider* says when whoever signs in there signs out."""
    now = int(time.time())
    said = {
        "iss": provider.url,
        "aud": CLIENT_ID,
        "iat": now,
        "exp": now + 120,
        "jti": str(uuid4()),
        "sub": provider.person["sub"],
        "events": {EVENT: {}},
        **changes,
    }
    kept = {name: value for name, value in said.items() if value is not ...}
    return forge.forge(forge.header("ES256", typ="logout+jwt"), kept, algorithm="ES256")


async def tell(node: Node, token: str) -> Answer:
    """Send *token* as a provider does."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    body = urlencode({"logout_token": token}).encode()
    return await node.nobody().call("POST", ROUTE, data=body, headers=headers)


async def test_named_session_ends_and_no_other(
    node: Node, acme: StandIn, session: aiohttp.ClientSession
) -> None:
    """Another device's goes on; one whose ID token named none may be the one that ended."""
    acme.person = person(f"ana{next(_numbers)}")
    clients = []
    for name in ("one", "two", ...):
        acme.changes = {"sid": name, "iat": int(time.time()) - 30}
        clients.append(await signed_in(node, Browser(session)))
    assert (await tell(node, logout_token(acme, sid="one"))).status == 200
    assert [await is_in(one) for one in clients] == [False, True, False]
    assert (await tell(node, logout_token(acme))).status == 200
    assert not await is_in(clients[1])


async def test_only_who_began_there_is_signed_out(
    node: Node, acme: StandIn, other: StandIn, session: aiohttp.ClientSession
) -> None:
    """Not by another provider with the same words, nor by a token that is no good."""
    acme.person = other.person = person(f"ana{next(_numbers)}")
    acme.changes = other.changes = {"sid": "one", "iat": int(time.time()) - 30}
    mine = await signed_in(node, Browser(session))
    theirs = await signed_in(node, Browser(session), provider="other")
    for changes in ({"aud": "x"}, {"nonce": "n"}, {"iss": "x"}, {"events": ...}, {"jti": ...}):
        assert (await tell(node, logout_token(acme, **changes))).status == 400
    assert (await tell(node, logout_token(acme, sub="somebody else", sid="one"))).status == 200
    assert (await tell(node, logout_token(other))).status == 200
    assert [await is_in(one) for one in (mine, theirs)] == [True, False]


async def test_other_ways_to_sign_in_and_what_began_since_go_on(
    node: Node, acme: StandIn, session: aiohttp.ClientSession
) -> None:
    """A password of one's own has nothing to do with it, and a token may come late."""
    name = f"ana{next(_numbers)}"
    acme.person = person(name)
    acme.changes = {"iat": int(time.time()) - 30}
    old = await signed_in(node, Browser(session))
    assert (await old.call("PUT", "/auth/v1/user", json={"password": PASSWORD})).status == 200
    body = {"email": f"{name}@example.com", "password": PASSWORD}
    grant = await node.nobody().post("/auth/v1/token?grant_type=password", body)
    by_password = node.nobody(authorization=f"Bearer {grant.json['access_token']}")
    acme.changes = {"iat": int(time.time()) - 5}
    again = await signed_in(node, Browser(session))
    token = logout_token(acme, iat=int(time.time()) - 15)
    assert (await tell(node, token)).status == 200
    assert [await is_in(one) for one in (old, by_password, again)] == [False, True, True]
    answer = await tell(node, token)
    assert (answer.status, answer.json["code"]) == (400, "logout_token_used")
    assert await is_in(again)
