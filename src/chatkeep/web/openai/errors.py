"""Errors as the OpenAI API words them: `{"error": {"message", "type", "param", "code"}}`.

`x-should-retry` tells its clients whether another attempt is safe: they would otherwise
repeat, unasked, what a provider may already have billed.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response

from chatkeep import errors
from chatkeep.answering.reading import failure_of

if TYPE_CHECKING:
    from chatkeep.runs import Ending

_PREFIX: Final = "/v1/"
#: Nothing was begun, so nothing is done twice.
_SAFE_TO_REPEAT: Final = frozenset({429, 503})
_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_SERVERS_FAULT: Final = 500
_NO_QUOTA: Final = "insufficient_quota"
#: The member of an error that came when the answer had begun.
_BEGUN: Final = "begun"


def speaks_for(path: str) -> bool:
    """Whether failures at *path* are worded here."""
    return path.startswith(_PREFIX)


def failure_of_answer(ending: Ending, *, said: bool) -> errors.ChatkeepError | None:
    """Return what an answer failed with, if it did; *said*: some of it had come before.

    Then, or when we gave it up ourselves, its provider was at work and may bill it.
    """
    failure = failure_of(ending)
    if failure is not None and (said or ending.state == "interrupted"):
        failure.members[_BEGUN] = True
    return failure


def body_of(error: errors.ChatkeepError) -> dict[str, Any]:
    """Return the body that describes *error*; streams send the same as their last event."""
    status, code = _status_and_code(error)
    said = {
        "message": error.detail,
        "type": _NO_QUOTA if code == _NO_QUOTA else _TYPES.get(status, _type(status)),
        "param": _param(error),
        "code": code,
    }
    return {"error": said}


def answer_of(error: errors.ChatkeepError) -> Response:
    """Return the HTTP answer for *error*."""
    status, code = _status_and_code(error)
    was_begun = _BEGUN in error.members
    may_repeat = status in _SAFE_TO_REPEAT and code != _NO_QUOTA and not was_begun
    headers = {
        "cache-control": "no-store",
        "x-should-retry": "true" if may_repeat else "false",
    }
    retry_after_s = error.retry_after_s
    if retry_after_s is None and status == HTTPStatus.SERVICE_UNAVAILABLE:
        retry_after_s = errors.Unavailable().retry_after_s
    if retry_after_s is not None:
        headers["retry-after"] = str(retry_after_s)
    if error.challenge is not None:
        headers["www-authenticate"] = error.challenge
    if isinstance(error, errors.MethodNotAllowed) and "allow" in error.members:
        headers["allow"] = str(error.members["allow"])  # RFC 9110 section 15.5.6
    body = msgspec.json.encode(body_of(error))
    return Response(body, status, headers, media_type="application/json")


def _status_and_code(error: errors.ChatkeepError) -> tuple[int, str]:
    if isinstance(error, errors.Unauthenticated | errors.TokenInvalid):
        return HTTPStatus.UNAUTHORIZED, "invalid_api_key"
    if isinstance(error, errors.BudgetExhausted):
        return error.status, _NO_QUOTA  # as OpenAI words it (guide "Error codes")
    if isinstance(error, errors.Invalid):
        return HTTPStatus.BAD_REQUEST, error.code
    return error.status, error.code


def _type(status: int) -> str:
    return "server_error" if status >= _SERVERS_FAULT else "invalid_request_error"


def _param(error: errors.ChatkeepError) -> str | None:
    problems = error.members.get("errors")
    if isinstance(problems, list) and problems:
        return str(problems[0]["field"])
    return None


ERROR_SCHEMA: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error answers of a route, for the OpenAPI document."""
    content = {"application/json": {"schema": ERROR_SCHEMA}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted(statuses)
    }
