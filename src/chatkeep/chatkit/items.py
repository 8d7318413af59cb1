"""Items of a thread from the messages of a conversation, whoever began it.

A user's message is one item of the same id. An answer has one item for each of its parts,
`<message>.<number of the part>`: text, reasoning, tools, sources; a tool that waits for the
person has one more, the question whether it may be run.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any, Final

import msgspec
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    ClientToolCallItem,
    CustomTask,
    InferenceOptions,
    SearchTask,
    StructuredInputAnswer,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    StructuredInputMultipleChoiceOption,
    ThoughtTask,
    ThreadItem,
    URLSource,
    UserMessageItem,
    UserMessageTextContent,
    Workflow,
    WorkflowItem,
)
from pydantic import TypeAdapter

from chatkeep.answering.parts import arguments_of, unstored
from chatkeep.answering.prompts import result_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from chatkeep.answering.parts import Part
    from chatkeep.chatkit.records import ItemRow
    from chatkeep.conversations import Message
    from chatkeep.events import Source, ToolCall

ALLOW: Final = "Allow"
DENY: Final = "Do not allow"
_SHOWN_AT_MOST: Final = 2000
_any_item: Final[TypeAdapter[ThreadItem]] = TypeAdapter(ThreadItem)


def item_from(kept: dict[str, Any]) -> ThreadItem:
    """Return the item that `kept_form` wrote."""
    return _any_item.validate_python(kept)


def kept_form(item: ThreadItem) -> dict[str, Any]:
    """Return *item* as JSON that has everything of it."""
    return item.model_dump(mode="json")


def message_of(item_id: str) -> str:
    """Return the id of the message that an item of an answer is made from."""
    return item_id.rpartition(".")[0]


def items_of(
    message: Message,
    rows: Sequence[ItemRow],
    thread_id: str,
    *,
    runs_in_client: Callable[[str], bool],
) -> list[ThreadItem]:
    """Return the items of *message* and those that stand after it; *rows* are in order."""
    by_id = {row.id: row for row in rows}
    if message.id in by_id:
        own: list[ThreadItem] = []
        known = set[str]()
    else:
        own = _derived(message, thread_id, runs_in_client)
        known = {item.id for item in own}
    shown = [
        item_from(by_id[item.id].item) if item.id in by_id else item
        for item in own
        if item.id not in by_id or not by_id[item.id].hidden
    ]
    return shown + items_from(row for row in rows if row.id not in known)


def items_from(rows: Iterator[ItemRow] | Sequence[ItemRow]) -> list[ThreadItem]:
    """Return the items of *rows* but for those that were taken out."""
    return [item_from(row.item) for row in rows if not row.hidden]


def _derived(
    message: Message, thread_id: str, runs_in_client: Callable[[str], bool]
) -> list[ThreadItem]:
    if message.role == "user":
        return [_question(message, thread_id)]
    if message.role != "assistant":
        return []
    found: list[ThreadItem] = []
    for index, part in enumerate(unstored(message.content, message.parts)):
        place = Place(thread_id, message.id, index, message.created_at)
        found.extend(part_items(place, part, runs_in_client=runs_in_client))
    return found


class Place:
    """Where the items of one part stand."""

    def __init__(self, thread_id: str, message_id: str, index: int, created_at: datetime) -> None:
        """Name the part by its *index* in its message."""
        self.base: dict[str, Any] = {
            "id": f"{message_id}.{index}",
            "thread_id": thread_id,
            "created_at": created_at,
        }

    def asking(self) -> dict[str, Any]:
        """Return the place of the question whether a tool may be run."""
        return {**self.base, "id": f"{self.base['id']}a"}


def part_items(
    place: Place, part: Part, *, runs_in_client: Callable[[str], bool]
) -> list[ThreadItem]:
    """Return what an answer's *part* is in ChatKit; nothing where it has no form there."""
    if part.call is not None:
        return _tool(place, part, part.call, runs_in_client)
    if part.source is not None:
        return [source_item(place, part.source)]
    if part.kind == "text" and part.text:
        return [text_item(place, part.text)]
    if part.kind == "reasoning" and part.text:
        return [thought_item(place, part.text)]
    return []


def text_item(place: Place, text: str) -> AssistantMessageItem:
    """Return visible text."""
    return AssistantMessageItem(**place.base, content=[AssistantMessageContent(text=text)])


def thought_item(place: Place, text: str) -> WorkflowItem:
    """Return the model's reasoning, which ChatKit shows folded."""
    task = ThoughtTask(content=text, status_indicator="complete")
    return WorkflowItem(**place.base, workflow=Workflow(type="reasoning", tasks=[task]))


def source_item(place: Place, source: Source) -> WorkflowItem:
    """Return where something comes from."""
    shown = URLSource(title=source.title or source.url, url=source.url)
    task = SearchTask(sources=[shown], status_indicator="complete")
    return WorkflowItem(**place.base, workflow=Workflow(type="custom", tasks=[task]))


def _question(message: Message, thread_id: str) -> UserMessageItem:
    return UserMessageItem(
        id=message.id,
        thread_id=thread_id,
        created_at=message.created_at,
        content=[UserMessageTextContent(text=message.content)],
        inference_options=InferenceOptions(model=message.model),
    )


def _tool(
    place: Place, part: Part, call: ToolCall, runs_in_client: Callable[[str], bool]
) -> list[ThreadItem]:
    asked: list[ThreadItem] = [] if part.approval_id is None else [_approval(place, part, call)]
    if runs_in_client(call.name):
        return [*asked, _client_call(place, part, call)]
    if part.result is None:
        return asked
    said = result_text(part.result)[:_SHOWN_AT_MOST]
    task = CustomTask(title=call.name, content=said, status_indicator="complete")
    return [*asked, WorkflowItem(**place.base, workflow=Workflow(type="custom", tasks=[task]))]


def _client_call(place: Place, part: Part, call: ToolCall) -> ClientToolCallItem:
    arguments = arguments_of(call)
    return ClientToolCallItem(
        **place.base,
        status="pending" if part.result is None else "completed",
        call_id=call.call_id,
        name=call.name,
        arguments=arguments if isinstance(arguments, dict) else {},
        output=None if part.result is None else part.result.output,
    )


def _approval(place: Place, part: Part, call: ToolCall) -> StructuredInputItem:
    # All of it: what is not read is not agreed to.
    written = _legible(msgspec.json.encode(arguments_of(call)).decode())
    answer = None
    if part.approved is not None:
        answer = StructuredInputAnswer(values=[ALLOW if part.approved else DENY])
    choice = StructuredInputMultipleChoice(
        id=str(part.approval_id),
        question=f"May {call.name} be run? {written}",
        options=[StructuredInputMultipleChoiceOption(value=one) for one in (ALLOW, DENY)],
        answer=answer,
    )
    return StructuredInputItem(
        **place.asking(), status="pending" if answer is None else "answered", inputs=[choice]
    )


def _legible(text: str) -> str:
    """Return *text* with each character that is not seen, or turns others round, as its number.

    What reads as one address must not be run as another.
    """
    return "".join(f"\\u{{{ord(one):x}}}" if _is_unseen(one) else one for one in text)


def _is_unseen(one: str) -> bool:
    return unicodedata.category(one).startswith("C") or one in "\u2028\u2029"
