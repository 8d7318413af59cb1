"""Public keys of authenticators, as the database has them.

One with a *factor_id* is a second factor's; the others are passkeys. Neither is ever looked
for among the other: a key that was enrolled to stand beside a password never replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID

from psycopg.rows import class_row

from chatkeep.ids import new_id

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from chatkeep.factors.ceremonies import Key

#: The constraint that says: that key is registered already, by whomever.
REGISTERED: Final = "webauthn_credentials_once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A registered key."""

    user_id: UUID
    id: UUID
    credential_id: bytes
    public_key: bytes = field(repr=False)
    sign_count: int
    transports: list[str]


async def keep_key(
    connection: AsyncConnection,
    user_id: UUID,
    key: Key,
    *,
    factor_id: UUID | None = None,
    friendly_name: str | None = None,
) -> UUID:
    """Keep a new key of a person and return its id.

    The transaction violates `REGISTERED` when somebody has registered it.
    """
    made = UUID(new_id())
    await connection.execute(
        "insert into chatkeep.webauthn_credentials (user_id, id, factor_id, credential_id,"
        " public_key, sign_count, transports, friendly_name, backed_up)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            *(user_id, made, factor_id, key.credential_id, key.public_key, key.sign_count),
            *(key.transports, friendly_name, key.backed_up),
        ),
    )
    return made


async def keys_of(
    connection: AsyncConnection, user_id: UUID, *, factor_id: UUID | None = None
) -> list[Credential]:
    """Return the keys of a person's factor, or their passkeys, and hold them."""
    cursor = connection.cursor(row_factory=class_row(Credential), binary=True)
    await cursor.execute(
        "select user_id, id, credential_id, public_key, sign_count, transports"
        " from chatkeep.webauthn_credentials"
        " where user_id = %s and factor_id is not distinct from %s order by created_at for update",
        (user_id, factor_id),
    )
    return await cursor.fetchall()


async def find_passkey(connection: AsyncConnection, credential_id: bytes) -> Credential | None:
    """Return the passkey that has this id, whosever it is, and hold it."""
    cursor = connection.cursor(row_factory=class_row(Credential), binary=True)
    await cursor.execute(
        "select user_id, id, credential_id, public_key, sign_count, transports"
        " from chatkeep.webauthn_credentials where credential_id = %s and factor_id is null"
        " for update",
        (credential_id,),
    )
    return await cursor.fetchone()


async def note_use(connection: AsyncConnection, used: Credential, sign_count: int) -> None:
    """Remember the counter that the key has shown."""
    await connection.execute(
        "update chatkeep.webauthn_credentials set sign_count = %s, last_used_at = now()"
        " where user_id = %s and id = %s",
        (sign_count, used.user_id, used.id),
    )
