"""The PostgreSQL in the data folder: made once, closed to others, and hard to lose."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from chatkeep.config import Secret
from chatkeep.data_folder import DataFolder, prepare
from chatkeep.embedded_postgresql.addresses import LOGIN, Addresses, addresses_at
from chatkeep.embedded_postgresql.cluster import EmbeddedPostgreSQL, attach
from chatkeep.embedded_postgresql.postmaster import is_running, read_postmaster
from chatkeep.errors import SetupError
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ABANDON = """
import os, signal, sys
from pathlib import Path
from chatkeep.data_folder import prepare
from chatkeep.embedded_postgresql.cluster import EmbeddedPostgreSQL
folder = prepare(Path(sys.argv[1]))
with folder.locked("server"):
    EmbeddedPostgreSQL(folder, max_connections=20).start()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that only this test changes: pytest closes its own to all other accounts."""
    with tempfile.TemporaryDirectory(prefix="chatkeep-place-") as made:
        yield Path(made)


@pytest.fixture
def folder(place: Path) -> DataFolder:
    """A data folder in which nothing has been started."""
    return prepare(place / "data")


@contextmanager
def started(folder: DataFolder) -> Iterator[Addresses]:
    """Run PostgreSQL on *folder*."""
    server = EmbeddedPostgreSQL(folder, max_connections=20)
    try:
        yield server.start()
    finally:
        server.stop()


def ask(url: str, question: str) -> object:
    """Return the one value that *question* has for an answer."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(question.encode()).fetchone()
        assert row is not None
        return row[0]


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until *holds* does."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def postmaster(folder: DataFolder) -> int:
    """Return the number of the PostgreSQL process that runs on *folder*."""
    found = read_postmaster(folder.postgresql)
    assert found is not None
    assert is_running(found.pid, folder.postgresql)
    return found.pid


@pytest.fixture(scope="module")
def running() -> Iterator[DataFolder]:
    """A data folder on which PostgreSQL runs, which nobody stops."""
    with tempfile.TemporaryDirectory(prefix="chatkeep-place-") as made:
        folder = prepare(Path(made) / "data")
        with started(folder):
            yield folder


def test_everything_written_is_there_after_a_restart(folder: DataFolder) -> None:
    """What was stored before a clean stop is stored after the next start."""
    with started(folder) as addresses, psycopg.connect(addresses.admin_url) as connection:
        connection.execute("create table kept as select 42 as answer")
    assert read_postmaster(folder.postgresql) is None
    with started(folder) as addresses:
        assert ask(addresses.admin_url, "select answer from kept") == 42


MEANT_FOR_ANOTHER = [
    {"PGPORT": "5433"},
    {"PGHOST": "db.example", "PGHOSTADDR": "192.0.2.1", "PGUSER": "me", "PGDATABASE": "mine"},
    {"PGSSLMODE": "require", "PGCHANNELBINDING": "require"},
    {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "system"},
    {"PGSSLNEGOTIATION": "direct"},
    {"PGSSLCERTMODE": "require", "PGSSLCERT": "/nowhere", "PGSSLKEY": "/nowhere"},
    {"PGSSLMINPROTOCOLVERSION": "SSLv3"},
    {"PGSSLMAXPROTOCOLVERSION": "TLSv1"},
    {"PGOPTIONS": "-c default_transaction_read_only=on", "PGCLIENTENCODING": "LATIN1"},
    {"PGTARGETSESSIONATTRS": "read-only", "PGLOADBALANCEHOSTS": "never"},
    {"PGGSSENCMODE": "require", "PGGSSLIB": "sspi", "PGKRBSRVNAME": "pg"},
    {"PGREQUIREPEER": "somebody"},
    {"PGREQUIREAUTH": "!scram-sha-256"},
    {"PGCONNECT_TIMEOUT": "soon"},
    {"PGMINPROTOCOLVERSION": "9.9"},
    {"PGMAXPROTOCOLVERSION": "newest"},
    {"PGPASSFILE": "/nowhere", "PGPASSWORD": "guess"},
    {"PGDATESTYLE": "Julian"},
    {"PGTZ": "Mars/Olympus"},
    {"PGGEQO": "perhaps"},
    {"PGDATESTYLE": "SQL, DMY", "PGTZ": "Asia/Tokyo", "PGGEQO": "off"},
    {"PGSERVICE": "gone", "PGSERVICEFILE": "/nowhere"},
    {"PGSYSCONFDIR": "/nowhere", "PGLOCALEDIR": "/nowhere", "PGAPPNAME": "Zoë"},
]


@pytest.mark.parametrize("meant_for_another", MEANT_FOR_ANOTHER, ids="+".join)
def test_variables_for_another_postgresql_are_not_for_this_one(
    running: DataFolder, monkeypatch: pytest.MonkeyPatch, meant_for_another: dict[str, str]
) -> None:
    """It is attached to and written to, whatever `psql` is told in the same shell."""
    for name, value in meant_for_another.items():
        monkeypatch.setenv(name, value)
    with psycopg.connect(attach(running).admin_url) as connection:
        connection.execute("create temporary table kept as select '用户' as word")
        assert connection.execute("select word from kept").fetchone() == ("用户",)
        assert connection.execute("select timestamptz 'epoch'::text").fetchone() == (
            "1970-01-01 00:00:00+00",
        )


def test_it_starts_beside_all_variables_for_another_postgresql(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is made, and ready to be used."""
    for variables in MEANT_FOR_ANOTHER:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
    with started(folder) as addresses:
        assert ask(addresses.app_url, "select 1") == 1


def test_every_variable_of_libpq_is_answered_by_the_address(folder: DataFolder) -> None:
    """A newer libpq may know more of them: each that an address can answer is in ours."""
    told = conninfo_to_dict(addresses_at(folder.path, Secret("s")).app_url)
    asked = {one.keyword.decode() for one in pq.Conninfo.get_defaults() if one.envvar}
    assert asked - told.keys() == {"service"}


def test_service_for_another_postgresql_says_nothing_here_and_stays_for_others(
    running: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tools of the operator may need it. One that is not defined is of no use to anybody."""
    services = tmp_path / "services"
    services.write_text(
        "[theirs]\nhost=db.example\nport=1\nuser=me\ndbname=mine\nsslmode=require\n"
        "requirepeer=somebody\noptions=-c default_transaction_read_only=on\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv("PGSERVICE", "theirs")
    with psycopg.connect(attach(running).admin_url) as connection:
        connection.execute("create temporary table kept as select 42 as answer")
    assert os.environ["PGSERVICE"] == "theirs"
    services.write_text("")
    assert ask(attach(running).admin_url, "select 1") == 1


def test_nobody_gets_in_without_a_password(folder: DataFolder) -> None:
    """Neither the superuser nor the server's login is let in on trust, and no TCP port is open."""
    with started(folder) as addresses:
        assert ask(addresses.admin_url, "show listen_addresses") == ""
        assert ask(addresses.admin_url, "show fsync") == "on"
        assert ask(addresses.admin_url, "show synchronous_commit") == "on"
        methods = "select string_agg(distinct auth_method, ' ') from pg_hba_file_rules"
        assert ask(addresses.admin_url, methods) == "scram-sha-256"
        for role in ("postgres", LOGIN):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(addresses.app_url, user=role, password="guess")
    sockets = folder.postgresql.stat()
    assert stat.S_IMODE(sockets.st_mode) == 0o700


def test_server_logs_in_as_a_role_that_may_nothing(folder: DataFolder) -> None:
    """The login of a server is no superuser, inherits nothing and cannot bypass policies."""
    with started(folder) as addresses:
        rights = (
            "select array[rolsuper, rolbypassrls, rolinherit, rolcreaterole, rolcreatedb]"
            " from pg_roles where rolname = current_user"
        )
        assert ask(addresses.app_url, "select current_user::text") == LOGIN
        assert ask(addresses.app_url, rights) == [False] * 5


def test_left_behind_by_a_killed_server_it_is_taken_down_and_started(folder: DataFolder) -> None:
    """After kill -9 of the server its PostgreSQL still runs; the next start begins with that."""
    subprocess.run([sys.executable, "-c", ABANDON, folder.path], check=False)
    left_behind = postmaster(folder)
    with started(folder) as addresses:
        assert ask(addresses.admin_url, "select 1") == 1
        assert postmaster(folder) != left_behind
        assert not is_running(left_behind, folder.postgresql)


def test_pid_file_that_names_another_process_does_not_keep_it_from_starting(
    folder: DataFolder,
) -> None:
    """After a restart of the machine the old number may be anybody's, ours included."""
    with started(folder):
        pass
    stale = folder.postgresql / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{folder.postgresql}\n1\n5432\n\n\n\nready\n")
    owner = folder.postgresql.stat()
    os.chown(stale, owner.st_uid, owner.st_gid)
    with started(folder) as addresses:
        assert ask(addresses.admin_url, "select 1") == 1


TORN = [b"", b"\n", b"12", b"0\n", b"-7\n/data\n", b"\0" * 40, b"\xff\xfe1\n", b"9" * 30 + b"\n"]


def test_torn_pid_file_does_not_keep_it_from_starting(folder: DataFolder) -> None:
    """As a full disk or a power cut leaves it: empty, half of it, or what was there before."""
    with started(folder) as addresses, psycopg.connect(addresses.admin_url) as connection:
        connection.execute("create table kept as select 42 as answer")
    for torn in TORN:
        (folder.postgresql / "postmaster.pid").write_bytes(torn)
        give_to_owner(folder.postgresql / "postmaster.pid")
        with started(folder) as addresses:
            assert ask(addresses.admin_url, "select answer from kept") == 42


@pytest.mark.parametrize("torn", [b"", b"12", b"\0" * 40])
def test_postgresql_whose_pid_file_is_torn_is_ended_and_never_started_over(
    folder: DataFolder, torn: bytes
) -> None:
    """Two on one folder would destroy it: what a killed server left behind ends first."""
    subprocess.run([sys.executable, "-c", ABANDON, folder.path], check=False)
    left_behind = postmaster(folder)
    (folder.postgresql / "postmaster.pid").write_bytes(torn)
    with started(folder) as addresses:
        assert not is_running(left_behind, folder.postgresql)
        assert ask(addresses.admin_url, "select 1") == 1


def test_torn_pid_file_stays_while_somebody_unseen_answers(folder: DataFolder) -> None:
    """A PostgreSQL in another container has no process here, and the same folder."""
    with started(folder):
        pass
    torn = folder.postgresql / "postmaster.pid"
    torn.write_bytes(b"")
    give_to_owner(torn)
    with socket.socket(socket.AF_UNIX) as unseen:
        unseen.bind(str(folder.postgresql / ".s.PGSQL.5432"))
        unseen.listen()
        with pytest.raises(SetupError, match=r"answers in .* cannot be seen"), started(folder):
            pass
    assert torn.exists()


def give_to_owner(file: Path) -> None:
    """Let *file* be its folder's owner's, as PostgreSQL's own files are."""
    owner = file.parent.stat()
    os.chown(file, owner.st_uid, owner.st_gid)


def test_killed_postgresql_is_started_again(folder: DataFolder) -> None:
    """When PostgreSQL itself is killed the server gets it back, with all that was committed."""
    with started(folder) as addresses:
        with psycopg.connect(addresses.admin_url) as connection:
            connection.execute("create table kept as select 42 as answer")
        killed = postmaster(folder)
        os.kill(killed, signal.SIGKILL)

        def answers() -> bool:
            try:
                return ask(addresses.admin_url, "select answer from kept") == 42
            except psycopg.OperationalError:
                return False

        eventually(lambda: not is_running(killed, folder.postgresql))
        eventually(answers)
        assert postmaster(folder) != killed


def test_another_process_can_attach(folder: DataFolder) -> None:
    """A command finds the running PostgreSQL through the folder alone."""
    with started(folder) as addresses:
        assert attach(DataFolder(folder.path)) == addresses


def test_other_version_is_refused_and_left_alone(folder: DataFolder) -> None:
    """A folder of another PostgreSQL is named as such, and nothing in it changes."""
    with started(folder):
        pass
    version = folder.postgresql / "PG_VERSION"
    version.write_text("16\n")
    with pytest.raises(SetupError, match="PostgreSQL 16"), started(folder):
        pass
    assert version.read_text() == "16\n"


def test_other_secret_is_refused(folder: DataFolder) -> None:
    """With a secret from elsewhere the folder does not open, and the reason is said."""
    with started(folder):
        pass
    before = folder.secret_file.read_text()
    folder.secret_file.write_text("0" * 64 + "\n")
    with pytest.raises(SetupError, match="another secret"), started(folder):
        pass
    folder.secret_file.write_text(before)
    with started(folder) as addresses:
        assert ask(addresses.app_url, "select 1") == 1


def test_foreign_folder_is_not_overwritten(folder: DataFolder) -> None:
    """Files of somebody else in the place of PostgreSQL's are kept and named."""
    folder.secret()
    folder.postgresql.mkdir()
    (folder.postgresql / "thesis.txt").write_text("mine")
    with pytest.raises(SetupError), started(folder):
        pass
    assert (folder.postgresql / "thesis.txt").read_text() == "mine"


def test_start_that_was_cut_off_is_begun_again(folder: DataFolder) -> None:
    """Half a PostgreSQL folder, as after a power cut in the first start, is in nobody's way."""
    half = folder.path / "postgresql.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with started(folder) as addresses:
        assert ask(addresses.admin_url, "select 1") == 1
    assert not half.exists()


def test_path_too_long_for_a_socket(place: Path) -> None:
    """A deep folder has its socket elsewhere, in a folder that is as closed."""
    folder = prepare(place / ("long" * 30) / "data")
    with started(folder) as addresses:
        assert ask(addresses.app_url, "select 1") == 1
        found = read_postmaster(folder.postgresql)
        assert found is not None
        assert found.socket_folder is not None
        sockets = found.socket_folder
        assert not sockets.is_relative_to(folder.path)
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    sockets.rmdir()


def test_log_tells_nothing_of_what_people_wrote(folder: DataFolder) -> None:
    """A statement that fails leaves no trace of its values."""
    with started(folder) as addresses, psycopg.connect(addresses.admin_url) as connection:
        connection.execute("create table kept (name text primary key)")
        connection.execute("insert into kept values ('my diary')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("insert into kept values ('my diary')")
    assert "diary" not in (folder.path / "postgresql.log").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_as_root_postgresql_is_somebody_else_and_its_way_is_narrow(folder: DataFolder) -> None:
    """Run by root, PostgreSQL has an account of its own; nobody else may look in the folder."""
    with started(folder):
        process = Path("/proc") / str(postmaster(folder))
        account = pwd.getpwuid(process.stat().st_uid)
    assert account.pw_uid != 0
    assert account.pw_shell.endswith("nologin")
    assert folder.problems() == []
    anybody = subprocess.run(
        ["ls", folder.path], user="nobody", group="nogroup", check=False, capture_output=True
    )
    assert anybody.returncode != 0
    its_own = subprocess.run(
        ["ls", folder.path],
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=(),
        check=False,
        capture_output=True,
    )
    assert its_own.returncode != 0  # it may pass through, and not look around


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_root_runs_a_folder_as_its_owner(folder: DataFolder) -> None:
    """A folder of an ordinary account stays that account's when root starts it."""
    with started(folder):
        pass
    owner = pwd.getpwnam("nobody")
    subprocess.run(["chown", "-R", f"{owner.pw_uid}:{owner.pw_gid}", folder.path], check=True)
    (folder.path / "postgresql.log").unlink()
    with started(folder) as addresses:
        assert ask(addresses.app_url, "select 1") == 1
        assert (Path("/proc") / str(postmaster(folder))).stat().st_uid == owner.pw_uid
    assert {path.stat().st_uid for path in folder.path.iterdir()} == {owner.pw_uid}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_folder_of_root_is_refused_with_what_to_do(folder: DataFolder) -> None:
    """PostgreSQL's files may not be root's; whoever made them so is told the command."""
    with started(folder):
        pass
    subprocess.run(["chown", "-R", "root:root", folder.postgresql], check=True)
    with pytest.raises(SetupError, match="chown -R chatkeep-postgres"), started(folder):
        pass


async def test_starting_does_not_wait_for_an_event_loop(folder: DataFolder) -> None:
    """It is started before there is a loop, and may be from a thread beside one."""

    def once() -> object:
        with started(folder) as addresses:
            return ask(addresses.app_url, "select 1")

    assert await asyncio.to_thread(once) == 1
