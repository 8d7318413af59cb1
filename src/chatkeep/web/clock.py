"""Whether this machine's clock agrees with PostgreSQL's, by which all servers are compared.

A server whose clock is ahead signs tokens that the others refuse as not active yet, so that
people are signed out by chance; one that is behind refuses those of the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chatkeep.db import WORKER
from chatkeep.errors import ChatkeepError
from chatkeep.metrics import Gauge

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkeep.db import Database

_log = logging.getLogger(__name__)

#: As `chatkeep doctor` says it.
_LARGEST_S: Final = 2.0
_LOOK_EVERY_S: Final = 60.0
_DIFFERENCE = Gauge(
    "chatkeep_clock_difference_seconds",
    "How far this machine's clock is ahead of PostgreSQL's, at least; less than 0 is behind.",
)


@dataclass(frozen=True, slots=True)
class _Moment:
    now: float


class ClockWatch:
    """Looks at both clocks now and then, and says when they differ. One per process."""

    def __init__(self, db: Database, *, clock: Callable[[], float] = time.time) -> None:
        """Compare with that of *db*; *clock* gives seconds since 1970."""
        self._db = db
        self._clock = clock
        self._differed = False

    async def run(self) -> None:
        """Look until cancelled; not while the database is away, of which others tell."""
        while True:
            try:
                await self.look()
            except ChatkeepError as error:
                _log.debug("the clocks cannot be compared: %s", error.code)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def look(self) -> None:
        """Compare once; what lies between asking and the answer counts as agreement.

        Raises:
            Unavailable: the database is away.
        """
        began = self._clock()
        (theirs,) = await self._db.fetch(
            WORKER, "select extract(epoch from clock_timestamp())::float8 as now", (), row=_Moment
        )
        ahead_s = max(began - theirs.now, 0.0) or min(self._clock() - theirs.now, 0.0)
        _DIFFERENCE.set(ahead_s)
        differs = abs(ahead_s) > _LARGEST_S
        if differs and not self._differed:
            _log.warning(
                "the clock of this machine is %.0f s %s that of PostgreSQL, and tokens go by it:"
                " set both by NTP",
                abs(ahead_s),
                "ahead of" if ahead_s > 0 else "behind",
            )
        elif self._differed and not differs:
            _log.info("the clock of this machine agrees with that of PostgreSQL again")
        self._differed = differs
