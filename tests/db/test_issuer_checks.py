"""The issuers that live in a database: this server itself, and Better Auth's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from chatkeep.better_auth import BetterAuth
from chatkeep.config import Settings
from chatkeep.issuers import better_auth_issuer
from chatkeep.principal import Principal
from chatkeep.setup_checks.issuers import examine_embedded, examine_issuers
from chatkeep.sql.better_auth import allow_reading

if TYPE_CHECKING:
    from chatkeep.db import Database
    from chatkeep.setup_checks.findings import Finding
    from tests.postgres_servers import MigratedDatabase

SECRET = "0123456789abcdef0123456789abcdef"
OTHER_SECRET = SECRET[::-1]
BETTER_AUTH = {"BETTER_AUTH_ISSUER": "people", "BETTER_AUTH_SECRET": SECRET}

TABLES = """
create table public."user" (id text primary key, name text, email text unique,
  "emailVerified" boolean, image text, "createdAt" timestamptz, "updatedAt" timestamptz);
create table public.session (id text primary key, "userId" text references public."user",
  "expiresAt" timestamptz, token text unique, "ipAddress" text, "userAgent" text);
insert into public."user" values ('ana', 'Ana', 'ana@example.com', true);
insert into public.session values
  ('s1', 'ana', now() + interval '1 hour', 'abcdefghijklmnopqrst');
"""


async def finding(**environ: str) -> Finding:
    """Return what is found about the one issuer of *environ*."""
    (found,) = [one async for one in examine_issuers(Settings.from_env(environ))]
    return found


async def test_tables_of_better_auth_are_looked_for(
    database: MigratedDatabase, db: Database
) -> None:
    """Not there; there and closed; opened for what is needed, and then they are read."""
    settings = {**BETTER_AUTH, "DATABASE_URL": database.url}
    missing = await finding(**settings)
    assert len(missing.problems) == 2
    assert all("let Better Auth make its tables" in one for one in missing.problems)
    with psycopg.connect(database.admin_url) as admin:
        admin.execute(TABLES)
    closed = await finding(**settings)
    assert closed.problems == tuple(
        f'chatkeep_auth may not read public."{name}": run `chatkeep migrate`.'
        for name in ("user", "session")
    )
    allow_reading(database.admin_url)
    opened = await finding(**settings)
    assert (opened.problems, opened.note.endswith("its tables can be read")) == ((), True)
    issuer = better_auth_issuer(url=None, secret=SECRET, issuer="people", production=True)
    looking = BetterAuth(db, issuer, is_ours=True, secret=SECRET)
    by_session = await looking.by_token("abcdefghijklmnopqrst")
    token = Principal(user_id="ana", issuer="better-auth", subject="ana", email="ana@example.com")
    assert (by_session.subject, by_session.name) == ("ana", "Ana")
    assert (await looking.admit(token)).name == "Ana"


async def test_this_server_is_an_issuer_too(database: MigratedDatabase) -> None:
    """Before its first start, with its secret, and with another one."""
    first = await examine_embedded(Settings.from_env({}))
    assert first.note == "its keys will be made at the first start"
    environ = {"DATABASE_URL": database.url, "CHATKEEP_SECRET": SECRET}
    good = await examine_embedded(Settings.from_env(environ))
    assert good.note == "http://127.0.0.1:8000/auth/v1, 1 key (ES256)"
    other = await examine_embedded(Settings.from_env({**environ, "CHATKEEP_SECRET": OTHER_SECRET}))
    assert not other.is_good
