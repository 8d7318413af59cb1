"""`/auth/v1`: our own issuer as an unmodified `@supabase/supabase-js` expects it.

Sign up, sign in, refresh, look at and change oneself, sign out. What Supabase Auth has and
we do not is in `absent`.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Final, get_args

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from chatkeep import __version__, passwords
from chatkeep.errors import Invalid, WeakPassword
from chatkeep.factors.ceremonies import RelyingParty
from chatkeep.issuance import EmbeddedIssuer
from chatkeep.sessions.own import Scope
from chatkeep.sign_in import (
    anonymous_accounts,
    authorization_codes,
    mail_sign_in,
    password_accounts,
)
from chatkeep.sign_in.password_accounts import Rules, Wish
from chatkeep.web.attempts import attempting, spend_attempt
from chatkeep.web.auth import Anybody
from chatkeep.web.gotrue.answers import (
    json_answer,
    session_answer,
    settings_members,
    user_members,
)
from chatkeep.web.gotrue.bodies import (
    IdTokenBody,
    PasswordBody,
    PkceBody,
    RefreshBody,
    SignUpBody,
    UserBody,
    read_body,
    request_body,
)
from chatkeep.web.gotrue.callers import (
    Issuer,
    SignedInHere,
    device_of,
    limited,
    spend_limit,
    spend_mail,
    way_of,
)
from chatkeep.web.gotrue.errors import GoTrueRoute, Refusal, Refused, described
from chatkeep.web.routes.gotrue.providers import by_id_token
from chatkeep.web.services import ServicesDep, services_of

if TYPE_CHECKING:
    from chatkeep.accounts import User
    from chatkeep.config import Settings

router = APIRouter(prefix="/auth/v1", route_class=GoTrueRoute, tags=["Supabase Auth"])

_KEPT_FOR_TEN_MINUTES: Final = {"cache-control": "public, max-age=600"}

GrantType = Annotated[str, Query(description="`password`, `refresh_token`, `pkce` or `id_token`.")]
RedirectTo = Annotated[
    str, Query(description="Where the link in the mail leads in the end, see `REDIRECT_URLS`.")
]
LogOutScope = Annotated[str, Query(description="`global`, `local` or `others`.")]


@router.get("/health")
async def health(_: Anybody) -> Response:
    """Say that the issuer is there."""
    return json_answer(
        {"version": __version__, "name": "GoTrue", "description": "Chatkeep's own issuer"}
    )


@router.get("/settings")
async def settings(_: Anybody, issuer: Issuer, services: ServicesDep) -> Response:
    """Say which ways to sign in there are."""
    members = settings_members(
        sign_up_open=issuer.sign_up_open,
        autoconfirm=services.settings.autoconfirm,
        anonymous=services.settings.anonymous_sign_in,
        passkeys=services.settings.passkeys and RelyingParty.of(services.settings) is not None,
        providers=[one.name for one in services.providers],
    )
    return json_answer(members)


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
async def sign_up(
    _: Anybody, request: Request, issuer: Issuer, redirect_to: RedirectTo = ""
) -> Response:
    """Make an account; sign in, unless the address has to be confirmed first.

    Without an address the account is an anonymous one, where the server allows that.
    """
    body = await read_body(request, SignUpBody)
    if body.email and body.phone:
        raise Invalid("Only an email address or phone number should be provided on signup.")
    if body.phone:
        raise Refused(Refusal(400, "phone_provider_disabled", "Phone signups are disabled"))
    way = way_of(request, redirect_to, body)
    if not body.email:
        return await _without_address(request, issuer, body)
    if not body.password:
        raise Invalid("Signup requires a valid password")
    wish = Wish(email=body.email, password=body.password, metadata=body.data)
    if services_of(request).settings.autoconfirm:
        return session_answer(
            await password_accounts.sign_up(issuer, wish, await device_of(request))
        )
    passwords.require_acceptable(body.password)
    await spend_mail(request, body.email)
    return json_answer(user_members(await mail_sign_in.sign_up(issuer, wish, way)))


async def _without_address(request: Request, issuer: EmbeddedIssuer, body: SignUpBody) -> Response:
    if not services_of(request).settings.anonymous_sign_in:
        raise Refused(
            Refusal(422, "anonymous_provider_disabled", "Anonymous sign-ins are disabled")
        )
    await spend_limit(request, "anonymous_sign_up")
    grant = await anonymous_accounts.sign_up(issuer, body.data, await device_of(request))
    return session_answer(grant)


@router.post(
    "/token",
    dependencies=[limited("token")],
    openapi_extra=request_body(PasswordBody, RefreshBody, PkceBody, IdTokenBody),
    responses=described(400, 404, 413, 415, 422, 429, 503),
)
async def token(
    _: Anybody, request: Request, issuer: Issuer, grant_type: GrantType = ""
) -> Response:
    """Exchange a password, a refresh token, a code or an ID token for tokens."""
    match grant_type:
        case "password":
            return await _by_password(request, issuer)
        case "refresh_token":
            return await _by_refresh_token(request, issuer)
        case "pkce":
            return await _by_code(request, issuer)
        case "id_token":
            return await by_id_token(request, issuer)
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
    async with attempting(request, "password", body.email):
        grant = await password_accounts.sign_in(
            issuer, body.email, body.password or "", await device_of(request)
        )
    return session_answer(grant)


async def _by_refresh_token(request: Request, issuer: EmbeddedIssuer) -> Response:
    body = await read_body(request, RefreshBody)
    grant = await issuer.refresh(body.refresh_token or "", await device_of(request))
    return session_answer(grant, refreshed=True)


async def _by_code(request: Request, issuer: EmbeddedIssuer) -> Response:
    body = await read_body(request, PkceBody)
    if not body.auth_code or not body.code_verifier:
        raise Invalid("invalid request: both auth code and code verifier should be non-empty")
    grant = await authorization_codes.redeem(
        issuer, body.auth_code, body.code_verifier, await device_of(request)
    )
    return session_answer(grant)


# No wallet was ever in play here, so whatever is shown is wrong.
_ABSENT_GRANTS: Final[dict[str, Refusal]] = {
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
async def update_user(
    here: SignedInHere, request: Request, issuer: Issuer, redirect_to: RedirectTo = ""
) -> Response:
    """Change the caller's address, password or metadata."""
    body = await read_body(request, UserBody)
    if body.app_metadata is not None:
        raise Refused(Refusal(403, "not_admin", "Updating app_metadata requires admin privileges"))
    if body.phone:
        raise Refused(Refusal(400, "phone_provider_disabled", "Phone numbers are disabled"))
    rules = _rules(services_of(request).settings)
    wish = Wish(
        email=body.email,
        password=body.password,
        metadata=body.data,
        current_password=body.current_password,
        nonce=body.nonce,
    )
    way = way_of(request, redirect_to, body)
    async with AsyncExitStack() as guess:
        if body.password:  # "same password" tells who guesses right: as many tries as at sign-in
            account = here.user.email or str(here.user.id)
            counted = attempting(request, "password", account, harmless=(WeakPassword,))
            await guess.enter_async_context(counted)
        if body.email and rules.confirm_email:
            await _spend_mails(request, here.user, body.email)
        changed = await password_accounts.update(issuer, here, wish, rules=rules, way=way)
    return json_answer(user_members(changed))


def _rules(settings: Settings) -> Rules:
    return Rules(
        confirm_email=not settings.autoconfirm,
        both_mailboxes=settings.secure_email_change,
        reauthentication=settings.reauthentication,
        current_password=settings.current_password,
    )


async def _spend_mails(request: Request, user: User, new_email: str) -> None:
    """Count the mails of a change of address, to either mailbox."""
    if not user.email:  # or a guest could ask for thousands who has an account
        await spend_attempt(request, "mail", str(user.id))
    for address in filter(None, (user.email, new_email)):
        await spend_mail(request, address)


@router.post("/logout", status_code=204, responses=described(400, 401, 403, 503))
async def log_out(here: SignedInHere, issuer: Issuer, scope: LogOutScope = "global") -> Response:
    """End this session (`local`), the caller's other ones (`others`), or all (`global`)."""
    wanted: Scope | None = next((one for one in get_args(Scope) if one == scope), None)
    if wanted is None:
        raise Invalid("Unsupported logout scope: choose global, local or others")
    await issuer.sign_out(here, wanted)
    return Response(status_code=204)
