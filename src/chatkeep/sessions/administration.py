"""Other people's sessions: where they are signed in, and ending it, for administrators.

Sessions of every issuer, and never a token: not even the name that its issuer has for a
session, which would be a claim of one. What is ended is ended everywhere at once, and
stands in the audit log with who did it and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chatkeep import audit
from chatkeep.db import AUTH, Query
from chatkeep.personal_keys import records as keys
from chatkeep.sessions.ending import end
from chatkeep.sessions.own import end_everything
from chatkeep.sessions.records import ENDED_AT_ONCE, Ended

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from uuid import UUID

    from chatkeep.db import Database
    from chatkeep.revocations import Revocations

LISTED_AT_MOST: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOfSomebody:
    """A session as an administrator sees it, ended or not."""

    id: UUID
    user_id: str
    issuer: str
    aal: str
    device: str | None
    address: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    is_active: bool
    ended_at: datetime | None
    reason: str | None


async def list_sessions_of(
    db: Database, user_id: str | None, *, ended: bool = False
) -> list[SessionOfSomebody]:
    """Return where a person (None: anybody) is signed in, last used first.

    With *ended* also what has ended. At most `LISTED_AT_MOST`.
    """
    return await db.fetch(
        AUTH,
        "select id, user_id, issuer, aal, device, host(address) as address, created_at,"
        " last_activity_at as last_seen_at, least(expires_at, '9999-12-31Z') as expires_at,"
        " is_active and expires_at > now() as is_active, revoked_at as ended_at, reason"
        " from public.user_sessions where (%s::text is null or user_id = %s)"
        " and (%s or (is_active and expires_at > now()))"
        " order by last_activity_at desc, id desc limit %s",
        (user_id, user_id, ended, LISTED_AT_MOST),
        row=SessionOfSomebody,
    )


async def end_session_of(
    db: Database, user_id: str | None, session_id: UUID, *, actor: str, reason: str = "revoked"
) -> bool:
    """End one session of *user_id* (None: of whoever has it); return whether it had not ended."""
    ending = Query(
        "update public.user_sessions set is_active = false, reason = %s"
        " where id = %s and (%s::text is null or user_id = %s)"
        " and is_active and expires_at > now() returning id, user_id, issuer",
        (reason, session_id, user_id, user_id),
        Ended,
    )
    return bool(await end(db, ending, reason, actor=actor))


async def force_out(
    db: Database, revocations: Revocations, user_id: str, *, actor: str, reason: str = "forced_out"
) -> int:
    """End everything of a person, of every issuer, also tokens that were never seen here.

    They may sign in again. Returns how many sessions there were.
    """
    await audit.record(
        db, audit.entry("user.forced_out", user_id=user_id, actor=actor, reason=reason)
    )
    ended = await end_everything(db, user_id, reason=reason, actor=actor)
    await revocations.catch_up()
    return len(ended)


async def force_everybody_out(
    db: Database,
    revocations: Revocations,
    issuers: Iterable[str],
    *,
    actor: str,
    reason: str = "everybody_out",
) -> int:
    """End every session of everybody, whoever does it included, and all tokens of *issuers*.

    Returns how many sessions there were. The tokens end first and at once.
    """
    await audit.record(db, audit.entry("everybody.forced_out", actor=actor, reason=reason))
    names = list(issuers)
    for name in names:
        await revocations.revoke_issuer(name)
    ending = Query(
        "update public.user_sessions set is_active = false, reason = %s"
        " where id in (select id from public.user_sessions where is_active limit %s)"
        " and is_active returning id, user_id, issuer",
        (reason, ENDED_AT_ONCE),
        Ended,
    )
    total = 0
    while ended := await end(db, ending, reason, actor=actor):
        total += len(ended)
    await keys.end_everybodys(db, names, reason=reason)
    await revocations.catch_up()
    return total
