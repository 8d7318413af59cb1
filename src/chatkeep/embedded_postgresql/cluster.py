"""The PostgreSQL that comes with Chatkeep, run in the data folder.

A child process in a session of its own (Ctrl-C in a terminal must not reach it before us),
reached through a socket that only its owner can use, with passwords that come from the
folder's secret. It is watched, and started again should it die alone. Nothing here knows a
table of ours.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import psycopg
from psycopg import errors as pg
from psycopg import sql

from chatkeep.embedded_postgresql.account import account_for, let_through
from chatkeep.embedded_postgresql.addresses import (
    DATABASE,
    LOGIN,
    SUPERUSER,
    Addresses,
    addresses_at,
    forget_other_servers,
    password_of,
    socket_folder,
)
from chatkeep.embedded_postgresql.postmaster import (
    is_running,
    last_failure,
    read_postmaster,
    stop_left_behind,
)
from chatkeep.embedded_postgresql.programs import VERSION, find_programs, let_run
from chatkeep.errors import SetupError
from chatkeep.stop_signals import STOP_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chatkeep.config import Secret
    from chatkeep.data_folder import DataFolder

_log = logging.getLogger(__name__)

_LARGEST_LOG_BYTES: Final = 8 << 20

_POLL_S = 0.01
_START_TIMEOUT_S = 600.0  # after a crash it first repairs itself, which is not to be cut short
_ATTACH_TIMEOUT_S = 30.0
_STOP_PATIENCE_S = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0))
_RESTART_PAUSE_S = 1.0

#: What differs from PostgreSQL's own defaults. Durability does not; it is said all the same.
_SETTINGS: Final = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "io_method": "sync",  # no helper processes for a small database
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
    # The log never holds a statement or a row: they are people's conversations.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}


class EmbeddedPostgreSQL:
    """One server on *folder*, whose lock the caller holds."""

    def __init__(self, folder: DataFolder, *, max_connections: int) -> None:
        self._folder = folder
        self._data = folder.postgresql
        self._max_connections = max_connections
        self._account = account_for(self._data)
        self._programs = find_programs()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._changing = threading.Lock()

    def start(self) -> Addresses:
        """Start it, made first when it is not there; return once it answers.

        One that a killed server left behind is stopped cleanly before.

        Call `stop` afterwards in any case: when this fails or is interrupted, too.

        Raises:
            SetupError: it cannot run here, and why.
        """
        secret = self._folder.secret()
        forget_other_servers()
        self._open_the_way()
        self._make_cluster(secret)
        stop_left_behind(self._data)
        sockets = socket_folder(self._data, self._account)
        addresses = addresses_at(sockets, secret)
        self._launch(sockets)
        self._await_ready()
        _make_database(addresses, secret)
        threading.Thread(target=self._watch, args=[sockets], name="postgresql", daemon=True).start()
        return addresses

    @property
    def is_started(self) -> bool:
        """Whether there is something to stop."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop it cleanly: open transactions are rolled back, everything is written."""
        with self._changing:
            self._stopping.set()
        process = self._process
        if process is None:
            return
        for how, patience_s in _STOP_PATIENCE_S:
            process.send_signal(how)
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience_s)
                return
        process.kill()
        process.wait()

    def _watch(self, sockets: Path) -> None:
        """Start it again when it ends by itself (out of memory, a careless kill)."""
        while self._process is not None:
            self._process.wait()
            if self._stopping.wait(_RESTART_PAUSE_S):
                return
            with self._changing:
                if not self._stopping.is_set():
                    self._restart(sockets)

    def _restart(self, sockets: Path) -> None:
        _log.error("PostgreSQL ended by itself; starting it again")
        try:
            self._launch(sockets)
        except (OSError, SetupError):
            _log.exception("PostgreSQL could not be started again; trying once more")

    def _make_cluster(self, secret: Secret) -> None:
        if (self._data / "PG_VERSION").exists():
            _require_version(self._data)
            return
        if self._data.exists():
            raise SetupError(f"{self._data} is not a PostgreSQL folder, or a damaged one.")
        # Made elsewhere and moved: it is complete or not there.
        draft = self._folder.path / "postgresql.new"
        password = self._folder.path / ".password"
        shutil.rmtree(draft, ignore_errors=True)
        try:
            draft.mkdir()
            password.touch()
            self._own(draft, 0o700)
            self._own(password, 0o600)
            password.write_text(password_of(secret, SUPERUSER), encoding="ascii")
            self._initialise(draft, password)
            draft.rename(self._data)
        except OSError as error:
            raise SetupError(f"{self._folder.path} cannot be used: {error.strerror}.") from error
        finally:
            password.unlink(missing_ok=True)

    def _initialise(self, draft: Path, password: Path) -> None:
        done = subprocess.run(
            [
                *(self._programs / "initdb", "-D", draft, "-U", SUPERUSER),
                *("--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8"),
                # The same order of letters on every machine that the folder is moved to.
                *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                "--no-instructions",
            ],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            **self._child(),
        )
        if done.returncode != 0:
            shutil.rmtree(draft, ignore_errors=True)
            raise SetupError(f"PostgreSQL could not be set up: {last_failure(done.stderr)}.")

    def _open_the_way(self) -> None:
        """Before each program: a chmod of a folder above, by anybody, closes it again."""
        if self._account is not None:
            let_through(self._account, self._folder.path)
            let_run(self._account, self._programs)

    def _own(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _child(self) -> dict[str, Any]:
        """How each of its programs is started: apart from us, and as whom it may run."""
        found: dict[str, Any] = {
            "cwd": "/",
            "env": _environment(),
            "stdin": subprocess.DEVNULL,
            "start_new_session": True,
            "umask": 0o077,
        }
        if self._account is not None:
            found |= {"user": self._account.uid, "group": self._account.gid, "extra_groups": ()}
        return found

    def _launch(self, sockets: Path) -> None:
        settings = _SETTINGS | {
            "max_connections": str(self._max_connections),
            "unix_socket_directories": str(sockets),
        }
        child = self._child()
        stale = read_postmaster(self._data)
        if stale is not None and not is_running(stale.pid, self._data):
            # Its number may belong to another process by now (a restarted container), which
            # PostgreSQL would take for itself; pg_ctl says "not that one" in the same way.
            child["env"]["PG_GRANDPARENT_PID"] = str(stale.pid)
        self._open_the_way()
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self._open_log() as log, _uninterrupted():
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *words],
                stdout=log,
                stderr=log,
                **child,
            )

    def _open_log(self) -> BinaryIO:
        log = self._log_file
        with suppress(FileNotFoundError):
            if log.stat().st_size > _LARGEST_LOG_BYTES:
                log.replace(log.with_suffix(".log.old"))
        opened = log.open("ab")
        self._folder.give(log)
        return opened

    @property
    def _log_file(self) -> Path:
        return self._folder.path / "postgresql.log"

    def _await_ready(self) -> None:
        process = self._process
        deadline = time.monotonic() + _START_TIMEOUT_S
        while process is not None and process.poll() is None and time.monotonic() < deadline:
            found = read_postmaster(self._data)
            if found is not None and found.pid == process.pid and found.ready:
                return
            time.sleep(_POLL_S)
        status = process.poll() if process is not None else None
        tail = self._log_file.read_text(encoding="utf-8", errors="replace")[-4096:]
        raise SetupError(
            f"PostgreSQL did not start (exit code {status}): {last_failure(tail)}. More is in"
            f" {self._log_file}."
        )


def attach(folder: DataFolder) -> Addresses:
    """Return where the PostgreSQL is that another process runs on *folder*, once it answers.

    Raises:
        SetupError: it does not answer.
    """
    secret = folder.secret()
    forget_other_servers()
    deadline = time.monotonic() + _ATTACH_TIMEOUT_S
    while time.monotonic() < deadline:
        found = read_postmaster(folder.postgresql)
        if found is not None and found.ready and found.socket_folder is not None:
            addresses = addresses_at(found.socket_folder, secret)
            with suppress(psycopg.OperationalError):
                psycopg.connect(addresses.app_url, connect_timeout=5).close()
                return addresses
        time.sleep(_POLL_S)
    raise SetupError(f"The server that uses {folder.path} has no PostgreSQL that answers.")


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let no signal come between a process that is there and our knowing of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _require_version(data: Path) -> None:
    found = (data / "PG_VERSION").read_text(encoding="ascii", errors="replace").strip()
    if found != str(VERSION):
        raise SetupError(
            f"{data} was made by PostgreSQL {found}, and this Chatkeep brings {VERSION}. Carry the"
            " data over with pg_dump and another --data folder, or set DATABASE_URL."
        )


def _environment() -> dict[str, str]:
    """Ours, without what would make PostgreSQL look elsewhere or speak another language."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "CHATKEEP_"))}
    return kept | {"LC_ALL": "C"}


def _make_database(addresses: Addresses, secret: Secret) -> None:
    """Make the database and the role to log in as, where they are missing."""
    try:
        with psycopg.connect(addresses.admin_url, dbname=SUPERUSER, autocommit=True) as connection:
            with suppress(pg.DuplicateDatabase):
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE)))
            with suppress(pg.DuplicateObject):
                connection.execute(
                    sql.SQL(
                        "create role {} login noinherit nosuperuser nobypassrls password {}"
                    ).format(sql.Identifier(LOGIN), sql.Literal(password_of(secret, LOGIN)))
                )
    except psycopg.OperationalError as error:
        said = str(error).partition("\n")[0]
        # libpq hands on no error code of a refused connection, only PostgreSQL's words.
        if "password authentication failed" in said:
            raise SetupError(
                "The PostgreSQL in the data folder was made with another secret than the one in"
                " the file `secret` beside it: restore that file from a backup."
            ) from error
        raise SetupError(f"PostgreSQL does not answer: {said}") from error
