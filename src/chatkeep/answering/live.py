"""An answer while it is being made in this process, which any number of readers follow.

It wakes them and queues nothing for them: what is in memory is the answer itself, once, and
each takes from it what is new to it, as `reading` says.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, assert_never

from chatkeep.answering.parts import Part, stored
from chatkeep.answering.reading import HEARTBEAT_S, Ended, Reader, StillWorking
from chatkeep.errors import ModelBroken
from chatkeep.events import (
    NO_USAGE,
    Answering,
    ApprovalAsked,
    Done,
    NextStep,
    Paused,
    ReasoningDelta,
    Source,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
    Withheld,
    is_web_address,
)
from chatkeep.metrics import Counter, Histogram
from chatkeep.patience import News
from chatkeep.runs import Address

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from chatkeep.answering.reading import AnswerEvent
    from chatkeep.budgets.ledger import Charged
    from chatkeep.events import ReplyEvent
    from chatkeep.runs import Ending

#: Where an answer is that no conversation keeps.
NOWHERE: Final = Address(id="", conversation_id="", message_id="", user_message_id="")

_log = logging.getLogger(__name__)

_ANSWERS = Counter(
    "chatkeep_answers_total",
    "Answers that ended: done, stopped, failed, interrupted; and the error's code.",
    "state",
    "error",
)
_FIRST_PIECE = Histogram(
    "chatkeep_first_piece_seconds", "From a stored question to the first piece of its answer."
)
_WHOLE = Histogram(
    "chatkeep_answer_seconds",
    "From a stored question to the end of its answer.",
    bounds=(0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600),
)
_TOKENS = Counter(
    "chatkeep_tokens_total",
    "Tokens that models counted: prompt, completion.",
    "model",
    "kind",
)
_COST = Counter("chatkeep_cost_dollars_total", "What models said they cost, in dollars.", "model")


class LiveAnswer:
    """One answer being made in this process."""

    def __init__(
        self,
        *,
        user_id: str,
        address: Address,
        model: str,
        parts: Sequence[Part] = (),
        was_cut_off: bool = False,
    ) -> None:
        """Begin with *parts*, what an earlier run of it has said; the run is *address.id*.

        That *was_cut_off*: its last words and the next ones are one text.
        """
        self.user_id = user_id
        self.address = address
        self.model = model
        self.charged: Charged | None = None
        self.parts: list[Part] = list(parts)
        self._begun = len(self.parts)
        self._joins = was_cut_off and bool(parts) and self.parts[-1].kind == "text"
        self._waited = [index for index, part in enumerate(self.parts) if part.waits]
        self.usage = NO_USAGE
        self.withheld = 0
        self.answering: Answering | None = None
        self.done: Done | None = None
        self.paused: str | None = None
        self.ending: Ending | None = None
        self.changed = False
        self._waiting: set[News] = set()
        self._for_its_end: list[asyncio.Future[Ending]] = []
        self._asked_at = time.perf_counter()
        self._speaks = False

    def add(self, event: ReplyEvent) -> None:
        """Take what has happened and wake the readers."""
        match event:
            case TextDelta(text=text):
                self._grow("text", text)
            case ReasoningDelta(text=text):
                self._grow("reasoning", text)
            case ToolCall():
                self.parts.append(Part("tool", call=_mended(event)))
            case ToolResult(call_id=call_id):
                self._tool(call_id).result = event
            case ApprovalAsked(call_id=call_id, approval_id=approval_id):
                self._tool(call_id).approval_id = approval_id
            case Source(url=url) if is_web_address(url):
                self.parts.append(Part("source", source=event))
            case NextStep():
                self.parts.append(Part("step"))
            case Usage() | Withheld() | Done() | Answering() | Paused() | Source():
                self._note(event)
                return
            case _:
                assert_never(event)
        self.changed = True
        if not self._speaks:
            self._speaks = True
            _FIRST_PIECE.observe(time.perf_counter() - self._asked_at)
        self._wake()

    def end(self, ending: Ending) -> None:
        """Say how it ended; nothing may be added afterwards."""
        if self.ending is None:
            self._count(ending)
        self.ending = ending
        self._wake()
        for waiter in self._for_its_end:
            if not waiter.done():
                waiter.set_result(ending)

    @property
    def content(self) -> str:
        """The visible text so far."""
        return "".join(part.text for part in self.parts if part.kind == "text")

    def stored_parts(self) -> list[dict[str, Any]] | None:
        """Return the parts as they are kept; None when there is text and nothing else."""
        return stored(self.parts)

    async def follow(self, *, only_new: bool = False) -> AsyncGenerator[AnswerEvent, None]:
        """Replay everything, then go on live, until `Ended`.

        *only_new*: not what an earlier run of the same answer had said.
        """
        reader = self._reader_of_news() if only_new else Reader()
        news = News(HEARTBEAT_S)
        self._waiting.add(news)
        try:
            while True:
                news.heard = False
                ending = self.ending
                for event in reader.advance(self.parts, ended=ending is not None):
                    yield event
                if ending is not None:
                    yield Ended(ending=ending)
                    return
                if not news.heard and not await news.come():
                    yield StillWorking()
        finally:
            self._waiting.discard(news)
            news.end()

    async def whole(self) -> tuple[str, Ending]:
        """Wait for its end; return its visible text, and how it ended. No piece wakes who waits."""
        ending = self.ending
        if ending is None:
            waiter = asyncio.get_running_loop().create_future()
            self._for_its_end.append(waiter)
            ending = await waiter
        return self.content, ending

    def _reader_of_news(self) -> Reader:
        if self._joins:  # what was kept of the text is its first piece
            return Reader(self._begun - 1, self._waited, pieces=1)
        return Reader(self._begun, self._waited)

    def _note(self, event: Usage | Withheld | Done | Answering | Paused | Source) -> None:
        """Take what readers are not told of."""
        match event:
            case Usage() if event.is_plausible:
                self.usage += event
            case Usage():
                _log.warning("run %s: its usage makes no sense, and is estimated", self.address.id)
            case Source():
                _log.warning(
                    "run %s: a source is no page of the web, and is left out", self.address.id
                )
            case Withheld(size=size):
                self.withheld += size
            case Done():
                self.done = event
                self.model = event.model or self.model
            case Answering(model=model):
                self.model, self.answering = model, event
            case Paused(state=state):
                self.paused = state

    def _tool(self, call_id: str) -> Part:
        """Find the tool that was asked for under this id, the latest of that name.

        Raises:
            ModelBroken: nobody asked for it.
        """
        for part in reversed(self.parts):
            if part.call is not None and part.call.call_id == call_id:
                return part
        raise ModelBroken

    def _grow(self, kind: Literal["text", "reasoning"], text: str) -> None:
        text = _storable(text)
        if not text:
            return
        is_first = len(self.parts) == self._begun and not self._joins
        if is_first or self.parts[-1].kind != kind:
            self.parts.append(Part(kind))
        self.parts[-1].pieces.append(text)

    def _count(self, ending: Ending) -> None:
        _ANSWERS.add(ending.state, ending.error_code or "")
        _WHOLE.observe(time.perf_counter() - self._asked_at)
        used = self.usage
        if used.prompt_tokens or used.completion_tokens:  # else a model's name is only a wish
            _TOKENS.add(self.model, "prompt", by=used.prompt_tokens)
            _TOKENS.add(self.model, "completion", by=used.completion_tokens)
        if used.cost:
            _COST.add(self.model, by=float(used.cost))

    def _wake(self) -> None:
        for news in self._waiting:
            news.tell()


def _mended(call: ToolCall) -> ToolCall:
    """Return *call* with what was written for it as it can be kept and sent."""
    written = _storable(call.arguments)
    return call if written == call.arguments else replace(call, arguments=written)


def _storable(text: str) -> str:
    """Return *text* without what neither PostgreSQL nor UTF-8 can hold."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
