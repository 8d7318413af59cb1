"""A database that would not isolate people is recognised, whichever way it fails to."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from chatkeep.errors import DatabaseUnavailable
from chatkeep.setup_checks.isolation import find_problems
from chatkeep.sql.migrations import migrate
from tests.postgres_servers import LOGIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres_servers import MigratedDatabase, Server


@contextmanager
def altered(database: MigratedDatabase, change: str, back: str) -> Iterator[None]:
    """Make a *change* as administrator, and take it *back* at the end."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(change.encode())
        try:
            yield
        finally:
            connection.execute(back.encode())


async def test_migrated_database_isolates(database: MigratedDatabase) -> None:
    """What `migrate` makes is good, for the narrow login and for an administrator's."""
    assert await find_problems(database.url) == []
    assert await find_problems(database.admin_url) == []


@pytest.mark.parametrize(
    ("change", "back", "says"),
    [
        (
            "alter role chatkeep_app superuser",
            "alter role chatkeep_app nosuperuser",
            "chatkeep_app is a superuser",
        ),
        (
            "alter role chatkeep_auth bypassrls",
            "alter role chatkeep_auth nobypassrls",
            "chatkeep_auth has BYPASSRLS",
        ),
        (
            "grant postgres to chatkeep_worker",
            "revoke postgres from chatkeep_worker",
            "chatkeep_worker may become postgres",
        ),
        (
            "alter table chat.messages no force row level security",
            "alter table chat.messages force row level security",
            "not forced on chat.messages",
        ),
        (
            "alter table public.user_sessions disable row level security",
            "alter table public.user_sessions enable row level security",
            "not forced on public.user_sessions",
        ),
        (
            "create table chat.notes (said text)",
            "drop table chat.notes",
            "not forced on chat.notes",
        ),
        (
            "alter table chat.profiles owner to chatkeep_app",
            "alter table chat.profiles owner to postgres",
            "chatkeep_app owns chat.profiles",
        ),
        (
            f"revoke chatkeep_admin from {LOGIN}",
            f"grant chatkeep_admin to {LOGIN}",
            f"{LOGIN} may not act as chatkeep_admin",
        ),
    ],
)
async def test_way_past_the_policies_is_named(
    database: MigratedDatabase, change: str, back: str, says: str
) -> None:
    """Each of these would show people other people's rows, and is one sentence."""
    with altered(database, change, back):
        problems = await find_problems(database.url)
    assert any(says in problem for problem in problems), problems
    assert await find_problems(database.url) == []


async def test_empty_database_is_named(postgres: Server) -> None:
    """Where nobody has migrated there is nothing to check, which is said."""
    postgres.migrated_template()  # the roles are the server's, not the database's
    name = postgres.new_database()
    try:
        (problem,) = await find_problems(postgres.url(name, user=LOGIN))
        assert "chatkeep migrate" in problem
    finally:
        postgres.drop_database(name)


async def test_empty_database_with_a_new_login_is_named(own_server: Server) -> None:
    """One sentence with what helps: there are no roles yet that the login could be granted."""
    with psycopg.connect(own_server.url(), autocommit=True) as admin:
        admin.execute("create role newcomer login noinherit")
    name = own_server.new_database()
    assert await find_problems(own_server.url(name, user="newcomer")) == [
        "The database has no tables of Chatkeep: run `chatkeep migrate`."
    ]
    migrate(own_server.url(name), login="newcomer")
    assert await find_problems(own_server.url(name, user="newcomer")) == []


async def test_absent_database_is_no_verdict() -> None:
    """Nobody is told that all is well when nobody could be asked."""
    with pytest.raises(DatabaseUnavailable):
        await find_problems("postgresql://nobody@127.0.0.1:1/none")
