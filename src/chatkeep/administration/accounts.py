"""What an administrator does to accounts: make, change, suspend and delete them.

Whoever that is: a server with the secret key, a person with the role, an operator at the
command line. Each change stands in the audit log, in the same transaction, with who made
it; whoever is suspended or deleted by it, or gets another password, is signed out everywhere
in that transaction too. Nothing here shows what people said.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec
from psycopg.rows import class_row

from chatkeep import accounts, audit, passwords
from chatkeep.accounts import storable
from chatkeep.administration.administrators import keep_one
from chatkeep.db import AUTH, ConstraintViolated, run_within
from chatkeep.ended_credentials import everything_of
from chatkeep.errors import Invalid, UserAlreadyExists, UserNotFound
from chatkeep.ids import new_id
from chatkeep.issuers import ROLES_OF_SERVERS
from chatkeep.personal_keys import records as keys

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from psycopg import AsyncConnection

    from chatkeep.accounts import User
    from chatkeep.issuance import EmbeddedIssuer

NOT_BANNED: Final = timedelta(0)
#: Whoever is banned for longer is banned for so long.
LONGEST_BAN: Final = timedelta(days=365 * 1000)
_LONGEST_ROLE: Final = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How an account shall be; None leaves it as it is.

    The metadata are merged into what is there; a member that is null is taken out.
    *email_confirmed* can be made true and not untrue again. *banned_for* counts from now,
    `NOT_BANNED` lifts a ban. Of *password* and *password_hash* one at most.
    """

    email: str | None = None
    email_confirmed: bool | None = None
    password: str | None = field(default=None, repr=False)
    password_hash: str | None = field(default=None, repr=False)
    user_metadata: Mapping[str, Any] | None = None
    app_metadata: Mapping[str, Any] | None = None
    role: str | None = None
    banned_for: timedelta | None = None

    @property
    def bans(self) -> bool:
        """Whether it suspends the account."""
        return self.banned_for is not None and self.banned_for > NOT_BANNED

    @property
    def changed(self) -> list[str]:
        """What it says something about, for the log."""
        names = ("email", "email_confirmed", "user_metadata", "app_metadata", "role")
        found = [name for name in names if getattr(self, name) is not None]
        return [*found, *(["password"] if self.password or self.password_hash else [])]


@dataclass(frozen=True, slots=True)
class _Before:
    email: str | None
    is_deleted: bool
    user_metadata: dict[str, Any]
    app_metadata: dict[str, Any]


async def create_account(
    issuer: EmbeddedIssuer, wanted: Wanted, *, actor: str, user_id: UUID | None = None
) -> User:
    """Make an account, signed in nowhere; *user_id* if it is to have a certain one.

    Raises:
        Invalid: no address, or metadata, a role or a password that cannot be.
        EmailAddressInvalid, WeakPassword, EmailExists.
        UserAlreadyExists: somebody has that id.
    """
    if not wanted.email:
        raise Invalid("Cannot create a user without an email address")
    _require_sound(wanted)
    email, stored = accounts.normal_address(wanted.email), await _stored(issuer, wanted)
    person = user_id or UUID(new_id())
    metadata = (_merged({}, wanted.user_metadata), _merged(accounts.BY_EMAIL, wanted.app_metadata))
    with _constraints():
        async with issuer.db.acting_as(AUTH) as connection:
            await connection.execute(
                "insert into chatkeep.users (id, email, password_hash, email_confirmed_at,"
                " user_metadata, app_metadata, role, banned_until) values (%s, %s, %s,"
                " case when %s then now() end, %s::jsonb, %s::jsonb, coalesce(%s, 'authenticated'),"
                " now() + %s::interval)",
                (
                    *(person, email, stored, bool(wanted.email_confirmed)),
                    *(*map(_json, metadata), wanted.role, _ban(wanted)),
                ),
            )
            await _put_identity(connection, person)
            await _note(connection, issuer, person, "user.created", actor)
            if wanted.bans:
                await _note(connection, issuer, person, "user.banned", actor)
    return await accounts.get_user(issuer.db, person)


async def change_account(
    issuer: EmbeddedIssuer,
    person: UUID,
    wanted: Wanted,
    *,
    actor: str,
    reason: str | None = None,
    administrators: Collection[str] = (),
) -> User:
    """Change an account and return it as it is then; *reason* is why, for the log.

    A ban leaves somebody with one of the roles *administrators*.

    A new password and a ban end every session at once and everywhere, and sign-ins that wait
    for the exchange of a code. A new password and a new address make what was mailed worthless.

    Raises:
        UserNotFound: also of an account of which only the id is kept.
        EmailExists, EmailAddressInvalid, WeakPassword.
        Invalid: metadata, a role or a password that cannot be.
        LastAdministrator: nobody else has one of *administrators*.
    """
    _require_sound(wanted)
    email = accounts.normal_address(wanted.email) if wanted.email else None
    stored = await _stored(issuer, wanted)
    with _constraints():
        async with issuer.db.acting_as(AUTH) as connection:
            if wanted.bans and administrators:
                await keep_one(connection, person, administrators)
            before = await _locked(connection, person)
            if before.is_deleted:  # it could not sign in, and would keep the address from others
                raise UserNotFound
            await _put(connection, person, before, wanted, email, stored)
            if email is not None or wanted.email_confirmed:
                await _put_identity(connection, person)
            if email is not None or stored is not None:
                await _forget_mailed(connection, person)
            if wanted.bans:
                await _forget_codes(connection, person)
            ended = 0
            if wanted.bans or stored is not None:
                why = "banned" if wanted.bans else "password_changed"
                ended = await _sign_out_everywhere(connection, issuer, person, why)
            await _note_change(connection, issuer, person, wanted, actor, reason, ended)
    await issuer.revocations.catch_up()
    return await accounts.get_user(issuer.db, person)


async def delete_account(
    issuer: EmbeddedIssuer,
    person: UUID,
    *,
    actor: str,
    keep_row: bool = False,
    administrators: Collection[str] = (),
) -> None:
    """Delete an account, its ways to sign in and its sessions, at once and everywhere.

    With *keep_row* its id stays taken, and nothing that says who it was. What they said
    stays where it is, and nobody can read it.

    Raises:
        UserNotFound: there is no such account.
        LastAdministrator: nobody else has one of the roles *administrators*.
    """
    async with issuer.db.acting_as(AUTH) as connection:
        if administrators:
            await keep_one(connection, person, administrators)
        await _locked(connection, person)
        # Before what takes the one row of numbers: others have a key's row, and wait for that.
        await run_within(connection, keys.erasing(issuer.user_id_of(person)))
        ended = await _sign_out_everywhere(connection, issuer, person, "deleted")
        await connection.execute(
            "delete from public.user_sessions where user_id = %s", (issuer.user_id_of(person),)
        )
        if keep_row:
            await _empty(connection, person)
        else:
            await connection.execute("delete from chatkeep.users where id = %s", (person,))
        details = {"kept": keep_row, "sessions_ended": ended}
        await _note(connection, issuer, person, "user.deleted", actor, details=details)
    await issuer.revocations.catch_up()


# --- steps ------------------------------------------------------------------------------------


async def _locked(connection: AsyncConnection, person: UUID) -> _Before:
    """Read what a change is merged into, and keep everybody else from changing it."""
    cursor = connection.cursor(row_factory=class_row(_Before), binary=True)
    await cursor.execute(
        "select email, deleted_at is not null as is_deleted, user_metadata, app_metadata"
        " from chatkeep.users where id = %s for update",
        (person,),
    )
    found = await cursor.fetchone()
    if found is None:
        raise UserNotFound
    return found


async def _put(
    connection: AsyncConnection,
    person: UUID,
    before: _Before,
    wanted: Wanted,
    email: str | None,
    stored: str | None,
) -> None:
    await connection.execute(
        "update chatkeep.users set email = coalesce(%s, email),"
        " new_email = case when %s::text is null then new_email end,"
        " email_confirmed_at = case when %s then coalesce(email_confirmed_at, now())"
        "  else email_confirmed_at end,"
        " password_hash = coalesce(%s, password_hash), user_metadata = %s::jsonb,"
        " app_metadata = %s::jsonb, role = coalesce(%s, role),"
        " banned_until = case when %s then now() + %s::interval else banned_until end,"
        " updated_at = now() where id = %s",
        (
            *(email, email, bool(wanted.email_confirmed), stored),
            _json(_merged(before.user_metadata, wanted.user_metadata)),
            _json(_merged(before.app_metadata, wanted.app_metadata)),
            *(wanted.role, wanted.banned_for is not None, _ban(wanted), person),
        ),
    )


async def _put_identity(connection: AsyncConnection, person: UUID) -> None:
    """Let the e-mail identity say the address of the account, and whether it is confirmed."""
    await connection.execute(
        "insert into chatkeep.identities (user_id, id, provider, provider_id, identity_data)"
        " select id, gen_random_uuid(), 'email', id::text, jsonb_build_object('sub', id::text,"
        " 'email', email, 'email_verified', email_confirmed_at is not null,"
        " 'phone_verified', false) from chatkeep.users where id = %s and email is not null"
        " on conflict (provider, provider_id) where issuer is null do update"
        " set identity_data = excluded.identity_data, updated_at = now()",
        (person,),
    )


async def _forget_mailed(connection: AsyncConnection, person: UUID) -> None:
    """Make links and codes worthless that went to an address, or stood for a sign-in."""
    await connection.execute("delete from chatkeep.one_time_tokens where user_id = %s", (person,))
    await _forget_codes(connection, person)


async def _forget_codes(connection: AsyncConnection, person: UUID) -> None:
    """Make codes of PKCE flows worthless: each is a session that has not begun yet."""
    await connection.execute(
        "delete from chatkeep.authorization_codes where user_id = %s", (person,)
    )


async def _empty(connection: AsyncConnection, person: UUID) -> None:
    await _forget_mailed(connection, person)
    await connection.execute(
        "delete from chatkeep.webauthn_credentials where user_id = %s", (person,)
    )
    await connection.execute("delete from chatkeep.factors where user_id = %s", (person,))
    await connection.execute("delete from chatkeep.identities where user_id = %s", (person,))
    await connection.execute(
        "update chatkeep.users set email = null, new_email = null, password_hash = null,"
        " user_metadata = '{}', app_metadata = '{}', deleted_at = now(), updated_at = now()"
        " where id = %s",
        (person,),
    )


async def _sign_out_everywhere(
    connection: AsyncConnection, issuer: EmbeddedIssuer, person: UUID, reason: str
) -> int:
    """End every session, and every token that has none; return how many sessions there were."""
    user_id = issuer.user_id_of(person)
    cursor = await connection.execute(
        "update public.user_sessions set is_active = false, reason = %s"
        " where user_id = %s and is_active",
        (reason, user_id),
    )
    await run_within(connection, everything_of(user_id))
    return cursor.rowcount


async def _note_change(
    connection: AsyncConnection,
    issuer: EmbeddedIssuer,
    person: UUID,
    wanted: Wanted,
    actor: str,
    reason: str | None,
    ended: int,
) -> None:
    if wanted.changed:
        changed = {"changed": wanted.changed, "sessions_ended": ended}
        await _note(connection, issuer, person, "user.changed", actor, reason, changed)
    length = _ban(wanted)
    if length is not None:
        banned = {"seconds": int(length.total_seconds()), "sessions_ended": ended}
        await _note(connection, issuer, person, "user.banned", actor, reason, banned)
    elif wanted.banned_for is not None:
        await _note(connection, issuer, person, "user.unbanned", actor, reason)


async def _note(
    connection: AsyncConnection,
    issuer: EmbeddedIssuer,
    person: UUID,
    action: str,
    actor: str,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    written = audit.entry(
        action,
        reason=reason,
        user_id=issuer.user_id_of(person),
        actor=actor,
        issuer=issuer.issuer.name,
        details=details,
    )
    await audit.write(connection, written)


async def _stored(issuer: EmbeddedIssuer, wanted: Wanted) -> str | None:
    if wanted.password is None:
        return wanted.password_hash
    return await issuer.passwords.hash(wanted.password)


def _require_sound(wanted: Wanted) -> None:
    if wanted.password is not None and wanted.password_hash is not None:
        raise Invalid("Only a password or a password hash should be provided")
    if wanted.password is not None:
        passwords.require_acceptable(wanted.password)
    if wanted.password_hash is not None:
        passwords.require_importable(wanted.password_hash)
    if wanted.role is not None and (
        wanted.role in ROLES_OF_SERVERS
        or not wanted.role.isidentifier()
        or len(wanted.role) > _LONGEST_ROLE
    ):
        raise Invalid("role must be a name, and not that of a server's key")


def _merged(before: Mapping[str, Any], change: Mapping[str, Any] | None) -> dict[str, Any]:
    after = {**before, **(change or {})}
    return storable({name: value for name, value in after.items() if value is not None})


def _ban(wanted: Wanted) -> timedelta | None:
    return min(wanted.banned_for, LONGEST_BAN) if wanted.banned_for and wanted.bans else None


@contextmanager
def _constraints() -> Iterator[None]:
    try:
        with accounts.address_must_be_free():
            yield
    except ConstraintViolated as error:
        if error.name == "users_pkey":
            raise UserAlreadyExists from error
        raise


def _json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
