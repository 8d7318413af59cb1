"""Sessions that other issuers began, renewed and ended at the issuer and here.

Whose a refresh token is must be said: by the cookie it came in, by name, or by the access
token beside it; where only one issuer renews tokens it is that one's. It is never tried at
several, because whoever is shown a token has it. What comes back is verified like any token,
and must be the same person's.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from chatkeep.errors import (
    BadRequest,
    IssuerUnavailable,
    RefreshTokenRefused,
    TokenInvalid,
    TokenRevoked,
)
from chatkeep.principal import Principal
from chatkeep.upstream_tokens import is_refresh_token

if TYPE_CHECKING:
    from chatkeep.authentication import Authenticator
    from chatkeep.issuers import Issuer, Issuers
    from chatkeep.revocations import Revocations
    from chatkeep.sessions.refresh_cookies import Kept
    from chatkeep.upstream_tokens import Successor, UpstreamTokens

_log = logging.getLogger(__name__)

#: A refresh token that was logged out here is refused here for so long.
_REMEMBERED: Final = timedelta(days=400)
#: A refresh token does not say when it was issued: it has ended by its own name, and by no moment.
_WHENEVER: Final = datetime.max.replace(tzinfo=UTC)

AtIssuer = Literal["ended", "not asked", "unavailable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A refresh token, and everything that was said of whose it is."""

    token: str = field(repr=False)
    issuer: str | None = None
    kept: Kept | None = None
    access_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """What a refresh gave, verified: who it speaks for, and from whom it is."""

    principal: Principal
    successor: Successor


class ForeignSessions:
    """Renews and ends them. Share one per process."""

    def __init__(
        self,
        issuers: Issuers,
        upstream: UpstreamTokens,
        authenticator: Authenticator,
        revocations: Revocations,
    ) -> None:
        """Put the parts together."""
        self._issuers = issuers
        self._upstream = upstream
        self._authenticator = authenticator
        self._revocations = revocations

    async def renew(self, shown: Shown, *, address: str | None) -> Renewed:
        """Exchange the refresh token at its issuer.

        Raises:
            BadRequest: it is no refresh token, or nobody says whose it is.
            RefreshTokenRefused: its issuer does not take it, or gave what is not the same
                person's; or it was logged out here.
            TokenRevoked: its session was ended here.
            TokenInvalid: the access token beside it does not verify.
            IssuerUnavailable: its issuer cannot be asked.
        """
        if not is_refresh_token(shown.token):
            raise BadRequest("That is no refresh token.")
        beside = None
        if shown.access_token is not None:
            beside = await self._issuers.spoke_for(shown.access_token)
        issuer = self._issuer_of(shown, beside)
        if await self._revocations.is_revoked(_standing_for(issuer, shown.token)):
            raise RefreshTokenRefused
        subjects = {one for one in (_kept_for(shown), beside and beside.subject) if one}
        successor = await self._upstream.refresh(issuer, shown.token, address=address)
        return await self._verified(issuer, successor, subjects)

    async def end(
        self, issuer_name: str, *, access_token: str | None, refresh_token: str | None
    ) -> AtIssuer:
        """End at its issuer what these tokens belong to, and refuse the refresh token here."""
        issuer = next((one for one in self._issuers if one.name == issuer_name), None)
        if issuer is None:
            return "not asked"
        if refresh_token is not None:
            token_id, until = _id_of(refresh_token), datetime.now(UTC) + _REMEMBERED
            await self._revocations.revoke_token(issuer.name, token_id, until=until)
        try:
            done = await self._upstream.revoke(
                issuer, access_token=access_token, refresh_token=refresh_token
            )
        except IssuerUnavailable:
            return "unavailable"
        return "ended" if done else "not asked"

    def _issuer_of(self, shown: Shown, beside: Principal | None) -> Issuer:
        said = [
            shown.kept.issuer if shown.kept is not None else None,
            shown.issuer,
            beside.issuer if beside is not None else None,
        ]
        found = [self._upstream.named(one) for one in said if one is not None]
        if None in found:
            raise BadRequest("The tokens of this issuer are not refreshed here.")
        issuers = {one.name: one for one in found if one is not None}
        if len(issuers) > 1:
            raise BadRequest("The request names two issuers: whose refresh token is it?")
        if issuers:
            return next(iter(issuers.values()))
        only = self._upstream.only_one()
        if only is None:
            raise BadRequest("Say whose refresh token that is: name its issuer as `issuer`.")
        return only

    async def _verified(self, issuer: Issuer, successor: Successor, subjects: set[str]) -> Renewed:
        try:
            principal = await self._authenticator.principal_of(successor.access_token)
        except TokenRevoked:
            raise  # the session was ended here, whatever its issuer thinks
        except TokenInvalid as error:
            _log.warning("%s gave an access token that is not taken here", issuer.name)
            raise RefreshTokenRefused from error
        if principal.issuer != issuer.name or subjects - {principal.subject}:
            _log.warning("%s renewed the token of somebody else", issuer.name)
            raise RefreshTokenRefused
        return Renewed(principal=principal, successor=successor)


def _kept_for(shown: Shown) -> str | None:
    return None if shown.kept is None else shown.kept.subject


def _id_of(refresh_token: str) -> str:
    return "refresh:" + hashlib.sha256(refresh_token.encode()).hexdigest()


def _standing_for(issuer: Issuer, refresh_token: str) -> Principal:
    """A caller whose credential is the refresh token, to ask whether that was ended."""
    return Principal(
        user_id="",
        issuer=issuer.name,
        subject="",
        token_id=_id_of(refresh_token),
        issued_at=_WHENEVER,
    )
