"""Sessions that ended long ago: forgotten, a few at a time.

What has ended stays refused without its row (`chatkeep.revocations` remembers that as long as
a token of it could live). Rows are kept a while because their owner's networks are told by
them (`limits.known_networks`), and because somebody may ask what happened.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chatkeep.db import AUTH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chatkeep.db import Database

KEPT_FOR: Final = timedelta(days=90)
#: A row of another issuer's session says nothing more once its token has expired.
_FOREIGN_KEPT_FOR: Final = timedelta(days=2)
_AT_ONCE: Final = 1000
_TURNS_AT_MOST: Final = 200


async def forget(db: Database) -> int:
    """Delete what is old, and return how many; what is left over comes the next time.

    Each turn is a transaction of its own, and passes over rows that somebody is using: no
    sign-in waits, and several nodes can do this at once.

    Raises:
        Unavailable: the database is away; what was deleted stays deleted.
    """
    rules = (_forget_expired, _forget_ended, _forget_foreign)
    return sum([await _in_turns(rule, db) for rule in rules])


async def _in_turns(rule: Callable[[Database], Awaitable[int]], db: Database) -> int:
    deleted = 0
    for _ in range(_TURNS_AT_MOST):
        turn = await rule(db)
        deleted += turn
        if turn < _AT_ONCE:
            break
    return deleted


async def _forget_expired(db: Database) -> int:
    return await db.execute(
        AUTH,
        "delete from public.user_sessions where (user_id, id) in (select user_id, id"
        " from public.user_sessions where expires_at < now() - %s"
        " limit %s for update skip locked)",
        (KEPT_FOR, _AT_ONCE),
    )


async def _forget_ended(db: Database) -> int:
    return await db.execute(
        AUTH,
        "delete from public.user_sessions where (user_id, id) in (select user_id, id"
        " from public.user_sessions where revoked_at < now() - %s and not is_active"
        " limit %s for update skip locked)",
        (KEPT_FOR, _AT_ONCE),
    )


async def _forget_foreign(db: Database) -> int:
    return await db.execute(
        AUTH,
        "delete from public.user_sessions where (user_id, id) in (select user_id, id"
        " from public.user_sessions where expires_at < now() - %s and is_active"
        " and issuer <> 'embedded' limit %s for update skip locked)",
        (_FOREIGN_KEPT_FOR, _AT_ONCE),
    )
