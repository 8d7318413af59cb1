"""The one door to SQL: what one borrower of a connection did never reaches the next."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, LiteralString, get_args

import psycopg
import pytest

from chatkeep import borrowing, database_errors
from chatkeep import db as door
from chatkeep.conversations import start_conversation
from chatkeep.db import OWN_LOGIN, WORKER, ConstraintViolated, Database, Query, as_user
from chatkeep.errors import ChatkeepError, DatabaseUnavailable, Invalid, NotFound, Unavailable
from chatkeep.ids import new_id
from chatkeep.outages import Reasons
from tests.db.interleaving import ASK, Answer, interleave
from tests.machine_time import quick
from tests.patience import PATIENCE_S
from tests.postgres_servers import LOGIN, StopMode
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.postgres_servers import MigratedDatabase, Server

ROUNDS = 10_000


@dataclass(frozen=True, slots=True)
class Left:
    """What a connection still has when nobody holds it."""

    role: str
    user_id: str | None
    statement_timeout: str
    plan_cache_mode: str


@pytest.fixture
async def single(database: MigratedDatabase) -> AsyncIterator[Database]:
    """A door with one connection, so that everybody gets the same one."""
    opened = Database(database.url, pool_size=1, borrow_timeout_s=PATIENCE_S)
    await opened.open()
    yield opened
    await opened.close()


async def left_on(db: Database) -> Left:
    """Return what the pool's connection still has."""
    async with db._pool.connection() as connection:
        cursor = await connection.execute(
            "select current_setting('role'), current_setting('chatkeep.user_id', true),"
            " current_setting('statement_timeout'), current_setting('plan_cache_mode')"
        )
        row = await cursor.fetchone()
        assert row is not None
        return Left(*row)


def is_clean(left: Left) -> bool:
    """Whether nothing of a former caller is left."""
    theirs = Left("none", "", "0", "force_generic_plan")
    return replace(left, user_id=left.user_id or "") == theirs


async def test_interleaved_people_never_read_each_other(
    single: Database, people: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 rounds on one connection with errors, time-outs and hang-ups: no cross-read."""
    monkeypatch.setattr(door, "_STATEMENT_TIMEOUT", "50ms")
    outcomes = await interleave(single, people, rounds=ROUNDS)
    assert outcomes.total() > ROUNDS * 0.97
    assert outcomes["answered"] > ROUNDS * 0.8
    assert min(outcomes[kind] for kind in ("cancelled", "Invalid", "NotFound", "DatabaseBusy")) > 20
    assert outcomes["DatabaseUnavailable"] == 0
    assert is_clean(await left_on(single))
    assert single._pool.get_stats()["pool_size"] == 1


FATES: dict[str, LiteralString] = {
    "success": "select 1 as nonce, '' as who, array[]::text[] as owners",
    "an error": "select 1 / 0 as nonce, '' as who, array[]::text[] as owners",
    "a refusal": "select 1 as nonce from chatkeep.users",
    "a time-out": "select 1 as nonce from pg_sleep(9)",
}


@pytest.mark.parametrize("fate", FATES)
async def test_nothing_is_left_on_the_connection(
    fate: str, single: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Role, caller, time limit and kind of plan end with the statement, however it ended."""
    monkeypatch.setattr(door, "_STATEMENT_TIMEOUT", "50ms")
    for caller in (as_user("ana"), WORKER):
        try:
            await single.fetch(caller, FATES[fate], [], row=Answer)
        except ChatkeepError:
            assert fate != "success"
        assert is_clean(await left_on(single))


async def test_what_people_send_is_planned_once_for_each_connection(single: Database) -> None:
    """Not for each of its first five uses; what looks through everybody's rows is, as is best."""
    for caller in (as_user("ana"), WORKER):
        for _ in range(3):
            await single.execute(caller, "select %s::text", [caller.role])
    async with single._pool.connection() as connection:
        cursor = await connection.execute(
            "select generic_plans, custom_plans from pg_prepared_statements"
            " where statement = 'select $1::text'"
        )
        assert await cursor.fetchone() == (3, 3)


async def test_every_letter_is_stored_whatever_the_environment_says(
    database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`PGCLIENTENCODING` is for other programs: what LATIN1 has no letter for would be refused."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    opened = Database(database.url, pool_size=1)
    await opened.open()
    (row,) = await opened.fetch(WORKER, "select length(%s) as pid", ["用户 😀"], row=Served)
    await opened.close()
    assert row.pid == 4


async def test_all_connections_are_made_before_many_come(database: MigratedDatabase) -> None:
    """Whoever opens the pool waits for two of them; nobody waits for the others."""
    db = Database(database.url, pool_size=6)
    await db.open()
    try:
        await until(lambda: (db.state().size, db.state().idle) == (6, 6))
    finally:
        await db.close()


async def test_cancelled_statement_ends_at_once(
    single: Database, database: MigratedDatabase
) -> None:
    """Who hangs up does not wait, the server stops working for them, the next is served."""
    task = asyncio.create_task(
        single.execute(as_user("ana"), "select pg_sleep(60)", []), name="hangs up"
    )
    await backends(database.admin_url, "query ~ 'pg_sleep.60' and state = 'active'", 1)
    with quick(2.0):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await single.execute(WORKER, "select 1", []) == 1
        await backends(database.admin_url, "query ~ 'pg_sleep.60' and state = 'active'", 0)


async def backends(admin_url: str, condition: LiteralString, wanted: int) -> None:
    """Wait until as many of our connections to this database as *wanted* meet *condition*."""
    query: LiteralString = (
        "select count(*) from pg_stat_activity where datname = current_database()"  # noqa: S608 -- ours
        " and application_name = 'chatkeep' and " + condition
    )
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as connection:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                row = await (await connection.execute(query)).fetchone()
                if row == (wanted,):
                    return


@pytest.mark.parametrize("before", range(9))
async def test_failing_pipeline_spoils_no_statement(before: int, single: Database) -> None:
    """However often a statement ran before its pipeline failed, it works afterwards.

    psycopg prepares a statement after a number of uses; when the server skips that because
    of an earlier error, the connection must not believe that it happened.
    """

    async def ask(divisor: int) -> None:
        slow_so_that_both_are_sent = Query(
            "select 1 / %s::int as nonce, '' as who, array[]::text[] as owners"
            " from pg_sleep(0.005)",
            [divisor],
            Answer,
        )
        await single.fetch_all(as_user("ana"), slow_so_that_both_are_sent, Query(ASK, [1], Answer))

    for _ in range(before):
        await ask(1)
        async with single.acting_as(as_user("ana")) as connection:
            await connection.execute(ASK, [1])
    with pytest.raises(Invalid):
        await ask(0)
    await ask(1)


@pytest.mark.parametrize("value", ["\0", "\ud800"], ids=["NUL", "half a surrogate pair"])
async def test_what_cannot_be_sent_undoes_what_was(
    value: str, single: Database, database: MigratedDatabase
) -> None:
    """Either all statements of a pipeline happened or none, also when one cannot be sent."""
    person = new_id()
    make: LiteralString = "insert into chat.conversations (user_id, id) values (%s, %s)"
    with pytest.raises(Invalid):
        await single.fetch_all(
            as_user(person),
            Query(make, [person, "first"], Answer),
            Query(make, [person, value], Answer),
        )
    with psycopg.connect(database.admin_url) as connection:
        made = connection.execute(
            "select count(*) from chat.conversations where user_id = %s", [person]
        ).fetchone()
    assert made == (0,)
    assert await single.execute(as_user(person), make, [person, "works again"]) == 1


async def test_refused_statement_undoes_the_ones_before_it(single: Database) -> None:
    """A pipeline is one transaction: a violated constraint takes all of it back."""
    person = new_id()
    make: LiteralString = "insert into chat.conversations (user_id, id) values (%s, %s)"
    with pytest.raises(ConstraintViolated, match="conversations_pkey"):
        await single.fetch_all(
            as_user(person),
            Query(make, [person, "same"], Answer),
            Query(make, [person, "same"], Answer),
        )
    assert await single.execute(as_user(person), make, [person, "same"]) == 1


async def test_several_steps_are_kept_or_undone_together(single: Database) -> None:
    """`acting_as` commits at its end, and rolls back on any exception."""
    person = new_id()
    make: LiteralString = "insert into chat.conversations (user_id, id) values (%s, %s)"

    async def change_ones_mind() -> None:
        async with single.acting_as(as_user(person)) as connection:
            await connection.execute(make, [person, "one"])
            raise NotFound

    with pytest.raises(NotFound):
        await change_ones_mind()
    async with single.acting_as(as_user(person)) as connection:
        await connection.execute(make, [person, "one"])
    erase: LiteralString = "delete from chat.conversations"
    assert await single.execute(as_user(person), erase, []) == 1


async def test_what_went_on_after_an_error_is_not_taken_for_done(single: Database) -> None:
    """PostgreSQL undoes all of it at the commit, and calls that no error."""
    person = new_id()

    async def go_on_after_an_error() -> None:
        async with single.acting_as(as_user(person)) as connection:
            await connection.execute(
                "insert into chat.conversations (user_id, id) values (%s, 'one')", [person]
            )
            with suppress(psycopg.Error):
                await connection.execute("select 1 / 0")

    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        await go_on_after_an_error()
    assert await single.execute(WORKER, "select 1", []) == 1


async def test_errors_tell_no_values(single: Database) -> None:
    """What a caller is told holds neither a row's values nor SQL nor the driver's words."""
    faults: list[LiteralString] = [
        "select %s::text::int as nonce",
        "select %s::text as nonce from chatkeep.users",
        "insert into chat.profiles (id, locale) values ('ana', %s), ('ana', 'twice')",
    ]
    for statement in faults:
        with pytest.raises((ChatkeepError, ConstraintViolated)) as raised:
            await single.execute(as_user("ana"), statement, ["canary"])
        assert "canary" not in str(raised.value)
        assert "select" not in str(raised.value)


def test_nobody_is_a_caller_by_mistake() -> None:
    """An empty user id is a bug of ours, never a caller."""
    with pytest.raises(ValueError, match="never empty"):
        as_user("")


async def test_busy_pool_answers_in_time(single: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gets no connection in time is told to try again, and the holder is not disturbed."""
    monkeypatch.setattr(single._pool, "timeout", 0.05)
    async with single.acting_as(WORKER) as connection:
        with pytest.raises(DatabaseUnavailable) as raised:
            await single.execute(WORKER, "select 1", [])
        assert raised.value.retry_after_s
        await connection.execute("select 1")


async def kill(database: MigratedDatabase) -> None:
    """End every connection of ours, as an administrator or a failing network does."""
    async with await psycopg.AsyncConnection.connect(
        database.admin_url, autocommit=True
    ) as connection:
        await connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and application_name = 'chatkeep'"
        )


async def test_killed_idle_connections_are_not_noticed(
    db: Database, database: MigratedDatabase
) -> None:
    """After all idle connections were ended, the next borrowers are served at once."""
    sleeps = (db.execute(WORKER, "select pg_sleep(0.05)", []) for _ in range(4))
    await asyncio.gather(*sleeps)
    await backends(database.admin_url, "true", 4)
    await kill(database)
    with quick(1.0):
        answers = await asyncio.gather(*(db.execute(WORKER, "select 1", []) for _ in range(8)))
    assert answers == [1] * 8


async def test_connection_killed_at_work_fails_once(
    single: Database, database: MigratedDatabase
) -> None:
    """The statement that was running says to try again; trying again works."""
    task = asyncio.create_task(single.execute(WORKER, "select pg_sleep(60)", []))
    await backends(database.admin_url, "query ~ 'pg_sleep.60' and state = 'active'", 1)
    await kill(database)
    with pytest.raises(Unavailable):
        await task
    assert await single.execute(WORKER, "select 1", []) == 1


async def test_restart_of_postgresql_is_survived(own_server: Server) -> None:
    """While it is away callers are told so; within 5 s of its return they are served."""
    name = own_server.migrated_template()
    with psycopg.connect(own_server.url(name), autocommit=True) as connection:
        connection.execute("checkpoint")  # these servers do not keep what a crash takes
    db = Database(own_server.url(name, user=LOGIN), pool_size=4)
    await db.open()
    for mode in get_args(StopMode):
        assert await db.execute(WORKER, "select 1", []) == 1
        await asyncio.to_thread(own_server.stop, mode)
        waiting = [asyncio.create_task(db.execute(WORKER, "select 1", [])) for _ in range(6)]
        await asyncio.wait(waiting, timeout=0.5)
        await asyncio.to_thread(own_server.start)
        with quick(5.0):
            served = await asyncio.gather(*waiting, return_exceptions=True)
            await until_served(db)
        assert {type(one) for one in served} <= {int, DatabaseUnavailable}
    await db.close()


async def test_connection_to_a_replaced_primary_is_given_up(
    single: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever finds that it takes no writes is told so; the next one connects anew."""
    monkeypatch.setattr(database_errors, "_REASONS", Reasons())
    async with single._pool.connection() as connection:
        await connection.execute("set default_transaction_read_only = on")
    with pytest.raises(DatabaseUnavailable, match="takes no writes"):
        await start_conversation(single, "ana", greeting="Hello")
    assert await start_conversation(single, "ana", greeting="Hello")
    (told,) = [one.getMessage() for one in caplog.records if one.name == "chatkeep.database_errors"]
    assert told.startswith("the database takes no writes: cannot execute INSERT")


@pytest.mark.parametrize("turns", range(12))
async def test_cancelled_borrower_does_not_go_on(single: Database, turns: int) -> None:
    """Not even when the connection that it waits for comes in the same turn of the loop."""
    async with single.acting_as(WORKER):
        waiting = asyncio.create_task(single.execute(WORKER, "select pg_sleep(0.2)", []))
        await until(lambda: single.state().waiting == 1)
    for _ in range(turns):
        await asyncio.sleep(0)
    assert waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert await single.execute(WORKER, "select 1", []) == 1


async def test_server_that_hangs_is_waited_for_only_so_long(
    single: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own time limits hang with it; the next caller gets another connection."""
    monkeypatch.setattr(door, "_PATIENCE_S", 0.3)
    async with single._pool.connection() as connection:
        hanging = connection.info.backend_pid
    os.kill(hanging, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match="took too long"):
            await single.execute(WORKER, "select 1", [])
        monkeypatch.undo()
        assert await single.execute(WORKER, "select 1", []) == 1
    finally:
        os.kill(hanging, signal.SIGCONT)


async def test_who_comes_alone_finds_the_connection_of_the_last(database: MigratedDatabase) -> None:
    """Its process has what it needs at hand; the others are for those who come at once."""
    several = Database(database.url, pool_size=5)
    await several.open()
    try:
        await until(lambda: several.state().idle == 5)
        met = set()
        for _ in range(20):
            (found,) = await several.fetch(WORKER, ASK_WHO, [], row=Served)
            met.add(found.pid)
        assert len(met) == 1
        together = await asyncio.gather(
            *(several.fetch(WORKER, ASK_WHO, [], row=Served) for _ in range(5))
        )
        assert len({served.pid for (served,) in together}) == 5
    finally:
        await several.close()


@dataclass(frozen=True, slots=True)
class Served:
    """Which process of PostgreSQL answered, or another number."""

    pid: int


ASK_WHO: LiteralString = "select pg_backend_pid() as pid from pg_sleep(0.01)"


async def test_steps_on_a_server_that_hangs_are_waited_for_only_so_long(
    single: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they have begun or not, the connection is the next caller's again."""

    async def act(hanging: int | None = None) -> int:
        async with single.acting_as(WORKER) as connection:
            if hanging is not None:
                os.kill(hanging, signal.SIGSTOP)
            await connection.execute("select 1")
            return connection.info.backend_pid

    hanging = await act()
    monkeypatch.setattr(door, "_PATIENCE_S", 0.3)
    try:
        with pytest.raises(Unavailable, match="took too long"):
            await act(hanging)
        monkeypatch.undo()
        assert await act() != hanging
    finally:
        os.kill(hanging, signal.SIGCONT)


async def until_served(db: Database) -> None:
    """Ask until there is an answer."""
    while True:
        try:
            await db.execute(WORKER, "select 1", [])
        except DatabaseUnavailable:
            continue
        return


async def test_time_limits_that_an_operator_has_set_are_told_as_ours(single: Database) -> None:
    """Of a whole transaction, or of one that does nothing: it ends the connection as well."""

    async def overstay(doing: LiteralString) -> None:
        async with single.acting_as(as_user("ana")) as held:
            await held.execute(doing)
            await until(lambda: not borrowing.is_alive(held))
            await held.execute("select 1")

    for limit, pause in (
        ("transaction_timeout", "select pg_sleep(5)"),
        ("idle_in_transaction_session_timeout", "select 1"),
    ):
        async with single._pool.connection() as connection:
            found = await connection.execute(
                "select set_config(name, '50ms', false) from pg_settings where name = %s", [limit]
            )
        if found.rowcount == 0:
            continue  # PostgreSQL before 17
        with pytest.raises(Unavailable, match="took too long"):
            await overstay(pause)
        assert await single.execute(WORKER, "select 1", []) == 1


async def test_why_a_statement_was_not_done_is_told_to_operators(
    database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A lock, a limit, an administrator, too few connections: the caller is told only to wait."""
    single = Database(database.url, pool_size=1, borrow_timeout_s=0.05)
    await single.open()

    async def reason(statement: LiteralString) -> str:
        caplog.clear()
        monkeypatch.setattr(database_errors, "_REASONS", Reasons())
        for _ in range(2):
            with pytest.raises(Unavailable):
                await single.execute(OWN_LOGIN, statement, [])
            await until(lambda: single.state().idle == 1)
        (told,) = [
            one.getMessage() for one in caplog.records if one.name == "chatkeep.database_errors"
        ]
        return told.removeprefix("PostgreSQL did not do what it was asked: ")

    async with single._pool.connection() as connection:
        await connection.execute("set lock_timeout = '10ms'")
    with psycopg.connect(database.admin_url) as administrator:
        administrator.execute("select pg_advisory_lock(1)")
        locked = await reason("select pg_advisory_lock(1)")
    assert locked == "canceling statement due to lock timeout"
    cancelled = await reason("select pg_cancel_backend(pg_backend_pid()), pg_sleep(5)")
    assert cancelled == "canceling statement due to user request"
    ended = await reason("select pg_terminate_backend(pg_backend_pid()), pg_sleep(5)")
    assert ended == "terminating connection due to administrator command"
    caplog.clear()
    async with single.acting_as(WORKER):
        with pytest.raises(DatabaseUnavailable):
            await single.execute(WORKER, "select 1", [])
    assert "no connection was free in time" in caplog.text
    await single.close()


async def test_several_callers_in_one_exchange_see_their_own_rows(single: Database) -> None:
    """Each statement acts for its caller, whoever came before, and nothing is left behind."""
    people = [new_id(), new_id(), new_id()]
    for person in people[:2]:
        await start_conversation(single, person, greeting="Hello!")
    asked = [
        (as_user(person), Query(ASK, [number], Answer)) for number, person in enumerate(people)
    ]
    ana, bo, nobody = await single.fetch_each(*asked)
    assert ana == [Answer(0, people[0], [people[0]])]
    assert bo == [Answer(1, people[1], [people[1]])]
    assert nobody == [Answer(2, people[2], [])]
    assert is_clean(await left_on(single))


async def test_what_one_of_several_callers_cannot_do_undoes_all(single: Database) -> None:
    """They are one transaction, also when somebody else's row is what fails."""
    people = [new_id(), new_id()]
    make: LiteralString = (
        "insert into chat.conversations (user_id, id) values (%s, %s)"
        " returning 1 as nonce, user_id as who, array[user_id] as owners"
    )
    asked = [(as_user(person), Query(make, [people[0], new_id()], Answer)) for person in people]
    with pytest.raises(NotFound):
        await single.fetch_each(*asked)
    (found,) = await single.fetch(as_user(people[0]), ASK, [1], row=Answer)
    assert found.owners == []


async def test_victim_of_a_deadlock_is_tried_again(
    single: Database, database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that wait for each other PostgreSQL undoes ours; the other goes on, then we do."""
    monkeypatch.setattr(door, "_AFTER_A_DEADLOCK_S", 1.0)  # the other may be slow to wake up
    dora = as_user(new_id())
    for name in ("first", "second", "third"):
        await single.execute(
            dora,
            "insert into chat.conversations (user_id, id) values (%s, %s)",
            [dora.user_id, name],
        )
    rename: LiteralString = (
        "update chat.conversations set title = coalesce(title, '') || %s"
        " where user_id = %s and id = %s"
    )
    with (
        psycopg.connect(database.admin_url) as other,
        psycopg.connect(database.admin_url) as gate,
    ):
        other.execute("set deadlock_timeout = '1h'")  # it is ours that is looked for
        other.execute(rename, ["a", dora.user_id, "first"])
        gate.execute(rename, ["c", dora.user_id, "third"])
        queries = [
            Query(rename, ["b", dora.user_id, name], Answer)
            for name in ("second", "third", "first")
        ]
        ours = asyncio.create_task(single.fetch_all(dora, *queries))
        await backends(database.admin_url, "wait_event_type = 'Lock'", 1)
        others = asyncio.create_task(
            asyncio.to_thread(other.execute, rename, ["a", dora.user_id, "second"])
        )
        # Whoever waits looks for a deadlock once, after a second: ours is to be the last to wait.
        await until(lambda: database.waiting_for_locks() == 2)
        gate.rollback()
        await others
    await ours
    with psycopg.connect(database.admin_url) as reader:
        rows = reader.execute(
            "select id, title from chat.conversations where user_id = %s", [dora.user_id]
        ).fetchall()
    assert dict(rows) == {"first": "ab", "second": "ab", "third": "b"}
