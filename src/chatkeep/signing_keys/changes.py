"""How keys take turns: published first, then signing, then published a while longer.

Whoever verifies our tokens keeps the published set for ten minutes, so a key must have been
in it for longer before anything is signed with it; and stays in it until the last token it
signed has ended. Each change is one transaction with its entry in the audit log. Servers
hear of it by themselves.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import class_row

from chatkeep import audit
from chatkeep.db import AUTH
from chatkeep.errors import SetupError
from chatkeep.signing_keys.stored import (
    HMAC_ALGORITHM,
    KEPT,
    StoredKey,
    insertion,
    insertion_of,
    new_key,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime, timedelta

    from psycopg import AsyncConnection

    from chatkeep.db import Database
    from chatkeep.signing_keys.imported import ImportedKey

#: One change at a time. ('keys' as a number.)
_ONE_AT_A_TIME: Final = 1801812339
_ACTOR: Final = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedKey:
    """A key as it is shown. *until*: when it is taken out of the published set."""

    kid: str
    algorithm: str
    status: str
    created_at: datetime
    signs_since: datetime | None
    revoked_at: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """What came of a wish to rotate.

    *current* signs now. When nothing was changed but the next key published, *ready_at* says
    from when it may sign.
    """

    current: str
    previous: str | None
    standby: str | None
    ready_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Standby:
    kid: str
    ready_at: datetime
    is_ready: bool


async def listed(db: Database) -> list[ListedKey]:
    """Return every key that ever was, the one that signs first, then the newest."""
    return await db.fetch(
        AUTH,
        "select kid, algorithm, status, created_at, signs_since, revoked_at,"
        " case when status = 'previous' then retired_at + %s end as until"
        " from chatkeep.signing_keys order by status = 'current' desc,"
        " status = 'standby' desc, created_at desc",
        (KEPT,),
        row=ListedKey,
    )


async def rotate(db: Database, secret: bytes, *, wait: timedelta, at_once: bool) -> Rotation:
    """Let the standby key sign from now on, and publish the next one.

    Without a standby key, or with one that was published less than *wait* ago, none changes
    turns: the next is published, if it is not yet. With *at_once* it signs all the same:
    for a key that others know.
    """
    async with _changing(db) as connection:
        standby = await _standby(connection, wait)
        if standby is None:
            await audit.write(connection, insertion(new_key(), "standby", secret))
            standby = await _standby(connection, wait)
            assert standby is not None  # noqa: S101 -- it was just written
            await _note(connection, "signing_key.made", standby.kid)
        current = await _current(connection)
        if not standby.is_ready and not at_once:
            return Rotation(
                current=current, previous=None, standby=standby.kid, ready_at=standby.ready_at
            )
        await _take_turns(connection, current, standby.kid)
        await _note(connection, "signing_key.rotated", standby.kid, at_once=not standby.is_ready)
        following = new_key()
        await audit.write(connection, insertion(following, "standby", secret))
        await _note(connection, "signing_key.made", str(following.kid))
        return Rotation(
            current=standby.kid, previous=current, standby=str(following.kid), ready_at=None
        )


async def revoke(db: Database, kid: str) -> None:
    """Take the key out of use: every token it signed is refused from now on, everywhere.

    Raises:
        SetupError: there is no such key, or it is the one that signs.
    """
    async with _changing(db) as connection:
        cursor = await connection.execute(
            "select status from chatkeep.signing_keys where kid = %s", (kid,)
        )
        found = await cursor.fetchone()
        if found is None:
            raise SetupError(f"There is no key {kid}: see `chatkeep keys list`.")
        if found[0] == "current":
            raise SetupError(
                "This key signs: let another one do so first, `chatkeep keys rotate --now`."
            )
        if found[0] == "revoked":
            return
        await connection.execute(
            "update chatkeep.signing_keys set status = 'revoked', revoked_at = now(),"
            " private_key = '' where kid = %s",
            (kid,),
        )
        await _note(connection, "signing_key.revoked", kid, was=found[0])


async def add(db: Database, key: ImportedKey) -> None:
    """Keep an imported key: to sign when its turn comes, or only to verify.

    One that signs takes the place of the standby key, which has signed nothing yet.

    Raises:
        SetupError: it is there already; or it is a shared secret, and there is one.
    """
    async with _changing(db) as connection:
        for row in await _all(connection):
            if row.kid == key.kid:
                raise SetupError(f"The key {key.kid} is there already, {row.status}.")
            if row.algorithm == key.algorithm == HMAC_ALGORITHM and row.status != "revoked":
                raise SetupError(
                    f"There is a shared secret already: `chatkeep keys revoke {row.kid}` first."
                )
        if key.status == "standby":
            await _make_way(connection)
        written = insertion_of(key.kid, key.algorithm, key.public, key.private, key.status)
        await audit.write(connection, written)
        await _note(connection, "signing_key.imported", key.kid, algorithm=key.algorithm)


@asynccontextmanager
async def _changing(db: Database) -> AsyncIterator[AsyncConnection]:
    async with db.acting_as(AUTH) as connection:
        await connection.execute("select pg_advisory_xact_lock(%s)", (_ONE_AT_A_TIME,))
        yield connection


async def _make_way(connection: AsyncConnection) -> None:
    cursor = await connection.execute(
        "update chatkeep.signing_keys set status = 'revoked', revoked_at = now(),"
        " private_key = '' where status = 'standby' returning kid"
    )
    for (kid,) in await cursor.fetchall():
        await _note(connection, "signing_key.revoked", kid, was="standby")


async def _all(connection: AsyncConnection) -> list[StoredKey]:
    cursor = connection.cursor(row_factory=class_row(StoredKey))
    await cursor.execute(
        "select kid, algorithm, public_jwk, private_key, status from chatkeep.signing_keys"
    )
    return await cursor.fetchall()


async def _standby(connection: AsyncConnection, wait: timedelta) -> _Standby | None:
    """Return the key that was published first among those that wait."""
    cursor = connection.cursor(row_factory=class_row(_Standby))
    await cursor.execute(
        "select kid, created_at + %s as ready_at, created_at + %s <= now() as is_ready"
        " from chatkeep.signing_keys where status = 'standby' order by created_at, kid limit 1",
        (wait, wait),
    )
    return await cursor.fetchone()


async def _current(connection: AsyncConnection) -> str:
    cursor = await connection.execute(
        "select kid from chatkeep.signing_keys where status = 'current'"
    )
    found = await cursor.fetchone()
    if found is None:
        raise SetupError("No key signs yet: start the server once.")
    return str(found[0])


async def _take_turns(connection: AsyncConnection, current: str, following: str) -> None:
    # What signs no more needs no private part.
    await connection.execute(
        "update chatkeep.signing_keys set status = 'previous', retired_at = now(),"
        " private_key = '' where kid = %s",
        (current,),
    )
    await connection.execute(
        "update chatkeep.signing_keys set status = 'current', signs_since = now() where kid = %s",
        (following,),
    )


async def _note(connection: AsyncConnection, action: str, kid: str, **details: Any) -> None:  # noqa: ANN401 -- JSON
    await audit.write(
        connection, audit.entry(action, actor=_ACTOR, details={"kid": kid, **details})
    )
