"""Work that must survive a restart: jobs in PostgreSQL, done by whichever node is free.

The queue is procrastinate's, in the schema `chatkeep_queue`. A concept that has such work
adds the job in the transaction it belongs to, with an insert of its own, and says here what
is to be done. A job is done at least once: again if the process that did it was killed.
Nothing here knows what a job is about, and what it carries is never logged.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, LiteralString

from procrastinate import App, RetryDecision
from procrastinate.connector import BaseAsyncConnector
from procrastinate.retry import BaseRetryStrategy
from procrastinate.worker import Worker

from chatkeep.db import WORKER, Query
from chatkeep.errors import ChatkeepError, Unavailable
from chatkeep.going_on import go_on
from chatkeep.outages import Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from procrastinate.connector import Notify
    from procrastinate.job_context import JobContext
    from procrastinate.jobs import Job

    from chatkeep.db import Database

_log = logging.getLogger(__name__)

CHANNEL: Final = "procrastinate_any_queue_v1"
_AT_ONCE: Final = 4
_POLL_S: Final = 2.0
_HEARTBEAT_S: Final = 10.0
#: A worker that was not heard of for so long is gone. No job may take longer than this.
GONE_AFTER_S: Final = 60.0
_PAUSE_S: Final = 1.0
_ONCE_MORE_AFTER_S: Final = (0.2, 1.0, 3.0)
#: A fault of ours, or a database that is away: tried for an hour, with pauses.
_AFTER_A_FAULT: Final = timedelta(minutes=1)
_FAULTS_AT_MOST: Final = 60
#: The library takes moments, and a node's clock may be hours off: a wait is told to it as the
#: moment so long after this one, and becomes a moment where PostgreSQL's clock is.
_NOW: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SOMETHING_NEW: Final = '{"type": "job_inserted", "job_id": 0}'

# It logs at INFO with what a job carries.
logging.getLogger("procrastinate").setLevel(logging.WARNING)


class TryAgain(Exception):
    """The job could not be done now. It comes back after *wait*."""

    def __init__(self, wait: timedelta) -> None:
        self.wait = wait
        super().__init__()


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One attempt at a job: which one, and how often it was begun before."""

    job_id: int
    attempts: int


@dataclass(frozen=True, slots=True)
class _Path:
    """Where the statements of procrastinate find their tables."""

    search_path: str


@dataclass(frozen=True, slots=True)
class _Brought:
    """A job that was brought back."""

    id: int


class JobQueue:
    """The queue, and a worker of this process: one for all queues that may wait for each other."""

    def __init__(self, db: Database, *, drain_s: float) -> None:
        """Prepare; `start` begins. At the end a job may go on for *drain_s* seconds."""
        self._db = db
        self._drain_s = drain_s
        self._outage = Outage(_log, "do what is queued")
        self._connector = _Connector(db, self._outage.worked, self._on_failure)
        self._app = App(connector=self._connector)
        self._worker: Worker | None = None
        self._running: list[asyncio.Task[None]] = []
        self._stopping = False

    def add(self, name: str, work: Callable[[Turn, str], Awaitable[None]]) -> None:
        """Let jobs called *name* be done by *work*, which is given the text that they carry.

        It is their argument `sealed`, because what opens something is sealed by its owner.
        *work* raises `TryAgain` to get the job back later; when it returns, the job is gone.
        """

        async def task(context: JobContext, sealed: str) -> None:
            turn = Turn(job_id=context.job.id or 0, attempts=context.job.attempts)
            try:
                await work(turn, sealed)
            except TryAgain:
                raise
            except Exception as error:  # noqa: BLE001 -- a fault is noted here, without what the job carries
                said = type(error).__name__
                if turn.attempts >= _FAULTS_AT_MOST:
                    _log.error("job %d (%s) is given up: %s", turn.job_id, name, said)
                    return
                _log.warning("job %d (%s) failed: %s", turn.job_id, name, said)
                raise TryAgain(_AFTER_A_FAULT) from None

        self._app.task(name=name, retry=_Again(), pass_context=True)(task)

    def start(self, *queues: str) -> None:
        """Begin to work on *queues*, and to bring back what a killed process had begun."""
        self._running = [
            asyncio.create_task(self._work(queues)),
            asyncio.create_task(go_on(self._bring_back, "looking for abandoned jobs")),
        ]

    def told(self, payload: str) -> None:
        """Take a notification that there is a new job."""
        self._connector.told.put_nowait(payload)

    def missed(self) -> None:
        """Look for new jobs, because notifications may have been lost."""
        self._connector.told.put_nowait(_SOMETHING_NEW)

    async def close(self) -> None:
        """Begin no further job, and let those that run end; what does not is put back."""
        self._stopping = True
        if not self._running:
            return
        working, bringing = self._running
        bringing.cancel()
        if self._worker is None or working.done():
            working.cancel()
        else:
            self._worker.stop()  # type: ignore[no-untyped-call]  # procrastinate says no types here
        await asyncio.gather(working, bringing, return_exceptions=True)

    async def _work(self, queues: Iterable[str]) -> None:
        """Work until the end: with a new worker after whatever ended one."""
        while not self._stopping:
            self._worker = Worker(
                app=self._app,
                queues=list(queues),
                concurrency=_AT_ONCE,
                fetch_job_polling_interval=_POLL_S,
                shutdown_graceful_timeout=self._drain_s,
                delete_jobs="always",
                install_signal_handlers=False,
                update_heartbeat_interval=_HEARTBEAT_S,
                stalled_worker_timeout=GONE_AFTER_S,
            )
            try:
                await self._worker.run()  # type: ignore[no-untyped-call]  # procrastinate says no types here
            except Exception as error:  # noqa: BLE001 -- whatever it was, the jobs must go on
                self._outage.failed(type(error).__name__)
            if not self._stopping:
                await asyncio.sleep(_PAUSE_S)

    def _on_failure(self) -> None:
        """Start anew: a job whose end could not be written would seem to go on for ever."""
        if self._worker is not None:
            self._worker.stop()  # type: ignore[no-untyped-call]  # procrastinate says no types here

    async def _bring_back(self) -> None:
        while True:
            try:
                found = await bring_back(self._db)
                if found:
                    _log.warning("%d jobs of a worker that is gone are done again", found)
            except ChatkeepError as error:
                _log.debug("no look at abandoned jobs: %s", error.code)
            await asyncio.sleep(GONE_AFTER_S / 2)


async def bring_back(db: Database) -> int:
    """Queue again what workers that are gone had begun; return how much that was.

    One statement, so that of several nodes that look at the same time only one finds it.
    """
    found = await db.fetch(
        WORKER,
        "update chatkeep_queue.procrastinate_jobs as job"
        " set status = 'todo', worker_id = null, attempts = attempts + 1"
        " where job.status = 'doing' and not exists ("
        "  select from chatkeep_queue.procrastinate_workers as worker"
        "  where worker.id = job.worker_id"
        "  and worker.last_heartbeat > now() - make_interval(secs => %s)) returning job.id",
        [GONE_AFTER_S],
        row=_Brought,
    )
    return len(found)


class _Again(BaseRetryStrategy):
    """When a job that failed is due again: as it said, else soon."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:  # noqa: ARG002 -- procrastinate's signature
        # Anything else is that it was cancelled, because this process ends.
        wait = exception.wait if isinstance(exception, TryAgain) else timedelta()
        return RetryDecision(retry_at=_NOW + wait)


class _Connector(BaseAsyncConnector):
    """procrastinate's statements through our door: each in a transaction, as one narrow role."""

    def __init__(
        self, db: Database, on_success: Callable[[], None], on_failure: Callable[[], None]
    ) -> None:
        self._db = db
        self._on_success = on_success
        self._on_failure = on_failure
        self.told: asyncio.Queue[str] = asyncio.Queue()

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:  # noqa: ANN401 -- procrastinate's signature
        # Among these is the end of a job: one that cannot be written is a job done twice.
        for pause_s in _ONCE_MORE_AFTER_S:
            with suppress(Unavailable):  # away, or busy with what others wait for
                await self._in_schema(query, arguments)
                return
            await asyncio.sleep(pause_s)
        await self._rows(query, arguments)

    async def execute_query_one_async(
        self,
        query: LiteralString,
        **arguments: Any,  # noqa: ANN401 -- as above
    ) -> dict[str, Any]:
        (row,) = await self._rows(query, arguments)
        return row

    async def execute_query_all_async(
        self,
        query: LiteralString,
        **arguments: Any,  # noqa: ANN401 -- as above
    ) -> list[dict[str, Any]]:
        return await self._rows(query, arguments)

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:  # noqa: ARG002 -- one of ours listens for all
        while True:
            await on_notification(channel=CHANNEL, payload=await self.told.get())

    async def _rows(self, query: LiteralString, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            return await self._in_schema(query, arguments)
        except Exception:
            self._on_failure()
            raise

    async def _in_schema(
        self, query: LiteralString, arguments: dict[str, Any]
    ) -> list[dict[str, Any]]:
        if "retry_at" in arguments:
            query = query.replace("%(retry_at)s", "now() + %(retry_at)s")
            arguments = arguments | {"retry_at": arguments["retry_at"] - _NOW}
        _, rows = await self._db.fetch_all(
            WORKER,
            Query(
                "select set_config('search_path', 'chatkeep_queue', true) as search_path",
                (),
                _Path,
            ),
            Query(query, arguments, dict),
        )
        self._on_success()
        return [{name: _text(value) for name, value in row.items()} for row in rows]


def _text(value: object) -> object:
    """Return *value*; the driver gives types that it does not know, such as enums, as bytes."""
    return value.decode() if isinstance(value, bytes) else value
