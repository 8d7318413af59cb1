"""When and where each session was used last, without a write for each request.

Sessions that another issuer began are recorded when they are first seen, so that they can be
listed and ended here. What was seen is written together (`uses`), each session once a minute
at most. Must never hold up a request, or decide about one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from chatkeep.db import AUTH, Query
from chatkeep.devices import Device
from chatkeep.sessions.records import ACTIVITY_EVERY
from chatkeep.uses import Uses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chatkeep.db import Database
    from chatkeep.principal import Principal

_REMEMBERED_AT_MOST: Final = 100_000
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
    issued_at: datetime | None
    names_session: bool


@dataclass(frozen=True, slots=True)
class _Seen:
    id: UUID


class Sightings:
    """Notes who was seen. One per process; `run` writes it down."""

    def __init__(self, db: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nobody seen."""
        self._db = db
        self._uses: Uses[tuple[str, str], _Sighting] = Uses(
            self._written,
            what="sessions",
            every=ACTIVITY_EVERY,
            remembered_at_most=_REMEMBERED_AT_MOST,
            clock=clock,
        )

    def note(self, principal: Principal, *, user_agent: str | None, address: str) -> None:
        """Remember that *principal* was seen now, unless that was written a moment ago."""
        reference = principal.session_id or principal.token_id
        if reference is None or not self._uses.is_due(key := (principal.issuer, reference)):
            return
        sighting = _Sighting(
            user_id=principal.user_id,
            issuer=principal.issuer,
            reference=reference,
            own_row=_own_row(principal),
            device=Device.of(user_agent, address),
            expires_at=principal.expires_at or datetime.now(UTC) + _NO_END,
            issued_at=principal.issued_at,
            names_session=principal.session_id is not None,
        )
        self._uses.note(key, sighting)

    async def write(self) -> None:
        """Write who was seen since the last time, in one round trip. Raises `Unavailable`."""
        await self._uses.write()

    async def run(self) -> None:
        """Keep writing until cancelled."""
        await self._uses.run()

    async def _written(self, waiting: Mapping[tuple[str, str], _Sighting]) -> None:
        # In one order everywhere, so that two servers never wait for each other.
        seen = [waiting[key] for key in sorted(waiting)]
        await self._db.fetch_all(
            AUTH,
            _used([one for one in seen if one.own_row is not None]),
            _first_seen([one for one in seen if one.own_row is None]),
        )


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
        " (user_id, id, issuer, reference, device, address, expires_at, issued_at, names_session)"
        " select user_id, gen_random_uuid(), issuer, reference, device, address::inet,"
        " expires_at, issued_at, names_session"
        " from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[],"
        " %s::timestamptz[], %s::timestamptz[], %s::boolean[]) v (user_id, issuer, reference,"
        " device, address, expires_at, issued_at, names_session)"
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
            [one.issued_at for one in seen],
            [one.names_session for one in seen],
        ),
        _Seen,
    )
