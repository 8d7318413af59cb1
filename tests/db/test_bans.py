"""A ban and a deletion beside a sign-in that is under way: whoever is second finds the first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg
import pytest

from chatkeep.administration.accounts import LONGEST_BAN, Wanted, change_account, delete_account
from chatkeep.errors import InvalidCredentials, UserBanned
from tests.serving import until
from tests.signing_in import DEVICE, open_test_issuer, sign_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from chatkeep.db import Database
    from chatkeep.issuance import EmbeddedIssuer
    from tests.postgres_servers import MigratedDatabase


@pytest.fixture
async def issuer(db: Database) -> AsyncIterator[EmbeddedIssuer]:
    """Our own issuer."""
    opened = await open_test_issuer(db)
    yield opened
    opened.close()


def active(database: MigratedDatabase, user_id: UUID) -> int:
    """Count the sessions of a person that have not ended."""
    with psycopg.connect(database.admin_url) as admin:
        row = admin.execute(
            "select count(*) from public.user_sessions where user_id = %s and is_active",
            (str(user_id),),
        ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        ("update chatkeep.users set banned_until = 'infinity' where id = %s", UserBanned),
        ("update chatkeep.users set deleted_at = now() where id = %s", InvalidCredentials),
        ("delete from chatkeep.users where id = %s", InvalidCredentials),
    ],
    ids=["ban", "soft deletion", "deletion"],
)
async def test_sign_in_waits_for_what_is_being_written(
    issuer: EmbeddedIssuer, database: MigratedDatabase, statement: str, refused: type[Exception]
) -> None:
    """By a link or a provider too, where no password holds the account's row."""
    person = (await sign_up(issuer)).user.id
    with psycopg.connect(database.admin_url) as other:
        other.execute(statement.encode(), (person,))
        signing_in = asyncio.create_task(issuer.begin(person, "otp", DEVICE))
        await until(lambda: database.waiting_for_locks() > 0)
        other.execute(
            "update public.user_sessions set is_active = false where user_id = %s", (str(person),)
        )
    with pytest.raises(refused):
        await signing_in
    assert active(database, person) == 0


async def test_ban_beside_links_leaves_no_session(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """Whichever came first."""
    person = (await sign_up(issuer)).user.id
    ban = change_account(issuer, person, Wanted(banned_for=LONGEST_BAN), actor="operator")
    begun = [issuer.begin(person, "otp", DEVICE) for _ in range(6)]
    await asyncio.gather(*begun[:3], ban, *begun[3:], return_exceptions=True)
    assert active(database, person) == 0


async def test_deletion_beside_links_leaves_no_session(
    issuer: EmbeddedIssuer, database: MigratedDatabase
) -> None:
    """Nor a row of one."""
    person = (await sign_up(issuer)).user.id
    begun = [issuer.begin(person, "otp", DEVICE) for _ in range(6)]
    gone = delete_account(issuer, person, actor="operator")
    await asyncio.gather(*begun[:3], gone, *begun[3:], return_exceptions=True)
    assert active(database, person) == 0
