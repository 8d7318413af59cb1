"""What was used last and when, without a write for each use.

A use is noted in memory and written together with the others, each thing once in a while at
most; a server that is killed forgets the last moments and nothing else. Must never hold up a
request. What a use is, and where it is written, its owner says.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from chatkeep.errors import ChatkeepError
from chatkeep.outages import Outage
from chatkeep.pending_writes import PendingWrites

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import timedelta

_log = logging.getLogger(__name__)

_WRITE_EVERY_S: Final = 2.0
_WAITING_AT_MOST: Final = 10_000

Key = TypeVar("Key")
Use = TypeVar("Use")


class Uses(Generic[Key, Use]):
    """The uses that wait to be written. `run` writes them, every two seconds."""

    def __init__(
        self,
        write: Callable[[Mapping[Key, Use]], Awaitable[None]],
        *,
        what: str,
        every: timedelta,
        remembered_at_most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing used. *what* is the word for it in the log."""
        self._write = write
        self._outage = Outage(_log, f"write which {what} are used")
        self._every_s = every.total_seconds()
        self._remembered_at_most = remembered_at_most
        self._clock = clock
        self._noted: OrderedDict[Key, float] = OrderedDict()
        self._waiting: dict[Key, Use] = {}
        self._pending = PendingWrites()

    def is_due(self, key: Key) -> bool:
        """Whether a use of *key* now is to be noted: its last was not noted a moment ago."""
        last = self._noted.get(key, float("-inf"))
        return self._clock() - last >= self._every_s and len(self._waiting) < _WAITING_AT_MOST

    def note(self, key: Key, use: Use) -> None:
        """Remember that *key* was used now."""
        self._noted[key] = self._clock()
        self._noted.move_to_end(key)
        if len(self._noted) > self._remembered_at_most:
            self._noted.popitem(last=False)
        self._waiting[key] = use

    async def write(self) -> None:
        """Write what was used until now; return when it is written, by whomever.

        Raises:
            Unavailable: the database is away; it is written the next time.
        """
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            self._pending.begin(self._tried(waiting))
        await self._pending.wait()

    async def run(self) -> None:
        """Keep writing until cancelled."""
        while True:
            await asyncio.sleep(_WRITE_EVERY_S)
            try:
                await self.write()
                self._outage.worked()
            except ChatkeepError as error:
                self._outage.failed(error.code)

    async def _tried(self, waiting: dict[Key, Use]) -> None:
        try:
            await self._write(waiting)
        except ChatkeepError:
            self._waiting = waiting | self._waiting
            raise
