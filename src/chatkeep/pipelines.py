"""One exchange with PostgreSQL: statements sent together, their answers read together.

What psycopg's cursors do in a pipeline, without a cursor, two locks and a turn of the event
loop for each statement, and without a timer for each wait: half of what the hot statements took
was that (`benchmarks/database.py` has the figures). Adapting values and errors stay psycopg's
own. Nothing here knows a caller or a table; `chatkeep.db` is the door.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple, TypeVar

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus
from psycopg.waiting import Ready, Wait

from chatkeep.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg.abc import Buffer, PQGen
    from psycopg.pq.abc import PGconn, PGresult

_log = logging.getLogger(__name__)

Row = TypeVar("Row")
_Waited = TypeVar("_Waited")
Params = Sequence[object] | Mapping[str, object]

#: Statements are literals, so their number is known and small. More are sent unprepared.
_PREPARED_AT_MOST = 400
_CANCELLED_WITHIN_S = 5.0
_PLACEHOLDER = re.compile(r"%%|%(?:\((\w+)\))?s")


class _Bound(NamedTuple):
    """A statement with its values, as they are sent."""

    query: bytes
    values: Sequence[Buffer | None]
    types: tuple[int, ...]
    formats: Sequence[Format]


class PipelinedConnection(AsyncConnection[Any]):
    """A connection of psycopg's that also has `exchange`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 -- psycopg's own
        """Take what psycopg gives its connections."""
        super().__init__(*arguments, **options)
        self._transformer = Transformer(self)
        self._names: dict[tuple[bytes, tuple[int, ...]], bytes] = {}
        # Nobody else's: a transaction pooler that prepared statements were not switched off for
        # gives each transaction any of its connections, with the statements of others.
        self._own = secrets.token_urlsafe(6).encode()
        self._prepared._prepared_idx = secrets.randbits(48)  # noqa: SLF001 -- psycopg's names likewise
        self._named = 0
        self._patience: Patience | None = None
        self._patience_of_psycopg: Patience | None = None
        #: So many seconds each of psycopg's own statements is waited for; None is for ever.
        self.patience_s: float | None = None

    def within(self, seconds: float) -> Patience:
        """Limit what this connection is waited for next: `with connection.within(20): await ...`.

        Raises:
            TimeoutError: when it took longer.
        """
        if self._patience is None:
            self._patience = Patience()
        return self._patience.until(asyncio.get_running_loop().time() + seconds)

    async def wait(self, gen: PQGen[_Waited], *arguments: Any, **options: Any) -> _Waited:  # noqa: ANN401 -- psycopg's own
        """Wait as psycopg does, but not for ever where the server hangs.

        Raises:
            TimeoutError: it took longer than `patience_s`.
        """
        if self.patience_s is None:
            return await super().wait(gen, *arguments, **options)
        if self._patience_of_psycopg is None:
            self._patience_of_psycopg = Patience()
        until = asyncio.get_running_loop().time() + self.patience_s
        with self._patience_of_psycopg.until(until):
            return await super().wait(gen, *arguments, **options)

    async def exchange(
        self, *statements: tuple[LiteralString, Params], binary: bool = True
    ) -> list[PGresult]:
        """Send *statements* in one round trip, and return what each answered.

        Outside a transaction they are one, which is kept or undone as a whole: nothing is
        sent before all of it could be. There it is tried again where what was prepared is of no
        use any more. *binary* asks for rows in that form.

        Raises:
            psycopg.Error: the first of them that was refused, or the connection is lost. A
                cancelled exchange closes the connection, so that nobody reads its answer.
        """
        if self.closed:
            raise psycopg.OperationalError("the connection is closed")
        bound = [self._bound(text, params) for text, params in statements]
        try:
            return await self._exchanged(bound, Format.BINARY if binary else Format.TEXT)
        except psycopg.Error as error:
            is_undone = self.pgconn.transaction_status == TransactionStatus.IDLE
            if not (is_undone and is_of_old_statement(error)):
                raise
        self._names.clear()
        return await self._exchanged(bound, Format.BINARY if binary else Format.TEXT)

    async def _exchanged(self, bound: list[_Bound], form: Format) -> list[PGresult]:
        try:
            self.pgconn.enter_pipeline_mode()
            sent = [self._send(one, form) for one in bound]
            self.pgconn.pipeline_sync()
            results = await self._answers()
            self.pgconn.exit_pipeline_mode()
        except BaseException:
            self.pgconn.finish()
            raise
        return self._checked(bound, sent, results)

    def records(self, result: PGresult, record: type[Row]) -> list[Row]:
        """Return the rows of an answer as *record*, whose fields have the columns' names."""
        count = result.ntuples
        if not count:
            return []
        names = tuple(result.fname(column) or b"" for column in range(result.nfields))
        self._transformer.set_pgresult(result)
        kind: Any = record
        rows = self._transformer.load_rows(0, count, _maker(kind, names))
        # Else a connection has them for as long as nobody asks it for others.
        self._transformer.set_pgresult(None)
        return rows

    def _deallocate(self, name: bytes | None) -> PQGen[None]:
        """Forget our prepared statements when psycopg drops all: it does so after a ROLLBACK."""
        if name is None:
            self._names.clear()
        yield from super()._deallocate(name)

    def _bound(self, text: LiteralString, params: Params) -> _Bound:
        query, names = _compiled(text)
        if isinstance(params, Mapping):
            params = [params[name] for name in names]
        transformer = self._transformer
        values = transformer.dump_sequence(params, [PyFormat.AUTO] * len(params))
        return _Bound(query, values, transformer.types or (), transformer.formats or ())

    def _send(self, one: _Bound, form: Format) -> bytes | None:
        """Send a statement; return the name under which it is being prepared, if it is."""
        name = self._names.get((one.query, one.types))
        if name is not None:
            self.pgconn.send_query_prepared(name, one.values, one.formats, form)
            return None
        if self.prepare_threshold is None or len(self._names) >= _PREPARED_AT_MOST:
            self.pgconn.send_query_params(one.query, one.values, one.types, one.formats, form)
            return None
        self._named += 1
        name = b"chatkeep_%s_%d" % (self._own, self._named)
        self.pgconn.send_prepare(name, one.query, one.types)
        self.pgconn.send_query_prepared(name, one.values, one.formats, form)
        return name

    async def _answers(self) -> list[PGresult]:
        """Send what is waiting to be sent, and collect one result of each statement."""
        pgconn = self.pgconn
        if pgconn.flush():
            await self.wait(_flushing(pgconn))
        results: list[PGresult] = []
        while True:
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    if pgconn.status == ConnStatus.BAD:
                        raise psycopg.OperationalError("the connection is lost")
                elif result.status == ExecStatus.PIPELINE_SYNC:
                    return results
                else:
                    results.append(result)
            await self._wait_to_read()
            try:
                pgconn.consume_input()
            except psycopg.OperationalError as lost:
                raise self._last_words(results) or lost from None

    def _last_words(self, results: list[PGresult]) -> psycopg.Error | None:
        """Return what the server, or a pooler, said before it closed the connection: why.

        The last of the *results* that were read, or what was read with the end.
        """
        while (result := self.pgconn.get_result()) is not None:
            results.append(result)
        for last in reversed(results):
            if last.status == ExecStatus.FATAL_ERROR:
                said = errors.error_from_result(last, encoding=self.info.encoding)
                if said.sqlstate:  # without one it is libpq that speaks
                    return said
        return None

    async def _wait_to_read(self) -> None:
        """Wait until the server has answered something; who is cancelled cancels it there too."""
        loop = asyncio.get_running_loop()
        waiter, socket = loop.create_future(), self.pgconn.socket
        loop.add_reader(socket, _wake, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            await self._cancel_there()
            raise
        finally:
            loop.remove_reader(socket)

    async def _cancel_there(self) -> None:
        try:
            await self.cancel_safe(timeout=_CANCELLED_WITHIN_S)
        except psycopg.Error as error:
            _log.warning("a statement cannot be cancelled: %s", error)

    def _checked(
        self, bound: list[_Bound], preparing: list[bytes | None], results: list[PGresult]
    ) -> list[PGresult]:
        """Return the answers, without those to a preparation; raise the first refusal.

        What the server skipped because of an earlier error is not prepared: believing
        otherwise would spoil the statement for as long as the connection lives.
        """
        answers, rest = [], iter(results)
        for one, name in zip(bound, preparing, strict=True):
            if name is not None:
                self._accept(next(rest))
                self._names[one.query, one.types] = name
            answer = next(rest)
            self._accept(answer)
            answers.append(answer)
        for refusal in rest:  # of the commit, after which nothing of all that is kept
            self._accept(refusal)
        return answers

    def _accept(self, result: PGresult) -> None:
        if result.status not in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
            raise errors.error_from_result(result, encoding=self.info.encoding)


def is_of_old_statement(error: psycopg.Error) -> bool:
    """Whether nothing happened, because what was prepared is gone or no longer fits its tables.

    A migration beside the traffic changes the type of a column, or a pooler has put another
    server behind the connection.
    """
    return isinstance(error, errors.InvalidSqlStatementName) or (
        isinstance(error, errors.FeatureNotSupported)
        and error.diag.source_function == "RevalidateCachedQuery"
    )


@cache  # of literals, so there is an end to them
def _compiled(text: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a literal with PostgreSQL's placeholders, and the names in their order."""
    names: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        name = found[1] or str(len(names))
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _PLACEHOLDER.sub(numbered, text).encode(), tuple(names)


@cache  # of records and statements, so there is an end to them
def _maker(record: type[Any], columns: tuple[bytes, ...]) -> Callable[[Sequence[object]], Any]:
    """Return what makes a *record* of one row.

    A frozen dataclass makes each of its attributes by name, which takes most of the time of a
    page of rows. Its slots are filled instead, where there is nothing else to do.
    """
    names = [column.decode() for column in columns]
    slots = getattr(record, "__slots__", ()) if is_dataclass(record) else ()
    if sorted(slots) != sorted(names) or hasattr(record, "__post_init__"):
        return lambda values: record(**dict(zip(names, values, strict=True)))
    new, fills = object.__new__, [getattr(record, name).__set__ for name in names]

    def make(values: Sequence[object]) -> object:
        made = new(record)
        for fill, value in zip(fills, values, strict=True):
            fill(made, value)
        return made

    return make


def _flushing(pgconn: PGconn) -> PQGen[None]:
    """Send what is waiting to be sent, when it was too much to be sent at once."""
    while pgconn.flush():
        # Reading too: a server that waits to be read does not read on.
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
