"""People of other issuers, kept out here whatever their issuer goes on saying of them.

This server has no account of theirs to suspend. So everything of theirs that is issued until a
moment to come has ended (`revocations`): tokens that they hold, sessions, API keys and streams
at once and on every server, and what their issuer gives them meanwhile when it is first shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatkeep import audit
from chatkeep.administration.accounts import LONGEST_BAN, NOT_BANNED
from chatkeep.db import AUTH
from chatkeep.ended_credentials import everything_until
from chatkeep.issuers.issuer import NAME
from chatkeep.sessions.own import end_everything

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

    from chatkeep.db import Database
    from chatkeep.revocations import Revocations


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspension:
    """That a person is kept out, and until when."""

    user_id: str
    until: datetime


def issuer_of(user_id: str, names: Collection[str], *, bare: bool) -> str | None:
    """Return which other issuer's *user_id* is, "" for the one whose people stand *bare*.

    None: no issuer of *names* (all that are configured) gives such an id.
    """
    name, colon, subject = user_id.partition(":")
    if colon and NAME.fullmatch(name):
        return name if subject and name in names and name != "embedded" else None
    return "" if bare else None


async def suspend(
    db: Database,
    revocations: Revocations,
    user_id: str,
    length: timedelta,
    *,
    actor: str,
    reason: str | None = None,
) -> None:
    """Keep a person of another issuer out for *length* from now, and end everything of theirs."""
    length = min(length, LONGEST_BAN)
    details = {"seconds": int(length.total_seconds())}
    written = audit.entry(
        "user.banned", user_id=user_id, actor=actor, reason=reason, details=details
    )
    await db.fetch_all(AUTH, written, *everything_until(user_id, length))
    await revocations.catch_up()
    await end_everything(db, user_id, reason="banned", actor=actor)
    await revocations.catch_up()


async def lift(
    db: Database,
    revocations: Revocations,
    user_id: str,
    *,
    actor: str,
    reason: str | None = None,
) -> None:
    """Let a person in again, with what their issuer gives them from now on.

    Nothing happens to who is not suspended.
    """
    if not await listed(db, user_id):
        return
    written = audit.entry("user.unbanned", user_id=user_id, actor=actor, reason=reason)
    await db.fetch_all(AUTH, written, *everything_until(user_id, NOT_BANNED))
    await revocations.catch_up()


async def listed(db: Database, user_id: str | None = None) -> list[Suspension]:
    """Return who is suspended now (only *user_id*, if that is given), by id; 1000 at most."""
    return await db.fetch(
        AUTH,
        "select subject as user_id, not_before as until from chatkeep.revocations"
        " where kind = 'user' and issuer = '' and not_before > now()"
        " and (%s::text is null or subject = %s) order by subject limit 1000",
        (user_id, user_id),
        row=Suspension,
    )
