"""Who calls a route of `/auth/v1`, from which device, and how often they may."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends
from starlette.requests import Request

from chatkeep.accounts import normal_address
from chatkeep.devices import Device
from chatkeep.errors import (
    ChatkeepError,
    CredentialsConflict,
    EmailAddressInvalid,
    RateLimited,
    SessionNotFound,
    TokenInvalid,
    TooManyMails,
    Unauthenticated,
    UserBanned,
    UserNotFound,
)
from chatkeep.issuance import EmbeddedIssuer, Here
from chatkeep.mailed_tokens import Way
from chatkeep.sign_in.redirects import is_permitted
from chatkeep.web.api_document import TakesBearer
from chatkeep.web.attempts import spend_attempt
from chatkeep.web.gotrue.bodies import Challenged, challenge_of
from chatkeep.web.presented import presented_by, proven_without_proof, request_of
from chatkeep.web.services import services_of

if TYPE_CHECKING:
    from chatkeep.token_binding import Proven


async def issuer_of(request: Request) -> EmbeddedIssuer:
    """Return the issuer of the application that *request* came to."""
    return services_of(request).embedded


def limited(kind: str) -> Any:  # noqa: ANN401 -- what Depends returns has no public type
    """Return the dependency that counts a request of *kind* against its client's limit."""

    async def spend(request: Request) -> None:
        await spend_limit(request, kind)

    return Depends(spend)


async def spend_limit(request: Request, kind: str) -> None:
    """Count *request* as one of *kind*.

    Raises:
        RateLimited: its client has sent too many.
    """
    await services_of(request).limits.spend(kind, request.scope["state"]["chatkeep_client"].bucket)


def way_of(request: Request, redirect_to: str, body: Challenged) -> Way:
    """Return how a flow that *body* begins goes on; an address that is not permitted is dropped.

    Raises:
        Invalid: see `challenge_of`.
    """
    settings = services_of(request).settings
    wanted = redirect_to if is_permitted(settings, redirect_to) else None
    return Way(redirect_to=wanted, challenge=challenge_of(body))


async def spend_mail(request: Request, email: str) -> None:
    """Count a mail to *email*, as it was typed and whether or not anybody has it.

    Raises:
        TooManyMails: one was sent a moment ago, or enough for now.
    """
    try:
        address = normal_address(email)
    except EmailAddressInvalid:
        return  # nobody has it, and whoever asked is told
    key = hashlib.sha256(address.encode()).hexdigest()
    limits = services_of(request).limits
    try:
        await limits.spend("mail_pause", key)
    except RateLimited as error:
        raise TooManyMails(
            "For security purposes, you can only request this after"
            f" {error.retry_after_s} seconds.",
            retry_after_s=error.retry_after_s,
        ) from error
    try:
        await spend_attempt(request, "mail", email)
    except ChatkeepError:
        # Or a stranger who is refused would take each next minute from whoever has the mailbox.
        await limits.give_back("mail_pause", key)
        raise


async def here_of(request: Request) -> Here:
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
    scheme = scheme.lower()
    if (
        scheme not in {"bearer", "dpop"}
        or not token
        or services.embedded.supabase_keys.is_publishable(token)
    ):
        raise Unauthenticated
    try:
        presented = presented_by(request)
        proven = services.authenticator.proven_by(presented, token, scheme=scheme)
        principal = await services.issuers.authenticate(token, proven)
        await services.authenticator.agreeing(principal, presented)
        await services.limits.spend("api", principal.user_id)
        return await services.embedded.locate(principal)
    except (TokenInvalid, CredentialsConflict, UserNotFound, SessionNotFound, UserBanned) as error:
        services.authenticator.note_refused(error)
        raise


SignedInHere = Annotated[Here, Depends(TakesBearer(here_of))]
Issuer = Annotated[EmbeddedIssuer, Depends(issuer_of)]


async def device_of(request: Request) -> Device:
    """Return the device that *request* comes from, as far as it says and proves.

    Raises:
        TokenInvalid: it comes with a DPoP proof that is none for it.
    """
    bound_to = (await proven_of(request)).binding(services_of(request).settings.token_binding)
    address = request.scope["state"]["chatkeep_client"].address
    return Device.of(request.headers.get("user-agent"), address, bound_to=bound_to)


async def proven_of(request: Request) -> Proven:
    """Return what *request* has that a token could be bound to, without showing one.

    Raises:
        TokenInvalid: it comes with a DPoP proof that is none for it, or was shown before.
        Unavailable: too many proofs, see `Proofs.spend`.
    """
    proven, shown = proven_without_proof(request), request.headers.getlist("dpop")
    if not shown:
        return proven
    if len(shown) > 1:
        raise TokenInvalid
    proofs = services_of(request).proofs
    key = proofs.check(shown[0], request_of(request))
    await proofs.spend(key)
    return replace(proven, key=key)
