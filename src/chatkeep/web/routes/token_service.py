"""The token service: is this token good, when does it end, and who is it.

The same routes under `/auth`, `/api/auth` and bare, for the tokens of every issuer.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request

from chatkeep.errors import (
    BadRequest,
    TokenExpired,
    TokenInvalid,
    TokenNotActive,
    TokenRevoked,
    TokenWithoutExpiry,
    TokenWrongAudience,
)
from chatkeep.web import schemas
from chatkeep.web.auth import Anybody, SignedInOnSupport
from chatkeep.web.persons import person_of
from chatkeep.web.problems import described
from chatkeep.web.schemas import PersonAnswer
from chatkeep.web.services import Services, ServicesDep

if TYPE_CHECKING:
    from chatkeep.principal import Principal

Reason = Literal["expired", "not_active", "revoked", "wrong_audience", "no_expiry", "invalid"]

_ERRORS = described(400, 401, 403, 413, 415, 422, 429, 431, 500, 503)
_REASONS: dict[type[TokenInvalid], Reason] = {
    TokenExpired: "expired",
    TokenNotActive: "not_active",
    TokenRevoked: "revoked",
    TokenWrongAudience: "wrong_audience",
    TokenWithoutExpiry: "no_expiry",
}


class TokenRequest(schemas.Request):
    """A token to look at; without it the one in `Authorization` is."""

    token: Annotated[str, Field(max_length=16_384)] | None = None


class ExpiryAnswer(BaseModel):
    """When a token ends. Seconds since 1970; null where the token does not verify."""

    expired: bool
    expires_at: int | None
    expires_in: int | None
    needs_refresh: bool


class ValidityAnswer(ExpiryAnswer):
    """Whether a token is valid, or why not."""

    valid: bool
    reason: Reason | None = None
    user_id: str | None = None
    issuer: str | None = None
    issued_at: int | None = None


router = APIRouter()
_routes = APIRouter(tags=["tokens"], responses=_ERRORS)


@_routes.post("/token/validate")
async def validate(
    request: Request, _: Anybody, services: ServicesDep, body: TokenRequest | None = None
) -> ValidityAnswer:
    """Say whether a token is valid or why not, and when it ends. No sign-in needed."""
    await services.limits.spend("token", request.state.chatkeep_client.bucket)
    try:
        principal = await services.authenticator.principal_of(_token(request, body))
    except TokenInvalid as error:
        return ValidityAnswer(
            valid=False,
            reason=_reason(error),
            issued_at=error.issued_at if isinstance(error, TokenExpired) else None,
            **_ended(error).model_dump(),
        )
    return ValidityAnswer(
        valid=True,
        user_id=principal.user_id,
        issuer=principal.issuer,
        issued_at=_seconds(principal.issued_at),
        **_ends(principal, services).model_dump(),
    )


@_routes.post("/token/check-expiry")
async def check_expiry(
    request: Request, _: Anybody, services: ServicesDep, body: TokenRequest | None = None
) -> ExpiryAnswer:
    """Say when a token ends, and whether it should be refreshed. No sign-in needed."""
    await services.limits.spend("token", request.state.chatkeep_client.bucket)
    try:
        principal = await services.authenticator.principal_of(_token(request, body))
    except TokenInvalid as error:
        return _ended(error)
    return _ends(principal, services)


@_routes.get("/me", responses=described(404))
async def me(who: SignedInOnSupport, services: ServicesDep) -> PersonAnswer:
    """Say who the caller is.

    With the refusals of the support chat: a token of Better Auth whose person is gone, or has
    signed out everywhere, is a 404.
    """
    return await person_of(who, services)


for _prefix in ("/auth", "/api/auth", ""):
    router.include_router(_routes, prefix=_prefix)


def _reason(error: TokenInvalid) -> Reason:
    return next((reason for kind, reason in _REASONS.items() if isinstance(error, kind)), "invalid")


def _token(request: Request, body: TokenRequest | None) -> str:
    """The token of the body, else the bearer; malformed is a 400, not a verdict."""
    if body is not None and body.token:
        return body.token
    sent = request.headers.getlist("authorization")
    if len(sent) != 1 or not sent[0].lower().startswith("bearer "):
        raise BadRequest("Send the token as `token` in the body, or as a bearer.")
    return sent[0][len("bearer ") :]


def _ends(principal: Principal, services: Services) -> ExpiryAnswer:
    now, expires_at = datetime.now(UTC), principal.expires_at
    window = timedelta(seconds=services.settings.token_refresh_window_s)
    return ExpiryAnswer(
        expired=False,
        expires_at=_seconds(expires_at),
        expires_in=None if expires_at is None else int((expires_at - now).total_seconds()),
        needs_refresh=principal.expires_within(window, now=now),
    )


def _ended(error: TokenInvalid) -> ExpiryAnswer:
    """Say since when, for a token whose signature verified; of no other is anything known."""
    known = error.expires_at if isinstance(error, TokenExpired) else None
    return ExpiryAnswer(
        expired=known is not None,
        expires_at=known,
        expires_in=None if known is None else known - int(datetime.now(UTC).timestamp()),
        needs_refresh=known is not None,
    )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
