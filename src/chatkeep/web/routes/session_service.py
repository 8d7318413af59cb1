"""Log out, and end a session by its id: for clients that are no Supabase client.

The same routes under `/auth`, `/api/auth` and bare. What ends here also ends at the issuer, if
that can be asked; here it ends in any case.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from chatkeep.administration.administrators import require_administrator, require_fresh
from chatkeep.errors import BadRequest, Forbidden, NotFound, TokenInvalid
from chatkeep.sessions import own as own_sessions
from chatkeep.sessions.administration import end_session_of
from chatkeep.web import schemas
from chatkeep.web.auth import SignedIn
from chatkeep.web.problems import described
from chatkeep.web.refresh_cookie import clear_refresh_cookie, kept_in_cookie
from chatkeep.web.services import Services, ServicesDep
from chatkeep.web.session_cookies import clear_session_cookie, previous_sessions

if TYPE_CHECKING:
    from chatkeep.principal import Principal
    from chatkeep.sessions.refresh_cookies import Kept

_AT_ISSUER: Final = "x-log-out-at-issuer"
#: What a browser keeps of the signed-in person besides cookies. Those are named one by one,
#: because "cookies" would also take those of other applications on the same domain.
_CLEARED: Final = '"cache", "storage"'
#: A token that says no end is refused for so long after its session was ended.
_NO_END: Final = timedelta(days=400)
#: A session that its issuer may go on renewing; as `chatkeep.session_ended` has it.
_RENEWED_FOR: Final = timedelta(days=30)
_LONGEST_TOKEN: Final = 16_384


class LogOutRequest(schemas.Request):
    """The refresh token of the session, if it is another issuer's and in no cookie.

    An OpenID provider ends what goes with its refresh token, not with an access token.
    """

    refresh_token: Annotated[str, Field(max_length=_LONGEST_TOKEN)] | None = None


class RevokeRequest(schemas.Request):
    """Which session to end: its id in the list of sessions, or the one its issuer gave it."""

    session_id: Annotated[str, Field(min_length=1, max_length=1024)]
    refresh_token: Annotated[str, Field(max_length=_LONGEST_TOKEN)] | None = None


class SessionEndedAnswer(BaseModel):
    """Whether a session was ended."""

    success: bool
    revoked: bool


router = APIRouter()
_routes = APIRouter(tags=["tokens"])


@_routes.post("/logout", responses=described(422))
async def log_out(
    request: Request,
    response: Response,
    who: SignedIn,
    services: ServicesDep,
    body: LogOutRequest | None = None,
) -> SessionEndedAnswer:
    """End the session of this request, at once and everywhere, and clear what a browser has."""
    ended = await _end_own(who, services, reason="logout")
    for cookie in await previous_sessions(request, services):
        await services.browser_sessions.end(cookie, reason="logout")
    await services.embedded.revocations.catch_up()
    clear_session_cookie(request, services)
    clear_refresh_cookie(request, services)
    response.headers["clear-site-data"] = _CLEARED
    if ended:  # once for a session, because what is shown beside it is remembered for long
        shown = body.refresh_token if body is not None else None
        await _end_at_issuer(request, response, services, who, shown)
    return SessionEndedAnswer(success=True, revoked=(who.session_id or who.token_id) is not None)


@_routes.post("/session/revoke", responses=described(404, 422))
async def revoke_session(
    request: Request, response: Response, body: RevokeRequest, who: SignedIn, services: ServicesDep
) -> SessionEndedAnswer:
    """End a session of the caller; an administrator ends anybody's.

    For everybody else, one of somebody else is answered as one that never was.
    """
    await services.sightings.write()
    listed = await own_sessions.list_sessions(services.db, who.user_id)
    own = any(one.is_of(who) and body.session_id in {str(one.id), one.reference} for one in listed)
    if not await own_sessions.end_named(
        services.db, who.user_id, body.session_id, reason="revoked"
    ):
        await _end_anybodys(services, who, body.session_id)
    await services.embedded.revocations.catch_up()
    if own:  # of another one, nobody here has a token to show its issuer
        await _end_at_issuer(request, response, services, who, body.refresh_token)
    return SessionEndedAnswer(success=True, revoked=True)


for _prefix in ("/auth", "/api/auth", ""):
    router.include_router(_routes, prefix=_prefix)


async def _end_own(who: Principal, services: Services, *, reason: str) -> bool:
    """End the session of *who*; return whether there is one, and no other request was faster.

    Raises:
        Unavailable: the database is away.
    """
    await services.sightings.write()
    reference = who.session_id or who.token_id
    if reference is None:
        return False
    if await own_sessions.end_named(services.db, who.user_id, reference, reason=reason):
        return True
    if await services.embedded.revocations.is_revoked_now(who):
        return False
    now = datetime.now(UTC)
    until = (who.expires_at or now + _NO_END) + timedelta(minutes=5)
    if who.session_id is not None and who.issuer != services.embedded.issuer.name:
        until = max(until, now + _RENEWED_FOR)
    await services.embedded.revocations.revoke_session(who.issuer, reference, until=until)
    return True


async def _end_anybodys(services: Services, who: Principal, named: str) -> None:
    """End the session with that id of our list, whoever has it, for an administrator."""
    try:
        session_id = UUID(named)
        await require_administrator(services.embedded, who, services.settings.admin_roles)
    except (ValueError, Forbidden) as error:
        raise NotFound from error
    await services.authenticator.confirm(who)
    max_age = timedelta(seconds=services.settings.admin_sign_in_age_s)
    await require_fresh(services.db, who, max_age)
    if not await end_session_of(services.db, None, session_id, actor=who.user_id):
        raise NotFound


async def _end_at_issuer(
    request: Request, response: Response, services: Services, who: Principal, shown: str | None
) -> None:
    """Tell another issuer; say in a header if that could not be done: there it may live on."""
    if who.issuer == services.embedded.issuer.name:
        return
    kept = _kept(request, services)
    if shown is None and kept is not None and kept.issuer == who.issuer:
        shown = kept.token
    done = await services.foreign_sessions.end(
        who.issuer, access_token=_bearer_of(request, who), refresh_token=shown
    )
    if done == "unavailable":
        response.headers[_AT_ISSUER] = done


def _kept(request: Request, services: Services) -> Kept | None:
    try:
        return kept_in_cookie(request, services)
    except (BadRequest, TokenInvalid):
        return None  # nothing that could be ended; it is taken back either way


def _bearer_of(request: Request, who: Principal) -> str | None:
    if who.credential != "bearer":
        return None
    return request.headers["authorization"].partition(" ")[2]
