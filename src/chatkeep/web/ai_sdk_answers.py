"""Encode an answer as the AI SDK's UI message stream (`x-vercel-ai-ui-message-stream: v1`).

Only chunk types that versions 5, 6 and 7 of the `ai` package know are sent, and never an
optional field with null: both end the stream in the client. A stream always ends with
`finish` or `error`, because the client takes a bare end for success.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, assert_never

import msgspec

from chatkeep.errors import TokenRevoked
from chatkeep.live import (
    Ended,
    PartBegan,
    PartEnded,
    PartGrew,
    StillWorking,
    ToolCalled,
    usage_json,
)
from chatkeep.web.rest_answers import failure_of
from chatkeep.web.sse import HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep.events import ToolCall
    from chatkeep.live import AnswerEvent
    from chatkeep.runs import Ending

HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
_DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode


async def frames(
    events: AsyncGenerator[AnswerEvent, None], *, message_id: str, metadata: dict[str, Any]
) -> AsyncGenerator[bytes, None]:
    """Encode *events* as the assistant message *message_id*."""
    yield _chunk({"type": "start", "messageId": message_id, "messageMetadata": metadata})
    yield _chunk({"type": "start-step"})
    async with aclosing(events):
        async for event in events:
            yield _encoded(event)


def _encoded(event: AnswerEvent) -> bytes:
    match event:
        case PartGrew(index=index, kind=kind, text=text):
            return _chunk({"type": f"{kind}-delta", "id": f"p{index}", "delta": text})
        case PartBegan(index=index, kind=kind):
            return _chunk({"type": f"{kind}-start", "id": f"p{index}"})
        case PartEnded(index=index, kind=kind):
            return _chunk({"type": f"{kind}-end", "id": f"p{index}"})
        case ToolCalled(call=call):
            return _chunk(_tool_chunk(call))
        case StillWorking():
            return HEARTBEAT
        case Ended(ending=ending):
            return _ending(ending)
        case _:
            assert_never(event)


def _ending(ending: Ending) -> bytes:
    failure = failure_of(ending)
    if failure is not None:
        return _chunk({"type": "error", "errorText": failure.detail}) + _DONE
    metadata: dict[str, Any] = {"status": ending.state}
    if ending.model is not None:
        metadata["model"] = ending.model
    usage = usage_json(ending.prompt_tokens, ending.completion_tokens, ending.cost)
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
        "input": _arguments(call),
        "dynamic": True,
    }


def _arguments(call: ToolCall) -> object:
    """What the model wrote, as JSON when it is JSON."""
    try:
        return msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
        return call.arguments


def _chunk(chunk: dict[str, Any]) -> bytes:
    return b"data: " + _encode(chunk) + b"\n\n"
