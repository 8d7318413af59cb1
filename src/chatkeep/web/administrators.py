"""Who may administer outside `/auth/v1`: people with one of `ADMIN_ROLES`.

The session is confirmed in the database for each request, and so are the roles of our own
accounts: whoever loses a role or is signed out is so at once. A second factor that somebody
has must have been shown. What changes something asks for a sign-in not long ago as well.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from chatkeep.administration.administrators import require_administrator, require_fresh
from chatkeep.errors import Forbidden, StepUpRequired
from chatkeep.principal import Principal
from chatkeep.web.api_document import TakesBearer
from chatkeep.web.auth import signed_in_strictly
from chatkeep.web.second_factor import note_step_up
from chatkeep.web.services import services_of


async def administrator(request: Request) -> Principal:
    """Return the administrator who calls, for routes that only read.

    Raises:
        Unauthenticated, TokenInvalid, CrossSiteRequest, Unavailable: as `signed_in_strictly`.
        Forbidden: they have none of the roles.
        StepUpRequired: they have a second factor that this session has not shown.
    """
    who = await signed_in_strictly(request)
    services = services_of(request)
    try:
        await require_administrator(services.embedded, who, services.settings.admin_roles)
    except (Forbidden, StepUpRequired) as error:
        _note(request, who, error)
        raise
    return who


async def fresh_administrator(request: Request) -> Principal:
    """Return the administrator who calls, for routes that change something.

    Raises:
        StepUpRequired: they signed in longer than ADMIN_SIGN_IN_AGE ago; and as `administrator`.
    """
    who = await administrator(request)
    services = services_of(request)
    max_age = timedelta(seconds=services.settings.admin_sign_in_age_s)
    try:
        await require_fresh(services.db, who, max_age)
    except StepUpRequired as error:
        _note(request, who, error)
        raise
    return who


def _note(request: Request, who: Principal, error: Forbidden | StepUpRequired) -> None:
    if isinstance(error, StepUpRequired):
        note_step_up(request, who)
        return
    services_of(request).embedded.notices.note(
        "administration.refused",
        reason=error.code,
        user_id=who.user_id,
        issuer=who.issuer,
        session_id=who.session_id,
    )


Administrator = Annotated[Principal, Depends(TakesBearer(administrator))]
FreshAdministrator = Annotated[Principal, Depends(TakesBearer(fresh_administrator))]
