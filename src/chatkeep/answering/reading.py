"""What a reader of an answer is told, and how one reader comes forward in it.

The answer is a list of parts that only grow. A reader keeps how far it has read and, when
woken, takes everything that is new: a slow reader gets larger pieces instead of making
anything queue up, a late one begins with everything so far. It does not matter where the
parts come from: a `LiveAnswer` of this process, what another node's checkpoints have, or what
is kept. Nothing here waits or knows of other readers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, assert_never

from chatkeep.errors import error_named
from chatkeep.events import ApprovalAsked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from chatkeep.answering.parts import Part
    from chatkeep.errors import ChatkeepError
    from chatkeep.events import Source, ToolCall, ToolResult
    from chatkeep.runs import Ending

#: Readers hear at least this often, so that proxies keep their connection open.
HEARTBEAT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartBegan:
    """Part number *index* begins."""

    index: int
    kind: Literal["text", "reasoning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartGrew:
    """More of part number *index*."""

    index: int
    kind: Literal["text", "reasoning"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEnded:
    """Nothing more will be added to part number *index*."""

    index: int
    kind: Literal["text", "reasoning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalled:
    """The model asked for a tool, whole."""

    index: int
    call: ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalNeeded:
    """The tool of part number *index* waits for the person."""

    index: int
    asked: ApprovalAsked


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAnswered:
    """The tool of part number *index* has answered, failed, or was not allowed."""

    index: int
    result: ToolResult


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceShown:
    """Where something comes from, whole."""

    index: int
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBegan:
    """The model is asked again."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StillWorking:
    """Nothing new for a while, and not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The last event of every answer."""

    ending: Ending


AnswerEvent = (
    PartBegan
    | PartGrew
    | PartEnded
    | ToolCalled
    | ApprovalNeeded
    | ToolAnswered
    | SourceShown
    | StepBegan
    | StillWorking
    | Ended
)


def failure_of(ending: Ending) -> ChatkeepError | None:
    """Return why nothing complete was said, None when the answer is whole or was stopped."""
    if ending.state in {"done", "stopped"}:
        return None
    failure = error_named(ending.error_code or "internal")
    if ending.retry_after_s is not None:
        failure.retry_after_s = ending.retry_after_s
    return failure


class Reader:
    """How far one reader has come, and what is new to it."""

    def __init__(self, has: int = 0, waiting: Collection[int] = (), *, pieces: int = 0) -> None:
        """Begin after so many parts, which the reader *has*, *waiting* for these tools of them.

        Of the part after those it has so many *pieces*.
        """
        self._index = has
        self._pieces = pieces
        self._began = False
        self._waiting = list(waiting)
        self._asked = set(waiting)

    def advance(self, parts: Sequence[Part], *, ended: bool) -> Iterator[AnswerEvent]:
        """Yield what *parts* have that was not read yet; close the last part when *ended*."""
        yield from self._news_of_tools(parts)
        while self._index < len(parts):
            part = parts[self._index]
            match part.kind:
                case "text" | "reasoning" as kind:
                    yield from self._read(part, kind)
                    if self._pieces < len(part.pieces):
                        continue  # it grew while the reader was busy with what we gave it
                    if self._index == len(parts) - 1 and not ended:
                        return
                    if self._began:
                        yield PartEnded(index=self._index, kind=kind)
                case "tool" | "source" | "step":
                    yield from self._whole(part)
                case _:
                    assert_never(part.kind)
            self._index, self._pieces, self._began = self._index + 1, 0, False
            yield from self._news_of_tools(parts)

    def _whole(self, part: Part) -> Iterator[AnswerEvent]:
        if part.call is not None:
            self._waiting.append(self._index)
            yield ToolCalled(index=self._index, call=part.call)
        elif part.source is not None:
            yield SourceShown(index=self._index, source=part.source)
        else:
            yield StepBegan(index=self._index)

    def _news_of_tools(self, parts: Sequence[Part]) -> Iterator[AnswerEvent]:
        for index in list(self._waiting):
            part = parts[index]
            if part.call is not None and part.approval_id and index not in self._asked:
                self._asked.add(index)
                asked = ApprovalAsked(call_id=part.call.call_id, approval_id=part.approval_id)
                yield ApprovalNeeded(index=index, asked=asked)
            if part.result is not None:
                self._waiting.remove(index)
                yield ToolAnswered(index=index, result=part.result)

    def _read(self, part: Part, kind: Literal["text", "reasoning"]) -> Iterator[AnswerEvent]:
        if self._pieces < len(part.pieces):
            if not self._began:
                self._began = True
                yield PartBegan(index=self._index, kind=kind)
            new = "".join(part.pieces[self._pieces :])
            self._pieces = len(part.pieces)
            yield PartGrew(index=self._index, kind=kind, text=new)
