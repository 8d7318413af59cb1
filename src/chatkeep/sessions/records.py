"""Sessions: one row a signed-in device, which is also its refresh token family.

The database keeps the number of the newest refresh token and nothing that could be used.
The rules of rotation, for the newest number N:

- N is exchanged for N+1;
- N-1 gets N again, the same text, because its successor was never used: the answer was
  lost, or the device slept;
- N-2 gets N-1 again for `GRACE` after N-1 was used, on the network where that was: parallel
  requests that were slow;
- anything older is a copy in other hands: the family ends, in a transaction that is
  committed before the refusal is raised (RFC 9700 section 4.14.2).

Time is the database's, so that all nodes agree. Rows of other issuers' sessions are in
the same table (`sightings` puts them there) and not touched here, but for `is_active`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, LiteralString

from psycopg.rows import class_row

from chatkeep import accounts, audit
from chatkeep.db import AUTH, Query
from chatkeep.errors import (
    Invalid,
    RefreshTokenNotFound,
    RefreshTokenReused,
    SessionExpired,
    UserBanned,
)
from chatkeep.sessions.provider_sessions import columns_of
from chatkeep.sessions.refresh_tokens import RefreshToken

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from psycopg import AsyncConnection

    from chatkeep.accounts import User
    from chatkeep.db import Database
    from chatkeep.devices import Device
    from chatkeep.sessions.provider_sessions import ProviderSession

GRACE: Final = timedelta(seconds=10)
#: `last_activity_at` is not written more often than this.
ACTIVITY_EVERY: Final = timedelta(minutes=1)

#: So many sessions end in one transaction, so that nobody else's log-out waits for long.
ENDED_AT_ONCE: Final = 1000

#: What counts as a second factor in `amr`, besides a password or a mail.
SECOND_FACTORS: Final = ("totp", "mfa/webauthn", "mfa/recovery_code", "passkey")

_COLUMNS: LiteralString = (
    " id, user_id, refresh_counter, aal, amr, is_active, created_at, last_activity_at,"
    " least(expires_at, '9999-12-31Z') as expires_at, expires_at <= now() as expired,"
    " bound_to"
)


_KEPT: LiteralString = (
    "id, user_id, refresh_counter, aal, amr, is_active, created_at, last_activity_at,"
    " expires_at, expired, bound_to"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long a session lives, and how many a person has.

    It ends when it was not refreshed for *idle*, and after *lifetime* however much it is
    used (ASVS 7.3.2). A sign-in beyond *at_most* ends the one that was used least lately.
    """

    idle: timedelta = timedelta(days=7)
    lifetime: timedelta = timedelta(days=30)
    at_most: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One signed-in device. *user_id* is the principal's id, whatever prefix that has."""

    id: UUID
    user_id: str
    refresh_counter: int
    aal: str
    amr: list[dict[str, Any]]
    is_active: bool
    created_at: datetime
    last_activity_at: datetime
    expires_at: datetime
    expired: bool
    bound_to: str | None

    @property
    def usable(self) -> bool:
        """Whether its tokens are still good."""
        return self.is_active and not self.expired


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """A granted refresh: the *successor* of the token that was shown."""

    session: Session
    user: User
    successor: RefreshToken
    #: Whether the successor had been given before.
    again: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """The id of a session that this statement ended."""

    id: UUID


@dataclass(frozen=True, slots=True)
class _Setting:
    set_config: str


# A refresh waits this long for others of the same session, then says "busy": clients
# throw a session away on 409 and 429, and retry on 503.
_BOUNDED_WAIT = Query("select set_config('lock_timeout', '2s', true)", (), _Setting)


def opening(  # noqa: PLR0913 -- the columns of a row, each by its name
    session_id: UUID,
    *,
    user_id: str,
    subject: UUID,
    proof: str,
    password_hash: str | None,
    device: Device,
    bounds: Bounds,
    aal: str = "aal1",
    begun_with: ProviderSession | None = None,
) -> Query[Session]:
    """Return the statement that starts a session of who proved who they are by *proof*.

    *proof* is a method of `amr`, and after a colon the provider that vouched, if one did.
    It gives no row if the account is suspended or gone, or by now has another password than
    *password_hash*, if that is given. Meant for a transaction that holds the account's row.
    """
    opened = Query(
        "insert into public.user_sessions as s"  # noqa: S608 -- of literals of this file
        " (user_id, id, refresh_counter, aal, amr, device, address, bound_to, expires_at,"
        " provider_issuer, provider_subject, provider_session, issued_at)"
        " select %s, %s, 1, %s, jsonb_build_array(jsonb_strip_nulls(jsonb_build_object("
        "'method', split_part(%s::text, ':', 1), 'provider', nullif(split_part(%s, ':', 2), ''),"
        " 'timestamp', extract(epoch from now())::bigint))), %s, %s::inet, %s, now() + %s,"
        " %s, %s, %s, %s"
        " from chatkeep.users u where u.id = %s"
        " and (%s::text is null or u.password_hash = %s)"
        " and (u.banned_until is null or u.banned_until <= now()) and u.deleted_at is null"
        # Whoever suspends the account right now waits, and then ends this session too.
        " for share of u returning" + _COLUMNS + ", issuer",
        (
            *(user_id, session_id, aal, proof, proof, device.name, device.address),
            *(device.bound_to, min(bounds.idle, bounds.lifetime)),
            *columns_of(begun_with),
            *(subject, password_hash, password_hash),
        ),
        Session,
    )
    return audit.of_change(opened, "session.begun", details={"method": proof}, keep=_KEPT)


def beyond(user_id: str, bounds: Bounds) -> Query[Ended]:
    """Return the statement that ends what a person has beyond `Bounds.at_most`.

    So many at a time that nobody waits for it: the next sign-in ends the rest.
    """
    ending = Query(
        "update public.user_sessions set is_active = false, reason = 'too_many_sessions'"
        # Also looked at again: one that somebody else ends meanwhile has ended once.
        " where is_active"
        " and (user_id, id) in (select user_id, id from public.user_sessions where user_id = %s"
        " and is_active and expires_at > now() order by last_activity_at desc, id desc"
        " offset %s limit %s) returning id, user_id, issuer",
        (user_id, bounds.at_most, ENDED_AT_ONCE),
        Ended,
    )
    return audit.of_change(ending, "session.ended", reason="too_many_sessions")


def by_id(session_id: UUID) -> Query[Session]:
    """Return the query for one session of ours, ended or not."""
    return Query(
        "select" + _COLUMNS + " from public.user_sessions where id = %s and issuer = 'embedded'",
        (session_id,),
        Session,
    )


async def rotate_session(
    db: Database, shown: RefreshToken, device: Device, bounds: Bounds
) -> Rotated:
    """Exchange the refresh token *shown*, by the rules at the top; one round trip.

    Raises:
        RefreshTokenNotFound: the session ended, or never was.
        RefreshTokenReused: the token is old; the session is ended now.
        SessionExpired: the session was unused for too long, or is too old.
        UserBanned: the account is suspended, which also ended the session.
        Invalid: the database does not know of so many rotations (it was restored).
        Unavailable: too many others are refreshing the same session.
    """
    _, rotated, killed, _, found, users = await db.fetch_all(
        AUTH,
        _BOUNDED_WAIT,
        audit.of_change(_rotation(shown, device, bounds), "session.refreshed"),
        audit.of_change(
            _end_of_family(shown, device),
            "session.ended",
            reason="refresh_token_reused",
            actor="server",
            details={"generation": shown.counter},
        ),
        audit.of_change(_given_again(shown, device), "session.refreshed", reason="given_again"),
        by_id(shown.session_id),
        accounts.by_session(shown.session_id),
    )
    if killed:
        raise RefreshTokenReused
    if users and users[0].is_banned:
        raise UserBanned
    if not found or not users or not found[0].is_active:
        raise RefreshTokenNotFound
    session: Session = found[0]
    if session.expired:
        raise SessionExpired
    if session.bound_to is not None and session.bound_to != device.bound_to:
        raise RefreshTokenNotFound  # shown by who has it, and not what it is bound to
    if shown.counter > session.refresh_counter:
        raise Invalid("Invalid Refresh Token: Not Issued By This Server")
    return Rotated(
        session=session,
        user=users[0],
        successor=RefreshToken(session_id=session.id, counter=shown.counter + 1),
        again=not rotated,
    )


def _rotation(shown: RefreshToken, device: Device, bounds: Bounds) -> Query[Ended]:
    return Query(
        "update public.user_sessions set refresh_counter = refresh_counter + 1,"
        " refreshed_at = now(), last_activity_at = now(), device = coalesce(%s, device),"
        " address = coalesce(%s::inet, address),"
        " expires_at = least(now() + %s, created_at + %s)"
        " where id = %s and issuer = 'embedded' and refresh_counter = %s"
        " and (bound_to is null or bound_to = %s)"
        " and is_active and expires_at > now() returning id, user_id, issuer",
        (
            *(device.name, device.address, bounds.idle, bounds.lifetime),
            *(shown.session_id, shown.counter, device.bound_to),
        ),
        Ended,
    )


def _end_of_family(shown: RefreshToken, device: Device) -> Query[Ended]:
    # A network is an address, or its /64 in IPv6: a device's own half changes by itself.
    return Query(
        "update public.user_sessions set is_active = false, reason = 'refresh_token_reused'"
        " where id = %s and issuer = 'embedded' and (bound_to is null or bound_to = %s)"
        " and is_active and (%s < refresh_counter - 2"
        " or (%s = refresh_counter - 2 and (refreshed_at <= now() - %s"
        " or network(set_masklen(address, case family(address) when 6 then 64 else 32 end))"
        " is distinct from network(set_masklen(%s::inet, case family(%s::inet) when 6 then 64"
        " else 32 end))))) returning id, user_id, issuer",
        (
            *(shown.session_id, device.bound_to, shown.counter, shown.counter, GRACE),
            *(device.address, device.address),
        ),
        Ended,
    )


def _given_again(shown: RefreshToken, device: Device) -> Query[Ended]:
    """The session, where this transaction gives a successor that was given before."""
    return Query(
        "select id, user_id, issuer from public.user_sessions where id = %s"
        " and issuer = 'embedded' and is_active and expires_at > now()"
        " and (bound_to is null or bound_to = %s)"
        " and %s in (refresh_counter - 1, refresh_counter - 2)"
        " and refreshed_at is distinct from now()",
        (shown.session_id, device.bound_to, shown.counter),
        Ended,
    )


async def note_activity(db: Database, session_id: UUID) -> None:
    """Remember that the session is used now, unless that was written a moment ago."""
    await db.execute(
        AUTH,
        "update public.user_sessions set last_activity_at = now()"
        " where id = %s and is_active and last_activity_at < now() - %s",
        (session_id, ACTIVITY_EVERY),
    )


async def strengthen(
    connection: AsyncConnection, session: Session, proof: str
) -> tuple[Session | None, list[UUID]]:
    """Raise *session* to AAL2, because the person has added *proof*, in the caller's transaction.

    Returns it as it is now (None: it has ended) and which of the person's other sessions were
    ended: those without a second factor. Its refresh token so far counts as a copy from then
    on: whoever took it before must not be handed what the second factor opened.
    """
    cursor = connection.cursor(row_factory=class_row(Session), binary=True)
    await cursor.execute(
        "update public.user_sessions set aal = 'aal2', last_activity_at = now(),"  # noqa: S608 -- of literals of this file
        " refresh_counter = refresh_counter + 3, amr = jsonb_build_array(jsonb_build_object("
        "'method', %s::text, 'timestamp', extract(epoch from now())::bigint)) || coalesce("
        "(select jsonb_agg(one order by place) from jsonb_array_elements(amr) with ordinality"
        " a(one, place) where one->>'method' is distinct from %s), '[]')"
        " where user_id = %s and id = %s and is_active and expires_at > now()"
        " returning" + _COLUMNS,
        (proof, proof, session.user_id, session.id),
    )
    stronger = await cursor.fetchone()
    ending = Query(
        "update public.user_sessions set is_active = false, reason = 'second_factor'"
        " where user_id = %s and is_active and id <> %s and aal <> 'aal2'"
        " returning id, user_id, issuer",
        (session.user_id, session.id),
        Ended,
    )
    written = audit.of_change(ending, "session.ended", reason="second_factor")
    return stronger, [one.id for one in await audit.write(connection, written)]


async def weaken(
    connection: AsyncConnection, user_id: str, proof: str, *, but: UUID | None = None
) -> None:
    """Take *proof* from a person's sessions *but* one, because it proves nothing any more.

    What has no other second factor is at AAL1 from its next refresh on.
    """
    await connection.execute(
        "update public.user_sessions s set amr = left_over.amr, aal = case when exists (select"
        " from jsonb_array_elements(left_over.amr) a(one) where one->>'method' = any(%s))"
        " then 'aal2' else 'aal1' end from (select id, coalesce((select jsonb_agg(one order by"
        " place) from jsonb_array_elements(amr) with ordinality a(one, place)"
        " where one->>'method' is distinct from %s), '[]') as amr from public.user_sessions"
        " where user_id = %s and is_active and id is distinct from %s) left_over"
        " where s.user_id = %s"
        " and s.id = left_over.id and s.amr @> jsonb_build_array("
        "jsonb_build_object('method', %s::text))",
        (list(SECOND_FACTORS), proof, user_id, but, user_id, proof),
    )


async def still_active(connection: AsyncConnection, session: Session) -> bool:
    """Whether the session is still good, and keep it so until the transaction ends."""
    cursor = await connection.execute(
        "select from public.user_sessions where user_id = %s and id = %s and is_active"
        " and expires_at > now() for share",
        (session.user_id, session.id),
    )
    return await cursor.fetchone() is not None
