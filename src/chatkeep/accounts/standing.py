"""How an account stands now: looked up where what its person may do depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chatkeep.db import AUTH
from chatkeep.roles import roles_in

if TYPE_CHECKING:
    from uuid import UUID

    from chatkeep.db import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What an account is, as far as it decides what its person may do."""

    is_anonymous: bool
    has_second_factor: bool
    app_metadata: dict[str, Any]

    @property
    def roles(self) -> frozenset[str]:
        """The roles that `app_metadata` names, which no person can write."""
        return roles_in(self.app_metadata)


async def find_standing(db: Database, account: UUID) -> Standing | None:
    """Return how *account* stands, None when it is gone or suspended."""
    found = await db.fetch(
        AUTH,
        "select u.is_anonymous, u.app_metadata, exists (select from chatkeep.factors f"
        "  where f.user_id = u.id and f.status = 'verified') as has_second_factor"
        " from chatkeep.users u where u.id = %s and u.deleted_at is null"
        " and (u.banned_until is null or u.banned_until <= now())",
        (account,),
        row=Standing,
    )
    return found[0] if found else None
