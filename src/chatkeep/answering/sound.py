"""What whoever answers hands over, looked at before it is taken: can it be kept and sent on?

Text that people read is mended where it is taken, as a character less does no harm, and so is
what a model wrote for a tool. Here is the rest: ids, names and outputs, which nobody but who
made them can put right.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from chatkeep.events import (
    Answering,
    ApprovalAsked,
    Done,
    Paused,
    ReasoningDelta,
    ReplyEvent,
    Source,
    TextDelta,
    ToolCall,
    ToolResult,
)
from chatkeep.storable import has_nul, is_storable_text, is_too_deep

if TYPE_CHECKING:
    from collections.abc import Iterator


def fault_in(event: object) -> str | None:
    """Return what is wrong with *event*, in words without any of its content; None: nothing."""
    if isinstance(event, TextDelta | ReasoningDelta):
        return None
    kind = type(event).__name__
    if not isinstance(event, ReplyEvent):
        return f"a {kind}, which is no event"
    for name, value in _texts(event):
        # What a model wrote for a tool is mended, if it is a text.
        if not isinstance(value, str) or (name != "arguments" and not is_storable_text(value)):
            return f"a {kind} whose {name} cannot be kept"
    if isinstance(event, ToolResult) and not _is_storable(event.output):
        return f"a {kind} whose output cannot be kept"
    return None


def _texts(event: ReplyEvent) -> Iterator[tuple[str, object]]:
    """The texts of *event* that are there, each by the name of its member."""
    names: tuple[str, ...] = ()
    match event:
        case ToolCall():
            names = ("call_id", "name", "arguments")
        case ToolResult():
            names = ("call_id",) if event.error is None else ("call_id", "error")
        case ApprovalAsked():
            names = ("call_id", "approval_id")
        case Source():
            names = ("source_id", "url") if event.title is None else ("source_id", "url", "title")
        case Done():
            names = ("finish_reason",) if event.model is None else ("finish_reason", "model")
        case Answering():
            names = ("model", "upstream")
        case Paused():
            names = ("state",)
    return ((name, getattr(event, name)) for name in names)


def _is_storable(output: object) -> bool:
    """Whether *output* is JSON that PostgreSQL and every client can hold."""
    if output is None:
        return True
    try:
        written = json.dumps(output, allow_nan=False, ensure_ascii=False).encode()
        msgspec.json.encode(output)  # as other nodes are told of it
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False
    return not has_nul(written) and not is_too_deep(output)
