"""A new server secret: what is kept encrypted under the old one is encrypted under the new.

What opens with the new secret already is left alone, so it can be repeated. What is only
derived from the secret cannot be carried over: API keys, refresh tokens, recovery codes,
codes and links are others from then on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg.rows import class_row

from chatkeep import audit
from chatkeep.db import ADMIN, AUTH
from chatkeep.errors import SetupError, Unavailable
from chatkeep.server_secrets import derived_key

if TYPE_CHECKING:
    from uuid import UUID

    from psycopg import AsyncConnection

    from chatkeep.db import Database

_NONCE_BYTES: Final = 12
_OPENS_WITH_NEITHER: Final = (
    "Something in the database opens with neither secret: the old one is not the one that was"
    " used so far. Nothing was changed."
)


@dataclass(frozen=True, slots=True)
class _Key:
    kid: str
    private_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Factor:
    user_id: UUID
    id: UUID
    secret: bytes = field(repr=False)


class _Both:
    """Opens with either secret, and seals with the new one."""

    def __init__(self, purpose: str, *, old: bytes, new: bytes) -> None:
        self._old = AESGCM(derived_key(old, purpose))
        self._new = AESGCM(derived_key(new, purpose))

    def again(self, kept: bytes, bound_to: bytes) -> bytes | None:
        """Return *kept* sealed with the new secret; None where it already is."""
        nonce, content = kept[:_NONCE_BYTES], kept[_NONCE_BYTES:]
        if _opened(self._new, nonce, content, bound_to) is not None:
            return None
        plain = _opened(self._old, nonce, content, bound_to)
        if plain is None:
            raise SetupError(_OPENS_WITH_NEITHER)
        fresh = os.urandom(_NONCE_BYTES)
        return fresh + self._new.encrypt(fresh, plain, bound_to)


def _opened(cipher: AESGCM, nonce: bytes, content: bytes, bound_to: bytes) -> bytes | None:
    try:
        return cipher.decrypt(nonce, content, bound_to)
    except (InvalidTag, ValueError):
        return None


async def reencrypt(db: Database, *, old: bytes, new: bytes) -> int:
    """Encrypt signing keys, authenticator secrets and the audit chain's key anew; return how many.

    Servers must not run meanwhile: they would seal with the old secret.

    Raises:
        SetupError: something opens with neither secret; it and what is like it stay as they were.
        Unavailable: the database is away, or a server is at the audit log.
    """
    async with db.acting_as(AUTH) as connection:
        count = await _keys(connection, _Both("signing keys", old=old, new=new))
        count += await _factors(connection, _Both("second factors", old=old, new=new))
        if count:
            noted = audit.entry("secret.changed", actor="operator", details={"reencrypted": count})
            await audit.write(connection, noted)
        # Within the other transaction: when the chain's key does not open, nothing is changed.
        return count + await _chain(db, _Both("audit chain", old=old, new=new))


async def _keys(connection: AsyncConnection, both: _Both) -> int:
    cursor = connection.cursor(row_factory=class_row(_Key))
    await cursor.execute(
        "select kid, private_key from chatkeep.signing_keys where private_key <> '' for update"
    )
    count = 0
    for row in await cursor.fetchall():
        fresh = both.again(row.private_key, row.kid.encode())
        if fresh is not None:
            await connection.execute(
                "update chatkeep.signing_keys set private_key = %s where kid = %s",
                (fresh, row.kid),
            )
            count += 1
    return count


async def _factors(connection: AsyncConnection, both: _Both) -> int:
    cursor = connection.cursor(row_factory=class_row(_Factor))
    await cursor.execute(
        "select user_id, id, secret from chatkeep.factors where secret is not null for update"
    )
    count = 0
    for row in await cursor.fetchall():
        fresh = both.again(row.secret, row.user_id.bytes + row.id.bytes)
        if fresh is not None:
            await connection.execute(
                "update chatkeep.factors set secret = %s where user_id = %s and id = %s",
                (fresh, row.user_id, row.id),
            )
            count += 1
    return count


async def _chain(db: Database, both: _Both) -> int:
    async with db.acting_as(ADMIN) as connection:
        head = await audit.held_head(connection)
        if head is None:
            raise Unavailable("A server is at the audit log: stop all servers first.")
        fresh = None if head.chain_key is None else both.again(head.chain_key, audit.CHAIN_BINDING)
        if fresh is None:
            return 0
        await audit.keep_key(connection, replace(head, chain_key=fresh))
        return 1
