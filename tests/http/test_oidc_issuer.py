"""An OpenID provider, the real one and misbehaving ones: its access tokens and nothing else."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from chatkeep.config import OpenIdProvider, Settings
from chatkeep.discovery import REDISCOVERY_AGE_S, Discovery
from chatkeep.errors import IssuerUnavailable, TokenInvalid
from chatkeep.fetching import FetchFailed
from chatkeep.issuers import Issuers, openid_issuer
from chatkeep.jwks import MAX_STALE_S
from chatkeep.setup_checks.issuers import examine_issuers
from tests import forge
from tests.identity_providers import (
    AUDIENCE,
    CLIENT_ID,
    INSTALLED,
    NOT_INSTALLED,
    openid_provider,
    openid_sign_in,
)
from tests.serving import serving, start_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import aiohttp

    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node

    Tokens = list[dict[str, str]]

needs_clients = pytest.mark.skipif(not INSTALLED.exists(), reason=NOT_INSTALLED)

SETTINGS = {"OIDC_AUDIENCE": AUDIENCE, "OIDC_CLIENT_ID": CLIENT_ID, "OIDC_ROLES_CLAIM": "roles"}


# --- the real provider --------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["RS256", "ES256", "EdDSA"])
async def issuer(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A provider for each algorithm."""
    async with openid_provider(request.param) as address:
        yield address


@pytest.fixture(scope="module")
async def tokens(issuer: str) -> Tokens:
    """What Ana, Olga the operator, and the client itself get there."""
    return await openid_sign_in(issuer, "ana", "olga")


@pytest.fixture(scope="module")
async def node(
    issuer: str, database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[Node]:
    """A node that takes its tokens, beside those of a Supabase project."""
    started = await start_node(database.url, session, project, **SETTINGS, OIDC_ISSUER=issuer)
    yield started
    await started.stop()


@needs_clients
async def test_access_token_of_the_provider_is_its_person(node: Node, tokens: Tokens) -> None:
    """With scopes, and with the roles that only the provider's operator writes."""
    ana, olga, _ = (one["access_token"] for one in tokens)
    answer = await node.nobody(authorization=f"Bearer {ana}").get("/auth/me")
    assert answer.status == 200
    assert (answer.json["id"], answer.json["issuer"]) == ("oidc:ana", "oidc")
    assert (answer.json["email"], answer.json["email_verified"]) == ("ana@example.com", True)
    who = await node.services.authenticator.principal_of(ana)
    assert who.scopes == {"chat:read", "chat:write"}
    assert not who.roles
    assert (await node.services.authenticator.principal_of(olga)).roles == {"operator"}


@needs_clients
async def test_everything_else_that_the_provider_gives_out_is_refused(
    node: Node, tokens: Tokens
) -> None:
    """The ID token, the refresh token, and the token that the client got for itself."""
    ana, _, client = tokens
    for bearer in (ana["id_token"], ana["refresh_token"], client["access_token"]):
        answer = await node.nobody(authorization=f"Bearer {bearer}").get("/auth/me")
        assert (answer.status, answer.json["detail"]) == (401, "Invalid or expired JWT token")


@needs_clients
async def test_provider_that_works_is_found_to(issuer: str, node: Node) -> None:
    """Keys, algorithm, endpoints; and these are known to the issuer."""
    (finding,) = await findings(OIDC_ISSUER=issuer, **SETTINGS)
    assert finding.is_good
    assert finding.note.startswith("1 key (")
    assert finding.note.endswith("refreshes tokens, revokes tokens")
    (entry,) = [one for one in node.services.issuers if one.preset == "oidc"]
    assert entry.endpoints.client_id == CLIENT_ID
    assert entry.endpoints.discovery is not None
    found = await entry.endpoints.discovery.provider()
    assert (found.token_url, found.revocation_url) == (
        f"{issuer}/token",
        f"{issuer}/token/revocation",
    )


async def findings(**environ: str) -> list[Any]:
    """Return what is found about the issuers of *environ*."""
    return [one async for one in examine_issuers(Settings.from_env(environ))]


# --- a provider that we play --------------------------------------------------------------------


class Provider:
    """A provider that says of itself what a test wants."""

    def __init__(self) -> None:
        """Be honest."""
        self.url = ""
        self.said: dict[str, Any] = {}
        self.body: bytes | None = None
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []

    def document(self) -> bytes:
        """Return the discovery document."""
        said = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
            "id_token_signing_alg_values_supported": ["ES256", "HS256"],
            "token_endpoint": f"{self.url}/token",
            "revocation_endpoint": "https://elsewhere.example/revoke",
            **self.said,
        }
        kept = {name: value for name, value in said.items() if value is not ...}
        return json.dumps(kept).encode() if self.body is None else self.body

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        self.asked.append(request.path)
        if request.path.endswith("/.well-known/openid-configuration"):
            return web.Response(body=self.document(), status=self.status, headers=self.headers)
        keys = forge.document(forge.jwk("ES256"), forge.jwk("RS256"))
        return web.Response(body=keys, headers=self.headers)


@asynccontextmanager
async def playing() -> AsyncIterator[Provider]:
    """Run a provider on a free port."""
    provider = Provider()
    async with serving(web.get("/{path:.*}", provider.answer)) as provider.url:
        yield provider


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A provider that is honest until told otherwise."""
    async with playing() as provider:
        yield provider


def table(provider: Provider, **changes: Any) -> Issuers:  # noqa: ANN401 -- settings of a provider
    """Return the table of one issuer, which is *provider*."""
    said = {"name": "oidc", "issuer": provider.url, "audience": AUDIENCE, **changes}
    return Issuers([openid_issuer(OpenIdProvider(**said), production=False)])


def access_token(
    provider: Provider, changes: Mapping[str, object] | None = None, *, algorithm: str = "ES256"
) -> str:
    """Return an access token of *provider* (RFC 9068); `typ` among *changes* is the header's."""
    now, changes = int(time.time()), dict(changes or {})
    head = forge.header(algorithm, typ=changes.pop("typ", "at+jwt"))
    said = {
        "iss": provider.url,
        "sub": "ana",
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 60,
        "client_id": CLIENT_ID,
        "jti": "t1",
        **changes,
    }
    kept = {name: value for name, value in said.items() if value is not ...}
    return forge.forge(head, kept, algorithm=algorithm)


async def test_keys_are_found_by_discovery_and_only_for_what_it_signs_with(
    provider: Provider,
) -> None:
    """A key for another algorithm is left out, and none is ever a secret."""
    issuers = table(provider)
    assert (await issuers.authenticate(access_token(provider))).user_id == "oidc:ana"
    for other in (
        access_token(provider, algorithm="RS256"),
        access_token(provider, algorithm="HS256"),
        access_token(provider, {"iss": f"{provider.url}/"}),
    ):
        with pytest.raises(TokenInvalid):
            await issuers.authenticate(other)
    await issuers.close()
    assert provider.asked[:2] == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.parametrize(
    "said",
    [
        {"issuer": "https://attacker.example"},
        {"issuer": ...},
        {"issuer": None},
        {"issuer": lambda url: f"{url}/"},
        {"issuer": lambda url: url.replace("127.0.0.1", "127.0.0.1.")},
        {"jwks_uri": lambda url: url.replace("127.0.0.1", "127.0.0.2") + "/keys"},
        {"jwks_uri": lambda url: url.replace("127.0.0.1", "localhost") + "/keys"},
        {"jwks_uri": "http://127.0.0.1:1/keys"},
        {"jwks_uri": "https://attacker.example/keys"},
        {"jwks_uri": lambda url: url.replace("//", "//ana@") + "/keys"},
        {"jwks_uri": lambda url: f"{url}/keys#x"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "http://[::1"},
        {"jwks_uri": ""},
        {"jwks_uri": ...},
        {"jwks_uri": ["http://127.0.0.1/keys"]},
        {"id_token_signing_alg_values_supported": ["HS256", "none"]},
        {"id_token_signing_alg_values_supported": []},
        {"id_token_signing_alg_values_supported": ...},
        {"id_token_signing_alg_values_supported": "ES256"},
    ],
)
async def test_document_that_speaks_of_somebody_else_is_refused(
    provider: Provider, said: dict[str, Any]
) -> None:
    """Another issuer, keys on another host, nothing to verify: no key is fetched, nobody judged."""
    provider.said = {
        name: value(provider.url) if callable(value) else value for name, value in said.items()
    }
    issuers = table(provider)
    with pytest.raises(IssuerUnavailable) as refused:
        await issuers.authenticate(access_token(provider))
    assert refused.value.retry_after_s
    assert provider.asked == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (302, b""),
        (404, b"{}"),
        (500, b"{}"),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'"x"'),
        (200, b"\xff\xfe{}"),
        (200, b'{"a":' * 40_000),
        (200, b'{"pad":"' + b"x" * (256 * 1024) + b'"}'),
    ],
)
async def test_answer_that_is_no_document_is_refused(
    provider: Provider, status: int, body: bytes
) -> None:
    """A redirect is not followed, and neither size nor depth nor nonsense does harm."""
    provider.status, provider.body = status, body
    provider.headers = {"location": f"{provider.url}/elsewhere"} if status == 302 else {}
    with pytest.raises(IssuerUnavailable):
        await table(provider).authenticate(access_token(provider))
    assert provider.asked == ["/.well-known/openid-configuration"]


async def test_document_that_says_a_thing_twice_is_refused(provider: Provider) -> None:
    """Which of the two was meant, nobody knows."""
    provider.body = provider.document()[:-1] + b',"issuer":"https://attacker.example"}'
    with pytest.raises(IssuerUnavailable):
        await table(provider).authenticate(access_token(provider))


def test_keys_over_plain_http_are_not_the_keys_of_an_https_issuer() -> None:
    """Nor are those behind another port; the scheme may not change."""
    discovery = Discovery("https://login.example/realm", public_only=True)
    assert discovery._is_its_own("https://LOGIN.example/keys")
    for url in (
        "http://login.example/keys",
        "https://login.example:8443/keys",
        "https://login.example.attacker.example/keys",
        "//login.example/keys",
    ):
        assert not discovery._is_its_own(url)


async def test_keys_on_another_host_are_taken_when_an_operator_says_so(
    provider: Provider,
) -> None:
    """Then what the document says of them counts for nothing."""
    async with playing() as keys:
        provider.said = {"jwks_uri": "https://attacker.example/keys"}
        issuers = table(provider, jwks_url=f"{keys.url}/keys")
        assert (await issuers.authenticate(access_token(provider))).subject == "ana"
        assert keys.asked == ["/keys"]


async def test_issuer_with_a_path_and_a_slash_at_its_end(provider: Provider) -> None:
    """The slash belongs to its name, and not to the address of its document."""
    provider.url += "/realms/people/"
    assert (await table(provider).authenticate(access_token(provider))).subject == "ana"
    assert provider.asked[0] == "/realms/people/.well-known/openid-configuration"


async def test_document_is_asked_for_again_and_the_last_good_one_outlives_a_bad_one(
    provider: Provider,
) -> None:
    """After an hour; and for a day at most."""
    now = 1000.0
    discovery = Discovery(provider.url, public_only=False, clock=lambda: now)
    first = await discovery.provider()
    assert (first.token_url, first.revocation_url) == (f"{provider.url}/token", None)
    assert await discovery.provider() is first
    now += REDISCOVERY_AGE_S
    provider.said = {"jwks_uri": f"{provider.url}/moved"}
    assert (await discovery.keys()).url == f"{provider.url}/moved"
    provider.said = {"issuer": "https://attacker.example"}
    now += MAX_STALE_S - 1
    assert (await discovery.keys()).url == f"{provider.url}/moved"
    now += 1
    with pytest.raises(ValueError, match="another issuer"):
        await discovery.keys()
    provider.status = 500
    with pytest.raises(FetchFailed, match="it answered 500"):
        await discovery.keys()


async def test_five_hundred_first_tokens_ask_once(provider: Provider) -> None:
    """Discovery and keys are one flight."""
    issuers, token = table(provider), access_token(provider)
    found = await asyncio.gather(*(issuers.authenticate(token) for _ in range(500)))
    assert {one.subject for one in found} == {"ana"}
    assert len(provider.asked) == 2


# --- which tokens are access tokens -------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"typ": "AT+JWT"},
        {"typ": "application/at+jwt"},
        {"aud": [AUDIENCE, "https://login.example/userinfo"]},
        {"nonce": "n"},  # the profile says what it is, whatever else it has
        {"aud": [AUDIENCE, CLIENT_ID]},
        {"typ": "JWT"},
        {"typ": ...},
        {"typ": "JWT", "client_id": ..., "scope": "chat"},
        {"typ": "JWT", "client_id": ..., "scp": ["chat"]},
        {"typ": "JWT", "client_id": ..., "scope": "chat", "azp": CLIENT_ID},
    ],
)
async def test_access_token_is_taken(provider: Provider, changes: dict[str, object]) -> None:
    """RFC 9068's, and a plain JWT that says what it may do or for which client it is."""
    issuers = table(provider, client_id=CLIENT_ID)
    assert (await issuers.authenticate(access_token(provider, changes))).subject == "ana"


async def test_what_keycloak_says_of_its_tokens_is_listened_to(provider: Provider) -> None:
    """In a claim `typ`; Cognito has `token_use` for the same."""
    issuers = table(provider, client_id=CLIENT_ID)
    for name, good, bad in (("typ", "Bearer", "ID"), ("token_use", "access", "id")):
        for word, taken in ((good, True), (bad, False), (None, False), (["Bearer"], False)):
            now = int(time.time())
            said = {"iss": provider.url, "sub": "ana", "aud": AUDIENCE, "exp": now + 60}
            token = forge.forge(
                forge.header("ES256"), {**said, "scope": "chat", name: word}, algorithm="ES256"
            )
            if taken:
                assert (await issuers.authenticate(token)).subject == "ana"
            else:
                with pytest.raises(TokenInvalid):
                    await issuers.authenticate(token)


@pytest.mark.parametrize(
    "changes",
    [
        {"typ": "logout+jwt"},
        {"typ": "secevent+jwt"},
        {"typ": "id+jwt"},
        {"typ": "dpop+jwt"},
        {"typ": ""},
        *({"typ": typ, name: "x"} for typ in ("JWT", ...) for name in ("nonce", "at_hash")),
        *({"typ": "JWT", name: "x"} for name in ("c_hash", "s_hash")),
        {"typ": "JWT", "events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
        {"typ": "JWT", "client_id": ...},
        {"typ": ..., "client_id": ..., "azp": CLIENT_ID},
        {"typ": "JWT", "aud": [AUDIENCE, CLIENT_ID]},
        {"typ": "JWT", "aud": CLIENT_ID},
        {"aud": CLIENT_ID},
        {"aud": "https://chat.example"},
        {"aud": f"{AUDIENCE}/"},
        {"aud": ...},
        {"sub": CLIENT_ID},
        {"typ": "JWT", "sub": CLIENT_ID},
        {"cnf": {"jkt": "x"}},
        {"exp": ...},
    ],
)
async def test_any_other_kind_of_token_is_refused(
    provider: Provider, changes: dict[str, object]
) -> None:
    """ID tokens, logout tokens, tokens of clients, and those meant for somebody else."""
    issuers = table(provider, client_id=CLIENT_ID)
    assert await issuers.authenticate(access_token(provider))
    with pytest.raises(TokenInvalid):
        await issuers.authenticate(access_token(provider, changes))


async def test_roles_are_where_the_operator_says(provider: Provider) -> None:
    """A path of names; a claim with a dot in its name is not a path."""
    issuers = table(provider, roles_claim=("realm_access", "roles"))
    inside: dict[str, object] = {"realm_access": {"roles": ["editor", 7]}}
    assert (await issuers.authenticate(access_token(provider, inside))).roles == {"editor"}
    outside: dict[str, object] = {"realm_access.roles": ["admin"], "roles": ["admin"]}
    assert not (await issuers.authenticate(access_token(provider, outside))).roles


# --- issuers check ------------------------------------------------------------------------------


async def test_what_is_wrong_with_a_provider_is_named(provider: Provider) -> None:
    """Its name, its keys, its clock: each with what to do."""
    settings = {**SETTINGS, "OIDC_ISSUER": provider.url}
    (good,) = await findings(**settings)
    assert (good.name, good.problems) == ("oidc", ())
    assert (
        good.note == "1 key (ES256), a key left out: its type, curve or alg is not one we use,"
        " refreshes tokens"
    )
    (other,) = await findings(**{**settings, "OIDC_ISSUER": f"{provider.url}/"})
    assert other.problems[0].endswith(
        "it names another issuer; check OIDC_ISSUER, which must be exactly its name."
    )
    late = datetime.now(UTC) - timedelta(minutes=5)
    provider.headers = {"date": format_datetime(late, usegmt=True)}
    (slow,) = await findings(**settings)
    assert "Its clock is 299 s away" in slow.problems[0] or "300 s away" in slow.problems[0]
    provider.headers = {"date": "yesterday"}
    provider.said = {"token_endpoint": None}
    (undated,) = await findings(**settings)
    assert undated.note.endswith("no token endpoint of its own")
    named = {
        "OIDC_ISSUERS": "okta",
        "OIDC_OKTA_ISSUER": provider.url,
        "OIDC_OKTA_AUDIENCE": AUDIENCE,
        "OIDC_OKTA_JWKS_URL": "http://127.0.0.1:1/keys",
    }
    (away,) = await findings(**named)
    assert away.name == "okta"
    assert away.problems[0].startswith("No keys at http://127.0.0.1:1/keys (")
    assert away.problems[0].endswith("check OIDC_OKTA_JWKS_URL.")


async def test_what_is_missing_is_named_for_the_others_as_well() -> None:
    """A secret alone has nobody to ask; Better Auth needs a database that answers."""
    secret = forge.SECRET.decode()
    (alone,) = await findings(SUPABASE_JWT_SECRET=secret)
    assert (alone.note, alone.problems) == ("the shared secret (HS256)", ())
    better_auth = {"BETTER_AUTH_ISSUER": "people", "BETTER_AUTH_SECRET": secret}
    (none,) = await findings(**better_auth)
    assert none.problems == ("There is no database yet: set BETTER_AUTH_DATABASE_URL.",)
    names = ("DATABASE_URL", "BETTER_AUTH_DATABASE_URL")
    nowhere = "postgresql://nobody:hunter2@127.0.0.1:1/x"
    found = await asyncio.gather(*(findings(**better_auth, **{one: nowhere}) for one in names))
    for name, (away,) in zip(names, found, strict=True):
        assert away.problems[0].endswith(f"Check {name}.")
        assert "hunter2" not in repr(away)
