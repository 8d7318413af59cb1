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

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chatkeep.answering.charges import Budgets
    from chatkeep.answering.tails import Tails
    from chatkeep.answering.working import Work
    from chatkeep.db import Database, Query
    from chatkeep.runs import Ending

_log = logging.getLogger(__name__)

_EVERY = Histogram(
    "chatkeep_checkpoint_seconds",
    "From one checkpoint of the answers that are being made to the next.",
    bounds=(0.3, 0.5, 1, 2.5, 5, 10, 30),
)
#: So many answers in one exchange, and so many exchanges at a time.
_TOGETHER = 32
_AT_ONCE = 4
_LEASE_RENEWAL_S = 4.0
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

    async def keep(self, some: Sequence[Work], *, within_s: float) -> None:
        """Store what is new of *some* answers, and renew the leases that need it.

        Takes *within_s* seconds and what one exchange takes, longer only where the database is
        slow. A few at a time: of hundreds at once everybody who asks meanwhile would wait for
        all. Each about as far from the beginning as the last time, and none waits until those
        before it have been stored.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        due: list[Work] = []
        async with asyncio.TaskGroup() as exchanges:
            for first in range(0, len(some), _TOGETHER):
                if (wait_s := began + within_s * first / len(some) - loop.time()) > 0:
                    await asyncio.sleep(wait_s)
                moment = now()
                due += [one for one in some[first : first + _TOGETHER] if _is_due(one, moment)]
                if len(due) >= _TOGETHER:
                    exchanges.create_task(self._keep_together(due[:_TOGETHER]))
                    del due[:_TOGETHER]
            exchanges.create_task(self._keep_together(due))
            await asyncio.sleep(began + within_s - loop.time())
        if some:
            _EVERY.observe(loop.time() - began)

    async def _keep_together(self, due: Sequence[Work]) -> None:
        async with self._places:
            if being_made := [work for work in due if work.asking]:
                await self._keep(being_made)

    async def keep_end(self, work: Work, ending: Ending, question: str) -> Ending:
        """Store the whole answer to *question* and how it ended; return how it has, then."""
        try:
            return await self._keep_end(work, ending, question)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the run has an end
            code = error.code if isinstance(error, ChatkeepError) else "internal"
            run = work.live.address
            _log.error("the end of run %s cannot be kept: %s", run.id, code, exc_info=error)
        await self._keep_failure(work, code)
        return ended(work.live, "failed", error_code=code)

    async def _keep_end(self, work: Work, ending: Ending, question: str) -> Ending:
        live = work.live
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
                    title=title_from(question, live.content),
                    also=[*settling, *self._telling(live.address.id)],
                )
            except Unavailable as error:
                if pause is None:
                    break
                _log.warning("the end of run %s is not kept yet: %s", live.address.id, error.code)
                await asyncio.sleep(pause)
            else:
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
            stops = await checkpoints.keep(self._db, [self._said(work) for work in some])
        except ChatkeepError as error:
            if len(some) > 1 and not isinstance(error, Unavailable):
                for work in some:  # one of them is what the database does not take
                    await self._keep([work])
                return
            # The answers go on; what is missing is in the next checkpoint or the end.
            for work in some:
                work.live.changed = True
            _log.warning("checkpoints of %d runs failed: %s", len(some), error.code)
            return
        for work, must_stop in zip(some, stops, strict=True):
            if must_stop:
                self._stop(work.live.address.id)

    def _said(self, work: Work) -> Checkpoint:
        live = work.live
        return Checkpoint(
            user_id=live.user_id,
            run=live.address,
            content=live.content,
            parts=live.stored_parts(),
            tells=self._tails.tells(live.address.id),
        )

    def _telling(self, run_id: str) -> list[Query[checkpoints.Told]]:
        return [checkpoints.telling(run_id)] if self._tails.tells(run_id) else []


def _is_due(work: Work, moment: float) -> bool:
    return work.asking and (work.live.changed or moment - work.renewed > _LEASE_RENEWAL_S)
