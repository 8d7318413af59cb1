"""The job queue on each PostgreSQL version, with our narrow roles, and behind a pooler."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import pytest

from chatkeep import job_queue
from chatkeep.db import AUTH, Database
from chatkeep.errors import DatabaseUnavailable, Unavailable
from chatkeep.job_queue import GONE_AFTER_S, JobQueue, TryAgain, Turn, bring_back
from tests.patience import PATIENCE_S
from tests.pgbouncer import PROGRAM, SERVER_CONNECTIONS, pooled
from tests.postgres_servers import MigratedDatabase
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import tzinfo
    from typing import Self

    from chatkeep.db import Caller, Query
    from tests.postgres_servers import Server

CARRIED = "what-nobody-may-read-in-a-log"
ADD: LiteralString = (
    "insert into chatkeep_queue.procrastinate_jobs (queue_name, task_name, args)"
    " values ('tests', 'work', jsonb_build_object('sealed', %s::text))"
)


@pytest.fixture(autouse=True)
def empty_queue(database: MigratedDatabase) -> None:
    """Nothing waits from the test before."""
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "truncate chatkeep_queue.procrastinate_jobs, chatkeep_queue.procrastinate_workers"
            " cascade"
        )


@asynccontextmanager
async def working(
    db: Database, work: Callable[[Turn, str], Awaitable[None]], *, drain_s: float = 5
) -> AsyncIterator[JobQueue]:
    """Work on the queue of tests until the block ends."""
    queue = JobQueue(db, drain_s=drain_s)
    queue.add("work", work)
    queue.start("tests")
    try:
        yield queue
    finally:
        await queue.close()


def jobs(database: MigratedDatabase) -> list[tuple[str, int]]:
    """Return state and attempts of what is queued."""
    with psycopg.connect(database.admin_url) as admin:
        return admin.execute(
            "select status::text, attempts from chatkeep_queue.procrastinate_jobs order by id"
        ).fetchall()


async def test_each_job_is_done_once_by_several_workers(
    db: Database, database: MigratedDatabase
) -> None:
    """Workers of several nodes share the work, and do none of it twice."""
    done: list[str] = []

    async def work(turn: Turn, carried: str) -> None:
        await asyncio.sleep(0)
        done.append(carried)

    async with working(db, work), working(db, work), working(db, work):
        wanted = sorted(f"job {number}" for number in range(60))
        for one in wanted:
            await db.execute(AUTH, ADD, [one])
        await until(lambda: len(done) >= len(wanted) and not jobs(database))
    assert sorted(done) == wanted


async def test_notification_is_not_waited_for(db: Database, database: MigratedDatabase) -> None:
    """Without LISTEN the worker asks by itself; told, it asks at once."""
    done = asyncio.Event()

    async def work(turn: Turn, carried: str) -> None:
        done.set()

    async with working(db, work) as queue:
        await db.execute(AUTH, ADD, ["x"])
        queue.missed()
        queue.told('{"type": "job_inserted", "job_id": 1}')
        async with asyncio.timeout(PATIENCE_S):
            await done.wait()


async def test_job_comes_back_when_it_says_so(db: Database, database: MigratedDatabase) -> None:
    """With a count of how often it was begun, and not before its time."""
    turns: list[int] = []

    async def work(turn: Turn, carried: str) -> None:
        turns.append(turn.attempts)
        if turn.attempts < 2:
            raise TryAgain(timedelta(hours=turn.attempts))

    async with working(db, work):
        await db.execute(AUTH, ADD, ["x"])
        await until(lambda: jobs(database) == [("todo", 2)])
        assert turns == [0, 1]
        database.operate("update chatkeep_queue.procrastinate_jobs set scheduled_at = now()")
        await until(lambda: jobs(database) == [])
    assert turns == [0, 1, 2]


@pytest.mark.parametrize("wrong", [timedelta(hours=-9), timedelta(hours=9)], ids=str)
async def test_job_comes_back_by_the_clock_of_the_database(
    db: Database, database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch, wrong: timedelta
) -> None:
    """To the microsecond: one's own clock may be hours off, and would try at once or never."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + wrong

    async def work(turn: Turn, carried: str) -> None:
        raise TryAgain(timedelta(hours=1))

    monkeypatch.setattr(job_queue, "datetime", Wrong)
    async with working(db, work):
        await db.execute(AUTH, ADD, ["x"])
        await until(lambda: jobs(database) == [("todo", 1)])
    waits = database.operate(
        "select job.scheduled_at - said.at from chatkeep_queue.procrastinate_jobs job"
        " join chatkeep_queue.procrastinate_events said on said.job_id = job.id"
        " where said.type = 'deferred_for_retry'"
    )
    assert waits == [(timedelta(hours=1),)]


async def test_fault_is_no_loop_and_no_leak(
    db: Database, database: MigratedDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """What fails by a fault of ours waits, is given up in the end, and is never logged."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "procrastinate")

    async def work(turn: Turn, carried: str) -> None:
        raise RuntimeError(carried)

    async with working(db, work):
        await db.execute(AUTH, ADD, [CARRIED])
        await until(lambda: jobs(database) == [("todo", 1)])
        assert "(work) failed: RuntimeError" in caplog.text
        database.operate(
            "update chatkeep_queue.procrastinate_jobs set attempts = 60, scheduled_at = now()",
        )
        await until(lambda: jobs(database) == [])
    assert "is given up: RuntimeError" in caplog.text
    assert CARRIED not in caplog.text


async def test_ending_waits_for_the_job_at_hand(db: Database, database: MigratedDatabase) -> None:
    """A job that ends within the drain is done; one that does not is put back, at once."""
    begun, gate = asyncio.Event(), asyncio.Event()

    async def work(turn: Turn, carried: str) -> None:
        begun.set()
        await gate.wait()

    async with working(db, work) as queue:
        await db.execute(AUTH, ADD, ["x"])
        await begun.wait()
        closing = asyncio.create_task(queue.close())
        await until(lambda: queue._stopping)
        gate.set()
        await closing
        assert jobs(database) == []
    begun.clear()
    gate.clear()
    async with working(db, work, drain_s=0) as queue:
        await db.execute(AUTH, ADD, ["x"])
        await begun.wait()
        await queue.close()
        assert jobs(database) == [("todo", 1)]


async def test_only_jobs_of_dead_workers_come_back(
    db: Database, database: MigratedDatabase
) -> None:
    """Of a worker that was heard of nothing is taken; of a dead one everything, by one node."""
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        for silent_s in (0, GONE_AFTER_S + 1):
            admin.execute(
                "with known as (insert into chatkeep_queue.procrastinate_workers (last_heartbeat)"
                " values (now() - make_interval(secs => %s)) returning id)"
                " insert into chatkeep_queue.procrastinate_jobs"
                " (queue_name, task_name, status, worker_id)"
                " select 'tests', 'work', 'doing', id from known",
                [silent_s],
            )
        admin.execute(
            "insert into chatkeep_queue.procrastinate_jobs (queue_name, task_name, status)"
            " values ('tests', 'work', 'doing')"
        )
    found = await asyncio.gather(*(bring_back(db) for _ in range(4)))
    assert sum(found) == 2
    assert sorted(jobs(database)) == [("doing", 0), ("todo", 1), ("todo", 1)]


async def test_lost_connections_end_no_queue(db: Database, database: MigratedDatabase) -> None:
    """The database drops everybody in the middle of a job: it is not done twice, the next is."""
    done: list[str] = []
    gate = asyncio.Event()

    async def work(turn: Turn, carried: str) -> None:
        done.append(carried)
        await gate.wait()

    async with working(db, work):
        await db.execute(AUTH, ADD, ["first"])
        await until(lambda: done == ["first"])
        database.operate(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()",
        )
        gate.set()
        await db.execute(AUTH, ADD, ["second"])
        await until(lambda: "second" in done and not jobs(database))
    assert done == ["first", "second"]


async def test_restarted_database_gets_no_job_done_twice(own_server: Server) -> None:
    """The database is away just when a job ends: that is written when it is back."""
    name = own_server.new_database(template=own_server.migrated_template())
    database = MigratedDatabase(server=own_server, name=name)
    db = Database(database.url, pool_size=3, borrow_timeout_s=1.0)
    await db.open()
    done: list[str] = []
    gate = asyncio.Event()

    async def work(turn: Turn, carried: str) -> None:
        done.append(carried)
        await gate.wait()

    async with working(db, work):
        await db.execute(AUTH, ADD, ["first"])
        await until(lambda: done == ["first"])
        await asyncio.to_thread(own_server.stop, "fast")
        gate.set()
        for _ in range(2):  # each as long as the first attempt to write the end
            with pytest.raises(DatabaseUnavailable):
                await db.execute(AUTH, ADD, ["lost"])
        await asyncio.to_thread(own_server.start)
        await until(lambda: jobs(database) == [])
        await bring_back(db)
        await until(lambda: jobs(database) == [])
    assert done == ["first"]
    await db.close()


@pytest.mark.parametrize(
    "failure", [DatabaseUnavailable(), Unavailable("The database took too long.")], ids=str
)
async def test_end_that_cannot_be_written_at_once_is_written_again(
    db: Database,
    database: MigratedDatabase,
    monkeypatch: pytest.MonkeyPatch,
    failure: Unavailable,
) -> None:
    """Else its worker, which lives on, would seem to do the job for ever."""
    done: list[str] = []
    fetch_all, failed = db.fetch_all, 0

    async def work(turn: Turn, carried: str) -> None:
        done.append(carried)

    async def busy(caller: Caller, *queries: Query[Any]) -> list[list[Any]]:
        nonlocal failed
        if failed < 2 and any("procrastinate_finish_job" in one.text for one in queries):
            failed += 1
            raise failure
        return await fetch_all(caller, *queries)

    monkeypatch.setattr(db, "fetch_all", busy)
    async with working(db, work):
        await db.execute(AUTH, ADD, ["first"])
        await until(lambda: done == ["first"] and jobs(database) == [])
    assert (done, failed) == (["first"], 2)


@pytest.mark.skipif(PROGRAM is None, reason="no PgBouncer here: apt-get install pgbouncer")
async def test_queue_behind_a_pooler(database: MigratedDatabase) -> None:
    """In transaction mode, on connections shared with everybody, each job is done once."""
    done: list[str] = []

    async def work(turn: Turn, carried: str) -> None:
        done.append(carried)

    with pooled(database) as through:
        db = Database(through.url, pool_size=2 * SERVER_CONNECTIONS, behind_pooler=True)
        await db.open()
        async with working(db, work), working(db, work):
            for number in range(20):
                await db.execute(AUTH, ADD, [f"job {number}"])
            await until(lambda: len(done) >= 20 and not jobs(database))
        await db.close()
    assert len(set(done)) == len(done) == 20
