"""A person's own sessions: where they are signed in, and ending it.

Of every issuer, unless a function says otherwise. Each ending stands in the audit log, in
its own transaction, and takes effect on every node when that is committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from chatkeep import audit
from chatkeep.db import Query, as_user
from chatkeep.ended_credentials import everything_of
from chatkeep.sessions.ending import end, end_in_turns
from chatkeep.sessions.records import ENDED_AT_ONCE, Ended

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from psycopg import AsyncConnection

    from chatkeep.db import Database
    from chatkeep.principal import Principal
    from chatkeep.sessions.records import Session

_LISTED_AT_MOST: Final = 200

Scope = Literal["global", "local", "others"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedInDevice:
    """A session as its owner sees it, whichever issuer began it."""

    id: UUID
    issuer: str
    reference: str
    device: str | None
    address: str | None
    created_at: datetime
    last_activity_at: datetime
    expires_at: datetime

    def is_of(self, who: Principal) -> bool:
        """Whether the credential of *who* belongs to this session."""
        return (self.issuer, self.reference) == (who.issuer, who.session_id or who.token_id)


async def list_sessions(db: Database, user_id: str) -> list[SignedInDevice]:
    """Return where a person is signed in, last used first; row-level security looks on."""
    return await db.fetch(
        as_user(user_id),
        "select id, issuer, coalesce(reference, id::text) as reference, device,"
        " host(address) as address, created_at, last_activity_at,"
        " least(expires_at, '9999-12-31Z') as expires_at from public.user_sessions"
        " where user_id = %s and is_active and expires_at > now()"
        " order by last_activity_at desc, id desc limit %s",
        (user_id, _LISTED_AT_MOST),
        row=SignedInDevice,
    )


async def end_own(db: Database, user_id: str, session_id: UUID, *, reason: str) -> bool:
    """End one session of a person, of whichever issuer; return whether there was one."""
    ending = Query(
        "update public.user_sessions set is_active = false, reason = %s"
        " where user_id = %s and id = %s and is_active and expires_at > now()"
        " returning id, user_id, issuer",
        (reason, user_id, session_id),
        Ended,
    )
    return bool(await end(db, ending, reason))


async def end_named(db: Database, user_id: str, name: str, *, reason: str) -> bool:
    """End the session of a person that has *name*, ours or its issuer's; return whether it was.

    What issuers name alike are all ended: better one sign-in more than one too few ended.
    """
    ending = Query(
        "update public.user_sessions set is_active = false, reason = %s"
        " where user_id = %s and is_active and expires_at > now()"
        " and (id::text = %s or reference = %s) returning id, user_id, issuer",
        (reason, user_id, name, name),
        Ended,
    )
    return bool(await end(db, ending, reason))


async def end_sessions(db: Database, session: Session, scope: Scope) -> list[UUID]:
    """End this session (local), all but this (others), or all (global); return which.

    Only sessions of the same person, and only those our own issuer began.
    """
    ending = Query(
        "update public.user_sessions set is_active = false, reason = 'logout'"
        " where is_active and (user_id, id) in (select user_id, id from public.user_sessions"
        "  where user_id = %s and issuer = 'embedded' and is_active"
        "  and case %s when 'local' then id = %s when 'others' then id <> %s else true end"
        "  order by last_activity_at desc, id desc limit %s) returning id, user_id, issuer",
        (session.user_id, scope, session.id, session.id, ENDED_AT_ONCE),
        Ended,
    )
    return await end_in_turns(db, ending, "logout", details={"scope": scope})


async def end_all_but(db: Database, who: Principal, *, reason: str) -> list[UUID]:
    """End the caller's sessions, of every issuer, but the one they call with."""
    ending = Query(
        "update public.user_sessions set is_active = false, reason = %s"
        " where is_active and (user_id, id) in (select user_id, id from public.user_sessions"
        "  where user_id = %s and is_active"
        "  and (issuer, coalesce(reference, id::text)) is distinct from (%s, %s)"
        "  order by last_activity_at desc, id desc limit %s) returning id, user_id, issuer",
        (
            *(reason, who.user_id),
            *(who.issuer, who.session_id or who.token_id, ENDED_AT_ONCE),
        ),
        Ended,
    )
    return await end_in_turns(db, ending, reason)


async def end_everything(
    db: Database, user_id: str, *, reason: str, actor: str | None = None
) -> list[UUID]:
    """End every session of a person, of every issuer, and every token issued before now.

    *actor* is who did it, if not the person themselves.
    """
    ending = Query(
        "update public.user_sessions set is_active = false, reason = %s"
        " where is_active and (user_id, id) in (select user_id, id from public.user_sessions"
        "  where user_id = %s and is_active order by last_activity_at desc, id desc limit %s)"
        " returning id, user_id, issuer",
        (reason, user_id, ENDED_AT_ONCE),
        Ended,
    )
    return await end_in_turns(db, ending, reason, actor=actor, with_first=(everything_of(user_id),))


async def end_all(connection: AsyncConnection, user_id: str, *, reason: str) -> list[UUID]:
    """End all of a person's sessions, of every issuer, in the caller's transaction."""
    ending = audit.of_change(
        Query(
            "update public.user_sessions set is_active = false, reason = %s"
            " where user_id = %s and is_active returning id, user_id, issuer",
            (reason, user_id),
            Ended,
        ),
        "session.ended",
        reason=reason,
    )
    return [one.id for one in await audit.write(connection, ending)]


async def end_others(connection: AsyncConnection, session: Session, *, reason: str) -> list[UUID]:
    """End the person's other sessions, of every issuer, in the caller's transaction."""
    ending = audit.of_change(
        Query(
            "update public.user_sessions set is_active = false, reason = %s"
            " where user_id = %s and is_active and id <> %s returning id, user_id, issuer",
            (reason, session.user_id, session.id),
            Ended,
        ),
        "session.ended",
        reason=reason,
    )
    return [one.id for one in await audit.write(connection, ending)]
