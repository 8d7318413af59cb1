"""Challenges: five minutes in which a factor may be verified, on the network that asked.

A challenge of an authenticator is good for one try; that of a code until a code was right.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final
from uuid import UUID

from psycopg.rows import class_row

from chatkeep.db import AUTH, Query
from chatkeep.errors import FactorAddressMismatch, FactorChallengeExpired, FactorNotFound
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from chatkeep.db import Database

LIFE_S: Final = 300
#: Beside the newest of them, older challenges of a person are dropped.
_KEPT: Final = 20
CHALLENGE_BYTES: Final = 32  # WebAuthn section 13.4.3 asks for 16 at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A challenge that was made. *expires_at* is in seconds since 1970.

    *challenge* is what an authenticator signs; *is_new*: its factor was never verified.
    """

    id: UUID
    factor_id: UUID
    factor_type: str
    friendly_name: str | None
    is_new: bool
    challenge: bytes
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    challenge: bytes
    address: str | None
    expired: bool


@dataclass(frozen=True, slots=True)
class _Dropped:
    id: UUID


async def make_challenge(
    db: Database, user_id: UUID, factor_id: UUID, address: str | None
) -> Challenge:
    """Challenge a person's factor; *address* is where they are.

    Raises:
        FactorNotFound: they have no such factor, or it is a set of recovery codes.
    """
    _, made = await db.fetch_all(
        AUTH,
        Query(
            # Those that others are dropping right now are left to them: no two wait in a circle.
            "delete from chatkeep.factor_challenges where user_id = %s and id in (select id from"
            " chatkeep.factor_challenges where user_id = %s and id not in (select id from"
            " chatkeep.factor_challenges where user_id = %s and expires_at > now()"
            " - interval '1 hour' order by created_at desc limit %s) for update skip locked)"
            " returning id",
            (user_id, user_id, user_id, _KEPT - 1),
            _Dropped,
        ),
        Query(
            "with challenged as (update chatkeep.factors set last_challenged_at = now()"
            " where user_id = %s and id = %s and factor_type <> 'recovery_code'"
            " returning user_id, id, factor_type, friendly_name, status), made as ("
            "insert into chatkeep.factor_challenges"
            " (user_id, id, factor_id, challenge, address, expires_at)"
            " select user_id, %s, id, %s, %s::inet, now() + make_interval(secs => %s)"
            " from challenged returning id, factor_id, challenge, expires_at)"
            " select made.id, made.factor_id, challenged.factor_type, challenged.friendly_name,"
            " challenged.status = 'unverified' as is_new, made.challenge,"
            " extract(epoch from made.expires_at)::bigint as expires_at from made, challenged",
            (
                *(user_id, factor_id, UUID(new_id()), os.urandom(CHALLENGE_BYTES)),
                *(address, LIFE_S),
            ),
            Challenge,
        ),
    )
    if not made:
        raise FactorNotFound
    challenge: Challenge = made[0]
    return challenge


async def making(
    connection: AsyncConnection, user_id: UUID, challenge_id: UUID, challenge: bytes
) -> int:
    """Make a challenge for a new passkey; return when it ends, in seconds since 1970."""
    await connection.execute(
        "delete from chatkeep.factor_challenges where user_id = %s and factor_id is null",
        (user_id,),
    )
    cursor = await connection.execute(
        "insert into chatkeep.factor_challenges (user_id, id, challenge, expires_at)"
        " values (%s, %s, %s, now() + make_interval(secs => %s))"
        " returning extract(epoch from expires_at)::bigint",
        (user_id, challenge_id, challenge, LIFE_S),
    )
    made = await cursor.fetchone()
    assert made is not None  # noqa: S101 -- one row was inserted
    return int(made[0])


async def get_challenge(
    connection: AsyncConnection,
    user_id: UUID,
    challenge_id: UUID,
    *,
    factor_id: UUID | None,
    address: str | None,
) -> bytes:
    """Return the challenge of a factor; *factor_id* None is for a new passkey.

    Raises:
        FactorNotFound: there is no such challenge, or no more.
        FactorChallengeExpired, FactorAddressMismatch: it was made too long ago, or elsewhere.
    """
    cursor = connection.cursor(row_factory=class_row(_Made), binary=True)
    await cursor.execute(
        "select challenge, host(address) as address, expires_at <= now() as expired"
        " from chatkeep.factor_challenges where user_id = %s and id = %s"
        " and factor_id is not distinct from %s for update",
        (user_id, challenge_id, factor_id),
    )
    found = await cursor.fetchone()
    if found is None:
        raise FactorNotFound
    if found.expired:
        raise FactorChallengeExpired
    if network_of(found.address) != network_of(address):
        raise FactorAddressMismatch
    return found.challenge


async def drop_challenge(connection: AsyncConnection, user_id: UUID, challenge_id: UUID) -> None:
    """Let the challenge be good for nothing more."""
    await connection.execute(
        "delete from chatkeep.factor_challenges where user_id = %s and id = %s",
        (user_id, challenge_id),
    )


def network_of(address: str | None) -> str | None:
    """Return the address, or its /64 in IPv6: a device's own half changes by itself."""
    if address is None or ":" not in address:
        return address
    return str(ip_network(f"{address}/64", strict=False))
