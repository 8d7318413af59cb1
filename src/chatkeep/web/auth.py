"""Who may call: every route names it as a typed parameter.

Only translates between a request and `authentication.Authenticator`, which decides.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import Depends
from starlette.requests import Request

from chatkeep.authentication import Presented
from chatkeep.errors import (
    AccountNotFound,
    NoActiveSession,
    TokenInvalid,
    TokenRevoked,
    Unauthenticated,
)
from chatkeep.principal import Principal
from chatkeep.request_origin import request_origin
from chatkeep.web.api_document import TakesBearer
from chatkeep.web.key_access import guessing, require_reach
from chatkeep.web.presented import authorization_alone, presented_by
from chatkeep.web.same_origin import require_same_origin
from chatkeep.web.second_factor import require_arrival
from chatkeep.web.services import Services, services_of
from chatkeep.web.session_cookies import clear_if_over, renew_if_due

_log = logging.getLogger(__name__)

_SUPPORT_REFUSAL: Final = "Invalid or expired JWT token"


async def identify(request: Request) -> Principal | None:
    """Return who calls, None when the request has no credential.

    Raises:
        TokenInvalid: a credential is there and bad (its subclasses say more where allowed).
        CredentialsConflict: there are two and they disagree.
        CrossSiteRequest: a cookie says who calls, and another site sent it.
        RateLimited: they call too often.
        StepUpRequired: they owe a second factor, and this is not on the way to it.
    """
    try:
        return await _identify(request)
    except (AccountNotFound, NoActiveSession) as error:
        raise TokenRevoked from error  # a 404 here would say that the route is not there


async def _identify(request: Request) -> Principal | None:
    services = services_of(request)
    shown = authorization_alone(request.scope["headers"])
    remembered = None if shown is None else services.authenticator.remembered(shown)
    if remembered is not None:
        return await _noted(request, services, remembered)
    presented = presented_by(request)
    try:
        async with guessing(request, presented):
            principal = await services.authenticator.identify(presented)
    except TokenInvalid as error:
        clear_if_over(request, services, presented, error)
        raise
    if principal is None:
        return None
    if principal.credential == "cookie":
        settings = services.settings
        require_same_origin(request, own=settings.public_url, allowed=settings.cors_origins)
        await renew_if_due(request, services, principal)
    await _noted(request, services, principal)
    require_arrival(request, principal)
    return principal


async def _noted(request: Request, services: Services, principal: Principal) -> Principal:
    """Count the request of *principal*, and remember where they were seen."""
    state = request.scope["state"]
    state["principal"] = principal
    window = timedelta(seconds=services.settings.token_refresh_window_s)
    state["token_expiring"] = principal.expires_within(window, now=datetime.now(UTC))
    await services.limits.spend("api", principal.user_id)
    if principal.credential == "api_key":
        services.personal_keys.note(principal)
        require_reach(request, principal)
    elif principal.credential != "development_header":
        origin = request_origin.get()
        services.sightings.note(
            principal, user_agent=origin.user_agent, address=state["chatkeep_client"].address
        )
    return principal


async def signed_in(request: Request) -> Principal:
    """Return who calls; refuse when nobody is signed in."""
    principal = await identify(request)
    if principal is None:
        raise Unauthenticated
    return principal


async def signed_in_strictly(request: Request) -> Principal:
    """Return who calls, confirmed in the database for this very request.

    For what must not be a moment behind a log-out: other routes go by memory, which is told
    within milliseconds and, on a node that is cut off, believed for five seconds. Costs one
    round trip. A route asks for it by taking `who: StrictlySignedIn`; routes of an
    administrator can call this as their first dependency. Routes of `/auth/v1` that take
    `SignedInHere` need it not: they read the session from the database anyway.

    Raises:
        TokenRevoked: the session has ended, or the person is banned.
        Unavailable: the database is away.
    """
    principal = await signed_in(request)
    await services_of(request).authenticator.confirm(principal)
    return principal


async def signed_in_by_bearer(request: Request) -> Principal:
    """Return who the bearer is, whatever cookies the browser has, to a page of our own.

    Raises:
        CrossSiteRequest: another site sent it, or nobody who says where they are.
        Unauthenticated, TokenInvalid, Unavailable: as `signed_in`.
    """
    services = services_of(request)
    presented = Presented(authorization=presented_by(request).authorization)
    async with guessing(request, presented):
        principal = await services.authenticator.identify(presented)
    if principal is None:
        raise Unauthenticated
    settings = services.settings
    require_same_origin(request, own=settings.public_url, allowed=settings.cors_origins)
    await _noted(request, services, principal)
    require_arrival(request, principal)
    return principal


async def signed_in_on_rest(request: Request) -> Principal:
    """Return who calls, with the wording that the REST conversation routes have promised."""
    try:
        return await signed_in(request)
    except TokenInvalid as error:
        raise type(error)("Invalid or expired Supabase token") from error


async def signed_in_on_support(request: Request) -> Principal:
    """Return who calls, with the refusals that support chats have promised, word for word.

    401 `Invalid or expired JWT token`; 404 `User not found with provided email` and `No
    active sessions found for user`, of a token of Better Auth; 503 while it cannot be asked.
    """
    try:
        principal = await _identify(request)
    except (AccountNotFound, NoActiveSession):
        raise
    except TokenInvalid as error:
        _log.info("support: token seen, refused: %s", error.code)
        raise type(error)(_SUPPORT_REFUSAL) from error
    if principal is None:
        raise Unauthenticated(_SUPPORT_REFUSAL)
    return principal


async def anybody() -> None:
    """Let everybody in, and look at no credential: for public routes."""


SignedIn = Annotated[Principal, Depends(TakesBearer(signed_in))]
StrictlySignedIn = Annotated[Principal, Depends(TakesBearer(signed_in_strictly))]
SignedInByBearer = Annotated[Principal, Depends(TakesBearer(signed_in_by_bearer))]
SignedInOnRest = Annotated[Principal, Depends(TakesBearer(signed_in_on_rest))]
SignedInOnSupport = Annotated[Principal, Depends(TakesBearer(signed_in_on_support))]
Caller = Annotated[Principal | None, Depends(TakesBearer(identify))]
Anybody = Annotated[None, Depends(anybody)]
