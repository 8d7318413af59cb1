"""Ending sessions, whoever does it: each with its entry in the audit log.

Which sessions, the caller's statement says. It returns `id`, `user_id` and `issuer` of those
that it ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chatkeep import audit
from chatkeep.db import AUTH
from chatkeep.sessions.records import ENDED_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from chatkeep.db import Database, Query
    from chatkeep.ended_credentials import Revoked
    from chatkeep.sessions.records import Ended


async def end(
    db: Database,
    ending: Query[Ended],
    reason: str,
    *,
    actor: str | None = None,
    details: Mapping[str, Any] | None = None,
    together_with: Sequence[Query[Revoked]] = (),
) -> list[UUID]:
    """Run *ending* in one transaction with *together_with*; return which sessions it ended.

    *actor* is who did it, if not the person themselves.
    """
    written = audit.of_change(ending, "session.ended", reason=reason, actor=actor, details=details)
    ended, *_ = await db.fetch_all(AUTH, written, *together_with)
    return [one.id for one in ended]


async def end_in_turns(
    db: Database,
    ending: Query[Ended],
    reason: str,
    *,
    actor: str | None = None,
    details: Mapping[str, Any] | None = None,
    with_first: Sequence[Query[Revoked]] = (),
) -> list[UUID]:
    """Run *ending*, which ends `ENDED_AT_ONCE` at most, until it finds no more.

    The newest end first, and nobody else's log-out waits for more than one turn. The first
    turn is one transaction with *with_first*.
    """
    ended = turn = await end(
        db, ending, reason, actor=actor, details=details, together_with=with_first
    )
    # Somebody else may have ended a few of a turn; who ends all of them goes on as we do.
    while len(turn) > ENDED_AT_ONCE // 2:
        turn = await end(db, ending, reason, actor=actor, details=details)
        ended = ended + turn
    return ended
