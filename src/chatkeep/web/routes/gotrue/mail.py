"""`/auth/v1`: what goes through a mailbox: links and codes to sign in, confirm and recover."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from chatkeep.accounts import User
from chatkeep.errors import ChatkeepError, Invalid, OtpExpired, TooManyMails
from chatkeep.issuance import EmbeddedIssuer, Grant
from chatkeep.one_time_tokens import PKCE_PREFIX, Waiting
from chatkeep.sign_in import mail_sign_in
from chatkeep.sign_in.redirects import leading_to, permitted
from chatkeep.web.attempts import attempting
from chatkeep.web.auth import Anybody
from chatkeep.web.gotrue.answers import (
    fragment_members,
    json_answer,
    session_answer,
    user_members,
)
from chatkeep.web.gotrue.bodies import (
    OtpBody,
    RecoverBody,
    ResendBody,
    VerifyBody,
    read_body,
    request_body,
)
from chatkeep.web.gotrue.callers import (
    Issuer,
    SignedInHere,
    device_of,
    limited,
    spend_mail,
    way_of,
)
from chatkeep.web.gotrue.errors import GoTrueRoute, Refusal, Refused, described, worded
from chatkeep.web.gotrue.link_page import STYLE, link_page
from chatkeep.web.same_origin import require_same_origin
from chatkeep.web.services import services_of

router = APIRouter(prefix="/auth/v1", route_class=GoTrueRoute, tags=["Supabase Auth"])

_HALF_DONE: Final = (
    "Confirmation link accepted. Please proceed to confirm link sent to the other email"
)
_NO_MAIL: Final = Refusal(404, "feature_disabled", "This server sends no mail")
_NO_OTP: Final = Refusal(422, "otp_disabled", "Sign-in by mail is disabled: it sends no mail")
_NO_PHONE: Final = Refusal(400, "phone_provider_disabled", "Phone numbers are disabled")
_FORM: Final = "application/x-www-form-urlencoded"
_LONGEST_FORM: Final = 8192
_SERVERS_FAULT: Final = 500

RedirectTo = Annotated[
    str, Query(description="Where the link in the mail leads in the end, see `REDIRECT_URLS`.")
]
LinkToken = Annotated[str, Query(description="The secret of the link.")]
LinkTokenHash = Annotated[str, Query(description="Another name for `token`.")]
LinkType = Annotated[str, Query(alias="type", description="What the link is for.")]


# --- asking for a mail ---------------------------------------------------------------------------


@router.post(
    "/otp",
    dependencies=[limited("otp")],
    openapi_extra=request_body(OtpBody),
    responses=described(400, 413, 415, 422, 429, 503),
)
@router.post(
    "/magiclink",
    dependencies=[limited("otp")],
    openapi_extra=request_body(OtpBody),
    responses=described(400, 413, 415, 422, 429, 503),
)
async def otp(
    _: Anybody, request: Request, issuer: Issuer, redirect_to: RedirectTo = ""
) -> Response:
    """Mail a link and a code to sign in with; the answer does not tell who has an account."""
    body = await read_body(request, OtpBody)
    if body.phone:
        raise Refused(_NO_PHONE)
    if not services_of(request).settings.mail_enabled:
        raise Refused(_NO_OTP)
    way = way_of(request, redirect_to, body)
    email = await _address(request, body.email)
    await mail_sign_in.send_link(issuer, email, way, create=body.create_user, metadata=body.data)
    return json_answer({})


@router.post(
    "/recover",
    dependencies=[limited("recover")],
    openapi_extra=request_body(RecoverBody),
    responses=described(400, 404, 413, 415, 429, 503),
)
async def recover(
    _: Anybody, request: Request, issuer: Issuer, redirect_to: RedirectTo = ""
) -> Response:
    """Mail a link and a code to whoever has lost the password; tells nothing either."""
    body = await read_body(request, RecoverBody)
    _require_mail(request)
    way = way_of(request, redirect_to, body)
    await mail_sign_in.send_recovery(issuer, await _address(request, body.email), way)
    return json_answer({})


@router.post(
    "/resend",
    dependencies=[limited("resend")],
    openapi_extra=request_body(ResendBody),
    responses=described(400, 404, 413, 415, 429, 503),
)
async def resend(
    _: Anybody, request: Request, issuer: Issuer, redirect_to: RedirectTo = ""
) -> Response:
    """Mail the confirmation of a sign-up or of a change of address again."""
    body = await read_body(request, ResendBody)
    if body.phone or body.type in {"sms", "phone_change"}:
        raise Refused(_NO_PHONE)
    if body.type not in ("signup", "email_change"):
        raise Invalid("Resend needs a type: signup or email_change")
    _require_mail(request)
    way = way_of(request, redirect_to, body)
    email = await _address(request, body.email)
    what: mail_sign_in.Resendable = "signup" if body.type == "signup" else "email_change"

    async def may_mail(address: str) -> bool:
        """Count a mail to another mailbox of theirs; what is refused is told nobody."""
        try:
            await spend_mail(request, address)
        except TooManyMails:
            return False
        return True

    await mail_sign_in.send_again(issuer, email, what, way, may_mail)
    return json_answer({})


@router.get("/reauthenticate", responses=described(400, 401, 403, 404, 429, 503))
async def reauthenticate(here: SignedInHere, request: Request, issuer: Issuer) -> Response:
    """Mail the caller a code that a change of the password may ask for."""
    _require_mail(request)
    if here.user.email:
        await spend_mail(request, here.user.email)
    await mail_sign_in.send_nonce(issuer, here)
    return json_answer({})


def _require_mail(request: Request) -> None:
    if not services_of(request).settings.mail_enabled:
        raise Refused(_NO_MAIL)


async def _address(request: Request, email: str | None) -> str:
    if not email:
        raise Invalid("An email address is required")
    await spend_mail(request, email)
    return email


# --- showing what a mail held --------------------------------------------------------------------


@router.get(
    "/verify",
    dependencies=[limited("verify")],
    response_class=HTMLResponse,
    responses={**described(429, 503), 303: {"description": "On to `redirect_to`."}},
)
async def open_link(
    _: Anybody,
    request: Request,
    issuer: Issuer,
    token: LinkToken = "",
    token_hash: LinkTokenHash = "",
    kind: LinkType = "",
    redirect_to: RedirectTo = "",
) -> Response:
    """Show a page with a button, or use the link at once: `MAIL_LINKS_ASK` says which."""
    settings = services_of(request).settings
    target, link = permitted(settings, redirect_to or None), token or token_hash
    try:
        found = await mail_sign_in.get_shown(issuer, kind, link=link)
    except (OtpExpired, Invalid) as error:
        return _failed(target, error, pkce=link.startswith(PKCE_PREFIX))
    if settings.mail_links_ask:
        return link_page(kind=kind, token=link, redirect_to=target)
    return await _used(request, issuer, found, kind, target)


@router.get("/verify.css", include_in_schema=False)
async def link_page_style(_: Anybody) -> Response:
    """Return how that page looks."""
    return Response(STYLE, media_type="text/css", headers={"cache-control": "max-age=3600"})


@router.post(
    "/verify",
    dependencies=[limited("verify")],
    openapi_extra=request_body(VerifyBody),
    responses=described(400, 403, 413, 415, 422, 429, 503),
)
async def verify(_: Anybody, request: Request, issuer: Issuer) -> Response:
    """Exchange a link's secret, or a code with its address, for a session.

    After one half of a change of address the answer is the person, as after a sign-up that
    waits for its confirmation.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
        return await _pressed(request, issuer)
    body = await read_body(request, VerifyBody)
    if body.phone or body.type in {"sms", "phone_change"}:
        raise Refused(_NO_PHONE)
    found = await _shown(request, issuer, body)
    outcome = await mail_sign_in.use(issuer, found, await device_of(request))
    if isinstance(outcome, Grant):
        return session_answer(outcome)
    return json_answer({**user_members(outcome), "msg": _HALF_DONE})


async def _shown(request: Request, issuer: EmbeddedIssuer, body: VerifyBody) -> Waiting:
    kind = body.type or ""
    if body.token_hash:
        if body.token or body.email:
            raise Invalid("Only the token_hash and type should be provided")
        return await mail_sign_in.get_shown(issuer, kind, link=body.token_hash)
    if not body.token or not body.email:
        raise Invalid("Verify requires a token and an email, or a token hash")
    async with attempting(request, "code", body.email):
        return await mail_sign_in.get_shown(issuer, kind, code=body.token, email=body.email)


async def _pressed(request: Request, issuer: EmbeddedIssuer) -> Response:
    """Use the link whose button was pressed.

    The page must be ours: a form of another site would sign its visitor in as somebody else.
    """
    settings = services_of(request).settings
    require_same_origin(request, own=settings.public_url, allowed=())
    said = await _form(request)
    kind, link = said.get("type", ""), said.get("token", "")
    target = permitted(settings, said.get("redirect_to") or None)
    try:
        found = await mail_sign_in.get_shown(issuer, kind, link=link)
    except (OtpExpired, Invalid) as error:
        return _failed(target, error, pkce=link.startswith(PKCE_PREFIX))
    return await _used(request, issuer, found, kind, target)


async def _form(request: Request) -> dict[str, str]:
    raw = await request.body()
    if len(raw) > _LONGEST_FORM:
        raise Invalid("The form is too long")
    try:
        said = parse_qs(raw.decode(), max_num_fields=10)
    except ValueError as error:
        raise Invalid("The form cannot be read") from error
    return {name: values[0] for name, values in said.items()}


async def _used(
    request: Request, issuer: EmbeddedIssuer, found: Waiting, kind: str, target: str
) -> Response:
    """Use *found* up and send the browser on with what it gave."""
    outcome: Grant | User | str
    try:
        if found.challenge is None:
            outcome = await mail_sign_in.use(issuer, found, await device_of(request))
        else:
            outcome = await mail_sign_in.use_for_code(issuer, found)
    except ChatkeepError as error:
        return _failed(target, error, pkce=found.challenge is not None)
    if isinstance(outcome, str):
        return _sent_to(leading_to(target, query={"code": outcome}))
    if isinstance(outcome, Grant):
        return _sent_to(leading_to(target, fragment={**fragment_members(outcome), "type": kind}))
    said = {"message": _HALF_DONE, "sb": ""}
    query = {"message": _HALF_DONE} if found.challenge is not None else None
    return _sent_to(leading_to(target, query=query, fragment=said))


def _failed(target: str, error: ChatkeepError, *, pkce: bool) -> Response:
    """Send the browser on with what went wrong, where Supabase clients look for it."""
    said = worded(error)
    members = {
        "error": "access_denied" if said.status < _SERVERS_FAULT else "server_error",
        "error_code": said.code,
        "error_description": said.message,
    }
    query = members if pkce else None
    return _sent_to(leading_to(target, query=query, fragment={**members, "sb": ""}))


def _sent_to(address: str) -> Response:
    return RedirectResponse(address, 303, headers={"cache-control": "no-store"})
