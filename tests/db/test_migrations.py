"""Migrations: once, whoever asks at the same time, and never half."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

import psycopg
import pytest

from chatkeep import sql as sql_package
from chatkeep.db import Database, as_user
from chatkeep.errors import SetupError
from chatkeep.setup_checks.isolation import find_problems
from chatkeep.sql import adoption, migrations
from chatkeep.sql.assignment import assign_conversations
from chatkeep.sql.migrations import HEAD, OLDEST_READER, Migrated, migrate, serves_this_version
from tests.postgres_servers import LOGIN

if TYPE_CHECKING:
    from tests.postgres_servers import MigratedDatabase, Server

LEGACY = Path(__file__).parent / "legacy"


def run(url: str, script: LiteralString) -> None:
    """Run *script* at *url*."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(script)


def catalogue(url: str) -> list[tuple[str, ...]]:
    """Return everything that is defined in our schemas."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select 'table', c.oid::regclass::text, c.relkind::text, c.relacl::text from pg_class c"
            " where c.relnamespace::regnamespace::text in"
            " ('chat', 'chatkeep', 'chatkeep_queue', 'public')"
            " union all select 'function', oid::regprocedure::text, prosrc, proacl::text"
            " from pg_proc where pronamespace::regnamespace::text in"
            " ('chat', 'chatkeep', 'chatkeep_queue')"
            " union all select 'policy', tablename, policyname, concat(qual, with_check)"
            " from pg_policies"
            " union all select 'trigger', tgrelid::regclass::text, tgname, '' from pg_trigger"
            " union all select 'schema', nspname, '', nspacl::text from pg_namespace"
            " where nspname not like 'pg\\_%' order by 1, 2, 3, 4"
        ).fetchall()


def test_head_is_the_newest_revision() -> None:
    """The constant that spares loading Alembic says what Alembic would."""
    versions = Path(str(sql_package.__file__)).parent / "versions"
    numbers = [file.name.partition("_")[0] for file in versions.glob("[0-9]*.py")]
    assert max(numbers) == HEAD


def test_second_run_finds_nothing_to_do(empty_database: str) -> None:
    """From nothing to the newest, and then nothing changes; nobody is waited for."""
    steps: list[str] = []
    assert migrate(empty_database, progress=steps.append) == Migrated(before=None, after=HEAD)
    made = catalogue(empty_database)
    assert migrate(empty_database, progress=steps.append) == Migrated(before=HEAD, after=HEAD)
    assert catalogue(empty_database) == made
    assert steps == []


async def test_processes_at_the_same_time(empty_database: str) -> None:
    """Of several that start together one migrates, and all go on."""
    program = (
        "import sys; from chatkeep.sql.migrations import migrate;"
        " print(migrate(sys.argv[1], login=sys.argv[2]).after)"
    )
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            empty_database,
            LOGIN,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(3)
    ]
    for process in started:
        out, err = await process.communicate()
        assert (out.decode().strip(), err.decode()) == (HEAD, "")


def test_newer_database_is_refused(empty_database: str) -> None:
    """An older Chatkeep does not touch what a newer one made and it cannot serve on."""
    migrate(empty_database, login=LOGIN)
    run(
        empty_database,
        "update chatkeep.alembic_version set version_num = '9999', oldest_reader = '9998'",
    )
    for login in ("postgres", LOGIN):
        with pytest.raises(SetupError, match="newer Chatkeep"):
            serves_this_version(empty_database.replace("postgres@", f"{login}@"))
    before = catalogue(empty_database)
    with pytest.raises(SetupError, match=r"newer Chatkeep \(revision 9999, this one knows"):
        migrate(empty_database)
    assert catalogue(empty_database) == before


def test_newer_database_that_serves_older_versions_is_left_as_it_is(empty_database: str) -> None:
    """A version that was taken back, or is restarted beside a newer one, needs no migration."""
    migrate(empty_database)
    run(empty_database, "update chatkeep.alembic_version set version_num = '9999'")
    before = catalogue(empty_database)
    assert serves_this_version(empty_database)
    assert migrate(empty_database) == Migrated(before="9999", after="9999")
    assert catalogue(empty_database) == before


def test_the_version_before_works_on_the_newest_tables() -> None:
    """Whatever a migration does, servers of the revision before it go on: they run meanwhile."""
    assert OLDEST_READER < HEAD


def test_table_that_somebody_reads_for_long_is_tried_again(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits behind the migration goes on meanwhile; it comes through at the end."""
    with monkeypatch.context() as older:
        older.setattr(migrations, "HEAD", "0025")
        migrate(empty_database)
    monkeypatch.setattr(migrations, "_WAIT_FOR_TABLES", "set local lock_timeout = '20ms'")
    with psycopg.connect(empty_database) as report:
        report.execute("select from chat.runs")  # on which 0028 makes a policy
        pid = report.info.backend_pid

        def let_go_at_the_third(pause_s: float) -> None:
            pauses.append(pause_s)
            run(empty_database, "select from chat.runs")  # waits for nobody
            if len(pauses) == 3:
                report.rollback()

        pauses: list[float] = []
        said: list[str] = []
        monkeypatch.setattr(time, "sleep", let_go_at_the_third)
        done = migrate(empty_database, progress=said.append)
        assert done == Migrated(before="0025", after=HEAD)
    assert [one.partition(f" (process {pid}, ")[0] for one in said] == [
        "Waiting for the chat tables"
    ] * 3
    assert len(pauses) == 3
    assert pauses == sorted(pauses)


def test_time_limit_of_the_database_does_not_cut_it_short(empty_database: str) -> None:
    """Hosted databases have one for each statement, and adopting tables may take longer."""
    run(
        empty_database,
        "do $$ begin execute format("
        "'alter database %I set statement_timeout = 120000', current_database()); end $$;"
        "create function public.limits() returns event_trigger language plpgsql as $$ begin"
        " if current_setting('statement_timeout') <> '0' then raise 'limited'; end if; end $$;"
        "create event trigger limits on ddl_command_end when tag in ('CREATE TABLE')"
        " execute function public.limits()",
    )
    assert migrate(empty_database).after == HEAD


def test_old_postgresql_is_refused(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without what we need is named with what would do."""
    monkeypatch.setattr(migrations, "OLDEST_POSTGRESQL", 990000)
    with pytest.raises(SetupError, match="is too old"):
        migrate(empty_database)


def test_unreachable_database_is_one_clear_line(postgres: Server) -> None:
    """The reason is named, the password is not."""
    url = postgres.url("nowhere").replace("postgres@", "postgres:hunter2@")
    with pytest.raises(SetupError, match="Cannot reach the database") as raised:
        migrate(url)
    assert "hunter2" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_unknown_login_is_named(empty_database: str) -> None:
    """A server's login that does not exist is the administrator's to mend."""
    with pytest.raises(SetupError, match='role "nobody here" does not exist'):
        migrate(empty_database, login="nobody here")


def test_tables_in_use_are_not_waited_for_long(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application that still holds the tables to be adopted is named as the reason."""
    run(empty_database, (LEGACY / "bare.sql").read_text())
    impatient = adoption.OPEN.replace("'10s'", "'50ms'")
    assert impatient != adoption.OPEN
    monkeypatch.setattr(adoption, "OPEN", impatient)
    monkeypatch.setattr(migrations, "_PAUSES_S", [0.01])
    before = catalogue(empty_database)
    with psycopg.connect(empty_database, application_name="old chat") as application:
        application.execute("select from chat.messages")
        pid = application.info.backend_pid
        with pytest.raises(SetupError, match=rf"\(process {pid}, old chat, as postgres, since \d"):
            migrate(empty_database)
    assert catalogue(empty_database) == before


def test_the_login_sees_whether_it_is_up_to_date(
    database: MigratedDatabase, empty_database: str
) -> None:
    """A server without an administrator's address can tell whether others have migrated."""
    assert serves_this_version(database.url)
    assert not serves_this_version(empty_database.replace("postgres@", f"{LOGIN}@"))


def test_going_back_is_refused(database: MigratedDatabase) -> None:
    """No command of Alembic's drops people's conversations."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 -- slow, and only here

    folder = Path(str(sql_package.__file__)).parent
    revision = ScriptDirectory(str(folder)).get_revision("0001")
    with pytest.raises(RuntimeError, match="restore a backup instead"):
        revision.module.downgrade()


@dataclass(frozen=True, slots=True)
class Said:
    """A message as its owner reads it."""

    content: str


async def test_administrator_who_is_no_superuser(own_server: Server) -> None:
    """As on Supabase: one login that may make roles, migrates, serves and is held itself."""
    run(own_server.url(), "create role admin login createrole createdb")
    name = own_server.new_database(owner="admin")
    url = own_server.url(name, user="admin")
    run(url, (LEGACY / "supabase.sql").read_text())
    assert migrate(url).before is None
    assert migrate(url).before == HEAD
    assert await find_problems(url) == []
    run(url, "create role chatkeep_login login noinherit")
    migrate(url, login=LOGIN)
    assert await find_problems(own_server.url(name, user=LOGIN)) == []
    db = Database(url, pool_size=1)
    await db.open()
    for person in ("ana", "bo"):
        await db.execute(
            as_user(person),
            "with talk as ("
            "  insert into chat.conversations (user_id, id) values (%s, 'talk') returning *"
            ") insert into chat.messages (user_id, conversation_id, id, role, content)"
            " select user_id, id, '1', 'user', 'said by ' || user_id from talk",
            [person],
        )
    said = await db.fetch(as_user("bo"), "select content from chat.messages", [], row=Said)
    assert said == [Said("said by bo")]
    await db.close()
    run(own_server.url(name), "update chat.conversations set user_id = '' where user_id = 'bo'")
    with psycopg.connect(url) as connection:
        assert connection.execute("select from chat.messages").fetchall() == []
    assert assign_conversations(url, "cy", ["talk"]) == 1


def test_long_answers_are_not_compressed_dearly(database: MigratedDatabase) -> None:
    """They are kept four times a second: with LZ4 where PostgreSQL has it, else as they are."""
    with psycopg.connect(database.admin_url) as connection:
        has_lz4 = connection.execute(
            "select 'lz4' = any(enumvals) from pg_settings where name = 'default_toast_compression'"
        ).fetchone()
        connection.execute("insert into chat.conversations (user_id, id) values ('ana', 'long')")
        kept = connection.execute(
            "insert into chat.messages (user_id, conversation_id, id, role, content, parts) values"
            " ('ana', 'long', 'm', 'assistant', repeat('Once more, ', 2000),"
            " jsonb_build_array(repeat('and again ', 2000)))"
            " returning pg_column_compression(content), pg_column_compression(parts)"
        ).fetchone()
        stored = connection.execute(
            "select pg_column_compression(content), pg_column_compression(parts)"
            " from chat.messages where conversation_id = 'long'"
        ).fetchone()
    assert kept == (None, None)
    assert stored == (("lz4", "lz4") if has_lz4 == (True,) else (None, None))
