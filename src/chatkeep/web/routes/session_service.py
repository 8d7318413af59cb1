"""Renew a token, log out, and end a session by its id: for clients that are no Supabase client.

The same routes under `/auth`, `/api/auth` and bare. Refresh tokens are those of our own
issuer; whoever has another issuer's renews it there. The refresh cookie is for browsers that
should not hold the token in a script: its value is in no body.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from chatkeep import sessions
from chatkeep.devices import Device
from chatkeep.errors import (
    BadRequest,
    CredentialsConflict,
    Invalid,
    NotFound,
    RateLimited,
    TokenInvalid,
    Unavailable,
)
from chatkeep.web import schemas
from chatkeep.web.auth import Anybody, SignedIn
from chatkeep.web.cookies import add_cookie, cookie_line, read_cookies
from chatkeep.web.problems import described
from chatkeep.web.same_origin import require_same_origin
from chatkeep.web.schemas import PersonAnswer
from chatkeep.web.services import Parts, Services
from chatkeep.web.session_cookies import clear_session_cookie, previous_sessions

if TYPE_CHECKING:
    from chatkeep.issuance import Grant
    from chatkeep.principal import Principal

_LONGEST_REFRESH_TOKEN: Final = 16_384
#: What a browser keeps of the signed-in person besides cookies. Those are named one by one,
#: because "cookies" would also take those of other applications on the same domain.
_CLEARED: Final = '"cache", "storage"'
#: A token that says no end is refused for so long after its session was ended.
_NO_END: Final = timedelta(days=400)


class RefreshRequest(schemas.Request):
    """A refresh token; without it the one in the refresh cookie is used."""

    refresh_token: Annotated[str, Field(max_length=_LONGEST_REFRESH_TOKEN)] | None = None
    cookie: Annotated[
        bool, Field(description="Put the new refresh token into the cookie, not into the answer.")
    ] = False


class RevokeRequest(schemas.Request):
    """Which session to end: its id in the list of sessions, or the one its issuer gave it."""

    session_id: Annotated[str, Field(min_length=1, max_length=1024)]


class RefreshAnswer(BaseModel):
    """New tokens of the same session. `refresh_token` is null when it is in the cookie."""

    access_token: str
    token_type: Literal["bearer"]
    expires_in: int
    expires_at: int
    refresh_token: str | None
    user: PersonAnswer


class EndedAnswer(BaseModel):
    """Whether a session was ended."""

    success: bool
    revoked: bool


router = APIRouter()
_routes = APIRouter(tags=["tokens"])


@_routes.post("/token/refresh", responses=described(400, 403, 422))
async def refresh(
    request: Request,
    response: Response,
    _: Anybody,
    parts: Parts,
    body: RefreshRequest | None = None,
) -> RefreshAnswer:
    """Exchange a refresh token, from the body or the cookie, for a new one and an access token."""
    await _spend_limit(request, parts)
    wish = body or RefreshRequest()
    shown = _of_cookie(request, parts)
    if shown is not None or wish.cookie:
        settings = parts.settings
        require_same_origin(request, own=settings.public_url, allowed=settings.cors_origins)
    if shown and wish.refresh_token and shown != wish.refresh_token:
        raise CredentialsConflict
    token = wish.refresh_token or shown
    if not token:
        raise BadRequest("Send the refresh token as `refresh_token`, or in its cookie.")
    device = Device.of(request.headers.get("user-agent"), request.state.client.address)
    try:
        grant = await parts.embedded.refresh(token, device)
    except Invalid as error:
        raise BadRequest(error.detail) from error
    in_cookie = wish.cookie or shown is not None
    if in_cookie:
        _set_cookie(response, grant, parts)
    principal = await parts.authenticator.principal_of(grant.access_token)
    return RefreshAnswer(
        access_token=grant.access_token,
        token_type="bearer",  # noqa: S106 -- a kind of token, not a token
        expires_in=grant.expires_in,
        expires_at=grant.expires_at,
        refresh_token=None if in_cookie else grant.refresh_token,
        user=_person(principal),
    )


@_routes.post("/logout")
async def log_out(request: Request, response: Response, who: SignedIn, parts: Parts) -> EndedAnswer:
    """End the session of this request, at once and everywhere, and clear what a browser has."""
    await parts.sightings.write()
    reference = who.session_id or who.token_id
    revoked = reference is not None
    if reference is not None and not await sessions.end_named(
        parts.db, who.user_id, reference, reason="logout"
    ):
        until = (who.expires_at or datetime.now(UTC) + _NO_END) + timedelta(minutes=5)
        await parts.embedded.revocations.revoke_session(who.issuer, reference, until=until)
    for cookie in await previous_sessions(request, parts):
        await parts.browser_sessions.end(cookie, reason="logout")
    await parts.embedded.revocations.catch_up()
    clear_session_cookie(request, parts)
    _clear_cookie(request, parts)
    response.headers["clear-site-data"] = _CLEARED
    return EndedAnswer(success=True, revoked=revoked)


@_routes.post("/session/revoke", responses=described(404, 422))
async def revoke_session(body: RevokeRequest, who: SignedIn, parts: Parts) -> EndedAnswer:
    """End a session of the caller. One of somebody else is answered as one that never was."""
    await parts.sightings.write()
    if not await sessions.end_named(parts.db, who.user_id, body.session_id, reason="revoked"):
        raise NotFound
    await parts.embedded.revocations.catch_up()
    return EndedAnswer(success=True, revoked=True)


for _prefix in ("/auth", "/api/auth", ""):
    router.include_router(_routes, prefix=_prefix)


def _cookie_name(parts: Services) -> str:
    return "__Host-chatkeep_refresh" if parts.settings.production else "chatkeep_refresh"


def _of_cookie(request: Request, parts: Services) -> str | None:
    values = read_cookies(request.headers.getlist("cookie")).get(_cookie_name(parts), ())
    if len(values) > 1:
        # Which of two would be read first is the planter's choice (RFC 6265bis §8.6).
        raise TokenInvalid
    return values[0] if values and values[0] else None


def _set_cookie(response: Response, grant: Grant, parts: Services) -> None:
    response.set_cookie(
        _cookie_name(parts),
        grant.refresh_token,
        max_age=min(parts.settings.refresh_token_expiry_ms // 1000, 7 * 86_400),
        secure=parts.settings.production,
        httponly=True,
        samesite="strict",
    )


def _clear_cookie(request: Request, parts: Services) -> None:
    name, secure = _cookie_name(parts), parts.settings.production
    add_cookie(request, cookie_line(name, "", max_age_s=0, same_site="Strict", secure=secure))


async def _spend_limit(request: Request, parts: Services) -> None:
    """Count a refresh; "busy" if there are too many: on a 429 clients drop the session."""
    try:
        await parts.limits.spend("token", request.state.client.bucket)
    except RateLimited as error:
        raise Unavailable(retry_after_s=error.retry_after_s) from error


def _person(who: Principal) -> PersonAnswer:
    return PersonAnswer(
        id=who.user_id,
        email=who.email,
        name=who.name,
        picture=who.picture,
        email_verified=who.email_verified,
        issuer=who.issuer,
        session_id=who.session_id,
    )
