"""Whoever changes, drops, adds or moves entries of the audit log in the database is found out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg
import pytest

from chatkeep import audit
from chatkeep import db as door
from chatkeep.db import ADMIN, AUTH, Database
from chatkeep.errors import SetupError, Unavailable
from tests.postgres_servers import MigratedDatabase
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.postgres_servers import Server

SECRET = b"s" * 32


@pytest.fixture
def own(postgres: Server) -> Iterator[MigratedDatabase]:
    """A database that this test alone uses."""
    name = postgres.new_database(template=postgres.migrated_template())
    yield MigratedDatabase(server=postgres, name=name)
    postgres.drop_database(name)


@pytest.fixture
async def log(own: MigratedDatabase) -> AsyncIterator[Database]:
    """The door to that database, with ten entries that are sealed."""
    opened = Database(own.admin_url, pool_size=2)
    await opened.open()
    await add(opened, 10)
    assert await audit.seal(opened, SECRET) == 10
    yield opened
    await opened.close()


async def add(db: Database, count: int) -> None:
    """Write entries, each in a transaction of its own."""
    for number in range(count):
        written = audit.entry("session.begun", user_id="ana", details={"n": number})
        await db.fetch_all(AUTH, written)


def tamper(database: MigratedDatabase, *statements: str) -> None:
    """Do what only an administrator of the database can."""
    for statement in statements:
        database.operate(statement)


async def test_an_untouched_log_verifies(log: Database) -> None:
    """Every entry counts, new ones wait, and are sealed behind the others."""
    found = await audit.verify(log, SECRET)
    assert (found.entries, found.waiting, found.broken) == (10, 0, None)
    await add(log, 3)
    assert (await audit.verify(log, SECRET)).waiting == 3
    assert await audit.seal(log, SECRET) == 3
    later = await audit.verify(log, SECRET, known_head=found.head)
    assert (later.entries, later.waiting, later.broken) == (13, 0, None)
    assert later.head != found.head


TAMPERED = {
    "changed action": ("update chatkeep.audit_log set action = 'x.y' where number = 4", 4),
    "changed outcome": ("update chatkeep.audit_log set outcome = 'refused' where number = 4", 4),
    "changed person": ("update chatkeep.audit_log set user_id = 'bo' where number = 4", 4),
    "removed person": ("update chatkeep.audit_log set user_id = null where number = 4", 4),
    "changed time": ("update chatkeep.audit_log set at = at - interval '1 us' where number = 4", 4),
    "endless time": ("update chatkeep.audit_log set at = 'infinity' where number = 4", 4),
    "added address": ("update chatkeep.audit_log set address = '192.0.2.1' where number = 4", 4),
    "changed details": ("update chatkeep.audit_log set details = '{}' where number = 4", 4),
    "deleted in the middle": ("delete from chatkeep.audit_log where number = 4", 4),
    "deleted first": ("delete from chatkeep.audit_log where number = 1", 1),
    "deleted with its link": (
        (
            "delete from chatkeep.audit_log where number = 4;"
            " delete from chatkeep.audit_links where number = 4"
        ),
        None,
    ),
    "two change places": (
        (
            "update chatkeep.audit_links set number = -number where number in (4, 5);"
            " update chatkeep.audit_links set number = 9 + number where number < 0"
        ),
        5,
    ),
    "tail cut off": (
        (
            "delete from chatkeep.audit_log where number > 7;"
            " delete from chatkeep.audit_links where number > 7"
        ),
        None,
    ),
    "tail cut off, head put back": (
        (
            "delete from chatkeep.audit_log where number > 7;"
            " delete from chatkeep.audit_links where number > 7;"
            " update chatkeep.audit_head h set position = k.position, mac = k.mac"
            " from chatkeep.audit_links k where k.number = 7"
        ),
        None,
    ),
    "beginning let go by hand": (
        (
            "update chatkeep.audit_head h set start_position = k.position, start_mac = k.mac"
            " from chatkeep.audit_links k where k.number = 3;"
            " delete from chatkeep.audit_log where number < 4;"
            " delete from chatkeep.audit_links where number < 4"
        ),
        None,
    ),
    "emptied, but for the head": (
        "truncate chatkeep.audit_log, chatkeep.audit_links",
        None,
    ),
    "head emptied": (
        (
            "truncate chatkeep.audit_log, chatkeep.audit_links; update chatkeep.audit_head"
            " set position = 0, mac = '', start_position = 0, start_mac = '', seal = ''"
        ),
        None,
    ),
    "head deleted": ("delete from chatkeep.audit_head", None),
    "put in beside": (
        (
            "update chatkeep.audit_head set settled = 10; insert into chatkeep.audit_log"
            " (number, at, action, outcome) overriding system value"
            " values (0, now() - interval '1 day', 'x.y', 'succeeded')"
        ),
        0,
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
async def test_tampering_is_found_and_the_first_entry_named(
    own: MigratedDatabase, log: Database, how: str
) -> None:
    """Whatever was done, the chain does not hold from there on."""
    statements, number = TAMPERED[how]
    tamper(own, statements)
    found = await audit.verify(log, SECRET)
    assert found.broken is not None
    assert found.broken.number == number


async def test_an_old_backup_of_all_of_it_is_found_by_a_head_kept_elsewhere(
    own: MigratedDatabase, log: Database
) -> None:
    """It fits in itself, but does not go through what was kept."""
    await add(log, 1)
    await audit.seal(log, SECRET)
    kept = (await audit.verify(log, SECRET)).head
    tamper(
        own,
        "truncate chatkeep.audit_log, chatkeep.audit_links; update chatkeep.audit_head"
        " set position = 0, mac = '', seal = '', settled = 0, chain_key = null",
    )
    await add(log, 11)
    await audit.seal(log, SECRET)
    assert (await audit.verify(log, SECRET)).broken is None
    assert (await audit.verify(log, SECRET, known_head=kept)).broken is not None


async def test_a_long_log_is_waited_for_longer_than_a_request_is(
    own: MigratedDatabase, log: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may take minutes for a statement of it, and so it has them of us too."""
    monkeypatch.setattr(door, "_PATIENCE_S", 0.2)

    async def look() -> None:
        async with log.acting_as(ADMIN) as connection:
            await connection.execute("select from chatkeep.audit_head for share")

    with psycopg.connect(own.admin_url) as slow:
        slow.execute("select from chatkeep.audit_head for update")
        verifying = asyncio.create_task(audit.verify(log, SECRET))
        await until(lambda: own.waiting_for_locks() == 1)
        with pytest.raises(Unavailable, match="took too long"):
            await look()
        assert not verifying.done()
    assert (await verifying).entries == 10


async def test_without_the_secret_nobody_can_seal_anew(log: Database) -> None:
    """Another secret opens neither the key of the chain nor makes one beside it."""
    await add(log, 1)
    for work in (audit.seal(log, b"t" * 32), audit.verify(log, b"t" * 32)):
        with pytest.raises(SetupError, match="another secret"):
            await work
    assert (await audit.verify(log, SECRET)).waiting == 1


async def test_a_head_that_was_changed_is_not_sealed_over(
    own: MigratedDatabase, log: Database
) -> None:
    """Sealing goes on only from an end that holds: tampering does not heal."""
    tamper(own, "update chatkeep.audit_head set position = 3")
    await add(log, 1)
    with pytest.raises(SetupError, match="tampered"):
        await audit.seal(log, SECRET)


async def test_a_transaction_that_is_late_is_sealed_later(
    own: MigratedDatabase, log: Database
) -> None:
    """Its number is smaller than that of the last sealed entry, and it is not lost."""
    late = audit.entry("session.ended", user_id="bo")
    async with log.acting_as(AUTH) as connection:
        await audit.write(connection, late)
        await add(log, 2)
        assert await audit.seal(log, SECRET) == 2
    assert await audit.seal(log, SECRET) == 1
    found = await audit.verify(log, SECRET)
    assert (found.entries, found.waiting, found.broken) == (13, 0, None)


async def test_one_server_seals_at_a_time(own: MigratedDatabase, log: Database) -> None:
    """While one holds the head another leaves at once, and each entry is linked once."""
    await add(log, 5)
    with psycopg.connect(own.admin_url) as other:
        other.execute("select from chatkeep.audit_head for update")
        assert await audit.seal(log, SECRET) == 0
    assert await audit.seal(log, SECRET) == 5
    assert (await audit.verify(log, SECRET)).broken is None


async def test_what_is_old_goes_and_the_rest_still_verifies(
    own: MigratedDatabase, log: Database
) -> None:
    """From the beginning, never what is younger than 30 days, never what was tampered with."""
    assert await audit.let_go(log, SECRET, days=30) == 0
    tamper(
        own,
        "truncate chatkeep.audit_log, chatkeep.audit_links restart identity;"
        " update chatkeep.audit_head set position = 0, mac = '', seal = '', settled = 0,"
        " chain_key = null",
        "insert into chatkeep.audit_log (at, action, outcome)"
        " select now() - n * interval '10 days', 'session.begun', 'succeeded'"
        " from generate_series(9, 1, -1) n",
    )
    assert await audit.seal(log, SECRET) == 9
    assert await audit.let_go(log, SECRET, days=65) == 3
    assert [one.number for one in await audit.listed(log)] == [9, 8, 7, 6, 5, 4]
    found = await audit.verify(log, SECRET)
    assert (found.entries, found.broken) == (6, None)
    tamper(own, "update chatkeep.audit_log set user_id = 'bo' where number = 4")
    with pytest.raises(SetupError, match="tampered"):
        await audit.let_go(log, SECRET, days=45)
    tamper(own, "update chatkeep.audit_log set user_id = null where number = 4")
    assert await audit.let_go(log, SECRET, days=1) == 4
    await add(log, 1)
    await audit.seal(log, SECRET)
    found = await audit.verify(log, SECRET)
    assert (found.entries, found.broken) == (3, None)
