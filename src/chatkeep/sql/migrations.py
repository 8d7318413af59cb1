"""Bring a database to the shape this version needs, once, whoever asks at the same time.

Alembic (and SQLAlchemy, which only it needs) is imported when there is something to do,
so that an up-to-date database costs one query.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable

#: The newest revision in `versions/`; a test compares the two.
HEAD = "0001"
OLDEST_POSTGRESQL = 150000
ROLES = ("chatkeep_app", "chatkeep_auth", "chatkeep_worker", "chatkeep_admin")
_LOCK = 0x63686174  # 'chat': one migration at a time, over all nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What `migrate` did: the revision before (None: an empty database) and now."""

    before: str | None
    after: str


def migrate(
    admin_url: str, *, login: str | None = None, progress: Callable[[str], None] = lambda _: None
) -> Migrated:
    """Bring the database at *admin_url* to `HEAD`; do nothing when it is there.

    *login* names the role that the server will connect as; it is allowed to become our
    narrow roles. *progress* is told each step in words.

    Raises:
        SetupError: unreachable, too old, or made by a newer Chatkeep.
    """
    try:
        with psycopg.connect(admin_url, autocommit=True, connect_timeout=5) as connection:
            _require_version(connection)
            connection.execute("select pg_advisory_lock(%s)", [_LOCK])
            before = current_revision(connection)
            if before != HEAD:
                _require_known(before)
                progress("Applying migrations")
                _upgrade(admin_url)
            if login is not None:
                _allow(connection, login)
            return Migrated(before=before, after=HEAD)
    except psycopg.OperationalError as error:
        raise SetupError(f"Cannot reach the database: {_reason(error)}") from error


def current_revision(connection: psycopg.Connection) -> str | None:
    """Return the revision the database is at, None when Chatkeep was never here."""
    row = connection.execute("select to_regclass('chatkeep.alembic_version')").fetchone()
    if row is None or row[0] is None:
        return None
    found = connection.execute("select version_num from chatkeep.alembic_version").fetchone()
    return None if found is None else str(found[0])


def _require_version(connection: psycopg.Connection) -> None:
    if connection.info.server_version < OLDEST_POSTGRESQL:
        version = connection.info.server_version // 10_000
        raise SetupError(f"PostgreSQL {version} is too old: Chatkeep needs 15 or newer.")


def _require_known(revision: str | None) -> None:
    if revision is not None and revision > HEAD:
        raise SetupError(
            f"The database was migrated by a newer Chatkeep (revision {revision}, this one"
            f" knows {HEAD}). Install that version."
        )


def _upgrade(admin_url: str) -> None:
    from alembic import command  # noqa: PLC0415 -- see the module docstring
    from alembic.config import Config  # noqa: PLC0415
    from sqlalchemy import create_engine, pool  # noqa: PLC0415

    # The URL may say things only libpq understands, so libpq makes the connection.
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(admin_url),
        poolclass=pool.NullPool,
    )
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with engine.connect() as connection:
        connection.exec_driver_sql("create schema if not exists chatkeep")
        connection.commit()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.exec_driver_sql("alter table chatkeep.alembic_version enable row level security")
        connection.exec_driver_sql("alter table chatkeep.alembic_version force row level security")
        connection.commit()
    engine.dispose()


def _allow(connection: psycopg.Connection, login: str) -> None:
    """Let *login* become our roles, without giving it their rights meanwhile."""
    for role in ROLES:
        connection.execute(sql.SQL("grant {} to {}").format(*map(sql.Identifier, (role, login))))


def _reason(error: psycopg.OperationalError) -> str:
    """The driver's first line: it names host and cause, never the password."""
    return str(error).splitlines()[0]
