"""Whose people have bare ids is decided once, by whichever process comes first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg
import pytest

from chatkeep.db import Database
from chatkeep.issuers.primary import settle_primary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.postgres_servers import MigratedDatabase

PROCESSES = 8
ROUNDS = 40


@pytest.fixture
async def many(database: MigratedDatabase) -> AsyncIterator[Database]:
    """A door with a connection for each process that starts."""
    opened = Database(database.url, pool_size=PROCESSES)
    await opened.open()
    await asyncio.gather(*(settle_primary(opened, "embedded") for _ in range(PROCESSES)))
    yield opened
    await opened.close()


def forget(database: MigratedDatabase) -> None:
    """Make it a database on which nobody ever started."""
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("delete from chatkeep.issuers")


async def test_processes_that_start_together_agree(
    many: Database, database: MigratedDatabase
) -> None:
    """On a new database one of them decides and none of them fails."""
    for _ in range(ROUNDS):
        forget(database)
        settled = await asyncio.gather(
            *(settle_primary(many, "supabase") for _ in range(PROCESSES))
        )
        assert settled == ["supabase"] * PROCESSES


async def test_first_decision_outlives_the_settings(
    many: Database, database: MigratedDatabase
) -> None:
    """Another order of the settings renames nobody; our own gives way while nobody is here."""
    forget(database)
    assert await settle_primary(many, "embedded") == "embedded"
    assert await settle_primary(many, "supabase") == "supabase"
    assert await settle_primary(many, "embedded") == "supabase"
