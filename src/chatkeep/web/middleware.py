"""What every request passes through, as pure ASGI: nothing here buffers or wraps a stream.

Outermost first: the request's id, its log line and the headers every answer carries; then
HEAD, answered as GET is; then what browsers of other origins may read; then the answer to
what nobody foresaw; then the refusal of what is too large, no JSON, or unencrypted in
production.
"""

from __future__ import annotations

import codecs
import logging
import re
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from chatkeep import tracing
from chatkeep.errors import (
    BadRequest,
    ChatkeepError,
    HeadersTooLarge,
    InsecureTransport,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from chatkeep.ids import new_id
from chatkeep.request_origin import RequestOrigin, request_origin
from chatkeep.web import problems
from chatkeep.web.afterwards import afterwards_of
from chatkeep.web.gotrue import errors as gotrue_errors
from chatkeep.web.presented import ASKED_METHOD
from chatkeep.web.records import PROBES, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from chatkeep.web.clients import TrustedProxies
    from chatkeep.web.hosts import KnownHosts

_log = logging.getLogger("chatkeep.access")

_PARENT_HEADERS = ("traceparent", "tracestate")
_UPLOAD = re.compile(r"/support/attachments/[^/]+/upload|/api/files")
#: Another server sends it, and no page could: what counts in it is signed.
_TAKES_A_FORM = "/auth/backchannel-logout"
MAX_HEADER_BYTES = 32 * 1024
_BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none';"
    " form-action 'self'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = (
    (b"content-security-policy", _CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"cache-control", b"no-store"),
)


class RequestRecord:
    """Give each request an id, headers and one structured log line."""

    def __init__(self, app: ASGIApp, *, proxies: TrustedProxies, https: bool) -> None:
        """Wrap *app*. *https*: tell browsers to come back encrypted only."""
        self._app = app
        self._proxies = proxies
        self._headers = list(_SECURITY_HEADERS)
        if https:
            self._headers.append((b"strict-transport-security", b"max-age=31536000"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = new_id()
        state["chatkeep_client"] = client = self._proxies.client_of(scope)
        request_origin.set(
            RequestOrigin(
                request_id=state["request_id"],
                address=client.address,
                user_agent=Headers(scope=scope).get("user-agent"),
            )
        )
        began, status, answered = time.perf_counter(), 0, 0.0

        async def send_recorded(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], time.perf_counter() - began
                message["headers"] = self._completed(message["headers"], state)
            await send(message)

        with ExitStack() as stack:
            span = stack.enter_context(self._span(scope))
            try:
                await self._app(scope, receive, send_recorded)
            finally:
                record = Record.of(scope, status, began, answered)
                record.describe(span)
                left = afterwards_of(scope)
                if left is None or not left.note(record):
                    record.write()
                elif span.is_recording():
                    record.span = stack.pop_all()

    def _span(self, scope: Scope) -> AbstractContextManager[Span]:
        """Begin a span: within that of a proxy of ours, which strangers cannot choose."""

        def parent() -> dict[str, str] | None:
            if not self._proxies.vouch_for(scope):
                return None
            headers = Headers(scope=scope)
            return {name: headers[name] for name in _PARENT_HEADERS if name in headers}

        return tracing.span("request", kind=tracing.SpanKind.SERVER, parent=parent)

    def _completed(
        self, headers: Iterable[tuple[bytes, bytes]], state: Mapping[str, Any]
    ) -> list[tuple[bytes, bytes]]:
        """Return *headers*, whose names are in lower case as ASGI has them, with ours."""
        # As pairs: Starlette's MutableHeaders looks through all of them for each one.
        found = [pair for pair in headers if pair[1] or pair[0] != b"cache-control"]
        named = {name for name, _ in found}
        found.append((b"x-request-id", state["request_id"].encode()))
        if state.get("token_expiring"):
            found.append((b"x-token-expiring", b"true"))
        found += [(b"set-cookie", one.encode("latin-1")) for one in state.get("cookies", ())]
        found += [pair for pair in self._headers if pair[0] not in named]
        return found


class Heads:
    """Answer HEAD as GET is answered, without the body (RFC 9110 section 9.3.2).

    Not where the issuer's surface is spoken to: there some links are good for one GET, and
    what looks at mails before their readers do asks for their heads.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap *app*."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if not _is_head(scope):
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                # A stream hears of it as of a reader who goes away.
                await send({"type": "http.response.body"})

        # Another scope: the server knows by its own that no body may follow.
        asked = {**scope, "method": "GET", ASKED_METHOD: "HEAD"}
        await self._app(asked, receive, send_head)
        scope["route"] = asked.get("route")


def _is_head(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "HEAD":
        return False
    return not gotrue_errors.speaks_for(scope["path"])


class CrossOrigin(CORSMiddleware):
    """Starlette's, but that a preflight it refuses is silence, not a page of text."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight; without the headers it hopes for, the browser refuses."""
        answer = super().preflight_response(request_headers)
        kept = ("vary", "access-control-")
        headers = {k: v for k, v in answer.headers.items() if k.startswith(kept)}
        return Response(headers=headers)


class Unforeseen:
    """Answer what nobody foresaw with a bare 500, and log it under the request's id."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap *app*."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answered = False

        async def send_noted(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception as error:
            # Hung up on while its body was read: no fault, and 400 as where FastAPI reads it.
            gone = isinstance(error, ClientDisconnect) and not answered
            if not gone:
                _log.exception("request %s failed", scope["state"]["request_id"])
            if answered:
                raise  # too late for an answer: the server closes the connection
            problem = BadRequest() if gone else ChatkeepError()
            await _answer_of(problem, scope)(scope, receive, send)


class Refuse:
    """Refuse before any work: too large, no JSON, not our name, or plain HTTP in production."""

    def __init__(
        self, app: ASGIApp, *, hosts: KnownHosts, max_body_bytes: int, https_only: bool
    ) -> None:
        """Wrap *app*."""
        self._app = app
        self._hosts = hosts
        self._max_body_bytes = max_body_bytes
        self._https_only = https_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope)
        if problem is not None:
            await _answer_of(problem, scope)(scope, receive, send)
            return
        if _is_file(scope):
            await self._app(scope, receive, send)
            return
        await self._limited(scope, receive, send)

    def _problem(self, scope: Scope) -> ChatkeepError | None:
        headers = scope["headers"]
        if sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
            return HeadersTooLarge()
        if scope["path"] not in PROBES:
            if self._https_only and scope["state"]["chatkeep_client"].scheme != "https":
                return InsecureTransport()
            if problem := self._hosts.problem(Headers(raw=headers).getlist("host")):
                return problem
        length = _content_length(scope)
        if _is_file(scope):
            return None  # its route knows how long it may be
        if length is not None and length > self._max_body_bytes:
            return PayloadTooLarge()
        return UnsupportedMediaType() if length != 0 and _is_foreign_body(scope) else None

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the body while it is read; a chunked one does not say its length before.

        Python would guess UTF-16 or UTF-32 from its zero bytes, which JSON in UTF-8 never has
        (RFC 8259 section 8.1); what stands in front of us would not guess the same.
        """
        received, answered = 0, False

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            piece = message.get("body", b"")
            if b"\0" in piece or (not received and piece.startswith(_BYTE_ORDER_MARKS)):
                raise BadRequest("Send JSON in UTF-8.")
            received += len(piece)
            if received > self._max_body_bytes:
                raise PayloadTooLarge
            return message

        async def send_unless_too_large(message: Message) -> None:
            nonlocal answered
            # The framework words whatever stops it from reading the body as its own 400.
            if answered or received <= self._max_body_bytes:
                answered = True
                await send(message)

        try:
            await self._app(scope, receive_counted, send_unless_too_large)
        except PayloadTooLarge:
            if answered:
                raise
        if not answered and received > self._max_body_bytes:
            await _answer_of(PayloadTooLarge(), scope)(scope, receive, send)


def _answer_of(error: ChatkeepError, scope: Scope) -> Response:
    """The answer in the words of the surface that was spoken to."""
    if gotrue_errors.speaks_for(scope["path"]):
        version = Headers(scope=scope).get(gotrue_errors.VERSION_HEADER)
        return gotrue_errors.answer_of(error, version)
    return problems.answer_at(scope["path"], error, scope["state"]["request_id"])


def _is_file(scope: Scope) -> bool:
    """Whether the body is a file's: bytes of any kind, which their route counts itself."""
    return bool(_UPLOAD.fullmatch(scope["path"])) and scope["method"] in {"POST", "PUT"}


def _content_length(scope: Scope) -> int | None:
    """How long the body says it is; 0 without one, None when only its end will tell."""
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return None
    length = headers.get(b"content-length", b"0")
    return int(length) if length.isdigit() else None


def _is_foreign_body(scope: Scope) -> bool:
    """Whether the body is said to be anything but JSON in UTF-8 (a form of another site, say).

    The issuer's surface looks for itself, in its own order, and so does the route for forms.
    """
    if gotrue_errors.speaks_for(scope["path"]) or scope["path"] == _TAKES_A_FORM:
        return False
    said = Headers(scope=scope).get("content-type", "").lower()
    media_type, _, parameter = said.partition(";")
    charset = parameter.strip().removeprefix("charset=").strip('"')
    return media_type.strip() != "application/json" or charset not in {"", "utf-8"}
