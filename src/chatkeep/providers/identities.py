"""Identities at other providers: their rows, and those that decisions about them depend on.

The rows of an account are held by holding the account itself. Which account an identity
belongs to is decided in `linking`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from chatkeep import accounts
from chatkeep.db import Query, run_within
from chatkeep.errors import SessionNotFound, UserNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from psycopg import AsyncConnection

    from chatkeep.providers.proofs import Proof

#: The constraint that says: the identity is somebody's.
TAKEN: Final = "identities_issuer"
#: Providers whose subjects mean the same at every server: what was brought along from another
#: server without the issuer's name is still theirs.
_WORLDWIDE: Final = frozenset(
    {"https://accounts.google.com", "https://github.com", "https://appleid.apple.com"}
)


@dataclass(frozen=True, slots=True)
class _Touched:
    id: UUID


@dataclass(frozen=True, slots=True)
class Known:
    """An identity that is somebody's already."""

    id: UUID
    user_id: UUID


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has an address. *is_proven*: an identity of theirs vouches for it.

    *is_untouched*: nobody has confirmed the address or signed in to the account, ever.
    """

    id: UUID
    is_proven: bool
    is_untouched: bool


@dataclass(frozen=True, slots=True)
class Held:
    """An account, held, its address, and whether it is suspended."""

    id: UUID
    email: str | None
    is_banned: bool


@dataclass(frozen=True, slots=True)
class Mine:
    """One of the identities of an account."""

    id: UUID
    provider: str
    email: str | None
    email_verified: bool


async def find_known(connection: AsyncConnection, proof: Proof) -> Known | None:
    """Return the identity that *proof* is about, if it is somebody's here."""
    (found,) = await run_within(
        connection,
        Query(
            "select id, user_id from chatkeep.identities where provider_id = %s"
            " and (issuer = %s or (issuer is null and provider = %s and %s))"
            " order by issuer nulls last",
            (proof.subject, proof.issuer, proof.provider, proof.issuer in _WORLDWIDE),
            Known,
        ),
    )
    return found[0] if found else None


async def find_owner(connection: AsyncConnection, email: str, *, people: str) -> Owner | None:
    """Return who has *email*, and what is known of how they came by it.

    Proven is an address that an identity of theirs vouches for: a provider's, or that of
    somebody who has followed a link sent there. That an account counts as confirmed proves
    nothing: where no mail is sent every account does. *people* is what the ids of our own
    issuer's people begin with.
    """
    (found,) = await run_within(
        connection,
        Query(
            "select u.id, exists (select from chatkeep.identities i where i.user_id = u.id"
            "  and i.identity_data @> jsonb_build_object('email', u.email,"
            "   'email_verified', true)) as is_proven,"
            " u.email_confirmed_at is null and u.last_sign_in_at is null and not exists"
            "  (select from public.user_sessions s where s.user_id = %s || u.id::text)"
            "  as is_untouched"
            " from chatkeep.users u where u.email = %s for update of u",
            (people, email),
            Owner,
        ),
    )
    return found[0] if found else None


async def hold(connection: AsyncConnection, user_id: UUID) -> Held:
    """Return the account, whose row nobody changes until the transaction ends.

    Raises:
        UserNotFound: there is none.
    """
    (found,) = await run_within(
        connection,
        Query(
            "select id, email, coalesce(banned_until > now(), false) as is_banned"
            " from chatkeep.users where id = %s and deleted_at is null for update",
            (user_id,),
            Held,
        ),
    )
    if not found:
        raise UserNotFound
    held: Held = found[0]
    return held


async def require_session(connection: AsyncConnection, user_id: str, session_id: UUID) -> None:
    """Hold the session, so that it does not end before the transaction.

    Raises:
        SessionNotFound: it has ended.
    """
    (found,) = await run_within(
        connection,
        Query(
            "select id from public.user_sessions where user_id = %s and id = %s and is_active"
            " and expires_at > now() for share",
            (user_id, session_id),
            _Touched,
        ),
    )
    if not found:
        raise SessionNotFound


async def list_held(connection: AsyncConnection, user_id: UUID) -> list[Mine]:
    """Return every identity of an account, the oldest first."""
    (found,) = await run_within(
        connection,
        Query(
            "select id, provider, identity_data ->> 'email' as email,"
            " identity_data -> 'email_verified' = 'true' as email_verified"
            " from chatkeep.identities where user_id = %s order by created_at, id for update",
            (user_id,),
            Mine,
        ),
    )
    return found


async def settle_address(connection: AsyncConnection, held: Held, proof: Proof) -> None:
    """Give an account without an address the provider's, if that is verified and free.

    Somebody who was anonymous is not any more.
    """
    email = proof.email if proof.email_verified and held.email is None else None
    await run_within(
        connection,
        Query(
            "update chatkeep.users u set is_anonymous = false, updated_at = now(),"
            " email = coalesce(u.email, free.email), email_confirmed_at = case"
            "  when free.email is null then u.email_confirmed_at else now() end"
            " from (select case when exists (select from chatkeep.users o where o.email = %s)"
            "  then null else %s::text end as email) free where u.id = %s returning u.id",
            (email, email, held.id),
            _Touched,
        ),
    )


# --- statements ----------------------------------------------------------------------------


def creation(user_id: UUID, proof: Proof) -> tuple[Query[Any], ...]:
    """Return the statements that make an account of *proof*, whose address is good.

    They violate `accounts.ADDRESS_TAKEN` or `TAKEN` when somebody has either.

    Raises:
        Invalid: the provider says more than fits into a token.
    """
    about = accounts.storable(
        {name: value for name, value in proof.data.items() if name != "phone_verified"}
    )
    account = Query(
        "insert into chatkeep.users (id, email, email_confirmed_at, last_sign_in_at,"
        " user_metadata, app_metadata) values (%s, %s::text,"
        " case when %s::text is null then null else now() end, now(), %s::jsonb,"
        " jsonb_build_object('provider', %s::text, 'providers', jsonb_build_array(%s::text)))"
        " returning id",
        (user_id, proof.email, proof.email, _json(about), proof.provider, proof.provider),
        _Touched,
    )
    return account, adding(user_id, proof)


def adding(user_id: UUID, proof: Proof) -> Query[Any]:
    """Return the statement that gives an account an identity, if it is nobody's (`TAKEN`)."""
    return Query(
        "insert into chatkeep.identities"
        " (user_id, id, issuer, provider, provider_id, identity_data, last_sign_in_at)"
        " values (%s, gen_random_uuid(), %s, %s, %s, %s::jsonb, now()) returning id",
        (user_id, proof.issuer, proof.provider, proof.subject, _json(proof.data)),
        _Touched,
    )


def noting(known: Known, proof: Proof) -> Query[Any]:
    """Return the statement that keeps what the provider says of an identity now."""
    return Query(
        # What the provider left out this time (Apple the name) was said before.
        "update chatkeep.identities set identity_data = (identity_data - 'email') || %s::jsonb,"
        " issuer = %s, provider = %s, last_sign_in_at = now(), updated_at = now()"
        " where user_id = %s and id = %s returning id",
        (_json(proof.data), proof.issuer, proof.provider, known.user_id, known.id),
        _Touched,
    )


def signed_in(user_id: UUID) -> Query[Any]:
    """Return the statement that notes a sign-in."""
    return Query(
        "update chatkeep.users set last_sign_in_at = now() where id = %s returning id",
        (user_id,),
        _Touched,
    )


def listing_providers(user_id: UUID) -> Query[Any]:
    """Say in the account, and so in its tokens, which providers it has."""
    return Query(
        "update chatkeep.users u set updated_at = now(), app_metadata = u.app_metadata"
        " || jsonb_build_object('provider', case when has.names ? (u.app_metadata ->> 'provider')"
        "  then u.app_metadata -> 'provider' else has.names -> 0 end, 'providers', has.names)"
        " from (select coalesce(jsonb_agg(provider order by first), '[]') as names"
        "  from (select provider, min(created_at) as first from chatkeep.identities"
        "   where user_id = %s group by provider) each) has where u.id = %s returning u.id",
        (user_id, user_id),
        _Touched,
    )


def emptying(user_id: UUID) -> tuple[Query[Any], ...]:
    """Throw away what somebody left in an account that was never theirs.

    What an operator wrote about it stays: `app_metadata`, its role, that it is suspended.
    """
    mine = (user_id,)
    return (
        Query("delete from chatkeep.identities where user_id = %s returning id", mine, _Touched),
        Query(
            "delete from chatkeep.one_time_tokens where user_id = %s returning user_id as id",
            mine,
            _Touched,
        ),
        Query(
            "delete from chatkeep.authorization_codes where user_id = %s returning user_id as id",
            mine,
            _Touched,
        ),
        Query(
            "delete from chatkeep.recovery_codes where user_id = %s returning user_id as id",
            mine,
            _Touched,
        ),
        Query(
            "delete from chatkeep.factors where user_id = %s returning user_id as id",
            mine,
            _Touched,
        ),
        Query(
            "delete from chatkeep.webauthn_credentials where user_id = %s returning user_id as id",
            mine,
            _Touched,
        ),
        Query(
            "update chatkeep.users set password_hash = null, user_metadata = '{}',"
            " new_email = null, email_confirmed_at = now(), updated_at = now()"
            " where id = %s returning id",
            mine,
            _Touched,
        ),
    )


def removal(held: Held, gone: Mine, rest: Sequence[Mine]) -> tuple[Query[Any], ...]:
    """Return the statements that take *gone* from an account and leave it *rest*.

    Without the identity that is an address and a password there is no password any more; an
    address that only *gone* had gives way to one that another identity vouches for.
    """
    vouched = [one.email for one in rest if one.email and one.email_verified]
    addresses = [one.email for one in rest if one.email]
    email = held.email if held.email in addresses else next(iter(vouched), None)
    return (
        Query(
            "delete from chatkeep.identities where user_id = %s and id = %s returning id",
            (held.id, gone.id),
            _Touched,
        ),
        Query(
            "update chatkeep.users set email = %s::text, email_confirmed_at ="
            " case when %s::text is null then null else email_confirmed_at end,"
            " password_hash = case when %s then null else password_hash end where id = %s"
            " returning id",
            (email, email, gone.provider == "email", held.id),
            _Touched,
        ),
        listing_providers(held.id),
    )


def _json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
