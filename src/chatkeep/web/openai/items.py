"""Messages of a conversation as the items of the OpenAI API.

A user's message is one item. An answer has one for each of its parts: what it said, its
reasoning, a function that the client runs, a tool that ran here (`mcp_call`) and the
question whether one may. An item's id is made of its kind, its message's id and the number
of the part, so it is the same wherever it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chatkeep.answering.parts import unstored
from chatkeep.answering.prompts import result_text
from chatkeep.files import file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from chatkeep.answering.parts import Part
    from chatkeep.conversations import Message
    from chatkeep.events import Source, ToolCall, ToolResult

CONVERSATION: Final = "conv_"
RESPONSE: Final = "resp_"
#: Whose the tools are that run here, in the words of this API.
SERVER_LABEL: Final = "chatkeep"
_KINDS: Final = frozenset({"msg", "rs", "fc", "fco", "mcp", "mcpr", "mcpa"})
_CUT_SHORT: Final = frozenset({"stopped", "failed", "interrupted"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPlace:
    """Which part of which message an item is."""

    kind: str
    message_id: str
    index: int


def item_id(kind: str, message_id: str, index: int) -> str:
    """Return the id of an item."""
    return f"{kind}_{message_id}_{index}"


def find_place(text: str) -> ItemPlace | None:
    """Return what `item_id` made an id of; None for any other text."""
    kind, _, rest = text.partition("_")
    message_id, _, number = rest.rpartition("_")
    if kind not in _KINDS or not message_id or not (number.isascii() and number.isdigit()):
        return None
    return ItemPlace(kind=kind, message_id=message_id, index=int(number[:9]))


def without_prefix(prefix: str, text: str) -> str | None:
    """Return what stands behind *prefix*; None where it does not begin so."""
    return text.removeprefix(prefix) if text.startswith(prefix) and text != prefix else None


def items_of(message: Message) -> list[dict[str, Any]]:
    """Return the items of a message, with what its tools have said."""
    if message.role != "assistant":
        content = _content(message)
        return [_message(message, content)] if content else []
    parts = unstored(message.content, message.parts)
    found = list(answer_items(message.id, parts, shows_outputs=True))
    if found and "status" in found[-1] and found[-1]["type"] in {"message", "reasoning"}:
        found[-1]["status"] = _status(message.status)
    return found


def answer_items(
    message_id: str,
    parts: Sequence[Part],
    *,
    begun: int = 0,
    decided: Collection[int] = (),
    runs_in_client: Callable[[str], bool] = lambda _: True,
    shows_outputs: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield the items of *parts* from number *begun* on.

    *decided* are the parts before that which ran afterwards, because the person let them. With
    *shows_outputs* each call of the client's is followed by what came back.
    """
    for index in decided:
        if index < len(parts) and (part := parts[index]).call is not None:
            yield from _ran(message_id, index, part.call, part.result)
    cited: list[Source] = []
    shown = False  # whether a text stands right before, which has the sources behind it
    for index in range(begun, len(parts)):
        part = parts[index]
        if part.source is not None:
            cited += [] if shown else [part.source]
            continue
        shown = part.kind == "text" and bool(part.text)
        if shown:
            sources = [*cited, *_sources_behind(parts, index)]
            yield text_item(message_id, index, part.text, sources)
            cited = []
        elif part.kind == "reasoning" and part.text:
            yield reasoning_item(message_id, index, part.text)
        elif part.call is not None:
            yield from _tool_items(
                message_id, index, part, part.call, runs_in_client, shows_outputs=shows_outputs
            )


def text_item(
    message_id: str, index: int, text: str, sources: Sequence[Source] = ()
) -> dict[str, Any]:
    """Return visible text of an answer."""
    content = {**output_text(text), "annotations": [annotation(one) for one in sources]}
    return {
        "id": item_id("msg", message_id, index),
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [content],
    }


def output_text(text: str) -> dict[str, Any]:
    """Return the one part that a text has in this API."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def annotation(source: Source) -> dict[str, Any]:
    """Return where something comes from; of no place in the text, so of all of it from 0 to 0."""
    place = {"start_index": 0, "end_index": 0}
    return {"type": "url_citation", "url": source.url, "title": source.title or "", **place}


def reasoning_item(message_id: str, index: int, text: str) -> dict[str, Any]:
    """Return what a model thought, as the summary that its clients show folded."""
    return {
        "id": item_id("rs", message_id, index),
        "type": "reasoning",
        "status": "completed",
        "summary": [{"type": "summary_text", "text": text}],
    }


def function_item(message_id: str, index: int, call: ToolCall) -> dict[str, Any]:
    """Return a function that the client is to run."""
    return {
        "id": item_id("fc", message_id, index),
        "type": "function_call",
        "status": "completed",
        "call_id": call.call_id,
        "name": call.name,
        "arguments": call.arguments,
    }


def approval_item(message_id: str, index: int, call: ToolCall) -> dict[str, Any]:
    """Return the question whether a tool may be run here."""
    return {
        "id": item_id("mcpr", message_id, index),
        "type": "mcp_approval_request",
        "server_label": SERVER_LABEL,
        "name": call.name,
        "arguments": call.arguments,
    }


def ran_item(message_id: str, index: int, call: ToolCall, result: ToolResult) -> dict[str, Any]:
    """Return a tool that was run here, and what it said."""
    failed = result.error is not None
    return {
        "id": item_id("mcp", message_id, index),
        "type": "mcp_call",
        "server_label": SERVER_LABEL,
        "name": call.name,
        "arguments": call.arguments,
        "status": "failed" if failed else "completed",
        "output": None if failed else result_text(result),
        "error": result.error,
    }


def _ran(
    message_id: str, index: int, call: ToolCall, result: ToolResult | None
) -> list[dict[str, Any]]:
    if result is None or result.denied:
        return []
    return [ran_item(message_id, index, call, result)]


def _tool_items(
    message_id: str,
    index: int,
    part: Part,
    call: ToolCall,
    runs_in_client: Callable[[str], bool],
    *,
    shows_outputs: bool,
) -> Iterator[dict[str, Any]]:
    if part.approval_id is not None:
        yield approval_item(message_id, index, call)
        if shows_outputs:
            yield from _decision(message_id, index, part)
            yield from _ran(message_id, index, call, part.result)
    elif part.result is None or runs_in_client(call.name):
        yield function_item(message_id, index, call)
        if shows_outputs and part.result is not None:
            yield {
                "id": item_id("fco", message_id, index),
                "type": "function_call_output",
                "status": "completed",
                "call_id": call.call_id,
                "output": result_text(part.result),
            }
    else:
        yield ran_item(message_id, index, call, part.result)


def _decision(message_id: str, index: int, part: Part) -> list[dict[str, Any]]:
    denied = part.result is not None and part.result.denied
    if part.approved is None and not denied:
        return []
    return [
        {
            "id": item_id("mcpa", message_id, index),
            "type": "mcp_approval_response",
            "approval_request_id": item_id("mcpr", message_id, index),
            "approve": bool(part.approved),
        }
    ]


def _sources_behind(parts: Sequence[Part], index: int) -> Iterator[Source]:
    """The sources that stand right behind a text."""
    for part in parts[index + 1 :]:
        if part.source is None:
            return
        yield part.source


def _message(message: Message, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": item_id("msg", message.id, 0),
        "type": "message",
        "role": message.role,
        "status": "completed",
        "content": content,
    }


def _content(message: Message) -> list[dict[str, Any]]:
    """A user's text, and the images and files that came with it."""
    found: list[dict[str, Any]] = []
    if message.content:
        found.append({"type": "input_text", "text": message.content})
    for part in message.parts or ():
        if part.get("type") == "file" and str(part.get("mediaType")).startswith("image/"):
            url = str(part.get("url"))
            found.append({"type": "input_image", "detail": "auto", "image_url": url})
        elif (file_id := file_of(part)) is not None:
            name = part.get("filename")
            found.append({"type": "input_file", "file_id": file_id, "filename": name})
    return found


def _status(status: str) -> str:
    if status in {"queued", "running"}:
        return "in_progress"
    return "incomplete" if status in _CUT_SHORT else "completed"
