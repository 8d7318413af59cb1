"""Logout tokens: an OpenID provider's word that somebody has signed out there.

OpenID Connect Back-Channel Logout 1.0 sections 2.4 and 2.6. They are signed with the keys of
access and ID tokens, so what kind a token is must be said by what is in it. What has to end
because of one is not decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from chatkeep.errors import TokenInvalid
from chatkeep.tokens import ASYMMETRIC_ALGORITHMS, Rules, check, is_identifier

if TYPE_CHECKING:
    from chatkeep.issuers.issuer import Issuer, KeySource
    from chatkeep.tokens import Unverified

#: The member of `events` that makes a token a logout token (section 2.4).
EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
#: Section 2.4 recommends two minutes. Each has to be remembered for as long as it is good.
LONGEST_LIFE_S: Final = 3600
#: `logout+jwt` came late and is only recommended (section 2.4): many write `JWT`, or nothing.
#: Nothing else that is signed for a client has `events` and no `nonce`.
_TYPES: Final = frozenset({None, "jwt", "logout+jwt"})
_CLOCK_LEEWAY_S: Final = 5
_A_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutToken:
    """A verified logout token: *session* has ended, or without it all sessions of *subject*.

    One of the two is there. *issued_at* and *expires_at* are by the issuer's clock.
    """

    iss: str
    token_id: str
    subject: str | None
    session: str | None
    issued_at: datetime
    expires_at: datetime

    @property
    def ends_before(self) -> datetime:
        """What the issuer issued before this moment may have been issued before the log-out.

        Tokens tell in whole seconds when that was.
        """
        return self.issued_at.replace(microsecond=0) + _A_SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class RelyingParty:
    """As which clients an issuer knows us, and with which *keys* it signs what it tells them."""

    iss: str
    client_ids: frozenset[str]
    keys: KeySource

    async def verified(self, token: Unverified, *, now: float) -> LogoutToken:
        """Return what *token* says, which is then verified (section 2.6).

        *now* is in seconds since 1970.

        Raises:
            TokenInvalid: it is no logout token of this issuer for us (its subclasses say more
                where the signature verified).
            IssuerUnavailable: its key is not known, and the issuer cannot be asked.
        """
        rules = Rules(
            iss=self.iss,
            audiences=self.client_ids,
            algorithms=frozenset(ASYMMETRIC_ALGORITHMS),
            types=_TYPES,
            max_lifetime_s=LONGEST_LIFE_S,
            leeway_s=_CLOCK_LEEWAY_S,
            needs_subject=False,
        )
        rules.admit(token.header)
        _, key = await self.keys.find(token.header)
        check(token, key=key, rules=rules, now=now)
        return _read(token.claims, iss=self.iss)


def relying_party_of(issuer: Issuer) -> RelyingParty | None:
    """Return as whom *issuer* may tell us of log-outs; None if it cannot say whom it means."""
    iss, client_id, keys = issuer.rules.iss, issuer.endpoints.client_id, issuer.keys
    if issuer.preset != "oidc" or iss is None or client_id is None or keys is None:
        return None
    return RelyingParty(iss=iss, client_ids=frozenset({client_id}), keys=keys)


def _read(claims: dict[str, object], *, iss: str) -> LogoutToken:
    """Return what verified *claims* say, if they are those of a logout token (section 2.4)."""
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(EVENT), dict):
        raise TokenInvalid
    if "nonce" in claims or "iat" not in claims or "jti" not in claims:
        raise TokenInvalid
    subject, session = _name(claims, "sub"), _name(claims, "sid")
    if subject is None and session is None:
        raise TokenInvalid
    return LogoutToken(
        iss=iss,
        token_id=str(claims["jti"]),
        subject=subject,
        session=session,
        issued_at=_moment(claims["iat"]),
        expires_at=_moment(claims["exp"]),
    )


def _name(claims: dict[str, object], member: str) -> str | None:
    if member not in claims:
        return None
    if not is_identifier(claims[member]):
        raise TokenInvalid
    return str(claims[member])


def _moment(seconds: object) -> datetime:
    return datetime.fromtimestamp(float(str(seconds)), UTC)
