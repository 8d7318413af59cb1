"""How an account stands now: looked up where what its person may do depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from chatkeep.accounts.roles import roles_in
from chatkeep.db import AUTH

if TYPE_CHECKING:
    from chatkeep.db import Database
    from chatkeep.principal import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What an account is, as far as it decides what its person may do.

    *session_aal* is what the session of whoever asked for it has shown; None: it is none.
    """

    is_anonymous: bool
    has_second_factor: bool
    app_metadata: dict[str, Any]
    session_aal: str | None = None

    @property
    def roles(self) -> frozenset[str]:
        """The roles that `app_metadata` names, which no person can write."""
        return roles_in(self.app_metadata)

    def aal_of(self, who: Principal) -> str:
        """Return what *who*, with whom this was found, has shown that counts still.

        A token or cookie goes on saying that a factor was shown which was taken away since.
        """
        return who.aal if self.session_aal is None else min(who.aal, self.session_aal)


async def find_standing(
    db: Database, account: UUID, who: Principal | None = None
) -> Standing | None:
    """Return how *account*, and the session of *who* has it, stand; None: gone or suspended."""
    found = await db.fetch(
        AUTH,
        "select u.is_anonymous, u.app_metadata, exists (select from chatkeep.factors f"
        "  where f.user_id = u.id and f.status = 'verified') as has_second_factor,"
        " (select s.aal from public.user_sessions s where s.user_id = %s and s.id = %s)"
        "  as session_aal"
        " from chatkeep.users u where u.id = %s and u.deleted_at is null"
        " and (u.banned_until is null or u.banned_until <= now())",
        (who and who.user_id, _session_of(who), account),
        row=Standing,
    )
    return found[0] if found else None


def _session_of(who: Principal | None) -> UUID | None:
    try:
        return UUID(who.session_id) if who is not None and who.session_id else None
    except ValueError:
        return None
