"""Factors as the database has them. Every read and change names the person whose they are."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg.rows import class_row

from chatkeep.errors import FactorNotFound, InsufficientAal

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from psycopg import AsyncConnection

    from chatkeep.issuance import EmbeddedIssuer, Here

FactorType = Literal["totp", "webauthn", "recovery_code"]
#: How each kind of factor is called in `amr`.
PROOFS: Final[dict[str, str]] = {
    "totp": "totp",
    "webauthn": "mfa/webauthn",
    "recovery_code": "mfa/recovery_code",
}
_NONCE_BYTES: Final = 12
#: So many wrong codes in a row are forgiven; each further one doubles the wait.
_FREE_FAILURES: Final = 4
_FIRST_WAIT_S: Final = 15
_LONGEST_WAIT_S: Final = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """A factor, held until the transaction ends. *now_s* is the database's clock.

    *wait_s* is how long no code is looked at, because too many were wrong.
    """

    id: UUID
    factor_type: FactorType
    friendly_name: str | None
    status: Literal["unverified", "verified"]
    secret: bytes | None = field(repr=False)
    last_step: int
    failures: int
    wait_s: float
    now_s: float
    created_at: datetime


async def held(connection: AsyncConnection, user_id: UUID, factor_id: UUID) -> Factor:
    """Return a person's factor and keep others from it until the transaction ends.

    Raises:
        FactorNotFound: they have no such factor.
    """
    cursor = connection.cursor(row_factory=class_row(Factor), binary=True)
    await cursor.execute(
        "select id, factor_type, friendly_name, status, secret, last_step, failures,"
        " greatest(extract(epoch from locked_until - clock_timestamp()), 0)::float8 as wait_s,"
        " extract(epoch from clock_timestamp())::float8 as now_s, created_at"
        " from chatkeep.factors where user_id = %s and id = %s for update",
        (user_id, factor_id),
    )
    found = await cursor.fetchone()
    if found is None:
        raise FactorNotFound
    return found


async def note_failure(connection: AsyncConnection, user_id: UUID, factor: Factor) -> None:
    """Count one wrong code; after some in a row nobody may try for a while.

    Whoever guesses has the password already, so the wait is the account's, wherever they are:
    at one try an hour a code of six digits stands for centuries.
    """
    beyond = factor.failures + 1 - _FREE_FAILURES
    wait_s = min(_FIRST_WAIT_S * 2 ** min(beyond - 1, 30), _LONGEST_WAIT_S) if beyond > 0 else 0
    await connection.execute(
        "update chatkeep.factors set failures = failures + 1,"
        " locked_until = clock_timestamp() + make_interval(secs => %s)"
        " where user_id = %s and id = %s",
        (wait_s, user_id, factor.id),
    )


async def note_success(
    connection: AsyncConnection, user_id: UUID, factor: Factor, *, step: int = 0
) -> None:
    """Mark *factor* as verified and remember the *step* of its code; drop unverified ones."""
    await connection.execute(
        "update chatkeep.factors set status = 'verified', failures = 0, locked_until = null,"
        " last_step = greatest(last_step, %s), updated_at = now()"
        " where user_id = %s and id = %s",
        (step, user_id, factor.id),
    )
    await connection.execute(
        "delete from chatkeep.factors where user_id = %s and status = 'unverified'", (user_id,)
    )


def require_aal2(here: Here) -> None:
    """Refuse who has a second factor and has not shown it in this session.

    Raises:
        InsufficientAal: see above.
    """
    if here.user.has_second_factor and here.aal != "aal2":
        raise InsufficientAal


def sealed(issuer: EmbeddedIssuer, secret: str, *, user_id: UUID, factor_id: UUID) -> bytes:
    """Return *secret* encrypted (AES-GCM), bound to its row so that rows cannot be swapped."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _sealing(issuer).encrypt(nonce, secret.encode(), user_id.bytes + factor_id.bytes)


def opened(issuer: EmbeddedIssuer, secret: bytes, *, user_id: UUID, factor_id: UUID) -> str:
    """Return what was `sealed`."""
    nonce, content = secret[:_NONCE_BYTES], secret[_NONCE_BYTES:]
    return _sealing(issuer).decrypt(nonce, content, user_id.bytes + factor_id.bytes).decode()


def _sealing(issuer: EmbeddedIssuer) -> AESGCM:
    return AESGCM(issuer.derived("second factors"))
