"""Counting attempts at accounts, for routes where a password, a code or a mail is in play.

    async with attempting(request, "password", body.email):
        grant = await password_accounts.sign_in(...)

    await spend_attempt(request, "mail", body.email)   # before a mail is queued

Do this beside the limit by address (`limited("otp")`), which comes first. Name the account
as the caller typed it, whether it exists or not, and before looking it up: an e-mail address,
or the id of who is signed in. What is refused is a 429 with `Retry-After` in the words of the
surface; see `chatkeep.limits.attempts` for whom it can hit.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chatkeep.errors import ChatkeepError, RateLimited, TooManyMails, Unavailable
from chatkeep.web.services import services_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from chatkeep.limits import Attempt, AttemptKind


@asynccontextmanager
async def attempting(
    request: Request,
    kind: AttemptKind,
    account: str,
    *,
    harmless: tuple[type[ChatkeepError], ...] = (),
) -> AsyncIterator[None]:
    """Count what the block does as one attempt at *account*.

    It is given back when the block succeeds, is refused because something is away, or raises
    one of *harmless*: what says nothing about the password or code. Everything else counts.

    Raises:
        RateLimited: too many attempts; the block is not run.
    """
    attempt = await spend_attempt(request, kind, account)
    attempts = services_of(request).attempts
    try:
        yield
    except ChatkeepError as error:
        if isinstance(error, (Unavailable, *harmless)):
            await attempts.give_back(attempt)
        raise
    await attempts.give_back(attempt)


async def spend_attempt(request: Request, kind: AttemptKind, account: str) -> Attempt:
    """Count one attempt of *kind* at *account*, for good.

    Raises:
        RateLimited: too many attempts (TooManyMails, of the kind "mail").
    """
    network = request.scope["state"]["chatkeep_client"].bucket
    try:
        return await services_of(request).attempts.spend(kind, account, network)
    except RateLimited as error:
        if kind == "mail":
            raise TooManyMails(retry_after_s=error.retry_after_s) from error
        raise
