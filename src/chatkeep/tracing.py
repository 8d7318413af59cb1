"""Spans for OpenTelemetry, where whoever runs the process has set it up; else nothing at all.

Only its API is used: which collector, how much is sampled and what is exported is said to the
SDK, which is not ours. What a span tells are routes, statuses, codes, models and numbers: no
path, no query and no message of an exception, in which tokens, ids and words of people stand.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, ProxyTracerProvider, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

__all__ = ["SpanKind", "failed", "is_on", "span", "trace_id"]

_parents = TraceContextTextMapPropagator()
_NOTHING: Final = nullcontext(INVALID_SPAN)


def is_on() -> bool:
    """Whether somebody has set it up in this process."""
    return not isinstance(trace.get_tracer_provider(), ProxyTracerProvider)


def span(
    name: str,
    attributes: Mapping[str, AttributeValue] | None = None,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: Callable[[], Mapping[str, str] | None] = lambda: None,
) -> AbstractContextManager[Span]:
    """Lend a span that ends with the block, and is the parent of those begun within.

    *parent* returns headers that may name one (W3C Trace Context); it is asked only where a
    span is made.
    """
    return _span(name, attributes, kind, parent()) if is_on() else _NOTHING


@contextmanager
def _span(
    name: str,
    attributes: Mapping[str, AttributeValue] | None,
    kind: SpanKind,
    parent: Mapping[str, str] | None,
) -> Iterator[Span]:
    tracer = trace.get_tracer_provider().get_tracer("chatkeep")
    with tracer.start_as_current_span(
        name,
        context=None if parent is None else _parents.extract(parent),
        kind=kind,
        attributes=dict(attributes or {}),
        record_exception=False,
        set_status_on_exception=False,
    ) as begun:
        try:
            yield begun
        except Exception as error:
            failed(begun, type(error).__name__)
            raise


def failed(one: Span, error_type: str) -> None:
    """Say that what *one* stands for went wrong, and with what code."""
    one.set_attribute("error.type", error_type)
    one.set_status(StatusCode.ERROR)


def trace_id() -> str | None:
    """Return the id of the trace that is being made here, for the log; None without one."""
    context = trace.get_current_span().get_span_context()
    return format(context.trace_id, "032x") if context.is_valid else None
