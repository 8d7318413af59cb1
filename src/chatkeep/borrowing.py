"""Lending a connection of the pool: one that is alive, and that comes back whatever happens.

The pool is psycopg's. Nothing here knows a statement; `chatkeep.db` is the door.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from types import coroutine
from typing import TYPE_CHECKING, Any

from psycopg import errors as pg

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from psycopg import AsyncConnection
    from psycopg_pool import AsyncConnectionPool

    from chatkeep.pipelines import PipelinedConnection


class _LastFirst(deque[Any]):
    def append(self, item: Any, /) -> None:  # noqa: ANN401 -- whatever the pool keeps here
        self.appendleft(item)


def lend_the_last_first(pool: AsyncConnectionPool[PipelinedConnection]) -> None:
    """Make *pool*, before it is open, lend the connection that has come back last.

    Each is a process of PostgreSQL, with caches of its own. psycopg's pool lends the one that
    has waited longest, so that with ten of them each statement met cold ones: a message was
    stored in 1.3 times of what it took on two connections, and now in 0.8 times.
    """
    pool._pool = _LastFirst()  # noqa: SLF001 -- it has no setting for that; a test sees whether it works


class Loan:
    """A connection, for as long as the block lasts: `async with Loan(pool, told) as connection`.

    A class, because it is entered for every statement: with generators it took a tenth of an
    exchange.
    """

    __slots__ = ("_connection", "_pool", "_told")

    def __init__(
        self,
        pool: AsyncConnectionPool[PipelinedConnection],
        told: Callable[[BaseException], None],
    ) -> None:
        """Borrow from *pool*; *told* of an error, here or in the block, may raise another one."""
        self._pool = pool
        self._told = told

    async def __aenter__(self) -> PipelinedConnection:
        """Return a connection, which nobody else has meanwhile."""
        try:
            self._connection = await _borrow(self._pool)
        except Exception as error:
            self._told(error)
            raise
        return self._connection

    async def __aexit__(
        self, kind: object, error: BaseException | None, _traceback: object
    ) -> None:
        """Give it back, or let the pool make a new one in its place."""
        try:
            # What a cancelled pipeline left on the wire must never be read by the next borrower
            # (the accident of CVE-2023-28858). And where a primary was replaced, the address
            # may lead to its successor by now.
            if isinstance(error, (asyncio.CancelledError, pg.ReadOnlySqlTransaction)):
                await self._connection.close()
        finally:
            # A cancellation here would lose the connection to the pool for good.
            await _to_its_end(self._pool.putconn(self._connection))
        if error is not None:
            self._told(error)


async def _borrow(pool: AsyncConnectionPool[PipelinedConnection]) -> PipelinedConnection:
    """Take a connection that is alive. One that is not makes the pool open another.

    The pool's own `check` pauses a second after each dead one, and gives back a
    connection that failed it unless psycopg has noticed that it is closed.
    """
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    while True:
        connection = await pool.getconn()
        if task and task.cancelling() > cancelled:
            # The pool waits with `wait_for`, which before Python 3.12 may swallow it.
            await _to_its_end(pool.putconn(connection))
            raise asyncio.CancelledError
        if is_alive(connection):
            return connection
        await connection.close()
        await pool.putconn(connection)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do *work*, whether who waits for it is cancelled or not.

    A shield costs a task and two turns of the event loop. Mostly nothing has to be waited
    for, so no cancellation can come, and only what is left then becomes a task.
    """
    try:
        waited_for = work.send(None)
    except StopIteration:
        return
    await asyncio.shield(_rest(work, waited_for))


async def _rest(work: Coroutine[Any, Any, None], waited_for: object) -> None:
    await _going_on(work, waited_for)


@coroutine
def _going_on(
    work: Coroutine[Any, Any, None], waited_for: object
) -> Generator[object, object, None]:
    yield waited_for
    yield from work.__await__()


def is_alive(connection: AsyncConnection) -> bool:
    """Whether the server still holds an idle connection, without a round trip.

    A closed socket is readable; a healthy idle one is not.
    """
    if connection.closed:
        return False
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return not poller.poll(0)
