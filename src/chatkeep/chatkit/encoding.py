"""An answer of our engine as ChatKit's stream events."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, assert_never

from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ProgressUpdateEvent,
    ThoughtTask,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    Workflow,
    WorkflowItem,
    WorkflowTaskAdded,
    WorkflowTaskUpdated,
)

from chatkeep.answering.parts import Part
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
)
from chatkeep.chatkit import items
from chatkeep.chatkit.items import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chatkit.types import ThreadStreamEvent

    from chatkeep.answering.reading import AnswerEvent

#: Reasoning is sent whole each time it grows, so not with every word.
_THOUGHTS_EVERY_S: Final = 0.25


class AnswerEncoder:
    """Encodes one answer; keeps the text of the part that is growing."""

    def __init__(
        self, thread_id: str, message_id: str, *, runs_in_client: Callable[[str], bool]
    ) -> None:
        """Name the items after *message_id*."""
        self._thread_id = thread_id
        self._message_id = message_id
        self._runs_in_client = runs_in_client
        self._text: list[str] = []
        self._tools: dict[int, Part] = {}
        self._told = 0.0

    def encode(self, event: AnswerEvent) -> Iterator[ThreadStreamEvent]:
        """Yield what ChatKit is told of *event*; of the end only what waits."""
        match event:
            case PartBegan() | PartGrew() | PartEnded():
                yield from self._growing(event)
            case ToolCalled(index=index, call=call):
                self._tools[index] = Part("tool", call=call)
                yield ProgressUpdateEvent(text=call.name)
            case ApprovalNeeded(index=index, asked=asked):
                self._tools[index].approval_id = asked.approval_id
            case ToolAnswered(index=index, result=result):
                part = self._tools.pop(index, None)
                if part is not None:
                    part.result = result
                    yield from self._done(index, part)
            case SourceShown(index=index, source=source):
                yield from self._done(index, Part("source", source=source))
            case StepBegan() | StillWorking():
                pass
            case Ended():
                for index, part in sorted(self._tools.items()):
                    yield from self._done(index, part)
            case _:
                assert_never(event)

    def _growing(self, event: PartBegan | PartGrew | PartEnded) -> Iterator[ThreadStreamEvent]:
        place = self._place(event.index)
        match event:
            case PartBegan(kind=kind):
                self._text, self._told = [], 0.0
                yield from _begun(place, kind)
            case PartGrew(kind=kind, text=text):
                self._text.append(text)
                if kind == "text":
                    update = AssistantMessageContentPartTextDelta(content_index=0, delta=text)
                    yield ThreadItemUpdatedEvent(item_id=place.base["id"], update=update)
                elif time.monotonic() - self._told > _THOUGHTS_EVERY_S:
                    self._told = time.monotonic()
                    yield _thought(place, "".join(self._text), done=False)
            case PartEnded(kind=kind):
                yield from _ended(place, kind, "".join(self._text))
            case _:
                assert_never(event)

    def _done(self, index: int, part: Part) -> Iterator[ThreadStreamEvent]:
        place = self._place(index)
        for item in items.part_items(place, part, runs_in_client=self._runs_in_client):
            yield ThreadItemDoneEvent(item=item)

    def _place(self, index: int) -> Place:
        return Place(self._thread_id, self._message_id, index, datetime.now(UTC))


def _begun(place: Place, kind: str) -> Iterator[ThreadStreamEvent]:
    known: dict[str, Any] = place.base
    if kind == "text":
        yield ThreadItemAddedEvent(item=AssistantMessageItem(**known, content=[]))
        added = AssistantMessageContentPartAdded(
            content_index=0, content=AssistantMessageContent(text="")
        )
        yield ThreadItemUpdatedEvent(item_id=known["id"], update=added)
        return
    workflow = Workflow(type="reasoning", tasks=[])
    yield ThreadItemAddedEvent(item=WorkflowItem(**known, workflow=workflow))
    task = ThoughtTask(content="", status_indicator="loading")
    added_task = WorkflowTaskAdded(task_index=0, task=task)
    yield ThreadItemUpdatedEvent(item_id=known["id"], update=added_task)


def _ended(place: Place, kind: str, text: str) -> Iterator[ThreadStreamEvent]:
    if kind == "text":
        whole = AssistantMessageContentPartDone(
            content_index=0, content=AssistantMessageContent(text=text)
        )
        yield ThreadItemUpdatedEvent(item_id=place.base["id"], update=whole)
        yield ThreadItemDoneEvent(item=items.text_item(place, text))
        return
    yield _thought(place, text, done=True)
    yield ThreadItemDoneEvent(item=items.thought_item(place, text))


def _thought(place: Place, text: str, *, done: bool) -> ThreadStreamEvent:
    task = ThoughtTask(content=text, status_indicator="complete" if done else "loading")
    update = WorkflowTaskUpdated(task_index=0, task=task)
    return ThreadItemUpdatedEvent(item_id=place.base["id"], update=update)
