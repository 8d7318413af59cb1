"""Rehearsals: what a new connection does for nobody, before anybody waits for it.

A process of PostgreSQL reads about tables, policies and triggers when it first meets them, and
plans a statement anew for each of its first five times. Whoever asked first on a connection
waited ten times as long for it. What is done in a rehearsal is undone.
"""

from __future__ import annotations

import asyncio
import logging
import time
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
#: Should this machine vanish meanwhile, its locks do not stay for hours.
_NO_IDLING: Final[LiteralString] = "set local idle_in_transaction_session_timeout = '10s'"
#: Less than a borrower is patient, and than a start is.
_PATIENCE_S: Final = 2.0
_REST_S: Final = 60.0


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

    Where it cannot be done the connection is none the worse: whoever asks is told why. Nor are
    the next ones, on which it is not tried for a minute: each could be lost with it.
    """
    rests_until = float("-inf")

    async def rehearse(connection: PipelinedConnection) -> None:
        nonlocal rests_until
        if time.monotonic() < rests_until:
            return
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await connection.exchange(("begin", ()), (_IMPATIENT, ()), (_NO_IDLING, ()))
                await piece(_OneConnection(connection))
        except (ChatkeepError, psycopg.Error, TimeoutError) as error:
            rests_until = time.monotonic() + _REST_S
            _log.info(
                "connections begin without a rehearsal for a minute: %s", type(error).__name__
            )
            if connection.closed:
                raise
        with connection.within(_PATIENCE_S):
            await connection.exchange(("rollback", ()))

    return rehearse
