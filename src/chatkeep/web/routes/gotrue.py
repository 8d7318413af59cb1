"""`/auth/v1`: our own issuer as an unmodified `@supabase/supabase-js` expects it.

Sign up, sign in, refresh, look at and change oneself, sign out. What Supabase Auth has and
we do not is in `gotrue_absent`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, get_args

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from chatkeep import __version__
from chatkeep.devices import Device
from chatkeep.errors import CredentialsConflict, Invalid, Unauthenticated
from chatkeep.issuance import EmbeddedIssuer, Here, Wish
from chatkeep.sessions import Scope
from chatkeep.web.api_document import TakesBearer
from chatkeep.web.auth import Anybody
from chatkeep.web.gotrue_answers import (
    json_answer,
    session_answer,
    settings_members,
    user_members,
)
from chatkeep.web.gotrue_bodies import (
    PasswordBody,
    RefreshBody,
    SignUpBody,
    UserBody,
    read_body,
    request_body,
    require_sound_challenge,
)
from chatkeep.web.gotrue_errors import GoTrueRoute, Refusal, Refused, described
from chatkeep.web.presented import presented_by
from chatkeep.web.services import services_of

router = APIRouter(prefix="/auth/v1", route_class=GoTrueRoute, tags=["Supabase Auth"])

_KEPT_FOR_TEN_MINUTES: Final = {"cache-control": "public, max-age=600"}


async def issuer_of(request: Request) -> EmbeddedIssuer:
    """Return the issuer of the application that *request* came to."""
    return services_of(request).embedded


def limited(kind: str) -> Any:  # noqa: ANN401 -- what Depends returns has no public type
    """Return the dependency that counts a request of *kind* against its client's limit."""

    async def spend(request: Request) -> None:
        spend_limit(request, kind)

    return Depends(spend)


def spend_limit(request: Request, kind: str) -> None:
    """Count *request* as one of *kind*.

    Raises:
        RateLimited: its client has sent too many.
    """
    services_of(request).limits.spend(kind, request.scope["state"]["client"].bucket)


async def here_of(request: Request, _taken: TakesBearer = None) -> Here:
    """Return who calls and on which device, as the database has it now.

    Raises:
        Unauthenticated: nobody in particular: no bearer, or the publishable key as one.
        TokenInvalid, UserNotFound, SessionNotFound, UserBanned: see `EmbeddedIssuer.locate`.
    """
    services = services_of(request)
    sent = request.headers.getlist("authorization")
    if len(sent) > 1:
        raise CredentialsConflict
    scheme, _, token = (sent[0] if sent else "").partition(" ")
    if scheme.lower() != "bearer" or not token or services.embedded.api_keys.is_publishable(token):
        raise Unauthenticated
    principal = await services.issuers.authenticate(token)
    await services.authenticator.agreeing(principal, presented_by(request))
    services.limits.spend("api", principal.user_id)
    return await services.embedded.locate(principal)


SignedInHere = Annotated[Here, Depends(here_of)]
GrantType = Annotated[str, Query(description="`password` or `refresh_token`.")]
LogOutScope = Annotated[str, Query(description="`global`, `local` or `others`.")]
Issuer = Annotated[EmbeddedIssuer, Depends(issuer_of)]


def _device(request: Request) -> Device:
    return Device.of(request.headers.get("user-agent"), request.scope["state"]["client"].address)


@router.get("/health")
async def health(_: Anybody) -> Response:
    """Say that the issuer is there."""
    return json_answer(
        {"version": __version__, "name": "GoTrue", "description": "Chatkeep's own issuer"}
    )


@router.get("/settings")
async def settings(_: Anybody, issuer: Issuer) -> Response:
    """Say which ways to sign in there are."""
    return json_answer(settings_members(sign_up_open=issuer.sign_up_open))


@router.get("/.well-known/jwks.json")
async def jwks(_: Anybody, issuer: Issuer) -> Response:
    """Publish the keys that verify our access tokens (RFC 7517)."""
    return Response(
        issuer.signing_keys.jwks, headers=_KEPT_FOR_TEN_MINUTES, media_type="application/json"
    )


@router.post(
    "/signup",
    dependencies=[limited("sign_up")],
    openapi_extra=request_body(SignUpBody),
    responses=described(400, 413, 415, 422, 429, 503),
)
async def sign_up(_: Anybody, request: Request, issuer: Issuer) -> Response:
    """Make an account with e-mail and password, and sign in."""
    body = await read_body(request, SignUpBody)
    if body.email and body.phone:
        raise Invalid("Only an email address or phone number should be provided on signup.")
    if body.phone:
        raise Refused(Refusal(400, "phone_provider_disabled", "Phone signups are disabled"))
    if not body.email:
        raise Refused(
            Refusal(422, "anonymous_provider_disabled", "Anonymous sign-ins are disabled")
        )
    if not body.password:
        raise Invalid("Signup requires a valid password")
    require_sound_challenge(body)
    wish = Wish(email=body.email, password=body.password, metadata=body.data)
    return session_answer(await issuer.sign_up(wish, _device(request)))


@router.post(
    "/token",
    dependencies=[limited("token")],
    openapi_extra=request_body(PasswordBody, RefreshBody),
    responses=described(400, 404, 413, 415, 422, 429, 503),
)
async def token(
    _: Anybody, request: Request, issuer: Issuer, grant_type: GrantType = ""
) -> Response:
    """Exchange a password, or a refresh token, for tokens."""
    match grant_type:
        case "password":
            return await _by_password(request, issuer)
        case "refresh_token":
            return await _by_refresh_token(request, issuer)
    if grant_type in _ABSENT_GRANTS:
        raise Refused(_ABSENT_GRANTS[grant_type])
    raise Invalid("unsupported_grant_type")


async def _by_password(request: Request, issuer: EmbeddedIssuer) -> Response:
    body = await read_body(request, PasswordBody)
    if body.email and body.phone:
        raise Invalid("Only an email address or phone number should be provided on login.")
    if body.phone:
        raise Refused(Refusal(400, "phone_provider_disabled", "Phone logins are disabled"))
    if not body.email:
        raise Invalid("missing email or phone")
    grant = await issuer.sign_in(body.email, body.password or "", _device(request))
    return session_answer(grant)


async def _by_refresh_token(request: Request, issuer: EmbeddedIssuer) -> Response:
    body = await read_body(request, RefreshBody)
    grant = await issuer.refresh(body.refresh_token or "", _device(request))
    return session_answer(grant, refreshed=True)


# No code, provider or wallet was ever in play here, so whatever is shown is wrong.
_ABSENT_GRANTS: Final[dict[str, Refusal]] = {
    "pkce": Refusal(404, "flow_state_not_found", "invalid flow state, no valid flow state found"),
    "id_token": Refusal(400, "provider_disabled", "Provider is not enabled"),
    "web3": Refusal(422, "web3_provider_disabled", "Web3 provider is disabled"),
}


@router.get("/user", responses=described(400, 401, 403, 503))
async def user(here: SignedInHere) -> Response:
    """Return the caller's own account."""
    return json_answer(user_members(here.user))


@router.put(
    "/user",
    dependencies=[limited("user")],
    openapi_extra=request_body(UserBody),
    responses=described(400, 401, 403, 413, 415, 422, 429, 503),
)
async def update_user(here: SignedInHere, request: Request, issuer: Issuer) -> Response:
    """Change the caller's address, password or metadata."""
    body = await read_body(request, UserBody)
    if body.app_metadata is not None:
        raise Refused(Refusal(403, "not_admin", "Updating app_metadata requires admin privileges"))
    if body.phone:
        raise Refused(Refusal(400, "phone_provider_disabled", "Phone numbers are disabled"))
    if body.password:  # "same password" tells who guesses right: no more tries than at sign-in
        spend_limit(request, "token")
    wish = Wish(email=body.email, password=body.password, metadata=body.data)
    return json_answer(user_members(await issuer.update(here, wish)))


@router.post("/logout", status_code=204, responses=described(400, 401, 403, 503))
async def log_out(here: SignedInHere, issuer: Issuer, scope: LogOutScope = "global") -> Response:
    """End this session (`local`), the caller's other ones (`others`), or all (`global`)."""
    wanted: Scope | None = next((one for one in get_args(Scope) if one == scope), None)
    if wanted is None:
        raise Invalid("Unsupported logout scope: choose global, local or others")
    await issuer.sign_out(here, wanted)
    return Response(status_code=204)
