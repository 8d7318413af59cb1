"""What an error of the driver's is for us. Values and SQL never leave this file.

Whoever asked is told what they may know; why PostgreSQL did not do it, the log is told.
"""

from __future__ import annotations

import logging

import psycopg
from psycopg import errors as pg
from psycopg_pool import PoolClosed, PoolTimeout

from chatkeep import pipelines
from chatkeep.errors import DatabaseBusy, DatabaseUnavailable, Invalid, NotFound, Unavailable
from chatkeep.outages import Reasons

_log = logging.getLogger(__name__)
_REASONS = Reasons()
_NOT_STORABLE = "The request holds a character or number that cannot be stored."


class ConstraintViolated(Exception):
    """A constraint of ours said no. Concepts match on its *name*, never on message text."""

    def __init__(self, name: str) -> None:
        """Keep the constraint's name, and none of the row's values."""
        self.name = name
        super().__init__(name)


def raise_ours(error: BaseException) -> None:
    """Raise what *error* of the driver's is for us, if it is one that we know."""
    if isinstance(error, (psycopg.Error, PoolTimeout, TimeoutError)):
        ours = _translated(error)
        if ours is not None:
            if isinstance(ours, Unavailable):
                _tell_why(error)
            raise ours from error
    elif isinstance(error, UnicodeEncodeError):
        # Half of a surrogate pair, for which UTF-8 has no bytes.
        raise Invalid(_NOT_STORABLE) from error


def _tell_why(error: psycopg.Error | PoolTimeout | TimeoutError) -> None:
    """Log why PostgreSQL, or a pooler before it, has not done it, which whoever asked is not told.

    A time limit, a lock, a password, an administrator, too few connections: each once a minute.
    """
    match error:
        case pg.SerializationFailure() | pg.DeadlockDetected() | PoolClosed():
            return  # as happens
        case (
            pg.ReadOnlySqlTransaction() | pg.DiskFull() | pg.UndefinedTable() | pg.UndefinedColumn()
        ):
            return  # told in words of their own
        case PoolTimeout():
            why = "no connection was free in time (DATABASE_POOL_SIZE)"
        case psycopg.Error():
            why = " ".join((error.diag.message_primary or str(error)).split())
        case _:
            why = "it did not answer"
    if _REASONS.is_news(why):
        _log.warning("PostgreSQL did not do what it was asked: %s", why)


def _translated(error: psycopg.Error | PoolTimeout | TimeoutError) -> Exception | None:  # noqa: C901, PLR0911 -- a table, read line by line
    match error:
        case pg.UniqueViolation() | pg.ForeignKeyViolation() | pg.CheckViolation():
            return ConstraintViolated(error.diag.constraint_name or "")
        case pg.InsufficientPrivilege():
            # Row-level security refused the row: for the caller it is not there. A missing
            # grant looks the same from outside, so the log says what was refused.
            _log.warning("the database refused: %s", error.diag.message_primary)
            return NotFound()
        case pg.SerializationFailure() | pg.DeadlockDetected():
            return Unavailable(retry_after_s=1)
        case pg.LockNotAvailable():
            return DatabaseBusy(retry_after_s=1)
        case psycopg.Error() if pipelines.is_of_old_statement(error):
            return Unavailable(retry_after_s=1)  # of several steps; a single one was tried again
        case (
            pg.QueryCanceled()
            | pg.TransactionTimeout()
            | pg.IdleInTransactionSessionTimeout()
            | TimeoutError()
        ):
            return DatabaseBusy("The database took too long.")
        case pg.ReadOnlySqlTransaction() | pg.DiskFull():
            if (why := error.diag.message_primary or "") and _REASONS.is_news(why):
                _log.error("the database takes no writes: %s", why)
            return DatabaseUnavailable("The database takes no writes right now.")
        case pg.UndefinedTable() | pg.UndefinedColumn():
            _log.error("the database lacks what is needed: %s", error.diag.message_primary)
            return DatabaseUnavailable("The database lacks a table: an administrator must act.")
        case PoolTimeout() | psycopg.OperationalError() | psycopg.InterfaceError():
            return DatabaseUnavailable("The database cannot be reached right now.")
        case psycopg.DataError():
            return Invalid(_NOT_STORABLE)
        case _:
            return None
