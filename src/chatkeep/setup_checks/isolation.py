"""Whether the database really refuses: checked before a server serves anybody.

Row-level security protects nobody from a role that may ignore it: a superuser, one with
BYPASSRLS, an owner of the tables, or a member of such a role. The application, `chatkeep
doctor` and the tests ask here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors as pg
from psycopg.rows import class_row

from chatkeep.db import connection_settings
from chatkeep.errors import DatabaseUnavailable, SetupError
from chatkeep.sql.migrations import ROLES

if TYPE_CHECKING:
    from psycopg import AsyncConnection


@dataclass(frozen=True, slots=True)
class _Power:
    """What the current role may do beyond what it was made for, and through which role."""

    through: str
    superuser: bool
    bypasses: bool


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    enabled: bool
    forced: bool
    owned: bool


async def require_isolation(url: str) -> None:
    """Refuse a database in which one person could read another's rows.

    Raises:
        SetupError: with one sentence for each way past row-level security.
    """
    problems = await find_problems(url)
    if problems:
        raise SetupError(*problems)


async def find_problems(url: str) -> list[str]:
    """Return one sentence for each way past row-level security that a server at *url* has.

    Raises:
        DatabaseUnavailable: the database cannot be asked.
    """
    try:
        connection = await psycopg.AsyncConnection.connect(
            url, **connection_settings(behind_pooler=True)
        )
        async with connection:
            # As ourselves: before a migration the roles are not there, or not ours.
            if not await _tables(connection):
                return ["The database has no tables of Chatkeep: run `chatkeep migrate`."]
            found = [line for role in ROLES for line in await _of_role(connection, role)]
            return list(dict.fromkeys(found))
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable("The database cannot be reached right now.") from error


async def _of_role(connection: AsyncConnection, role: str) -> list[str]:
    try:
        async with connection.transaction():
            await connection.execute("select set_config('role', %s, true)", [role])
            found = [_power_problem(role, power) for power in await _powers(connection)]
            tables = await _tables(connection)
    except (pg.InvalidParameterValue, pg.InsufficientPrivilege):
        login = connection.info.user
        grant = f"`grant {role} to {login}`."
        return [f"The database role {login} may not act as {role}: run as an administrator {grant}"]
    found += [line for table in tables for line in _table_problems(role, table)]
    return found


async def _powers(connection: AsyncConnection) -> list[_Power]:
    cursor = connection.cursor(row_factory=class_row(_Power))
    await cursor.execute(
        "select rolname as through, rolsuper as superuser, rolbypassrls as bypasses from pg_roles"
        " where (rolsuper or rolbypassrls) and pg_has_role(current_user, oid, 'member')"
        " and (rolname = current_user"
        " or not exists (select from pg_roles where rolname = current_user and rolsuper))"
    )
    return await cursor.fetchall()


async def _tables(connection: AsyncConnection) -> list[_Table]:
    cursor = connection.cursor(row_factory=class_row(_Table))
    await cursor.execute(
        "select n.nspname || '.' || c.relname as name, c.relrowsecurity as enabled,"
        " c.relforcerowsecurity as forced, pg_has_role(current_user, c.relowner, 'member') as owned"
        " from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where c.relkind in ('r', 'p') and (n.nspname in ('chat', 'chatkeep', 'chatkeep_queue')"
        " or (n.nspname = 'public' and c.relname = 'user_sessions')) order by 1"
    )
    return await cursor.fetchall()


def _power_problem(role: str, power: _Power) -> str:
    what = "is a superuser" if power.superuser else "has BYPASSRLS"
    if power.through == role:
        cure = "nosuperuser" if power.superuser else "nobypassrls"
        return f"The database role {role} {what}: run alter role {role} {cure};"
    return (
        f"The database role {role} may become {power.through}, which {what}:"
        f" run revoke {power.through} from {role};"
    )


def _table_problems(role: str, table: _Table) -> list[str]:
    found = []
    # What does not depend on the role is said once, for the one that reads conversations.
    if role == ROLES[0] and not (table.enabled and table.forced):
        found.append(
            f"Row-level security is not forced on {table.name}: run alter table {table.name}"
            " enable row level security, force row level security;"
        )
    if table.owned:
        found.append(f"The database role {role} owns {table.name}: give it another owner.")
    return found
