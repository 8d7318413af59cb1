"""Renew a token at whoever issued it: for clients that are no Supabase client.

The same route under `/auth`, `/api/auth` and bare, for our own issuer and for those that are
configured. The refresh cookie is for browsers that should not hold the token in a script: its
value is in no body.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request

from chatkeep.errors import (
    BadRequest,
    CredentialsConflict,
    Invalid,
    RateLimited,
    RefreshTokenNotFound,
    RefreshTokenRefused,
    RefreshTokenReused,
    SessionExpired,
    Unavailable,
    UserBanned,
)
from chatkeep.sessions.foreign import Shown
from chatkeep.sessions.refresh_cookies import Kept
from chatkeep.sessions.refresh_tokens import PREFIX as OURS
from chatkeep.token_binding import NOTHING
from chatkeep.web import schemas
from chatkeep.web.auth import Anybody
from chatkeep.web.gotrue.callers import device_of, proven_of
from chatkeep.web.persons import person_of
from chatkeep.web.problems import described
from chatkeep.web.refresh_cookie import keep_in_cookie, kept_in_cookie
from chatkeep.web.same_origin import require_same_origin
from chatkeep.web.schemas import PersonAnswer
from chatkeep.web.services import Services, ServicesDep

if TYPE_CHECKING:
    from chatkeep.principal import Principal

_LONGEST_TOKEN = 16_384


class RefreshRequest(schemas.Request):
    """A refresh token; without it the one in the refresh cookie is used.

    *issuer* and *access_token* say whose it is, where several issuers renew tokens here.
    """

    refresh_token: Annotated[str, Field(max_length=_LONGEST_TOKEN)] | None = None
    issuer: Annotated[
        str | None, Field(max_length=1024, description="Its name here, or its `iss`.")
    ] = None
    access_token: Annotated[
        str | None,
        Field(max_length=_LONGEST_TOKEN, description="The token to renew, expired or not."),
    ] = None
    cookie: Annotated[
        bool, Field(description="Put the new refresh token into the cookie, not into the answer.")
    ] = False


class RefreshAnswer(BaseModel):
    """New tokens of the same session. `refresh_token` is null when it is in the cookie."""

    access_token: str
    token_type: Literal["bearer", "DPoP"]
    expires_in: int
    expires_at: int
    refresh_token: str | None
    user: PersonAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Renewed:
    principal: Principal
    access_token: str = field(repr=False)
    kept: Kept = field(repr=False)
    token_type: Literal["bearer", "DPoP"] = "bearer"  # noqa: S105 -- a kind of token, not a token


router = APIRouter()
_routes = APIRouter(tags=["tokens"])


@_routes.post("/token/refresh", responses=described(400, 401, 403, 422))
async def refresh(
    request: Request, _: Anybody, services: ServicesDep, body: RefreshRequest | None = None
) -> RefreshAnswer:
    """Exchange a refresh token, from the body or the cookie, for a new one and an access token."""
    await _spend_limit(request, services)
    wish = body or RefreshRequest()
    kept = kept_in_cookie(request, services)
    in_cookie = wish.cookie or kept is not None
    if in_cookie:
        settings = services.settings
        require_same_origin(request, own=settings.public_url, allowed=settings.cors_origins)
    if kept and wish.refresh_token and kept.token != wish.refresh_token:
        raise CredentialsConflict
    token = wish.refresh_token or (kept.token if kept is not None else None)
    if not token:
        raise BadRequest("Send the refresh token as `refresh_token`, or in its cookie.")
    if _is_ours(services, wish, kept, token):
        renewed = await _of_ours(request, services, token)
    else:
        renewed = await _of_another(request, services, wish, kept, token)
    if in_cookie:
        keep_in_cookie(request, services, renewed.kept)
    return await _answer(services, renewed, in_cookie=in_cookie)


for _prefix in ("/auth", "/api/auth", ""):
    router.include_router(_routes, prefix=_prefix)


async def _spend_limit(request: Request, services: Services) -> None:
    """Count a refresh; "busy" if there are too many: on a 429 clients drop the session."""
    try:
        await services.limits.spend("token", request.state.chatkeep_client.bucket)
    except RateLimited as error:
        raise Unavailable(retry_after_s=error.retry_after_s) from error


def _is_ours(services: Services, wish: RefreshRequest, kept: Kept | None, token: str) -> bool:
    """Whether our own issuer wrote *token*, or nobody says that another one did.

    Another Chatkeep's look like ours, and so do ours that somebody bent.
    """
    if wish.issuer == services.embedded.issuer.name or services.embedded.refresh_tokens.wrote(
        token
    ):
        return True
    in_cookie = kept is not None and kept.issuer is not None
    return token.startswith(OURS) and not (wish.issuer or wish.access_token or in_cookie)


async def _of_ours(request: Request, services: Services, token: str) -> _Renewed:
    try:
        grant = await services.embedded.refresh(token, await device_of(request))
    except Invalid as error:
        raise BadRequest(error.detail) from error
    except (RefreshTokenNotFound, RefreshTokenReused, SessionExpired, UserBanned) as error:
        # One status for "sign in again", whoever issued the token.
        raise RefreshTokenRefused(error.detail) from error
    proven = NOTHING if grant.bound_to is None else await proven_of(request)
    principal = await services.authenticator.principal_of(grant.access_token, proven)
    return _Renewed(
        principal=principal,
        access_token=grant.access_token,
        kept=Kept(token=grant.refresh_token),
        token_type=grant.token_type,
    )


async def _of_another(
    request: Request, services: Services, wish: RefreshRequest, kept: Kept | None, token: str
) -> _Renewed:
    shown = Shown(
        token=token,
        issuer=wish.issuer,
        kept=kept,
        access_token=wish.access_token or _bearer(request),
    )
    found = await services.foreign_sessions.renew(
        shown, address=request.state.chatkeep_client.address
    )
    who, successor = found.principal, found.successor
    services.sightings.note(
        who,
        user_agent=request.headers.get("user-agent"),
        address=request.state.chatkeep_client.address,
    )
    kept = Kept(token=successor.refresh_token, issuer=who.issuer, subject=who.subject)
    return _Renewed(principal=who, access_token=successor.access_token, kept=kept)


def _bearer(request: Request) -> str | None:
    """The token to renew, where the request was sent with it as ever."""
    sent = request.headers.getlist("authorization")
    if len(sent) > 1:
        raise CredentialsConflict
    scheme, _, token = (sent[0] if sent else "").partition(" ")
    return token if scheme.lower() == "bearer" and token else None


async def _answer(services: Services, renewed: _Renewed, *, in_cookie: bool) -> RefreshAnswer:
    ends = renewed.principal.expires_at
    if ends is None:
        raise RefreshTokenRefused
    return RefreshAnswer(
        access_token=renewed.access_token,
        token_type=renewed.token_type,
        expires_in=int((ends - datetime.now(UTC)).total_seconds()),
        expires_at=int(ends.timestamp()),
        refresh_token=None if in_cookie else renewed.kept.token,
        user=await person_of(renewed.principal, services),
    )
