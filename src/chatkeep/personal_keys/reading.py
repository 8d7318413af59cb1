"""Whom a personal key speaks for, at the cost of a hash for most requests.

A key is looked up once in a while and remembered; that it was revoked since is known from
what has ended, which every node hears of at once (`revocations`). So a request asks the
database nothing, and no key is believed a moment longer than a session would be. What is not
known is not remembered: whoever guesses must not fill the memory.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from uuid import UUID

from chatkeep.accounts.roles import roles_in
from chatkeep.errors import TokenExpired, TokenInvalid, TokenRevoked
from chatkeep.personal_keys import records, texts
from chatkeep.principal import Principal
from chatkeep.uses import Uses

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from chatkeep.db import Database
    from chatkeep.personal_keys.records import Held

REMEMBERED_AT_MOST: Final = 10_000
#: After so long a key is looked up again: its owner's roles may have changed.
BELIEVED_FOR_S: Final = 60.0
USED_EVERY: Final = timedelta(minutes=1)


class PersonalKeys:
    """Reads keys, and notes when each was used. One per process; `run` writes that down.

    *barred* asks an issuer, by its name, whether one of its people is banned there or gone.
    """

    def __init__(
        self,
        db: Database,
        issuers: Collection[str],
        *,
        barred: Mapping[str, Callable[[str], Awaitable[bool]]] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember none yet. Keys of people of other *issuers* than these are refused."""
        self._db = db
        self._issuers = frozenset(issuers)
        self._barred = barred
        self._clock = clock
        self._remembered: OrderedDict[bytes, tuple[float, Held]] = OrderedDict()
        self._uses: Uses[UUID, str] = Uses(
            self._written,
            what="keys",
            every=USED_EVERY,
            remembered_at_most=REMEMBERED_AT_MOST,
            clock=clock,
        )

    async def read(self, key: str) -> Principal:
        """Return whom *key* speaks for, as far as this node knows without what has ended since.

        Raises:
            TokenInvalid: it is none of ours (any more), or its owner's account is.
            TokenExpired, TokenRevoked: it was one, or its owner is banned by their issuer.
            Unavailable: it must be looked up, and the database is away.
        """
        if not texts.is_sound(key):
            raise TokenInvalid
        held = await self._held(key)
        if held.is_revoked or held.is_barred:
            raise TokenRevoked
        if held.left_s <= 0:
            raise TokenExpired(expires_at=int(held.expires_at.timestamp()))
        return _principal(held)

    def remembers(self, key: str) -> bool:
        """Whether *key* was looked up a moment ago: to show it again is no guess."""
        return self._fresh(texts.hash_of(key)) is not None

    def note(self, principal: Principal) -> None:
        """Remember that the key of *principal* was used now, unless it was a moment ago."""
        key_id = UUID(str(principal.token_id))
        if self._uses.is_due(key_id):
            self._uses.note(key_id, principal.user_id)

    async def write(self) -> None:
        """Write down which keys were used since the last time. Raises `Unavailable`."""
        await self._uses.write()

    async def run(self) -> None:
        """Keep writing until cancelled."""
        await self._uses.run()

    async def _written(self, waiting: Mapping[UUID, str]) -> None:
        used = [(user_id, key_id) for key_id, user_id in waiting.items()]
        await records.note_uses(self._db, used, every=USED_EVERY)

    async def _held(self, key: str) -> Held:
        hashed = texts.hash_of(key)
        fresh = self._fresh(hashed)
        if fresh is not None:
            return fresh
        asked_at = self._clock()
        found = await records.find(self._db, key)
        if found is None or found.issuer not in self._issuers:
            raise TokenInvalid
        if (barred := self._barred.get(found.issuer)) and await barred(found.subject):
            raise TokenRevoked  # not remembered: they may be let in again
        if not (found.is_used or found.is_revoked or found.is_barred):
            await records.note_first_use(self._db, found)
        # One that has expired goes on being remembered as such.
        for_s = min(BELIEVED_FOR_S, found.left_s) if found.left_s > 0 else BELIEVED_FOR_S
        self._remembered[hashed] = asked_at + for_s, found
        self._remembered.move_to_end(hashed)
        if len(self._remembered) > REMEMBERED_AT_MOST:
            self._remembered.popitem(last=False)
        return found

    def _fresh(self, hashed: bytes) -> Held | None:
        until, held = self._remembered.get(hashed, (0.0, None))
        return held if held is not None and self._clock() < until else None


def _principal(held: Held) -> Principal:
    """The owner, as far as a key says: nobody showed a password or a second factor for it."""
    ours = held.metadata is not None
    return Principal(
        user_id=held.user_id,
        issuer=held.issuer,
        subject=held.subject,
        credential="api_key",
        token_id=str(held.id),
        role=held.role,
        roles=frozenset(roles_in(held.metadata or {}) if ours else held.roles),
        scopes=frozenset(held.scopes),
        issued_at=held.created_at,
        expires_at=held.expires_at,
    )
