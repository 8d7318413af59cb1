"""Errors as Supabase Auth words them: the envelope of `/auth/v1`.

Clients that name a version of the API get `{code, message}`, others the older
`{code, error_code, msg}`. One error code has one status. Nothing that was sent is echoed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from chatkeep import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

VERSION_HEADER: Final = "x-supabase-api-version"
_VERSION: Final = "2024-01-01"
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MEMBERS_SHOWN: Final = ("weak_password",)


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a failure is worded here."""

    status: int
    code: str
    message: str


class Refused(Exception):
    """A failure that only this surface knows, such as "there is no such provider here"."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.code)


# What the rest of the server calls otherwise; everything else keeps its code and status.
_NAMES_HERE: Final[tuple[tuple[type[errors.ChatkeepError], int, str, str | None], ...]] = (
    (
        errors.Unauthenticated,
        401,
        "no_authorization",
        "This endpoint requires a valid Bearer token",
    ),
    (errors.CredentialsConflict, 400, "validation_failed", None),
    (errors.TokenExpired, 403, "bad_jwt", "invalid JWT: token is expired"),
    (errors.TokenInvalid, 403, "bad_jwt", "invalid JWT: unable to parse or verify signature"),
    (errors.TooManyMails, 429, "over_email_send_rate_limit", "Email rate limit exceeded"),
    (errors.RateLimited, 429, "over_request_rate_limit", "Request rate limit reached"),
    (errors.PayloadTooLarge, 413, "request_entity_too_large", None),
    (errors.Invalid, 400, "validation_failed", None),
    (errors.BadRequest, 400, "bad_json", None),
)


def worded(error: errors.ChatkeepError) -> Refusal:
    """Return how this surface words *error*."""
    for kind, status, code, message in _NAMES_HERE:
        if isinstance(error, kind):
            return Refusal(status, code, message or error.detail)
    if error.code == errors.ChatkeepError.code:
        return Refusal(error.status, "unexpected_failure", error.detail)
    return Refusal(error.status, error.code, error.detail)


def speaks_for(path: str) -> bool:
    """Whether failures at *path* are worded here."""
    return path.startswith("/auth/v1/")


def answer_of(error: errors.ChatkeepError | Refused, version: str | None) -> Response:
    """Return the HTTP answer for *error* to a client of the API's *version* (its header)."""
    if isinstance(error, Refused):
        return _answer(error.refusal, version, {}, {})
    more = {name: error.members[name] for name in _MEMBERS_SHOWN if name in error.members}
    return _answer(worded(error), version, _headers(error), more)


def _headers(error: errors.ChatkeepError) -> dict[str, str]:
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, errors.Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, errors.MethodNotAllowed):  # RFC 9110 section 15.5.6
        headers["allow"] = str(error.members.get("allow", ""))
    return headers


def _answer(
    said: Refusal, version: str | None, headers: dict[str, str], more: dict[str, object]
) -> Response:
    headers = {"cache-control": "no-store", "x-sb-error-code": said.code, **headers}
    body: dict[str, object] = {"code": said.status, "error_code": said.code, "msg": said.message}
    if version is not None and _DATE.fullmatch(version) and version >= _VERSION:
        headers[VERSION_HEADER] = _VERSION
        body = {"code": said.code, "message": said.message}
    encoded = msgspec.json.encode(body | more)
    return Response(encoded, said.status, headers, media_type="application/json")


class GoTrueRoute(APIRoute):
    """A route whose failures are worded for Supabase clients."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler, dependencies included."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except (errors.ChatkeepError, Refused) as error:
                return answer_of(
                    _never_signs_out(error, request), request.headers.get(VERSION_HEADER)
                )

        return handle


def _never_signs_out(
    error: errors.ChatkeepError | Refused, request: Request
) -> errors.ChatkeepError | Refused:
    """Say "busy" to a refresh that comes too often: on a 429 auth-js drops the session.

    And to one that an operator's hook has failed: on a 500 it does so too.
    """
    refreshing = request.query_params.get("grant_type") == "refresh_token"
    if refreshing and isinstance(error, errors.AccessTokenHookFailed):
        return errors.Unavailable()
    if refreshing and isinstance(error, errors.RateLimited):
        return errors.Unavailable(retry_after_s=error.retry_after_s)
    return error


ERROR_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "code": {
            "description": "The error's code; its status for clients that name no version.",
            "type": ["string", "integer"],
        },
        "message": {"type": "string"},
        "error_code": {"type": "string"},
        "msg": {"type": "string"},
        "weak_password": {
            "type": "object",
            "properties": {"reasons": {"type": "array", "items": {"type": "string"}}},
        },
    },
    "required": ["code"],
}


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error answers of a route, for the OpenAPI document."""
    content = {"application/json": {"schema": ERROR_SCHEMA}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted(statuses)
    }
