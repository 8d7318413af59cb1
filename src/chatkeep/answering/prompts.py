"""What a model is given: the history of a conversation, as messages that it understands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from chatkeep.answering.parts import unstored
from chatkeep.files import file_of
from chatkeep.llm.model import Prompt, PromptFile, PromptMessage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chatkeep.answering.history import Said
    from chatkeep.answering.parts import Part
    from chatkeep.events import ToolResult
    from chatkeep.policies import Choices

#: Every call needs an answer, or providers refuse the conversation.
_UNANSWERED: Final = "The tool was not run."
_IMAGES: Final = ("data:image/", "https://")
_DENIED: Final = "The person did not allow this."


def prompt_of(
    said: Sequence[Said],
    choices: Choices,
    *,
    user_key: str | None = None,
    conversation_id: str | None = None,
) -> Prompt:
    """Return what a model is asked: *said*, behind the system prompt that was chosen.

    Where the operator has set that prompt for good, others in the conversation (imported, or
    written by a client) are left out.
    """
    system = (
        [PromptMessage(role="system", text=choices.system_prompt)] if choices.system_prompt else []
    )
    told = [one for one in said if one.role != "system" or not choices.alone]
    return Prompt(
        messages=[*system, *(message for one in told for message in _messages(one))],
        settings=choices.settings,
        tools=choices.tools,
        user_key=user_key,
        conversation_id=conversation_id,
    )


def answer_messages(parts: Sequence[Part]) -> list[PromptMessage]:
    """Return an assistant's *parts* as messages: what it said and asked, what tools answered."""
    return list(_of_answer(parts))


def result_text(result: ToolResult | None) -> str:
    """Return what a tool said as the model reads it."""
    if result is None:
        return _UNANSWERED
    if result.denied:
        return _DENIED
    if result.error is not None:
        return result.error
    output = result.output
    return output if isinstance(output, str) else msgspec.json.encode(output).decode()


def _messages(one: Said) -> list[PromptMessage]:
    if one.role != "assistant" or one.parts is None:
        return [
            PromptMessage(role=one.role, text=one.content, images=_images(one), files=_files(one))
        ]
    return answer_messages(unstored(one.content, one.parts))


def _images(one: Said) -> tuple[str, ...]:
    """The images of a user's message: held in it, or where their provider looks at them."""
    found = (part for part in one.parts or () if part.get("type") == "file")
    urls = (part.get("url") for part in found if str(part.get("mediaType")).startswith("image/"))
    return tuple(url for url in urls if isinstance(url, str) and url.startswith(_IMAGES))


def _files(one: Said) -> tuple[PromptFile, ...]:
    """The files that a user's message names or holds; `shown_files` reads them."""
    named = (part for part in one.parts or () if file_of(part) is not None or _is_held(part))
    return tuple(
        PromptFile(name=str(part.get("filename", "file")), url=part["url"]) for part in named
    )


def _is_held(part: dict[str, Any]) -> bool:
    """Whether *part* is a file with its bytes in it, and no image."""
    is_image = str(part.get("mediaType")).startswith("image/")
    return part.get("type") == "file" and str(part.get("url")).startswith("data:") and not is_image


def _of_answer(parts: Sequence[Part]) -> Iterator[PromptMessage]:
    """One message for each step: its text and its calls, then an answer to each call."""
    text: list[str] = []
    tools: list[Part] = []
    for part in parts:
        if part.kind == "tool":
            tools.append(part)
        elif tools and part.kind in {"text", "step"}:
            yield from _step("".join(text), tools)
            text, tools = [], []
        if part.kind == "text":
            text.append(part.text)
    yield from _step("".join(text), tools)


def _step(text: str, tools: Sequence[Part]) -> Iterator[PromptMessage]:
    calls = tuple(part.call for part in tools if part.call is not None)
    if text or calls:
        yield PromptMessage(role="assistant", text=text, calls=calls)
    for part in tools:
        if part.call is not None:
            said = result_text(part.result)
            yield PromptMessage(role="tool", text=said, call_id=part.call.call_id)
