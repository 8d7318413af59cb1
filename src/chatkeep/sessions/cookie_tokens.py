"""The token in the session cookie: seven days, signed by this server, claims of its own.

It is signed with the same key as access tokens and can never be taken for one, nor one for
it: its type (`session+jwt`) and its audience are others, and the verifier looks at both.
The token names the version of its claims; `chatkeep.claims` brings older ones up to date.
Setting and clearing the cookie is not done here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from chatkeep import tokens
from chatkeep.claims import (
    ClaimCounts,
    Lookups,
    Upgrades,
    accounts_source,
    require_harmless,
)
from chatkeep.claims.counts import TOKEN_LIFE
from chatkeep.claims.declared import RESERVED, Default
from chatkeep.errors import ClaimsRefused, SessionExpired, SetupError, TokenInvalid
from chatkeep.ids import new_id
from chatkeep.issuers import ClaimNames, Issuers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chatkeep.claims import ClaimVersions
    from chatkeep.config import Settings
    from chatkeep.db import Database
    from chatkeep.issuers import Issuer
    from chatkeep.principal import Principal
    from chatkeep.signing_keys import KeyRing

TYPE: Final = "session+jwt"
AUDIENCE: Final = "chatkeep:session"
#: Name, value and attributes of the cookie together stay under the 4,096 bytes that every
#: browser keeps (RFC 6265 section 6.1).
MAX_TOKEN_BYTES: Final = 3900

_COOKIE: Final = "chatkeep_session"


def cookie_name(*, production: bool) -> str:
    """Return the cookie's name. `__Host-` is kept by browsers only over https."""
    return f"__Host-{_COOKIE}" if production else _COOKIE


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOwner:
    """Whose session a token is for, and how they signed in.

    *user_id*, *issuer* and *subject* are those of the `Principal` that it becomes, *amr*
    the proofs as in an access token. *reference* is what another issuer calls a session that
    it began; whatever ends that ends the token. No token outlives the session, which *ends_at*
    then: what was revoked is not remembered for longer. *next_aal* is what it has to get to
    before its owner's chats open.
    """

    user_id: str
    issuer: str
    subject: str
    session_id: UUID
    ends_at: datetime
    reference: str | None = None
    email: str | None = None
    aal: str = "aal1"
    next_aal: str | None = None
    amr: Sequence[Mapping[str, object]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionToken:
    """A token that was issued, and until when it is good."""

    token: str = field(repr=False)
    expires_at: datetime


class SessionTokens:
    """Issues and reads session tokens. Share one per process; `close` it at the end."""

    def __init__(
        self,
        db: Database,
        settings: Settings,
        versions: ClaimVersions,
        *,
        issuer: Issuer,
        signing_keys: KeyRing,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to speak for *issuer*, our own; nothing is asked yet.

        Raises:
            SetupError: the version to issue is not declared.
        """
        self.versions = versions
        self.cookie = cookie_name(production=settings.production)
        self.issued_version = _issued_version(settings, versions)
        self.counts = ClaimCounts(db, clock=clock)
        self._environment = settings.environment
        self._iss = issuer.rules.iss
        self._refused_roles = issuer.rules.refused_roles
        self._signing_keys = signing_keys
        self._clock = clock
        self._table = Issuers([_entry(issuer)], clock=clock)
        own = accounts_source(db, issuer)
        self._lookups = {one: Lookups(one or own) for one in versions.sources()}
        self._upgrades = Upgrades(versions, lookups=self._lookups, counts=self.counts)

    async def issue(
        self, owner: SessionOwner, claims: Mapping[str, object] = MappingProxyType({})
    ) -> SessionToken:
        """Return a token of the version to issue; *claims* stand instead of their fills.

        Raises:
            ClaimsRefused: a claim is missing, does not fit, or must not be in a token.
            SessionExpired: the session has ended.
            Unavailable: somebody who knows a claim is away.
        """
        version, now = self.issued_version, int(self._clock())
        longest = now + int(TOKEN_LIFE.total_seconds())
        expires_at = min(longest, int(owner.ends_at.timestamp()))
        if expires_at <= now:
            raise SessionExpired
        known = {
            "userId": owner.user_id,
            "email": owner.email,
            "environment": self._environment,
        }
        shape = self.versions.shape(version)
        given = {name: value for name, value in known.items() if name in shape}
        made = await self._upgrades.made(version, {**claims, **given})
        if made.get("role") in self._refused_roles:
            raise ClaimsRefused("The claim role is one that no person has.")
        said = self._registered(owner, now, expires_at) | _written_out(made)
        token = self._signed(said)
        self.counts.note_issued(version, now)
        return SessionToken(token=token, expires_at=datetime.fromtimestamp(expires_at, UTC))

    async def read(self, token: str) -> Principal:
        """Return who *token* speaks for, with the claims of the newest version.

        Whether its session was ended is not looked at.

        Raises:
            TokenInvalid: it does not verify or is not understood (its subclasses say more
                where allowed).
            Unavailable: a claim that it lacks cannot be filled now.
        """
        verified = await self._table.authenticate(token)
        said = verified.claims
        if not _is_a_session(said) or said.get("environment", self._environment) != (
            self._environment
        ):
            raise TokenInvalid
        claims = await self._upgrades.upgraded(said)
        if claims.get("role") in self._refused_roles:
            raise TokenInvalid
        role, email = claims.get("role"), claims.get("email")
        registered = {name: value for name, value in said.items() if name in RESERVED}
        return replace(
            verified,
            user_id=str(said["userId"]),
            issuer=str(said["idp"]),
            session_id=str(said.get("ref", said["sid"])),
            credential="cookie",
            email=email if isinstance(email, str) else None,
            roles=frozenset([role]) if isinstance(role, str) else frozenset(),
            scopes=_words(claims.get("permissions")),
            claims=MappingProxyType(registered | claims),
        )

    def carried(self, principal: Principal) -> dict[str, object]:
        """Return the claims of *principal* that only its sign-in knew, for its next token."""
        shape = self.versions.shape(self.issued_version)
        return {
            name: principal.claims[name]
            for name, claim in shape.items()
            if name in principal.claims
            and name not in {"userId", "email", "environment"}
            and (claim.fill is None or isinstance(claim.fill, Default))
        }

    def age(self, principal: Principal) -> float:
        """Return which part of its life the token of *principal* has behind it: 0 to 1."""
        if principal.issued_at is None or principal.expires_at is None:
            return 0.0
        began, ends = principal.issued_at.timestamp(), principal.expires_at.timestamp()
        return (self._clock() - began) / max(ends - began, 1.0)

    async def close(self) -> None:
        """Stop looking up, and keep the last counts."""
        for one in self._lookups.values():
            await one.close()
        await self._table.close()
        await self.counts.close()

    def _registered(self, owner: SessionOwner, now: int, expires_at: int) -> dict[str, object]:
        version = self.issued_version
        return {
            "iss": self._iss,
            "aud": AUDIENCE,
            "sub": owner.subject,
            "idp": owner.issuer,
            "sid": str(owner.session_id),
            **({} if owner.reference is None else {"ref": owner.reference}),
            "jti": new_id(),
            "iat": now,
            "exp": expires_at,
            "aal": owner.aal,
            **({} if owner.next_aal is None else {"next_aal": owner.next_aal}),
            "amr": list(owner.amr),
            "version": version,
            "oldestReader": self.versions.oldest_reader(version),
        }

    def _signed(self, claims: Mapping[str, object]) -> str:
        try:
            token = tokens.issue(claims, self._signing_keys.current, typ=TYPE)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ClaimsRefused("The claims are too large, or hold what JSON cannot.") from error
        if len(token) > MAX_TOKEN_BYTES:
            raise ClaimsRefused(
                f"The token would have {len(token)} bytes, of which a browser takes"
                f" {MAX_TOKEN_BYTES}: put less into it."
            )
        return token


def _issued_version(settings: Settings, versions: ClaimVersions) -> int:
    wanted = settings.claims_issue
    if wanted is None:
        return versions.newest
    if not versions.first <= wanted <= versions.newest:
        raise SetupError(
            f"CLAIMS_ISSUE is {wanted}, and the declared versions are"
            f" {versions.first} to {versions.newest}."
        )
    return wanted


def _entry(issuer: Issuer) -> Issuer:
    """Our own issuer's entry, but for session tokens and nothing else."""
    rules = replace(
        issuer.rules,
        audiences=frozenset({AUDIENCE}),
        types=frozenset({TYPE}),
        max_lifetime_s=int(TOKEN_LIFE.total_seconds()),
        may_be_bound=False,
    )
    # Not primary: the ids of people come from the token, whatever they look like.
    return replace(
        # Who knows the secret of a former issuer could not have made a session's token.
        issuer,
        rules=rules,
        secret=None,
        claim_names=ClaimNames(session_id="sid"),
        primary=False,
    )


def _is_a_session(said: Mapping[str, object]) -> bool:
    """Whether the token names person, issuer and session as only `issue` does."""
    sid = said.get("sid")
    try:
        is_id = isinstance(sid, str) and str(UUID(sid)) == sid
    except ValueError:
        return False
    if "ref" in said and not tokens.is_identifier(said["ref"]):
        return False
    return is_id and tokens.is_identifier(said.get("userId")) and isinstance(said.get("idp"), str)


def _words(value: object) -> frozenset[str]:
    return frozenset(value) if isinstance(value, list) else frozenset()


def _written_out(claims: Mapping[str, object]) -> dict[str, Any]:
    """Return *claims* as JSON can hold them, if they may be in a token."""
    try:
        written: dict[str, Any] = msgspec.to_builtins(claims)
    except (TypeError, ValueError, RecursionError) as error:
        raise ClaimsRefused("The claims hold what JSON cannot.") from error
    require_harmless(written)
    return written
