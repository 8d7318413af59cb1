"""Which sessions have ended, in memory: what makes log-out immediate at no cost a request.

Filled from the table, told by NOTIFY, and looked over every second, because a
notification can be lost. A session needs to be remembered only until the last token that
it could have given out has expired.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from chatkeep.db import AUTH
from chatkeep.errors import ChatkeepError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from chatkeep.db import Database

_log = logging.getLogger(__name__)

#: The longest life of a token of ours: that of the session cookie's.
LONGEST_TOKEN_LIFE: Final = timedelta(days=7)
_LOOK_EVERY_S = 1.0
#: A transaction may commit later than it says it revoked: look back this far each time.
_OVERLAP = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class _Row:
    id: UUID
    revoked_at: datetime


class Revocations:
    """The ended sessions. One per process; `catch_up` before the first request, then `run`."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._ended: dict[str, datetime] = {}
        self._newest: datetime | None = None
        self._look = asyncio.Event()

    def is_revoked(self, session_id: str) -> bool:
        """Whether this session (lower-case uuid, as in the token) has ended."""
        return session_id in self._ended

    def told(self, session_id: str) -> None:
        """Take note of a notification: this session ended now."""
        self._ended.setdefault(session_id, datetime.now(UTC))

    def missed(self) -> None:
        """Take note that notifications may have been lost; `run` looks at once."""
        self._look.set()

    def ended(self, sessions: Iterable[UUID]) -> None:
        """Take note of sessions that this node ended itself, before anybody tells it."""
        for session_id in sessions:
            self.told(str(session_id))

    async def catch_up(self) -> None:
        """Learn from the table what ended since the last look (the first looks far back).

        Raises:
            Unavailable: the database is away; what is known stays known.
        """
        rows = await self._db.fetch(
            AUTH,
            "select id, least(revoked_at, now()) as revoked_at from public.user_sessions"
            " where revoked_at > coalesce(%s, now() - %s) order by revoked_at",
            (self._newest and self._newest - _OVERLAP, LONGEST_TOKEN_LIFE),
            row=_Row,
        )
        for row in rows:
            self._ended[str(row.id)] = row.revoked_at
        self._newest = max((row.revoked_at for row in rows), default=self._newest)
        self._forget_the_old()

    async def run(self) -> None:
        """Keep looking until cancelled."""
        while True:
            self._look.clear()
            try:
                await self.catch_up()
            except ChatkeepError as error:
                _log.warning("cannot see which sessions have ended: %s", error.code)
            try:
                await asyncio.wait_for(self._look.wait(), _LOOK_EVERY_S)
            except TimeoutError:
                continue

    def _forget_the_old(self) -> None:
        """Drop from the front: what was learnt first ended first, or nearly."""
        horizon = datetime.now(UTC) - LONGEST_TOKEN_LIFE
        while self._ended:
            oldest = next(iter(self._ended))
            if self._ended[oldest] >= horizon:
                break
            del self._ended[oldest]
