"""The short way for who was seen before: taken for the plainest request, and for nothing else."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from chatkeep.authentication import Authenticator
from chatkeep.db import Database
from chatkeep.issuers import Issuer, Issuers, StaticKeys
from chatkeep.revocations import TRUSTED_S, Revocations
from chatkeep.token_binding import Proofs, Proven, ShownKey
from chatkeep.tokens import KeySet
from chatkeep.web.guard import ChatkeepMiddleware
from chatkeep.web.presented import authorization_alone
from tests import forge
from tests.calls import calls
from tests.forge import NOW, RULES, claims, key_set

if TYPE_CHECKING:
    from chatkeep.principal import Principal

TOKEN = forge.forge()
BEARER = f"Bearer {TOKEN}".encode()
HEADERS = [(b"host", b"x"), (b"authorization", BEARER), (b"user-agent", b"tests")]
#: As counted with Python 3.11, and a few more: others inline other things.
CALLS_OF_A_REQUEST = 27


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: float) -> None:
        """Start at *now*."""
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Seen:
    """Somebody who decides who calls, and has seen `TOKEN`."""

    def __init__(self, **more: Any) -> None:  # noqa: ANN401 -- whatever an Authenticator takes
        """Have an issuer, its keys, a memory of what has ended, and clocks for both."""
        self.time, self.counted = Clock(NOW), Clock(0)
        self.keys = StaticKeys(key_set("HS256"))
        issuer = Issuer(
            name="supabase",
            preset="supabase",
            rules=replace(RULES, may_be_bound=True),
            secret=self.keys,
            primary=True,
        )
        self.issuers = Issuers([issuer], proofs=Proofs(public_url=None), clock=self.time)
        self.revocations = Revocations(Database(""), clock=self.counted)
        self.revocations._confirmed = 0
        self.authenticator = Authenticator(self.issuers, revocations=self.revocations, **more)

    async def see(self, token: str = TOKEN) -> Principal:
        """Verify *token*, as the first request with it does."""
        return await self.issuers.authenticate(token)

    def knows(self, shown: bytes = BEARER) -> bool:
        """Whether memory alone says who calls."""
        return self.authenticator.remembered(shown) is not None


async def test_token_that_was_seen_is_known() -> None:
    """Only after it was verified, and as the very same person."""
    seen = Seen()
    assert not seen.knows()
    who = await seen.see()
    assert seen.authenticator.remembered(BEARER) is who


async def test_only_the_whole_token_is_known() -> None:
    """Nothing that is spelled otherwise takes the short way."""
    seen = Seen()
    await seen.see()
    for other in (
        BEARER + b" ",
        BEARER[:-1],
        BEARER.replace(b"Bearer ", b"Bearer  "),
        TOKEN.encode(),
    ):
        assert not seen.knows(other)
    assert not seen.knows(f"DPoP {TOKEN}".encode())
    assert not seen.knows(b"")


async def test_known_token_expires() -> None:
    """It is taken until the second it says, and no longer."""
    seen = Seen()
    who = await seen.see()
    assert who.expires_at is not None
    seen.time.now = who.expires_at.timestamp() - 1
    assert seen.knows()
    seen.time.now = who.expires_at.timestamp() + RULES.leeway_s
    assert not seen.knows()


async def test_known_token_ends_with_the_keys_it_was_verified_with() -> None:
    """A changed set of keys is a reason to look again."""
    seen = Seen()
    await seen.see()
    seen.keys.replace(KeySet.of_secret(forge.SECRET))
    assert not seen.knows()


async def test_known_token_ends_with_its_session() -> None:
    """What has ended is not known, from the moment this process has heard of it."""
    seen = Seen()
    who = await seen.see()
    seen.revocations._ended["session", "supabase", str(who.session_id)] = cast("Any", None)
    assert not seen.knows()


async def test_memory_that_is_old_knows_nobody() -> None:
    """A node that is cut off asks the table."""
    seen = Seen()
    await seen.see()
    seen.counted.now = TRUSTED_S
    assert seen.knows()
    seen.counted.now = TRUSTED_S + 1
    assert not seen.knows()


async def test_bound_token_is_not_known() -> None:
    """It is good only with what it is bound to, which this way does not look at."""
    seen = Seen()
    bound = forge.forge(payload=claims(cnf={"jkt": "x"}))
    key = ShownKey(thumbprint="x", proof_id="1")
    assert await seen.issuers.authenticate(bound, Proven(key=key))
    assert not seen.knows(f"Bearer {bound}".encode())


async def test_issuer_that_is_asked_for_each_request_is_asked() -> None:
    """Better Auth's people, for one: a session may have ended there."""

    async def admit(principal: Principal) -> Principal:
        return principal

    seen = Seen(admissions={"supabase": admit})
    await seen.see()
    assert not seen.knows()


@pytest.mark.parametrize("name", [b"authorization", b"cookie", b"dpop", b"x-user-id"])
def test_second_credential_is_no_short_way(name: bytes) -> None:
    """Whatever could name another caller, before or after, is looked at with all care."""
    assert authorization_alone(HEADERS) == BEARER
    assert authorization_alone([*HEADERS, (name, b"x")]) is None
    assert authorization_alone([(name, b"x"), *HEADERS]) is None
    assert authorization_alone([(name, b"x")]) in {None, b"x" if name == b"authorization" else None}


async def test_request_of_a_known_caller_takes_few_calls() -> None:
    """Behind the middleware, from the server's call of it to the application's."""

    async def application(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 -- ASGI's
        found.append(scope["state"]["chatkeep_principal"])

    found: list[Principal] = []
    seen = Seen()
    who = await seen.see()
    middleware = ChatkeepMiddleware(application, required=True)
    middleware._guard._opened = cast("Any", SimpleNamespace(authenticator=seen.authenticator))
    scope = {"type": "http", "headers": HEADERS, "path": "/"}
    with calls() as counted:
        await middleware(scope, cast("Any", None), cast("Any", None))
    assert found == [who]
    assert 0 < counted.count <= CALLS_OF_A_REQUEST
