"""Old tokens are counted, over all processes, and the date of their end is right."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from chatkeep.claims import (
    Claim,
    ClaimCounts,
    ClaimVersion,
    ClaimVersions,
    default,
    from_database,
    read_drain,
)
from chatkeep.cli.claims import in_words
from chatkeep.db import Database
from chatkeep.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.postgres_servers import MigratedDatabase

VERSIONS = ClaimVersions(
    (
        ClaimVersion(1, added=(Claim("userId"),)),
        ClaimVersion(2, added=(Claim("companyId", fill=from_database()),)),
        ClaimVersion(3, added=(Claim("plan", fill=default("free")),)),
    )
)
NOW = datetime(2027, 3, 4, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def nothing_counted(database: MigratedDatabase) -> None:
    """Each test begins with an empty table."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute("truncate chatkeep.claim_counts")


@pytest.fixture
async def counting(db: Database) -> AsyncIterator[Callable[..., ClaimCounts]]:
    """Make the counts of one more process, whose clock stands."""
    made: list[ClaimCounts] = []

    def make(at: datetime = NOW, *, on: Database = db, flush_every_s: float = 3600) -> ClaimCounts:
        made.append(ClaimCounts(on, clock=at.timestamp, flush_every_s=flush_every_s))
        return made[-1]

    yield make
    for one in made:
        await one.close()


def old_token(counts: ClaimCounts, *, issued_at: datetime, reads: int = 0) -> None:
    """Count a token of version 1, issued then; *reads*: whether somebody had to be asked."""
    read = ["companyId"] if reads else []
    counts.note_upgraded(
        1, claims=["companyId", "plan"], read=read, issued_at=int(issued_at.timestamp())
    )


async def test_counts_of_all_processes_add_up(
    db: Database, counting: Callable[..., ClaimCounts]
) -> None:
    """Per hour, version and claim, whichever process counted and however often it wrote."""
    here, there = counting(), counting()
    for counts in (here, there):
        for number in range(5):
            old_token(counts, issued_at=NOW - timedelta(days=2), reads=number == 0)
            if number % 2:
                await counts.flush()
    here.note_upgraded(2, claims=["plan"], read=[], issued_at=int(NOW.timestamp()))
    there.note_issued(3, NOW.timestamp())
    await asyncio.gather(here.flush(), there.flush())
    drain = await read_drain(db, VERSIONS, now=NOW)
    one, two, three = drain.versions
    assert [(v.version, v.state, v.tokens, v.reads, v.issued) for v in (one, two, three)] == [
        (1, "old", 10, 2, 0),
        (2, "old", 1, 0, 0),
        (3, "current", 0, 0, 1),
    ]
    assert [(c.claim, c.tokens, c.reads) for c in one.claims] == [
        ("companyId", 10, 2),
        ("plan", 10, 0),
    ]
    assert [(h.hour, h.tokens, h.reads) for h in one.hours] == [
        (NOW.replace(minute=0), 10, 2),
    ]
    assert three.hours == ()


async def test_fallback_ends_with_the_newest_old_token(
    db: Database, counting: Callable[..., ClaimCounts]
) -> None:
    """Seven days after it was issued, seen or not; the newest version does not matter."""
    newest = NOW - timedelta(days=1)
    old_token(counting(), issued_at=newest - timedelta(days=3))
    old_token(elsewhere := counting(NOW - HOUR), issued_at=newest - timedelta(days=4))
    elsewhere.note_issued(2, newest.timestamp())
    elsewhere.note_issued(3, NOW.timestamp())
    for counts in (counting(), elsewhere):
        await counts.flush()
    drain = await read_drain(db, VERSIONS, now=NOW)
    assert drain.fallback_ends_at == newest + timedelta(days=7)
    assert drain.versions[2].ends_at == NOW + timedelta(days=7)


async def test_older_counts_never_move_the_end_back(
    db: Database, counting: Callable[..., ClaimCounts]
) -> None:
    """The newest token of an hour stays the newest, in memory and in the table."""
    counts = counting()
    for days in (2, 1, 3):
        old_token(counts, issued_at=NOW - timedelta(days=days))
    await counts.flush()
    old_token(counts, issued_at=NOW - timedelta(days=5))
    await counts.flush()
    drain = await read_drain(db, VERSIONS, now=NOW)
    assert drain.versions[0].newest_issued_at == NOW - timedelta(days=1)


async def test_counts_are_written_by_themselves(
    db: Database, counting: Callable[..., ClaimCounts]
) -> None:
    """Soon after the first one, and nothing runs when there is nothing more."""
    counts = counting(flush_every_s=0.01)
    old_token(counts, issued_at=NOW)
    task = counts._waiting
    assert task is not None
    await task
    assert (await read_drain(db, VERSIONS, now=NOW)).versions[0].tokens == 1
    assert counts._waiting is None
    old_token(counts, issued_at=NOW)
    assert counts._waiting is not None


async def test_end_of_the_process_loses_nothing(
    db: Database, counting: Callable[..., ClaimCounts]
) -> None:
    """What was counted last is written when it closes."""
    counts = counting()
    old_token(counts, issued_at=NOW)
    await counts.close()
    assert (await read_drain(db, VERSIONS, now=NOW)).versions[0].tokens == 1


async def test_database_that_is_away_costs_no_count(
    database: MigratedDatabase, db: Database, counting: Callable[..., ClaimCounts]
) -> None:
    """They wait in memory, and none is written twice."""
    other = Database(database.url, pool_size=1)
    counts = counting(on=other)
    old_token(counts, issued_at=NOW)
    with pytest.raises(DatabaseUnavailable):
        await counts.flush()  # nobody has opened it yet
    old_token(counts, issued_at=NOW)
    await other.open()
    await counts.flush()
    await counts.flush()
    await other.close()
    assert (await read_drain(db, VERSIONS, now=NOW)).versions[0].tokens == 2


async def test_counts_are_tried_again_by_themselves(
    database: MigratedDatabase, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """A database that comes back gets everything, without anybody asking."""
    other = Database(database.url, pool_size=1)
    counts = ClaimCounts(other, clock=NOW.timestamp, flush_every_s=0.01)
    old_token(counts, issued_at=NOW)
    task = counts._waiting
    assert task is not None
    while "cannot write how many old tokens come" not in caplog.text:  # noqa: ASYNC110 -- a log tells nobody
        await asyncio.sleep(0.01)
    await other.open()
    await task
    await other.close()
    assert (await read_drain(db, VERSIONS, now=NOW)).versions[0].tokens == 1


async def test_closing_without_a_database_is_no_failure(database: MigratedDatabase) -> None:
    """A server whose database went away still ends."""
    counts = ClaimCounts(Database(database.url), flush_every_s=3600)
    old_token(counts, issued_at=NOW)
    await counts.close()


async def test_old_hours_are_forgotten(
    db: Database, database: MigratedDatabase, counting: Callable[..., ClaimCounts]
) -> None:
    """After thirty days no token of that time can come, so nobody needs its count."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "insert into chatkeep.claim_counts (hour, version, claim, tokens) values"
            " (now() - interval '31 days', 1, '', 7), (now() - interval '29 days', 1, '', 5)"
        )
    old_token(counts := counting(datetime.now(UTC)), issued_at=NOW)
    await counts.flush()
    assert (await read_drain(db, VERSIONS)).versions[0].tokens == 6


async def test_writing_is_one_statement(
    db: Database, counting: Callable[..., ClaimCounts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many versions and claims there are; and none when nothing was counted."""
    sent: list[str] = []
    execute = db.execute

    async def recorded(*arguments: object) -> int:
        sent.append(str(arguments[1]))
        return await execute(*arguments)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(db, "execute", recorded)
    counts = counting()
    for version in (1, 2):
        counts.note_upgraded(version, claims=["a", "b", "c"], read=["a"], issued_at=1)
    await counts.flush()
    await counts.flush()
    assert len(sent) == 1


async def test_table_for_people_says_what_to_do(
    db: Database, counting: Callable[..., ClaimCounts]
) -> None:
    """A line a version, a line a claim that it lacked, and the date."""
    before = in_words(await read_drain(db, VERSIONS, now=NOW), now=NOW)
    assert (
        before[-1] == "No older token was issued or seen in 30 days: the fallbacks can be deleted."
    )
    counts, earlier = counting(), counting(NOW - 3 * HOUR)
    for _ in range(3):
        old_token(counts, issued_at=NOW - timedelta(days=1), reads=1)
    old_token(earlier, issued_at=NOW - timedelta(days=2))
    await counts.flush()
    await earlier.flush()
    drain = await read_drain(db, VERSIONS, now=NOW)
    assert in_words(drain, now=NOW) == [
        "version    claim      this hour  last day  30 days  look-ups              ends",
        "1 old                         3         4        4         3  2027-03-10 12:30",
        "           companyId          3         4        4         3",
        "           plan               3         4        4         0",
        "2 old                         0         0        0         0                 -",
        "3 current                     0         0        0         0                 -",
        "",
        "The fallbacks can be deleted after 2027-03-10 12:30 UTC.",
    ]
    later = NOW + timedelta(days=8)
    assert in_words(drain, now=later)[-1] == (
        "The last older token ended 2027-03-10 12:30 UTC: the fallbacks can be deleted."
    )
    alone = ClaimVersions((ClaimVersion(1, added=(Claim("userId"),)),))
    assert in_words(await read_drain(db, alone, now=NOW), now=NOW)[-1] == (
        "Version 1 is the only one declared: there is no fallback."
    )


async def test_versions_of_a_newer_release_are_shown(
    db: Database, counting: Callable[..., ClaimCounts]
) -> None:
    """After a roll-back: they are counted, and end nobody's fallback."""
    counts = counting()
    counts.note_upgraded(4, claims=["plan"], read=[], issued_at=int(NOW.timestamp()))
    await counts.flush()
    drain = await read_drain(db, VERSIONS, now=NOW)
    assert [(one.version, one.state) for one in drain.versions][-1] == (4, "newer")
    assert drain.fallback_ends_at is None
