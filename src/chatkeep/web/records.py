"""What is counted, logged and traced of each request when it has ended."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self

from chatkeep import tracing
from chatkeep.metrics import Counter, Histogram

if TYPE_CHECKING:
    from contextlib import ExitStack

    from opentelemetry.trace import Span
    from starlette.types import Scope

_log = logging.getLogger("chatkeep.access")

_REQUESTS = Counter(
    "chatkeep_http_requests_total",
    "Requests that ended; without an answer the status is 0.",
    "method",
    "route",
    "status",
    most=2000,
)
_ANSWERED = Histogram(
    "chatkeep_http_response_seconds",
    "From the request to the head of its answer.",
    "method",
    "route",
    most=400,
)
_NO_ROUTE = "none"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: What platforms ask again and again, and what is only worth a line when it is not well.
PROBES: Final = frozenset({"/healthz", "/readyz"})
_SECRET_PATH = re.compile(r"^(/s/|/api/v1/shared/).+", re.DOTALL)


@dataclass(slots=True, kw_only=True)
class Record:
    """What is counted and logged of a request when it has ended.

    The path only, and of a shared link not what opens it. It is counted by its *route*'s own
    path, in which ids are names; a method that a route has not is no route. Of a stream *span*
    is closed with it.
    """

    request_id: str
    trace_id: str | None
    method: str
    path: str
    route: str
    client: str
    user_id: str | None
    status: int
    began: float
    answered_s: float
    span: ExitStack | None = None

    @classmethod
    def of(cls, scope: Scope, status: int, began: float, answered_s: float) -> Self:
        """Take from *scope* what is told of it."""
        state, has_not = scope["state"], status == HTTPStatus.METHOD_NOT_ALLOWED
        return cls(
            request_id=state["request_id"],
            trace_id=tracing.trace_id(),
            method=scope["method"],
            path=_SECRET_PATH.sub(r"\1...", scope["path"]),
            route=_NO_ROUTE if has_not else getattr(scope.get("route"), "path", _NO_ROUTE),
            client=state["chatkeep_client"].address,
            user_id=getattr(state.get("principal"), "user_id", None),
            status=status,
            began=began,
            answered_s=answered_s,
        )

    @property
    def counted_method(self) -> str:
        """The method, where it is one there is."""
        return self.method if self.method in _METHODS else "other"

    def describe(self, span: Span) -> None:
        """Say in *span* what was asked, and what became of it."""
        if not span.is_recording():
            return
        span.update_name(f"{self.counted_method} {self.route}")
        span.set_attributes(
            {
                "http.request.method": self.counted_method,
                "http.route": self.route,
                "http.response.status_code": self.status,
                "chatkeep.request_id": self.request_id,
            }
        )
        if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            tracing.failed(span, str(self.status))

    def write(self) -> None:
        """Count it, write its line, and end what it was part of."""
        _REQUESTS.add(self.counted_method, self.route, str(self.status))
        if self.status:
            _ANSWERED.observe(self.answered_s, self.counted_method, self.route)
        told = ("request_id", "trace_id", "method", "path", "status", "client", "user_id")
        took_ms = round((time.perf_counter() - self.began) * 1000, 1)
        is_routine = self.path in PROBES and self.status == HTTPStatus.OK
        level = logging.DEBUG if is_routine else logging.INFO
        extra = {"ms": took_ms, **{one: getattr(self, one) for one in told}}
        _log.log(level, "request", extra=extra)
        if self.span is not None:
            self.span.close()
