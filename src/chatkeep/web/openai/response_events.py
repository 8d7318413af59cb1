"""An answer as the events of the Responses API.

A number in the sequence says how far the answer has come, in characters of its text and in
events: however the text is cut into pieces on its way, the same number is the same place. So
a reader who was cut off goes on behind the last one that it has seen.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, assert_never

import msgspec

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
from chatkeep.errors import TokenRevoked
from chatkeep.web.openai import items
from chatkeep.web.openai.response_objects import response_json, status_of
from chatkeep.web.sse import HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from chatkeep.answering.parts import Part
    from chatkeep.answering.reading import AnswerEvent
    from chatkeep.events import Source, ToolCall
    from chatkeep.runs import Ending
    from chatkeep.web.openai.response_objects import Head

_LAST: Final = {"failed": "response.failed", "completed": "response.completed"}
_encode = msgspec.json.Encoder().encode


class _Held:
    """A tool whose item depends on what comes of it."""

    def __init__(self, called: ToolCalled) -> None:
        self.index = called.index
        self.call = called.call
        self.outcome: ApprovalNeeded | ToolAnswered | None = None


class ResponseEvents:
    """One response on its way to a client."""

    def __init__(
        self, head: Head, message_id: str, *, begun: Sequence[Part] = (), after: int = -1
    ) -> None:
        """Describe *head*'s answer; *begun* are the parts that earlier responses have.

        What was numbered up to *after* is left out.
        """
        self._head = head
        self._message_id = message_id
        self._begun = begun
        self._after = after
        self._number = 0
        self._output: list[dict[str, Any]] = []
        self._held: deque[_Held | AnswerEvent] = deque()
        self._open: tuple[str, int] | None = None
        self._text: list[str] = []
        self._cited: list[Source] = []
        self.final: dict[str, Any] | None = None
        self.ending: Ending | None = None

    async def frames(
        self, events: AsyncGenerator[AnswerEvent, None]
    ) -> AsyncGenerator[bytes, None]:
        """Encode *events* from the start of the response to its end."""
        for kind in ("response.created", "response.in_progress"):
            begun = response_json(self._head, "in_progress", [])
            for frame in self._event(kind, response=begun):
                yield frame
        async with aclosing(events):
            async for event in events:
                if isinstance(event, StillWorking):
                    yield HEARTBEAT
                    continue
                for frame in self._taken(event):
                    yield frame

    def _taken(self, event: AnswerEvent) -> Iterator[bytes]:
        if not self._resolves(event):
            self._held.append(_Held(event) if isinstance(event, ToolCalled) else event)
        is_over = isinstance(event, Ended)
        while self._held and (is_over or not self._waits(self._held[0])):
            first = self._held.popleft()
            yield from self._tool(first) if isinstance(first, _Held) else self._shown(first)

    def _resolves(self, event: AnswerEvent) -> bool:
        """Whether *event* is what came of a tool; the first thing that does says what it is."""
        if not isinstance(event, ApprovalNeeded | ToolAnswered):
            return False
        for one in self._held:
            if isinstance(one, _Held) and one.index == event.index:
                one.outcome = one.outcome or event
                return True
        return event.index >= len(self._begun)  # it was shown already

    def _waits(self, one: _Held | AnswerEvent) -> bool:
        if not isinstance(one, _Held) or one.outcome is not None:
            return False
        return not self._head.runs_in_client(one.call.name)

    def _shown(self, event: AnswerEvent) -> Iterator[bytes]:
        match event:
            case PartGrew(index=index, kind=kind, text=text):
                yield from self._grown(index, kind, text)
            case SourceShown(source=source):
                yield from self._sourced(source)
            case ToolAnswered(index=index, result=result):
                call = self._begun[index].call
                if call is not None and not result.denied:
                    yield from self._ran(items.ran_item(self._message_id, index, call, result))
            case StepBegan():
                yield from self._close()
            case Ended(ending=ending):
                yield from self._close()
                yield from self._end(ending)
            case PartBegan() | PartEnded() | ToolCalled() | ApprovalNeeded() | StillWorking():
                pass
            case _:
                assert_never(event)

    def _grown(self, index: int, kind: str, text: str) -> Iterator[bytes]:
        if self._open != (kind, index):
            yield from self._close()
            yield from self._opened(kind, index)
        self._text.append(text)
        place = self._place()
        if kind == "text":
            delta = "response.output_text.delta"
            yield from self._delta(delta, text, **place, content_index=0, logprobs=[])
        else:
            delta = "response.reasoning_summary_text.delta"
            yield from self._delta(delta, text, **place, summary_index=0)

    def _opened(self, kind: str, index: int) -> Iterator[bytes]:
        self._open, self._text = (kind, index), []
        whole = self._item("")
        if kind == "text":
            item = {**whole, "status": "in_progress", "content": []}
            part = {"content_index": 0, "part": items.output_text("")}
            yield from self._item_event("added", item)
            yield from self._event("response.content_part.added", **self._place(), **part)
            for number, source in enumerate(self._cited):
                yield from self._annotated(number, source)
        else:
            item = {**whole, "status": "in_progress", "summary": []}
            part = {"summary_index": 0, "part": {"type": "summary_text", "text": ""}}
            yield from self._item_event("added", item)
            yield from self._event("response.reasoning_summary_part.added", **self._place(), **part)

    def _close(self) -> Iterator[bytes]:
        if self._open is None:
            return
        text, place = "".join(self._text), self._place()
        whole = self._item(text)
        if self._open[0] == "text":
            said = {"content_index": 0, "text": text, "logprobs": []}
            part = {"content_index": 0, "part": whole["content"][0]}
            yield from self._event("response.output_text.done", **place, **said)
            yield from self._event("response.content_part.done", **place, **part)
            self._cited = []
        else:
            part = {"summary_index": 0, "part": whole["summary"][0]}
            done = "response.reasoning_summary_text.done"
            yield from self._event(done, **place, summary_index=0, text=text)
            yield from self._event("response.reasoning_summary_part.done", **place, **part)
        yield from self._item_event("done", whole)
        self._output.append(whole)
        self._open = None

    def _sourced(self, source: Source) -> Iterator[bytes]:
        self._cited.append(source)
        if self._open is not None and self._open[0] == "text":
            yield from self._annotated(len(self._cited) - 1, source)

    def _annotated(self, number: int, source: Source) -> Iterator[bytes]:
        yield from self._event(
            "response.output_text.annotation.added",
            **self._place(),
            content_index=0,
            annotation_index=number,
            annotation=items.annotation(source),
        )

    def _tool(self, held: _Held) -> Iterator[bytes]:
        yield from self._close()
        index, call = held.index, held.call
        match held.outcome:
            case _ if self._head.runs_in_client(call.name):
                yield from self._function(index, call)
            case None:
                yield from self._function(index, call)
            case ApprovalNeeded():
                yield from self._whole(items.approval_item(self._message_id, index, call))
            case ToolAnswered(result=result):
                yield from self._ran(items.ran_item(self._message_id, index, call, result))

    def _function(self, index: int, call: ToolCall) -> Iterator[bytes]:
        item = items.function_item(self._message_id, index, call)
        yield from self._with_arguments(item, "response.function_call_arguments")

    def _ran(self, item: dict[str, Any]) -> Iterator[bytes]:
        yield from self._close()
        ended = "response.mcp_call.failed" if item["error"] else "response.mcp_call.completed"
        yield from self._with_arguments(
            item,
            "response.mcp_call_arguments",
            first="response.mcp_call.in_progress",
            last=ended,
            output=None,
            error=None,
        )

    def _with_arguments(
        self, item: dict[str, Any], kind: str, *, first: str = "", last: str = "", **unknown: None
    ) -> Iterator[bytes]:
        place = {"item_id": item["id"], "output_index": len(self._output)}
        begun = {**item, **unknown, "status": "in_progress", "arguments": ""}
        yield from self._item_event("added", begun)
        if first:
            yield from self._event(first, **place)
        yield from self._event(f"{kind}.delta", **place, delta=item["arguments"])
        yield from self._event(f"{kind}.done", **place, arguments=item["arguments"])
        if last:
            yield from self._event(last, **place)
        yield from self._item_event("done", item)
        self._output.append(item)

    def _whole(self, item: dict[str, Any]) -> Iterator[bytes]:
        yield from self._item_event("added", item)
        yield from self._item_event("done", item)
        self._output.append(item)

    def _end(self, ending: Ending) -> Iterator[bytes]:
        status = status_of(ending)
        whole = response_json(
            self._head,
            status,
            self._output,
            ending=ending,
            ended_at=datetime.fromtimestamp(time.time(), UTC),
        )
        self.final, self.ending = whole, ending
        yield from self._event(_LAST.get(status, "response.incomplete"), response=whole)

    def _item(self, text: str) -> dict[str, Any]:
        """The open item, with so much text."""
        assert self._open is not None  # noqa: S101 -- asked only while one is
        kind, index = self._open
        if kind == "text":
            return items.text_item(self._message_id, index, text, self._cited)
        return items.reasoning_item(self._message_id, index, text)

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item("")["id"], "output_index": len(self._output)}

    def _item_event(self, what: str, item: dict[str, Any]) -> Iterator[bytes]:
        place = {"output_index": len(self._output), "item": item}
        yield from self._event(f"response.output_item.{what}", **place)

    def _event(self, kind: str, **members: Any) -> Iterator[bytes]:  # noqa: ANN401 -- JSON
        number = self._number
        self._number += 1
        if number > self._after:
            yield _frame(kind, number, members)

    def _delta(self, kind: str, text: str, **members: Any) -> Iterator[bytes]:  # noqa: ANN401 -- JSON
        """A piece of text counts for as many as it has characters."""
        begins = self._number
        self._number += len(text)
        known = max(0, self._after + 1 - begins)
        if known < len(text):
            yield _frame(kind, self._number - 1, {**members, "delta": text[known:]})


def farewell() -> bytes:
    """Return the end of a stream whose reader was signed out."""
    said = {"code": TokenRevoked.code, "message": TokenRevoked().detail, "param": None}
    return _frame("error", 0, said)


def _frame(kind: str, number: int, members: dict[str, Any]) -> bytes:
    body = _encode({"type": kind, "sequence_number": number, **members})
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), body)
