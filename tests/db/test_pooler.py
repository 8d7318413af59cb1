"""Everything holds behind a pooler in transaction mode, where connections are shared."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

import psycopg
import pytest

from chatkeep import db as door
from chatkeep.config import Settings
from chatkeep.db import WORKER, Database, as_user
from chatkeep.setup_checks.isolation import find_problems
from chatkeep.setup_checks.notifications import examine_notifications
from chatkeep.sql import indexes
from chatkeep.sql.migrations import HEAD, build_indexes, migrate
from tests.db.interleaving import interleave
from tests.db.twins import CHECKS, Twins, first_failing, seed
from tests.pgbouncer import PROGRAM, SERVER_CONNECTIONS, pooled
from tests.postgres_servers import LOGIN, MigratedDatabase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.postgres_servers import Server

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no PgBouncer on this machine: apt-get install pgbouncer"
)


@pytest.fixture(scope="module")
def through(database: MigratedDatabase) -> Iterator[MigratedDatabase]:
    """The module's database, behind the pooler."""
    with pooled(database) as shared:
        yield shared


@pytest.fixture
async def shared(through: MigratedDatabase) -> AsyncIterator[Database]:
    """A door with more connections than the pooler has to the server."""
    db = Database(through.url, pool_size=3 * SERVER_CONNECTIONS, behind_pooler=True)
    await db.open()
    yield db
    await db.close()


async def test_twins_are_kept_apart_behind_a_pooler(
    shared: Database, database: MigratedDatabase
) -> None:
    """Each check of the twins holds; the caller ends with the transaction, not the session."""
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        seed(admin)
        assert await first_failing(Twins(shared, admin), CHECKS) is None


async def test_people_who_share_connections_never_read_each_other(
    shared: Database, people: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors, time-outs and hang-ups of one reach nobody else through a shared connection."""
    monkeypatch.setattr(door, "_STATEMENT_TIMEOUT", "200ms")
    outcomes = await interleave(shared, people, rounds=1000)
    assert outcomes["answered"] > 800
    assert outcomes["DatabaseUnavailable"] == 0


async def test_forgotten_setting_never_runs_the_statement_of_somebody_else(
    through: MigratedDatabase,
) -> None:
    """Prepared statements stay behind on connections that others get; each answer is one's own."""

    async def ask(number: int) -> None:
        db = Database(through.url, pool_size=1)
        await db.open()
        for turn in range(20):
            own = (number + turn) % len(OWN)
            assert await db.fetch(WORKER, OWN[own], [own], row=Own) == [Own(own, own)]
        await db.close()

    await asyncio.gather(*(ask(number) for number in range(4)))


async def test_forgotten_setting_leaves_nothing_for_others(through: MigratedDatabase) -> None:
    """What is set for all of a session would reach other programs, which share its connection."""

    async def never(_: object) -> None:
        raise AssertionError

    db = Database(through.url, pool_size=2 * SERVER_CONNECTIONS, rehearse=never)
    await db.open()
    try:
        await db.execute(as_user("ana"), "select 1", [])
    finally:
        await db.close()
    with psycopg.connect(through.url, autocommit=True, prepare_threshold=None) as other:
        for _ in range(2 * SERVER_CONNECTIONS):
            assert other.execute("show plan_cache_mode").fetchone() == ("auto",)


@dataclass(frozen=True, slots=True)
class Own:
    """What was asked for, and which statement has answered."""

    asked: int
    answered: int


OWN: tuple[LiteralString, ...] = (
    "select %s::int as asked, 0 as answered from pg_sleep(0.002)",
    "select %s::int as asked, 1 as answered from pg_sleep(0.002)",
    "select %s::int as asked, 2 as answered from pg_sleep(0.002)",
    "select %s::int as asked, 3 as answered from pg_sleep(0.002)",
)


async def test_checks_before_serving_work_behind_a_pooler(through: MigratedDatabase) -> None:
    """Whether the database isolates can be asked there as well."""
    assert await find_problems(through.url) == []


def test_migrations_work_behind_a_pooler(
    through: MigratedDatabase, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold no lock of a session, which would outlive them on a shared connection."""
    name = postgres.new_database()
    url = MigratedDatabase(server=through.server, name=name).admin_url
    assert migrate(url, login=LOGIN).before is None
    assert migrate(url, login=LOGIN).before == HEAD
    by_role = indexes.Index("create index concurrently by_role on chat.messages (role)")
    monkeypatch.setattr(indexes, "BESIDE", (by_role,))
    assert build_indexes(url) == ["chat.by_role"]
    postgres.drop_database(name)


@pytest.mark.parametrize("setting", ["DATABASE_LISTEN_URL", "DATABASE_POOLER"])
async def test_pooler_that_tells_no_listener_is_found(
    through: MigratedDatabase, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """It takes LISTEN and never tells: doctor says which setting is wrong."""
    monkeypatch.setattr("chatkeep.setup_checks.notifications._WITHIN_S", 0.5)
    settings = {"DATABASE_URL": through.url, "CHATKEEP_SECRET": "0123456789abcdef" * 2}
    if setting == "DATABASE_LISTEN_URL":
        settings |= {"DATABASE_POOLER": "on", setting: through.url}
    found = await examine_notifications(Settings.from_env(settings))
    assert found is not None
    assert setting in found.problems[0]
    without = settings | {"DATABASE_POOLER": "on", "DATABASE_LISTEN_URL": ""}
    assert await examine_notifications(Settings.from_env(without)) is None
