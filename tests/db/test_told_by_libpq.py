"""What libpq is told in the environment for a PostgreSQL of one's own: some of it counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from chatkeep.config import Settings
from chatkeep.db import ADMIN, Database, as_user
from chatkeep.errors import SetupError
from chatkeep.sql import adoption, migrations
from chatkeep.sql.migrations import migrate
from chatkeep.user_imports import better_auth
from tests.postgres_servers import LOGIN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres_servers import MigratedDatabase

OTHER_STYLES = {
    "PGDATESTYLE": "SQL, DMY",
    "PGTZ": "Asia/Tokyo",
    "PGCLIENTENCODING": "LATIN1",
    "PGOPTIONS": "-c intervalstyle=sql_standard -c bytea_output=escape",
}
MOMENT = datetime(2026, 2, 1, 3, 4, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Said:
    """A value of each kind that has more than one way to be written."""

    at: datetime
    took: timedelta
    held: bytes
    exactly: float
    word: str


VALUES = (
    "select %s::timestamptz as at, %s::interval as took, %s::bytea as held,"
    " %s::float8 as exactly, %s::text as word"
)
SAID = Said(MOMENT, timedelta(days=-1, seconds=7), b"\\\x00\xff", 0.1 + 0.2, "用户")
GIVEN = [SAID.at, SAID.took, SAID.held, SAID.exactly, SAID.word]


@pytest.fixture(autouse=True)
def other_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell libpq other styles than PostgreSQL's own."""
    for name, value in OTHER_STYLES.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("behind_pooler", [False, True])
async def test_values_are_what_they_are_in_every_style(
    database: MigratedDatabase, behind_pooler: bool
) -> None:
    """Read at once or in several steps, and also where no connection may be told for good."""
    db = Database(database.url, pool_size=1, behind_pooler=behind_pooler)
    await db.open()
    try:
        assert await db.fetch(as_user("ana"), VALUES, GIVEN, row=Said) == [SAID]
        async with db.acting_as(ADMIN) as connection:
            cursor = await connection.execute(VALUES, GIVEN)
            assert await cursor.fetchone() == tuple(GIVEN)
    finally:
        await db.close()


async def test_moments_are_told_in_utc_whatever_the_zone_of_the_login_is(
    database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day on a page is the day in UTC, as documented, on every server."""
    monkeypatch.delenv("PGTZ")
    of_login = f"alter role {LOGIN} in database {database.name}"
    database.operate(f"{of_login} set timezone = 'Asia/Tokyo'")
    db = Database(database.url, pool_size=1)
    await db.open()
    try:
        (said,) = await db.fetch(as_user("ana"), VALUES, GIVEN, row=Said)
        assert said.at.utcoffset() == timedelta()
    finally:
        await db.close()
        database.operate(f"{of_login} reset timezone")


def test_migration_names_who_holds_the_tables_in_every_style(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And since when, in UTC."""
    monkeypatch.setattr(adoption, "OPEN", adoption.OPEN.replace("'10s'", "'50ms'"))
    monkeypatch.setattr(migrations, "_PAUSES_S", [0.01])
    with psycopg.connect(empty_database, application_name="old chat") as application:
        application.execute("create schema chat")
        application.execute("create table chat.messages (id text, content text)")
        application.commit()
        application.execute("select from chat.messages")
        with pytest.raises(SetupError, match=r"since \d\d:\d\d:\d\d UTC\)"):
            migrate(empty_database)


def test_people_of_better_auth_keep_the_letters_of_their_names(empty_database: str) -> None:
    """Also those that Latin-1 does not have."""
    with psycopg.connect(empty_database, client_encoding="UTF8") as connection:
        connection.execute("create table public.\"user\" as select 1 as id, '用户' as name")
        connection.execute("create table public.account as select 1 as id")
    assert better_auth.read_database(empty_database)[0] == [{"id": 1, "name": "用户"}]


@pytest.mark.parametrize("url", ["postgresql:///?service=theirs", "postgresql:///"])
async def test_service_of_libpq_still_leads_to_the_database(
    url: str, database: MigratedDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named in the address, or in the environment."""
    services = tmp_path / "services"
    services.write_text(
        f"[theirs]\nhost={database.server.folder}\ndbname={database.name}\nuser={LOGIN}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    if "service" not in url:
        monkeypatch.setenv("PGSERVICE", "theirs")
    settings = Settings.from_env({"DATABASE_URL": url})
    db = Database(str(settings.database_url), pool_size=1)
    await db.open()
    try:
        assert await db.fetch(as_user("ana"), VALUES, GIVEN, row=Said) == [SAID]
    finally:
        await db.close()
