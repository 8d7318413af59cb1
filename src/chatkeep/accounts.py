"""People who sign in with our own issuer: their row, their identities, their address.

Addresses are kept in one spelling (`normal_address`), because two spellings of one
mailbox must not be two accounts. Passwords arrive here hashed; sessions are
`chatkeep.sessions`. Everything runs as the role that may look people up and may not read
what they say.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, LiteralString

import msgspec
from email_validator import EmailNotValidError, validate_email
from psycopg.rows import class_row

from chatkeep.db import AUTH, Query
from chatkeep.errors import EmailAddressInvalid, Invalid, UserNotFound
from chatkeep.roles import roles_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from psycopg import AsyncConnection

    from chatkeep.db import Database

#: What a person may keep about themselves travels in each of their tokens.
MAX_METADATA_BYTES: Final = 4096
_LONGEST_ADDRESS = 254  # RFC 5321 section 4.5.3.1.3
_NUMBER_LIMIT = 2**63

_USER: LiteralString = (
    "select u.id, u.email, u.email_confirmed_at, u.new_email, u.confirmation_sent_at,"
    " u.recovery_sent_at, u.email_change_sent_at, u.reauthentication_sent_at, u.user_metadata,"
    " u.app_metadata, u.role, u.aud,"
    " u.is_anonymous, u.last_sign_in_at, u.created_at, u.updated_at, u.invited_at, u.deleted_at,"
    # An operator may have typed 'infinity', which Python has no date for.
    " case when u.banned_until > now() then least(u.banned_until, '9999-12-31Z') end"
    "  as banned_until,"
    " (select coalesce(jsonb_agg(to_jsonb(i) order by i.created_at), '[]')"
    "  from chatkeep.identities i where i.user_id = u.id) as identities,"
    " (select coalesce(jsonb_agg(jsonb_build_object('id', f.id, 'friendly_name',"
    "  f.friendly_name, 'factor_type', f.factor_type, 'status', f.status, 'created_at',"
    "  f.created_at, 'updated_at', f.updated_at, 'last_challenged_at', f.last_challenged_at)"
    "  order by f.created_at, f.id), '[]')"
    "  from chatkeep.factors f where f.user_id = u.id) as factors"
    " from chatkeep.users u"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person as the token and the `/user` route show them: nothing secret.

    *banned_until* is None for whoever is not suspended now.
    """

    id: UUID
    email: str | None
    email_confirmed_at: datetime | None
    new_email: str | None
    confirmation_sent_at: datetime | None
    recovery_sent_at: datetime | None
    email_change_sent_at: datetime | None
    reauthentication_sent_at: datetime | None
    user_metadata: dict[str, Any]
    app_metadata: dict[str, Any]
    role: str
    aud: str
    is_anonymous: bool
    banned_until: datetime | None
    last_sign_in_at: datetime | None
    created_at: datetime
    updated_at: datetime
    invited_at: datetime | None
    deleted_at: datetime | None
    identities: list[dict[str, Any]]
    factors: list[dict[str, Any]]

    @property
    def has_second_factor(self) -> bool:
        """Whether a second factor was verified, so that a password alone is not enough."""
        return any(one["status"] == "verified" for one in self.factors)

    @property
    def roles(self) -> frozenset[str]:
        """The roles that `app_metadata` names, which no person can write."""
        return roles_in(self.app_metadata)

    @property
    def is_banned(self) -> bool:
        """Whether the account was suspended when it was read."""
        return self.banned_until is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a password is checked against. *confirmed*: somebody may sign in with it."""

    id: UUID
    password_hash: str | None = field(repr=False)
    confirmed: bool = True


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


def normal_address(text: str) -> str:
    """Return the one spelling under which this e-mail address is kept.

    Lower case throughout: mailboxes that differ in case only do not exist in practice,
    and people do not remember how they typed it. The network is not asked, and `.test` is a
    domain like any other: it is there to try things with.

    Raises:
        EmailAddressInvalid: it cannot be an address.
    """
    if len(text) > _LONGEST_ADDRESS:
        raise EmailAddressInvalid
    try:
        checked = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise EmailAddressInvalid from error
    return unicodedata.normalize("NFC", checked.normalized.lower())


def storable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return *metadata* as it will come back from the database, if it fits into a token.

    Raises:
        Invalid: it is too large or too deep, or holds a number beyond 64 bits.
    """
    try:
        kept = {name: _written_out(value) for name, value in metadata.items()}
        size = len(msgspec.json.encode(kept))
    except RecursionError as error:
        raise Invalid("User metadata is nested too deeply") from error
    if size > MAX_METADATA_BYTES:
        raise Invalid(f"User metadata must not be longer than {MAX_METADATA_BYTES} bytes")
    return kept


def _written_out(value: object) -> object:
    # PostgreSQL writes 9e18 out in full, and so large a number nobody reads back.
    if isinstance(value, int | float) and abs(value) >= _NUMBER_LIMIT:
        raise Invalid("User metadata must not contain numbers beyond 64 bits")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _written_out(one) for name, one in value.items()}
    return [_written_out(one) for one in value] if isinstance(value, list) else value


# --- statements that others put into one round trip with their own -----------------------


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
            ' %s::jsonb, \'{"provider": "email", "providers": ["email"]}\') returning id',
            (user_id, email, password_hash, confirmed, confirmed, _json(metadata)),
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


def by_id(user_id: UUID) -> Query[User]:
    """Return the query for one user."""
    return Query(_USER + " where u.id = %s", (user_id,), User)


@dataclass(frozen=True, slots=True)
class Total:
    """How many there are."""

    total: int


_MATCHES: LiteralString = (
    " (%s::text is null or u.email ilike %s or u.user_metadata->>'full_name' ilike %s"
    " or u.id::text = %s)"
)


def listed(
    *,
    text: str | None = None,
    newest_first: bool = True,
    limit: int,
    offset: int = 0,
    after: tuple[str, str] | None = None,
) -> Query[User]:
    """Return the query for *limit* users, those whose address or full name has *text*.

    After *offset* of them, or *after* the one that was made then and has that id.
    """
    moment, user_id = after or (None, None)
    params = (*_matching(text), moment, moment, user_id, limit, offset)
    if newest_first:
        return Query(
            _USER
            + " where"
            + _MATCHES
            + " and (%s::text is null or (u.created_at, u.id) < (%s::timestamptz, %s::uuid))"
            " order by u.created_at desc, u.id desc limit %s offset %s",
            params,
            User,
        )
    return Query(
        _USER
        + " where"
        + _MATCHES
        + " and (%s::text is null or (u.created_at, u.id) > (%s::timestamptz, %s::uuid))"
        " order by u.created_at, u.id limit %s offset %s",
        params,
        User,
    )


def counted(*, text: str | None = None) -> Query[Total]:
    """Return the query for how many users `listed` would find in all."""
    return Query(
        "select count(*) as total from chatkeep.users u where" + _MATCHES,  # noqa: S608 -- ours
        _matching(text),
        Total,
    )


def _matching(text: str | None) -> tuple[str | None, ...]:
    if not text:
        return (None, None, None, None)
    escaped = re.sub(r"([\\%_])", r"\\\1", text)
    return (text, f"%{escaped}%", f"%{escaped}%", text.lower())


def holding(user_id: UUID) -> Query[Any]:
    """Return the statement that holds an account's row until the transaction ends.

    Whoever uses up a token or code of it does this first, as a change of the password does:
    in another order the two would wait for each other.
    """
    return Query("select id from chatkeep.users where id = %s for update", (user_id,), _Touched)


def by_email(email: str) -> Query[User]:
    """Return the query for the user who has this address, as kept."""
    return Query(_USER + " where u.email = %s", (email,), User)


def by_session(session_id: UUID) -> Query[User]:
    """Return the query for the user whose session this is, ended or not."""
    return Query(
        # Whatever prefix our issuer's ids have, they end with its own.
        _USER + " join public.user_sessions s on u.id = right(s.user_id, 36)::uuid"
        " where s.id = %s and s.issuer = 'embedded'",
        (session_id,),
        User,
    )


# --- what stands alone --------------------------------------------------------------------


async def get_user(db: Database, user_id: UUID) -> User:
    """Return the user.

    Raises:
        UserNotFound: there is no such user.
    """
    (found,) = await db.fetch_all(AUTH, by_id(user_id))
    if not found:
        raise UserNotFound
    user: User = found[0]
    return user


async def find_credential(db: Database, email: str) -> Credential | None:
    """Return what the password for *email* (as kept) is checked against, if anybody has it."""
    found = await db.fetch(
        AUTH,
        "select id, password_hash, email_confirmed_at is not null as confirmed"
        " from chatkeep.users where email = %s",
        (email,),
        row=Credential,
    )
    return found[0] if found else None


async def get_credential(db: Database, user_id: UUID) -> Credential:
    """Return what *user_id*'s password is checked against.

    Raises:
        UserNotFound: there is no such user.
    """
    found = await db.fetch(
        AUTH,
        "select id, password_hash, email_confirmed_at is not null as confirmed"
        " from chatkeep.users where id = %s",
        (user_id,),
        row=Credential,
    )
    if not found:
        raise UserNotFound
    return found[0]


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
        '  || \'{"provider": "email", "providers": ["email"]}\' else app_metadata end,'
        " password_hash = coalesce(%s, password_hash), user_metadata = %s::jsonb,"
        " updated_at = now() where id = %s",
        (*[change.email] * 5, change.password_hash, _json(kept), user_id),
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


@dataclass(frozen=True, slots=True)
class _Metadata:
    user_metadata: dict[str, Any]


#: The constraint that says: another account has that address.
ADDRESS_TAKEN: Final = "users_email"


def _identity(user_id: UUID, email: str, *, verified: bool = False) -> dict[str, Any]:
    return {
        "sub": str(user_id),
        "email": email,
        "email_verified": verified,
        "phone_verified": False,
    }


def _json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
