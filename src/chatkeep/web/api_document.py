"""What the OpenAPI document says beyond what FastAPI reads from the routes.

Every operation says whether it takes a bearer token: through the dependency that names who
may call, so that the document cannot differ from the code. What any request can be
answered with, whatever its route, is added here once.
"""

from __future__ import annotations

import asyncio
import gzip
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import Request
from starlette.responses import Response

from chatkeep.web import problems
from chatkeep.web.content_encoding import takes_gzip
from chatkeep.web.gotrue import errors as gotrue_errors
from chatkeep.web.openai import errors as openai_errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


class TakesBearer(SecurityBase):
    """A dependency that reads the caller's token, of which the document says so.

    It is one of FastAPI's and not two, one of them only for the document: each that a route
    has takes 20 us of every request.
    """

    scheme_name = "bearer"
    model = HTTPBearer(bearerFormat="JWT", description="The caller's access token.")

    def __init__(self, reads: Callable[[Request], Awaitable[Any]]) -> None:
        """Depend on *reads*."""
        self.reads = reads

    async def __call__(self, request: Request) -> Any:  # noqa: ANN401 -- as it reads
        """Return what it reads."""
        return await self.reads(request)


#: For an operation that also answers callers without one.
BEARER_OPTIONAL: Final[dict[str, Any]] = {"security": [{}]}

TAGS: Final = [
    {"name": "conversations", "description": "Conversations of the caller, and messages to them."},
    {"name": "AI SDK", "description": "What `useChat` of the AI SDK posts, resumes and stops."},
    {"name": "ChatKit", "description": "The support chat: ChatKit's server protocol, and files."},
    {"name": "settings", "description": "How the caller wants to be answered."},
    {"name": "usage", "description": "What the caller has used, and what is left of budgets."},
    {"name": "OpenAI API", "description": "What any client of the OpenAI API sends."},
    {"name": "Supabase Auth", "description": "Our own issuer, as Supabase clients expect it."},
    {
        "name": "Supabase Auth administration",
        "description": "Accounts, for servers that have the secret key.",
    },
    {"name": "tokens", "description": "What a token is worth, and who its bearer is."},
    {
        "name": "browser sessions",
        "description": "Signing a browser in with a cookie that no script reads.",
    },
    {"name": "API keys", "description": "What the caller's own programs show instead of a token."},
    {"name": "sessions", "description": "Where the caller is signed in, and ending it there."},
    {
        "name": "administration",
        "description": "People and their sessions, for administrators among people.",
    },
    {"name": "meta", "description": "What a client and an operator's probes ask first."},
]
_FOR_ANY_REQUEST: Final = (400, 403, 408, 413, 431, 500, 503)
_WITH_A_BODY: Final = (415,)
_WITH_A_CREDENTIAL: Final = (401, 429)
_WITH_A_NARROW_PARAMETER: Final = (422,)
_ANY_TEXT: Final = frozenset({"string", "null"})
_SAYS_NOTHING: Final = frozenset({"type", "title", "default", "description"})
_HEADERS: Final = {
    "X-Request-Id": {
        "description": "Under which the request is logged.",
        "schema": {"type": "string"},
    }
}
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}
}
_WAITING: Final = frozenset({"429", "503"})


class ApiDocument:
    """The document as it is sent: made once, beside the requests, when somebody first asks.

    It is most of a megabyte, and a second of work.
    """

    def __init__(self, generate: Callable[[], dict[str, Any]]) -> None:
        """Send what *generate* returns."""
        self._generate = generate
        self._making: asyncio.Task[tuple[bytes, bytes]] | None = None

    async def answer(self, request: Request) -> Response:
        """Return it for *request*: packed, for who takes that."""
        plain, packed = await self._made()
        headers = {"vary": "accept-encoding"}
        prefix = request.scope.get("root_path", "")
        if prefix:  # where this application is mounted in another
            servers = msgspec.json.encode({"servers": [{"url": prefix}]})
            plain = servers[:-1] + b"," + plain[1:]
        elif takes_gzip(request):
            headers["content-encoding"] = "gzip"
            plain = packed
        return Response(plain, media_type="application/json", headers=headers)

    async def _made(self) -> tuple[bytes, bytes]:
        """Return it plain and packed.

        Whoever hangs up meanwhile leaves the work to the others: nobody begins it again.
        """
        if self._making is None:
            self._making = asyncio.create_task(asyncio.to_thread(self._make))
            self._making.add_done_callback(self._forget_a_fault)
        return await asyncio.shield(self._making)

    def _forget_a_fault(self, made: asyncio.Task[tuple[bytes, bytes]]) -> None:
        if made.cancelled() or made.exception() is not None:
            self._making = None

    def _make(self) -> tuple[bytes, bytes]:
        plain = msgspec.json.encode(self._generate())
        return plain, gzip.compress(plain)


def completed(generate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the generated document with what holds for every operation."""
    document = generate()
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = problems.PROBLEM_SCHEMA
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own wording of a 422
        schemas.pop(unused, None)
    for path, operation in _operations(document):
        operation["summary"] = _first_sentence(operation.get("description", ""))
        operation["responses"] = _responses(path, operation)
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            yield path, operation


def _responses(path: str, operation: dict[str, Any]) -> dict[str, Any]:
    found = {
        status: response
        for status, response in operation["responses"].items()
        if "HTTPValidationError" not in str(response)
    }
    for status in _statuses(path, operation):
        _describe(found, path, status)
    for status, response in found.items():
        response["headers"] = _HEADERS | (_RETRY_AFTER if status in _WAITING else {})
    return dict(sorted(found.items()))


def _statuses(path: str, operation: dict[str, Any]) -> tuple[int, ...]:
    body = _WITH_A_BODY if "requestBody" in operation else ()
    credential = _WITH_A_CREDENTIAL if "security" in operation else ()
    in_their_words = openai_errors.speaks_for(path) or gotrue_errors.speaks_for(path)
    narrow = any(_is_narrow(one) for one in operation.get("parameters", ()))
    refusal = _WITH_A_NARROW_PARAMETER if narrow and not in_their_words else ()
    return _FOR_ANY_REQUEST + body + credential + refusal


def _is_narrow(parameter: dict[str, Any]) -> bool:
    """Whether some text in its place is refused."""
    schema = parameter["schema"]
    kinds = schema.get("anyOf", [schema])
    return any(one.keys() - _SAYS_NOTHING or one.get("type") not in _ANY_TEXT for one in kinds)


def _describe(responses: dict[str, Any], path: str, status: int) -> None:
    """Describe an answer with *status*, in each form in which the surface of *path* has it."""
    described = responses.setdefault(
        str(status), {"description": HTTPStatus(status).phrase, "content": {}}
    )
    content = described.setdefault("content", {})
    if openai_errors.speaks_for(path):
        content.update(openai_errors.described(status)[status]["content"])
    if gotrue_errors.speaks_for(path):
        content.update(gotrue_errors.described(status)[status]["content"])
    # What is refused at the connection has this form whatever was asked for.
    content.update(problems.described(status)[status]["content"])


def _first_sentence(description: str) -> str:
    paragraph = " ".join(description.split("\n\n", maxsplit=1)[0].split())
    sentence, _, _ = paragraph.partition(". ")
    return sentence.removesuffix(".")
