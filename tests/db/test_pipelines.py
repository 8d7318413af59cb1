"""Statements sent together: values, sizes and numbers that an exchange must get right."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from chatkeep import pipelines
from chatkeep.db import WORKER, ConstraintViolated, Database, Query
from chatkeep.errors import ChatkeepError, Invalid, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.postgres_servers import MigratedDatabase


@dataclass(frozen=True, slots=True)
class One:
    """A row of one value."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Two:
    """A row of two values, of which one may be missing."""

    first: str
    second: str = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The same, which looks at what it is made of."""

    first: str
    second: str = "missing"

    def __post_init__(self) -> None:
        if self.first == self.second:
            raise ValueError(self.first)


ECHO: LiteralString = "select %s::text as value"


@pytest.fixture
async def single(database: MigratedDatabase) -> AsyncIterator[Database]:
    """A door with one connection."""
    opened = Database(database.url, pool_size=1)
    await opened.open()
    yield opened
    await opened.close()


async def test_more_than_the_sockets_hold(single: Database) -> None:
    """Both sides write megabytes before either has read them, and neither waits forever."""
    values = [str(number) * 1_000_000 for number in range(10)]
    found = await single.fetch_all(WORKER, *(Query(ECHO, [value], One) for value in values))
    assert [rows[0].value for rows in found] == values


async def test_what_was_read_is_not_kept_by_an_idle_connection(single: Database) -> None:
    """Nobody may ask it for anything else for an hour."""
    values = await single.fetch(WORKER, ECHO, ["x" * 1_000_000], row=One)
    assert len(values[0].value) == 1_000_000
    async with single._pool.connection() as connection:
        assert connection._transformer.pgresult is None


async def test_rows_become_records(single: Database) -> None:
    """By the names of the columns, in whatever order; with defaults, and checked where they are."""
    both: LiteralString = "select 'b' as second, %s::text as first union all select 'd', 'c'"
    expected = [("a", "b"), ("c", "d")]
    for kind in (Two, Checked):
        rows = await single.fetch(WORKER, both, ["a"], row=kind)
        assert rows == [kind(first=first, second=second) for first, second in expected]
        assert (await single.fetch(WORKER, "select 'a' as first", [], row=kind)) == [
            kind(first="a")
        ]
    with pytest.raises(FrozenInstanceError):
        rows[0].first = "z"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="b"):
        await single.fetch(WORKER, both, ["b"], row=Checked)
    for wrong in ("select 'a' as first, 'b' as third", "select 'b' as second"):
        with pytest.raises(TypeError):
            await single.fetch(WORKER, wrong, [], row=Two)


async def test_values_come_back_as_they_went(single: Database) -> None:
    """Every kind of value that our statements carry."""
    sent: dict[str, Any] = {
        "text": "Ünï\u2028code %s %% $1",
        "small": 7,
        "large": 2**40,
        "money": Decimal("0.000001"),
        "moment": datetime(2026, 11, 21, 9, 30, tzinfo=UTC),
        "id": UUID(int=7),
        "list": ["a", "b"],
        "parts": Jsonb([{"type": "text"}]),
        "nothing": None,
        "yes": True,
    }
    query: LiteralString = (
        "select jsonb_build_array(%(text)s::text, %(text)s::text, 7 %% 4, %(small)s, %(large)s,"
        " %(money)s::numeric, %(yes)s::bool, %(nothing)s::text, %(parts)s::jsonb, %(list)s::text[])"
        " as value"
    )
    (row,) = await single.fetch(WORKER, query, sent, row=One)
    parts, words = [{"type": "text"}], ["a", "b"]
    text = sent["text"]
    assert row.value == [text, text, 3, 7, 2**40, 1e-06, True, None, parts, words]
    for name, cast in (("moment", "timestamptz"), ("id", "uuid"), ("money", "numeric")):
        typed = {
            "timestamptz": "select %s::timestamptz as value",
            "uuid": "select %s::uuid as value",
        }
        statement: Any = typed.get(cast, "select %s::numeric as value")
        assert await single.fetch(WORKER, statement, [sent[name]], row=One) == [One(sent[name])]


async def test_same_statement_with_other_types(single: Database) -> None:
    """A value of another type is another prepared statement, not an error."""
    for value in (1, 2**20, 2**40, Decimal(5), 1):
        rows = await single.fetch(WORKER, "select %s + 0 as value", [value], row=One)
        assert rows == [One(value)]


async def test_what_only_the_commit_refuses_is_told(
    single: Database, database: MigratedDatabase
) -> None:
    """All statements were answered by then, and nothing of them is kept: nobody is told it was."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "create table public.checked_late (value integer,"
            " constraint once unique (value) deferrable initially deferred)"
        )
        connection.execute("grant select, insert on public.checked_late to chatkeep_worker")
    add: LiteralString = "insert into public.checked_late values (1) returning value"
    assert await single.execute(WORKER, add, []) == 1
    for _ in range(2):
        with pytest.raises(ConstraintViolated, match="once"):
            await single.execute(WORKER, add, [])
        with pytest.raises(ConstraintViolated, match="once"):
            await single.fetch(WORKER, add, [], row=One)
    rows = await single.fetch(WORKER, "select value from public.checked_late", [], row=One)
    assert rows == [One(1)]


async def test_more_statements_than_are_prepared(
    single: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is not filled with prepared statements: further ones are sent as they are."""
    monkeypatch.setattr(pipelines, "_PREPARED_AT_MOST", 3)
    for _ in range(2):
        for statement in ("select 1 as value", "select 2 as value", "select 3 as value", ECHO):
            assert await single.fetch(WORKER, statement, ["x"][: statement.count("%s")], row=One)
    (held,) = await single.fetch(
        WORKER, "select count(*)::int as value from pg_prepared_statements", [], row=One
    )
    assert held.value == 3


async def test_statement_that_cannot_be_prepared_is_tried_again(
    single: Database, database: MigratedDatabase
) -> None:
    """A table that was missing when a statement was first sent may be there later."""
    ask: LiteralString = "select value from public.comes_later"
    for _ in range(2):
        with pytest.raises(ChatkeepError):
            await single.fetch_all(WORKER, Query(ECHO, ["before"], One), Query(ask, [], One))
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute("create table public.comes_later as select 1 as value")
        connection.execute("grant select on public.comes_later to chatkeep_worker")
        found = await single.fetch_all(WORKER, Query(ECHO, ["after"], One), Query(ask, [], One))
        assert found == [[One("after")], [One(1)]]
        connection.execute("drop table public.comes_later")


async def test_statement_whose_columns_have_changed_is_prepared_anew(
    single: Database, database: MigratedDatabase
) -> None:
    """A migration beside the traffic is noticed by nobody, and what went before is done once."""
    database.operate("create table public.migrated as select 1 as value")
    database.operate("create table public.counted (value integer)")
    database.operate("grant select on public.migrated to chatkeep_worker")
    database.operate("grant select, insert on public.counted to chatkeep_worker")
    count = Query("insert into public.counted values (1) returning value", [], One)
    ask = Query("select * from public.migrated", [], One)
    for kind, value in (("integer", 1), ("text", "1"), ("integer", 1)):
        database.operate(
            f"alter table public.migrated alter column value type {kind} using value::{kind}"
        )
        for _ in range(2):
            assert await single.fetch_all(WORKER, count, ask) == [[One(1)], [One(value)]]
    assert database.operate("select count(*) from public.counted") == [(6,)]
    database.operate("alter table public.migrated alter column value type text")
    with pytest.raises(Unavailable):
        await counted_and_asked(single, count, ask)
    assert database.operate("select count(*) from public.counted") == [(6,)]


async def counted_and_asked(db: Database, *queries: Query[One]) -> None:
    """Exchange *queries* one by one in a transaction, which an error undoes as a whole."""
    async with db.acting_as(WORKER) as connection:
        assert isinstance(connection, pipelines.PipelinedConnection)
        for query in queries:
            await connection.exchange((query.text, query.params))


async def test_steps_whose_columns_have_changed_meanwhile_may_be_tried_again(
    single: Database, database: MigratedDatabase
) -> None:
    """What came before them in the transaction is undone, so they are told to come back, once."""
    database.operate("create table public.widened as select 1 as value")
    database.operate("grant select on public.widened to chatkeep_worker")

    async def act() -> object:
        async with single.acting_as(WORKER) as connection:
            cursor = await connection.execute("select value from public.widened", prepare=True)
            return await cursor.fetchone()

    assert await act() == (1,)
    database.operate("alter table public.widened alter column value type text")
    with pytest.raises(Unavailable) as told:
        await act()
    assert told.value.retry_after_s == 1
    assert await act() == ("1",)


async def test_statements_that_somebody_has_deallocated_are_prepared_anew(single: Database) -> None:
    """As a pooler does that gives a connection back to the next of its clients."""
    for _ in range(2):
        assert await single.fetch(WORKER, ECHO, ["x"], row=One) == [One("x")]
        async with single._pool.connection() as connection:
            await connection.execute("deallocate all")


async def test_prepared_statements_of_two_connections_have_no_name_in_common(
    database: MigratedDatabase,
) -> None:
    """Where connections are shared, a name would be found that stands for another statement."""
    names: list[str] = []
    for _ in range(2):
        db = Database(database.url, pool_size=1)
        await db.open()
        await db.fetch(WORKER, ECHO, ["x"], row=One)
        async with db._pool.connection() as connection:
            await connection.execute("select 1 where %s", [True], prepare=True)
            found = await connection.execute("select name from pg_prepared_statements")
            names += [name for (name,) in await found.fetchall()]
        await db.close()
    assert len(names) == len(set(names)) == 6


async def test_error_between_others_is_the_one_that_is_told(single: Database) -> None:
    """Of several statements the one that failed is named, not those skipped after it."""
    fails = Query("select 1 / 0 as value", [], One)
    with pytest.raises(Invalid):
        await single.fetch_all(WORKER, Query(ECHO, ["x"], One), fails, Query(ECHO, ["y"], One))
    assert await single.fetch(WORKER, ECHO, ["works"], row=One) == [One("works")]
