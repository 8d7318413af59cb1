"""Indexes that are built beside the traffic: nobody waits, and what was interrupted goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Final

import psycopg
import pytest
from click.testing import CliRunner

from chatkeep.cli import migrate as migrate_command
from chatkeep.cli.serve import _see_to_indexes
from chatkeep.config import Settings
from chatkeep.errors import SetupError
from chatkeep.setup_checks.doctor import examine_database
from chatkeep.sql import indexes, migrations
from chatkeep.sql.indexes import Index, build, find_missing, find_undone
from chatkeep.sql.migrations import build_indexes, migrate
from tests.postgres_servers import LOGIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from tests.postgres_servers import Server

BY_ROLE: Final = Index(
    "create index concurrently messages_by_role on chat.messages (user_id, role)"
)
ONE_ROLE: Final = Index(
    "create unique index concurrently messages_one_role on chat.messages (user_id, role)"
)
DEADLINE_S: Final = 60
#: Statements that change the schema wait at their start, before they lock anything.
HELD_BACK: Final = """
create function chat.hold_back() returns event_trigger language plpgsql as $$
begin perform pg_advisory_xact_lock(1); end $$;
create event trigger held_back on ddl_command_start execute function chat.hold_back();
"""
#: A run of one request, which there is once.
ASKED_ONCE: Final = """
with talk as (
  insert into chat.conversations (user_id, id) values ('ana', 'talk')
  on conflict (user_id, id) do update set title = '' returning user_id, id
), answer as (
  insert into chat.messages (user_id, conversation_id, id, role)
  select user_id, id, %s, 'user' from talk returning *
)
insert into chat.runs
  (user_id, id, conversation_id, message_id, request_key, state, model, lease_until)
select user_id, id, conversation_id, id, 'key', 'done', 'm', now() from answer
"""
#: A process of its own, to be killed: argv is the address.
BUILDER: Final = f"""
import sys
from chatkeep.sql import indexes, migrations
indexes.BESIDE = (indexes.Index({BY_ROLE.create!r}),)
indexes.build(sys.argv[1], progress=lambda said: print(said, flush=True))
"""


@pytest.fixture
def url(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The administrator's address of a database with messages, and an index yet to be built."""
    name = postgres.new_database(template=postgres.migrated_template())
    address = postgres.url(name)
    with psycopg.connect(address) as connection:
        connection.execute("insert into chat.conversations (user_id, id) values ('ana', 'talk')")
        connection.execute(
            "insert into chat.messages (user_id, conversation_id, id, role, content)"
            " select 'ana', 'talk', n::text, 'user', 'said' from generate_series(1, 1000) n"
        )
    monkeypatch.setattr(indexes, "BESIDE", (BY_ROLE,))
    monkeypatch.setattr(indexes, "_LOOK_AGAIN_S", 0.02)
    yield address
    postgres.drop_database(name)


class Said:
    """What was told of the progress, to be waited for."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self._told = threading.Condition()

    def __call__(self, step: str) -> None:
        """Be told of a step."""
        with self._told:
            self.steps.append(step)
            self._told.notify_all()

    def wait_for(self, words: str) -> None:
        """Return when a step has these *words*."""
        with self._told:
            heard = self._told.wait_for(
                lambda: any(words in step for step in self.steps), DEADLINE_S
            )
        assert heard, (words, self.steps)


def write(url: str, message: str, *, limit: str = "500ms") -> None:
    """Write a message as an application does, waiting for locks no longer than *limit*."""
    with psycopg.connect(url) as connection:
        connection.execute("select set_config('lock_timeout', %s, true)", [limit])
        connection.execute(
            "insert into chat.messages (user_id, conversation_id, id, role, content)"
            " values ('ana', 'talk', %s, 'user', 'said meanwhile')",
            [message],
        )


@contextmanager
def old_transaction(url: str) -> Iterator[psycopg.Connection]:
    """Have somebody who has written into the table, until they roll back or the block ends."""
    with psycopg.connect(url, application_name="report") as connection:
        connection.execute("update chat.messages set content = '' where id = '1'")
        try:
            yield connection
        finally:
            connection.rollback()


@contextmanager
def building(
    url: str, said: Said, *, behind: psycopg.Connection | None = None
) -> Iterator[Future[list[str]]]:
    """Build in the background; at the end of the block whoever is before it gives way."""
    with ThreadPoolExecutor(max_workers=1) as threads:
        try:
            yield threads.submit(build, url, progress=said)
        finally:
            if behind is not None:
                behind.rollback()


def test_writers_and_readers_go_on_while_it_is_built(url: str) -> None:
    """Also while it waits for somebody who does not end a transaction."""
    said = Said()
    with old_transaction(url) as somebody, building(url, said, behind=somebody) as built:
        said.wait_for("waiting for writers before build: for process")
        for number in range(50):
            write(url, f"meanwhile-{number}")
        assert not built.done()
        assert any("(report), in a transaction since" in step for step in said.steps)
        somebody.rollback()
        assert built.result(DEADLINE_S) == [BY_ROLE.name]
    assert find_missing(url) == []
    with psycopg.connect(url) as connection:
        connection.execute("set local enable_seqscan = off; set local enable_bitmapscan = off")
        counted = connection.execute(
            "select count(*) from chat.messages where user_id = 'ana' and role = 'user'"
        )
        assert counted.fetchone() == (1050,)


def test_an_ordinary_index_would_hold_them_up(url: str) -> None:
    """What this is for: that the test above can fail."""
    with psycopg.connect(url) as connection:
        connection.execute("create index messages_by_role on chat.messages (user_id, role)")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            write(url, "meanwhile", limit="50ms")


def test_what_was_cancelled_is_built_anew(url: str) -> None:
    """It leaves half an index behind, says so, and the next call takes it away and builds it."""
    said = Said()
    with old_transaction(url) as somebody, building(url, said, behind=somebody) as built:
        said.wait_for("waiting for writers")
        with psycopg.connect(url) as admin:
            admin.execute(
                "select pg_cancel_backend(pid) from pg_stat_activity where query = %s",
                [BY_ROLE.create],
            )
        with pytest.raises(SetupError, match=r"messages_by_role was not built: cancel"):
            built.result(DEADLINE_S)
    with psycopg.connect(url) as connection:
        halves = "select count(*) from pg_index where not indisvalid"
        assert connection.execute(halves).fetchone() == (1,)
    assert find_missing(url) == [BY_ROLE.name]
    again = Said()
    assert build(url, progress=again) == [BY_ROLE.name]
    # PostgreSQL may be a moment late to notice that who had begun has left.
    steps = [step for step in again.steps if not step.startswith("Another process is building")]
    assert "was interrupted" in steps[0]
    assert find_missing(url) == []


def test_what_a_killed_process_has_begun_is_waited_for(url: str) -> None:
    """PostgreSQL goes on with it: it is neither taken away in the middle nor built twice."""
    said = Said()
    with old_transaction(url) as somebody:
        process = subprocess.Popen(
            [sys.executable, "-c", BUILDER, url], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert any("waiting for writers" in line for line in process.stdout)
        process.kill()
        process.communicate()
        with building(url, said, behind=somebody) as built:
            said.wait_for("Waiting: chat.messages_by_role")
            somebody.rollback()
            assert built.result(DEADLINE_S) == []
    assert find_missing(url) == []


@contextmanager
def just_finishing(url: str) -> Iterator[None]:
    """Have the statement at work without its lock, and a whole index at the end of the block."""
    whole = (
        "update pg_index set indisvalid = %s where indexrelid = 'chat.messages_by_role'::regclass"
    )
    with (
        psycopg.connect(url, autocommit=True) as admin,
        psycopg.connect(url, autocommit=True) as somebody,
        ThreadPoolExecutor(max_workers=1) as threads,
    ):
        admin.execute("set allow_system_table_mods = on")
        admin.execute(BY_ROLE.create)
        admin.execute(whole, [False])
        admin.execute(HELD_BACK)
        admin.execute("select pg_advisory_lock(1)")
        ended = threads.submit(somebody.execute, BY_ROLE.create)
        try:
            at_work = "select wait_event from pg_stat_activity where pid = %s"
            while admin.execute(at_work, [somebody.info.backend_pid]).fetchone() != ("advisory",):
                assert not ended.done()
            yield
            admin.execute(whole, [True])
        finally:
            admin.execute("select pg_advisory_unlock(1)")
        with pytest.raises(psycopg.errors.DuplicateTable):
            ended.result(DEADLINE_S)


def test_what_is_just_being_finished_is_waited_for(url: str) -> None:
    """PostgreSQL lets go of the table a moment before it commits that the index is whole."""
    said = Said()
    with ThreadPoolExecutor(max_workers=1) as threads:
        with just_finishing(url):
            built = threads.submit(build, url, progress=said)
            said.wait_for("Waiting: chat.messages_by_role is just being finished")
        assert built.result(DEADLINE_S) == []
    assert find_missing(url) == []


def test_two_at_once_build_it_once(url: str) -> None:
    """The second waits without being in the way of the first, and finds it built."""
    first, second = Said(), Said()
    with old_transaction(url) as somebody, building(url, first, behind=somebody) as one:
        first.wait_for("waiting for writers")
        with building(url, second, behind=somebody) as two:
            second.wait_for("Another process is building")
            somebody.rollback()
            assert one.result(DEADLINE_S) == [BY_ROLE.name]
            assert two.result(DEADLINE_S) == []
    assert find_missing(url) == []


def test_rows_that_are_not_unique_leave_nothing_behind(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a unique index would refuse what people write."""
    monkeypatch.setattr(indexes, "BESIDE", (ONE_ROLE,))
    with pytest.raises(SetupError, match="not built: rows that are there are not unique") as raised:
        build(url, progress=Said())
    assert "ana" not in str(raised.value)
    write(url, "afterwards")
    with psycopg.connect(url) as connection:
        assert connection.execute(
            "select count(*) from pg_class where relname = 'messages_one_role'"
        ).fetchone() == (0,)


#: What of `REPLACED` a version before 0031 has.
OF_BEFORE: Final = [one for one in indexes.REPLACED if one != "chat.runs_of_answer"]


@pytest.fixture(scope="module")
def older_template(postgres: Server) -> Iterator[str]:
    """The name of a database as the version had it that knew of no replaced indexes."""
    postgres.migrated_template()
    name = postgres.new_database()
    url = postgres.url(name)
    with pytest.MonkeyPatch.context() as older:
        older.setattr(migrations, "HEAD", "0030")
        older.setattr(indexes, "BESIDE", ())
        older.setattr(indexes, "REPLACED", ())
        migrate(url, login=LOGIN)
    with psycopg.connect(url) as connection:
        connection.execute(ASKED_ONCE, ["first"])
    yield name
    postgres.drop_database(name)


@pytest.fixture
def before(postgres: Server, older_template: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a copy of it."""
    monkeypatch.setattr(indexes, "_PAUSES_S", (0.01,))
    name = postgres.new_database(template=older_template)
    yield postgres.url(name)
    postgres.drop_database(name)


def test_what_is_replaced_is_dropped(before: str) -> None:
    """Once all of those in its place are there; a request is still the same one afterwards."""
    assert find_undone(before) == (
        [one.name for one in indexes.BESIDE],
        OF_BEFORE,
    )
    migrate(before)
    said = Said()
    assert build_indexes(before, progress=said) == [one.name for one in indexes.BESIDE]
    assert "Dropping chat.messages_siblings, which others have replaced" in said.steps
    assert find_undone(before) == ([], [])
    with psycopg.connect(before) as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(ASKED_ONCE, ["second"])


def test_what_is_replaced_stays_until_all_is_built(
    before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes by it is not left without any."""
    write(before, "another")
    monkeypatch.setattr(indexes, "BESIDE", (*indexes.BESIDE, ONE_ROLE))
    with pytest.raises(SetupError, match="messages_one_role was not built"):
        build(before, progress=Said())
    assert find_undone(before) == ([ONE_ROLE.name], OF_BEFORE)


async def test_what_cannot_be_dropped_is_told(before: str) -> None:
    """Nobody waits behind it meanwhile, `doctor` says what is left, and the next call drops it."""
    migrate(before)
    with psycopg.connect(before) as report:
        report.execute("select from chat.runs")
        with pytest.raises(SetupError, match="runs_request_key was not dropped: a transaction"):
            build_indexes(before)
        settings = Settings.from_env({"DATABASE_URL": before})
        problems = [said async for one in examine_database(settings) for said in one.problems]
        assert any("chat.runs_request_key (to be dropped)" in said for said in problems)
    assert build_indexes(before) == []
    assert find_undone(before) == ([], [])


def test_going_back_has_the_indexes_of_before(before: str) -> None:
    """All of them, with what they keep unique."""
    migrate(before)
    build_indexes(before)
    with psycopg.connect(before) as connection:
        for revision in (
            "0034_items_of_messages",
            "0033_runs_read_with_their_messages",
            "0031_rows_by_their_keys",
        ):
            connection.execute(import_module(f"chatkeep.sql.versions.{revision}").AS_BEFORE)
    assert find_undone(before)[1] == OF_BEFORE
    with psycopg.connect(before) as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(ASKED_ONCE, ["second"])


def test_login_that_may_not_is_told_so(url: str) -> None:
    """In one sentence, as whoever does not own the tables."""
    with pytest.raises(SetupError, match=r"messages_by_role was not built: .*permission denied"):
        build(url.replace("postgres@", f"{LOGIN}@"), progress=Said())


def test_start_without_a_database_is_not_ended_by_this(url: str) -> None:
    """What comes after it says that nobody answers."""
    nowhere = url.partition("@")[0] + "@127.0.0.1:1/chat"
    _see_to_indexes(Settings.from_env({"DATABASE_URL": nowhere}), alone=False)


def test_new_database_has_it_from_the_start(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one of a newer version is let be."""
    monkeypatch.setattr(indexes, "BESIDE", (BY_ROLE,))
    migrate(empty_database, login=LOGIN)
    assert find_missing(empty_database.replace("postgres@", f"{LOGIN}@")) == []
    with psycopg.connect(empty_database) as connection:
        connection.execute("drop index chat.messages_by_role")
        connection.execute("update chatkeep.alembic_version set version_num = '9999'")
    assert build_indexes(empty_database) == []
    assert find_missing(empty_database) == [BY_ROLE.name]


async def test_operators_are_told_and_have_a_command(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A start says what is missing and goes on, doctor finds it, `chatkeep migrate` builds it."""
    monkeypatch.setenv("DATABASE_URL", url)
    settings = Settings.from_env(
        {"DATABASE_URL": url, "CHATKEEP_SECRET": "a secret that nobody else has 1234"}
    )
    _see_to_indexes(settings, alone=False)
    assert "run `chatkeep migrate` to build chat.messages_by_role" in capsys.readouterr().err
    problems = [said async for one in examine_database(settings) for said in one.problems]
    assert any("chat.messages_by_role" in said for said in problems)
    called = CliRunner().invoke(migrate_command.command, [])
    assert called.exit_code == 0
    assert "Building chat.messages_by_role …" in called.stderr
    assert "The index chat.messages_by_role was built." in called.stdout
    _see_to_indexes(settings, alone=False)
    assert capsys.readouterr().err == ""


def test_our_own_database_has_it_when_a_server_starts(url: str) -> None:
    """There nobody else serves, and nobody calls `chatkeep migrate`."""
    _see_to_indexes(Settings.from_env({"DATABASE_URL": url}), alone=True)
    assert find_missing(url) == []


def test_what_cannot_be_found_again_is_refused() -> None:
    """An index is known by its name and table, so its statement has to have them."""
    for statement in (
        "create index messages_by_role on chat.messages (role)",
        "create index concurrently on chat.messages (role)",
        "create index concurrently if not exists by_role on chat.messages (role)",
        "create index concurrently by_role on messages (role)",
    ):
        with pytest.raises(ValueError, match="not 'create index concurrently"):
            Index(statement)
