"""Back-channel logout: whoever signs out at an OpenID provider is out here, on every server.

OpenID Connect Back-Channel Logout 1.0. The provider says so with a signed token, which anybody
may send: it is believed only if that very issuer signed it for us, and ends nobody else's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatkeep.db import AUTH
from chatkeep.errors import LogoutTokenInvalid, LogoutTokenUsed, TokenInvalid
from chatkeep.issuers import relying_party_of
from chatkeep.sessions import ended_elsewhere
from chatkeep.tokens import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chatkeep.audit import Notices
    from chatkeep.db import Database
    from chatkeep.issuers import Issuer, Issuers, LogoutToken, RelyingParty
    from chatkeep.providers import Provider, Providers
    from chatkeep.revocations import Revocations
    from chatkeep.sessions.sightings import Sightings
    from chatkeep.tokens import Unverified


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """A verified token, and whom it is from.

    As an *issuer* whose tokens are taken here, as a *provider* that people sign in with, or both:
    each knows us as a client of its own.
    """

    token: LogoutToken
    issuer: Issuer | None = None
    provider: Provider | None = None


class BackChannelLogout:
    """Takes logout tokens. Share one per process."""

    def __init__(
        self,
        db: Database,
        issuers: Issuers,
        providers: Providers,
        *,
        people: str,
        revocations: Revocations,
        sightings: Sightings,
        notices: Notices,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Put the parts together; *clock* is in seconds since 1970.

        *people* is what the ids of our own issuer's people begin with.
        """
        self._db = db
        self._issuers = issuers
        self._providers = providers
        self._people = people
        self._revocations = revocations
        self._sightings = sightings
        self._notices = notices
        self._clock = clock

    async def take(self, text: str) -> None:
        """End what the logout token *text* is about, at once and everywhere.

        Nobody is told whether there was anything to end.

        Raises:
            LogoutTokenInvalid: it is none of an issuer that we know, meant for us.
            LogoutTokenUsed: it was taken before.
            IssuerUnavailable: its issuer cannot be asked for its keys.
            Unavailable: the database is away, and not everything may have ended: try again.
        """
        try:
            told = await self._verified(read(text))
            await ended_elsewhere.require_unused(self._db, told[0].token)
            await self._end(told)
        except TokenInvalid as error:
            self._notices.note("logout_token.used", reason=error.code)
            raise LogoutTokenInvalid from error
        except LogoutTokenUsed as error:
            self._notices.note("logout_token.used", reason=error.code)
            raise

    async def _verified(self, token: Unverified) -> list[_Told]:
        """Choose by what the token claims; only that issuer's keys are then tried."""
        told: list[_Told] = []
        refusal = TokenInvalid()
        for party, issuer, provider in self._named(token.claims.get("iss")):
            try:
                verified = await party.verified(token, now=self._clock())
            except TokenInvalid as error:
                refusal = error  # it may be meant for the other client
            else:
                told.append(_Told(token=verified, issuer=issuer, provider=provider))
        if not told:
            raise refusal
        return told

    def _named(self, iss: object) -> Iterator[tuple[RelyingParty, Issuer | None, Provider | None]]:
        for issuer in self._issuers:
            party = relying_party_of(issuer)
            if party is not None and party.iss == iss:
                yield party, issuer, None
        for provider in self._providers:
            party = provider.relying_party
            if party is not None and party.iss == iss:
                yield party, None, provider

    async def _end(self, told: list[_Told]) -> None:
        await self._sightings.write()
        name, user_id = "", None
        for one in told:
            if one.issuer is not None:
                name, user_id = one.issuer.name, await self._end_theirs(one.issuer, one.token)
            if one.provider is not None:
                name = name or one.provider.name
                await self._end_ours(one.token)
        await self._revocations.catch_up()
        # Last, so that the issuer may try again if anything before it failed.
        await ended_elsewhere.note_used(self._db, told[0].token, issuer=name, user_id=user_id)

    async def _end_theirs(self, issuer: Issuer, token: LogoutToken) -> str | None:
        """End what *issuer* began; return whose that is here, if the token says."""
        user_id = None if token.subject is None else issuer.user_id(token.subject)
        # Committed before the sessions are looked for: whoever makes a cookie of a token asks
        # afterwards whether that still holds, so its session is there by now, or is not made.
        await self._db.fetch_all(AUTH, *ended_elsewhere.revoking(issuer, token))
        await self._revocations.catch_up()
        await ended_elsewhere.end_sessions_of(self._db, issuer, token)
        return user_id

    async def _end_ours(self, token: LogoutToken) -> None:
        """End what began here with a sign-in there."""
        ended = await ended_elsewhere.end_sessions_begun_with(self._db, token, people=self._people)
        self._revocations.ended(ended)
