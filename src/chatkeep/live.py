"""An answer while it is being made, and how any number of readers follow it.

The answer is a list of parts that only grow. A reader keeps how far it has read and, when
woken, takes everything that is new: a slow reader gets larger pieces instead of making
anything queue up, a late one begins with everything so far, and what is in memory is the
answer itself, once. The same holds for a reader on another node, whose "new" is what the
last checkpoint has more than the one before.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from chatkeep.events import Done, ReasoningDelta, TextDelta, ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence
    from decimal import Decimal

    from chatkeep.events import ModelEvent
    from chatkeep.runs import Address, Ending

#: Readers hear at least this often, so that proxies keep their connection open.
HEARTBEAT_S = 10.0


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
class StillWorking:
    """Nothing new for a while, and not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The last event of every answer."""

    ending: Ending


AnswerEvent = PartBegan | PartGrew | PartEnded | ToolCalled | StillWorking | Ended


@dataclass(slots=True)
class Part:
    """A growing run of text of one kind, or one whole tool call."""

    kind: Literal["text", "reasoning", "tool"]
    pieces: list[str] = field(default_factory=list)
    call: ToolCall | None = None

    @property
    def text(self) -> str:
        """Everything so far."""
        return "".join(self.pieces)


class Reader:
    """How far one reader has come, and what is new to it."""

    def __init__(self) -> None:
        """Begin at the beginning."""
        self._index = 0
        self._pieces = 0
        self._began = False

    def advance(self, parts: Sequence[Part], *, ended: bool) -> Iterator[AnswerEvent]:
        """Yield what *parts* have that was not read yet; close the last part when *ended*."""
        while self._index < len(parts):
            part = parts[self._index]
            if part.kind == "tool":
                if part.call is not None:
                    yield ToolCalled(index=self._index, call=part.call)
            else:
                yield from self._read(part, part.kind)
                if self._pieces < len(part.pieces):
                    continue  # it grew while the reader was busy with what we gave it
                if self._index == len(parts) - 1 and not ended:
                    return
                yield PartEnded(index=self._index, kind=part.kind)
            self._index, self._pieces, self._began = self._index + 1, 0, False

    def _read(self, part: Part, kind: Literal["text", "reasoning"]) -> Iterator[AnswerEvent]:
        if not self._began:
            self._began = True
            yield PartBegan(index=self._index, kind=kind)
        if self._pieces < len(part.pieces):
            new = "".join(part.pieces[self._pieces :])
            self._pieces = len(part.pieces)
            yield PartGrew(index=self._index, kind=kind, text=new)


class LiveAnswer:
    """One answer being made in this process."""

    def __init__(self, *, user_id: str, address: Address, model: str) -> None:
        """Begin empty; the run is *address.id*."""
        self.user_id = user_id
        self.address = address
        self.model = model
        self.parts: list[Part] = []
        self.usage = Usage()
        self.done: Done | None = None
        self.ending: Ending | None = None
        self.changed = False
        self._waiting: set[asyncio.Event] = set()

    def add(self, event: ModelEvent) -> None:
        """Take what the model said and wake the readers."""
        match event:
            case TextDelta(text=text):
                self._grow("text", text)
            case ReasoningDelta(text=text):
                self._grow("reasoning", text)
            case ToolCall():
                self.parts.append(Part("tool", call=event))
            case Usage():
                self.usage = event
                return
            case Done():
                self.done = event
                self.model = event.model or self.model
                return
        self.changed = True
        self._wake()

    def end(self, ending: Ending) -> None:
        """Say how it ended; nothing may be added afterwards."""
        self.ending = ending
        self._wake()

    @property
    def content(self) -> str:
        """The visible text so far."""
        return "".join(part.text for part in self.parts if part.kind == "text")

    def stored_parts(self) -> list[dict[str, Any]] | None:
        """Return the parts as they are kept; None when there is text and nothing else."""
        return stored(self.parts)

    async def follow(self) -> AsyncGenerator[AnswerEvent, None]:
        """Replay everything from the start, then go on live, until `Ended`."""
        reader, news = Reader(), asyncio.Event()
        self._waiting.add(news)
        try:
            while True:
                news.clear()
                ending = self.ending
                for event in reader.advance(self.parts, ended=ending is not None):
                    yield event
                if ending is not None:
                    yield Ended(ending=ending)
                    return
                if not news.is_set() and not await _happens(news):
                    yield StillWorking()
        finally:
            self._waiting.discard(news)

    def _grow(self, kind: Literal["text", "reasoning"], text: str) -> None:
        text = _storable(text)
        if not text:
            return
        if not self.parts or self.parts[-1].kind != kind:
            self.parts.append(Part(kind))
        self.parts[-1].pieces.append(text)

    def _wake(self) -> None:
        for news in self._waiting:
            news.set()


def _storable(text: str) -> str:
    """Return *text* without what neither PostgreSQL nor UTF-8 can hold."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


async def _happens(news: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(HEARTBEAT_S):
            await news.wait()
    except TimeoutError:
        return False
    return True


def stored(parts: Sequence[Part]) -> list[dict[str, Any]] | None:
    """Return *parts* as `chat.messages.parts` keeps them: AI SDK message parts."""
    if all(part.kind == "text" for part in parts) and len(parts) <= 1:
        return None
    return [_stored(part) for part in parts]


def _stored(part: Part) -> dict[str, Any]:
    if part.call is None:
        return {"type": part.kind, "text": part.text}
    return {
        "type": "dynamic-tool",
        "toolCallId": part.call.call_id,
        "toolName": part.call.name,
        "state": "input-available",
        "input": part.call.arguments,
    }


def unstored(content: str, parts: Sequence[dict[str, Any]] | None) -> list[Part]:
    """Return the parts that `stored` wrote, each whole."""
    if parts is None:
        return [Part("text", [content])] if content else []
    return [_unstored(part) for part in parts]


def _unstored(part: dict[str, Any]) -> Part:
    match part:
        case {"type": "dynamic-tool", "toolCallId": call_id, "toolName": name, "input": text}:
            return Part("tool", call=ToolCall(call_id=call_id, name=name, arguments=text))
        case {"type": "reasoning", "text": text}:
            return Part("reasoning", [text])
        case _:
            return Part("text", [str(part.get("text", ""))])


class Growth:
    """The parts of an answer made elsewhere, seen through its checkpoints.

    A checkpoint is the whole answer so far; `take` keeps only what it has more than the
    one before, as one further piece, so that a `Reader` can go on where it was.
    """

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self.parts: list[Part] = []

    def take(self, seen: Sequence[Part]) -> None:
        """Add what *seen* has more."""
        for index, part in enumerate(seen):
            if index == len(self.parts):
                self.parts.append(Part(part.kind, call=part.call))
            known = self.parts[index]
            if len(new := part.text[len(known.text) :]):
                known.pieces.append(new)


def usage_json(
    prompt_tokens: int | None, completion_tokens: int | None, cost: Decimal | None
) -> dict[str, Any] | None:
    """Return usage as every surface shows it, None when the provider did not say."""
    if prompt_tokens is None and completion_tokens is None:
        return None
    shown: dict[str, Any] = {
        "prompt_tokens": prompt_tokens or 0,
        "completion_tokens": completion_tokens or 0,
        "total_tokens": (prompt_tokens or 0) + (completion_tokens or 0),
    }
    return shown if cost is None else {**shown, "cost": float(cost)}
