"""Sessions that ended long ago: forgotten, a few at a time.

What has ended stays refused without its row (`chatkeep.revocations` remembers that as long as
a token of it could live). Rows are kept a while because their owner's networks are told by
them (`limits.known_networks`), and because somebody may ask what happened.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, LiteralString

from chatkeep.db import AUTH

if TYPE_CHECKING:
    from chatkeep.db import Database

KEPT_FOR: Final = timedelta(days=90)
#: A row of another issuer's session says nothing more once its token has expired.
_FOREIGN_KEPT_FOR: Final = timedelta(days=2)
_AT_ONCE: Final = 1000
_TURNS_AT_MOST: Final = 200

_DELETE: LiteralString = (
    "delete from public.user_sessions where (user_id, id) in"
    " (select user_id, id from public.user_sessions where "
)
_A_FEW: LiteralString = " limit %s for update skip locked)"
_RULES: Final[tuple[tuple[LiteralString, timedelta], ...]] = (
    ("expires_at < now() - %s", KEPT_FOR),
    ("revoked_at < now() - %s and not is_active", KEPT_FOR),
    ("expires_at < now() - %s and is_active and issuer <> 'embedded'", _FOREIGN_KEPT_FOR),
)


async def forget(db: Database) -> int:
    """Delete what is old, and return how many; what is left over comes the next time.

    Each turn is a transaction of its own, and passes over rows that somebody is using: no
    sign-in waits, and several nodes can do this at once.

    Raises:
        Unavailable: the database is away; what was deleted stays deleted.
    """
    deleted = 0
    for condition, kept_for in _RULES:
        for _ in range(_TURNS_AT_MOST):
            statement = _DELETE + condition + _A_FEW
            turn = await db.execute(AUTH, statement, (kept_for, _AT_ONCE))
            deleted += turn
            if turn < _AT_ONCE:
                break
    return deleted
