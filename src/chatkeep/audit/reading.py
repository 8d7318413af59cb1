"""Reading the audit log, newest first. The role that reads it can add nothing to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, LiteralString

from chatkeep.db import ADMIN

if TYPE_CHECKING:
    from datetime import datetime

    from chatkeep.db import Database

AT_MOST: Final = 1000


_SELECTED: LiteralString = (
    "select number, greatest('0001-01-02Z', least(at, '9999-12-30Z')) as at, action, outcome,"
    " reason, user_id, actor, issuer, session_id, request_id, host(address) as address,"
    " device, details from chatkeep.audit_log where true"
)
_REST: LiteralString = (
    " and (%s::text is null or action = %s) and (%s::text is null or outcome = %s)"
    " and (%s::timestamptz is null or at >= %s) and (%s::timestamptz is null or at < %s)"
    " and (%s::bigint is null or number < %s) order by number desc limit %s"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event: who did what to whom, from where, and what came of it."""

    number: int
    at: datetime
    action: str
    outcome: str
    reason: str | None
    user_id: str | None
    actor: str | None
    issuer: str | None
    session_id: str | None
    request_id: str | None
    address: str | None
    device: str | None
    details: dict[str, Any]


async def listed(
    db: Database,
    *,
    user_id: str | None = None,
    action: str | None = None,
    outcome: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Entry]:
    """Return entries, newest first, *limit* of them and `AT_MOST` at most.

    *user_id* is whom they are about; *since* is part of the time that is asked for, *until*
    is not. The next page is what comes *before* the last number of this one.
    """
    rest = (
        *(action, action, outcome, outcome, since, since, until, until, before, before),
        max(1, min(limit, AT_MOST)),
    )
    if user_id is None:
        return await db.fetch(ADMIN, _SELECTED + _REST, rest, row=Entry)
    # Asked by itself, so that its index is used.
    return await db.fetch(
        ADMIN, _SELECTED + " and user_id = %s" + _REST, (user_id, *rest), row=Entry
    )
