"""The table of issuers: whose token is it, and who does it speak for.

Keys never cross issuers. Revocation is somebody else's: a principal returned here is
verified, not yet admitted.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chatkeep.errors import SetupError, TokenInvalid
from chatkeep.issuers.issuer import NAME
from chatkeep.token_binding import NOTHING
from chatkeep.tokens import KeySet, Unverified, check, read, token_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chatkeep.issuers.issuer import Issuer, KeySource
    from chatkeep.principal import Principal
    from chatkeep.token_binding import Proofs, Proven

#: Part of what is remembered of a token, so that the header that shows it is looked up whole:
#: to take the token out first would be a second copy of it, for each request.
_BEFORE_A_TOKEN: Final = b"Bearer "
_MAX_VERIFIED: Final = 8192
#: All remembered tokens together. Claims take up to twenty times the memory of their text, and
#: people write some of them themselves.
_MAX_VERIFIED_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class _Verified:
    """A verdict, and what has to be so still for it to stand."""

    principal: Principal
    until: float
    source: KeySource
    keys: KeySet
    token_bytes: int
    is_enough: bool


class Issuers:
    """All issuers whose tokens are taken here.

    *proofs* remembers which proofs of a key came with a token; without it none is taken.

    Raises:
        SetupError: two of them could not be told apart.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        proofs: Proofs | None = None,
        clock: Callable[[], float] = time.time,
        max_verified: int = _MAX_VERIFIED,
        max_verified_bytes: int = _MAX_VERIFIED_BYTES,
    ) -> None:
        """Index *issuers*; nothing is fetched yet."""
        self._issuers = tuple(issuers)
        if problems := _problems(self._issuers):
            raise SetupError(*problems)
        self._by_iss = {one.rules.iss: one for one in self._issuers}
        self._proofs = proofs
        self._clock = clock
        self._max_verified = max_verified
        self._max_verified_bytes = max_verified_bytes
        self._verified: dict[bytes, _Verified] = {}
        self._verified_bytes = 0

    def __iter__(self) -> Iterator[Issuer]:
        """Go through the issuers in the order they were given."""
        return iter(self._issuers)

    async def authenticate(self, token: str, proven: Proven = NOTHING) -> Principal:
        """Return who *token* speaks for. Whether that was revoked is not looked at.

        A token that is bound to something is refused unless the request has *proven* that, by
        a proof that no other request has shown.

        Raises:
            TokenInvalid, TokenExpired, TokenNotActive, TokenWrongAudience: as `tokens.verify`.
            IssuerUnavailable: it names a key that we cannot ask its issuer for now.
            RateLimited, Unavailable: too many proofs, see `Proofs.spend`.
        """
        principal = await self._found(token)
        if not proven.has(principal.claims.get("cnf")):
            raise TokenInvalid
        if proven.key is not None:
            if self._proofs is None:
                raise TokenInvalid
            await self._proofs.spend(proven.key, owner=principal.user_id)
        return principal

    async def _found(self, token: str) -> Principal:
        # The whole text is the key: tokens that begin alike are common.
        digest = hashlib.sha256(_BEFORE_A_TOKEN + token_bytes(token)).digest()
        seen = self._verified.get(digest)
        if seen and seen.source.current() is seen.keys and self._clock() < seen.until:
            return seen.principal
        self._forget(digest)
        verified = await self._verify(read(token), self._clock())
        self._remember(digest, verified)
        return verified.principal

    def remembered(self, authorization: bytes) -> Principal | None:
        """Return who a token speaks for if it was seen and still holds, else None: `authenticate`.

        *authorization* is the whole value of the header, and that of no other scheme is known.
        For requests that show nothing else, at a tenth of the cost of looking at all there
        could be. None for a token that is bound to something, or whose person owes a second
        factor. Revocation is not looked at.
        """
        seen = self._verified.get(hashlib.sha256(authorization).digest())
        if (
            seen is None
            or not seen.is_enough
            or seen.source.current() is not seen.keys
            or self._clock() >= seen.until
        ):
            return None
        return seen.principal

    async def spoke_for(self, token: str) -> Principal:
        """Return who *token* speaks for, or spoke for before it expired; all else must hold.

        For what comes beside a credential of its own, such as a refresh token: whose that is.
        Raises as `authenticate` does, but for `TokenExpired`.
        """
        unverified = read(token)
        ended = unverified.claims.get("exp")
        now = self._clock()
        if isinstance(ended, int | float):
            now = min(now, ended - 1)
        principal = (await self._verify(unverified, now)).principal
        if not NOTHING.has(principal.claims.get("cnf")):
            raise TokenInvalid
        return principal

    async def close(self) -> None:
        """Stop whatever the issuers do in the background."""
        for issuer in self._issuers:
            if issuer.keys is not None:
                await issuer.keys.close()

    async def _verify(self, token: Unverified, now: float) -> _Verified:
        issuer = self._issuer_of(token.claims)
        source = issuer.source_for(token.header)
        keys = source.current()
        key = None if keys is None else keys.find(token.header)
        if keys is None or key is None:
            keys, key = await source.find(token.header)
        until = check(token, key=key, rules=issuer.rules, now=now)
        principal, size = issuer.principal(token), len(token.signing_input)
        is_enough = token.claims.get("cnf") is None and principal.owed_aal is None
        # Each request compares it with the clock, twice as fast as it would an integer.
        return _Verified(principal, float(until), source, keys, size, is_enough)

    def _issuer_of(self, claims: dict[str, object]) -> Issuer:
        """Choose by what the token claims; only that issuer's keys are then tried."""
        iss = claims.get("iss")
        if not isinstance(iss, str | None) or (iss is None and "iss" in claims):
            raise TokenInvalid
        issuer = self._by_iss.get(iss) or self._by_iss.get(None)
        if issuer is None:
            raise TokenInvalid
        return issuer

    def _remember(self, digest: bytes, verified: _Verified) -> None:
        self._forget(digest)  # the same token may have been verified twice at once
        self._verified[digest] = verified
        self._verified_bytes += verified.token_bytes
        while (
            len(self._verified) > self._max_verified
            or self._verified_bytes > self._max_verified_bytes
        ):
            self._forget(next(iter(self._verified)))  # the oldest

    def _forget(self, digest: bytes) -> None:
        forgotten = self._verified.pop(digest, None)
        if forgotten is not None:
            self._verified_bytes -= forgotten.token_bytes


def _problems(issuers: tuple[Issuer, ...]) -> list[str]:
    names = [one.name for one in issuers]
    addresses = [one.rules.iss for one in issuers]
    found = [f"{name!r} cannot be an issuer's name." for name in names if not NAME.fullmatch(name)]
    if len(set(names)) != len(names):
        found.append("Two issuers have the same name.")
    if len(set(addresses)) != len(addresses):
        found.append("Two issuers have the same iss, or two have none: set their addresses.")
    if sum(one.primary for one in issuers) > 1:
        found.append("Only one issuer can be the primary one.")
    return found
