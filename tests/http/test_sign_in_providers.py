"""Signing in with a provider that says what a test wants: what holds, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from chatkeep.db import AUTH
from tests.free_ports import free_port
from tests.http.mailbox import mails_to
from tests.serving import start_node
from tests.sign_in_providers import (
    APP,
    CLIENT_ID,
    CLIENT_SECRET,
    Browser,
    StandIn,
    at_hash,
    authorize_url,
    payload_of,
    person,
    pkce,
    stand_in,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node
    from tests.sign_in_providers import Page

PASSWORD = "Correct-Horse-42-battery"
_people = count(1)


def new_name() -> str:
    """Return a name that nobody has yet."""
    return f"person{next(_people)}-{time.monotonic_ns()}"


def settings_of(*providers: tuple[str, StandIn]) -> dict[str, Any]:
    """Return the settings that name *providers*, at which people sign in to our own issuer.

    Its people have bare ids at each node of a module: the first that starts decides for all.
    """
    environ = {
        "PRIMARY_ISSUER": "embedded",
        "SIGN_IN_PROVIDERS": ",".join(name for name, _ in providers),
    }
    for name, one in providers:
        environ[f"SIGN_IN_{name.upper()}_ISSUER"] = one.url
        environ[f"SIGN_IN_{name.upper()}_CLIENT_ID"] = f"{CLIENT_ID},chat-mobile"
        environ[f"SIGN_IN_{name.upper()}_CLIENT_SECRET"] = CLIENT_SECRET
    return environ


@pytest.fixture(scope="module")
async def providers() -> AsyncIterator[tuple[StandIn, StandIn]]:
    """Two providers, acme and other."""
    async with stand_in() as one, stand_in() as other:
        yield one, other


@pytest.fixture
def acme(providers: tuple[StandIn, StandIn]) -> StandIn:
    """The first of them."""
    return providers[0]


@pytest.fixture
def other(providers: tuple[StandIn, StandIn]) -> StandIn:
    """The second."""
    return providers[1]


@pytest.fixture(autouse=True)
def _honest(providers: tuple[StandIn, StandIn]) -> None:
    """Both are honest again before each test, and somebody new is at each."""
    for one in providers:
        _renew(one)


def _renew(provider: StandIn) -> None:
    provider.person, provider.algorithm = person(new_name()), "ES256"
    provider.changes, provider.head, provider.back, provider.said = {}, {}, {}, {}
    provider.reply = None


@pytest.fixture(scope="module")
async def node(
    providers: tuple[StandIn, StandIn],
    database: MigratedDatabase,
    session: aiohttp.ClientSession,
    project: str,
) -> AsyncIterator[Node]:
    """A node at which people may sign in with either."""
    one, other = providers
    environ = settings_of(("acme", one), ("other", other))
    started = await start_node(database.url, session, project, PORT=str(free_port()), **environ)
    yield started
    await started.stop()


@pytest.fixture
def browser(session: aiohttp.ClientSession) -> Browser:
    """A browser without cookies."""
    return Browser(session)


def bearer(node: Node, page: Page) -> Client:
    """Return whoever signed in to *page*."""
    return node.nobody(authorization=f"Bearer {page.fragment['access_token']}")


async def account(node: Node, page: Page) -> dict[str, Any]:
    """Return the account of whoever signed in to *page*."""
    answer = await bearer(node, page).get("/auth/v1/user")
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


async def sign_up(node: Node, email: str) -> Answer:
    """Make an account with a password, of which nobody proves the address."""
    answer = await node.nobody().post("/auth/v1/signup", {"email": email, "password": PASSWORD})
    assert answer.status == 200, answer.text
    return answer


async def proven(node: Node, email: str) -> None:
    """Let the account with *email* have proved it, as a link in a mail does."""
    await node.services.db.execute(
        AUTH,
        "update chatkeep.identities set identity_data ="
        " identity_data || jsonb_build_object('email_verified', true)"
        " where identity_data ->> 'email' = %s",
        (email,),
    )


# --- the flow -----------------------------------------------------------------------------------


async def test_implicit_flow_ends_with_tokens_in_the_fragment(
    node: Node, acme: StandIn, browser: Browser
) -> None:
    """An account with the address, the provider in its identities and in the token."""
    page = await browser.go(authorize_url(node))
    assert not page.query
    said = page.fragment
    assert said["token_type"] == "bearer"
    assert said["provider_token"] == "their-access-token"
    assert said["provider_refresh_token"] == "their-refresh-token"
    found = await account(node, page)
    assert found["email"] == acme.person["email"]
    assert found["app_metadata"] == {"provider": "acme", "providers": ["acme"]}
    assert found["user_metadata"]["full_name"] == acme.person["name"]
    (identity,) = found["identities"]
    assert (identity["provider"], identity["id"]) == ("acme", acme.person["sub"])
    assert identity["identity_data"]["email_verified"] is True
    (method,) = payload_of(said["access_token"])["amr"]
    assert (method["method"], method["provider"]) == ("oauth", "acme")


async def test_pkce_flow_ends_with_a_code_that_only_its_verifier_opens(
    node: Node, acme: StandIn, browser: Browser
) -> None:
    """Nothing in the fragment; the provider's tokens come with ours; a second try is refused."""
    page = await browser.go(authorize_url(node, **pkce()))
    assert not page.fragment
    assert list(page.query) == ["code"]
    body = {"auth_code": page.query["code"], "code_verifier": "v" * 56}
    answer = await node.nobody().post("/auth/v1/token?grant_type=pkce", body)
    assert answer.status == 200, answer.text
    assert answer.json["provider_token"] == "their-access-token"
    assert answer.json["user"]["email"] == acme.person["email"]
    (method,) = payload_of(answer.json["access_token"])["amr"]
    assert (method["method"], method["provider"]) == ("oauth", "acme")
    again = await node.nobody().post("/auth/v1/token?grant_type=pkce", body)
    assert again.status == 404


async def test_provider_is_asked_with_our_own_pkce_state_and_nonce(
    node: Node, acme: StandIn, browser: Browser
) -> None:
    """Always S256, whatever the application does, which can choose none of it."""
    mine = {"state": "mine", "nonce": "mine", "client_id": "mine", "redirect_uri": "http://e/"}
    await browser.go(
        authorize_url(node, scopes="calendar email", login_hint="ana", prompt="login", **mine)
    )
    asked = acme.asked[-1]
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == f"{node.url}/auth/v1/callback"
    assert asked["scope"] == "openid email profile calendar"
    assert (asked["login_hint"], asked["prompt"]) == ("ana", "login")
    assert asked["client_id"] == CLIENT_ID
    assert "mine" not in asked.values()
    form = acme.forms[-1]
    assert form["client_secret"] == CLIENT_SECRET
    assert form["code_verifier"]


async def test_same_person_comes_back_to_the_same_account(
    node: Node, acme: StandIn, browser: Browser
) -> None:
    """Whatever their address is by then: an identity is an issuer and a subject."""
    first = await account(node, await browser.go(authorize_url(node)))
    acme.person |= {"email": f"moved-{new_name()}@example.com"}
    second = await account(node, await browser.go(authorize_url(node)))
    assert second["id"] == first["id"]
    assert second["email"] == first["email"]
    (identity,) = second["identities"]
    assert identity["identity_data"]["email"] == acme.person["email"]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_every_algorithm_of_a_provider(
    node: Node, acme: StandIn, browser: Browser, algorithm: str
) -> None:
    """With the hash of the access token that belongs to it."""
    acme.algorithm = algorithm
    name = "sha512" if algorithm == "EdDSA" else "sha256"
    acme.changes = {"at_hash": at_hash("their-access-token", name)}
    assert "access_token" in (await browser.go(authorize_url(node))).fragment


async def test_custom_name_of_a_provider_is_understood(node: Node, browser: Browser) -> None:
    """As Supabase's clients write a provider that they do not know."""
    page = await browser.go(authorize_url(node, "custom:acme"))
    assert "access_token" in page.fragment


async def test_settings_say_which_providers_there_are(node: Node) -> None:
    """Each with its name, and no other."""
    external = (await node.nobody().get("/auth/v1/settings")).json["external"]
    assert external["acme"] is external["other"] is external["email"] is True
    assert external["google"] is external["github"] is False


async def test_unknown_provider_is_refused(node: Node) -> None:
    """Before any redirect."""
    answer = await node.nobody().get("/auth/v1/authorize?provider=google")
    assert (answer.status, answer.json["error_code"]) == (400, "validation_failed")


# --- login CSRF, replay, mix-up -----------------------------------------------------------------


def refused(page: Page, code: str, error: str | None = None) -> None:
    """See that *page* tells *code* in query and fragment, and gives nothing."""
    assert page.query["error_code"] == page.fragment["error_code"] == code
    assert page.query["error"] == page.fragment["error"]
    assert page.query["error_description"] == page.fragment["error_description"]
    if error is not None:
        assert page.query["error"] == error
    assert "access_token" not in page.fragment
    assert "code" not in page.query


async def come_back(node: Node, browser: Browser, url: str) -> Page:
    """Open *url*, a way back from a provider, and see where it ends."""
    return await browser.go(url, stop_at=f"{node.url}/?")


async def test_way_back_of_another_browser_signs_nobody_in(
    node: Node, acme: StandIn, browser: Browser, session: aiohttp.ClientSession
) -> None:
    """An attacker cannot make somebody use the attacker's account (login CSRF)."""
    page = await browser.go(authorize_url(node), stop_at=f"{node.url}/auth/v1/callback")
    for victim in (Browser(session), await _with_a_cookie(node, session)):
        refused(await come_back(node, victim, page.url), "bad_oauth_state")
    assert not acme.forms or acme.forms[-1].get("code") != page.query["code"]
    assert "access_token" in (await browser.go(page.url)).fragment  # and it was not used up


async def _with_a_cookie(node: Node, session: aiohttp.ClientSession) -> Browser:
    """Return a browser that has a flow of its own under way."""
    found = Browser(session)
    await found.go(authorize_url(node), stop_at=f"{node.url}/auth/v1/callback")
    return found


async def test_state_works_once(node: Node, browser: Browser) -> None:
    """Even in the right browser, and the code is not shown to the provider again."""
    page = await browser.go(authorize_url(node), stop_at=f"{node.url}/auth/v1/callback")
    assert "access_token" in (await browser.go(page.url)).fragment
    refused(await come_back(node, browser, page.url), "flow_state_already_used")


@pytest.mark.parametrize("state", ["", "x", "%00", "a" * 43, "a" * 5000])
async def test_state_that_nobody_gave_is_refused(node: Node, browser: Browser, state: str) -> None:
    """With or without a cookie."""
    url = f"{node.url}/auth/v1/callback?code=x&state={state}"
    refused(await come_back(node, browser, url), "bad_oauth_state")
    await browser.go(authorize_url(node), stop_at=f"{node.url}/auth/v1/callback")
    refused(await come_back(node, browser, url), "bad_oauth_state")


async def test_flow_ends_after_ten_minutes(node: Node, browser: Browser) -> None:
    """By the database's clock."""
    page = await browser.go(authorize_url(node), stop_at=f"{node.url}/auth/v1/callback")
    await node.services.db.execute(
        AUTH, "update chatkeep.sign_in_flows set expires_at = now() where used_at is null", ()
    )
    refused(await come_back(node, browser, page.url), "bad_oauth_state")


async def test_two_tabs_of_one_browser_sign_in(node: Node, browser: Browser) -> None:
    """The cookie says which browser, not which flow."""
    stop = f"{node.url}/auth/v1/callback"
    one = await browser.go(authorize_url(node), stop_at=stop)
    two = await browser.go(authorize_url(node), stop_at=stop)
    assert "access_token" in (await browser.go(one.url)).fragment
    assert "access_token" in (await browser.go(two.url)).fragment


async def test_cookie_is_out_of_scripts_reach_and_short_lived(node: Node) -> None:
    """HttpOnly, Lax, ten minutes; and no address with a state is kept or handed on."""
    answer = await node.nobody().get("/auth/v1/authorize?provider=acme")
    line = answer.headers["set-cookie"]
    assert all(one in line for one in ("HttpOnly", "SameSite=Lax", "Max-Age=600", "Path=/"))
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_answer_of_another_provider_is_not_sent_on(
    node: Node, acme: StandIn, browser: Browser
) -> None:
    """RFC 9207: who names another issuer, or none though they said they would, is another."""
    acme.back = {"iss": "https://attacker.example"}
    forms = len(acme.forms)
    refused(await browser.go(authorize_url(node)), "bad_oauth_callback")
    assert len(acme.forms) == forms
    acme.back = {"iss": acme.url}
    assert "access_token" in (await browser.go(authorize_url(node))).fragment


async def test_provider_that_names_itself_has_to(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str, browser: Browser
) -> None:
    """Where discovery says that it does."""
    async with stand_in() as provider:
        provider.person = person(new_name())
        provider.said = {"authorization_response_iss_parameter_supported": True}
        environ = settings_of(("acme", provider))
        node = await start_node(database.url, session, project, PORT=str(free_port()), **environ)
        try:
            refused(await browser.go(authorize_url(node)), "bad_oauth_callback")
            provider.back = {"iss": provider.url}
            assert "access_token" in (await browser.go(authorize_url(node))).fragment
        finally:
            await node.stop()


async def test_code_of_another_flow_is_refused_by_the_provider(
    node: Node, acme: StandIn, browser: Browser, session: aiohttp.ClientSession
) -> None:
    """An attacker's code in the victim's flow: our verifier does not open it."""
    stop = f"{node.url}/auth/v1/callback"
    stolen = (await Browser(session).go(authorize_url(node), stop_at=stop)).query["code"]
    page = await browser.go(authorize_url(node), stop_at=stop)
    url = page.url.replace(page.query["code"], stolen)
    refused(await browser.go(url), "bad_oauth_callback")


async def test_person_who_says_no_is_told_so(node: Node, acme: StandIn, browser: Browser) -> None:
    """And what the provider writes beside it is not shown."""
    acme.back = {"error": "access_denied", "error_description": "<b>call 555</b>", "code": ...}
    page = await browser.go(authorize_url(node))
    refused(page, "bad_oauth_callback", "access_denied")
    assert "555" not in page.url


@pytest.mark.parametrize("back", [{"code": ...}, {"code": ""}], ids=["no code", "an empty code"])
async def test_way_back_without_a_code_is_refused(
    node: Node, acme: StandIn, browser: Browser, back: dict[str, Any]
) -> None:
    """The provider is not asked."""
    acme.back = back
    refused(await browser.go(authorize_url(node)), "bad_oauth_callback", "invalid_request")


async def test_redirect_that_is_not_allowed_leads_home(node: Node, browser: Browser) -> None:
    """No token goes to an address that nobody named."""
    url = authorize_url(node).replace("127.0.0.1%3A9%2Fafter", "attacker.example%2Fafter")
    assert "attacker.example" in url
    page = await browser.go(url, stop_at=f"{node.url}/#")
    assert "access_token" in page.fragment


# --- the ID token of the code flow --------------------------------------------------------------

BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "another nonce": {"nonce": "another"},
    "no nonce": {"nonce": ...},
    "another audience": {"aud": "somebody-else"},
    "a mobile app's": {"aud": "chat-mobile"},
    "several audiences and no party": {"aud": [CLIENT_ID, "somebody-else"]},
    "another party": {"azp": "somebody-else"},
    "another issuer": {"iss": "https://attacker.example"},
    "expired": {"exp": 1_600_000_000, "iat": 1_599_999_000},
    "not yet": {"iat": 4_000_000_000, "exp": 4_000_000_600},
    "no expiry": {"exp": ...},
    "no time of issue": {"iat": ...},
    "no subject": {"sub": ...},
    "another access token's hash": {"at_hash": at_hash("another")},
}


@pytest.mark.parametrize("changes", BAD_CLAIMS.values(), ids=BAD_CLAIMS.keys())
async def test_id_token_that_does_not_hold_signs_nobody_in(
    node: Node, acme: StandIn, browser: Browser, changes: dict[str, Any]
) -> None:
    """Each for its own reason, and nobody is told which."""
    acme.changes = changes
    page = await browser.go(authorize_url(node))
    refused(page, "bad_oauth_callback", "invalid_request")
    assert page.query["error_description"] == "The provider's answer could not be verified"


@pytest.mark.parametrize(
    ("algorithm", "head"),
    [
        ("HS256", {}),
        ("ES256", {"alg": "none"}),
        ("ES256", {"alg": "HS256"}),
        ("ES256", {"typ": "at+jwt"}),
        ("ES256", {"typ": "logout+jwt"}),
    ],
)
async def test_id_token_signed_otherwise_is_refused(
    node: Node, acme: StandIn, browser: Browser, algorithm: str, head: dict[str, Any]
) -> None:
    """No published key is a secret, nothing is unsigned, and no other kind of token will do."""
    acme.algorithm, acme.head = algorithm, head
    refused(await browser.go(authorize_url(node)), "bad_oauth_callback")


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"error": "invalid_grant"},
        {"access_token": "x", "token_type": "bearer"},
        {"access_token": "x", "token_type": "mac", "id_token": "x"},
        {"access_token": "", "token_type": "bearer", "id_token": "x"},
        {"access_token": "a b\r\nc", "token_type": "bearer", "id_token": "x"},
        {"access_token": ["x"], "token_type": "bearer", "id_token": "x"},
    ],
)
async def test_token_answer_that_is_none_signs_nobody_in(
    node: Node, acme: StandIn, browser: Browser, reply: dict[str, Any]
) -> None:
    """Whatever its status."""
    acme.reply = reply
    refused(await browser.go(authorize_url(node)), "bad_oauth_callback")


async def test_claims_of_the_userinfo_endpoint_complete_the_token(
    node: Node, acme: StandIn, browser: Browser
) -> None:
    """For providers that keep the ID token short, and only about the same person."""
    acme.changes = {"email": ..., "email_verified": ..., "name": ...}
    found = await account(node, await browser.go(authorize_url(node)))
    assert found["email"] == acme.person["email"]
    acme.changes |= {"sub": "somebody-else"}
    refused(await browser.go(authorize_url(node)), "bad_oauth_callback")


# --- whose account ------------------------------------------------------------------------------


async def test_unverified_address_makes_no_account(
    node: Node, acme: StandIn, browser: Browser
) -> None:
    """Nor one without it, nor is anybody's opened with it."""
    email = acme.person["email"]
    await sign_up(node, email)
    await proven(node, email)
    for verified in (False, ..., None, "true", 1):
        acme.changes = {"email_verified": verified}
        refused(
            await browser.go(authorize_url(node)),
            "provider_email_needs_verification",
            "access_denied",
        )


async def test_person_without_an_address_gets_an_account_without_one(
    node: Node, acme: StandIn, browser: Browser
) -> None:
    """Two of them are two accounts, though neither address differs."""
    acme.person = {"sub": new_name(), "name": "Carol"}
    first = await account(node, await browser.go(authorize_url(node)))
    assert first["email"] == ""
    assert "email_confirmed_at" not in first
    acme.person = {"sub": new_name(), "name": "Carol"}
    second = await account(node, await browser.go(authorize_url(node)))
    assert second["id"] != first["id"]


async def test_verified_address_links_to_the_account_that_proved_it(
    node: Node, acme: StandIn, browser: Browser
) -> None:
    """Then there are two identities, and either opens it."""
    email = acme.person["email"]
    mine = (await sign_up(node, email)).json["user"]["id"]
    await proven(node, email)
    found = await account(node, await browser.go(authorize_url(node)))
    assert found["id"] == mine
    assert [one["provider"] for one in found["identities"]] == ["email", "acme"]
    assert found["app_metadata"] == {"provider": "email", "providers": ["email", "acme"]}


async def test_account_that_only_typed_the_address_is_not_linked(
    node: Node, acme: StandIn, browser: Browser
) -> None:
    """Pre-account hijacking: somebody signed up with the victim's address and waits in there."""
    email = acme.person["email"]
    attacker = await sign_up(node, email)
    refused(await browser.go(authorize_url(node)), "email_exists", "access_denied")
    still = await node.nobody(authorization=f"Bearer {attacker.json['access_token']}").get(
        "/auth/v1/user"
    )
    assert [one["provider"] for one in still.json["identities"]] == ["email"]


async def test_account_that_nobody_ever_used_is_the_proven_persons(
    node: Node, acme: StandIn, browser: Browser
) -> None:
    """What somebody left in it is gone: password, metadata; what an operator wrote stays."""
    email = acme.person["email"]
    mine = (await sign_up(node, email)).json["user"]["id"]
    await node.services.db.execute(
        AUTH,
        "update chatkeep.users set email_confirmed_at = null, last_sign_in_at = null,"
        " user_metadata = '{\"trap\": 1}', app_metadata = app_metadata || '{\"team\": 7}'"
        " where id = %s",
        (mine,),
    )
    await node.services.db.execute(
        AUTH, "delete from public.user_sessions where user_id = %s", (mine,)
    )
    found = await account(node, await browser.go(authorize_url(node)))
    assert found["id"] == mine
    assert "trap" not in found["user_metadata"]
    assert found["app_metadata"] == {"provider": "acme", "providers": ["acme"], "team": 7}
    assert [one["provider"] for one in found["identities"]] == ["acme"]
    body = {"email": email, "password": PASSWORD}
    answer = await node.nobody().post("/auth/v1/token?grant_type=password", body)
    assert answer.status == 400


async def test_same_address_at_two_providers_is_one_person_only_when_both_verified_it(
    node: Node, acme: StandIn, other: StandIn, browser: Browser
) -> None:
    """The same subject at two issuers is two people."""
    first = await account(node, await browser.go(authorize_url(node)))
    other.person = {**acme.person, "sub": acme.person["sub"]}
    other.changes = {"email_verified": False}
    refused(await browser.go(authorize_url(node, "other")), "provider_email_needs_verification")
    other.changes = {"email": f"{new_name()}@example.com"}
    stranger = await account(node, await browser.go(authorize_url(node, "other")))
    assert stranger["id"] != first["id"]
    other.changes = {"sub": new_name()}
    linked = await account(node, await browser.go(authorize_url(node, "other")))
    assert linked["id"] == first["id"]


async def test_address_that_has_moved_on_links_nothing(
    node: Node, acme: StandIn, other: StandIn, browser: Browser
) -> None:
    """Whoever left it at the provider has not proved it any more; its next owner gets nothing."""
    email = acme.person["email"]
    await browser.go(authorize_url(node))
    acme.person |= {"email": f"{new_name()}@example.com"}
    await browser.go(authorize_url(node))
    other.person = person(new_name(), email=email)
    refused(await browser.go(authorize_url(node, "other")), "email_exists")


async def test_account_that_was_deleted_is_inherited_by_nobody(
    node: Node, acme: StandIn, browser: Browser
) -> None:
    """The same identity, come back, is somebody new."""
    first = await account(node, await browser.go(authorize_url(node)))
    await node.services.db.execute(AUTH, "delete from chatkeep.users where id = %s", (first["id"],))
    second = await account(node, await browser.go(authorize_url(node)))
    assert second["id"] != first["id"]


async def test_provider_with_the_same_name_and_another_issuer_is_another(
    node: Node, acme: StandIn, browser: Browser, start: StartNode
) -> None:
    """An operator who points the name elsewhere opens no account to it."""
    first = await account(node, await browser.go(authorize_url(node)))
    async with stand_in() as elsewhere:
        elsewhere.person = {"sub": acme.person["sub"]}
        moved = await start(PORT=str(free_port()), **settings_of(("acme", elsewhere)))
        page = await browser.go(authorize_url(moved))
        second = await bearer(moved, page).get("/auth/v1/user")
        assert second.status == 200
        assert second.json["id"] != first["id"]


async def test_suspended_person_is_refused_in_either_flow(
    node: Node, acme: StandIn, browser: Browser
) -> None:
    """With the reason, because they have proved who they are."""
    found = await account(node, await browser.go(authorize_url(node)))
    await node.services.db.execute(
        AUTH, "update chatkeep.users set banned_until = 'infinity' where id = %s", (found["id"],)
    )
    for more in ({}, pkce()):
        page = await browser.go(authorize_url(node, **more))
        refused(page, "user_banned")


async def test_closed_sign_up_lets_in_who_has_an_account(
    node: Node, acme: StandIn, browser: Browser, start: StartNode, session: aiohttp.ClientSession
) -> None:
    """And makes none, with an address or without."""
    await browser.go(authorize_url(node))
    closed = await start(
        PORT=str(free_port()),
        SIGN_UP="off",
        **settings_of(("acme", acme)),
    )
    page = await Browser(session).go(authorize_url(closed))
    assert "access_token" in page.fragment
    for one in (person(new_name()), {"sub": new_name()}):
        acme.person = one
        refused(
            await Browser(session).go(authorize_url(closed)), "signup_disabled", "access_denied"
        )


async def test_twenty_first_sign_ins_at_once_make_one_account(
    node: Node, acme: StandIn, session: aiohttp.ClientSession
) -> None:
    """Whoever comes second is found."""
    browsers = [Browser(session) for _ in range(20)]
    pages = await asyncio.gather(*(one.go(authorize_url(node)) for one in browsers))
    found = {(await account(node, page))["id"] for page in pages}
    assert len(found) == 1


# --- ID tokens that applications were given -----------------------------------------------------


async def show(node: Node, **body: object) -> Answer:
    """Show an ID token, as signInWithIdToken does."""
    return await node.nobody().post("/auth/v1/token?grant_type=id_token", body)


async def test_id_token_signs_in_once(node: Node, acme: StandIn) -> None:
    """Of the web client and of a mobile app; the second time it is refused."""
    token = acme.id_token()
    answer = await show(node, provider="acme", id_token=token)
    assert answer.status == 200, answer.text
    assert answer.json["user"]["email"] == acme.person["email"]
    again = await show(node, provider="acme", id_token=token)
    assert (again.status, again.json) == (
        400,
        {
            "error": "invalid request",
            "error_description": "This ID token has been used already",
        },
    )
    mobile = await show(node, issuer=acme.url, id_token=acme.id_token(aud="chat-mobile"))
    assert mobile.status == 200, mobile.text


async def test_nonce_is_shown_as_the_hash_of_what_the_application_knows(
    node: Node, acme: StandIn
) -> None:
    """In hexadecimal; on both sides, or on neither."""
    hashed = hashlib.sha256(b"mine").hexdigest()
    good = await show(node, provider="acme", id_token=acme.id_token(hashed), nonce="mine")
    assert good.status == 200, good.text
    for nonce, said, error in (
        (hashed, None, "invalid request"),
        (None, "mine", "invalid request"),
        (hashed, "other", "invalid nonce"),
        ("mine", "mine", "invalid nonce"),
        (hashed.upper(), "mine", "invalid nonce"),
    ):
        answer = await show(node, provider="acme", id_token=acme.id_token(nonce), nonce=said)
        assert (answer.status, answer.json["error"]) == (400, error)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "somebody-else"},
        {"aud": [CLIENT_ID, "somebody-else"]},
        {"azp": "somebody-else"},
        {"iss": "https://attacker.example"},
        {"exp": 1_600_000_000, "iat": 1_599_999_000},
        {"exp": ...},
        {"sub": ...},
        {"sub": ""},
        {"cnf": {"jkt": "x"}},
    ],
)
async def test_id_token_that_is_not_for_us_is_refused(
    node: Node, acme: StandIn, changes: dict[str, Any]
) -> None:
    """In the words of OAuth, and the same for all."""
    answer = await show(node, provider="acme", id_token=acme.id_token(**changes))
    assert (answer.status, answer.json) == (
        400,
        {"error": "invalid request", "error_description": "Bad ID token"},
    )


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "x" * 9000, ".."])
async def test_text_that_is_no_id_token_is_refused(node: Node, token: str) -> None:
    """As OAuth words it."""
    answer = await show(node, provider="acme", id_token=token)
    assert (answer.status, answer.json["error"]) == (400, "invalid request")


async def test_id_token_signed_with_a_published_key_as_a_secret_is_refused(
    node: Node, acme: StandIn
) -> None:
    """Nor one that nobody signed, nor another provider's."""
    for algorithm, head in (("HS256", {}), ("ES256", {"alg": "none"}), ("ES256", {"alg": "HS256"})):
        acme.algorithm, acme.head = algorithm, head
        answer = await show(node, provider="acme", id_token=acme.id_token())
        assert answer.status == 400
    acme.algorithm, acme.head = "ES256", {}
    answer = await show(node, provider="other", id_token=acme.id_token())
    assert (answer.status, answer.json["error"]) == (400, "invalid request")


async def test_id_token_of_the_code_flow_is_of_no_use_here(
    node: Node, acme: StandIn, browser: Browser
) -> None:
    """Its nonce is ours, and nobody knows a text whose hash that is."""
    page = await browser.go(authorize_url(node), stop_at=f"{node.url}/auth/v1/callback")
    token = acme.id_token(acme.asked[-1]["nonce"])
    for more in ({}, {"nonce": acme.asked[-1]["nonce"]}):
        answer = await show(node, provider="acme", id_token=token, **more)
        assert answer.status == 400
    assert "access_token" in (await browser.go(page.url)).fragment


async def test_hash_of_the_access_token_is_checked_where_both_are_shown(
    node: Node, acme: StandIn
) -> None:
    """RFC: OpenID Connect Core section 3.1.3.6."""
    token = acme.id_token(at_hash=at_hash("theirs"))
    wrong = await show(node, provider="acme", id_token=token, access_token="other")
    assert wrong.status == 400
    right = await show(node, provider="acme", id_token=token, access_token="theirs")
    assert right.status == 200, right.text


async def test_id_token_of_a_provider_that_is_not_set_is_refused(node: Node) -> None:
    """In the code for that."""
    answer = await show(node, provider="google", id_token="x.y.z")
    assert (answer.status, answer.json["error_code"]) == (400, "provider_disabled")


# --- linking by hand ----------------------------------------------------------------------------


async def linking_url(node: Node, client: Client, provider: str = "other", **asked: str) -> str:
    """Ask where to go to link *provider*, as linkIdentity does."""
    query = urlencode(
        {"provider": provider, "redirect_to": APP, "skip_http_redirect": "true", **asked}
    )
    answer = await client.get(f"/auth/v1/user/identities/authorize?{query}")
    assert answer.status == 200, answer.text
    url: str = answer.json["url"]
    return url


FROM_THE_APP = {"referer": "http://127.0.0.1:9/settings"}


async def test_provider_is_linked_to_the_account_of_who_asked(
    node: Node, acme: StandIn, other: StandIn, browser: Browser
) -> None:
    """Whatever its address: the person is at both."""
    ana = bearer(node, await browser.go(authorize_url(node)))
    mine = (await ana.get("/auth/v1/user")).json["id"]
    page = await browser.go(await linking_url(node, ana), headers=FROM_THE_APP)
    found = await account(node, page)
    assert found["id"] == mine
    assert [one["provider"] for one in found["identities"]] == ["acme", "other"]
    assert found["app_metadata"]["providers"] == ["acme", "other"]
    again = await browser.go(await linking_url(node, ana), headers=FROM_THE_APP)
    refused(again, "identity_already_exists")
    (mail,) = await mails_to(node, found["email"])
    assert (mail.kind, mail.provider) == ("identity_linked", "Other")


async def test_identity_of_somebody_else_is_not_linked(
    node: Node, acme: StandIn, other: StandIn, browser: Browser, session: aiohttp.ClientSession
) -> None:
    """It stays whose it is."""
    owner = await account(node, await Browser(session).go(authorize_url(node, "other")))
    ana = bearer(node, await browser.go(authorize_url(node)))
    page = await browser.go(await linking_url(node, ana), headers=FROM_THE_APP)
    refused(page, "identity_already_exists", "access_denied")
    still = await account(node, await Browser(session).go(authorize_url(node, "other")))
    assert still["id"] == owner["id"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"referer": "https://attacker.example/"},
        {"referer": "http://127.0.0.1:9.attacker.example/"},
        {"referer": "http://127.0.0.1/"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        # In a chat that somebody shared, or in an answer.
        {"sec-fetch-site": "same-origin"},
    ],
)
async def test_link_that_somebody_was_sent_links_nothing(
    node: Node,
    other: StandIn,
    browser: Browser,
    session: aiohttp.ClientSession,
    headers: dict[str, str],
) -> None:
    """An attacker begins to link, and makes the victim go on: their identity stays theirs."""
    attacker = bearer(node, await browser.go(authorize_url(node)))
    url = await linking_url(node, attacker)
    asked = len(other.asked)
    victim = Browser(session)
    page = await victim.go(url, stop_at=f"{node.url}/?", headers=headers)
    refused(page, "bad_oauth_state")
    assert len(other.asked) == asked
    later = await victim.go(url, stop_at=f"{node.url}/?", headers=FROM_THE_APP)
    refused(later, "bad_oauth_state")


async def test_own_page_links_in_the_browser_that_it_is_in(
    node: Node, other: StandIn, browser: Browser, session: aiohttp.ClientSession
) -> None:
    """The web chat tells nobody where it was left; the cookie that came with the address does."""
    here = {"sec-fetch-site": "same-origin"}
    ana = bearer(node, await browser.go(authorize_url(node)))
    asked = "/auth/v1/user/identities/authorize?provider=other&skip_http_redirect=true"
    for browser_that_goes, links in ((Browser(session), False), (browser, True)):
        answer = await ana.get(f"{asked}&redirect_to={APP}", headers=here)
        name, _, value = answer.headers["set-cookie"].partition(";")[0].partition("=")
        browser.cookies[name] = value
        stop_at = APP if links else f"{node.url}/?"
        page = await browser_that_goes.go(answer.json["url"], stop_at=stop_at, headers=here)
        if not links:
            refused(page, "bad_oauth_state")
    found = await account(node, page)
    assert [one["provider"] for one in found["identities"]] == ["acme", "other"]


async def test_linking_needs_a_fresh_sign_in_that_still_stands(
    node: Node, acme: StandIn, other: StandIn, browser: Browser
) -> None:
    """Not one of yesterday, and not one that was ended meanwhile."""
    ana = bearer(node, await browser.go(authorize_url(node)))
    url = await linking_url(node, ana)
    assert (await ana.post("/auth/v1/logout")).status == 204
    refused(await browser.go(url, headers=FROM_THE_APP), "session_not_found")
    ana = bearer(node, await browser.go(authorize_url(node)))
    mine = (await ana.get("/auth/v1/user")).json["id"]
    await node.services.db.execute(
        AUTH,
        "update public.user_sessions set amr = jsonb_set(amr, '{0,timestamp}',"
        " to_jsonb(extract(epoch from now())::bigint - 3600)) where user_id = %s",
        (mine,),
    )
    answer = await ana.get("/auth/v1/user/identities/authorize?provider=other")
    assert (answer.status, answer.json["error_code"]) == (400, "reauthentication_needed")


async def test_linking_goes_by_the_clock_by_which_the_sign_in_was_noted(
    node: Node, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a server's own is an hour ahead nobody's sign-in was ever fresh."""
    ana = bearer(node, await browser.go(authorize_url(node)))
    ahead = "chatkeep.web.routes.gotrue.providers.time"
    monkeypatch.setattr(ahead, lambda: time.time() + 3600, raising=False)
    await linking_url(node, ana)


async def test_linking_can_be_switched_off(
    acme: StandIn, start: StartNode, session: aiohttp.ClientSession
) -> None:
    """Then neither is offered."""
    closed = await start(PORT=str(free_port()), MANUAL_LINKING="off", **settings_of(("acme", acme)))
    ana = bearer(closed, await Browser(session).go(authorize_url(closed)))
    for answer in (
        await ana.get("/auth/v1/user/identities/authorize?provider=acme"),
        await ana.delete(f"/auth/v1/user/identities/{uuid4()}"),
    ):
        assert (answer.status, answer.json["error_code"]) == (404, "manual_linking_disabled")


async def test_id_token_links_too(node: Node, acme: StandIn, other: StandIn) -> None:
    """For applications that have no browser."""
    first = await show(node, provider="acme", id_token=acme.id_token())
    ana = node.nobody(authorization=f"Bearer {first.json['access_token']}")
    body = {"provider": "other", "id_token": other.id_token(), "link_identity": True}
    linked = await ana.post("/auth/v1/token?grant_type=id_token", body)
    assert linked.status == 200, linked.text
    assert linked.json["user"]["id"] == first.json["user"]["id"]
    body["id_token"] = other.id_token(iat=int(time.time()) - 1)
    nobody = await node.nobody().post("/auth/v1/token?grant_type=id_token", body)
    assert (nobody.status, nobody.json["error_code"]) == (401, "no_authorization")


async def test_identity_is_unlinked_but_not_the_last(
    node: Node, acme: StandIn, other: StandIn, browser: Browser
) -> None:
    """And only one's own."""
    ana = bearer(node, await browser.go(authorize_url(node)))
    await browser.go(await linking_url(node, ana), headers=FROM_THE_APP)
    one, two = (await ana.get("/auth/v1/user")).json["identities"]
    acme.person = person(new_name())
    bo = bearer(node, await browser.go(authorize_url(node)))
    foreign = await bo.delete(f"/auth/v1/user/identities/{one['identity_id']}")
    assert (foreign.status, foreign.json["error_code"]) == (422, "identity_not_found")
    bad = await ana.delete("/auth/v1/user/identities/x")
    assert (bad.status, bad.json["error_code"]) == (400, "validation_failed")
    gone = await ana.delete(f"/auth/v1/user/identities/{one['identity_id']}")
    assert (gone.status, gone.json) == (200, {})
    left = (await ana.get("/auth/v1/user")).json
    assert [each["provider"] for each in left["identities"]] == ["other"]
    assert left["app_metadata"] == {"provider": "other", "providers": ["other"]}
    assert left["email"] == two["identity_data"]["email"]
    last = await ana.delete(f"/auth/v1/user/identities/{two['identity_id']}")
    assert (last.status, last.json["error_code"]) == (422, "single_identity_not_deletable")


async def test_password_goes_with_the_identity_that_it_belongs_to(
    node: Node, acme: StandIn, browser: Browser
) -> None:
    """Whoever unlinks their address signs in with the provider alone."""
    email = acme.person["email"]
    await sign_up(node, email)
    await proven(node, email)
    ana = bearer(node, await browser.go(authorize_url(node)))
    mine, _ = (await ana.get("/auth/v1/user")).json["identities"]
    assert (await ana.delete(f"/auth/v1/user/identities/{mine['identity_id']}")).status == 200
    body = {"email": email, "password": PASSWORD}
    answer = await node.nobody().post("/auth/v1/token?grant_type=password", body)
    assert answer.status == 400


# --- what is written down -----------------------------------------------------------------------


async def test_nothing_of_a_flow_can_be_used_from_the_database_or_the_log(
    node: Node, acme: StandIn, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    """Hashes only; no code, token, state or secret in any line."""
    caplog.set_level("DEBUG")
    page = await browser.go(authorize_url(node), stop_at=f"{node.url}/auth/v1/callback")
    rows = await node.services.db.fetch(
        AUTH, "select f::text as text from chatkeep.sign_in_flows f", (), row=_Text
    )
    dump = "\n".join(one.text for one in rows)
    asked = acme.asked[-1]
    secrets = [asked["state"], asked["nonce"], *browser.cookies.values()]
    assert not [one for one in secrets if one in dump]
    after = await browser.go(page.url)
    acme.reply = {"error": "invalid_client", "error_description": "leak-me"}
    await browser.go(authorize_url(node))
    ours = [one for one in caplog.records if one.name.startswith("chatkeep")]
    said = "\n".join(f"{one.getMessage()} {one.__dict__}" for one in ours)
    secrets += [page.query["code"], after.fragment["access_token"], CLIENT_SECRET, "leak-me"]
    assert not [one for one in secrets if one in said]
    assert "acme gives no tokens (200): invalid_client" in said


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
