"""Who a request speaks for: its one credential, verified and admitted.

A request may carry one credential: a bearer token, a session cookie or, on a developer's
own machine, a name. They are looked for in that order; two that do not name the same
caller are refused, never mixed, and one that is present and bad is an error, never
"nobody". Nothing here knows HTTP: what a request carries comes as `Presented`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from chatkeep.errors import (
    AccountNotFound,
    CredentialsConflict,
    NoActiveSession,
    SetupError,
    TokenInvalid,
    TokenRevoked,
)
from chatkeep.personal_keys.texts import claims_to_be_one
from chatkeep.principal import Principal
from chatkeep.token_binding import NOTHING, Proven, Request

if TYPE_CHECKING:
    from chatkeep.audit import Notices
    from chatkeep.errors import ChatkeepError
    from chatkeep.issuers import Issuers
    from chatkeep.revocations import Revocations
    from chatkeep.token_binding import Proofs

Reader = Callable[[str], Awaitable[Principal]]
Admission = Callable[[Principal], Awaitable[Principal]]

_LONGEST_USER_ID = 255
_LONGEST_TOKEN = 8192
_DOTS_OF_A_JWT = 2
_REFUSALS = (TokenInvalid, CredentialsConflict, AccountNotFound, NoActiveSession)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What a request carries, before any of it is believed: every value of each kind.

    *authorization* are the whole header values; *cookies* has all values by name, because
    a browser sends two of a name when somebody planted one. *local*: everything that is
    said about the request's way here is this machine; a name without proof needs that.
    *proofs* are DPoP proofs for the *request*; *proven* is what it has without any.
    """

    authorization: tuple[str, ...] = ()
    cookies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    user_ids: tuple[str, ...] = ()
    local: bool = False
    proofs: tuple[str, ...] = ()
    request: Request | None = None
    proven: Proven = NOTHING


class Authenticator:
    """Decides who calls. Share one per process.

    *opaque* reads bearer tokens that are no JWT; *keys* reads people's API keys, which are
    refused without it: an application must decide what one may do there. *admissions* has,
    by issuer name, a last look at a verified token of that issuer, because a signature cannot
    say that the person has signed out since. *cookies* reads the cookies that sign somebody
    in, by name.
    """

    def __init__(  # noqa: PLR0913 -- each part by its name
        self,
        issuers: Issuers,
        *,
        revocations: Revocations | None = None,
        notices: Notices | None = None,
        opaque: Reader | None = None,
        keys: Reader | None = None,
        admissions: Mapping[str, Admission] | None = None,
        cookies: Mapping[str, Reader] | None = None,
        development_header: bool = False,
        proofs: Proofs | None = None,
    ) -> None:
        """Put the parts together; nothing is asked yet."""
        self._issuers = issuers
        self._revocations = revocations
        self._notices = notices
        self._opaque = opaque
        self._keys = keys
        self._admissions = admissions or {}
        self._cookies = cookies or {}
        self._development_header = development_header
        self._proofs = proofs

    async def identify(self, presented: Presented) -> Principal | None:
        """Return who calls, None when nothing that could sign somebody in was presented.

        Raises:
            TokenInvalid: a credential is there and bad (its subclasses say more where allowed).
            CredentialsConflict: there are several and they disagree.
            Unavailable: whoever must be asked about it is away.
        """
        try:
            bearer = await self._by_authorization(presented)
            found = await self.agreeing(bearer, presented)
        except _REFUSALS as error:
            self.note_refused(error)
            raise
        if found is not None and found.credential == "development_header" and self._notices:
            self._notices.note(
                "development_header.used", outcome="succeeded", user_id=found.user_id
            )
        return found

    def remembered(self, authorization: bytes) -> Principal | None:
        """Return who the one credential of a request speaks for, if memory alone can say it.

        *authorization* is the header's whole value. The same token again, by itself: that is
        how API clients call, and all that `identify` has to look for else is then not there.
        Whatever is new, odd, bound, to be asked for elsewhere or has ended is None, as is who
        owes a second factor, and `identify` decides.
        """
        found = self._issuers.remembered(authorization)
        if found is None or found.issuer in self._admissions:
            return None
        if self._revocations is not None and not self._revocations.is_known_to_hold(found):
            return None
        return found

    def note_refused(self, error: ChatkeepError) -> None:
        """Take notice for the audit log that a credential was refused: why, and never which."""
        if self._notices is not None:
            self._notices.note("credential.refused", reason=error.code)

    async def agreeing(self, bearer: Principal | None, presented: Presented) -> Principal | None:
        """Return who calls when *bearer* is who the `Authorization` header names, if anybody.

        For the surface that has its own words for a bad bearer; raises as `identify` does.
        """
        found = [
            bearer,
            *[await self._by_cookie(name, presented) for name in self._cookies],
            self._by_name(presented),
        ]
        callers = [one for one in found if one is not None]
        if len({one.user_id for one in callers}) > 1:
            raise CredentialsConflict
        return callers[0] if callers else None

    def proven_by(self, presented: Presented, token: str, *, scheme: str) -> Proven:
        """Return what the request has that *token* could be bound to.

        Raises:
            TokenInvalid: it comes with *scheme* "dpop" and proves no key.
        """
        seen = presented.proven
        if scheme != "dpop":
            return seen
        if self._proofs is None or presented.request is None or len(presented.proofs) != 1:
            raise TokenInvalid
        (proof,) = presented.proofs
        key = self._proofs.check(proof, presented.request, access_token=token)
        return replace(seen, key=key)

    async def principal_of(self, token: str, proven: Proven = NOTHING) -> Principal:
        """Return who *token* speaks for, whoever issued it and of whichever kind it is.

        One that is bound to something is refused unless the request has *proven* that.

        Raises:
            TokenInvalid: it does not verify, or is not admitted (any more).
            Unavailable: whoever must be asked about it is away.
        """
        if token.count(".") == _DOTS_OF_A_JWT:
            principal = await self._issuers.authenticate(token, proven)
            admit = self._admissions.get(principal.issuer)
            if admit is not None:
                principal = await admit(principal)
        elif (
            self._opaque is None
            or claims_to_be_one(token)
            or not 0 < len(token) <= _LONGEST_TOKEN
            or proven.key
        ):
            raise TokenInvalid
        else:
            principal = await self._opaque(token)
        return await self._admitted(principal)

    async def confirm(self, principal: Principal) -> None:
        """Let *principal* pass only if the database says so for this very request.

        Raises:
            TokenRevoked: their credential has ended.
            Unavailable: the database is away.
            SetupError: there is none, so nobody can be asked.
        """
        if self._revocations is None:
            raise SetupError("A strict route needs DATABASE_URL and CHATKEEP_SECRET of a server.")
        try:
            await self._revocations.confirm(principal)
        except TokenRevoked as error:
            self.note_refused(error)
            raise

    async def _by_authorization(self, presented: Presented) -> Principal | None:
        values = presented.authorization
        if not values:
            return None
        if len(values) > 1:
            raise CredentialsConflict
        scheme, _, token = values[0].partition(" ")
        if scheme.lower() not in {"bearer", "dpop"} or not token:
            raise TokenInvalid
        if claims_to_be_one(token):
            return await self._by_key(token, scheme.lower())
        proven = self.proven_by(presented, token, scheme=scheme.lower())
        return await self.principal_of(token, proven)

    async def _by_key(self, key: str, scheme: str) -> Principal:
        """A key is a credential of this one header: nothing else that takes tokens takes it."""
        if self._keys is None or scheme != "bearer":
            raise TokenInvalid
        return await self._admitted(await self._keys(key))

    async def _by_cookie(self, name: str, presented: Presented) -> Principal | None:
        values = presented.cookies.get(name, ())
        if not values:
            return None
        if len(values) > 1 or not 0 < len(values[0]) <= _LONGEST_TOKEN:
            # Which of two would be read first is the planter's choice (RFC 6265bis §8.6).
            raise TokenInvalid
        principal = await self._cookies[name](values[0])
        return await self._admitted(replace(principal, credential="cookie"))

    def _by_name(self, presented: Presented) -> Principal | None:
        """The development header. It is dead unless two settings say otherwise."""
        user_ids = presented.user_ids
        if not self._development_header or not user_ids:
            return None
        if len(user_ids) > 1:
            raise CredentialsConflict
        user_id = user_ids[0].strip()
        if (
            not presented.local
            or not user_id
            or len(user_id) > _LONGEST_USER_ID
            or not user_id.isprintable()
        ):
            raise TokenInvalid
        return Principal(
            user_id=user_id, issuer="development", subject=user_id, credential="development_header"
        )

    async def _admitted(self, principal: Principal) -> Principal:
        if self._revocations is not None and await self._revocations.is_revoked(principal):
            raise TokenRevoked
        return principal
