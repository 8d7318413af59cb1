"""Verifying a second factor: the session of whoever does is at AAL2 from then on.

Everything is decided under a lock on the factor's row, so of parallel tries with one code
one is let in. What was refused is committed before it is raised: a wrong code counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkeep import accounts
from chatkeep.db import AUTH, run_within
from chatkeep.errors import (
    FactorNotFound,
    FactorVerificationFailed,
    InsufficientAal,
    RateLimited,
    SessionNotFound,
)
from chatkeep.factors import notices, totp
from chatkeep.factors.challenges import drop_challenge, get_challenge
from chatkeep.factors.enrolment import hold_account
from chatkeep.factors.records import PROOFS, held, note_failure, note_success, opened
from chatkeep.sessions import records as sessions

if TYPE_CHECKING:
    from uuid import UUID

    from psycopg import AsyncConnection

    from chatkeep.devices import Device
    from chatkeep.factors.records import Factor
    from chatkeep.issuance import EmbeddedIssuer, Grant, Here
    from chatkeep.sessions.records import Session


async def verify_code(
    issuer: EmbeddedIssuer,
    here: Here,
    factor_id: UUID,
    challenge_id: UUID,
    code: str,
    device: Device,
) -> Grant:
    """Verify an authenticator app's *code*; return tokens of the same session at AAL2.

    Raises:
        FactorNotFound, FactorChallengeExpired, FactorAddressMismatch: see `get_challenge`.
        FactorVerificationFailed: the code is wrong, or was taken before.
        InsufficientAal: it is a new factor, and an older one was not shown in this session.
        RateLimited: too many were wrong; nobody looks at one for `retry_after_s`.
        SessionNotFound: the session was ended meanwhile.
    """
    async with issuer.db.acting_as(AUTH) as connection:
        await hold_account(connection, here)
        factor = await held(connection, here.user.id, factor_id)
        if factor.secret is None:
            raise FactorNotFound
        await require_may_add(connection, here, factor)
        await get_challenge(
            connection, here.user.id, challenge_id, factor_id=factor_id, address=device.address
        )
        require_no_wait(factor)
        secret = opened(issuer, factor.secret, user_id=here.user.id, factor_id=factor_id)
        step = totp.matching_step(secret, code, now_s=factor.now_s, after=factor.last_step)
        if step is not None:
            await note_success(connection, here.user.id, factor, step=step)
            await drop_challenge(connection, here.user.id, challenge_id)
            stronger, ended = await admitted(issuer, connection, here, factor)
        else:
            await refused(issuer, connection, here, factor)
    if step is None:
        raise FactorVerificationFailed
    return await granted(issuer, here, stronger, ended)


async def require_may_add(connection: AsyncConnection, here: Here, factor: Factor) -> None:
    """Refuse to verify a new factor in a session that has not shown an older one.

    Raises:
        InsufficientAal: see above.
    """
    if factor.status == "verified" or here.aal == "aal2":
        return
    cursor = await connection.execute(
        "select from chatkeep.factors where user_id = %s and status = 'verified' limit 1",
        (here.user.id,),
    )
    if await cursor.fetchone() is not None:
        raise InsufficientAal


def require_no_wait(factor: Factor) -> None:
    """Refuse to look at a code while too many were wrong.

    Raises:
        RateLimited: with the seconds until one is looked at again.
    """
    if factor.wait_s > 0:
        raise RateLimited(retry_after_s=int(factor.wait_s) + 1)


async def admitted(
    issuer: EmbeddedIssuer, connection: AsyncConnection, here: Here, factor: Factor
) -> tuple[Session, list[UUID]]:
    """Raise the session, in the transaction that found the factor's proof to be right.

    Returns the session as it is now, and which of the person's others were ended.

    Raises:
        SessionNotFound: the session was ended meanwhile.
    """
    stronger, ended = await sessions.strengthen(
        connection, here.session, PROOFS[factor.factor_type]
    )
    if stronger is None:
        raise SessionNotFound
    said = [notices.entry(issuer, "factor.verified", here, factor_type=factor.factor_type)]
    if factor.status == "unverified":
        said.append(notices.entry(issuer, "factor.added", here, factor_type=factor.factor_type))
        said += notices.changed(
            issuer,
            here.user,
            "factor_added",
            factor_type=factor.factor_type,
            name=factor.friendly_name,
        )
    await run_within(connection, *said)
    return stronger, ended


async def refused(
    issuer: EmbeddedIssuer,
    connection: AsyncConnection,
    here: Here,
    factor: Factor,
    reason: str = "mfa_verification_failed",
) -> None:
    """Note a wrong proof, in the transaction that found it to be wrong.

    Codes can be guessed and are counted; signatures cannot, and a wait would only lock out.
    """
    if factor.factor_type != "webauthn":
        await note_failure(connection, here.user.id, factor)
    entry = notices.entry(
        issuer,
        "factor.verified",
        here,
        outcome="refused",
        reason=reason,
        factor_type=factor.factor_type,
    )
    await run_within(connection, entry)


async def granted(
    issuer: EmbeddedIssuer, here: Here, stronger: Session, ended: list[UUID]
) -> Grant:
    """Return tokens for the raised session, once its transaction is committed."""
    issuer.revocations.ended(ended)
    return await issuer.grant(await accounts.get_user(issuer.db, here.user.id), stronger)
