"""A database whose transactions are of another kind by default keeps what Chatkeep promises."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import psycopg
from psycopg import sql

from chatkeep.db import Database
from chatkeep.errors import TooManyKeys
from chatkeep.personal_keys import records as keys
from chatkeep.personal_keys.records import Wanted
from chatkeep.principal import Principal
from chatkeep.sql.migrations import HEAD, migrate
from tests.postgres_servers import LOGIN
from tests.serving import until

if TYPE_CHECKING:
    from tests.postgres_servers import MigratedDatabase

_ANA: Final = Principal(user_id="ana", issuer="embedded", subject=str(uuid4()))
_WANTED: Final = Wanted(name="Key", scopes=["chat"], lasts=timedelta(days=1))
_ONE_AT_A_TIME: Final = "select pg_advisory_xact_lock(hashtextextended('personal keys of ana', 0))"


def _let_see_only_what_was(admin_url: str) -> None:
    """Let every transaction see only what was there when it began."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL(
                "alter database {} set default_transaction_isolation = 'repeatable read'"
            ).format(sql.Identifier(connection.info.dbname))
        )


async def test_limits_hold_for_who_comes_at_once(database: MigratedDatabase) -> None:
    """Of two who wait for each other the second sees what the first has made."""
    _let_see_only_what_was(database.admin_url)
    db = Database(database.url, pool_size=2)
    await db.open()
    try:
        with psycopg.connect(database.admin_url) as before_them:
            before_them.execute(_ONE_AT_A_TIME)
            making = [
                asyncio.create_task(keys.make(db, _ANA, _WANTED, at_most=1, key_id=uuid4()))
                for _ in range(2)
            ]
            await until(lambda: database.waiting_for_locks() == len(making))
            before_them.commit()
        made = await asyncio.gather(*making, return_exceptions=True)
    finally:
        await db.close()
    assert sorted(isinstance(one, TooManyKeys) for one in made) == [False, True]


def test_it_is_migrated(empty_database: str) -> None:
    """What builds the indexes does not wait for itself."""
    _let_see_only_what_was(empty_database)
    assert migrate(empty_database, login=LOGIN).after == HEAD
