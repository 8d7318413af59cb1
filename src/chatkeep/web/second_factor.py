"""What a password alone must not do, for people who have a second factor or need one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkeep import accounts
from chatkeep.errors import StepUpRequired

if TYPE_CHECKING:
    from chatkeep.accounts import Standing
    from chatkeep.principal import Principal
    from chatkeep.web.services import Services


async def require_second_factor(who: Principal, services: Services) -> Standing | None:
    """Return how the account of *who* stands, asked for now; None: it is none of ours, or gone.

    Raises:
        StepUpRequired: this session has not shown the second factor that they have or need, or
            that counts no more.
    """
    account = services.embedded.subject_of(who.user_id)
    standing = account and await accounts.find_standing(services.db, account, who)
    if not standing:
        return None
    aal = standing.aal_of(who)
    lacks_one = services.embedded.is_too_weak(
        aal, roles=standing.roles, is_anonymous=standing.is_anonymous
    )
    if lacks_one or (standing.has_second_factor and aal < "aal2"):
        raise StepUpRequired(acr_values="aal2")
    return standing
