"""Sign a browser in: with a password, or in exchange for a bearer of any issuer.

The same routes under `/auth`, `/api/auth` and bare. What signs the browser in is a cookie that
no script reads; it is in no body. Only a page of this server's own origin may do it: elsewhere
it would sign a person in as somebody else (login CSRF).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request

from chatkeep.devices import Device
from chatkeep.web import schemas
from chatkeep.web.attempts import attempting
from chatkeep.web.auth import Anybody, SignedInByBearer
from chatkeep.web.persons import person_of
from chatkeep.web.problems import described
from chatkeep.web.refresh_cookie import end_other_refreshes
from chatkeep.web.same_origin import require_same_origin
from chatkeep.web.schemas import PersonAnswer
from chatkeep.web.services import Services, ServicesDep
from chatkeep.web.session_cookies import previous_sessions, set_session_cookie

if TYPE_CHECKING:
    from chatkeep.sessions.cookie_tokens import SessionToken


class SignInRequest(schemas.Request):
    """Who signs in."""

    email: Annotated[str, Field(min_length=1, max_length=320)]
    password: Annotated[str, Field(min_length=1, max_length=1024)]


class SignedInAnswer(BaseModel):
    """Who is signed in by the cookie that came with this, and until when it is good."""

    user: PersonAnswer
    session_id: str
    expires_at: int
    expires_in: int


router = APIRouter()
_routes = APIRouter(tags=["browser sessions"])


@_routes.post("/sign-in", responses=described(400, 403, 422))
async def sign_in(
    request: Request, body: SignInRequest, _: Anybody, services: ServicesDep
) -> SignedInAnswer:
    """Sign this browser in with e-mail and password."""
    settings = services.settings
    require_same_origin(request, own=settings.public_url, allowed=settings.cors_origins)
    await services.limits.spend("token", request.state.chatkeep_client.bucket)
    async with attempting(request, "password", body.email):
        issued = await services.browser_sessions.sign_in(
            body.email, body.password, _device(request)
        )
    return await _handed_out(request, services, issued)


@_routes.post("/session", responses=described(403))
async def exchange(
    request: Request, who: SignedInByBearer, services: ServicesDep
) -> SignedInAnswer:
    """Sign this browser in as the bearer, whoever issued it: the two are one session then."""
    issued = await services.browser_sessions.exchange(who, _device(request))
    return await _handed_out(request, services, issued)


for _prefix in ("/auth", "/api/auth", ""):
    router.include_router(_routes, prefix=_prefix)


def _device(request: Request) -> Device:
    return Device.of(request.headers.get("user-agent"), request.state.chatkeep_client.address)


async def _handed_out(request: Request, services: Services, issued: SessionToken) -> SignedInAnswer:
    """Set the cookie, and end what the browser had before (ASVS 7.2.4).

    A session that somebody planted, or of whoever was signed in here, must not go on.
    """
    who = await services.session_tokens.read(issued.token)
    for one in await previous_sessions(request, services):
        if one.claims["sid"] != who.claims["sid"]:
            await services.browser_sessions.end(one, reason="replaced")
    await end_other_refreshes(request, services, who)
    set_session_cookie(request, services, issued)
    ends = int(issued.expires_at.timestamp())
    return SignedInAnswer(
        user=await person_of(who, services),
        session_id=str(who.session_id),
        expires_at=ends,
        expires_in=ends - int(datetime.now(UTC).timestamp()),
    )
