"""Rehearsals: a new connection has planned a turn before anybody asks, and kept nothing of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, LiteralString

import psycopg
import pytest

from chatkeep.answering import checkpoints, turns
from chatkeep.answering.checkpoints import Checkpoint
from chatkeep.answering.nobodys_turn import nobodys_turn
from chatkeep.db import OWN_LOGIN, WORKER, Database
from chatkeep.rehearsals import rehearsing
from chatkeep.runs import Ending
from tests.machine_time import quick
from tests.patience import PATIENCE_S
from tests.serving import until
from tests.turns import a_turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.postgres_servers import MigratedDatabase


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rehearsal ends however slow the machine is: given up it leaves nothing to be looked at."""
    monkeypatch.setattr("chatkeep.rehearsals._PATIENCE_S", PATIENCE_S)
    idling = f"set local idle_in_transaction_session_timeout = '{PATIENCE_S:g}s'"
    monkeypatch.setattr("chatkeep.rehearsals._NO_IDLING", idling)


@asynccontextmanager
async def _opened(
    database: MigratedDatabase,
    rehearsal: Callable[[Database], Awaitable[None]],
    *,
    pool_size: int = 1,
    wait: bool = True,
    behind_pooler: bool = False,
) -> AsyncIterator[Database]:
    """Open a door whose connections do *rehearsal*, for as long as the block takes."""
    db = Database(
        database.url,
        pool_size=pool_size,
        behind_pooler=behind_pooler,
        borrow_timeout_s=PATIENCE_S,
        rehearse=rehearsing(rehearsal),
    )
    await db.open(wait=wait)
    try:
        yield db
    finally:
        await db.close()


@dataclass(slots=True)
class _Rehearsal:
    """One that sends a *statement*, and counts how often it is *tried*."""

    statement: LiteralString
    tried: int = 0

    async def __call__(self, db: Database) -> None:
        self.tried += 1
        await db.execute(OWN_LOGIN, self.statement, [])


@pytest.fixture
async def rehearsed(patient: None, database: MigratedDatabase) -> AsyncIterator[Database]:
    """A door with one connection, which has rehearsed."""
    async with _opened(database, nobodys_turn) as db:
        yield db


async def _planned(db: Database) -> dict[str, int]:
    """Return how often each statement of the pool's connection was planned for all values."""
    async with db._pool.connection() as connection:
        cursor = await connection.execute(
            "select statement, generic_plans from pg_prepared_statements where custom_plans = 0"
        )
        return dict(await cursor.fetchall())


async def test_nothing_of_a_rehearsal_is_left(rehearsed: Database) -> None:
    """Nor a caller, nor a transaction, nor the kind of plan of what acts for nobody."""
    assert any("insert into chat.runs" in text for text in await _planned(rehearsed))
    async with rehearsed._pool.connection() as connection:
        for setting, expected in (
            ("chatkeep.user_id", {"", None}),
            ("role", {"none"}),
            ("lock_timeout", {"0"}),
            ("idle_in_transaction_session_timeout", {"0"}),
            ("plan_cache_mode", {"force_generic_plan"}),
        ):
            cursor = await connection.execute("select current_setting(%s, true)", [setting])
            (found,) = await cursor.fetchone() or ("missing",)
            assert found in expected, setting


async def test_rehearsal_writes_nothing(database: MigratedDatabase) -> None:
    """Dead rows would have autovacuum measure empty tables, and an operator's triggers be told."""
    numbers: list[_Number] = []

    async def counted(db: Database) -> None:
        await nobodys_turn(db)
        # PostgreSQL gives a transaction a number when it writes its first row.
        numbers.extend(await db.fetch(WORKER, _NUMBER, [], row=_Number))

    async with _opened(database, counted):
        pass
    assert numbers == [_Number(None)]


@dataclass(frozen=True, slots=True)
class _Number:
    number: str | None


_NUMBER: Final[LiteralString] = "select pg_current_xact_id_if_assigned()::text as number"


async def test_first_turn_on_a_connection_finds_its_statements_planned(
    rehearsed: Database,
) -> None:
    """Those that begin an answer, keep it and end it; none of them is planned for it anew."""
    before = await _planned(rehearsed)
    turn = a_turn()
    await turns.start(rehearsed, "ana", turn)
    said = Checkpoint(user_id="ana", run=turn.address, content="Hel", parts=None)
    assert await checkpoints.keep(rehearsed, [said]) == [False]
    ending = Ending(state="done")
    await checkpoints.finish(
        rehearsed, "ana", turn.address, ending, content="Hello", parts=None, title=None
    )
    after = await _planned(rehearsed)
    assert {text for text in after if after[text] > before.get(text, 0)} <= before.keys()
    for hot in ("insert into chat.runs", "update chat.runs set state"):
        assert [after[text] for text in before if hot in text] == [2]


async def test_connection_is_lent_where_a_rehearsal_cannot_be(
    database: MigratedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """A table that somebody has locked keeps nobody waiting who asks for something else."""
    with psycopg.connect(database.admin_url) as admin, caplog.at_level("INFO", "chatkeep"):
        admin.execute("lock table chat.runs in access exclusive mode")
        with quick(5.0):
            async with _opened(database, nobodys_turn) as db:
                assert await db.execute(WORKER, "select 1", []) == 1
    assert "without a rehearsal for a minute: LockNotAvailable" in caplog.text


async def test_lost_connection_is_replaced_in_the_middle_of_a_rehearsal(
    database: MigratedDatabase,
) -> None:
    """Another one is made, without: that could be lost in it, too, and so each that comes."""
    lost = _Rehearsal("select pg_terminate_backend(pg_backend_pid())")
    async with _opened(database, lost, pool_size=2) as db:
        assert await db.execute(WORKER, "select 1", []) == 1
        assert lost.tried <= 2


async def test_server_starts_where_a_rehearsal_hangs(
    database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up, and none is tried on the connections that come next."""
    monkeypatch.setattr("chatkeep.rehearsals._PATIENCE_S", 0.3)
    hanging = _Rehearsal("select pg_sleep(60)")
    async with _opened(database, hanging, pool_size=3) as db:
        await until(lambda: db.state().idle == 3)
        assert hanging.tried <= 2


async def test_nobody_waits_for_a_rehearsal(database: MigratedDatabase) -> None:
    """Whoever asks while a connection is made gets it at once; later ones are rehearsed."""
    rehearsal, all_served = _Rehearsal("select 1"), asyncio.Barrier(2)

    async def ask(db: Database) -> None:
        # Held until both are served: one that came back early would serve the other as well, and
        # nobody would wait any more for the connection that is still being made.
        async with db.acting_as(WORKER):
            await all_served.wait()

    async with _opened(database, rehearsal, pool_size=2, wait=False) as db:
        async with asyncio.TaskGroup() as asking:
            for _ in range(2):
                asking.create_task(ask(db))
        assert rehearsal.tried == 0
        async with db._pool.connection() as connection:
            await connection.close()
        await until(lambda: db.state().idle == 2)
        assert rehearsal.tried == 1


async def test_nothing_is_rehearsed_behind_a_pooler(database: MigratedDatabase) -> None:
    """The connections behind it are other ones, and are lent to others."""
    rehearsal = _Rehearsal("select 1")
    async with _opened(database, rehearsal, behind_pooler=True) as db:
        assert await db.execute(WORKER, "select 1", []) == 1
        assert rehearsal.tried == 0
