"""Sign-ins under way: a browser that was sent to a provider and has not come back yet.

A flow is found by its `state`, is good once and for ten minutes, and belongs to the browser
it was begun in (RFC 9700 section 4.7): whoever is made to follow the address with which
somebody else's browser came back is not signed in as them. What goes through the browser is
kept as hashes, and the nonce and the verifier are derived, so a copy of the table is worth
nothing. A flow that links a provider to an account is begun by its owner and opened
afterwards, in the same browser where one is known. Nothing here knows a provider.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, LiteralString

from chatkeep.db import AUTH, Query, run_within
from chatkeep.errors import BadOAuthState, FlowStateAlreadyUsed
from chatkeep.one_time_tokens import Challenge

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from chatkeep.db import Database
    from chatkeep.one_time_tokens import ChallengeMethod

LIFE: Final = timedelta(minutes=10)
#: Between asking for the address that links a provider and opening it in a browser.
OPEN_WITHIN: Final = timedelta(minutes=2)
_KEPT: Final = timedelta(hours=1)
_SWEPT_AT_MOST: Final = 100
_BYTES: Final = 32
_LONGEST: Final = 200

_COLUMNS: LiteralString = (
    " provider, redirect_to, code_challenge, code_challenge_method, linking_user, linking_session"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linking:
    """Whose account a provider is to be linked to, and in which session they asked for it."""

    user_id: UUID
    session_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A browser on its way. *challenge* is the application's, and None if it uses no PKCE."""

    provider: str
    redirect_to: str
    challenge: Challenge | None = None
    linking: Linking | None = None


@dataclass(frozen=True, slots=True)
class Secrets:
    """What only this server knows of a flow: derived from its state, and kept nowhere."""

    nonce: str = field(repr=False)
    verifier: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    provider: str
    redirect_to: str
    code_challenge: str | None
    code_challenge_method: ChallengeMethod | None
    linking_user: UUID | None
    linking_session: UUID | None

    def as_flow(self) -> Flow:
        challenge = linking = None
        if self.code_challenge is not None and self.code_challenge_method is not None:
            challenge = Challenge(text=self.code_challenge, method=self.code_challenge_method)
        if self.linking_user is not None and self.linking_session is not None:
            linking = Linking(user_id=self.linking_user, session_id=self.linking_session)
        return Flow(
            provider=self.provider,
            redirect_to=self.redirect_to,
            challenge=challenge,
            linking=linking,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unopened(_Row):
    browser_hash: bytes | None


@dataclass(frozen=True, slots=True)
class _Used:
    used: bool


def secrets_of(key: bytes, state: str) -> Secrets:
    """Return the nonce and the verifier of the flow *state*, under the server's *key*."""
    return Secrets(nonce=_derived(key, "nonce", state), verifier=_derived(key, "verifier", state))


def new_text() -> str:
    """Return a text that nobody can guess, for a state or a browser."""
    return secrets.token_urlsafe(_BYTES)


async def begin(db: Database, flow: Flow, *, browser: str | None) -> str:
    """Keep *flow* and return its state.

    One that links has to be opened then: in *browser*, or without it in any, see `open_in`.
    """
    state = new_text()
    challenge, linking = flow.challenge, flow.linking
    await db.fetch_all(
        AUTH,
        _SWEEP,
        Query(
            "insert into chatkeep.sign_in_flows (state_hash, provider, redirect_to,"
            " code_challenge, code_challenge_method, linking_user, linking_session,"
            " browser_hash, expires_at) values (%s, %s, %s, %s, %s, %s, %s, %s, now() + %s)"
            " returning false as used",
            (
                *(_hash_of(state), flow.provider, flow.redirect_to),
                *((challenge.text, challenge.method) if challenge else (None, None)),
                *((linking.user_id, linking.session_id) if linking else (None, None)),
                *(_hash_of(browser) if browser else None, OPEN_WITHIN if linking else LIFE),
            ),
            _Used,
        ),
    )
    return state


async def open_in(
    db: Database, state: str, *, browser: str, may_begin: Callable[[str], bool]
) -> Flow:
    """Open a flow that links, in the *browser* that began it.

    One that was begun in none is bound to the first that opens it, if *may_begin* says so of
    where it leads; if not, nobody opens it any more.

    Raises:
        BadOAuthState: there is none, or that was too long ago, or it is another browser's.
    """
    own = _hash_of(browser)
    async with db.acting_as(AUTH) as connection:
        (found,) = await run_within(
            connection,
            Query(
                "select browser_hash,"  # noqa: S608 -- of literals of this file
                + _COLUMNS
                + " from chatkeep.sign_in_flows where state_hash = %s"
                " and linking_user is not null and used_at is null and expires_at > now()"
                " for update",
                (_hash_of(state),),
                _Unopened,
            ),
        )
        if not found or found[0].browser_hash not in {None, own}:
            raise BadOAuthState
        flow: Flow = found[0].as_flow()
        right = found[0].browser_hash == own or may_begin(flow.redirect_to)
        await connection.execute(
            "update chatkeep.sign_in_flows set browser_hash = %s, expires_at = now() + %s,"
            " used_at = case when %s then null else now() end where state_hash = %s",
            (own, LIFE, right, _hash_of(state)),
        )
    if not right:
        raise BadOAuthState("Linking has to begin on a page of the application")
    return flow


async def take(db: Database, state: str, *, browser: str) -> Flow:
    """Return the flow with which *browser* comes back, and let nobody come back with it again.

    Another browser does not use it up.

    Raises:
        FlowStateAlreadyUsed: somebody has.
        BadOAuthState: there is none, or it is too old, or it is another browser's.
    """
    known, taken = await db.fetch_all(
        AUTH,
        Query(
            "select used_at is not null as used from chatkeep.sign_in_flows"
            " where state_hash = %s and browser_hash = %s",
            (_hash_of(state), _hash_of(browser)),
            _Used,
        ),
        Query(
            "update chatkeep.sign_in_flows set used_at = now()"  # noqa: S608 -- of literals of this file
            " where state_hash = %s and browser_hash = %s and used_at is null"
            " and expires_at > now() returning" + _COLUMNS,
            (_hash_of(state), _hash_of(browser)),
            _Row,
        ),
    )
    if taken:
        flow: Flow = taken[0].as_flow()
        return flow
    # Whoever comes second of two at once saw it unused: that is no other case.
    raise FlowStateAlreadyUsed if known and known[0].used else BadOAuthState


#: What has ended is of no use but to say so; a few go with each that is begun.
_SWEEP: Final = Query(
    "with few as materialized (select state_hash from chatkeep.sign_in_flows"
    "  where expires_at < now() - %s limit %s for update skip locked)"
    " delete from chatkeep.sign_in_flows f using few where f.state_hash = few.state_hash"
    " returning true as used",
    (_KEPT, _SWEPT_AT_MOST),
    _Used,
)


def _derived(key: bytes, purpose: str, state: str) -> str:
    digest = hmac.new(key, f"{purpose} {state}".encode(), hashlib.sha256).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _hash_of(text: str) -> bytes:
    return hashlib.sha256(text[:_LONGEST].encode("utf-8", "surrogatepass")).digest()
