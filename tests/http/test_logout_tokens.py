"""Logout tokens: which are believed, what they end, and what strangers can do with them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode
from uuid import uuid4

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chatkeep import audit
from chatkeep.errors import TokenRevoked
from chatkeep.issuers.logout_tokens import EVENT, LONGEST_LIFE_S
from chatkeep.limits.rates import RATES, Rate
from tests import forge
from tests.serving import start_node, until
from tests.sign_in_providers import StandIn, stand_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import aiohttp

    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node

ROUTE: Final = "/auth/backchannel-logout"
AUDIENCE: Final = "https://chat.example/api"
CLIENT: Final = "chat-web"
FORM: Final = {"content-type": "application/x-www-form-urlencoded"}
PUBLIC_PEM: Final = (
    forge.EC_KEYS["ES256"]
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
)
STRANGER: Final = ec.generate_private_key(ec.SECP256R1())
_POINT: Final = STRANGER.public_key().public_numbers()
STRANGER_JWK: Final = {
    "kty": "EC",
    "crv": "P-256",
    "x": forge.segment(_POINT.x.to_bytes(32, "big")),
    "y": forge.segment(_POINT.y.to_bytes(32, "big")),
}
_numbers = count()


@dataclass(frozen=True, slots=True)
class At:
    """A moment so many seconds after a token is made."""

    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuers:
    """Three providers; the last is one to which nobody said as whom it knows us."""

    acme: StandIn
    other: StandIn
    silent: StandIn


@pytest.fixture(scope="module")
async def issuers() -> AsyncIterator[Issuers]:
    """Three providers."""
    async with stand_in() as acme, stand_in() as other, stand_in() as silent:
        yield Issuers(acme=acme, other=other, silent=silent)


@pytest.fixture(scope="module")
async def nodes(
    issuers: Issuers, database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[list[Node]]:
    """Two servers on one database that take the tokens of all three."""
    settings = {"OIDC_ISSUERS": "acme,other,silent"}
    for name in ("acme", "other", "silent"):
        settings[f"OIDC_{name.upper()}_ISSUER"] = getattr(issuers, name).url
        settings[f"OIDC_{name.upper()}_AUDIENCE"] = AUDIENCE
        if name != "silent":
            settings[f"OIDC_{name.upper()}_CLIENT_ID"] = CLIENT
    started = [await start_node(database.url, session, project, **settings) for _ in range(2)]
    yield started
    for one in started:
        await one.stop()


@dataclass(slots=True, kw_only=True)
class Somebody:
    """A person at a provider, with a session there."""

    provider: StandIn
    sub: str = field(default_factory=lambda: f"person-{next(_numbers)}")
    sid: str | None = field(default_factory=lambda: str(uuid4()))
    ago_s: int = 30

    def access_token(self, **changes: object) -> str:
        """Return an access token (RFC 9068) of the session, issued a while ago."""
        now = int(time.time())
        said = {
            "iss": self.provider.url,
            "sub": self.sub,
            "aud": AUDIENCE,
            "iat": now - self.ago_s,
            "exp": now + 600,
            "client_id": CLIENT,
            "jti": str(uuid4()),
            **({} if self.sid is None else {"sid": self.sid}),
            **changes,
        }
        return forge.forge(forge.header("ES256", typ="at+jwt"), said, algorithm="ES256")

    def client(self, node: Node, **changes: object) -> Client:
        """Return the person as a caller of *node*, with one more token of the session."""
        return node.nobody(authorization=f"Bearer {self.access_token(**changes)}")

    def logout_token(self, **changes: Any) -> str:  # noqa: ANN401 -- claims
        """Return what the provider says when they sign out; *head*, *algorithm*, *sign* bend it."""
        now = int(time.time())
        head = changes.pop("head", {})
        algorithm, sign = changes.pop("algorithm", "ES256"), changes.pop("sign", None)
        said = {
            "iss": self.provider.url,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 120,
            "jti": str(uuid4()),
            "sub": self.sub,
            **({} if self.sid is None else {"sid": self.sid}),
            "events": {EVENT: {}},
            **changes,
        }
        kept = {
            name: time.time() + value.after_s if isinstance(value, At) else value
            for name, value in said.items()
            if value is not ...
        }
        full = forge.header(algorithm, **{"typ": "logout+jwt", **head})
        return forge.forge(full, kept, algorithm=algorithm, sign=sign)


async def tell(node: Node, token: str, **more: str) -> Answer:
    """Send *token* as a provider does."""
    body = urlencode({"logout_token": token, **more}).encode()
    return await node.nobody().call("POST", ROUTE, data=body, headers=FORM)


async def is_in(client: Client) -> bool:
    """Whether the caller is let in; if not, they were signed out."""
    answer = await client.get("/auth/me")
    assert answer.status == 200 or answer.json["code"] == "token_revoked", answer.text
    return answer.status == 200


async def with_cookie(node: Node, client: Client) -> Client:
    """Return the browser that got a cookie in exchange for the bearer of *client*."""
    answer = await client.but(origin=node.url).post("/auth/session")
    assert answer.status == 200, answer.text
    return node.nobody(cookie=answer.headers["set-cookie"].partition(";")[0])


# --- what is believed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"head": {"typ": "JWT"}},
        {"head": {"typ": ...}},
        {"head": {"typ": "application/logout+jwt"}},
        {"aud": ["elsewhere", CLIENT]},
        {"sub": ...},
        {"sid": ...},
        {"iat": At(0.5)},
        {"events": {EVENT: {}, "revoke_offline_access": True}},
        {"events": {EVENT: {"some": "thing"}}},
        {"trace_id": "x", "typ": "Logout"},
        {"algorithm": "RS256"},
        {"algorithm": "EdDSA"},
    ],
    ids=str,
)
async def test_logout_token_is_believed(
    nodes: list[Node], issuers: Issuers, changes: dict[str, Any]
) -> None:
    """Whatever a provider may leave out or add (Back-Channel Logout 1.0 section 2.4)."""
    ana = Somebody(provider=issuers.acme)
    here, there = ana.client(nodes[0]), ana.client(nodes[1])
    assert await is_in(here)
    answer = await tell(nodes[0], ana.logout_token(**changes), state="ignored")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert not await is_in(here)

    async def is_out_there() -> bool:
        return not await is_in(there)

    await until(is_out_there)
    assert not await is_in(ana.client(nodes[0]))  # a token that was never seen


BAD: Final[list[dict[str, Any]]] = [
    # another issuer, another client, another key
    {"iss": "https://attacker.example"},
    {"iss": ...},
    {"iss": ["x"]},
    {"aud": "another-client"},
    {"aud": AUDIENCE},
    {"aud": ...},
    {"aud": []},
    {"aud": f"{CLIENT} "},
    {"sign": forge.ec_signer(STRANGER)},
    {"sign": forge.ec_signer(STRANGER), "head": {"kid": "nobody's"}},
    {"sign": forge.ec_signer(STRANGER), "head": {"jwk": STRANGER_JWK}},
    {"sign": lambda _: b"x" * 64},
    # no signature, or the public key for a secret
    {"head": {"alg": "none"}, "sign": lambda _: b""},
    {"head": {"alg": "HS256"}, "sign": forge.hmac_signer(PUBLIC_PEM)},
    {"algorithm": "HS256"},
    {"algorithm": "ES384"},
    # when
    {"exp": ...},
    {"exp": At(-60)},
    {"iat": At(-600), "exp": At(-60)},
    {"exp": At(LONGEST_LIFE_S + 120)},
    {"exp": "soon"},
    {"iat": ...},
    {"iat": At(60)},
    {"iat": True},
    {"nbf": At(60)},
    # which
    {"jti": ...},
    {"jti": ""},
    {"jti": 7},
    {"jti": "x" * 256},
    # what
    {"events": ...},
    {"events": {}},
    {"events": [EVENT]},
    {"events": EVENT},
    {"events": {EVENT: True}},
    {"events": {EVENT: []}},
    {"events": {EVENT + "/": {}}},
    {"nonce": "n"},
    {"nonce": None},
    {"head": {"typ": "at+jwt"}},
    {"head": {"typ": "id+jwt"}},
    {"head": {"typ": "session+jwt"}},
    {"head": {"typ": "secevent+jwt"}},
    {"head": {"crit": ["x"]}},
    # whose
    {"sub": ..., "sid": ...},
    {"sub": 7},
    {"sub": None},
    {"sub": ""},
    {"sub": "a\nb"},
    {"sub": "x" * 256},
    {"sid": 7},
    {"sid": None},
    {"sid": ""},
    {"sid": "x" * 256},
    {"cnf": {"jkt": "x"}},
    {"pad": "x" * 8192},
]


@pytest.mark.parametrize("changes", BAD, ids=lambda one: str(one)[:60])
async def test_what_is_no_logout_token_for_us_ends_nothing(
    nodes: list[Node], issuers: Issuers, changes: dict[str, Any]
) -> None:
    """All are refused in one way, and whoever is signed in stays so."""
    ana = Somebody(provider=issuers.acme)
    client = ana.client(nodes[0])
    answer = await tell(nodes[0], ana.logout_token(**changes))
    assert answer.status == 400
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json["code"] == "logout_token_invalid"
    assert answer.json["error"] == "invalid_request"
    assert answer.json["error_description"] == answer.json["detail"]
    assert await is_in(client)
    assert (await tell(nodes[0], ana.logout_token())).status == 200  # the same without the change
    assert not await is_in(client)


def of_other_kinds(ana: Somebody) -> Iterator[str]:
    """Tokens that the same provider signs, and what is no token at all."""
    now = int(time.time())
    yield ana.access_token()
    yield ana.access_token(aud=[AUDIENCE, CLIENT])
    yield ana.provider.id_token("n", sub=ana.sub, sid=ana.sid, jti="x")
    yield ana.provider.id_token(sub=ana.sub, sid=ana.sid, jti="x", iat=now)
    token = ana.logout_token()
    yield f"{token}."
    yield token.rpartition(".")[0]
    yield f"{token[:-6]}AAAAAA"
    yield "x"
    repeated = f'{{"iss":"{ana.provider.url}","iss":"{ana.provider.url}"}}'
    yield forge.forge(forge.header("ES256"), repeated, algorithm="ES256")


async def test_other_kinds_of_tokens_are_none(nodes: list[Node], issuers: Issuers) -> None:
    """ID tokens and access tokens of the very same person, client and key, and halves of tokens."""
    ana = Somebody(provider=issuers.acme)
    client = ana.client(nodes[0])
    for token in of_other_kinds(ana):
        answer = await tell(nodes[0], token)
        assert (answer.status, answer.json["code"]) == (400, "logout_token_invalid"), token
    assert await is_in(client)


async def test_logout_token_is_no_credential(nodes: list[Node], issuers: Issuers) -> None:
    """Even one that says all that an access token does."""
    ana = Somebody(provider=issuers.acme)
    for head in ({}, {"typ": "JWT"}, {"typ": ...}):
        token = ana.logout_token(head=head, aud=[AUDIENCE], scope="chat", client_id=CLIENT)
        answer = await nodes[0].nobody(authorization=f"Bearer {token}").get("/api/settings")
        assert (answer.status, answer.json["code"]) == (401, "token_invalid")


async def test_provider_that_does_not_know_us_is_not_believed(
    nodes: list[Node], issuers: Issuers
) -> None:
    """Without a client id nobody can say that it means us."""
    ana = Somebody(provider=issuers.silent)
    client = ana.client(nodes[0])
    for changes in ({}, {"aud": AUDIENCE}, {"aud": ...}, {"aud": None}):
        assert (await tell(nodes[0], ana.logout_token(**changes))).status == 400
    assert await is_in(client)


# --- whom it ends -------------------------------------------------------------------------------


@pytest.mark.parametrize("leaves_out", ["sub", "sid", "nothing"])
async def test_only_its_own_people_are_signed_out(
    nodes: list[Node], issuers: Issuers, leaves_out: str
) -> None:
    """Not somebody of another issuer with the same name, nor with a session of the same name."""
    ana = Somebody(provider=issuers.acme)
    namesake = Somebody(provider=issuers.other, sub=ana.sub, sid=ana.sid)
    bo = Somebody(provider=issuers.acme)
    of_supabase = nodes[0].person(sub=ana.sub, session_id=ana.sid)
    others = [one.client(nodes[0]) for one in (namesake, bo)] + [of_supabase.client]
    others.append(await with_cookie(nodes[0], namesake.client(nodes[0], iat=int(time.time()))))
    for one in others:
        assert await is_in(one)
    changes = {} if leaves_out == "nothing" else {leaves_out: ...}
    assert (await tell(nodes[0], ana.logout_token(**changes))).status == 200
    for one in others:
        assert await is_in(one)
    assert not await is_in(ana.client(nodes[0]))


async def test_one_session_or_all(nodes: list[Node], issuers: Issuers) -> None:
    """With `sid` that session; without it every session of the person."""
    phone = Somebody(provider=issuers.acme)
    laptop = Somebody(provider=issuers.acme, sub=phone.sub)
    browser = await with_cookie(nodes[1], laptop.client(nodes[1]))
    assert (await tell(nodes[0], phone.logout_token())).status == 200
    assert not await is_in(phone.client(nodes[0]))
    assert await is_in(laptop.client(nodes[0]))
    assert await is_in(browser)
    assert (await tell(nodes[1], phone.logout_token(sid=...))).status == 200
    assert not await is_in(laptop.client(nodes[1]))
    assert not await is_in(browser)


async def test_cookies_of_what_names_no_session_end_too(
    nodes: list[Node], issuers: Issuers
) -> None:
    """A cookie made of such a token, and not that of a session which goes on."""
    plain = Somebody(provider=issuers.acme, sid=None)
    named = Somebody(provider=issuers.acme, sub=plain.sub)
    browsers = [await with_cookie(nodes[0], one.client(nodes[0])) for one in (plain, named)]
    ended = Somebody(provider=issuers.acme, sub=plain.sub)
    assert (await tell(nodes[0], ended.logout_token())).status == 200
    assert [await is_in(one) for one in browsers] == [False, True]
    assert not await is_in(plain.client(nodes[0]))


async def test_what_began_after_the_token_goes_on(nodes: list[Node], issuers: Issuers) -> None:
    """A token that comes late, as after a retry, ends nothing of who has signed in again."""
    before = Somebody(provider=issuers.acme, sid=None)
    late = before.logout_token(iat=int(time.time()) - 10)
    again = Somebody(provider=issuers.acme, sub=before.sub, ago_s=5)
    plain = Somebody(provider=issuers.acme, sub=before.sub, ago_s=5, sid=None)
    clients = [one.client(nodes[0]) for one in (again, plain)]
    clients += [await with_cookie(nodes[0], one) for one in clients]
    old = await with_cookie(nodes[0], before.client(nodes[0]))
    assert (await tell(nodes[0], late)).status == 200
    assert not await is_in(before.client(nodes[0]))
    assert not await is_in(old)
    for one in clients:
        assert await is_in(one)


async def test_token_works_once_on_all_servers(nodes: list[Node], issuers: Issuers) -> None:
    """Whoever found one cannot show it again, here or elsewhere, and no other of that name."""
    ana = Somebody(provider=issuers.acme)
    token = ana.logout_token(jti=(name := str(uuid4())))
    assert (await tell(nodes[0], token)).status == 200
    newer = ana.logout_token(jti=name, iat=int(time.time()) + 1)
    for node, shown in ((nodes[0], token), (nodes[1], token), (nodes[1], newer)):
        answer = await tell(node, shown)
        assert (answer.status, answer.json["code"]) == (400, "logout_token_used")
    namesake = Somebody(provider=issuers.other)
    assert (await tell(nodes[0], namesake.logout_token(jti=name))).status == 200


async def test_token_works_once_when_it_comes_twice_at_once(
    nodes: list[Node], database: MigratedDatabase, issuers: Issuers
) -> None:
    """Both servers have found it new before either writes that it was taken."""
    token = Somebody(provider=issuers.acme).logout_token()
    with psycopg.connect(database.admin_url) as holding:
        holding.execute("lock table chatkeep.shown_id_tokens in share row exclusive mode")
        telling = [asyncio.create_task(tell(node, token)) for node in nodes[:2]]
        await until(lambda: database.waiting_for_locks() == len(telling))
    answers = await asyncio.gather(*telling)
    taken, refused = sorted(answers, key=lambda one: one.status)
    assert taken.status == 200
    assert (refused.status, refused.json["code"]) == (400, "logout_token_used")


async def test_strict_routes_and_keys(nodes: list[Node], issuers: Issuers) -> None:
    """The database says the same as memory does; an API key is no session, and works on."""
    for changes in ({}, {"sid": ...}, {"sub": ...}):
        for sid in (str(uuid4()), None):
            if sid is None and "sub" in changes:
                continue  # nobody could tell whose that is
            ana = Somebody(provider=issuers.acme, sid=sid)
            client = ana.client(nodes[1], auth_time=int(time.time()))
            made = await client.post("/api/keys", {"name": "x", "scopes": ["models:read"]})
            assert made.status == 200, made.text
            authenticator = nodes[1].services.authenticator
            who = await authenticator.principal_of(ana.access_token())
            await authenticator.confirm(who)
            told = {"sid": str(uuid4()), **changes} if sid is None else changes
            assert (await tell(nodes[0], ana.logout_token(**told))).status == 200
            assert await nodes[1].services.embedded.revocations.is_revoked_now(who)
            with pytest.raises(TokenRevoked):
                await authenticator.confirm(who)
            key = nodes[1].nobody(authorization=f"Bearer {made.json['key']}")
            assert (await key.get("/v1/models")).status == 200


# --- what strangers learn, and can do -----------------------------------------------------------


async def test_nobody_learns_who_is_here(nodes: list[Node], issuers: Issuers) -> None:
    """One answer, whether there was a session to end or not."""
    ana, nobody = Somebody(provider=issuers.acme), Somebody(provider=issuers.acme)
    assert await is_in(ana.client(nodes[0]))
    seen = [await tell(nodes[0], one.logout_token()) for one in (ana, nobody)]
    answers = [
        (one.status, one.body, {k: v for k, v in one.headers.items() if k not in UNIQUE})
        for one in seen
    ]
    assert answers[0] == answers[1]


UNIQUE: Final = {"date", "x-request-id"}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", FORM, 400),
        (b"logout_token=", FORM, 400),
        (b"other=x", FORM, 400),
        (b"logout_token=x&logout_token=y", FORM, 400),
        (b"&".join(b"a=b" for _ in range(30)), FORM, 400),
        (b"logout_token=" + b"x" * 20_000, FORM, 400),
        (b"logout_token=\xff", FORM, 400),
        (b'{"logout_token":"x"}', {"content-type": "application/json"}, 415),
        (b"logout_token=x", {"content-type": "text/plain"}, 415),
        (b"logout_token=x", {"content-type": "multipart/form-data"}, 415),
        (b"x" * 2_000_000, FORM, 413),
    ],
    ids=lambda one: str(one)[:40],
)
async def test_form_that_cannot_be_read_is_refused(
    nodes: list[Node], body: bytes, headers: dict[str, str], status: int
) -> None:
    """Without a look at what is in it."""
    answer = await nodes[0].nobody().call("POST", ROUTE, data=body, headers=headers)
    assert answer.status == status, answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_issuer_that_is_away_may_try_again(
    nodes: list[Node], session: aiohttp.ClientSession, database: MigratedDatabase, project: str
) -> None:
    """Its token is refused for now, ends nothing, and is not used up."""
    settings = {"OIDC_AUDIENCE": AUDIENCE, "OIDC_CLIENT_ID": CLIENT}
    async with stand_in() as provider:
        ana = Somebody(provider=provider)
        node = await start_node(
            database.url, session, project, OIDC_ISSUER=provider.url, **settings
        )
    answer = await tell(node, ana.logout_token())
    assert (answer.status, answer.json["code"]) == (503, "issuer_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    await node.stop()


async def test_strangers_are_counted_and_providers_are_not(
    issuers: Issuers,
    database: MigratedDatabase,
    session: aiohttp.ClientSession,
    project: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is taken is given back; what is refused, a token shown twice too, is not."""
    monkeypatch.setitem(RATES, "token", Rate(3, 3000))
    node = await start_node(
        database.url,
        session,
        project,
        RATE_LIMITS="on",
        OIDC_ISSUER=issuers.acme.url,
        OIDC_AUDIENCE=AUDIENCE,
        OIDC_CLIENT_ID=CLIENT,
    )
    for _ in range(6):
        token = Somebody(provider=issuers.acme).logout_token()
        assert (await tell(node, token)).status == 200
    bad = [token, "x", Somebody(provider=issuers.acme).logout_token(aud="x")]
    assert [(await tell(node, one)).status for one in bad] == [400, 400, 400]
    answer = await tell(node, Somebody(provider=issuers.acme).logout_token())
    assert (answer.status, answer.json["code"]) == (429, "rate_limited")
    await node.stop()


async def test_it_is_written_down(nodes: list[Node], issuers: Issuers) -> None:
    """Who was signed out by whom, which of their sessions ended, and what was refused and why."""
    ana = Somebody(provider=issuers.acme)
    assert await is_in(ana.client(nodes[0]))
    assert (await tell(nodes[0], ana.logout_token())).status == 200
    found = await audit.listed(nodes[0].services.db, user_id=f"acme:{ana.sub}")
    said = [(one.action, one.outcome, one.reason, one.actor, one.issuer) for one in found[::-1]]
    assert said == [
        ("session.ended", "succeeded", "signed_out_elsewhere", "issuer", "acme"),
        ("logout_token.used", "succeeded", None, "issuer", "acme"),
    ]
    assert found[0].session_id == ana.sid
    late = {"iat": At(-120), "exp": At(-60)}
    for changes in (late, {"aud": "x"}, {"nonce": "n"}):
        await tell(nodes[0], ana.logout_token(**changes))
    await nodes[0].services.embedded.notices.write()
    refused = await audit.listed(
        nodes[0].services.db, action="logout_token.used", outcome="refused"
    )
    reasons = {one.reason for one in refused}
    assert {"token_expired", "token_wrong_audience", "token_invalid"} <= reasons
