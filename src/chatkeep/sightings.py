"""When and where each session was used last, without a write for each request.

Sessions that another issuer began are recorded when they are first seen, so that they can be
listed and ended here. What was seen is kept in memory and written together, each session
once a minute at most; a server that is killed forgets the last moments and nothing else.
Must never hold up a request, or decide about one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from chatkeep.db import AUTH, Query
from chatkeep.devices import Device
from chatkeep.errors import ChatkeepError
from chatkeep.sessions import ACTIVITY_EVERY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chatkeep.db import Database
    from chatkeep.principal import Principal

_log = logging.getLogger(__name__)

_WRITE_EVERY_S = 2.0
_REMEMBERED_AT_MOST: Final = 100_000
_WAITING_AT_MOST: Final = 10_000
#: A token without an end is taken for one that lives so long.
_NO_END: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sighting:
    user_id: str
    issuer: str
    reference: str
    own_row: UUID | None
    device: Device
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _Seen:
    id: UUID


class Sightings:
    """Notes who was seen. One per process; `run` writes it down."""

    def __init__(self, db: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nobody seen."""
        self._db = db
        self._clock = clock
        self._noted: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._waiting: dict[tuple[str, str], _Sighting] = {}

    def note(self, principal: Principal, *, user_agent: str | None, address: str) -> None:
        """Remember that *principal* was seen now, unless that was written a moment ago."""
        reference = principal.session_id or principal.token_id
        if reference is None:
            return
        key, now = (principal.issuer, reference), self._clock()
        if now - self._noted.get(key, float("-inf")) < ACTIVITY_EVERY.total_seconds():
            return
        if len(self._waiting) >= _WAITING_AT_MOST:
            return
        self._noted[key] = now
        self._noted.move_to_end(key)
        if len(self._noted) > _REMEMBERED_AT_MOST:
            self._noted.popitem(last=False)
        self._waiting[key] = _Sighting(
            user_id=principal.user_id,
            issuer=principal.issuer,
            reference=reference,
            own_row=_own_row(principal),
            device=Device.of(user_agent, address),
            expires_at=principal.expires_at or datetime.now(UTC) + _NO_END,
        )

    async def write(self) -> None:
        """Write what was seen since the last time, in one round trip.

        Raises:
            Unavailable: the database is away; it is written the next time.
        """
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        # In one order everywhere, so that two servers never wait for each other.
        seen = [waiting[key] for key in sorted(waiting)]
        try:
            await self._db.fetch_all(
                AUTH,
                _used([one for one in seen if one.own_row is not None]),
                _first_seen([one for one in seen if one.own_row is None]),
            )
        except ChatkeepError:
            self._waiting = waiting | self._waiting
            raise

    async def run(self) -> None:
        """Keep writing until cancelled."""
        while True:
            await asyncio.sleep(_WRITE_EVERY_S)
            try:
                await self.write()
            except ChatkeepError as error:
                _log.warning("cannot write which sessions are used: %s", error.code)


def _own_row(principal: Principal) -> UUID | None:
    """The row that a session of ours has had since sign-in."""
    # A cookie may be another issuer's as well; only ours names the issuer inside.
    own_cookie = principal.credential == "cookie" and "idp" in principal.claims
    if principal.session_id and (
        principal.issuer == "embedded" or (own_cookie and "ref" not in principal.claims)
    ):
        return UUID(principal.session_id)
    return None


def _used(seen: Sequence[_Sighting]) -> Query[_Seen]:
    return Query(
        "update public.user_sessions s set last_activity_at = now(),"
        " address = coalesce(v.address::inet, s.address)"
        " from unnest(%s::uuid[], %s::text[], %s::text[]) v (id, user_id, address)"
        " where s.id = v.id and s.user_id = v.user_id and s.is_active"
        " and s.last_activity_at < now() - %s returning s.id",
        (
            [one.own_row for one in seen],
            [one.user_id for one in seen],
            [one.device.address for one in seen],
            ACTIVITY_EVERY,
        ),
        _Seen,
    )


def _first_seen(seen: Sequence[_Sighting]) -> Query[_Seen]:
    return Query(
        "insert into public.user_sessions as s"
        " (user_id, id, issuer, reference, device, address, expires_at)"
        " select user_id, gen_random_uuid(), issuer, reference, device, address::inet, expires_at"
        " from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[],"
        " %s::timestamptz[]) v (user_id, issuer, reference, device, address, expires_at)"
        " on conflict (issuer, reference) where reference is not null do update set"
        " last_activity_at = now(), address = coalesce(excluded.address, s.address),"
        " expires_at = greatest(s.expires_at, excluded.expires_at)"
        " where s.user_id = excluded.user_id and s.is_active returning s.id",
        (
            [one.user_id for one in seen],
            [one.issuer for one in seen],
            [one.reference for one in seen],
            [one.device.name for one in seen],
            [one.device.address for one in seen],
            [one.expires_at for one in seen],
        ),
        _Seen,
    )
