"""Everything about the database is shown on each PostgreSQL that must work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.postgres_servers import Server, Version, new_server, throw_away, why_not

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.postgres_servers import MigratedDatabase


@pytest.fixture(scope="session", params=["18", "15"], ids=["pg18", "pg15"])
def version(request: pytest.FixtureRequest) -> Version:
    """The PostgreSQL that a test runs on."""
    wanted: Version = request.param
    if (reason := why_not(wanted)) is not None:
        pytest.skip(reason)
    return wanted


@pytest.fixture(scope="session")
def postgres(version: Version, servers: Callable[[Version], Server]) -> Server:
    """The running server of that version, shared by the whole run."""
    return servers(version)


@pytest.fixture
def empty_database(postgres: Server) -> Iterator[str]:
    """The administrator's address of a database in which Chatkeep never was."""
    postgres.migrated_template()
    name = postgres.new_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
def own_server(version: Version) -> Iterator[Server]:
    """A PostgreSQL of one's own: to be stopped, or because roles belong to a whole server."""
    server = new_server(version)
    yield server
    throw_away(server)


@pytest.fixture(scope="module")
def people(database: MigratedDatabase) -> tuple[str, str]:
    """Two people with a conversation each."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        for person in ("ana", "bo"):
            connection.execute(
                "insert into chat.conversations (user_id, id) values (%s, 'theirs')", [person]
            )
    return "ana", "bo"
