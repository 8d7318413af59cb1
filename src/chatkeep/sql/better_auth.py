"""The right to read Better Auth's tables: what is missing, and how it is granted.

Column by column, to our narrow role, where the tables are in our database. They stay as
they are: nothing else about them is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from chatkeep.db import AUTH, OWN_LOGIN
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from chatkeep.db import Database


def allow_reading(admin_url: str) -> None:
    """Let our narrow role read what sign-ins are looked up in, if those tables are there.

    Safe to repeat; needs no more rights than looking when nothing is missing.

    Raises:
        SetupError: somebody else has to grant it; says what to run.
    """
    try:
        with psycopg.connect(admin_url, autocommit=True, connect_timeout=5) as connection:
            connection.execute(_GRANT)
    except psycopg.errors.InsufficientPrivilege as error:
        raise SetupError(
            "Better Auth's tables belong to another role, which must run this once: grant usage"
            ' on schema public to chatkeep_auth; grant select on public."user", public.session'
            " to chatkeep_auth;"
        ) from error
    except psycopg.OperationalError as error:
        raise SetupError("Cannot reach the database.") from error


_GRANT = """
do $$
declare
  one record;
begin
  for one in
    select name, string_agg(quote_ident(attname), ', ') as columns
    from (values
      ('user', array['id', 'name', 'email', 'emailVerified', 'image', 'role', 'banned',
        'banExpires']),
      ('session', array['id', 'userId', 'expiresAt', 'token', 'createdAt', 'impersonatedBy'])
    ) as wanted (name, columns)
    cross join lateral (select to_regclass('public.' || quote_ident(name))) as known (oid)
    join pg_attribute on attrelid = known.oid and attname = any(wanted.columns)
      and not attisdropped
    group by name
    having bool_or(not has_column_privilege('chatkeep_auth', attrelid, attname, 'select'))
  loop
    execute format('grant select (%s) on public.%I to chatkeep_auth', one.columns, one.name);
    if not has_schema_privilege('chatkeep_auth', 'public', 'usage') then
      grant usage on schema public to chatkeep_auth;
    end if;
  end loop;
end
$$;
"""


async def find_problems(db: Database, *, is_ours: bool) -> list[str]:
    """Return one sentence for each reason why a server could not read the tables in *db*.

    Raises:
        DatabaseUnavailable: the database cannot be asked.
    """
    tables = await db.fetch(
        AUTH if is_ours else OWN_LOGIN,
        """
        select wanted.name, known.oid is not null as is_there,
          array(select required from unnest(wanted.columns) as required where not exists (
            select from pg_attribute
            where attrelid = known.oid and attname = required and not attisdropped
          )) as lacking,
          exists (
            select from pg_attribute
            where attrelid = known.oid and attname = any(wanted.columns || wanted.optional)
              and not attisdropped and not has_column_privilege(known.oid, attname, 'select')
          ) as is_closed,
          coalesce(row_security_active(known.oid), false) and not exists (
            select from pg_policy where polrelid = known.oid and polcmd in ('r', '*')
              and exists (select from unnest(polroles) as role
                where role = 0 or pg_has_role(role, 'usage'))
          ) as is_hidden
        from (values
          ('user', array['id', 'name', 'email', 'emailVerified', 'image'],
            array['role', 'banned', 'banExpires']),
          ('session', array['id', 'userId', 'expiresAt', 'token'],
            array['createdAt', 'impersonatedBy'])
        ) as wanted (name, columns, optional)
        cross join lateral (select to_regclass('public.' || quote_ident(name))) as known (oid)
        """,
        [],
        row=_Table,
    )
    return [problem for table in tables if (problem := table.problem(is_ours=is_ours))]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """One of Better Auth's tables, as the role that reads it sees it."""

    name: str
    is_there: bool
    lacking: list[str]
    is_closed: bool
    is_hidden: bool

    def problem(self, *, is_ours: bool) -> str | None:
        shown = f'public."{self.name}"'
        if not self.is_there:
            return (
                f"There is no table {shown} here: let Better Auth make its tables, or set"
                " BETTER_AUTH_DATABASE_URL to where they are."
            )
        if self.lacking:
            return f"{shown} lacks {', '.join(self.lacking)}: is it Better Auth's?"
        if self.is_closed and is_ours:
            return f"chatkeep_auth may not read {shown}: run `chatkeep migrate`."
        if self.is_closed:
            return f"The login of BETTER_AUTH_DATABASE_URL may not read {shown}: grant it SELECT."
        if self.is_hidden:
            role = "chatkeep_auth" if is_ours else "current_user"
            return (
                f"Row-level security hides the rows of {shown}: as its owner, run create policy"
                f" chatkeep_reads on {shown} for select to {role} using (true);"
            )
        return None
