"""Errors as answers: RFC 9457 problem bodies that also carry `error`, `code`, `status`.

The only place that turns a failure into HTTP. What a caller sent is never echoed, what
went wrong inside is logged and never told.
"""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import compile_path

from chatkeep import errors
from chatkeep.web.openai import errors as openai_errors
from chatkeep.web.refused_fields import refused_fields

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable

    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.routing import BaseRoute

_MEDIA_TYPE = "application/problem+json"
#: What programs speak to: there a failure is a problem, whoever looks.
_SURFACES = ("/api", "/auth", "/v1", "/support")
_BY_STATUS: dict[int, type[errors.ChatkeepError]] = {
    400: errors.BadRequest,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.PayloadTooLarge,
    415: errors.UnsupportedMediaType,
}


def body_of(error: errors.ChatkeepError, request_id: str) -> dict[str, Any]:
    """Return the body that describes *error*; streams send the same as their last event."""
    return {
        **error.members,
        "type": f"urn:chatkeep:error:{error.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "error": error.detail,
        "request_id": request_id,
    }


def answer_of(error: errors.ChatkeepError, request_id: str) -> Response:
    """Return the HTTP answer for *error*."""
    headers = {"cache-control": "no-store"}
    if (wait_s := _retry_after_s(error)) is not None:
        headers["retry-after"] = str(wait_s)
    if error.challenge is not None:
        headers["www-authenticate"] = error.challenge
    body = msgspec.json.encode(body_of(error, request_id))
    return Response(body, error.status, headers, media_type=_MEDIA_TYPE)


def answer_at(path: str, error: errors.ChatkeepError, request_id: str) -> Response:
    """Return the HTTP answer for *error*, in the words of the surface that has *path*."""
    if openai_errors.speaks_for(path):
        return openai_errors.answer_of(error)
    return answer_of(error, request_id)


async def on_chatkeep_error(request: Request, error: Exception) -> Response:
    """Answer a foreseen failure."""
    assert isinstance(error, errors.ChatkeepError)  # noqa: S101 -- registered for this type alone
    return _answer(request, error)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: unknown paths, wrong methods."""
    status = _status(error)
    if status == HTTPStatus.NOT_FOUND and _is_visit(request):
        page: Response = request.app.state.missing_page()
        return page
    kind = _BY_STATUS.get(status, errors.ChatkeepError)
    answer = _answer(request, kind())
    answer.headers.update(getattr(error, "headers", None) or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = request.app.state.documented_methods(request.scope["path"])
        if methods:
            answer.headers["allow"] = ", ".join(sorted(methods))
    return answer


def _is_visit(request: Request) -> bool:
    """Whether somebody looks at an address of no surface in a browser."""
    wanted = request.headers.get("accept", "")
    return (
        request.method == "GET"
        and "text/html" in wanted
        and not request.scope["path"].startswith(_SURFACES)
    )


def methods_in(routes: Iterable[BaseRoute]) -> Callable[[str], set[str]]:
    """Return what finds every method that is documented for a path.

    The framework names those of its first route alone. Not from the document: to make that
    takes a second, in which nobody is answered.
    """
    documented = [one for one in routes if isinstance(one, APIRoute) and one.include_in_schema]

    @cache
    def known() -> dict[str, tuple[re.Pattern[str], set[str]]]:
        found: dict[str, tuple[re.Pattern[str], set[str]]] = {}
        for one in documented:
            place = found.setdefault(one.path_format, (compile_path(one.path_format)[0], set()))
            place[1].update(one.methods or ())
        return found

    def find(path: str) -> set[str]:
        if path in known():
            return known()[path][1]
        here = [methods for pattern, methods in known().values() if pattern.match(path)]
        return set().union(*here)

    return find


async def on_invalid_request(request: Request, error: Exception) -> Response:
    """Answer a request that does not fit its schema: fields and messages, no values."""
    found: RequestValidationError = error  # type: ignore[assignment]  # registered for this type alone
    refused = found.errors()
    if any(one["type"] == "json_invalid" for one in refused):
        return _answer(request, errors.BadRequest("The body is not valid JSON."))
    problems = refused_fields(refused, found.body)
    first = problems[0]
    detail = f"{first['field']}: {first['message']}"
    return _answer(request, errors.Invalid(detail, errors=problems))


def _answer(request: Request, error: errors.ChatkeepError) -> Response:
    return answer_at(request.scope["path"], error, request_id_of(request))


def request_id_of(request: Request) -> str:
    """Return the id under which the request is logged."""
    return str(request.scope["state"]["request_id"])


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error answers of a route, for the OpenAPI document."""
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {_MEDIA_TYPE: {"schema": schema}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted(statuses)
    }


def _status(error: Exception) -> int:
    refused: HTTPException = error  # type: ignore[assignment]  # registered for this type alone
    return refused.status_code


def _retry_after_s(error: errors.ChatkeepError) -> int | None:
    if error.retry_after_s is None and error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return errors.Unavailable().retry_after_s
    return error.retry_after_s


PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "error", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What to do about it."},
        "code": {"type": "string", "description": "Stable; see the error reference."},
        "error": {"type": "string", "description": "The same as `detail`."},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
