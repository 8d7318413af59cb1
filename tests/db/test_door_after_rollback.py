"""A connection that rolled back is as good as any: its next borrower notices nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chatkeep.db import WORKER, Database

if TYPE_CHECKING:
    from tests.postgres_servers import MigratedDatabase


async def failing(db: Database) -> None:
    """Have something prepared by psycopg, and roll back."""
    async with db.acting_as(WORKER) as connection:
        await connection.execute("select 1 where %s", [True], prepare=True)
        raise ZeroDivisionError


async def test_statements_are_known_after_a_rollback(database: MigratedDatabase) -> None:
    """Psycopg drops every prepared statement then, those of our own exchange among them."""
    db = Database(database.url, pool_size=1)
    await db.open()
    for _ in range(3):
        await db.execute(WORKER, "delete from chat.conversations where deleted_at < now()", [])
        with pytest.raises(ZeroDivisionError):
            await failing(db)
        async with db.acting_as(WORKER) as connection:
            await connection.execute("select 1")
    await db.execute(WORKER, "delete from chat.conversations where deleted_at < now()", [])
    await db.close()
