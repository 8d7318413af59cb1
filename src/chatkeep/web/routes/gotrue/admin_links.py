"""`/auth/v1`: invitations, and links to hand on, for servers.

Opened by the secret key alone. The only routes that show what somebody could sign in with:
a link that is handed on is as good as the mailbox it stands for.
"""

from __future__ import annotations

from typing import Annotated, Final, get_args

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from chatkeep.administration import links as administered_links
from chatkeep.administration.links import LinkKind, LinkWish
from chatkeep.errors import Invalid, UserNotFound
from chatkeep.mailed_tokens import Way
from chatkeep.sign_in.redirects import permitted
from chatkeep.web.gotrue.administrators import SecretKey
from chatkeep.web.gotrue.answers import json_answer, user_members
from chatkeep.web.gotrue.bodies import InviteBody, LinkBody, read_body, request_body
from chatkeep.web.gotrue.callers import Issuer
from chatkeep.web.gotrue.errors import GoTrueRoute, Refusal, Refused, described
from chatkeep.web.services import ServicesDep

router = APIRouter(
    prefix="/auth/v1", route_class=GoTrueRoute, tags=["Supabase Auth administration"]
)

_NO_SUCH_USER: Final = Refusal(404, "user_not_found", "User not found")
_CHANGES: Final = frozenset({"email_change_current", "email_change_new"})
_NO_MAIL: Final = Refusal(404, "feature_disabled", "This server sends no mail")

RedirectTo = Annotated[str, Query(description="Where the link leads, see `REDIRECT_URLS`.")]


@router.post(
    "/invite",
    openapi_extra=request_body(InviteBody),
    responses=described(400, 401, 403, 404, 413, 415, 422, 503),
)
async def invite(
    actor: SecretKey,
    request: Request,
    issuer: Issuer,
    services: ServicesDep,
    redirect_to: RedirectTo = "",
) -> Response:
    """Mail an invitation, with an account for the address if there is none yet."""
    body = await read_body(request, InviteBody)
    if not services.settings.mail_enabled:
        raise Refused(_NO_MAIL)
    if not body.email:
        raise Invalid("An invitation needs an email address")
    way = Way(redirect_to=redirect_to or None)
    invited = await administered_links.invite(issuer, body.email, body.data or {}, way, actor=actor)
    return json_answer(user_members(invited))


@router.post(
    "/admin/generate_link",
    openapi_extra=request_body(LinkBody),
    responses=described(400, 401, 403, 404, 413, 415, 422, 503),
)
async def generate_link(
    actor: SecretKey,
    request: Request,
    issuer: Issuer,
    services: ServicesDep,
    redirect_to: RedirectTo = "",
) -> Response:
    """Make a link to sign in, sign up, recover or change an address with, and mail it to nobody."""
    body = await read_body(request, LinkBody)
    kind: LinkKind | None = next((one for one in get_args(LinkKind) if one == body.type), None)
    if kind is None:
        raise Invalid("Generating a link needs a type: " + ", ".join(get_args(LinkKind)))
    wanted = redirect_to or body.redirect_to or None
    wish = LinkWish(
        kind=kind,
        email=body.email or "",
        new_email=body.new_email,
        password=body.password,
        metadata=body.data or {},
        redirect_to=wanted,
    )
    try:
        made = await administered_links.make_link(
            issuer, wish, actor=actor, both_mailboxes=services.settings.secure_email_change
        )
    except UserNotFound as error:
        raise Refused(_NO_SUCH_USER) from error
    link = {
        "action_link": made.address,
        "email_otp": made.token.code,
        "hashed_token": made.token.link,
        "verification_type": kind if kind in _CHANGES else made.type,
        "redirect_to": permitted(services.settings, wanted),
    }
    return json_answer(user_members(made.user) | link)
