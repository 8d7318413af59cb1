"""Rehearsals: what a new connection does for nobody, before anybody waits for it.

A process of PostgreSQL reads about tables, policies and triggers when it first meets them, and
plans a statement anew for each of its first five times. Whoever asked first on a connection
waited ten times as long for it. What is done in a rehearsal is undone.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, LiteralString

import psycopg

from chatkeep.db import Database
from chatkeep.errors import ChatkeepError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from chatkeep.pipelines import PipelinedConnection

_log = logging.getLogger(__name__)

#: A table that somebody has locked keeps nobody waiting who does not need it.
_IMPATIENT: Final[LiteralString] = "set local lock_timeout = '0.5s'"
_PATIENCE_S: Final = 10.0


class _OneConnection(Database):
    """The door on a connection that is in the middle of a transaction."""

    def __init__(self, connection: PipelinedConnection) -> None:
        # There is no pool: of `Database` only what asks PostgreSQL is of use here.
        self._lent = nullcontext(connection)

    def _connection(self) -> AbstractAsyncContextManager[PipelinedConnection]:
        return self._lent


def rehearsing(
    piece: Callable[[Database], Awaitable[None]],
) -> Callable[[PipelinedConnection], Awaitable[None]]:
    """Return what does *piece* on a connection, and leaves nothing of it behind.

    Where it cannot be done the connection is none the worse: whoever asks is told why.
    """

    async def rehearse(connection: PipelinedConnection) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await connection.exchange(("begin", ()), (_IMPATIENT, ()))
                await piece(_OneConnection(connection))
        except (ChatkeepError, psycopg.Error, TimeoutError) as error:
            if connection.closed:
                raise
            _log.info("a connection begins without a rehearsal: %s", type(error).__name__)
        with connection.within(_PATIENCE_S):
            await connection.exchange(("rollback", ()))

    return rehearse
