"""How an account is made, confirmed, signed in to and changed.

Most are statements that others put into one round trip with their own.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from psycopg.rows import class_row

from chatkeep.accounts.metadata import storable
from chatkeep.db import ConstraintViolated, Query
from chatkeep.errors import EmailExists, UserNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from psycopg import AsyncConnection

    from chatkeep.accounts.credentials import Credential

#: The constraint that says: another account has that address.
ADDRESS_TAKEN: Final = "users_email"
#: How the metadata that only servers write name the way by an address.
BY_EMAIL: Final = {"provider": "email", "providers": ["email"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a person asks to change about themselves; None leaves it as it is.

    *metadata* is merged into what is there; a member that is null is taken out. With
    *email_proved* they have shown that the mailbox of the new address is theirs.
    """

    email: str | None = None
    email_proved: bool = False
    password_hash: str | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Touched:
    id: UUID


@dataclass(frozen=True, slots=True)
class _Metadata:
    user_metadata: dict[str, Any]


def creation(
    user_id: UUID,
    *,
    email: str,
    password_hash: str | None,
    metadata: Mapping[str, Any],
    confirmed: bool = True,
) -> tuple[Query[Any], ...]:
    """Return the statements that make an account, which signs in at once if *confirmed*.

    They violate `ADDRESS_TAKEN` when somebody has that address.
    """
    return (
        Query(
            "insert into chatkeep.users (id, email, password_hash, email_confirmed_at,"
            " last_sign_in_at, user_metadata, app_metadata)"
            " values (%s, %s, %s, case when %s then now() end, case when %s then now() end,"
            " %s::jsonb, %s::jsonb) returning id",
            (
                *(user_id, email, password_hash, confirmed, confirmed),
                *(_json(metadata), _json(BY_EMAIL)),
            ),
            _Touched,
        ),
        Query(
            "insert into chatkeep.identities"
            " (user_id, id, provider, provider_id, identity_data, last_sign_in_at)"
            " values (%s, gen_random_uuid(), 'email', %s, %s::jsonb,"
            " case when %s then now() end) returning id",
            (user_id, str(user_id), _json(_identity(user_id, email)), confirmed),
            _Touched,
        ),
    )


def confirmation(user_id: UUID, email: str, *, as_signed_up: bool) -> tuple[Query[Any], ...]:
    """Return the statements that confirm an address and note a sign-in by it.

    The first gives no row if the account has another address by now. Unless the proof
    answers the sign-up itself (*as_signed_up*), a password that was chosen before anybody
    had shown that the mailbox is theirs is dropped: it may be a stranger's.
    """
    return (
        Query(
            "update chatkeep.users set password_hash = case when email_confirmed_at is null"
            " and not %s then null else password_hash end,"
            " email_confirmed_at = coalesce(email_confirmed_at, now()),"
            " last_sign_in_at = now(), updated_at = now()"
            " where id = %s and email = %s returning id",
            (as_signed_up, user_id, email),
            _Touched,
        ),
        Query(
            "update chatkeep.identities set last_sign_in_at = now(), updated_at = now(),"
            " identity_data = identity_data || '{\"email_verified\": true}'"
            " where user_id = %s and provider = 'email'"
            " and identity_data->>'email' = %s returning id",
            (user_id, email),
            _Touched,
        ),
    )


@contextmanager
def address_must_be_free() -> Iterator[None]:
    """Refuse what violates `ADDRESS_TAKEN`.

    Raises:
        EmailExists: another account has the address, perhaps since this very moment.
    """
    try:
        yield
    except ConstraintViolated as error:
        if error.name == ADDRESS_TAKEN:
            raise EmailExists from error
        raise


def sign_in(credential: Credential, *, new_hash: str | None = None) -> Query[Any]:
    """Return the statement that notes a sign-in with *credential*.

    It holds the account's row, so that a change of the password waits and then ends the
    session made in the same transaction; it does nothing when the password has been
    changed since it was checked. *new_hash* replaces an outdated hash of the same password.
    """
    return Query(
        "update chatkeep.users set last_sign_in_at = now(),"
        " password_hash = coalesce(%s, password_hash)"
        " where id = %s and password_hash = %s returning id",
        (new_hash, credential.id, credential.password_hash),
        _Touched,
    )


def holding(user_id: UUID) -> Query[Any]:
    """Return the statement that holds an account's row until the transaction ends.

    Whoever uses up a token or code of it does this first, as a change of the password does:
    in another order the two would wait for each other.
    """
    return Query("select id from chatkeep.users where id = %s for update", (user_id,), _Touched)


async def change_user(connection: AsyncConnection, user_id: UUID, change: Change) -> None:
    """Apply *change* in the caller's transaction, and hold the account's row until it ends.

    The transaction violates `ADDRESS_TAKEN` when another account has the address.

    Raises:
        UserNotFound: there is no such user.
        Invalid: the metadata would become too large.
    """
    cursor = connection.cursor(row_factory=class_row(_Metadata), binary=True)
    await cursor.execute(
        "select user_metadata from chatkeep.users where id = %s for update", (user_id,)
    )
    before = await cursor.fetchone()
    if before is None:
        raise UserNotFound
    merged = before.user_metadata | dict(change.metadata or {})
    kept = storable({name: value for name, value in merged.items() if value is not None})
    await connection.execute(
        "update chatkeep.users set email = coalesce(%s, email),"
        " email_confirmed_at = case when %s::text is null then email_confirmed_at else now() end,"
        " new_email = case when %s::text is null then new_email end,"
        # Whoever has an address can come back, and so is anonymous no more.
        " is_anonymous = is_anonymous and %s::text is null,"
        " app_metadata = case when is_anonymous and %s::text is not null then app_metadata"
        "  || %s::jsonb else app_metadata end,"
        " password_hash = coalesce(%s, password_hash), user_metadata = %s::jsonb,"
        " updated_at = now() where id = %s",
        (*[change.email] * 5, _json(BY_EMAIL), change.password_hash, _json(kept), user_id),
    )
    if change.email is not None:
        said = _identity(user_id, change.email, verified=change.email_proved)
        await connection.execute(
            "insert into chatkeep.identities (user_id, id, provider, provider_id, identity_data)"
            " values (%s, gen_random_uuid(), 'email', %s, %s::jsonb)"
            " on conflict (provider, provider_id) where issuer is null do update"
            " set identity_data = excluded.identity_data, updated_at = now()",
            (user_id, str(user_id), _json(said)),
        )


def _identity(user_id: UUID, email: str, *, verified: bool = False) -> dict[str, Any]:
    return {
        "sub": str(user_id),
        "email": email,
        "email_verified": verified,
        "phone_verified": False,
    }


def _json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
