"""Chat completions that are kept (`store: true`): which conversation, and what is new in it.

These clients send the whole conversation each time. The first time all of it is kept; a call
that names a conversation (`metadata.conversation_id`) brings only what stands behind the last
answer, because everything before is known better here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkeep.errors import Invalid
from chatkeep.web.openai import asking
from chatkeep.web.openai.inputs import (
    InputCall,
    InputContent,
    InputItem,
    InputMessage,
    InputOutput,
    read,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chatkeep.db import Database
    from chatkeep.web.openai.asking import Above, Asked
    from chatkeep.web.openai.bodies import ChatCompletionRequest, ContentPart, SentMessage

_INSTRUCTIONS = frozenset({"system", "developer"})


async def above_of(db: Database, user_id: str, body: ChatCompletionRequest) -> Above | None:
    """Return where *body* goes on; None where it begins a conversation. Raises `NotFound`."""
    if body.conversation_id is None:
        return None
    return await asking.below_conversation(db, user_id, body.conversation_id)


def asked(user_id: str, body: ChatCompletionRequest, above: Above | None, *, model: str) -> Asked:
    """Return the turn of *body*.

    Raises:
        Invalid: there is nothing to answer, or tools and their answers do not fit.
    """
    sent = [one for one in body.messages if one.role not in _INSTRUCTIONS]
    if above is not None:
        sent = _behind_the_last_answer(sent)
    items = [item for one in sent for item in _items(one)]
    known = above.calls if above is not None else ()
    try:
        return asking.asked(user_id, read(items, known=known), above, model=model)
    except Invalid as error:
        raise _of_messages(error) from error


def instructions(body: ChatCompletionRequest) -> str | None:
    """Return what *body* says of how to behave; it holds for this answer alone."""
    said = [one.text for one in body.messages if one.role in _INSTRUCTIONS]
    return "\n\n".join(said) if said else None


def _behind_the_last_answer(sent: Sequence[SentMessage]) -> list[SentMessage]:
    answers = [index for index, one in enumerate(sent) if one.role == "assistant"]
    return list(sent[answers[-1] + 1 :] if answers else sent)


def _items(one: SentMessage) -> Iterator[InputItem]:
    prompt = one.as_prompt()  # refuses what its role cannot have
    if one.role == "tool":
        yield InputOutput(
            type="function_call_output", call_id=prompt.call_id or "", output=prompt.text
        )
        return
    if one.role != "assistant" or prompt.text:
        content = one.content if isinstance(one.content, str) else _contents(one.content or ())
        yield InputMessage(role=one.role, content=content)
    for call in prompt.calls:
        yield InputCall(
            type="function_call", call_id=call.call_id, name=call.name, arguments=call.arguments
        )


def _contents(parts: Sequence[ContentPart]) -> list[InputContent]:
    return [
        InputContent(type="input_text", text=one.text)
        if one.type == "text"
        else InputContent(
            type="input_image", image_url=one.image_url.url if one.image_url else None
        )
        for one in parts
    ]


def _of_messages(error: Invalid) -> Invalid:
    """Say it of `messages`, as the member is called here."""
    said = error.detail.partition(": ")[2]
    return Invalid.of("messages", said or error.detail)
