"""The one door to SQL.

Every statement goes through here, as one of our narrow database roles and on behalf of
one caller; both are set with `set_config(..., true)` in the same round trip as the
statement, so they end with its transaction and cannot reach the next borrower of the
connection. Nothing here knows a table.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, Literal, LiteralString, ParamSpec, TypeVar

import msgspec
from psycopg import errors as pg
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool

from chatkeep import pipelines
from chatkeep.borrowing import Loan, lend_the_last_first
from chatkeep.database_errors import ConstraintViolated, raise_ours
from chatkeep.errors import Unavailable
from chatkeep.pipelines import PipelinedConnection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from psycopg import AsyncConnection

__all__ = [
    "ADMIN",
    "AUTH",
    "OWN_LOGIN",
    "WORKER",
    "Caller",
    "ConstraintViolated",
    "Database",
    "Params",
    "PoolState",
    "Query",
    "Role",
    "Row",
    "as_user",
    "connection_settings",
    "run_within",
]

set_json_dumps(msgspec.json.encode)
set_json_loads(msgspec.json.decode)

#: "none" is whoever the address logs in as: for a database that is not ours.
Role = Literal["chatkeep_app", "chatkeep_auth", "chatkeep_worker", "chatkeep_admin", "none"]
Row = TypeVar("Row")
_Done = TypeVar("_Done")
_Given = ParamSpec("_Given")
Params = pipelines.Params

_BORROW_TIMEOUT_S = 5.0
_STATEMENT_TIMEOUT = "15s"
# Longer than the server's own patience: it does not count where the server itself hangs.
_PATIENCE_S = 20.0
_AFTER_A_DEADLOCK_S = 0.05
_ACT_AS: LiteralString = (
    "select set_config('role', %s, true), set_config('chatkeep.user_id', %s, true),"
    " set_config('statement_timeout', %s, true)"
)
# What people send finds its rows by whole keys whatever the values are, and is planned once for
# each connection. Left to itself PostgreSQL plans it anew for its first five uses, as is best for
# what looks through many people's rows. To say so in each statement would cost it 7 us. And each
# statement sees what those did for whom it or one before it has waited, whatever the database's
# own default is: else limits would be passed by who comes at once. Where a pooler stands between
# of which nobody has told us, whoever it lends its connection to next would have it, too: it
# tells us of no process that is PostgreSQL's.
_MADE_READY: LiteralString = (
    "select set_config('plan_cache_mode', 'force_generic_plan', false),"
    " set_config('default_transaction_isolation', 'read committed', false),"
    " set_config('TimeZone', 'UTC', false)"
    " where pg_backend_pid() = %s"
)
# Several steps are read as text, of which psycopg knows times in these styles alone.
_IN_STEPS: LiteralString = (
    ", set_config('DateStyle', 'ISO, MDY', true), set_config('IntervalStyle', 'postgres', true)"
)
_ACT_ALONE: LiteralString = _ACT_AS + ", set_config('plan_cache_mode', 'auto', true)"


@dataclass(frozen=True, slots=True)
class Caller:
    """As which role a statement runs, and for whom (`chatkeep.user_id`; '' is nobody)."""

    role: Role
    user_id: str = ""


AUTH = Caller("chatkeep_auth")
WORKER = Caller("chatkeep_worker")
ADMIN = Caller("chatkeep_admin")
OWN_LOGIN = Caller("none")


def as_user(user_id: str) -> Caller:
    """Return the caller for whom row-level security shows *user_id*'s rows and no others."""
    if not user_id:
        raise ValueError("a user id is never empty")
    return Caller("chatkeep_app", user_id)


@dataclass(frozen=True, slots=True)
class Query(Generic[Row]):
    """A statement, its values, and the record that each of its rows becomes."""

    text: LiteralString
    params: Params
    row: type[Row]


@dataclass(frozen=True, slots=True)
class _Moment:
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolState:
    """How many connections there are, are idle, and may be, and who waits for one."""

    size: int
    idle: int
    most: int
    waiting: int


def _again_after_a_deadlock(
    exchange: Callable[_Given, Coroutine[Any, Any, _Done]],
) -> Callable[_Given, Coroutine[Any, Any, _Done]]:
    """Do *exchange*, which is one transaction, once more when it was undone for another's sake.

    PostgreSQL ends one of those that wait for each other, and nothing of that one has happened.
    """

    @wraps(exchange)
    async def once_or_twice(*given: _Given.args, **named: _Given.kwargs) -> _Done:
        try:
            return await exchange(*given, **named)
        except Unavailable as error:
            if not isinstance(error.__cause__, pg.DeadlockDetected):
                raise
        await asyncio.sleep(_AFTER_A_DEADLOCK_S)  # else we may be there first, and wait again
        return await exchange(*given, **named)

    return once_or_twice


class Database:
    """PostgreSQL, reached as our narrow roles. Share one per process."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        behind_pooler: bool = False,
        borrow_timeout_s: float = _BORROW_TIMEOUT_S,
        rehearse: Callable[[PipelinedConnection], Awaitable[None]] | None = None,
    ) -> None:
        """Prepare a pool of at most *pool_size* connections; `open` connects.

        Whoever finds none free waits *borrow_timeout_s* at most. *behind_pooler* (PgBouncer
        and the like in transaction mode) switches off server-side prepared statements.
        *rehearse* (see `rehearsals`) comes first on each new connection, unless somebody waits.
        """
        self.url = url
        self._behind_pooler = behind_pooler
        self._rehearse = rehearse
        self._pool = AsyncConnectionPool(
            url,
            connection_class=PipelinedConnection,
            min_size=min(2, pool_size),
            max_size=pool_size,
            timeout=borrow_timeout_s,
            # Its pauses double: after this long the next borrower starts anew, at once.
            reconnect_timeout=_BORROW_TIMEOUT_S,
            configure=self._made_ready,
            open=False,
            kwargs=connection_settings(behind_pooler=behind_pooler),
        )
        lend_the_last_first(self._pool)

    async def open(self, *, wait: bool = True) -> None:
        """Connect; without *wait* in the background, so that whoever is away may come later.

        Two connections are enough to begin. The others follow at once, in the background, and
        stay: they would have to be made when many people come, who would wait for them.

        Raises:
            DatabaseUnavailable: waiting took longer than 10 s.
        """
        try:
            await self._pool.open(wait=wait, timeout=10)
        except Exception as error:
            raise_ours(error)
            raise
        await self._pool.resize(self._pool.max_size)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    def state(self) -> PoolState:
        """Say how the pool stands, without asking anybody."""
        said = self._pool.get_stats()
        return PoolState(
            size=said["pool_size"],
            idle=said["pool_available"],
            most=said["pool_max"],
            waiting=said["requests_waiting"],
        )

    async def fetch(
        self, caller: Caller, text: LiteralString, params: Params, *, row: type[Row]
    ) -> list[Row]:
        """Run one statement as *caller* in one round trip; return its rows as *row*."""
        (rows,) = await self.fetch_all(caller, Query(text, params, row))
        return rows

    async def now(self) -> datetime:
        """Return the time by the one clock that all nodes have; their own may be hours off."""
        (moment,) = await self.fetch(AUTH, "select now() as now", (), row=_Moment)
        return moment.now

    @_again_after_a_deadlock
    async def execute(self, caller: Caller, text: LiteralString, params: Params) -> int:
        """Run one statement as *caller* in one round trip; return how many rows it touched."""
        async with self._connection() as connection:
            with connection.within(_PATIENCE_S):
                _, answer = await connection.exchange(
                    _acting_as(caller), (text, params), binary=False
                )
            return answer.command_tuples or 0

    @_again_after_a_deadlock
    async def fetch_all(self, caller: Caller, *queries: Query[Any]) -> list[list[Any]]:
        """Run several statements as *caller* in one round trip and one transaction.

        Without an explicit BEGIN the whole exchange is one implicit transaction: either
        all of it happened or none.
        """
        async with self._connection() as connection:
            with connection.within(_PATIENCE_S):
                _, *answers = await connection.exchange(
                    _acting_as(caller), *((one.text, one.params) for one in queries)
                )
            return [
                connection.records(answer, query.row)
                for query, answer in zip(queries, answers, strict=True)
            ]

    @_again_after_a_deadlock
    async def fetch_each(self, *asked: tuple[Caller, Query[Any]]) -> list[list[Any]]:
        """Run a statement for each of several callers in one round trip and one transaction.

        Who is acting is set anew before each statement, so each sees what it would alone.
        All of it happens or none. What is deferred to the commit acts for the last of them,
        before PostgreSQL 18 as their role too: nothing of it may end a session or a key.
        """
        statements = [
            statement
            for caller, query in asked
            for statement in (_acting_as(caller), (query.text, query.params))
        ]
        async with self._connection() as connection:
            with connection.within(_PATIENCE_S):
                answers = await connection.exchange(*statements)
            return [
                connection.records(answer, query.row)
                for (_, query), answer in zip(asked, answers[1::2], strict=True)
            ]

    @asynccontextmanager
    async def acting_as(
        self, caller: Caller, *, patience_s: float | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """Lend a connection inside one transaction that acts as *caller*: for several steps.

        Commits on success and rolls back on any exception. Never await a model while
        holding it. *patience_s* is for who raises `statement_timeout`: how long each statement
        is waited for, as the server's own limit does not count where that hangs.

        Raises:
            psycopg.errors.InFailedSqlTransaction: the block went on after an error of PostgreSQL.
        """
        async with self._connection() as connection:
            connection.patience_s = patience_s or _PATIENCE_S
            try:
                async with connection.transaction():
                    text, params = _acting_as(caller)
                    await connection.execute(text + _IN_STEPS, params)
                    yield connection
                    if connection.info.transaction_status == TransactionStatus.INERROR:
                        # To a commit PostgreSQL would answer ROLLBACK, which is no error.
                        raise pg.InFailedSqlTransaction("a statement of it had failed")
            finally:
                connection.patience_s = None

    def _connection(self) -> AbstractAsyncContextManager[PipelinedConnection]:
        return Loan(self._pool, raise_ours)

    async def _made_ready(self, connection: PipelinedConnection) -> None:
        if self._behind_pooler:  # what is said or planned here is of no use to whoever comes next
            return
        connection.patience_s = _PATIENCE_S
        made = await connection.execute(_MADE_READY, [connection.info.backend_pid])
        connection.patience_s = None
        if made.rowcount and self._rehearse is not None and not self.state().waiting:
            await self._rehearse(connection)


async def run_within(connection: AsyncConnection, *queries: Query[Any]) -> list[list[Any]]:
    """Run several statements in the transaction that *connection* was lent for, together."""
    cursors = []
    async with connection.pipeline():
        for query in queries:
            cursor = connection.cursor(row_factory=class_row(query.row), binary=True)
            cursors.append(await cursor.execute(query.text, query.params))
    return [await cursor.fetchall() for cursor in cursors]


def connection_settings(*, behind_pooler: bool) -> dict[str, Any]:
    """Return how every connection of ours is made: autocommit, and quick to notice death."""
    return {
        "autocommit": True,
        "connect_timeout": 5,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 8000,
        "application_name": "chatkeep",
        "client_encoding": "UTF8",  # whatever PGCLIENTENCODING says, or the login's settings
        "prepare_threshold": None if behind_pooler else 5,
    }


def _acting_as(caller: Caller) -> tuple[LiteralString, tuple[str, str, str]]:
    text = _ACT_AS if caller.role == "chatkeep_app" else _ACT_ALONE
    return text, (caller.role, caller.user_id, _STATEMENT_TIMEOUT)
