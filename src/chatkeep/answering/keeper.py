"""Keeps what answers say: checkpoints while they are made, and their end.

Whatever the database does meanwhile, an answer goes on, and its end is tried again for a while.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from chatkeep.answering import checkpoints
from chatkeep.answering.checkpoints import Checkpoint
from chatkeep.answering.titles import title_from
from chatkeep.answering.working import ended, now
from chatkeep.errors import ChatkeepError, Unavailable
from chatkeep.metrics import Histogram
from chatkeep.outages import Outage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chatkeep.answering.charges import Budgets
    from chatkeep.answering.tails import Tails
    from chatkeep.answering.working import Work
    from chatkeep.db import Database, Query
    from chatkeep.notifications import Told
    from chatkeep.runs import Ending

_log = logging.getLogger(__name__)

_EVERY = Histogram(
    "chatkeep_checkpoint_seconds",
    "From the last turn of answers that are being made to be kept until they are kept.",
    bounds=(0.3, 0.5, 1, 2.5, 5, 10, 30),
)
#: So many answers in one exchange, and so many exchanges at a time.
_TOGETHER = 32
_AT_ONCE = 4
_LEASE_RENEWAL_S = 4.0
#: A connection that hangs is given up early enough for another to renew the lease (`runs.LEASE_S`).
_PATIENCE_S = 5.0
#: Five minutes, in which another PostgreSQL can take the place of one that died.
_PAUSES_S = (0.1, 0.3, 1.0, 3.0, 5.0, *(10.0,) * 30)


class Keeper:
    """Where what this process answers is kept."""

    def __init__(
        self, db: Database, tails: Tails, budgets: Budgets, *, stop: Callable[[str], object]
    ) -> None:
        """Tell other nodes through *tails*; *stop* a run, by its id, when it was asked for."""
        self._db = db
        self._tails = tails
        self._budgets = budgets
        self._stop = stop
        self._places = asyncio.Semaphore(_AT_ONCE)
        #: The runs whose answers are being stored.
        self._under_way: set[str] = set()
        #: Those of which it could not be done when it was tried last.
        self._behind: set[str] = set()
        self._outage = Outage(_log, "keep what answers say")

    async def keep_on(self, working: Callable[[], Sequence[Work]], *, every_s: float) -> None:
        """Store what is new of the answers that are *working*, and renew leases, until cancelled.

        Each every *every_s* seconds, and what one exchange takes; later only where the database
        is slow. A few at a time: of hundreds at once everybody who asks meanwhile would wait for
        all. Each about as far from the beginning of a round as the last time, and none waits
        until others have been stored, which an exchange that hangs never does.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as exchanges:
            while True:
                await self._keep_round(exchanges, working(), began, every_s)
                began = max(began + every_s, loop.time() - every_s)

    async def _keep_round(
        self, exchanges: asyncio.TaskGroup, some: Sequence[Work], began: float, lasts_s: float
    ) -> None:
        loop = asyncio.get_running_loop()
        due: list[Work] = []
        turn = began
        for first in range(0, len(some), _TOGETHER):
            turn = began + lasts_s * first / len(some)
            await asyncio.sleep(turn - loop.time())
            due += self._due(some[first : first + _TOGETHER])
            if len(due) >= _TOGETHER:
                self._begin(exchanges, due[:_TOGETHER], turn - lasts_s)
                del due[:_TOGETHER]
        self._begin(exchanges, due, turn - lasts_s)
        await asyncio.sleep(began + lasts_s - loop.time())

    def _due(self, some: Sequence[Work]) -> list[Work]:
        moment = now()
        return [
            one
            for one in some
            if one.asking
            and (one.live.changed or moment - one.renewed > _LEASE_RENEWAL_S)
            and one.live.address.id not in self._under_way
        ]

    def _begin(self, exchanges: asyncio.TaskGroup, due: Sequence[Work], last: float) -> None:
        if not due:
            return
        self._under_way.update(one.live.address.id for one in due)
        exchanges.create_task(self._keep_together(due, last))

    async def _keep_together(self, due: Sequence[Work], last: float) -> None:
        """Keep *due*, whose turn was *last* before."""
        try:
            async with self._places:
                if being_made := [work for work in due if work.asking]:
                    await self._keep(being_made)
                    _EVERY.observe(asyncio.get_running_loop().time() - last)
        finally:
            self._under_way.difference_update(one.live.address.id for one in due)

    async def keep_end(self, work: Work, ending: Ending, question: str | None) -> Ending:
        """Store the whole answer and how it ended; return how it has, then.

        With the *question* a title is made of both, for a conversation that has none.
        """
        run = work.live.address
        try:
            return await self._keep_end(work, ending, question)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the run has an end
            code = error.code if isinstance(error, ChatkeepError) else "internal"
            _log.error("the end of run %s cannot be kept: %s", run.id, code, exc_info=error)
        finally:
            self._behind.discard(run.id)
        await self._keep_failure(work, code)
        return ended(work.live, "failed", error_code=code)

    async def _keep_end(self, work: Work, ending: Ending, question: str | None) -> Ending:
        live = work.live
        title = None if question is None else title_from(question, live.content)
        settling = self._budgets.settling(work.charge, live, ending.state)
        for pause in (*_PAUSES_S, None):
            try:
                work.is_waited_for = await checkpoints.finish(
                    self._db,
                    live.user_id,
                    live.address,
                    ending,
                    content=live.content,
                    parts=live.stored_parts(),
                    title=title,
                    also=[*settling, *self._telling(live.address.id)],
                )
            except Unavailable as error:
                if pause is None:
                    break
                self._failed([work], error.code)
                await asyncio.sleep(pause)
            else:
                self._worked([work])
                return ending
        _log.error("the end of run %s was lost: the database stayed away", live.address.id)
        return ended(live, "failed", error_code="database_unavailable")

    async def _keep_failure(self, work: Work, code: str) -> None:
        """Keep that it failed, and its words, should only something else of it be refused."""
        run = work.live.address
        for keeping in (
            self._keep([work]),
            checkpoints.fail(self._db, work.live.user_id, run, code),
        ):
            try:
                await keeping
            except Exception as error:  # noqa: BLE001 -- it is ended when its lease has run out
                _log.warning("what is left of run %s is not kept: %r", run.id, error)

    async def _keep(self, some: Sequence[Work]) -> None:
        for work in some:
            work.live.changed, work.renewed = False, now()
        try:
            stops = await self._exchange(some)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the other answers have to be kept
            if len(some) > 1 and not isinstance(error, Unavailable):
                for work in some:  # one of them is what the database does not take
                    await self._keep([work])
                return
            # The answers go on; what is missing is in the next checkpoint or the end.
            for work in some:
                work.live.changed = True
            code = error.code if isinstance(error, ChatkeepError) else type(error).__name__
            # One that has ended meanwhile is no longer kept this way.
            self._failed([work for work in some if work.asking], code)
            return
        self._worked(some)
        for work, must_stop in zip(some, stops, strict=True):
            if must_stop:
                self._stop(work.live.address.id)

    def _failed(self, some: Sequence[Work], why: str) -> None:
        self._behind.update(work.live.address.id for work in some)
        self._outage.failed(why)

    def _worked(self, some: Sequence[Work]) -> None:
        self._behind.difference_update(work.live.address.id for work in some)
        if not self._behind:  # else one that waits for a lock would be news at each of the others
            self._outage.worked()

    async def _exchange(self, some: Sequence[Work]) -> list[bool]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await checkpoints.keep(self._db, [self._said(work) for work in some])
        except TimeoutError as error:
            raise Unavailable("The database took too long.") from error

    def _said(self, work: Work) -> Checkpoint:
        live = work.live
        return Checkpoint(
            user_id=live.user_id,
            run=live.address,
            content=live.content,
            parts=live.stored_parts(),
            tells=self._tails.tells(live.address.id),
        )

    def _telling(self, run_id: str) -> list[Query[Told]]:
        return [checkpoints.telling(run_id)] if self._tails.tells(run_id) else []
