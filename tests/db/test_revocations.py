"""What has ended is known on every node, told or not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import psycopg
import pytest

from chatkeep.db import Database
from chatkeep.notifications import Listener
from chatkeep.revocations import LONGEST_TOKEN_LIFE, Revocations
from tests.signing_in import locate, open_test_issuer, sign_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.issuance import EmbeddedIssuer, Grant
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


async def until_revoked(node: Revocations, session_id: UUID) -> None:
    """Wait until *node* knows; the test's own timeout ends a wait in vain."""
    while not node.is_revoked(str(session_id)):  # noqa: ASYNC110 -- it announces itself nowhere
        await asyncio.sleep(0.01)


async def end(issuer: EmbeddedIssuer, grant: Grant) -> UUID:
    """Log out, and say which session that was."""
    await issuer.sign_out(await locate(issuer, grant), "local")
    return grant.session_id


async def test_node_that_ended_it_knows_at_once(issuer: EmbeddedIssuer) -> None:
    """No notification is waited for."""
    grant = await sign_up(issuer)
    assert not issuer.revocations.is_revoked(str(grant.session_id))
    await end(issuer, grant)
    assert issuer.revocations.is_revoked(str(grant.session_id))


async def test_start_learns_what_ended_before(
    issuer: EmbeddedIssuer, elsewhere: Revocations
) -> None:
    """A node that starts later refuses what was ended while it was away."""
    ended = await end(issuer, await sign_up(issuer))
    alive = await sign_up(issuer)
    await elsewhere.catch_up()
    assert elsewhere.is_revoked(str(ended))
    assert not elsewhere.is_revoked(str(alive.session_id))


@pytest.mark.parametrize("by", ["log-out", "psql", "psql, forever"])
async def test_other_nodes_are_told(
    issuer: EmbeddedIssuer, elsewhere: Revocations, database: MigratedDatabase, by: str
) -> None:
    """Whoever ends a session, and however, every listening node hears of it."""
    listener = Listener(database.url)
    listener.subscribe("chatkeep_sessions", elsewhere.told, missed=elsewhere.missed)
    listening = asyncio.create_task(listener.run())
    await listener.connected.wait()
    grant = await sign_up(issuer)
    if by == "log-out":
        await end(issuer, grant)
    else:
        with psycopg.connect(database.admin_url, autocommit=True) as connection:
            connection.execute(
                "update user_sessions set is_active = false, revoked_at = %s where id = %s",
                ["infinity" if "forever" in by else None, grant.session_id],
            )
    await until_revoked(elsewhere, grant.session_id)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


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
    elsewhere.missed()
    await until_revoked(elsewhere, first)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def test_transaction_that_commits_late_is_found(
    issuer: EmbeddedIssuer, elsewhere: Revocations, database: MigratedDatabase
) -> None:
    """An end that is dated before the newest known one, but committed after, is not missed."""
    slow, quick = await sign_up(issuer), await sign_up(issuer)
    async with await psycopg.AsyncConnection.connect(database.admin_url) as late:
        await late.execute(
            "update user_sessions set is_active = false where id = %s", [slow.session_id]
        )
        await end(issuer, quick)
        await elsewhere.catch_up()
        assert elsewhere.is_revoked(str(quick.session_id))
        assert not elsewhere.is_revoked(str(slow.session_id))
    await elsewhere.catch_up()
    assert elsewhere.is_revoked(str(slow.session_id))


async def test_looking_survives_the_database_being_away(database: MigratedDatabase) -> None:
    """A node keeps what it knows, and looks on, while nobody answers."""
    away = Database(database.url, pool_size=1)
    node = Revocations(away)  # the pool was never opened: every look fails
    known = uuid4()
    node.told(str(known))
    looking = asyncio.create_task(node.run())
    await asyncio.sleep(0)
    node.missed()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not looking.done()
    assert node.is_revoked(str(known))
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def test_long_ended_sessions_are_forgotten(
    issuer: EmbeddedIssuer, elsewhere: Revocations, database: MigratedDatabase
) -> None:
    """What no token can name any more takes no memory."""
    old = str(uuid4())
    elsewhere._ended[old] = datetime.now(UTC) - LONGEST_TOKEN_LIFE - timedelta(seconds=1)
    ended = await end(issuer, await sign_up(issuer))
    await elsewhere.catch_up()
    assert not elsewhere.is_revoked(old)
    assert elsewhere.is_revoked(str(ended))
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "update user_sessions set revoked_at = now() - interval '25 hours' where id = %s",
            [ended],
        )
    later = Revocations(issuer.db)
    await later.catch_up()
    assert not later.is_revoked(str(ended))
