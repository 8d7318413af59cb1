"""Tokens that are good only with what they are bound to: a key, a network, a device."""

from __future__ import annotations

import hashlib
import json
import time
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from multidict import CIMultiDict

from chatkeep import audit, tokens
from chatkeep.errors import RateLimited, TokenInvalid, Unavailable
from chatkeep.request_origin import RequestOrigin, request_origin
from chatkeep.token_binding import (
    PROOF_LIFE_S,
    Proofs,
    Proven,
    Request,
    ShownKey,
    thumbprint,
)
from tests.serving import token

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.serving import Answer, Node

PASSWORD = "Correct-Horse-42"
PREFIXES = ["/auth", "/api/auth", ""]


def b64(raw: bytes) -> str:
    """Return base64url without padding."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


class Holder:
    """A client that holds a key of its own, and signs proofs with it."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        self.jwk = {
            "kty": "EC",
            "crv": "P-256",
            "x": b64(numbers.x.to_bytes(32, "big")),
            "y": b64(numbers.y.to_bytes(32, "big")),
        }

    @property
    def jkt(self) -> str:
        """The thumbprint of the key."""
        return thumbprint(self.jwk)

    def proof(
        self,
        method: str,
        url: str,
        access_token: str | None = None,
        *,
        header: dict[str, Any] | None = None,
        **changes: object,
    ) -> str:
        """Return a proof for one request; ... as a value takes a claim out."""
        said = {"htm": method, "htu": url, "iat": int(time.time()), "jti": str(uuid4())}
        if access_token is not None:
            said["ath"] = b64(hashlib.sha256(access_token.encode()).digest())
        claims = {name: value for name, value in {**said, **changes}.items() if value is not ...}
        head = {"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk, **(header or {})}
        signed = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    async def call(
        self, node: Node, method: str, path: str, json: object = None, access: str | None = None
    ) -> Answer:
        """Send a request with a proof, and with *access* if that is given."""
        headers = {"dpop": self.proof(method, node.url + path.partition("?")[0], access)}
        if access is not None:
            headers["authorization"] = f"DPoP {access}"
        return await node.nobody().call(method, path, json=json, headers=headers)

    async def sign_up(self, node: Node) -> dict[str, Any]:
        """Make an account and sign in; return the tokens."""
        body = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
        answer = await self.call(node, "POST", "/auth/v1/signup", body)
        assert answer.status == 200, answer.text
        grant: dict[str, Any] = answer.json
        return grant


async def test_token_of_a_key_is_good_with_its_proof_and_in_no_other_way(node: Node) -> None:
    """A46: as a bearer, with another's key, or without a proof it is like any bad token."""
    ana, thief = Holder(), Holder()
    grant = await ana.sign_up(node)
    access = grant["access_token"]
    assert grant["token_type"] == "DPoP"
    assert tokens.read(access).claims["cnf"] == {"jkt": ana.jkt}
    for path in ("/auth/me", "/api/v1/chat", "/auth/v1/user"):
        assert (await ana.call(node, "GET", path, access=access)).status == 200
        bearer = await node.nobody(authorization=f"Bearer {access}").get(path)
        stolen = await thief.call(node, "GET", path, access=access)
        without = await node.nobody(authorization=f"DPoP {access}").get(path)
        assert {bearer.status, stolen.status, without.status} <= {401, 403}
        assert bearer.json["code"] == stolen.json["code"] == without.json["code"]
    validated = await node.nobody().post("/auth/token/validate", {"token": access})
    assert (validated.json["valid"], validated.json["reason"]) == (False, "invalid")
    page = {"origin": node.url, "authorization": f"DPoP {access}"}
    assert (await node.nobody(**page).post("/auth/session")).status == 401


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_refresh_token_of_a_key_needs_the_key(node: Node, prefix: str) -> None:
    """Whoever stole it renews nothing, and does not end the session either."""
    ana, thief = Holder(), Holder()
    grant = await ana.sign_up(node)
    route = f"{prefix}/token/refresh"
    body = {"refresh_token": grant["refresh_token"]}
    assert (await node.nobody().post(route, body)).status == 401
    assert (await thief.call(node, "POST", route, body)).status == 401
    gotrue = "/auth/v1/token?grant_type=refresh_token"
    assert (await node.nobody().post(gotrue, body)).json["error_code"] == "refresh_token_not_found"
    renewed = await ana.call(node, "POST", route, body)
    assert renewed.status == 200, renewed.text
    assert renewed.json["token_type"] == "DPoP"
    access = renewed.json["access_token"]
    assert tokens.read(access).claims["cnf"] == {"jkt": ana.jkt}
    assert (await ana.call(node, "GET", "/auth/me", access=access)).status == 200
    again = await ana.call(node, "POST", gotrue, {"refresh_token": renewed.json["refresh_token"]})
    assert (again.status, again.json["token_type"]) == (200, "DPoP")


async def test_log_calls_a_refused_copy_of_a_bound_token_no_refresh(node: Node) -> None:
    """The token before the newest is given its successor again, to the holder of the key only."""
    ana, thief = Holder(), Holder()
    grant = await ana.sign_up(node)
    gotrue, body = (
        "/auth/v1/token?grant_type=refresh_token",
        {"refresh_token": grant["refresh_token"]},
    )
    assert (await ana.call(node, "POST", gotrue, body)).status == 200
    assert (await thief.call(node, "POST", gotrue, body)).status == 400

    async def given_again() -> int:
        found = await audit.listed(
            node.services.db, user_id=f"embedded:{grant['user']['id']}", action="session.refreshed"
        )
        return sum(one.reason == "given_again" for one in found)

    assert await given_again() == 0
    assert (await ana.call(node, "POST", gotrue, body)).status == 200
    assert await given_again() == 1


async def test_unbound_tokens_stay_as_they_were(node: Node) -> None:
    """A bearer is a bearer; with the scheme of a bound token it is refused (RFC 9449 §7.1)."""
    ana = Holder()
    body = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
    grant = (await node.nobody().post("/auth/v1/signup", body)).json
    assert grant["token_type"] == "bearer"
    assert "cnf" not in tokens.read(grant["access_token"]).claims
    as_bound = await ana.call(node, "GET", "/auth/me", access=grant["access_token"])
    assert (as_bound.status, as_bound.json["code"]) == (401, "token_invalid")
    refreshed = await ana.call(
        node, "POST", "/auth/token/refresh", {"refresh_token": grant["refresh_token"]}
    )
    assert (refreshed.status, refreshed.json["token_type"]) == (200, "bearer")


async def test_token_of_another_issuer_is_held_to_its_key(node: Node) -> None:
    """`cnf` is honoured whoever signed it; what it names and we do not know is refused."""
    ana, thief = Holder(), Holder()
    bound = token(node.project, str(uuid4()), "ES256", cnf={"jkt": ana.jkt})
    assert (await ana.call(node, "GET", "/auth/me", access=bound)).status == 200
    assert (await thief.call(node, "GET", "/auth/me", access=bound)).status == 401
    for cnf in ({"jkt": ana.jkt, "x": 1}, {"x5t#S256": ana.jkt}, {}, "x", None, {"jkt": None}):
        odd = token(node.project, str(uuid4()), "ES256", cnf=cnf)
        assert (await ana.call(node, "GET", "/auth/me", access=odd)).status == 401, cnf
        assert (await node.nobody(authorization=f"Bearer {odd}").get("/auth/me")).status == 401


# --- proofs -------------------------------------------------------------------------------------

HERE = Request(method="POST", url="https://chat.example/auth/v1/token")


def judged(proof: str, *, access_token: str | None = None, later: float = 0) -> str:
    """Return the thumbprint of the key that *proof* proves to a server that saw none before."""
    proofs = Proofs(public_url=None, clock=lambda: time.time() + later)
    return proofs.check(proof, HERE, access_token=access_token).thumbprint


@pytest.mark.parametrize(
    "changes",
    [
        {"htm": "GET"},
        {"htm": "post"},
        {"htm": ...},
        {"htu": "https://evil.example/auth/v1/token"},
        {"htu": "http://chat.example/auth/v1/token"},
        {"htu": "https://chat.example:8443/auth/v1/token"},
        {"htu": "https://chat.example/auth/v1/user"},
        {"htu": "https://chat.example/auth/v1/token/"},
        {"htu": "https://a@chat.example/auth/v1/token"},
        {"htu": "https://[chat.example/auth/v1/token"},
        {"htu": ...},
        {"htu": 1},
        {"iat": ...},
        {"iat": "now"},
        {"iat": True},
        {"iat": 0},
        {"iat": 4_000_000_000},
        {"iat": 10**400},
        {"iat": -(10**400)},
        {"jti": ...},
        {"jti": ""},
        {"jti": 1},
        {"ath": ...},
        {"ath": "x"},
        {"header": {"typ": "JWT"}},
        {"header": {"alg": "none"}},
        {"header": {"alg": "HS256"}},
        {"header": {"alg": "ES384"}},
        {"header": {"jwk": None}},
        {"header": {"jwk": {"kty": "oct", "k": "eA"}}},
        {"header": {"jwk": Holder().jwk}},
        {"header": {"jwk": {**Holder().jwk, "d": "eA"}}},
        {"header": {"jku": "https://evil.example"}},
        {"header": {"crit": ["b64"]}},
    ],
    ids=str,
)
def test_proof_that_proves_something_else_is_refused(changes: dict[str, Any]) -> None:
    """Another request, moment, token or key; or no key at all (RFC 9449 section 4.3)."""
    ana = Holder()
    assert judged(ana.proof(HERE.method, HERE.url, "token"), access_token="token") == ana.jkt
    with pytest.raises(TokenInvalid):
        judged(ana.proof(HERE.method, HERE.url, "token", **changes), access_token="token")


def test_address_is_compared_as_addresses_are() -> None:
    """Case of scheme and host, the default port and a query mean nothing."""
    ana = Holder()
    for url in ("HTTPS://Chat.Example:443/auth/v1/token", f"{HERE.url}?grant_type=x#y"):
        assert judged(ana.proof("POST", url)) == ana.jkt
    proofs = Proofs(public_url="https://chat.example")
    behind = Request(method="POST", url="http://10.0.0.7:8000/auth/v1/token")
    assert proofs.check(ana.proof("POST", HERE.url), behind).thumbprint == ana.jkt
    nowhere = Request(method="POST", url="http://[::1/auth/v1/token")
    with pytest.raises(TokenInvalid):
        proofs.check(ana.proof("POST", HERE.url), nowhere)


def test_proof_is_good_for_a_minute() -> None:
    """By either clock, whichever is ahead."""
    ana = Holder()
    for later in (PROOF_LIFE_S + 2, -PROOF_LIFE_S - 2):
        with pytest.raises(TokenInvalid):
            judged(ana.proof(HERE.method, HERE.url), later=later)


class Time:
    """A clock that stands until it is put forward."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def proven(number: int) -> ShownKey:
    """Return a key as the proof of this number showed it."""
    return ShownKey(thumbprint="ana's", proof_id=str(number))


async def test_proof_is_good_once_and_remembered_no_longer_than_it_could_be_copied() -> None:
    """A copy is refused until it is too old anyway; then there is nothing left of it."""
    clock = Time()
    proofs = Proofs(public_url=None, clock=clock)
    await proofs.spend(proven(1), owner="ana")
    clock.now += 2 * PROOF_LIFE_S
    with pytest.raises(TokenInvalid):
        await proofs.spend(proven(1), owner="ana")
    clock.now += 1
    await proofs.spend(proven(2), owner="ana")
    assert len(proofs._spent) == 1
    assert proofs._owners == {"ana": 1}


async def test_one_request_may_look_at_its_proof_twice() -> None:
    """Whoever calls and what is made for them are two looks at one request."""
    proofs = Proofs(public_url=None)
    before = request_origin.set(RequestOrigin(request_id="one"))
    try:
        await proofs.spend(proven(1))
        await proofs.spend(proven(1), owner="ana")
        request_origin.set(RequestOrigin(request_id="two"))
        with pytest.raises(TokenInvalid):
            await proofs.spend(proven(1))
    finally:
        request_origin.reset(before)


async def test_nobody_fills_the_memory_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one person, nor people who are not signed in: the others go on."""
    monkeypatch.setattr("chatkeep.token_binding._OF_ONE_AT_MOST", 3)
    monkeypatch.setattr("chatkeep.token_binding._OF_NOBODY_AT_MOST", 5)
    monkeypatch.setattr("chatkeep.token_binding._REMEMBERED_AT_MOST", 10)
    clock = Time()
    proofs = Proofs(public_url=None, clock=clock)
    for number in range(5):
        await proofs.spend(proven(number))
    with pytest.raises(Unavailable):
        await proofs.spend(proven(5))
    for number in range(5, 8):
        await proofs.spend(proven(number), owner="eve")
    with pytest.raises(RateLimited):
        await proofs.spend(proven(8), owner="eve")
    for number in range(8, 10):
        await proofs.spend(proven(number), owner="ana")
    with pytest.raises(Unavailable):  # rather none than one that could be a copy
        await proofs.spend(proven(10), owner="ana")
    clock.now += 2 * PROOF_LIFE_S + 1
    await proofs.spend(proven(11), owner="eve")


async def test_strangers_leave_nothing_in_the_memory(node: Node) -> None:
    """What comes with a token that is no good is not remembered, however well it is signed."""
    ana, thief = Holder(), Holder()
    access = (await ana.sign_up(node))["access_token"]
    known = len(node.services.proofs._spent)
    url = f"{node.url}/auth/me"
    for token_shown in (access, access[:-3], "x", "a.b.c"):
        proof = thief.proof("GET", url, token_shown)
        headers = {"dpop": proof, "authorization": f"DPoP {token_shown}"}
        assert (await node.nobody(**headers).get("/auth/me")).status == 401
    assert len(node.services.proofs._spent) == known
    assert (await ana.call(node, "GET", "/auth/me", access=access)).status == 200
    assert len(node.services.proofs._spent) == known + 1


async def test_proof_names_the_method_that_was_sent(node: Node) -> None:
    """HEAD is answered as GET is, and proven as HEAD (RFC 9449 section 4.3)."""
    ana = Holder()
    access = (await ana.sign_up(node))["access_token"]
    assert (await ana.call(node, "HEAD", "/auth/me", access=access)).status == 200
    headers = {
        "dpop": ana.proof("GET", f"{node.url}/auth/me", access),
        "authorization": f"DPoP {access}",
    }
    assert (await node.nobody().call("HEAD", "/auth/me", headers=headers)).status == 401


async def test_sign_in_takes_one_proof_and_not_two(node: Node) -> None:
    """Which of them would count could be read differently by two programs."""
    body = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
    path = "/auth/v1/signup"
    proofs = [("dpop", Holder().proof("POST", node.url + path)) for _ in range(2)]
    nobody = node.nobody()
    for sent, status in ((proofs, 403), (proofs[:1], 200)):
        async with nobody._session.post(
            nobody.url + path, json=body, headers=CIMultiDict(sent)
        ) as answer:
            assert answer.status == status, await answer.text()


async def test_replayed_request_is_refused(node: Node) -> None:
    """The very same request again, by whoever saw it."""
    ana = Holder()
    access = (await ana.sign_up(node))["access_token"]
    proof = ana.proof("GET", f"{node.url}/auth/me", access)
    headers = {"dpop": proof, "authorization": f"DPoP {access}"}
    assert (await node.nobody(**headers).get("/auth/me")).status == 200
    assert (await node.nobody(**headers).get("/auth/me")).status == 401


def test_example_of_the_standard_has_its_thumbprint() -> None:
    """RFC 7638 section 3.1."""
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKR"
        "XjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaS"
        "qzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINH"
        "aQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    jwk = {"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


# --- a network or a device ----------------------------------------------------------------------


def test_network_and_device_are_what_they_say() -> None:
    """An address in IPv4, a /64 in IPv6, a browser and system without version."""

    def bound(
        kind: str, *, address: str | None = None, user_agent: str | None = None
    ) -> str | None:
        return Proven(address=address, user_agent=user_agent).binding(kind)

    home = bound("address", address="2001:db8::1")
    assert home == bound("address", address="2001:db8::ffff:1")
    assert home != bound("address", address="2001:db8:0:1::1")
    assert bound("address", address="192.0.2.1") != bound("address", address="192.0.2.2")
    assert bound("address", address="unknown") is None
    old, new = (f"Mozilla/5.0 (X11; Linux) Firefox/{one}.0" for one in (140, 150))
    assert bound("device", user_agent=old) == bound("device", user_agent=new)
    assert bound("device", user_agent="curl/8") != bound("device", user_agent=new)
    assert bound("none", address="192.0.2.1", user_agent=old) is None


async def test_token_bound_to_its_network_is_refused_from_another(start: StartNode) -> None:
    """Access and refresh token alike; the session goes on where it began."""
    node = await start(TOKEN_BINDING="address", TRUSTED_PROXIES="127.0.0.1")
    home, away = (node.nobody(x_forwarded_for=one) for one in ("192.0.2.7", "192.0.2.8"))
    body = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
    grant = (await home.post("/auth/v1/signup", body)).json
    bearer = {"authorization": f"Bearer {grant['access_token']}"}
    assert (await home.get("/auth/me", headers=bearer)).status == 200
    assert (await away.get("/auth/me", headers=bearer)).json["code"] == "token_invalid"
    shown = {"refresh_token": grant["refresh_token"]}
    assert (await away.post("/auth/token/refresh", shown)).status == 401
    assert (await home.post("/auth/token/refresh", shown)).status == 200


async def test_token_bound_to_its_device_is_refused_with_another(start: StartNode) -> None:
    """Off by default, and by what the program says of itself."""
    node = await start(TOKEN_BINDING="device")
    firefox = node.nobody(user_agent="Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0")
    body = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
    grant = (await firefox.post("/auth/v1/signup", body)).json
    bearer = {"authorization": f"Bearer {grant['access_token']}"}
    assert (await firefox.get("/auth/me", headers=bearer)).status == 200
    other = firefox.but(user_agent="curl/8.0")
    assert (await other.get("/auth/me", headers=bearer)).json["code"] == "token_invalid"
