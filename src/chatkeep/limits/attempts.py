"""Attempts at an account: so many guesses and mails, and no stranger locks anybody out.

Whoever comes from anywhere shares one allowance of the account. When that is used up, a
network from which the account has signed in lately still has one of its own (so has nobody
else), and whoever guesses from elsewhere cannot touch it. An account that does not exist
is counted like one that does, so that the limit tells nobody which do.

An attempt is counted before it is made and given back when it succeeded: counted afterwards,
a thousand at once would all come in time. Success gives back one and not all: otherwise
guesses would be free whenever the owner signs in.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from chatkeep.accounts import mailbox_of, normal_address
from chatkeep.errors import EmailAddressInvalid, RateLimited

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chatkeep.limits.limiting import Limits

#: "password": a guess at one. "code": at a code of a mail or of a second factor. "mail": one
#: that is sent. Each kind has an allowance of its own.
AttemptKind = Literal["password", "code", "mail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One that was counted; by what, so that it can be given back."""

    kind: str
    key: str


class Attempts:
    """Counts attempts at accounts. One per process."""

    def __init__(self, limits: Limits, *, is_known: Callable[[str, str], Awaitable[bool]]) -> None:
        """Count with *limits*; *is_known* says whether an account signed in from a network.

        It is asked with the account as `spend` is given it, in its one spelling, and only when
        the strangers' allowance is used up.
        """
        self._limits = limits
        self._is_known = is_known

    async def spend(self, kind: AttemptKind, account: str, network: str) -> Attempt:
        """Count an attempt at *account*: an e-mail address as it was typed, or a user's id.

        A mail is counted at the mailbox, too, which has one allowance for all addresses of it.

        *network* is where it comes from: an IPv4 address or an IPv6 /64 (`Client.bucket`).

        Raises:
            RateLimited: with the seconds until the next one may come.
        """
        name = _one_spelling(account)
        attempt = await self._count(f"account_{kind}", name, name, network)
        if kind == "mail":
            try:
                await self._count("account_mailbox", mailbox_of(name), name, network)
            except RateLimited:
                await self.give_back(attempt)
                raise
        return attempt

    async def _count(self, counted: str, at: str, name: str, network: str) -> Attempt:
        key = hashlib.sha256(at.encode("utf-8", "surrogatepass")).hexdigest()
        try:
            await self._limits.spend(counted, key)
        except RateLimited:
            if not await self._is_known(name, network):
                raise
            key = f"{key} {network}"
            await self._limits.spend(counted, key)
        return Attempt(kind=counted, key=key)

    async def give_back(self, attempt: Attempt) -> None:
        """Uncount *attempt*: it succeeded, or could not even be made."""
        await self._limits.give_back(attempt.kind, attempt.key)


def _one_spelling(account: str) -> str:
    try:
        return normal_address(account)
    except EmailAddressInvalid:
        return account.strip().lower()
