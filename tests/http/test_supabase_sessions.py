"""A Supabase project whose database is ours: signing out there is signing out here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from psycopg import sql

from chatkeep.claims.lookups import TTL_S
from chatkeep.errors import SetupError
from chatkeep.sessions.supabase import SupabaseSessions
from tests.postgres_servers import LOGIN

if TYPE_CHECKING:
    from typing import LiteralString

    from chatkeep.db import Database
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase

SUB: Final = "5b1c4d0e-8f4c-4d0f-9a77-0b4f1f6f9d01"
SESSION: Final = "0f4c8a52-5d55-4f0c-8a6e-6a6bb1b0c9f2"
_TABLE = """
create schema if not exists auth;
create table if not exists auth.sessions (
  id uuid primary key, user_id uuid not null, not_after timestamptz
);
"""


def operate(database: MigratedDatabase, *statements: LiteralString) -> None:
    """Do what the project does in its database; {} is the login of the server."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        for one in statements:
            connection.execute(sql.SQL(one).format(sql.Identifier(LOGIN)))


@pytest.fixture(autouse=True)
def _project_tables(database: MigratedDatabase) -> None:
    operate(database, _TABLE, "grant usage on schema auth to {}")
    operate(database, "grant select on auth.sessions to {}")


async def test_signing_out_at_the_project_ends_token_and_cookie(
    start: StartNode, database: MigratedDatabase
) -> None:
    """C19: within five seconds, for the bearer and for the cookie that was made of it."""
    node = await start(SUPABASE_SESSIONS="on")
    operate(
        database,
        "insert into auth.sessions values ('0f4c8a52-5d55-4f0c-8a6e-6a6bb1b0c9f2',"
        " '5b1c4d0e-8f4c-4d0f-9a77-0b4f1f6f9d01')",
    )
    client = node.person(sub=SUB, session_id=SESSION).client
    exchanged = await client.post("/auth/session", headers={"origin": node.url})
    assert exchanged.status == 200, exchanged.text
    cookie = exchanged.headers["set-cookie"].partition(";")[0]
    browser = node.nobody(cookie=cookie)
    assert (await client.get("/auth/me")).status == (await browser.get("/auth/me")).status == 200
    operate(database, "delete from auth.sessions")
    later = time.monotonic() + TTL_S
    admit: Any = node.services.authenticator._admissions["supabase"]
    admit.__self__._lookups._clock = lambda: later
    for one in (client, browser):
        answer = await one.get("/auth/me")
        assert (answer.status, answer.json["code"]) == (401, "token_revoked")


async def test_session_the_project_never_had_lets_nobody_in(
    start: StartNode, database: MigratedDatabase
) -> None:
    """Nor one whose name is none; a right that was taken away is a 503 and no sign-out."""
    node = await start(SUPABASE_SESSIONS="on")
    assert (await node.person().client.get("/auth/me")).json["code"] == "token_revoked"
    odd = node.person(session_id="not an id").client
    assert (await odd.get("/auth/me")).json["code"] == "token_invalid"
    operate(database, "revoke select on auth.sessions from {}")
    answer = await node.person().client.get("/auth/me")
    assert (answer.status, answer.json["code"]) == (503, "database_unavailable")


async def test_start_without_the_right_to_read_is_refused(
    db: Database, database: MigratedDatabase
) -> None:
    """Rather than a server that lets nobody in; the sentence names what is needed."""
    sessions = SupabaseSessions(db)
    await sessions.require_readable()
    operate(database, "revoke select on auth.sessions from {}")
    with pytest.raises(SetupError, match=r"SUPABASE_SESSIONS needs the table auth\.sessions"):
        await sessions.require_readable()
    await sessions.close()
