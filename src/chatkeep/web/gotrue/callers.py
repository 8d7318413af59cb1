"""Who calls a route of `/auth/v1`, from which device, and how often they may."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request

from chatkeep.devices import Device
from chatkeep.errors import (
    CredentialsConflict,
    RateLimited,
    SessionNotFound,
    TokenInvalid,
    TooManyMails,
    Unauthenticated,
    UserBanned,
    UserNotFound,
)
from chatkeep.issuance import EmbeddedIssuer, Here
from chatkeep.web.api_document import TakesBearer
from chatkeep.web.attempts import spend_attempt
from chatkeep.web.presented import presented_by
from chatkeep.web.services import services_of


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
    await services_of(request).limits.spend(kind, request.scope["state"]["client"].bucket)


async def spend_mail(request: Request, email: str) -> None:
    """Count a mail to *email*, as it was typed and whether or not anybody has it.

    Raises:
        TooManyMails: one was sent a moment ago, or enough for now.
    """
    key = hashlib.sha256(email.strip().lower().encode("utf-8", "surrogatepass")).hexdigest()
    try:
        await services_of(request).limits.spend("mail_pause", key)
    except RateLimited as error:
        raise TooManyMails(
            "For security purposes, you can only request this after"
            f" {error.retry_after_s} seconds.",
            retry_after_s=error.retry_after_s,
        ) from error
    await spend_attempt(request, "mail", email)


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
    try:
        principal = await services.issuers.authenticate(token)
        await services.authenticator.agreeing(principal, presented_by(request))
        await services.limits.spend("api", principal.user_id)
        return await services.embedded.locate(principal)
    except (TokenInvalid, CredentialsConflict, UserNotFound, SessionNotFound, UserBanned) as error:
        services.authenticator.note_refused(error)
        raise


SignedInHere = Annotated[Here, Depends(here_of)]
Issuer = Annotated[EmbeddedIssuer, Depends(issuer_of)]


def device_of(request: Request) -> Device:
    """Return the device that *request* comes from, as far as it says."""
    return Device.of(request.headers.get("user-agent"), request.scope["state"]["client"].address)
