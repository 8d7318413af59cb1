"""Recovery codes: ten texts on paper that stand in, once each, for a lost factor.

They are shown once and kept as keyed hashes. A set is a factor of its own, which can never
be the only one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID

from chatkeep.db import AUTH, ConstraintViolated, run_within
from chatkeep.errors import (
    FactorNameConflict,
    FactorNotFound,
    FactorVerificationFailed,
    InsufficientAal,
    RecoveryCodesLocked,
    RecoveryCodesSoleFactor,
    VerifiedFactorExists,
)
from chatkeep.factors import notices
from chatkeep.factors.enrolment import NAME_TAKEN, hold_account, sound_name, unenroll
from chatkeep.factors.records import held, note_success
from chatkeep.factors.verification import admitted, granted, refused
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from chatkeep.issuance import EmbeddedIssuer, Grant, Here

HOW_MANY: Final = 10
#: Without i, l, o and u: nobody mistakes one character for another, or reads a word.
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH: Final = 16  # 80 bits
_READ_AS: Final = str.maketrans({"o": "0", "i": "1", "l": "1", "-": None})
_ONE_SET: Final = "factors_one_set_of_recovery_codes"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSet:
    """A new set, with the only copy of its *codes*."""

    id: UUID
    friendly_name: str | None
    codes: list[str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How many codes a set has, and how many were not used yet."""

    id: UUID
    total: int
    remaining: int


async def get_status(issuer: EmbeddedIssuer, here: Here) -> Status:
    """Return how many recovery codes the person has left.

    Raises:
        FactorNotFound: they have made none.
    """
    found = await issuer.db.fetch(
        AUTH,
        "select f.id, count(c.hash)::int as total,"
        " count(c.hash) filter (where c.used_at is null)::int as remaining"
        " from chatkeep.factors f left join chatkeep.recovery_codes c"
        " on (c.user_id, c.factor_id) = (f.user_id, f.id)"
        " where f.user_id = %s and f.factor_type = 'recovery_code' group by f.id",
        (here.user.id,),
        row=Status,
    )
    if not found:
        raise FactorNotFound
    return found[0]


async def generate(issuer: EmbeddedIssuer, here: Here, friendly_name: str | None) -> CodeSet:
    """Make the person's set of recovery codes.

    Raises:
        InsufficientAal: this session was begun without a second factor.
        RecoveryCodesSoleFactor: there is no other verified factor.
        VerifiedFactorExists: there is a set.
        FactorNameConflict, Invalid, SessionNotFound.
    """
    _require_aal2(here)
    made = CodeSet(id=UUID(new_id()), friendly_name=sound_name(friendly_name), codes=_new_codes())
    try:
        async with issuer.db.acting_as(AUTH) as connection:
            await hold_account(connection, here)
            if not await _has_other_factor(connection, here):
                raise RecoveryCodesSoleFactor
            await connection.execute(
                "insert into chatkeep.factors (user_id, id, factor_type, friendly_name, status)"
                " values (%s, %s, 'recovery_code', %s, 'verified')",
                (here.user.id, made.id, made.friendly_name),
            )
            await _keep(issuer, connection, here, made)
    except ConstraintViolated as error:
        if error.name == _ONE_SET:
            raise VerifiedFactorExists from error
        if error.name == NAME_TAKEN:
            raise FactorNameConflict from error
        raise
    return made


async def regenerate(issuer: EmbeddedIssuer, here: Here) -> CodeSet:
    """Replace the person's codes; those so far are good for nothing any more.

    Raises:
        InsufficientAal, FactorNotFound, SessionNotFound.
    """
    _require_aal2(here)
    status, codes = await get_status(issuer, here), _new_codes()
    async with issuer.db.acting_as(AUTH) as connection:
        await hold_account(connection, here)
        factor = await held(connection, here.user.id, status.id)
        await connection.execute(
            "delete from chatkeep.recovery_codes where user_id = %s", (here.user.id,)
        )
        await note_success(connection, here.user.id, factor)
        made = CodeSet(id=factor.id, friendly_name=factor.friendly_name, codes=codes)
        await _keep(issuer, connection, here, made)
    return made


async def remove(issuer: EmbeddedIssuer, here: Here) -> UUID:
    """Take the person's recovery codes away; return the id of the set.

    Raises:
        InsufficientAal, FactorNotFound, SessionNotFound.
    """
    _require_aal2(here)
    status = await get_status(issuer, here)
    await unenroll(issuer, here, status.id)
    return status.id


async def verify_recovery_code(issuer: EmbeddedIssuer, here: Here, code: str) -> Grant:
    """Use up one code; return tokens of the same session at AAL2.

    Letter case, white space and dashes are ignored, and letters read as the digits they
    look like.

    Raises:
        FactorVerificationFailed: no such code, or used, or there is no set.
        RecoveryCodesLocked: too many were wrong; nobody looks at one for `retry_after_s`.
        SessionNotFound: the session was ended meanwhile.
    """
    try:
        status = await get_status(issuer, here)
    except FactorNotFound as error:
        raise FactorVerificationFailed from error
    async with issuer.db.acting_as(AUTH) as connection:
        await hold_account(connection, here)
        factor = await held(connection, here.user.id, status.id)
        if factor.wait_s > 0:
            raise RecoveryCodesLocked(retry_after_s=int(factor.wait_s) + 1)
        used = await connection.execute(
            "update chatkeep.recovery_codes set used_at = now()"
            " where user_id = %s and hash = %s and used_at is null",
            (here.user.id, _hash(issuer, here.user.id, code)),
        )
        if used.rowcount:
            await note_success(connection, here.user.id, factor)
            stronger, ended = await admitted(issuer, connection, here, factor)
        else:
            await refused(issuer, connection, here, factor)
    if not used.rowcount:
        raise FactorVerificationFailed
    return await granted(issuer, here, stronger, ended)


def _require_aal2(here: Here) -> None:
    if here.aal != "aal2":
        raise InsufficientAal


def _new_codes() -> list[str]:
    return ["".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)) for _ in range(HOW_MANY)]


def _hash(issuer: EmbeddedIssuer, user_id: UUID, code: str) -> bytes:
    """The code as it is kept: a key is needed to try guesses against a copy of the table."""
    plain = "".join(code.lower().split()).translate(_READ_AS).encode("utf-8", "replace")
    key = issuer.derived("recovery codes")
    return hmac.new(key, user_id.bytes + plain, hashlib.sha256).digest()


async def _has_other_factor(connection: AsyncConnection, here: Here) -> bool:
    cursor = await connection.execute(
        "select from chatkeep.factors where user_id = %s and status = 'verified'"
        " and factor_type <> 'recovery_code' limit 1",
        (here.user.id,),
    )
    return await cursor.fetchone() is not None


async def _keep(
    issuer: EmbeddedIssuer, connection: AsyncConnection, here: Here, made: CodeSet
) -> None:
    await connection.execute(
        "insert into chatkeep.recovery_codes (user_id, factor_id, hash)"
        " select %s, %s, hash from unnest(%s::bytea[]) hash",
        (here.user.id, made.id, [_hash(issuer, here.user.id, one) for one in made.codes]),
    )
    entry = notices.entry(issuer, "factor.added", here, factor_type="recovery_code")
    mail = notices.changed(
        issuer, here.user, "factor_added", factor_type="recovery_code", name=made.friendly_name
    )
    await run_within(connection, entry, *mail)
