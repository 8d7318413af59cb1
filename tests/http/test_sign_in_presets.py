"""The certified OpenID provider, GitHub and Apple, each as it is: signing in with them."""

from __future__ import annotations

import json
import time
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chatkeep.config import Settings
from chatkeep.setup_checks.issuers import examine_sign_in_providers
from chatkeep.tokens import KeySet, Rules, public_key, verify
from tests.free_ports import free_port
from tests.identity_providers import INSTALLED, NOT_INSTALLED, openid_provider
from tests.serving import start_node
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

    from chatkeep.setup_checks.findings import Finding
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node
    from tests.sign_in_providers import Page

needs_clients = pytest.mark.skipif(not INSTALLED.exists(), reason=NOT_INSTALLED)
_numbers = count(1)
APPLE_KEY = generate_private_key(SECP256R1())


def new_name() -> str:
    """Return a name that nobody has yet."""
    return f"person{next(_numbers)}-{time.monotonic_ns()}"


async def account(node: Node, page: Page) -> dict[str, Any]:
    """Return the account of whoever signed in to *page*."""
    bearer = node.nobody(authorization=f"Bearer {page.fragment['access_token']}")
    answer = await bearer.get("/auth/v1/user")
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


@pytest.fixture
def browser(session: aiohttp.ClientSession) -> Browser:
    """A browser without cookies."""
    return Browser(session)


# --- the certified provider ---------------------------------------------------------------------


@pytest.fixture(scope="module", params=["RS256", "ES256", "EdDSA"])
async def certified(
    request: pytest.FixtureRequest,
    database: MigratedDatabase,
    session: aiohttp.ClientSession,
    project: str,
) -> AsyncIterator[Node]:
    """A node at which people may sign in with a provider for each algorithm."""
    port = free_port()
    callback = f"http://127.0.0.1:{port}/auth/v1/callback"
    async with openid_provider(request.param, callback) as issuer:
        environ = {
            "SIGN_IN_PROVIDERS": "acme",
            "SIGN_IN_ACME_ISSUER": issuer,
            "SIGN_IN_ACME_CLIENT_ID": CLIENT_ID,
            "SIGN_IN_ACME_CLIENT_SECRET": CLIENT_SECRET,
        }
        environ["PORT"] = str(port)
        node = await start_node(database.url, session, project, **environ)
        yield node
        await node.stop()


@needs_clients
async def test_certified_provider_signs_in(certified: Node, browser: Browser) -> None:
    """Implicit and PKCE, one account."""
    name = new_name()
    page = await browser.go(authorize_url(certified, login_hint=name))
    found = await account(certified, page)
    assert found["email"] == f"{name}@example.com"
    assert found["user_metadata"]["full_name"] == name
    page = await browser.go(authorize_url(certified, login_hint=name, **pkce()))
    body = {"auth_code": page.query["code"], "code_verifier": "v" * 56}
    answer = await certified.nobody().post("/auth/v1/token?grant_type=pkce", body)
    assert answer.json["user"]["id"] == found["id"]
    assert answer.json["provider_token"]


@needs_clients
@pytest.mark.parametrize(
    ("who", "code", "error"),
    [
        ("bob", "provider_email_needs_verification", "access_denied"),
        ("mallory", "bad_oauth_callback", "access_denied"),
    ],
)
async def test_certified_provider_does_not_vouch_or_is_refused(
    certified: Node, browser: Browser, who: str, code: str, error: str
) -> None:
    """Bob's address is not verified; mallory says no."""
    page = await browser.go(authorize_url(certified, login_hint=who))
    assert page.query == page.fragment
    assert (page.query["error_code"], page.query["error"]) == (code, error)


@needs_clients
async def test_carol_without_an_address(certified: Node, browser: Browser) -> None:
    """She has an account, and comes back to it."""
    first = await account(certified, await browser.go(authorize_url(certified, login_hint="carol")))
    again = await account(certified, await browser.go(authorize_url(certified, login_hint="carol")))
    assert first["id"] == again["id"]
    assert first["email"] == ""


@needs_clients
async def test_bob_cannot_have_the_address_of_somebody_who_proved_it(
    certified: Node, session: aiohttp.ClientSession
) -> None:
    """An address that is not verified opens no account, whoever types it at the provider."""
    name = new_name()
    page = await Browser(session).go(authorize_url(certified, login_hint=name))
    victim = await account(certified, page)
    page = await Browser(session).go(authorize_url(certified, login_hint=f"bob={victim['email']}"))
    assert page.query["error_code"] == "provider_email_needs_verification"


@needs_clients
async def test_code_of_the_certified_provider_works_once(
    certified: Node, session: aiohttp.ClientSession
) -> None:
    """Taken out of one flow and put into another, it opens nothing."""
    stop = f"{certified.url}/auth/v1/callback"
    mine, theirs = Browser(session), Browser(session)
    stolen = await theirs.go(authorize_url(certified, login_hint=new_name()), stop_at=stop)
    page = await mine.go(authorize_url(certified, login_hint=new_name()), stop_at=stop)
    url = page.url.replace(page.query["code"], stolen.query["code"])
    after = await mine.go(url)
    assert after.query["error_code"] == "bad_oauth_callback"
    assert "access_token" in (await theirs.go(stolen.url)).fragment
    page = await mine.go(authorize_url(certified, login_hint=new_name()), stop_at=stop)
    after = await mine.go(page.url.replace(page.query["code"], stolen.query["code"]))
    assert after.query["error_code"] == "bad_oauth_callback"


# --- GitHub -------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str, **environ: str
) -> AsyncIterator[Node]:
    """Run a node for one test."""
    environ["PORT"] = str(free_port())
    node = await start_node(database.url, session, project, **environ)
    yield node
    await node.stop()


@pytest.fixture
async def github(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[tuple[StandIn, Node]]:
    """A stand-in for a GitHub Enterprise Server, and a node that knows it."""
    async with stand_in() as provider:
        environ = {
            "SIGN_IN_GITHUB_ISSUER": provider.url,
            "SIGN_IN_GITHUB_CLIENT_ID": CLIENT_ID,
            "SIGN_IN_GITHUB_CLIENT_SECRET": CLIENT_SECRET,
        }
        async with serving(database, session, project, **environ) as node:
            yield provider, node


async def test_github_person_is_a_number(github: tuple[StandIn, Node], browser: Browser) -> None:
    """With the primary address, if that is verified; a name that changed changes nothing."""
    provider, node = github
    provider.person = {
        "id": 583231,
        "login": "octocat",
        "name": None,
        "avatar_url": "https://avatars.example/1",
        "email": "public@elsewhere.example",
    }
    address = f"{new_name()}@example.com"
    provider.addresses = [
        {"email": "old@example.com", "primary": False, "verified": True},
        {"email": address, "primary": True, "verified": True},
    ]
    found = await account(node, await browser.go(authorize_url(node, "github")))
    assert found["email"] == address
    (identity,) = found["identities"]
    assert (identity["provider"], identity["id"]) == ("github", "583231")
    assert identity["identity_data"]["user_name"] == "octocat"
    assert identity["identity_data"]["full_name"] == "octocat"
    assert provider.asked[-1]["scope"] == "read:user user:email"
    assert provider.asked[-1]["code_challenge_method"] == "S256"
    provider.person["login"] = "renamed"
    again = await account(node, await browser.go(authorize_url(node, "github")))
    assert again["id"] == found["id"]
    provider.person = {"id": 583232, "login": "octocat"}
    provider.addresses = [{"email": f"{new_name()}@example.com", "primary": True, "verified": True}]
    other = await account(node, await browser.go(authorize_url(node, "github")))
    assert other["id"] != found["id"]


async def test_github_address_must_be_the_verified_primary_one(
    github: tuple[StandIn, Node], browser: Browser
) -> None:
    """Another verified one is not taken instead, and the public one counts for nothing."""
    provider, node = github
    provider.person = {"id": 7, "login": "x", "email": "victim@example.com"}
    provider.addresses = [
        {"email": "other@example.com", "primary": False, "verified": True},
        {"email": "victim@example.com", "primary": True, "verified": False},
    ]
    page = await browser.go(authorize_url(node, "github"))
    assert page.query["error_code"] == "provider_email_needs_verification"
    provider.addresses = []
    found = await account(node, await browser.go(authorize_url(node, "github")))
    assert found["email"] == ""


@pytest.mark.parametrize(
    ("about", "addresses"),
    [
        ({}, []),
        ({"id": "7", "login": "x"}, []),
        ({"id": 0, "login": "x"}, []),
        ({"id": 7, "login": "x"}, [{"email": "a@example.com"}]),
    ],
)
async def test_github_that_says_nothing_usable_signs_nobody_in(
    github: tuple[StandIn, Node],
    browser: Browser,
    about: dict[str, Any],
    addresses: list[dict[str, Any]],
) -> None:
    """No number, or addresses that say nothing of themselves."""
    provider, node = github
    provider.person, provider.addresses = about, addresses
    page = await browser.go(authorize_url(node, "github"))
    assert page.query["error_code"] == "bad_oauth_callback"


async def test_github_signs_no_id_tokens(github: tuple[StandIn, Node]) -> None:
    """So none is taken for it."""
    provider, node = github
    provider.person = person("7")
    body = {"provider": "github", "id_token": provider.id_token()}
    answer = await node.nobody().post("/auth/v1/token?grant_type=id_token", body)
    assert (answer.status, answer.json["error"]) == (400, "invalid request")


# --- Apple --------------------------------------------------------------------------------------


@pytest.fixture
async def apple(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[tuple[StandIn, Node]]:
    """A stand-in for Apple, and a node that knows it."""
    pem = APPLE_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    async with stand_in() as provider:
        environ = {
            "SIGN_IN_APPLE_ISSUER": provider.url,
            "SIGN_IN_APPLE_CLIENT_ID": CLIENT_ID,
            "SIGN_IN_APPLE_TEAM_ID": "TEAM123456",
            "SIGN_IN_APPLE_KEY_ID": "KEY1234567",
            "SIGN_IN_APPLE_PRIVATE_KEY": pem,
        }
        async with serving(database, session, project, **environ) as node:
            yield provider, node


async def test_apple_answers_with_a_form_and_says_the_name_once(
    apple: tuple[StandIn, Node], browser: Browser
) -> None:
    """The form of another site carries no cookie; the page behind it does."""
    provider, node = apple
    provider.person = person(new_name(), email_verified="true", name=...)
    provider.form_post_user = json.dumps(
        {
            "name": {"firstName": "Ada", "lastName": "Lovelace"},
            "email": "victim@example.com",
        }
    )
    page = await browser.go(authorize_url(node, "apple"))
    found = await account(node, page)
    assert found["email"] == provider.person["email"]  # and not what came beside the token
    assert found["user_metadata"]["full_name"] == "Ada Lovelace"
    assert provider.asked[-1]["response_mode"] == "form_post"
    provider.form_post_user = None
    again = await account(node, await browser.go(authorize_url(node, "apple")))
    (identity,) = again["identities"]
    assert identity["identity_data"]["full_name"] == "Ada Lovelace"
    provider.changes = {"email_verified": "false"}
    provider.person = person(new_name(), name=...)
    page = await browser.go(authorize_url(node, "apple"))
    assert page.query["error_code"] == "provider_email_needs_verification"


async def test_apple_gets_a_secret_that_we_sign(
    apple: tuple[StandIn, Node], browser: Browser
) -> None:
    """For its own audience, for five minutes, with the team's key."""
    provider, node = apple
    provider.person = person(new_name())
    await browser.go(authorize_url(node, "apple"))
    key = public_key(APPLE_KEY.public_key(), algorithm="ES256", kid="KEY1234567")
    rules = Rules(
        iss="TEAM123456",
        audiences=frozenset({provider.url}),
        algorithms=frozenset({"ES256"}),
        max_lifetime_s=300,
    )
    secret = provider.forms[-1]["client_secret"]
    said = verify(secret, keys=KeySet([key]), rules=rules, now=time.time())
    assert said["sub"] == CLIENT_ID


@pytest.mark.parametrize(
    ("media_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("application/x-www-form-urlencoded", b"\xff", 400),
        ("application/x-www-form-urlencoded", b"&".join([b"a=1"] * 30), 400),
        ("application/x-www-form-urlencoded", b"state=" + b"x" * 70_000, 400),
        ("application/x-www-form-urlencoded", b"state=%0d%0aset-cookie:x&next=evil", 303),
    ],
)
async def test_form_that_is_none_is_refused(
    apple: tuple[StandIn, Node], media_type: str, body: bytes, status: int
) -> None:
    """And what a good one holds cannot lead anywhere else."""
    _, node = apple
    answer = await node.nobody().call(
        "POST", "/auth/v1/callback", data=body, headers={"content-type": media_type}
    )
    assert answer.status == status
    if status == 303:
        location = answer.headers["location"]
        assert location == f"{node.url}/auth/v1/callback?state=%0D%0Aset-cookie%3Ax"


# --- what the operator is told ------------------------------------------------------------------


async def findings(environ: dict[str, str]) -> list[Finding]:
    """Return what `chatkeep issuers check` finds about the providers to sign in with."""
    return [one async for one in examine_sign_in_providers(Settings.from_env(environ))]


async def test_providers_are_looked_at_by_the_check() -> None:
    """Discovery, endpoints and keys; and where somebody is not there, which setting to check."""
    async with stand_in() as provider:
        environ = {
            "SIGN_IN_PROVIDERS": "acme",
            "SIGN_IN_ACME_ISSUER": provider.url,
            "SIGN_IN_ACME_CLIENT_ID": CLIENT_ID,
            "SIGN_IN_ACME_CLIENT_SECRET": CLIENT_SECRET,
        }
        (good,) = await findings(environ)
        assert good.is_good
        assert good.note == (
            "sign-in, 3 keys (ES256, EdDSA, RS256), comes back to"
            " http://127.0.0.1:8000/auth/v1/callback"
        )
        provider.said = {"authorization_endpoint": "https://elsewhere.example/authorize"}
        (bad,) = await findings(environ)
        assert "authorization_endpoint" in bad.problems[0]
        assert "SIGN_IN_ACME_HOSTS" in bad.problems[0]
        (away,) = await findings({**environ, "SIGN_IN_ACME_ISSUER": "http://127.0.0.1:1"})
        assert "SIGN_IN_ACME_ISSUER" in away.problems[0]
        github = {
            "SIGN_IN_GITHUB_ISSUER": provider.url,
            "SIGN_IN_GITHUB_CLIENT_ID": CLIENT_ID,
            "SIGN_IN_GITHUB_CLIENT_SECRET": CLIENT_SECRET,
        }
        (one,) = await findings(github)
        assert one.is_good
