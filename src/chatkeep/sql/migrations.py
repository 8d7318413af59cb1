"""Bring a database to the shape this version needs, once, whoever asks at the same time.

Alembic (and SQLAlchemy, which only it needs) is imported when there is something to do,
so that an up-to-date database costs one query.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

import psycopg
from psycopg import errors as pg
from psycopg import sql

from chatkeep.errors import SetupError
from chatkeep.sql import adoption, indexes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The newest revision in `versions/`; a test compares the two.
HEAD = "0040"
#: The oldest revision whose servers work on tables at `HEAD`: they run beside newer ones while
#: these are replaced, and again when a version is taken back. At least the one before, always.
OLDEST_READER = "0023"
OLDEST_POSTGRESQL = 150000
_MEMBERSHIP_OPTIONS = 160000
ROLES = ("chatkeep_app", "chatkeep_auth", "chatkeep_worker", "chatkeep_admin")
#: Asks a database for its `Shape`; those of before 0025 do not have the second column.
SHAPE: LiteralString = (
    "select version_num, to_jsonb(v) ->> 'oldest_reader' from chatkeep.alembic_version v"
)
# Statements of the servers queue up behind whoever waits for a whole table, so that is not long,
# and after each pause it is tried again. It is also less than half of what PostgreSQL lets pass
# before it looks for a deadlock, whose victim could be such a statement.
_WAIT_FOR_TABLES: LiteralString = "set local lock_timeout = '300ms'"
# Hosted databases often give a statement two minutes, of which adopting tables may need more.
_NO_OTHER_LIMIT: LiteralString = "set local statement_timeout = 0"
_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
# One migration at a time, over all nodes. It ends with the transaction: a lock of the session
# would stay behind in a pooler. ('chat' as a number.)
_ONE_AT_A_TIME: LiteralString = "select pg_advisory_xact_lock(1667785076)"

_OLDEST_HOLDER: LiteralString = """
select a.pid, a.application_name, a.usename,
  to_char(a.xact_start at time zone 'utc', 'HH24:MI:SS "UTC"')
from pg_locks l
join pg_class c on c.oid = l.relation and c.relkind = 'r'
join pg_namespace n on n.oid = c.relnamespace and n.nspname in ('chat', 'chatkeep', 'public')
join pg_stat_activity a on a.pid = l.pid
where l.granted and l.database = (select oid from pg_database where datname = current_database())
  and a.pid <> pg_backend_pid()
order by a.xact_start limit 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What `migrate` did: the revision before (None: an empty database) and now."""

    before: str | None
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a database says of itself: its revision, and the oldest one that may serve on it."""

    revision: str
    oldest_reader: str | None

    @property
    def is_newer(self) -> bool:
        """Whether a newer Chatkeep has migrated it."""
        return self.revision > HEAD

    @property
    def serves_us(self) -> bool:
        """Whether this version works on it as it is."""
        if self.is_newer:
            return self.oldest_reader is not None and self.oldest_reader <= HEAD
        return self.revision == HEAD


def migrate(
    admin_url: str, *, login: str | None = None, progress: Callable[[str], None] = lambda _: None
) -> Migrated:
    """Bring the database at *admin_url* to `HEAD`; do nothing when it is there.

    Nor when a newer Chatkeep has brought it further, to where this one may still serve.

    *login* names the role that the server will connect as (the administrator's own when
    left out); it is allowed to become our narrow roles. *progress* is told for whom it waits.

    Raises:
        SetupError: unreachable, too old, made by a newer Chatkeep, or holding chat tables
            that cannot be adopted as they are.
    """
    try:
        connection = _connect(admin_url)
    except psycopg.OperationalError as error:
        raise SetupError(f"Cannot reach the database: {_first_line(error)}") from error
    with connection, _refusals(connection):
        _require_version(connection)
        shape = _shape(connection)
        before = None if shape is None else shape.revision
        if shape is None or not shape.serves_us:
            _require_known(shape)
            connection.rollback()  # what it has read must not be in the way
            _upgrade_patiently(connection, admin_url, progress)
        connection.execute(_ONE_AT_A_TIME)
        _allow(connection, login or connection.info.user)
    if shape is None:  # nobody serves on it yet, and it has no rows, or adopted ones
        build_indexes(admin_url)
    return Migrated(before=before, after=max(before or HEAD, HEAD))


def build_indexes(admin_url: str, *, progress: Callable[[str], None] = lambda _: None) -> list[str]:
    """Build what is missing of `indexes.BESIDE` and return the names; nobody waits meanwhile.

    A database that a newer Chatkeep has brought further has the indexes of that one, and is
    let be. *progress* is told how far it is.

    Raises:
        SetupError: unreachable, or one could not be built.
    """
    try:
        if not any(indexes.find_undone(admin_url)):  # which any login sees
            return []
        with _connect(admin_url) as connection, _refusals(connection):
            shape = _shape(connection)
        if shape is None or shape.revision != HEAD:
            return []
        return indexes.build(admin_url, progress=progress)
    except psycopg.OperationalError as error:
        raise SetupError(f"Cannot reach the database: {_first_line(error)}") from error


def _shape(connection: psycopg.Connection) -> Shape | None:
    """Return what the database says of itself, None when Chatkeep was never here."""
    row = connection.execute("select to_regclass('chatkeep.alembic_version')").fetchone()
    if row is None or row[0] is None:
        return None
    return shape_of(connection.execute(SHAPE).fetchone())


def shape_of(row: tuple[str, str | None] | None) -> Shape | None:
    """Return what a row of `SHAPE` says."""
    return None if row is None else Shape(revision=row[0], oldest_reader=row[1])


def serves_this_version(url: str) -> bool:
    """Whether the database needs nothing, as far as a login with no rights but our roles' sees.

    So a server can start without an administrator's address when others migrate for it.

    Raises:
        SetupError: made by a newer Chatkeep, beside which this version cannot serve.
    """
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            connection.execute("set local role chatkeep_app")
            shape = shape_of(connection.execute(SHAPE).fetchone())
    except psycopg.Error:
        return False  # whoever asks goes on to `migrate`, which says what is wrong
    if shape is None or not shape.serves_us:
        _require_known(shape)
        return False
    return True


def _connect(admin_url: str) -> psycopg.Connection:
    # Prepared statements would be somebody else's behind a pooler.
    return psycopg.connect(
        admin_url,
        connect_timeout=5,
        prepare_threshold=None,
        application_name="chatkeep migrate",
        client_encoding="UTF8",
    )


def _require_version(connection: psycopg.Connection) -> None:
    if connection.info.server_version < OLDEST_POSTGRESQL:
        version = connection.info.server_version // 10_000
        raise SetupError(f"PostgreSQL {version} is too old: Chatkeep needs 15 or newer.")


def _require_known(shape: Shape | None) -> None:
    if shape is not None and shape.is_newer:
        raise SetupError(
            f"The database was migrated by a newer Chatkeep (revision {shape.revision}, this one"
            f" knows {HEAD}). Install that version."
        )


def _upgrade_patiently(
    connection: psycopg.Connection, admin_url: str, progress: Callable[[str], None]
) -> None:
    """Upgrade; when somebody holds a table for long, let everybody else go on and try again."""
    for pause_s in _PAUSES_S:
        try:
            _upgrade(admin_url)
        except (pg.LockNotAvailable, pg.DeadlockDetected):
            progress(f"Waiting for the chat tables{_who_holds_them(connection)}")
            time.sleep(pause_s)
        else:
            return
    _upgrade(admin_url)


def _upgrade(admin_url: str) -> None:
    from alembic import command  # noqa: PLC0415 -- see the module docstring
    from alembic.config import Config  # noqa: PLC0415
    from sqlalchemy import create_engine, pool  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    # The URL may say things only libpq understands, so libpq makes the connection.
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: _connect(admin_url),
        poolclass=pool.NullPool,
    )
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    try:
        # Alembic joins this transaction: all of it happens, or nothing.
        with engine.begin() as connection:
            connection.exec_driver_sql(_NO_OTHER_LIMIT)
            connection.exec_driver_sql(_ONE_AT_A_TIME)
            connection.exec_driver_sql(_WAIT_FOR_TABLES)
            connection.exec_driver_sql("create schema if not exists chatkeep")
            config.attributes["connection"] = connection
            command.upgrade(config, HEAD)
            connection.exec_driver_sql(
                "update chatkeep.alembic_version set oldest_reader = %s", (OLDEST_READER,)
            )
    except DBAPIError as error:
        raise error.orig or error from error


def _allow(connection: psycopg.Connection, login: str) -> None:
    """Let *login* become our roles, without giving it their rights meanwhile."""
    # From 16 on a membership says what it is for; before, whether a role inherits is its own.
    says_so = connection.info.server_version >= _MEMBERSHIP_OPTIONS
    privilege = "set" if says_so else "member"
    options = sql.SQL(" with inherit false, set true" if says_so else "")
    for role in ROLES:
        row = connection.execute("select pg_has_role(%s, %s, %s)", [login, role, privilege])
        if row.fetchone() == (False,):
            grant = sql.SQL("grant {} to {}").format(sql.Identifier(role), sql.Identifier(login))
            connection.execute(grant + options)


@contextmanager
def _refusals(connection: psycopg.Connection) -> Iterator[None]:
    """Say in one sentence what PostgreSQL refused. Nothing of it was done by then."""
    try:
        yield
    except pg.LockNotAvailable as error:
        raise SetupError(
            f"Another program is using the chat tables{_who_holds_them(connection)}:"
            " stop it, then migrate again."
        ) from error
    except psycopg.Error as error:
        raise SetupError(_refusal(error)) from error


def _who_holds_them(connection: psycopg.Connection) -> str:
    """Return in words who has been in a transaction on a table of ours for longest."""
    row = connection.execute(_OLDEST_HOLDER).fetchone()
    connection.rollback()  # nor be in the way ourselves
    if row is None:
        return ""
    pid, program, login, since = row
    began = f", since {since}" if since else ""  # not shown to every login
    return f" (process {pid}, {program or 'without a name'}, as {login}{began})"


def _refusal(error: psycopg.Error) -> str:
    message = error.diag.message_primary or _first_line(error)
    if error.diag.sqlstate == adoption.REFUSED:
        return message
    # These details name tables and columns; those of others may hold what people wrote.
    if isinstance(error, (pg.DependentObjectsStillExist, pg.FeatureNotSupported)):
        message = f"{message} ({error.diag.message_detail})"
    said = f"The migration failed and changed nothing. PostgreSQL says: {message}"
    if isinstance(error, pg.InsufficientPrivilege):
        return (
            f"{said}. Put the address of an administrator into DATABASE_ADMIN_URL, or call"
            " `chatkeep migrate` of this version first, where that is set."
        )
    return said


def _first_line(error: psycopg.Error) -> str:
    """The driver's first line: it names host and cause, never the password."""
    return str(error).partition("\n")[0]
