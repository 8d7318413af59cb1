"""What Supabase Auth offers at `/auth/v1` and this server does not, said in its own codes.

Better an honest "not here" than a 200 for a mail that is never sent. The answers are the
same for everybody, so that they tell nothing about who has an account. Include this
router last: its end takes every path that nobody else has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from chatkeep.errors import MethodNotAllowed, NotFound, Unauthenticated
from chatkeep.web.auth import Anybody
from chatkeep.web.routes.gotrue import accounts
from chatkeep.web.gotrue.errors import GoTrueRoute, Refusal, Refused
from chatkeep.web.gotrue.callers import SignedInHere, here_of
from chatkeep.web.services import services_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

router = APIRouter(prefix="/auth/v1", route_class=GoTrueRoute, include_in_schema=False)

#: What there is, in the order in which it is asked.
OFFERED: Final = (accounts.router,)

_ANY_METHOD: Final = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_NO_MAIL = Refusal(404, "feature_disabled", "This server sends no mail")
_NO_OTP = Refusal(422, "otp_disabled", "Sign-in by mail or text message is disabled")
_NO_TOKEN_WAS_SENT = Refusal(403, "otp_expired", "Token has expired or is invalid")
_NO_PROVIDER = Refusal(400, "validation_failed", "Unsupported provider: provider is not enabled")
_NO_SECOND_FACTOR = Refusal(422, "mfa_totp_enroll_not_enabled", "MFA enroll is disabled")

#: Open to everybody at Supabase Auth too.
_PUBLIC: Final = {
    "/otp": _NO_OTP,
    "/magiclink": _NO_OTP,
    "/recover": _NO_MAIL,
    "/resend": _NO_MAIL,
    "/verify": _NO_TOKEN_WAS_SENT,
    "/authorize": _NO_PROVIDER,
    "/callback": Refusal(400, "bad_oauth_state", "OAuth state not found or expired"),
    "/sso": Refusal(404, "sso_provider_disabled", "SSO is disabled"),
    "/passkeys/{rest:path}": Refusal(404, "passkey_disabled", "Passkeys are disabled"),
}
#: Only for who is signed in.
_PERSONAL: Final = {
    "/reauthenticate": _NO_MAIL,
    "/factors": _NO_SECOND_FACTOR,
    "/factors/{rest:path}": _NO_SECOND_FACTOR,
    "/user/identities/{rest:path}": Refusal(
        404, "manual_linking_disabled", "Manual linking is disabled"
    ),
    "/user/oauth/{rest:path}": Refusal(404, "feature_disabled", "OAuth server is disabled"),
}


def _refusing(refusal: Refusal) -> Callable[[Anybody], Awaitable[None]]:
    async def refuse(_: Anybody) -> None:
        raise Refused(refusal)

    return refuse


def _refusing_person(refusal: Refusal) -> Callable[[SignedInHere], Awaitable[None]]:
    async def refuse(_: SignedInHere) -> None:
        raise Refused(refusal)

    return refuse


for _path, _refusal in _PUBLIC.items():
    router.add_api_route(_path, _refusing(_refusal), methods=_ANY_METHOD)
for _path, _refusal in _PERSONAL.items():
    router.add_api_route(_path, _refusing_person(_refusal), methods=_ANY_METHOD)


@router.api_route("/invite", methods=_ANY_METHOD)
@router.api_route("/admin/{rest:path}", methods=_ANY_METHOD)
async def administration(_: Anybody, request: Request) -> Response:
    """Refuse: people may not, and the server's secret key cannot yet."""
    keys = services_of(request).embedded.api_keys
    bearer = request.headers.get("authorization", "").partition(" ")[2]
    if keys.is_secret(bearer):
        raise Refused(Refusal(404, "feature_disabled", "Administration is not offered here"))
    if not bearer or keys.is_publishable(bearer):
        raise Unauthenticated
    await here_of(request)
    raise Refused(Refusal(403, "not_admin", "User not allowed"))


@router.api_route("/{rest:path}", methods=_ANY_METHOD)
async def unknown(_: Anybody, request: Request) -> Response:
    """Refuse what is not there, and the wrong method on what is."""
    known = {
        method
        for offered in OFFERED
        for route in offered.routes
        if route.matches(request.scope)[0] is Match.PARTIAL
        for method in getattr(route, "methods", ())
    }
    if not known:
        raise NotFound
    raise MethodNotAllowed(allow=", ".join(sorted(known)))
