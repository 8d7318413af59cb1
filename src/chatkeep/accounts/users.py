"""People as a token and the `/user` route show them, and the queries that find them.

Nothing here is secret, and nothing here changes anybody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from chatkeep.accounts.roles import roles_in
from chatkeep.db import AUTH, Query
from chatkeep.errors import UserNotFound

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from chatkeep.db import Database

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


@dataclass(frozen=True, slots=True)
class Total:
    """How many there are."""

    total: int


def by_id(user_id: UUID) -> Query[User]:
    """Return the query for one user."""
    return Query(_USER + " where u.id = %s", (user_id,), User)


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


def banned() -> Query[User]:
    """Return the query for who is suspended now; a thousand at most."""
    return Query(_USER + " where u.banned_until > now() order by u.id limit 1000", (), User)


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
