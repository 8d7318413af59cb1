"""What doctor says of a database: reached, migrated, isolating, with keys that open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from chatkeep.config import Secret, Settings
from chatkeep.setup_checks.doctor import examine_database
from chatkeep.signing_keys import load_signing_keys
from chatkeep.sql.migrations import migrate
from tests.postgres_servers import LOGIN

if TYPE_CHECKING:
    import pytest

    from chatkeep.db import Database
    from chatkeep.setup_checks.findings import Finding
    from tests.postgres_servers import MigratedDatabase, Server

SECRET = "0123456789abcdef" * 2


async def findings(url: str, **settings: str) -> dict[str, Finding]:
    """Return what is found at *url*, by name."""
    environ = {"DATABASE_URL": url, "CHATKEEP_SECRET": SECRET, **settings}
    found = [one async for one in examine_database(Settings.from_env(environ))]
    return {one.name: one for one in found}


async def test_good_database_is_good_throughout(database: MigratedDatabase) -> None:
    """With the narrow login and with an administrator's, and a listening address."""
    for url in (database.url, database.admin_url):
        found = await findings(url, DATABASE_LISTEN_URL=database.url)
        assert [one.name for one in found.values() if not one.is_good] == []
        assert "Notifications" in found


async def test_too_few_connections_are_told(database: MigratedDatabase) -> None:
    """All that a server makes when it starts, and not what a pooler shares among many."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(f'alter database "{database.name}" connection limit 25')
        try:
            found = await findings(database.url)
            assert found["Connections"].note == "13 for such a server, 25 for all together"
            found = await findings(database.url, WORKERS="2")
            (problem,) = found["Connections"].problems
            assert "makes 26 connections, and PostgreSQL gives 25" in problem
            found = await findings(database.url, WORKERS="2", DATABASE_POOL_SIZE="9")
            assert found["Connections"].is_good
            assert "Connections" not in await findings(database.url, DATABASE_POOLER="on")
        finally:
            connection.execute(f'alter database "{database.name}" connection limit -1')


async def test_transactions_of_another_kind_are_told(database: MigratedDatabase) -> None:
    """Behind a pooler, where a server cannot say of which kind its own are to be."""
    another = f'alter database "{database.name}" set default_transaction_isolation = serializable'
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        assert (await findings(database.url, DATABASE_POOLER="on"))["Transactions"].is_good
        connection.execute(another)
        try:
            (problem,) = (await findings(database.url, DATABASE_POOLER="on"))[
                "Transactions"
            ].problems
            assert "'serializable'" in problem
            assert "Transactions" not in await findings(database.url)
        finally:
            connection.execute(f'alter database "{database.name}" reset all')


async def test_other_secret_is_named(database: MigratedDatabase, db: Database) -> None:
    """Keys that were made with another secret are said to be, without either secret."""
    await load_signing_keys(db, SECRET.encode())
    other = Secret("fedcba9876543210" * 2)
    found = await findings(database.url, CHATKEEP_SECRET=other)
    assert "CHATKEEP_SECRET" in found["Signing keys"].problems[0]


async def test_empty_database_is_to_be_migrated(postgres: Server) -> None:
    """Where nobody has migrated, that is what is said."""
    postgres.migrated_template()  # the roles are the server's, not the database's
    name = postgres.new_database()
    try:
        found = await findings(postgres.url(name, user=LOGIN))
        assert "chatkeep migrate" in found["Migrations"].problems[0]
        assert "Signing keys" not in found
        as_administrator = await findings(postgres.url(name))
        assert "chatkeep migrate" in as_administrator["Migrations"].problems[0]
        assert "Isolation" not in as_administrator
    finally:
        postgres.drop_database(name)


async def test_newer_database_is_told_from_one_to_be_migrated(empty_database: str) -> None:
    """One that a newer version has migrated serves this one, or needs that newer version."""
    migrate(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("update chatkeep.alembic_version set version_num = '9999'")
        assert "newer than" in str((await findings(empty_database))["Migrations"].note)
        connection.execute("update chatkeep.alembic_version set oldest_reader = '9998'")
        (problem,) = (await findings(empty_database))["Migrations"].problems
        assert "newer Chatkeep" in problem
        assert "migrate" not in problem


async def test_absent_listening_address_is_named(database: MigratedDatabase) -> None:
    """An address that is wrong in a setting of its own is found, too."""
    found = await findings(database.url, DATABASE_LISTEN_URL="postgresql://a@127.0.0.1:1/x")
    assert "DATABASE_LISTEN_URL" in found["Notifications"].problems[0]


async def test_listening_address_of_another_database_is_named(
    database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers, and nothing of what servers say to each other arrives there."""
    monkeypatch.setattr("chatkeep.setup_checks.notifications._WITHIN_S", 0.5)
    found = await findings(database.url, DATABASE_LISTEN_URL=database.server.url())
    assert "does not arrive at DATABASE_LISTEN_URL" in found["Notifications"].problems[0]
