"""What has ended is known on every node, told or not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID, uuid4

import psycopg
import pytest

from chatkeep.db import AUTH, Database
from chatkeep.errors import Unavailable
from chatkeep.notifications import Listener
from chatkeep.revocations import TRUSTED_S, Revocations
from chatkeep.sessions.administration import force_everybody_out, force_out
from tests.signing_in import locate, open_test_issuer, shown, sign_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from chatkeep.db import Caller, Query
    from chatkeep.issuance import EmbeddedIssuer, Grant
    from chatkeep.principal import Principal
    from chatkeep.revocations import _Row
    from tests.postgres_servers import MigratedDatabase


@pytest.fixture
async def issuer(db: Database) -> AsyncIterator[EmbeddedIssuer]:
    """The node that ends sessions."""
    opened = await open_test_issuer(db)
    yield opened
    opened.close()


@pytest.fixture
def elsewhere(db: Database) -> Revocations:
    """What another node knows."""
    return Revocations(db)


@pytest.fixture
def everybody_may_come_back(database: MigratedDatabase) -> Iterator[None]:
    """Later tests do not meet issuers whose every token has ended."""
    yield
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute("delete from chatkeep.revocations where kind = 'issuer'")


async def until_revoked(node: Revocations, session_id: UUID) -> None:
    """Wait until *node* knows; the test's own timeout ends a wait in vain."""
    while not node.knows(shown(session_id)):  # noqa: ASYNC110 -- it announces itself nowhere
        await asyncio.sleep(0.01)


def _tomorrow() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)


async def end(issuer: EmbeddedIssuer, grant: Grant) -> UUID:
    """Log out, and say which session that was."""
    await issuer.sign_out(await locate(issuer, grant), "local")
    return grant.session_id


async def test_node_that_ended_it_knows_at_once(issuer: EmbeddedIssuer) -> None:
    """No notification is waited for."""
    grant = await sign_up(issuer)
    assert not issuer.revocations.knows(shown(grant.session_id))
    await end(issuer, grant)
    assert issuer.revocations.knows(shown(grant.session_id))


async def test_start_learns_what_ended_before(
    issuer: EmbeddedIssuer, elsewhere: Revocations
) -> None:
    """A node that starts later refuses what was ended while it was away."""
    ended = await end(issuer, await sign_up(issuer))
    alive = await sign_up(issuer)
    await elsewhere.catch_up()
    assert elsewhere.knows(shown(ended))
    assert not elsewhere.knows(shown(alive.session_id))


@pytest.mark.parametrize("by", ["log-out", "psql", "psql, forever", "psql, deleted"])
async def test_other_nodes_are_told(
    issuer: EmbeddedIssuer,
    elsewhere: Revocations,
    database: MigratedDatabase,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
) -> None:
    """Whoever ends a session, and however, every listening node hears of it."""
    monkeypatch.setattr("chatkeep.revocations._LOOK_EVERY_S", 3600.0)
    listener = Listener(database.url)
    listener.subscribe("chatkeep_revocations", elsewhere.told, missed=elsewhere.told)
    looking = asyncio.create_task(elsewhere.run())
    listening = asyncio.create_task(listener.run())
    await listener.connected.wait()
    grant = await sign_up(issuer)
    if by == "log-out":
        await end(issuer, grant)
    elif "deleted" in by:
        with psycopg.connect(database.admin_url, autocommit=True) as connection:
            connection.execute("delete from user_sessions where id = %s", [grant.session_id])
    else:
        with psycopg.connect(database.admin_url, autocommit=True) as connection:
            connection.execute(
                "update user_sessions set is_active = false, revoked_at = %s where id = %s",
                ["infinity" if "forever" in by else None, grant.session_id],
            )
    await until_revoked(elsewhere, grant.session_id)
    for task in (listening, looking):
        task.cancel()
    await asyncio.gather(listening, looking, return_exceptions=True)


async def test_lost_notification_heals(issuer: EmbeddedIssuer, elsewhere: Revocations) -> None:
    """A node that hears nothing looks for itself."""
    looking = asyncio.create_task(elsewhere.run())
    ended = await end(issuer, await sign_up(issuer))
    await until_revoked(elsewhere, ended)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def test_gap_in_listening_makes_a_node_look_at_once(
    issuer: EmbeddedIssuer, elsewhere: Revocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a lost connection the wait until the next look is cut short."""
    monkeypatch.setattr("chatkeep.revocations._LOOK_EVERY_S", 3600.0)
    looking = asyncio.create_task(elsewhere.run())
    first = await end(issuer, await sign_up(issuer))
    elsewhere.told()
    await until_revoked(elsewhere, first)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def test_outage_is_told_when_it_begins_and_when_it_ends(
    db: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However long it is, what else happens can be read beside it."""
    caplog.set_level("INFO", "chatkeep.revocations")
    monkeypatch.setattr("chatkeep.revocations._LOOK_EVERY_S", 0.01)
    node, looks, away = Revocations(db), 0, True
    look = node._look_for_news

    async def look_for_news() -> None:
        nonlocal looks
        looks += 1
        if away:
            raise Unavailable
        await look()

    monkeypatch.setattr(node, "_look_for_news", look_for_news)
    looking = asyncio.create_task(node.run())
    while looks < 3:  # noqa: ASYNC110 -- it announces itself nowhere
        await asyncio.sleep(0.01)
    away = False
    while looks < 6:  # noqa: ASYNC110 -- as above
        await asyncio.sleep(0.01)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    told = [one.levelname for one in caplog.records if one.name == "chatkeep.revocations"]
    assert told == ["WARNING", "INFO"]


async def test_transaction_that_commits_late_is_found(
    issuer: EmbeddedIssuer, elsewhere: Revocations, database: MigratedDatabase
) -> None:
    """An end that was typed before the newest known one, and committed after, is not missed.

    And an operator who leaves the transaction open keeps nobody from logging out.
    """
    slow, quick = await sign_up(issuer), await sign_up(issuer)
    async with await psycopg.AsyncConnection.connect(database.admin_url) as late:
        await late.execute(
            "update user_sessions set is_active = false where id = %s", [slow.session_id]
        )
        await end(issuer, quick)
        await elsewhere.catch_up()
        assert elsewhere.knows(shown(quick.session_id))
        assert not elsewhere.knows(shown(slow.session_id))
    await elsewhere.catch_up()
    assert elsewhere.knows(shown(slow.session_id))


async def test_numbers_become_visible_in_their_order(
    db: Database, elsewhere: Revocations, database: MigratedDatabase
) -> None:
    """While a lower number is not committed, nobody can see a higher one."""
    until = datetime.now(UTC) + timedelta(hours=1)
    async with await psycopg.AsyncConnection.connect(database.admin_url) as first:
        await first.execute(
            "select chatkeep.revoke('session', 'embedded', 'the first', null, %s)", [until]
        )
        second = asyncio.create_task(
            Revocations(db).revoke_session("embedded", "the second", until=until)
        )
        while not database.waiting_for_locks():  # noqa: ASYNC110 -- it announces itself nowhere
            await asyncio.sleep(0.01)
        await elsewhere.catch_up()
        assert not elsewhere.knows(shown("the second"))
    await second
    await elsewhere.catch_up()
    assert elsewhere.knows(shown("the first"))
    assert elsewhere.knows(shown("the second"))


async def test_looking_survives_the_database_being_away(database: MigratedDatabase) -> None:
    """A node keeps what it knows, and looks on, while nobody answers."""
    away = Database(database.url, pool_size=1)
    node = Revocations(away)  # the pool was never opened: every look fails
    known = uuid4()
    node.ended([known])
    looking = asyncio.create_task(node.run())
    await asyncio.sleep(0)
    node.told()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not looking.done()
    assert node.knows(shown(known))
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def test_node_that_cannot_confirm_does_not_trust_its_memory(
    issuer: EmbeddedIssuer, db: Database, database: MigratedDatabase
) -> None:
    """After five seconds without a look the table is asked, and nobody passes without it."""
    now = [0.0]
    node = Revocations(db, clock=lambda: now[0])
    await node.catch_up()
    ended, alive = shown(await end(issuer, await sign_up(issuer))), shown(uuid4())
    assert not await node.is_revoked(ended)  # it was not told, and believes itself for now
    now[0] = TRUSTED_S + 0.1
    assert await node.is_revoked(ended)
    assert not await node.is_revoked(alive)
    cut_off = Revocations(Database(database.url, pool_size=1))
    with pytest.raises(Unavailable):
        await cut_off.is_revoked(alive)


@pytest.mark.parametrize("asked", ["memory", "table"])
async def test_each_kind_ends_what_it_names_and_nothing_else(db: Database, asked: str) -> None:
    """A session, a token, everything of a person, everything of an issuer until now."""
    node, before = Revocations(db), datetime.now(UTC) - timedelta(minutes=1)
    name, issuer = f"{asked}-{uuid4()}", f"issuer-{asked}"
    until = datetime.now(UTC) + timedelta(hours=1)
    await node.revoke_session("supabase", f"session-{name}", until=until)
    await node.revoke_session("supabase", f"jti-{name}", until=until)
    await node.revoke_token("supabase", f"token-{name}", until=until)
    await force_out(db, node, f"user-{name}", actor="an operator")
    await node.revoke_issuer(issuer)
    later = datetime.now(UTC) + timedelta(minutes=1)
    somebody = shown("another", issuer="supabase", issued_at=before)

    async def refused(who: Principal) -> bool:
        return node.knows(who) if asked == "memory" else await node.is_revoked_now(who)

    assert not await refused(somebody)
    assert await refused(replace(somebody, session_id=f"session-{name}"))
    assert not await refused(replace(somebody, session_id=f"session-{name}", issuer="embedded"))
    assert await refused(replace(somebody, token_id=f"token-{name}"))
    # A token's id names the session only where no session has a name.
    assert not await refused(replace(somebody, token_id=f"jti-{name}"))
    assert await refused(replace(somebody, token_id=f"jti-{name}", session_id=None))
    assert await refused(replace(somebody, user_id=f"user-{name}"))
    assert await refused(replace(somebody, user_id=f"user-{name}", issued_at=None))
    assert not await refused(replace(somebody, user_id=f"user-{name}", issued_at=later))
    assert await refused(replace(somebody, issuer=issuer))
    assert not await refused(replace(somebody, issuer=issuer, issued_at=later))


@pytest.mark.usefixtures("everybody_may_come_back")
@pytest.mark.parametrize("asked", ["memory", "table"])
async def test_signing_in_again_within_the_second_works(
    db: Database,
    issuer: EmbeddedIssuer,
    database: MigratedDatabase,
    asked: str,
) -> None:
    """Tokens tell whole seconds: what came after everything was ended is not what was before."""
    node = Revocations(db)
    before = await sign_up(issuer)
    await force_out(db, node, f"user-{asked}", actor="an operator")
    await force_everybody_out(db, node, ["embedded", "supabase"], actor="an operator")

    def shown_again(by: str) -> Principal:
        ((ended_at,),) = database.operate(  # the later end: a second may begin between any two
            "select max(not_before) from chatkeep.revocations"
            " where (kind = 'issuer' and issuer = %s) or subject = %s",
            by,
            f"user-{asked}",
        )
        this_second = ended_at.replace(microsecond=0)
        mine = replace(shown(uuid4()), user_id=f"user-{asked}", issued_at=this_second)
        return replace(mine, issuer=by)

    again = shown_again("embedded")

    async def refused(who: Principal) -> bool:
        return node.knows(who) if asked == "memory" else await node.is_revoked_now(who)

    assert not await refused(again)
    assert await refused(replace(again, session_id=None))  # none ended with a session of ours
    assert await refused(shown_again("supabase"))
    assert await refused(replace(again, session_id=str(before.session_id)))


async def test_whoever_watches_a_session_is_told_of_its_end(
    issuer: EmbeddedIssuer, elsewhere: Revocations
) -> None:
    """Of its own end and of no other, also when it had ended before."""
    mine, other = await sign_up(issuer), await sign_up(issuer)
    of_mine, of_other, too_late, not_any_more = (asyncio.Event() for _ in range(4))
    elsewhere.watch(shown(mine.session_id), of_mine.set)
    elsewhere.watch(shown(mine.session_id), not_any_more.set)
    elsewhere.watch(shown(other.session_id), of_other.set)
    elsewhere.unwatch(not_any_more.set)
    await end(issuer, mine)
    await elsewhere.catch_up()
    assert of_mine.is_set()
    assert not of_other.is_set()
    assert not not_any_more.is_set()
    elsewhere.watch(shown(mine.session_id), too_late.set)
    assert too_late.is_set()


async def test_restored_database_is_read_anew(
    issuer: EmbeddedIssuer, elsewhere: Revocations, database: MigratedDatabase
) -> None:
    """Numbers that are lower than those seen are not passed over."""
    first = await end(issuer, await sign_up(issuer))
    await end(issuer, await sign_up(issuer))
    await elsewhere.catch_up()
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute("delete from chatkeep.revocations")
        connection.execute("update chatkeep.revocation_numbers set newest = 0")
    after = await end(issuer, await sign_up(issuer))
    await elsewhere.catch_up()
    assert elsewhere.knows(shown(after))
    assert elsewhere.knows(shown(first))


@pytest.mark.parametrize("more", [0, 1])
async def test_standby_that_took_over_without_the_newest_is_read_anew(
    elsewhere: Revocations, database: MigratedDatabase, db: Database, more: int
) -> None:
    """What ends after an asynchronous failover has the numbers of what was lost by it."""
    until, here, lost = _tomorrow(), Revocations(db), str(uuid4())
    await here.revoke_token("acme", str(uuid4()), until=until)
    await here.revoke_token("acme", lost, until=until)
    await elsewhere.catch_up()
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute("delete from chatkeep.revocations where subject = %s", [lost])
        connection.execute("update chatkeep.revocation_numbers set newest = newest - 1")
    after = {str(uuid4()) for _ in range(1 + more)}
    other = Revocations(db)
    for token_id in after:
        await other.revoke_token("acme", token_id, until=until)
    await elsewhere.catch_up()
    ended = {subject for _, _, subject in elsewhere._ended}
    assert ended >= {lost, *after}


async def test_nothing_is_read_twice(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look learns what is new, and of what was ended once more that alone."""
    # Not one that looks by itself as well: two looks at once both learn what is new.
    here, elsewhere, until = Revocations(db), Revocations(db), _tomorrow()
    await elsewhere.catch_up()
    learned, learn = list[str](), elsewhere._learn

    def learn_noted(row: _Row) -> None:
        if row.subject in {"first", "second"}:
            learned.append(row.subject)
        learn(row)

    monkeypatch.setattr(elsewhere, "_learn", learn_noted)
    for token_id in ("first", "second"):
        await here.revoke_token("acme", token_id, until=until)
        await elsewhere.catch_up()
    await elsewhere.catch_up()
    assert learned == ["first", "second"]
    await here.revoke_token("acme", "second", until=until + timedelta(hours=1))
    for _ in range(2):
        await elsewhere.catch_up()
    assert learned == ["first", "second", "second"]


async def test_newest_that_has_expired_is_not_looked_for(
    elsewhere: Revocations, database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read no more, here or in the table: nothing was lost."""
    await elsewhere.revoke_token("acme", "long", until=_tomorrow())
    await elsewhere.revoke_token("acme", "short", until=datetime.now(UTC) + timedelta(seconds=2))
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "select pg_sleep_until(max(until)) from chatkeep.revocations where subject = 'short'"
        )
    learned, learn = list[str](), elsewhere._learn

    def learn_noted(row: _Row) -> None:
        learned.append(row.subject)
        learn(row)

    monkeypatch.setattr(elsewhere, "_learn", learn_noted)
    await elsewhere.catch_up()
    assert learned == []


async def test_look_that_is_overtaken_by_another_reads_nothing_anew(
    db: Database, elsewhere: Revocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was told is less than what is seen by then: that is no restored backup."""
    until, asked, go_on, learned = _tomorrow(), asyncio.Event(), asyncio.Event(), list[str]()
    await elsewhere.revoke_token("acme", "before", until=until)
    fetch_all, learn = db.fetch_all, elsewhere._learn

    async def fetch_slowly(caller: Caller, *queries: Query[Any]) -> list[list[Any]]:
        found = await fetch_all(caller, *queries)
        if not asked.is_set():
            asked.set()
            await go_on.wait()
        return found

    def learn_noted(row: _Row) -> None:
        learned.append(row.subject)
        learn(row)

    monkeypatch.setattr(elsewhere, "_learn", learn_noted)
    monkeypatch.setattr(db, "fetch_all", fetch_slowly)
    overtaken = asyncio.create_task(elsewhere.catch_up())
    await asked.wait()
    await elsewhere.revoke_token("acme", "meanwhile", until=until)
    go_on.set()
    await overtaken
    assert learned == ["meanwhile"]


async def test_table_that_a_restore_has_not_filled_yet_ends_no_look(
    issuer: EmbeddedIssuer, elsewhere: Revocations, database: MigratedDatabase
) -> None:
    """It is as if nothing had ended, until all of it is there."""
    await end(issuer, await sign_up(issuer))
    await elsewhere.catch_up()
    with psycopg.connect(database.admin_url, autocommit=True) as operator:
        operator.execute("create temp table kept as table chatkeep.revocation_numbers")
        operator.execute("delete from chatkeep.revocation_numbers")
        try:
            await elsewhere.catch_up()
        finally:
            operator.execute("insert into chatkeep.revocation_numbers table kept")
    after = await end(issuer, await sign_up(issuer))
    await elsewhere.catch_up()
    assert elsewhere.knows(shown(after))


async def test_fault_does_not_end_the_looking(
    issuer: EmbeddedIssuer, elsewhere: Revocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams are ended by it, and nobody waits for the task that it runs in."""
    monkeypatch.setattr("chatkeep.going_on._PAUSE_S", 0.0)
    look, failed = elsewhere._look_for_news, False

    async def look_for_news() -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise psycopg.InternalError("could not open relation with OID 16384")
        await look()

    monkeypatch.setattr(elsewhere, "_look_for_news", look_for_news)
    elsewhere.start()
    ended = await end(issuer, await sign_up(issuer))
    await until_revoked(elsewhere, ended)
    await elsewhere.close()
    assert failed


async def test_long_ended_sessions_are_forgotten(
    issuer: EmbeddedIssuer, db: Database, database: MigratedDatabase
) -> None:
    """What no token can name any more takes no memory and no row."""
    ended = await end(issuer, await sign_up(issuer))
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "insert into chatkeep.revocations (number, kind, issuer, subject, until)"
            " values (-1, 'session', 'embedded', 'old', now() - interval '1 second')"
        )
    later = Revocations(db)
    later._ended["session", "embedded", "old"] = datetime.now(UTC) - timedelta(seconds=1)
    await later.catch_up()
    await later._forget_the_old()
    assert not later.knows(shown("old"))
    assert later.knows(shown(ended))
    kept = await db.execute(AUTH, "select from chatkeep.revocations where subject = 'old'", ())
    assert kept == 0


@pytest.mark.parametrize("days", [3, -3])
async def test_wrong_clock_lets_nobody_back_in(
    db: Database, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """A node that was ahead for a while goes on to refuse what has ended; one behind does, too."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(days=days)

    node = Revocations(db)
    key = ("token", "embedded", "ended")
    # Alive by its own clock while that is behind, by everybody else's once it is put right.
    node._ended[key] = datetime.now(UTC) + timedelta(days=days) / 3
    monkeypatch.setattr("chatkeep.revocations.datetime", Wrong)
    await node._forget_the_old()
    assert node.knows(replace(shown("session"), token_id="ended"))


@pytest.mark.usefixtures("everybody_may_come_back")
@pytest.mark.parametrize("hours", [1, -1])
async def test_issuer_ends_by_the_clock_of_the_database(
    db: Database, elsewhere: Revocations, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Where one's own is off, who signs in again is let in, and what was issued before is not."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(hours=hours)

    monkeypatch.setattr("chatkeep.revocations.datetime", Wrong)
    moment = datetime.now(UTC)
    issued_before, issued_after = (
        shown("session", issuer="supabase", issued_at=moment + timedelta(minutes=minutes))
        for minutes in (-30, 30)
    )
    node = Revocations(db)
    await node.revoke_issuer("supabase")
    await elsewhere.catch_up()
    for who in (node, elsewhere):
        assert who.knows(issued_before)
        assert not who.knows(issued_after)
    assert await node.is_revoked_now(issued_before)
    assert not await node.is_revoked_now(issued_after)
