"""Encode an answer as the AI SDK's UI message stream (`x-vercel-ai-ui-message-stream: v1`).

Only chunk types that versions 5, 6 and 7 of the `ai` package know are sent, and never an
optional field with null: both end the stream in the client. A stream always ends with
`finish` or `error`, because the client takes a bare end for success.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, assert_never

import msgspec

from chatkeep.answering.parts import arguments_of
from chatkeep.answering.reading import (
    ApprovalNeeded,
    Ended,
    PartBegan,
    PartEnded,
    PartGrew,
    SourceShown,
    StepBegan,
    StillWorking,
    ToolAnswered,
    ToolCalled,
    failure_of,
)
from chatkeep.errors import TokenRevoked
from chatkeep.web.sse import HEARTBEAT
from chatkeep.web.usage import usage_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep.answering.reading import AnswerEvent
    from chatkeep.events import Source, ToolCall, ToolResult
    from chatkeep.runs import Ending

HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
_DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode


async def frames(
    events: AsyncGenerator[AnswerEvent, None], *, message_id: str, metadata: dict[str, Any]
) -> AsyncGenerator[bytes, None]:
    """Encode *events* as the assistant message *message_id*.

    What begins or ends a text goes with what follows, at once: each piece is sent by itself.
    """
    start = {"type": "start", "messageId": message_id, "messageMetadata": metadata}
    yield _chunk(start) + _chunk({"type": "start-step"})
    held = b""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, PartBegan | PartEnded):
                held += _chunk(_text_chunk(event))
                continue
            yield held + _encoded(event)
            held = b""


def _encoded(event: AnswerEvent) -> bytes:
    match event:
        case StillWorking():
            return HEARTBEAT
        case Ended(ending=ending):
            return _ending(ending)
        case StepBegan():
            return _chunk({"type": "finish-step"}) + _chunk({"type": "start-step"})
        case PartBegan() | PartGrew() | PartEnded():
            return _chunk(_text_chunk(event))
        case _:
            return _chunk(_whole_chunk(event))


def _text_chunk(event: PartBegan | PartGrew | PartEnded) -> dict[str, Any]:
    known = {"id": f"p{event.index}"}
    match event:
        case PartGrew(kind=kind, text=text):
            return {"type": f"{kind}-delta", **known, "delta": text}
        case PartBegan(kind=kind):
            return {"type": f"{kind}-start", **known}
        case PartEnded(kind=kind):
            return {"type": f"{kind}-end", **known}
        case _:
            assert_never(event)


def _whole_chunk(
    event: ToolCalled | ApprovalNeeded | ToolAnswered | SourceShown,
) -> dict[str, Any]:
    match event:
        case ToolCalled(call=call):
            return _tool_chunk(call)
        case ApprovalNeeded(asked=asked):
            named = {"approvalId": asked.approval_id, "toolCallId": asked.call_id}
            return {"type": "tool-approval-request", **named}
        case ToolAnswered(result=result):
            return _result_chunk(result)
        case SourceShown(source=source):
            return _source_chunk(source)
        case _:
            assert_never(event)


def _ending(ending: Ending) -> bytes:
    failure = failure_of(ending)
    if failure is not None:
        return _chunk({"type": "error", "errorText": failure.detail}) + _DONE
    metadata: dict[str, Any] = {"status": ending.state}
    if ending.model is not None:
        metadata["model"] = ending.model
    usage = usage_json(ending)
    if usage is not None:
        metadata["usage"] = usage
    reason = ending.finish_reason or "other"
    finish = {"type": "finish", "finishReason": reason, "messageMetadata": metadata}
    return _chunk({"type": "finish-step"}) + _chunk(finish) + _DONE


def farewell() -> bytes:
    """Return the end of a stream whose reader was signed out."""
    return _chunk({"type": "error", "errorText": TokenRevoked().detail}) + _DONE


def _tool_chunk(call: ToolCall) -> dict[str, Any]:
    return {
        "type": "tool-input-available",
        "toolCallId": call.call_id,
        "toolName": call.name,
        "input": arguments_of(call),
        "dynamic": True,
    }


def _result_chunk(result: ToolResult) -> dict[str, Any]:
    known = {"toolCallId": result.call_id}
    if result.denied:
        return {"type": "tool-output-denied", **known}
    if result.error is not None:
        return {"type": "tool-output-error", "errorText": result.error, "dynamic": True, **known}
    return {"type": "tool-output-available", "output": result.output, "dynamic": True, **known}


def _source_chunk(source: Source) -> dict[str, Any]:
    chunk = {"type": "source-url", "sourceId": source.source_id, "url": source.url}
    return chunk if source.title is None else {**chunk, "title": source.title}


def _chunk(chunk: dict[str, Any]) -> bytes:
    return b"data: " + _encode(chunk) + b"\n\n"
