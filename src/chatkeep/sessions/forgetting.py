"""Sessions that ended long ago: forgotten, a few at a time.

What has ended stays refused without its row (`chatkeep.revocations` remembers that as long as
a token of it could live). Rows are kept a while because their owner's networks are told by
them (`limits.known_networks`), and because somebody may ask what happened.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from chatkeep.batches import in_turns
from chatkeep.db import AUTH

if TYPE_CHECKING:
    from chatkeep.db import Database

KEPT_FOR: Final = timedelta(days=90)
#: A row of another issuer's session says nothing more once its token has expired.
_FOREIGN_KEPT_FOR: Final = timedelta(days=2)


async def forget(db: Database) -> int:
    """Delete what is old, and return how many.

    Rows that somebody is using are passed over and come the next time: no sign-in waits, and
    several nodes can do this at once.

    Raises:
        Unavailable: the database is away; what was deleted stays deleted.
    """
    rules = (_forget_expired, _forget_ended, _forget_foreign)
    return sum([await in_turns(partial(rule, db)) for rule in rules])


async def _forget_expired(db: Database, at_most: int) -> int:
    return await db.execute(
        AUTH,
        "with few as materialized (select user_id, id from public.user_sessions"
        "  where expires_at < now() - %s limit %s for update skip locked)"
        " delete from public.user_sessions s using few"
        " where (s.user_id, s.id) = (few.user_id, few.id)",
        (KEPT_FOR, at_most),
    )


async def _forget_ended(db: Database, at_most: int) -> int:
    return await db.execute(
        AUTH,
        "with few as materialized (select user_id, id from public.user_sessions"
        "  where revoked_at < now() - %s and not is_active limit %s for update skip locked)"
        " delete from public.user_sessions s using few"
        " where (s.user_id, s.id) = (few.user_id, few.id)",
        (KEPT_FOR, at_most),
    )


async def _forget_foreign(db: Database, at_most: int) -> int:
    return await db.execute(
        AUTH,
        "with few as materialized (select user_id, id from public.user_sessions"
        "  where expires_at < now() - %s and is_active and issuer <> 'embedded'"
        "  limit %s for update skip locked)"
        " delete from public.user_sessions s using few"
        " where (s.user_id, s.id) = (few.user_id, few.id)",
        (_FOREIGN_KEPT_FOR, at_most),
    )
