"""The short way for who was seen before: taken for the plainest request, and for nothing else."""

from __future__ import annotations

import gc
from dataclasses import replace
from datetime import timedelta
from types import FunctionType, ModuleType, SimpleNamespace
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
#: As counted with Python 3.11, 3.12 and 3.13.
CALLS_OF_A_REQUEST = 22


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
        BEARER.replace(b"Bearer ", b"Bearer Bearer "),
        BEARER.replace(b"Bearer ", b"bearer "),
        BEARER.replace(b"Bearer ", b"Bearer"),
        BEARER.replace(b"Bearer ", b"Basic "),
        BEARER.replace(b"Bearer ", b"DPoP "),
        TOKEN.encode(),
        b"Bearer ",
        b"",
    ):
        assert not seen.knows(other)


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


@pytest.mark.parametrize("kind", ["session", "token"])
async def test_known_token_ends_by_each_of_its_names(kind: str) -> None:
    """Its own, or its session's: and only what its issuer calls so, and only that kind of it."""
    seen, token = Seen(), forge.forge(payload=claims(jti="its own"))
    who, shown = await seen.see(token), f"Bearer {token}".encode()
    name = str(who.session_id if kind == "session" else who.token_id)
    other = {"session": "token", "token": "session"}[kind]
    for key in ((kind, "another", name), (kind, "supabase", "another"), (other, "supabase", name)):
        seen.revocations._ended[key] = cast("Any", None)
    assert seen.knows(shown)
    seen.revocations._ended[kind, "supabase", name] = cast("Any", None)
    assert not seen.knows(shown)


@pytest.mark.parametrize("kind", ["user", "issuer"])
async def test_known_token_ends_with_everything_that_was_issued_before(kind: str) -> None:
    """Of its person, or of its issuer, up to that moment, and with nobody else's."""
    seen = Seen()
    who = await seen.see()
    assert who.issued_at is not None
    key = ("user", "", who.user_id) if kind == "user" else ("issuer", "supabase", "")
    then, later = who.issued_at, who.issued_at + timedelta(microseconds=1)
    memory = seen.revocations._not_before
    memory["user", "", "another"] = memory["issuer", "another", ""] = (later, later)
    assert seen.knows()
    memory[key] = (then, later)
    assert seen.knows()
    memory[key] = (later, later)
    assert not seen.knows()


async def test_no_token_is_kept() -> None:
    """What is remembered of one leads to who it speaks for, and not back to it."""
    seen = Seen()
    await seen.see()
    signature = TOKEN.rpartition(".")[2]
    assert seen.knows()
    kept, texts = [seen.issuers._verified], []
    passed = set[int]()
    while kept:
        one: Any = kept.pop()
        if id(one) in passed or isinstance(one, type | ModuleType | FunctionType):
            continue
        passed.add(id(one))
        kept += gc.get_referents(one)
        if isinstance(one, str | bytes):
            texts.append(one if isinstance(one, str) else one.decode("latin-1"))
    assert [text for text in texts if "ana@" in text]  # that it was looked at
    assert not [text for text in texts if signature in text]


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
