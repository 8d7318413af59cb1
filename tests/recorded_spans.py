"""An OpenTelemetry that keeps spans instead of sending them, made of nothing but its API."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import (
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_ids = count(1)


@dataclass(eq=False)
class RecordedSpan(Span):
    """A span, and everything that was said of it."""

    name: str
    kind: SpanKind
    parent: SpanContext
    attributes: dict[str, Any]
    status: StatusCode = StatusCode.UNSET
    said: list[Any] = field(default_factory=list)
    ended: bool = False

    def __post_init__(self) -> None:
        """Belong to the parent's trace, or begin one."""
        trace_id = self.parent.trace_id if self.parent.is_valid else next(_ids)
        self._context = SpanContext(
            trace_id, next(_ids), is_remote=False, trace_flags=TraceFlags(1)
        )

    def get_span_context(self) -> SpanContext:
        """Return its ids."""
        return self._context

    def set_attribute(self, key: str, value: Any) -> None:  # noqa: ANN401 -- the API's signature
        """Keep one."""
        self.attributes[key] = value

    def set_attributes(self, attributes: Any) -> None:  # noqa: ANN401 -- as above
        """Keep several."""
        self.attributes.update(attributes)

    def add_event(self, *said: Any, **more: Any) -> None:  # noqa: ANN401 -- as above
        """Keep what is said."""
        self.said.append((said, more))

    def record_exception(self, *said: Any, **more: Any) -> None:  # noqa: ANN401 -- as above
        """Keep what is said."""
        self.said.append((said, more))

    def update_name(self, name: str) -> None:
        """Take another name."""
        self.name = name

    def is_recording(self) -> bool:
        """It always does."""
        return True

    def set_status(self, status: Any, description: str | None = None) -> None:  # noqa: ANN401 -- as above
        """Keep how it went."""
        self.status = status
        self.said.append(description)

    def end(self, end_time: int | None = None) -> None:
        """Note that it has ended."""
        self.ended = True


class RecordedSpans(TracerProvider, Tracer):
    """Every span that was begun, in the order they were."""

    def __init__(self) -> None:
        """Begin with none."""
        self.spans: list[RecordedSpan] = []

    def get_tracer(self, *_: Any, **__: Any) -> Tracer:  # noqa: ANN401 -- as above
        """There is one."""
        return self

    def start_span(  # type: ignore[override]  # what we do not use is left out
        self,
        name: str,
        context: Any = None,  # noqa: ANN401 -- as above
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Any = None,  # noqa: ANN401 -- as above
        **_: Any,  # noqa: ANN401 -- as above
    ) -> RecordedSpan:
        """Begin one within what *context*, or the code that runs, says."""
        parent = trace.get_current_span(context).get_span_context()
        self.spans.append(RecordedSpan(name, kind, parent, dict(attributes or {})))
        return self.spans[-1]

    @contextmanager
    def start_as_current_span(  # type: ignore[override]  # as above
        self,
        name: str,
        *,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        **more: Any,  # noqa: ANN401 -- as above
    ) -> Iterator[Span]:
        """Begin one, and be the parent of what begins within."""
        with trace.use_span(
            self.start_span(name, **more),
            end_on_exit=True,
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
        ) as span:
            yield span

    def named(self, name: str) -> list[RecordedSpan]:
        """List those of that name which have ended."""
        return [one for one in self.spans if one.name == name and one.ended]

    def everything(self) -> str:
        """Return all that was said in any span, as text."""
        return "\n".join(f"{one.name} {one.attributes} {one.said}" for one in self.spans)
