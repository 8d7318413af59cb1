"""What a password alone must not do, for people who have a second factor or need one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chatkeep import accounts
from chatkeep.errors import StepUpRequired
from chatkeep.web.services import services_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from chatkeep.accounts import Standing
    from chatkeep.principal import Principal
    from chatkeep.web.services import Services


#: What a session may do that has its factor still to show, beside all of `/auth/v1`: by method and
#: path, as the route has it. Nobody's chats are in there.
ON_THE_WAY: Final = frozenset(
    {
        ("GET", "/api/access"),
        ("GET", "/api/sessions/watch"),
        *(
            (method, prefix + path)
            for prefix in ("/auth", "/api/auth", "")
            for method, path in (("GET", "/me"), ("POST", "/logout"))
        ),
        *(("POST", f"{prefix}/session") for prefix in ("/auth", "/api/auth", "")),
    }
)


def require_arrival(request: Request, who: Principal) -> None:
    """Refuse who owes a second factor, but on the way to showing it.

    Raises:
        StepUpRequired: they do, and this route is none of `ON_THE_WAY`.
    """
    route = (request.method, getattr(request.scope.get("route"), "path", ""))
    if who.owed_aal is not None and route not in ON_THE_WAY:
        note_step_up(request, who)
        raise StepUpRequired(acr_values=who.owed_aal)


def note_step_up(request: Request, who: Principal) -> None:
    """Take notice for the audit log that *who* was asked for more than they had shown."""
    services_of(request).embedded.notices.note(
        "step_up.refused",
        reason=StepUpRequired.code,
        user_id=who.user_id,
        issuer=who.issuer,
        session_id=who.session_id,
    )


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
    if services.embedded.owes_factor(standing.aal_of(who), standing):
        raise StepUpRequired(acr_values="aal2")
    return standing
