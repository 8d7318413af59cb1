"""What the database says of people whose tokens lack a claim, asked as seldom as possible.

Requests that want the same person share one read, those of a few milliseconds share one
query, and an answer is good for a few seconds. So a deploy that makes a million tokens old
does not become a million queries.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chatkeep.errors import ChatkeepError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chatkeep.claims.declared import Source

    Row = Mapping[str, object]

_log = logging.getLogger(__name__)

TTL_S: Final = 5.0
_WINDOW_S: Final = 0.003
_PEOPLE_AT_ONCE: Final = 500
_KEPT_AT_MOST: Final = 10_000
_PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a person (None: nothing), and whether this request asked for it."""

    row: Row | None
    was_read: bool


class Lookups:
    """One source, asked through a cache. Share one per process; `close` it at the end."""

    def __init__(
        self,
        source: Source,
        *,
        clock: Callable[[], float] = time.monotonic,
        kept_at_most: int = _KEPT_AT_MOST,
    ) -> None:
        """Ask *source*; nothing is asked yet."""
        self._source = source
        self._clock = clock
        self._kept_at_most = kept_at_most
        self._kept: dict[str, tuple[float, Row | None]] = {}
        self._reading: dict[str, asyncio.Task[Mapping[str, Row]]] = {}
        self._open: tuple[set[str], asyncio.Task[Mapping[str, Row]]] | None = None

    async def of(self, user_id: str) -> Answer:
        """Return what the source says of *user_id*, or said a few seconds ago.

        Raises:
            Unavailable: it could not be asked.
        """
        kept = self._kept.get(user_id)
        if kept is not None and self._clock() < kept[0]:
            return Answer(kept[1], was_read=False)
        reading = self._reading.get(user_id)
        task = reading or self._join_batch(user_id)
        # Shielded: who hangs up must not take the answer from the others.
        rows = await asyncio.shield(task)
        return Answer(rows.get(user_id), was_read=reading is None)

    async def now(self, user_id: str) -> Row | None:
        """Return what the source says of *user_id* at this moment.

        Raises:
            Unavailable: it could not be asked.
        """
        return (await self._ask([user_id])).get(user_id)

    async def close(self) -> None:
        """Stop asking."""
        for task in set(self._reading.values()):
            task.cancel()

    def _join_batch(self, user_id: str) -> asyncio.Task[Mapping[str, Row]]:
        if self._open is None or len(self._open[0]) >= _PEOPLE_AT_ONCE:
            started: set[str] = set()
            self._open = started, asyncio.create_task(self._read(started))
        batch, task = self._open
        batch.add(user_id)
        self._reading[user_id] = task
        return task

    async def _read(self, batch: set[str]) -> Mapping[str, Row]:
        try:
            await asyncio.sleep(_WINDOW_S)
            self._shut(batch)
            rows = await self._ask(list(batch))
            self._keep(batch, rows)
            return rows
        finally:
            self._shut(batch)
            for user_id in batch:
                del self._reading[user_id]

    def _shut(self, batch: set[str]) -> None:
        """Let nobody else join *batch*."""
        if self._open is not None and self._open[0] is batch:
            self._open = None

    async def _ask(self, user_ids: list[str]) -> Mapping[str, Row]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return dict(await self._source(user_ids))
        except ChatkeepError:
            raise
        except Exception as error:
            # The application's own code, whatever it raises: the tokens are not to blame.
            _log.exception("claims cannot be looked up")
            raise Unavailable from error

    def _keep(self, batch: set[str], rows: Mapping[str, Row]) -> None:
        until = self._clock() + TTL_S
        for user_id in batch:
            self._kept.pop(user_id, None)  # so that the oldest stand first
            self._kept[user_id] = (until, rows.get(user_id))
        while len(self._kept) > self._kept_at_most:
            del self._kept[next(iter(self._kept))]
