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

from chatkeep.errors import MethodNotAllowed, NotFound
from chatkeep.web.auth import Anybody
from chatkeep.web.gotrue.administrators import SecretKey
from chatkeep.web.gotrue.callers import SignedInHere
from chatkeep.web.gotrue.errors import GoTrueRoute, Refusal, Refused
from chatkeep.web.routes.gotrue import (
    accounts,
    admin,
    admin_factors,
    admin_links,
    factors,
    mail,
    passkeys,
    providers,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

router = APIRouter(prefix="/auth/v1", route_class=GoTrueRoute, include_in_schema=False)

#: What there is, in the order in which it is asked.
OFFERED: Final = (
    passkeys.router,
    factors.router,
    accounts.router,
    mail.router,
    admin_factors.router,
    admin.router,
    admin_links.router,
    providers.router,
)

_ANY_METHOD: Final = ["GET", "POST", "PUT", "PATCH", "DELETE"]

#: Open to everybody at Supabase Auth too.
_PUBLIC: Final = {
    "/sso": Refusal(404, "sso_provider_disabled", "SSO is disabled"),
    "/sso/saml/{rest:path}": Refusal(404, "saml_provider_disabled", "SAML is disabled"),
}
#: Only for who is signed in.
_PERSONAL: Final = {
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


@router.api_route("/admin/{rest:path}", methods=_ANY_METHOD)
async def administration(_: SecretKey, request: Request) -> Response:
    """Refuse what else Supabase Auth offers to servers, and the wrong method on what is here."""
    _require_right_method(request)
    raise Refused(Refusal(404, "feature_disabled", "This is not offered here"))


@router.api_route("/{rest:path}", methods=_ANY_METHOD)
async def unknown(_: Anybody, request: Request) -> Response:
    """Refuse what is not there, and the wrong method on what is."""
    _require_right_method(request)
    raise NotFound


def _require_right_method(request: Request) -> None:
    known = {
        method
        for offered in OFFERED
        for route in offered.routes
        if route.matches(request.scope)[0] is Match.PARTIAL
        for method in getattr(route, "methods", ())
    }
    if known:
        raise MethodNotAllowed(allow=", ".join(sorted(known)))
