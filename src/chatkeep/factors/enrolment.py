"""Adding a second factor to an account, and taking one away."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

from chatkeep import audit
from chatkeep.db import AUTH, ConstraintViolated, run_within
from chatkeep.errors import (
    FactorNameConflict,
    InsufficientAal,
    Invalid,
    SessionNotFound,
    TooManyFactors,
)
from chatkeep.factors import notices, totp
from chatkeep.factors.records import PROOFS, held, require_aal2, sealed
from chatkeep.ids import new_id
from chatkeep.sessions import records as sessions

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from chatkeep.accounts import User
    from chatkeep.factors.records import Factor
    from chatkeep.issuance import EmbeddedIssuer, Here

AT_MOST: Final = 10
_LONGEST_NAME: Final = 100
#: Supabase Auth drops unverified factors after a while too; nobody needs an hour to scan a code.
_UNVERIFIED_FOR: Final = "1 hour"
NAME_TAKEN: Final = "factors_name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A new factor, still unverified. *secret* and *uri* are an authenticator app's."""

    id: UUID
    factor_type: Literal["totp", "webauthn"]
    friendly_name: str | None
    secret: str | None = field(default=None, repr=False)
    uri: str | None = field(default=None, repr=False)


async def enroll(
    issuer: EmbeddedIssuer,
    here: Here,
    factor_type: Literal["totp", "webauthn"],
    *,
    friendly_name: str | None,
    app_name: str,
) -> Enrolled:
    """Make an unverified factor; *app_name* is what an authenticator app shows above its code.

    Raises:
        InsufficientAal: a verified factor exists, and this session was begun without it.
        TooManyFactors, FactorNameConflict, Invalid, SessionNotFound.
    """
    require_aal2(here)
    name, factor_id = sound_name(friendly_name), UUID(new_id())
    secret = totp.new_secret() if factor_type == "totp" else None
    kept = sealed(issuer, secret, user_id=here.user.id, factor_id=factor_id) if secret else None
    try:
        async with issuer.db.acting_as(AUTH) as connection:
            await _require_room(connection, here)
            await connection.execute(
                "insert into chatkeep.factors (user_id, id, factor_type, friendly_name, secret)"
                " values (%s, %s, %s, %s, %s)",
                (here.user.id, factor_id, factor_type, name, kept),
            )
            entry = notices.entry(issuer, "factor.enrolled", here, factor_type=factor_type)
            await run_within(connection, entry)
    except ConstraintViolated as error:
        if error.name == NAME_TAKEN:
            raise FactorNameConflict from error
        raise
    account = here.user.email or str(here.user.id)
    return Enrolled(
        id=factor_id,
        factor_type=factor_type,
        friendly_name=name,
        secret=secret,
        uri=totp.provisioning_uri(secret, account=account, issuer=app_name) if secret else None,
    )


async def unenroll(issuer: EmbeddedIssuer, here: Here, factor_id: UUID) -> None:
    """Take one of the person's factors away; what was at AAL2 by it alone falls to AAL1.

    Raises:
        FactorNotFound: they have no such factor.
        InsufficientAal: it is verified, and this session was begun without a second factor.
    """
    async with issuer.db.acting_as(AUTH) as connection:
        await hold_account(connection, here)
        factor = await held(connection, here.user.id, factor_id)
        if factor.status == "verified" and here.aal != "aal2":
            raise InsufficientAal
        await _take_away(issuer, connection, here.user, factor)
        entry = notices.entry(issuer, "factor.removed", here, factor_type=factor.factor_type)
        await run_within(connection, entry)


async def remove_for(issuer: EmbeddedIssuer, user: User, factor_id: UUID, *, actor: str) -> Factor:
    """Take a factor of *user* away for *actor* (see `audit.entry`): for administrators.

    Raises:
        FactorNotFound: *user* has no such factor.
    """
    async with issuer.db.acting_as(AUTH) as connection:
        factor = await held(connection, user.id, factor_id)
        await _take_away(issuer, connection, user, factor)
        entry = audit.entry(
            "factor.removed",
            user_id=issuer.user_id_of(user.id),
            actor=actor,
            issuer=issuer.issuer.name,
            details={"factor_type": factor.factor_type},
        )
        await run_within(connection, entry)
    return factor


def sound_name(friendly_name: str | None) -> str | None:
    """Return the name a person gave, None for an empty one.

    Raises:
        Invalid: it is too long, or holds what cannot be shown.
    """
    name = (friendly_name or "").strip()
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise Invalid(f"A friendly name has at most {_LONGEST_NAME} printable characters")
    return name or None


async def hold_account(connection: AsyncConnection, here: Here) -> None:
    """Let nobody else change the person's factors until the transaction ends.

    Raises:
        SessionNotFound: the session was ended meanwhile.
    """
    await connection.execute(
        "select from chatkeep.users where id = %s for no key update", (here.user.id,)
    )
    if not await sessions.still_active(connection, here.session):
        raise SessionNotFound


async def _require_room(connection: AsyncConnection, here: Here) -> None:
    await hold_account(connection, here)
    await connection.execute(
        "delete from chatkeep.factors where user_id = %s and status = 'unverified'"
        " and created_at < now() - %s::interval",
        (here.user.id, _UNVERIFIED_FOR),
    )
    cursor = await connection.execute(
        "select count(*), count(*) filter (where status = 'verified') from chatkeep.factors"
        " where user_id = %s and factor_type <> 'recovery_code'",
        (here.user.id,),
    )
    counted = await cursor.fetchone()
    assert counted is not None  # noqa: S101 -- an aggregate always has a row
    if counted[0] >= AT_MOST:
        raise TooManyFactors
    if counted[1] and here.aal != "aal2":  # verified since the person was located
        raise InsufficientAal


async def _take_away(
    issuer: EmbeddedIssuer, connection: AsyncConnection, user: User, factor: Factor
) -> None:
    await connection.execute(
        "delete from chatkeep.factors where user_id = %s and id = %s", (user.id, factor.id)
    )
    if factor.status == "unverified":
        return
    user_id = issuer.user_id_of(user.id)
    await sessions.weaken(connection, user_id, PROOFS[factor.factor_type])
    # Recovery codes stand in for another factor, so they go with the last one.
    dropped = await connection.execute(
        "delete from chatkeep.factors f where user_id = %s and factor_type = 'recovery_code'"
        " and not exists (select from chatkeep.factors o where o.user_id = f.user_id"
        " and o.factor_type <> 'recovery_code' and o.status = 'verified')",
        (user.id,),
    )
    if dropped.rowcount:
        await sessions.weaken(connection, user_id, PROOFS["recovery_code"])
    mail = notices.changed(
        issuer,
        user,
        "factor_removed",
        factor_type=factor.factor_type,
        name=factor.friendly_name,
    )
    await run_within(connection, *mail)
