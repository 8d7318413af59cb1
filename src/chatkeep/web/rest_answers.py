"""How the REST surface shows conversations, messages and answers."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, assert_never

import msgspec
from starlette.responses import Response

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
from chatkeep.errors import TokenRevoked, error_named
from chatkeep.web.budget_headers import budget_headers
from chatkeep.web.problems import body_of, request_id_of
from chatkeep.web.sse import HEARTBEAT, EventStream
from chatkeep.web.usage import usage_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

    from chatkeep.answering.answers import Answer
    from chatkeep.conversations import Conversation, Message
    from chatkeep.events import ToolCall, ToolResult
    from chatkeep.runs import Ending


def conversation_json(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation as lists show it."""
    return {
        "id": conversation.id,
        "title": conversation.title,
        "created_at": conversation.created_at,
        "updated_at": conversation.updated_at,
    }


def message_json(message: Message) -> dict[str, Any]:
    """Return a message with its parts as the AI SDK names them."""
    text = [{"type": "text", "text": message.content}] if message.content else []
    error = message.error_code
    return {
        "id": message.id,
        "role": message.role,
        "content": message.content,
        "created_at": message.created_at,
        "parts": text if message.parts is None else message.parts,
        "parent_id": message.parent_id,
        "client_id": message.client_id,
        "status": message.status,
        "model": message.model,
        "run_id": message.run_id,
        "error": None if error is None else {"code": error, "message": error_named(error).detail},
        "finish_reason": message.finish_reason,
        "siblings": message.siblings,
    }


def answer_json(answer: Answer, text: str, ending: Ending) -> dict[str, Any]:
    """Return an ended answer whole."""
    return {
        "conversation_id": answer.address.conversation_id,
        "message": text,
        "message_id": answer.address.message_id,
        "user_message_id": answer.address.user_message_id,
        "run_id": answer.address.id,
        "model": ending.model or answer.model,
        "usage": usage_json(ending),
        "status": ending.state,
        "finish_reason": ending.finish_reason,
    }


async def whole(answer: Answer) -> Response:
    """Wait for *answer* and return it as JSON; raise what it failed with."""
    text, ending = await answer.whole()
    failure = failure_of(ending)
    if failure is not None:
        failure.members = dict(answer_ids(answer))
        raise failure
    body = msgspec.json.encode(answer_json(answer, text, ending))
    headers = budget_headers(answer.charged)
    return Response(body, media_type="application/json", headers=headers)


async def whole_or_streamed(request: Request, answer: Answer) -> Response:
    """Return *answer* as *request* wants it: as events, or whole as `whole` does."""
    if "text/event-stream" not in request.headers.get("accept", ""):
        return await whole(answer)
    request_id = request_id_of(request)
    return EventStream(
        frames(answer, request_id),
        budget_headers(answer.charged),
        farewell=farewell(answer, request_id),
    )


async def frames(answer: Answer, request_id: str) -> AsyncGenerator[bytes, None]:
    """Encode *answer* as named events: `start`, `delta`s, then one `done` or `error`."""
    text: list[str] = []
    yield _frame("start", {**answer_ids(answer), "model": answer.model})
    async with aclosing(answer.follow()) as events:
        async for event in events:
            match event:
                case PartGrew(kind="text", text=more):
                    text.append(more)
                    yield _frame("delta", {"text": more})
                case PartGrew(kind="reasoning", text=more):
                    yield _frame("reasoning", {"text": more})
                case ToolCalled() | ApprovalNeeded() | ToolAnswered() | SourceShown():
                    yield _frame(*_named(event))
                case StillWorking():
                    yield HEARTBEAT
                case Ended(ending=ending):
                    yield _last_frame(answer, "".join(text), ending, request_id)
                case PartBegan() | PartEnded() | PartGrew() | StepBegan():
                    pass
                case _:
                    assert_never(event)


def farewell(answer: Answer, request_id: str) -> bytes:
    """Return the end of a stream whose reader was signed out."""
    return _frame("error", {**body_of(TokenRevoked(), request_id), **answer_ids(answer)})


def answer_ids(answer: Answer) -> dict[str, str]:
    """Return what names an answer before it is there."""
    return {
        "conversation_id": answer.address.conversation_id,
        "message_id": answer.address.message_id,
        "user_message_id": answer.address.user_message_id,
        "run_id": answer.address.id,
    }


def _named(
    event: ToolCalled | ApprovalNeeded | ToolAnswered | SourceShown,
) -> tuple[str, dict[str, Any]]:
    """Name an event that is no text, and say what is in it."""
    match event:
        case ToolCalled(call=call):
            return "tool_call", _tool_call(call)
        case ApprovalNeeded(asked=asked):
            return "tool_approval", {"id": asked.call_id, "approval_id": asked.approval_id}
        case ToolAnswered(result=result):
            return "tool_result", _tool_result(result)
        case SourceShown(source=source):
            return "source", {"url": source.url, "title": source.title}
        case _:
            assert_never(event)


def _tool_call(call: ToolCall) -> dict[str, str]:
    return {"id": call.call_id, "name": call.name, "arguments": call.arguments}


def _tool_result(result: ToolResult) -> dict[str, Any]:
    if result.denied:
        return {"id": result.call_id, "denied": True}
    if result.error is not None:
        return {"id": result.call_id, "error": result.error}
    return {"id": result.call_id, "output": result.output}


def _last_frame(answer: Answer, text: str, ending: Ending, request_id: str) -> bytes:
    failure = failure_of(ending)
    if failure is None:
        return _frame("done", answer_json(answer, text, ending))
    return _frame("error", {**body_of(failure, request_id), **answer_ids(answer)})


def _frame(event: str, data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event.encode(), msgspec.json.encode(data))
