"""Who may call: every route names it as a typed parameter.

One credential a request, looked for in a fixed order: bearer token, then (development
only) `X-User-Id`, else nobody. Two that disagree are refused, never mixed. A credential
that is present and bad is an error, never "nobody".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Depends
from starlette.requests import Request

from chatkeep.errors import CredentialsConflict, TokenInvalid, TokenRevoked, Unauthenticated
from chatkeep.principal import Principal
from chatkeep.web.services import services_of

if TYPE_CHECKING:
    from chatkeep.web.services import Services

_LONGEST_USER_ID = 255


async def identify(request: Request) -> Principal | None:
    """Return who calls, None when the request has no credential.

    Raises:
        TokenInvalid: a credential is there and bad (its subclasses say more where allowed).
        CredentialsConflict: there are two and they disagree.
    """
    services = services_of(request)
    bearer = await _by_bearer(request, services)
    named = _by_development_header(request, services)
    if bearer is not None and named is not None and bearer.user_id != named.user_id:
        raise CredentialsConflict
    principal = bearer or named
    if principal is not None:
        request.state.principal = principal
    return principal


async def signed_in(request: Request) -> Principal:
    """Return who calls; refuse when nobody is signed in."""
    principal = await identify(request)
    if principal is None:
        raise Unauthenticated
    services_of(request).limits.spend("api", principal.user_id)
    return principal


async def signed_in_on_rest(request: Request) -> Principal:
    """Return who calls, with the wording that the REST conversation routes have promised."""
    try:
        return await signed_in(request)
    except TokenInvalid as error:
        raise type(error)("Invalid or expired Supabase token") from error


def anybody(request: Request) -> None:
    """Let everybody in, and look at no credential: for public routes."""


SignedIn = Annotated[Principal, Depends(signed_in)]
SignedInOnRest = Annotated[Principal, Depends(signed_in_on_rest)]
Caller = Annotated[Principal | None, Depends(identify)]
Anybody = Annotated[None, Depends(anybody)]


async def _by_bearer(request: Request, services: Services) -> Principal | None:
    sent = request.headers.getlist("authorization")
    if not sent:
        return None
    if len(sent) > 1:
        raise CredentialsConflict
    scheme, _, token = sent[0].partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise TokenInvalid
    principal = await services.issuers.authenticate(token)
    if principal.session_id and services.embedded.revocations.is_revoked(principal.session_id):
        raise TokenRevoked
    return principal


def _by_development_header(request: Request, services: Services) -> Principal | None:
    if not services.settings.development_user_header:
        return None
    sent = request.headers.getlist("x-user-id")
    if not sent:
        return None
    if len(sent) > 1:
        raise CredentialsConflict
    user_id = sent[0].strip()
    if not user_id or len(user_id) > _LONGEST_USER_ID or not user_id.isprintable():
        raise TokenInvalid
    return Principal(
        user_id=user_id, issuer="development", subject=user_id, credential="development_header"
    )
