"""Whether PostgreSQL has as many connections as a server makes when it starts, and keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chatkeep.setup_checks.findings import Finding

if TYPE_CHECKING:
    import psycopg

    from chatkeep.config import Settings

_NAME: Final = "Connections"
#: As many as everybody together may have, or this login, or this database: -1 is no limit.
_LIMITS: Final = """
select current_setting('max_connections')::integer
    - current_setting('superuser_reserved_connections')::integer
    - coalesce(current_setting('reserved_connections', true)::integer, 0),
  (select rolconnlimit from pg_roles where rolname = session_user),
  (select datconnlimit from pg_database where datname = current_database())
"""


async def examine_connections(
    settings: Settings, connection: psycopg.AsyncConnection
) -> Finding | None:
    """Compare what *settings* ask for with what there may be; None where a pooler shares them.

    Raises:
        psycopg.Error: the database does not answer.
    """
    if settings.database_pooler:
        return None
    row = await (await connection.execute(_LIMITS)).fetchone()
    most = min(limit for limit in row or () if limit >= 0)
    wanted = settings.database_connections
    if wanted <= most:
        return Finding(name=_NAME, note=f"{wanted} for such a server, {most} for all together")
    problem = (
        f"Such a server makes {wanted} connections, and PostgreSQL gives {most} to all together:"
        " lower DATABASE_POOL_SIZE or WORKERS, or raise its limit."
    )
    return Finding(name=_NAME, problems=(problem,))
