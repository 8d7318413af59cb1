"""How the OpenAI surface shows an answer: whole, or as chunks that end with `[DONE]`."""

from __future__ import annotations

import time
from contextlib import aclosing
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
    failure_of,
)
from chatkeep.errors import TokenRevoked
from chatkeep.ids import new_id
from chatkeep.web.openai.errors import body_of, failure_of_answer
from chatkeep.web.sse import HEARTBEAT
from chatkeep.web.usage import usage_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Sequence

    from chatkeep.answering.reading import AnswerEvent
    from chatkeep.events import Source, ToolCall
    from chatkeep.runs import Ending

_END: Final = b"data: [DONE]\n\n"
_FINISHED: Final = {
    "stop": "stop",
    "length": "length",
    "content-filter": "content_filter",
    "tool-calls": "tool_calls",
}


class _Function(msgspec.Struct, gc=False):
    name: str
    arguments: str


class _Call(msgspec.Struct, gc=False):
    index: int
    id: str
    function: _Function
    type: str = "function"


class _Delta(msgspec.Struct, omit_defaults=True, gc=False):
    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None
    annotations: list[dict[str, Any]] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int
    delta: _Delta
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    id: str
    object: str
    created: int
    model: str
    choices: list[_Choice]
    usage: dict[str, Any] | None = None
    conversation: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class Completion:
    """One answer on its way to an OpenAI client. *model* is what was asked."""

    def __init__(
        self,
        model: str,
        *,
        kept_as: str | None = None,
        conversation: str | None = None,
        own_tools: Collection[str] | None = None,
    ) -> None:
        """Give it an id, that of its run where it is kept (in *conversation*).

        Tools other than *own_tools* may be run here, and are shown only if they are not; None:
        no tool is run here.
        """
        self.id = f"chatcmpl-{kept_as or new_id()}"
        self.created = int(time.time())
        self.model = model
        self._conversation = None if conversation is None else {"id": conversation}
        self._own_tools = own_tools
        self._pending: dict[int, ToolCall] = {}
        self._called = 0

    async def frames(
        self, events: AsyncGenerator[AnswerEvent, None], *, with_usage: bool
    ) -> AsyncGenerator[bytes, None]:
        """Encode *events* as chunks; the last is the usage if it is wanted, then `[DONE]`."""
        first = self._bare()
        first.choices = [_Choice(0, _Delta(role="assistant", content=""))]
        first.conversation = self._conversation or msgspec.UNSET
        yield _data(first)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Ended):
                    for frame in self._ending(event.ending, with_usage=with_usage):
                        yield frame
                elif frame := self._shown(event):
                    yield frame

    def _shown(self, event: AnswerEvent) -> bytes:
        match event:
            case PartGrew(kind="text", text=text):
                return self._chunk(_Delta(content=text))
            case PartGrew(kind="reasoning", text=text):
                return self._chunk(_Delta(reasoning=text))
            case ToolCalled() | ApprovalNeeded() | ToolAnswered():
                return self._calls(self._to_run(event))
            case SourceShown(source=source):
                return self._chunk(_Delta(annotations=[_annotation(source)]))
            case StillWorking():
                return HEARTBEAT
            case PartBegan() | PartEnded() | PartGrew() | StepBegan() | Ended():
                return b""
            case _:
                assert_never(event)

    def _to_run(self, event: ToolCalled | ApprovalNeeded | ToolAnswered) -> list[ToolCall]:
        """The calls that are the client's to run, as far as *event* says."""
        if not isinstance(event, ToolCalled):
            self._pending.pop(event.index, None)
            return []
        if self._own_tools is None or event.call.name in self._own_tools:
            return [event.call]
        self._pending[event.index] = event.call
        return []

    def _calls(self, calls: Sequence[ToolCall]) -> bytes:
        if not calls:
            return b""
        shown = [_call(self._called + number, call) for number, call in enumerate(calls)]
        self._called += len(calls)
        return self._chunk(_Delta(tool_calls=shown))

    async def whole(self, events: AsyncGenerator[AnswerEvent, None]) -> dict[str, Any]:
        """Wait for the end; return the answer, or raise what it failed with."""
        begun = False
        said: dict[str, list[str]] = {"text": [], "reasoning": []}
        calls: list[ToolCall] = []
        sources: list[Source] = []
        async with aclosing(events):
            async for event in events:
                match event:
                    case PartGrew(kind=kind, text=text):
                        said[kind].append(text)
                    case ToolCalled() | ApprovalNeeded() | ToolAnswered():
                        calls += self._to_run(event)
                    case SourceShown(source=source):
                        sources.append(source)
                    case Ended(ending=ending):
                        failure = failure_of_answer(ending, said=begun)
                        if failure is not None:
                            raise failure
                        calls += self._pending.values()
                        return self._completed(said, calls, sources, ending)
                    case _:
                        pass
                begun = begun or not isinstance(event, StillWorking)
        raise AssertionError("an answer ends with Ended")

    def _completed(
        self,
        said: dict[str, list[str]],
        calls: list[ToolCall],
        sources: list[Source],
        ending: Ending,
    ) -> dict[str, Any]:
        text = "".join(said["text"])
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text if text or not calls else None,
            "refusal": None,
        }
        if said["reasoning"]:
            message["reasoning"] = "".join(said["reasoning"])
        if sources:
            message["annotations"] = [_annotation(one) for one in sources]
        if calls:
            message["tool_calls"] = [_whole_call(one) for one in calls]
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": _finished(ending, has_calls=bool(calls)),
            "logprobs": None,
        }
        kept = {} if self._conversation is None else {"conversation": self._conversation}
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": ending.model or self.model,
            "choices": [choice],
            "usage": _usage(ending),
            **kept,
        }

    def _ending(self, ending: Ending, *, with_usage: bool) -> list[bytes]:
        failure = failure_of(ending)
        if failure is not None:
            return [_data(body_of(failure)), _END]
        self.model = ending.model or self.model  # by now it is known who answered
        calls = self._calls(list(self._pending.values()))
        finished = _finished(ending, has_calls=bool(self._called))
        frames = [*([calls] if calls else ()), self._chunk(_Delta(), finished)]
        if with_usage:
            chunk = self._bare()
            chunk.usage = _usage(ending)
            frames.append(_data(chunk))
        return [*frames, _END]

    def _chunk(self, delta: _Delta, finish_reason: str | None = None) -> bytes:
        chunk = self._bare()
        chunk.choices = [_Choice(0, delta, finish_reason)]
        return _data(chunk)

    def _bare(self) -> _Chunk:
        return _Chunk(self.id, "chat.completion.chunk", self.created, self.model, [])


def farewell() -> bytes:
    """Return the end of a stream whose reader was signed out."""
    return _data(body_of(TokenRevoked())) + _END


def _finished(ending: Ending, *, has_calls: bool) -> str:
    reason = _FINISHED.get(ending.finish_reason or "", "stop")
    # A tool that waits for the person's yes is not the client's to run.
    return reason if has_calls or reason != "tool_calls" else "stop"


def _usage(ending: Ending) -> dict[str, Any]:
    known = usage_json(ending)
    return {
        **(known or {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
        "prompt_tokens_details": {"cached_tokens": ending.cached_tokens or 0},
        "completion_tokens_details": {"reasoning_tokens": ending.reasoning_tokens or 0},
    }


def _call(index: int, call: ToolCall) -> _Call:
    return _Call(index=index, id=call.call_id, function=_Function(call.name, call.arguments))


def _whole_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.call_id, "type": "function", "function": function}


def _annotation(source: Source) -> dict[str, Any]:
    """Return where something comes from; of no place in the text, so of all of it from 0 to 0."""
    cited = {"start_index": 0, "end_index": 0, "url": source.url, "title": source.title or ""}
    return {"type": "url_citation", "url_citation": cited}


def _data(value: object) -> bytes:
    return b"data: %s\n\n" % msgspec.json.encode(value)
