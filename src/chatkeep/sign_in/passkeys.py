"""Passkeys: signing in with a key that a finger, a face or a PIN unlocks, and no password.

That is two factors at once, what one has and what one is or knows, so the session begins at
AAL2. Whoever asks to sign in is asked for any passkey, so nobody learns who has one; and
the answer to a passkey that nobody has is that to one that does not verify.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, LiteralString
from uuid import UUID

from psycopg.rows import class_row

from chatkeep import audit
from chatkeep.db import AUTH, ConstraintViolated, Query, run_within
from chatkeep.errors import (
    FactorChallengeExpired,
    FactorNotFound,
    InvalidCredentials,
    PasskeyChallengeExpired,
    PasskeyChallengeNotFound,
    PasskeyExists,
    PasskeyNotFound,
    PasskeyVerificationFailed,
    TooManyPasskeys,
)
from chatkeep.factors import ceremonies, notices
from chatkeep.factors.ceremonies import Known, Owner, Unverified
from chatkeep.factors.challenges import (
    CHALLENGE_BYTES,
    LIFE_S,
    drop_challenge,
    get_challenge,
    making,
)
from chatkeep.factors.credentials import REGISTERED, find_passkey, keep_key, keys_of, note_use
from chatkeep.factors.enrolment import hold_account, sound_name
from chatkeep.factors.records import require_aal2
from chatkeep.ids import new_id
from chatkeep.sessions import records as sessions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from chatkeep.accounts import User
    from chatkeep.db import Database
    from chatkeep.devices import Device
    from chatkeep.factors.ceremonies import RelyingParty
    from chatkeep.issuance import EmbeddedIssuer, Grant, Here

AT_MOST: Final = 10
#: How it is called in `amr`.
PROOF: Final = "passkey"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkey:
    """A passkey as its owner sees it."""

    id: UUID
    friendly_name: str | None
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceremony:
    """What a browser is asked, until *expires_at* (seconds since 1970)."""

    challenge_id: UUID
    options: dict[str, Any]
    expires_at: int


@dataclass(frozen=True, slots=True)
class _Made:
    expires_at: int


@dataclass(frozen=True, slots=True)
class _Taken:
    challenge: bytes
    expired: bool


@dataclass(frozen=True, slots=True)
class _Touched:
    id: UUID


_COLUMNS: LiteralString = " id, friendly_name, created_at, last_used_at"


# --- having them ----------------------------------------------------------------------------


async def begin_registration(issuer: EmbeddedIssuer, here: Here, party: RelyingParty) -> Ceremony:
    """Ask the person's authenticator for a new passkey.

    Raises:
        InsufficientAal: they have a second factor, and did not show it in this session.
        TooManyPasskeys, SessionNotFound.
    """
    require_aal2(here)
    challenge, challenge_id = os.urandom(CHALLENGE_BYTES), UUID(new_id())
    async with issuer.db.acting_as(AUTH) as connection:
        await hold_account(connection, here)
        known = await keys_of(connection, here.user.id)
        if len(known) >= AT_MOST:
            raise TooManyPasskeys
        expires_at = await making(connection, here.user.id, challenge_id, challenge)
    options = ceremonies.creation_options(
        party,
        Owner(handle=here.user.id.bytes, name=here.user.email or str(here.user.id)),
        challenge,
        known=[Known(credential_id=one.credential_id, transports=one.transports) for one in known],
        passkey=True,
    )
    return Ceremony(challenge_id=challenge_id, options=options, expires_at=expires_at)


async def register(
    issuer: EmbeddedIssuer,
    here: Here,
    party: RelyingParty,
    challenge_id: UUID,
    answer: Mapping[str, Any],
    device: Device,
) -> Passkey:
    """Keep the passkey that the authenticator made; it is named after the device.

    Raises:
        PasskeyChallengeNotFound, PasskeyChallengeExpired.
        PasskeyVerificationFailed: the answer is not right.
        PasskeyExists: somebody has registered it.
        InsufficientAal, TooManyPasskeys, SessionNotFound.
    """
    require_aal2(here)
    challenge = await _registration_challenge(issuer, here, challenge_id)
    try:
        key = ceremonies.registered(party, answer, challenge, passkey=True)
    except Unverified as error:
        refused = notices.entry(
            issuer, "passkey.added", here, outcome="refused", reason=error.reason
        )
        await audit.record(issuer.db, refused)
        raise PasskeyVerificationFailed from error
    try:
        async with issuer.db.acting_as(AUTH) as connection:
            await hold_account(connection, here)
            if len(await keys_of(connection, here.user.id)) >= AT_MOST:
                raise TooManyPasskeys
            made = await keep_key(connection, here.user.id, key, friendly_name=device.name)
            said = notices.changed(
                issuer, here.user, "factor_added", factor_type="passkey", name=device.name
            )
            entry = notices.entry(issuer, "passkey.added", here)
            await run_within(connection, entry, *said)
    except ConstraintViolated as error:
        if error.name == REGISTERED:
            raise PasskeyExists from error
        raise
    return next(one for one in await list_passkeys(issuer.db, here.user.id) if one.id == made)


async def list_passkeys(db: Database, user_id: UUID) -> list[Passkey]:
    """Return a person's passkeys, the oldest first."""
    return await db.fetch(
        AUTH,
        "select" + _COLUMNS + " from chatkeep.webauthn_credentials"
        " where user_id = %s and factor_id is null order by created_at, id",
        (user_id,),
        row=Passkey,
    )


async def rename(
    issuer: EmbeddedIssuer, here: Here, passkey_id: UUID, friendly_name: str | None
) -> Passkey:
    """Give a passkey another name.

    Raises:
        PasskeyNotFound: the person has no such passkey.
        InsufficientAal, Invalid.
    """
    require_aal2(here)
    async with issuer.db.acting_as(AUTH) as connection:
        cursor = connection.cursor(row_factory=class_row(Passkey), binary=True)
        await cursor.execute(
            "update chatkeep.webauthn_credentials set friendly_name = %s, updated_at = now()"  # noqa: S608 -- a literal of this file
            " where user_id = %s and id = %s and factor_id is null returning" + _COLUMNS,
            (sound_name(friendly_name), here.user.id, passkey_id),
        )
        renamed = await cursor.fetchone()
        if renamed is None:
            raise PasskeyNotFound
        await run_within(connection, notices.entry(issuer, "passkey.renamed", here))
    return renamed


async def remove(issuer: EmbeddedIssuer, here: Here, passkey_id: UUID) -> None:
    """Take a passkey away; other sessions that a passkey began fall to AAL1.

    Raises:
        PasskeyNotFound: the person has no such passkey.
        InsufficientAal: they have a second factor, and did not show it in this session.
    """
    require_aal2(here)
    entry = notices.entry(issuer, "passkey.removed", here)
    await _take_away(issuer, here.user, passkey_id, entry, but=here.session.id)


async def remove_for(issuer: EmbeddedIssuer, user: User, passkey_id: UUID, *, actor: str) -> None:
    """Take a passkey of *user* away for *actor* (see `audit.entry`): for administrators.

    Raises:
        PasskeyNotFound: *user* has no such passkey.
    """
    user_id = issuer.user_id_of(user.id)
    entry = audit.entry("passkey.removed", user_id=user_id, actor=actor, issuer=issuer.issuer.name)
    await _take_away(issuer, user, passkey_id, entry, but=None)


async def _take_away(
    issuer: EmbeddedIssuer,
    user: User,
    passkey_id: UUID,
    entry: Query[audit.Written],
    *,
    but: UUID | None,
) -> None:
    async with issuer.db.acting_as(AUTH) as connection:
        cursor = await connection.execute(
            "delete from chatkeep.webauthn_credentials"
            " where user_id = %s and id = %s and factor_id is null returning friendly_name",
            (user.id, passkey_id),
        )
        removed = await cursor.fetchone()
        if removed is None:
            raise PasskeyNotFound
        await sessions.weaken(connection, issuer.user_id_of(user.id), PROOF, but=but)
        said = notices.changed(
            issuer, user, "factor_removed", factor_type="passkey", name=removed[0]
        )
        await run_within(connection, entry, *said)


async def _registration_challenge(issuer: EmbeddedIssuer, here: Here, challenge_id: UUID) -> bytes:
    """Take the challenge, which is good for one answer."""
    try:
        async with issuer.db.acting_as(AUTH) as connection:
            challenge = await get_challenge(
                connection, here.user.id, challenge_id, factor_id=None, address=None
            )
            await drop_challenge(connection, here.user.id, challenge_id)
    except FactorNotFound as error:
        raise PasskeyChallengeNotFound from error
    except FactorChallengeExpired as error:
        raise PasskeyChallengeExpired from error
    return challenge


# --- signing in with them -------------------------------------------------------------------


async def begin_sign_in(issuer: EmbeddedIssuer, party: RelyingParty) -> Ceremony:
    """Ask whoever this is for any passkey of theirs; nothing is said of anybody."""
    challenge, challenge_id = os.urandom(CHALLENGE_BYTES), UUID(new_id())
    _, made = await issuer.db.fetch_all(
        AUTH,
        Query(
            # Those that others are dropping right now are left to them: no two wait in a circle.
            "with few as materialized (select id from chatkeep.passkey_challenges"
            "  where expires_at < now() - interval '1 hour'"
            "  order by expires_at limit 100 for update skip locked)"
            " delete from chatkeep.passkey_challenges c using few where c.id = few.id"
            " returning c.id",
            (),
            _Touched,
        ),
        Query(
            "insert into chatkeep.passkey_challenges (id, challenge, expires_at)"
            " values (%s, %s, now() + make_interval(secs => %s))"
            " returning extract(epoch from expires_at)::bigint as expires_at",
            (challenge_id, challenge, LIFE_S),
            _Made,
        ),
    )
    options = ceremonies.request_options(party, challenge, known=(), passkey=True)
    return Ceremony(challenge_id=challenge_id, options=options, expires_at=made[0].expires_at)


async def sign_in(
    issuer: EmbeddedIssuer,
    party: RelyingParty,
    challenge_id: UUID,
    answer: Mapping[str, Any],
    device: Device,
) -> Grant:
    """Begin a session of whoever's passkey has signed the challenge, at AAL2.

    Raises:
        PasskeyChallengeNotFound, PasskeyChallengeExpired.
        PasskeyVerificationFailed: the answer is not right, or nobody has that passkey.
        UserBanned: it is right, and the account is suspended.
    """
    challenge = await _sign_in_challenge(issuer.db, challenge_id)
    try:
        user_id = await _recognised(issuer, party, answer, challenge)
    except Unverified as error:
        issuer.notices.note("passkey.refused", reason=error.reason)
        raise PasskeyVerificationFailed from error
    signed_in = Query(
        "update chatkeep.users set last_sign_in_at = now() where id = %s returning id",
        (user_id,),
        _Touched,
    )
    try:
        return await issuer.begin(user_id, PROOF, device, first=[signed_in], aal="aal2")
    except InvalidCredentials as error:  # the account went in between
        raise PasskeyVerificationFailed from error


async def _sign_in_challenge(db: Database, challenge_id: UUID) -> bytes:
    """Take the challenge, which is good for one answer."""
    taken = await db.fetch(
        AUTH,
        "delete from chatkeep.passkey_challenges where id = %s"
        " returning challenge, expires_at <= now() as expired",
        (challenge_id,),
        row=_Taken,
    )
    if not taken:
        raise PasskeyChallengeNotFound
    if taken[0].expired:
        raise PasskeyChallengeExpired
    return taken[0].challenge


async def _recognised(
    issuer: EmbeddedIssuer, party: RelyingParty, answer: Mapping[str, Any], challenge: bytes
) -> UUID:
    """Return whose passkey has signed *challenge*, and remember its counter.

    Raises:
        Unverified: nobody's, or not rightly.
    """
    shown, handle = ceremonies.shown_key(answer)
    async with issuer.db.acting_as(AUTH) as connection:
        used = await find_passkey(connection, shown)
        # WebAuthn section 7.2 step 6: who was not named before is named by the authenticator.
        if used is None or handle != used.user_id.bytes:
            raise Unverified("unknown_passkey")
        counter = ceremonies.signed(
            party,
            answer,
            challenge,
            public_key=used.public_key,
            sign_count=used.sign_count,
            passkey=True,
        )
        await note_use(connection, used, counter)
    return used.user_id
