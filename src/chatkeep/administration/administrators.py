"""Who administers, among people: whoever has one of the roles that the operator named.

Roles are what only an operator writes: `app_metadata` of our own accounts, looked up for
each request so that who loses one has lost it, and the claim of other issuers that their
operators write. The first administrator is named at the machine; no account comes with a role.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from chatkeep import accounts, audit
from chatkeep.accounts.roles import roles_in
from chatkeep.db import AUTH, Query, run_within
from chatkeep.errors import Forbidden, LastAdministrator, StepUpRequired, UserNotFound

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import timedelta
    from uuid import UUID

    from psycopg import AsyncConnection

    from chatkeep.db import Database
    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.principal import Principal


@dataclass(frozen=True, slots=True)
class _Found:
    id: UUID


@dataclass(frozen=True, slots=True)
class _Metadata:
    app_metadata: dict[str, Any]


async def require_administrator(
    issuer: EmbeddedIssuer, who: Principal, roles: Collection[str]
) -> None:
    """Refuse who has none of *roles*, or did not show the second factor that they have or need.

    Raises:
        Forbidden: no role, or a name without proof (the development header), or an API key.
        StepUpRequired: the session has not shown the person's second factor.
    """
    own, lacks_factor = who.roles, False
    subject = issuer.subject_of(who.user_id)
    if subject is not None:  # of an account of our own they are looked up
        standing = await accounts.find_standing(issuer.db, subject, who)
        if standing is None:
            raise Forbidden
        own = standing.roles
        lacks_factor = issuer.owes_factor(standing.aal_of(who), standing)
    if who.credential in {"development_header", "api_key"} or own.isdisjoint(roles):
        raise Forbidden
    if lacks_factor:
        raise StepUpRequired(acr_values="aal2")


async def require_fresh(db: Database, who: Principal, max_age: timedelta) -> None:
    """Refuse who signed in longer than *max_age* ago (ASVS 7.5.3), by the clock of the database.

    Raises:
        StepUpRequired: see above; also when the credential does not say.
        Unavailable: the database is away.
    """
    since = who.authenticated_at
    if since is None or await db.now() - since > max_age:
        raise StepUpRequired(max_age=int(max_age.total_seconds()))


async def keep_one(connection: AsyncConnection, person: UUID, roles: Collection[str]) -> None:
    """Refuse, in the caller's transaction, to take the last administrator away.

    Others who do the same to another administrator meanwhile wait.

    Raises:
        LastAdministrator: *person* has one of *roles* and nobody else does.
    """
    (found,) = await run_within(
        connection,
        Query(
            "select id from chatkeep.users where deleted_at is null"
            " and (banned_until is null or banned_until <= now())"
            # As `roles_in` reads them: an object that has the name as a key gives no role.
            " and exists (select from (values (app_metadata->'roles'), (app_metadata->'role'))"
            "  said(one) where case jsonb_typeof(one) when 'array' then one ?| %s"
            "  when 'string' then regexp_split_to_array(one #>> '{}', '\\s+') && %s end)"
            " order by id for update",
            (list(roles), list(roles)),
            _Found,
        ),
    )
    if [one.id for one in found] == [person]:
        raise LastAdministrator


async def grant_role(issuer: EmbeddedIssuer, person: UUID, role: str, *, actor: str) -> bool:
    """Give *person* the role; return whether they did not have it.

    Raises:
        UserNotFound: there is no such account.
    """
    async with issuer.db.acting_as(AUTH) as connection:
        before = await _locked(connection, person)
        if role in roles_in(before):
            return False
        after = {**_without(before, role), "roles": sorted({*roles_in(before), role})}
        await _put(issuer, connection, person, after, "role.granted", role, actor)
    return True


async def revoke_role(
    issuer: EmbeddedIssuer,
    person: UUID,
    role: str,
    *,
    actor: str,
    administrators: Collection[str],
) -> bool:
    """Take the role away, from their next request on; return whether they had it.

    Raises:
        UserNotFound: there is no such account.
        LastAdministrator: it is one of the roles *administrators*, and nobody else has one.
    """
    async with issuer.db.acting_as(AUTH) as connection:
        if role in administrators:
            await keep_one(connection, person, administrators)
        before = await _locked(connection, person)
        if role not in roles_in(before):
            return False
        after = _without(before, role)
        await _put(issuer, connection, person, after, "role.revoked", role, actor)
    return True


async def _locked(connection: AsyncConnection, person: UUID) -> dict[str, Any]:
    (found,) = await run_within(
        connection,
        Query(
            "select app_metadata from chatkeep.users where id = %s and deleted_at is null"
            " for update",
            (person,),
            _Metadata,
        ),
    )
    if not found:
        raise UserNotFound
    metadata: dict[str, Any] = found[0].app_metadata
    return metadata


def _without(app_metadata: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Return the metadata with every role but this one, all of them under `roles`."""
    rest = {name: one for name, one in app_metadata.items() if name not in {"roles", "role"}}
    left = sorted(roles_in(app_metadata) - {role})
    return {**rest, "roles": left} if left else rest


async def _put(
    issuer: EmbeddedIssuer,
    connection: AsyncConnection,
    person: UUID,
    app_metadata: Mapping[str, Any],
    action: str,
    role: str,
    actor: str,
) -> None:
    await connection.execute(
        "update chatkeep.users set app_metadata = %s::jsonb, updated_at = now() where id = %s",
        (msgspec.json.encode(app_metadata).decode(), person),
    )
    written = audit.entry(
        action,
        user_id=issuer.user_id_of(person),
        actor=actor,
        issuer=issuer.issuer.name,
        details={"role": role},
    )
    await audit.write(connection, written)
