"""Security keys as a second factor: asking one, and looking at its answer.

Each challenge is good for one answer, right or wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from chatkeep.db import AUTH, ConstraintViolated
from chatkeep.errors import FactorNotFound, FactorVerificationFailed
from chatkeep.factors import ceremonies
from chatkeep.factors.ceremonies import Known, Owner, Unverified
from chatkeep.factors.challenges import drop_challenge, get_challenge
from chatkeep.factors.credentials import REGISTERED, keep_key, keys_of, note_use
from chatkeep.factors.enrolment import hold_account
from chatkeep.factors.records import held, note_success
from chatkeep.factors.verification import admitted, granted, refused, require_may_add

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from psycopg import AsyncConnection

    from chatkeep.devices import Device
    from chatkeep.factors.ceremonies import RelyingParty
    from chatkeep.factors.challenges import Challenge
    from chatkeep.factors.records import Factor
    from chatkeep.issuance import EmbeddedIssuer, Grant, Here


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the browser is asked to do with a key, and with what options."""

    type: Literal["create", "request"]
    options: dict[str, Any]


async def asked_of_key(
    issuer: EmbeddedIssuer, here: Here, party: RelyingParty, made: Challenge
) -> Asked:
    """Return what *made*, the challenge of a security key, asks of the browser."""
    if made.is_new:
        # A handle of its own: one of the person's would replace a passkey on the same key.
        owner = Owner(handle=made.factor_id.bytes, name=here.user.email or str(here.user.id))
        options = ceremonies.creation_options(party, owner, made.challenge, known=(), passkey=False)
        return Asked(type="create", options=options)
    async with issuer.db.acting_as(AUTH) as connection:
        keys = await keys_of(connection, here.user.id, factor_id=made.factor_id)
    known = [Known(credential_id=one.credential_id, transports=one.transports) for one in keys]
    options = ceremonies.request_options(party, made.challenge, known=known, passkey=False)
    return Asked(type="request", options=options)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAnswer:
    """What the browser returned for a challenge, and for which domain it should be."""

    party: RelyingParty
    challenge_id: UUID
    credential: Mapping[str, Any]


async def verify_key(
    issuer: EmbeddedIssuer, here: Here, factor_id: UUID, answer: KeyAnswer, device: Device
) -> Grant:
    """Register or recognise the key of a factor; return tokens of the same session at AAL2.

    Raises:
        FactorNotFound, FactorChallengeExpired, FactorAddressMismatch: see `get_challenge`.
        FactorVerificationFailed: the answer is not right, or the key is another factor's.
        InsufficientAal: it is a new factor, and an older one was not shown in this session.
        SessionNotFound: the session was ended meanwhile.
    """
    try:
        async with issuer.db.acting_as(AUTH) as connection:
            await hold_account(connection, here)
            factor = await held(connection, here.user.id, factor_id)
            if factor.factor_type != "webauthn":
                raise FactorNotFound
            await require_may_add(connection, here, factor)
            challenge = await get_challenge(
                connection,
                here.user.id,
                answer.challenge_id,
                factor_id=factor_id,
                address=device.address,
            )
            await drop_challenge(connection, here.user.id, answer.challenge_id)
            reason = await _judged(connection, here, factor, answer, challenge)
            if reason is None:
                await note_success(connection, here.user.id, factor)
                stronger, ended = await admitted(issuer, connection, here, factor)
            else:
                await refused(issuer, connection, here, factor, reason)
    except ConstraintViolated as error:
        if error.name == REGISTERED:
            raise FactorVerificationFailed from error
        raise
    if reason is not None:
        raise FactorVerificationFailed
    return await granted(issuer, here, stronger, ended)


async def _judged(
    connection: AsyncConnection, here: Here, factor: Factor, answer: KeyAnswer, challenge: bytes
) -> str | None:
    """Keep the key or its counter; or return why not."""
    try:
        if factor.status == "unverified":
            key = ceremonies.registered(answer.party, answer.credential, challenge, passkey=False)
            await keep_key(connection, here.user.id, key, factor_id=factor.id)
            return None
        shown, _ = ceremonies.shown_key(answer.credential)
        keys = await keys_of(connection, here.user.id, factor_id=factor.id)
        used = next((one for one in keys if one.credential_id == shown), None)
        if used is None:
            return "unknown_key"
        counter = ceremonies.signed(
            answer.party,
            answer.credential,
            challenge,
            public_key=used.public_key,
            sign_count=used.sign_count,
            passkey=False,
        )
        await note_use(connection, used, counter)
    except Unverified as error:
        return error.reason
    return None
