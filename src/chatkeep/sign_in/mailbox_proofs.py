"""What it means that somebody has used what was mailed to the address of an account.

Where addresses count as confirmed without a mail, whoever made an account, or changed its
address, may have typed somebody else's. The first proof that its reader is here ends that:
whatever lets anybody in and is older than the proof is dropped (docs/decisions/0010).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, LiteralString

from chatkeep import accounts, audit, one_time_tokens
from chatkeep.db import Query, run_within
from chatkeep.errors import OtpExpired
from chatkeep.mail import Mail, queued
from chatkeep.personal_keys import records as keys
from chatkeep.providers import identities
from chatkeep.sessions import own as own_sessions
from chatkeep.sign_in import authorization_codes, email_changes

if TYPE_CHECKING:
    from uuid import UUID

    from psycopg import AsyncConnection

    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.one_time_tokens import Kind, Waiting

_REASON: Final = "address_proved"
_HALVES: Final[frozenset[Kind]] = frozenset({"email_change_new", "email_change_current"})
#: These answer the sign-up or the invitation that made the account.
_AS_SIGNED_UP: Final[frozenset[Kind]] = frozenset({"signup", "invite"})
#: Nobody has shown that the mailbox is theirs, and somebody may have been in the account. What
#: was imported may write an address otherwise than it is kept.
_UNPROVEN: Final[LiteralString] = (
    "select u.id, u.password_hash is not null as has_password from chatkeep.users u"
    " where u.id = %s and u.email = %s"
    " and (u.email_confirmed_at is not null or u.last_sign_in_at is not null)"
    " and not exists (select from chatkeep.identities i where i.user_id = u.id"
    "  and lower(i.identity_data ->> 'email') = u.email"
    "  and i.identity_data ->> 'email_verified' = 'true')"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """*done*: this was all that is needed. *dropped*: what let others in has ended."""

    done: bool
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class _Unproven:
    id: UUID
    has_password: bool


@dataclass(frozen=True, slots=True)
class _Dropped:
    id: UUID


async def prove(issuer: EmbeddedIssuer, connection: AsyncConnection, token: Waiting) -> Proved:
    """Use *token* up and do what it proves, in the caller's transaction.

    Raises:
        OtpExpired: it was used meanwhile, or the account has another address now.
        EmailExists, UserBanned: see `email_changes.half_confirmed`.
    """
    _, used = await run_within(
        connection, accounts.holding(token.user_id), one_time_tokens.using(token)
    )
    if not used:
        raise OtpExpired
    noted = audit.entry(
        "one_time_token.used",
        user_id=issuer.user_id_of(token.user_id),
        issuer=issuer.issuer.name,
        details={"kind": token.kind},
    )
    if token.kind in _HALVES:
        await run_within(connection, noted)
        return Proved(done=await email_changes.half_confirmed(issuer, connection, token))
    as_signed_up = token.kind in _AS_SIGNED_UP
    dropped = not as_signed_up and await _drop_access(issuer, connection, token)
    confirmation = accounts.confirmation(token.user_id, token.email, as_signed_up=as_signed_up)
    confirmed, *_ = await run_within(connection, *confirmation, noted)
    if not confirmed:
        raise OtpExpired
    return Proved(done=True, dropped=dropped)


async def _drop_access(issuer: EmbeddedIssuer, connection: AsyncConnection, token: Waiting) -> bool:
    """Drop what lets anybody in, if nobody has proved the address before; return whether."""
    (found,) = await run_within(
        connection, Query(_UNPROVEN, (token.user_id, token.email), _Unproven)
    )
    if not found:
        return False
    person = issuer.user_id_of(token.user_id)
    # Keys and what was mailed before the sessions, whose end takes the one row of numbers.
    ended_keys = await audit.write(connection, keys.ending(person, reason=_REASON))
    dropped = await run_within(connection, *_dropping(token.user_id))
    ended = await own_sessions.end_all(connection, person, reason=_REASON)
    passkeys, factors, linked = (len(rows) for rows in dropped[-4:-1])
    details = {
        "password": found[0].has_password,
        "sessions": len(ended),
        "passkeys": passkeys,
        "factors": factors,
        "identities": linked,
        "api_keys": len(ended_keys),
    }
    if not any(details.values()):
        return False
    mail = Mail(kind="access_dropped", to=token.email, user_id=person)
    entry = audit.entry(
        "user.access_dropped", user_id=person, issuer=issuer.issuer.name, details=details
    )
    await run_within(
        connection,
        identities.listing_providers(token.user_id),
        queued(mail, issuer.outgoing),
        entry,
    )
    return True


def _dropping(user_id: UUID) -> tuple[Query[Any], ...]:
    """Return the statements; of those before the last, the three that are counted."""
    mine = (user_id,)
    return (
        one_time_tokens.dropping(user_id),
        authorization_codes.dropping(user_id),
        Query(
            "delete from chatkeep.webauthn_credentials where user_id = %s and factor_id is null"
            " returning id",
            mine,
            _Dropped,
        ),
        # With their codes and keys.
        Query("delete from chatkeep.factors where user_id = %s returning id", mine, _Dropped),
        Query(
            "delete from chatkeep.identities where user_id = %s and provider <> 'email'"
            " returning id",
            mine,
            _Dropped,
        ),
        Query(
            "update chatkeep.users set password_hash = null, new_email = null where id = %s"
            " returning id",
            mine,
            _Dropped,
        ),
    )
