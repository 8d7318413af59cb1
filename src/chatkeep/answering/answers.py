"""Answers as their readers see them, wherever they are being made.

One that this process makes is a `live.LiveAnswer`; one of another process, or an ended one,
is seen through the database.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from chatkeep.answering import checkpoints
from chatkeep.answering.parts import Growth, unstored
from chatkeep.answering.reading import HEARTBEAT_S, Ended, PartGrew, Reader, StillWorking
from chatkeep.answering.tails import Tails
from chatkeep.answering.working import CUT_OFF
from chatkeep.errors import ChatkeepError
from chatkeep.runs import Address, Ending

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Sequence

    from chatkeep.answering.live import LiveAnswer
    from chatkeep.answering.parts import Graft, Part
    from chatkeep.answering.reading import AnswerEvent
    from chatkeep.answering.tails import Tail
    from chatkeep.budgets.ledger import Charged
    from chatkeep.db import Database
    from chatkeep.runs import Run

_PENDING_AT_MOST: Final = 1000

INTERRUPTED: Final = Ending(state="interrupted", error_code="answer_interrupted")


class Answer(Protocol):
    """An answer that can be followed from its start, wherever it is being made.

    *charged* is what it was charged, where this process began it.
    """

    address: Address
    model: str
    charged: Charged | None

    def follow(self, *, only_new: bool = False) -> AsyncGenerator[AnswerEvent, None]:
        """Replay, then go on live, until `Ended`.

        *only_new*: not what an earlier run of the same answer had said, where that is known.
        """

    async def whole(self) -> tuple[str, Ending]:
        """Wait for its end; return its visible text, and how it ended."""


class RemoteAnswer:
    """An answer made by another process, or ended: seen through the database."""

    def __init__(
        self,
        db: Database,
        user_id: str,
        run: Run,
        *,
        closing: asyncio.Event,
        tails: Tails | None = None,
        here: Callable[[], LiveAnswer | None] = lambda: None,
    ) -> None:
        """Follow *run*; let readers go when this process is *closing*.

        *tails* spare looks into the database; *here* finds the answer once this process makes
        it, which may be when *run* has waited for its turn.
        """
        self._db = db
        self._user_id = user_id
        self._run = run
        self._said = -1
        self._pending: list[Graft] = []
        self._closing = closing
        self._tails = tails or Tails()
        self._here = here
        self.charged: Charged | None = None
        self.model = run.model
        self.address = Address(
            id=run.id,
            conversation_id=run.conversation_id,
            message_id=run.message_id,
            user_message_id=run.user_message_id or "",
        )

    async def follow(self, *, only_new: bool = False) -> AsyncGenerator[AnswerEvent, None]:
        """Replay what is stored, then what becomes known of it, until the end.

        *only_new*: not what an earlier run of the same answer had said.
        """
        growth = Growth()
        growth.take(unstored(self._run.content, self._run.parts))
        reader = _reader_of_news(self._run, growth) if only_new else Reader()
        with self._tails.following(self._run.id) as tail:
            quiet_since = time.monotonic()
            while True:
                ended = self._run.ended
                for event in reader.advance(growth.parts, ended=ended):
                    quiet_since = time.monotonic()
                    yield event
                if ended or self._closing.is_set():
                    yield Ended(ending=ending_of(self._run) if ended else INTERRUPTED)
                    return
                if time.monotonic() - quiet_since > HEARTBEAT_S:
                    quiet_since = time.monotonic()
                    yield StillWorking()
                try:
                    await self._hear(tail, growth)
                except ChatkeepError as error:
                    yield Ended(ending=Ending(state="failed", error_code=error.code))
                    return
                if (live := self._here()) is not None and not growth.parts:
                    async with aclosing(live.follow(only_new=only_new)) as events:
                        async for event in events:  # it waited for its turn, and that is here
                            yield event
                    return

    async def whole(self) -> tuple[str, Ending]:
        """Wait for its end; return its visible text, and how it ended."""
        text: list[str] = []
        async for event in self.follow():
            if isinstance(event, PartGrew) and event.kind == "text":
                text.append(event.text)
            if isinstance(event, Ended):
                return "".join(text), event.ending
        raise AssertionError("an answer ends with Ended")

    async def _hear(self, tail: Tail, growth: Growth) -> None:
        """Wait for news and take them: from their stream, or from the database."""
        asks = self._tails.asks(self._run.id, tail)
        if asks:
            await checkpoints.ask_for_news(self._db, self._user_id, self._run.id)
        pieces = await tail.wait()
        self._pending = growth.graft([*self._pending, *pieces])
        if pieces and not self._pending:
            return
        if self._pending:
            tail.missed()
        if len(self._pending) > _PENDING_AT_MOST:
            self._pending.clear()
        await self._look(tail, growth)

    async def _look(self, tail: Tail, growth: Growth) -> None:
        first = growth.parts[0] if growth.parts else None
        has = len(first.text) if first is not None and first.kind == "text" else 0
        news = await checkpoints.get_news(
            self._db, self._user_id, self._run.id, has=has, said=self._said
        )
        before = self._said, self._run.state
        self._run, self._said = news.of(self._run), news.said
        if news.parts is not None:
            growth.take(unstored("", news.parts))
        elif news.more:
            growth.graft([(0, has, {"type": "text", "text": news.more})])
        if before != (self._said, self._run.state):
            tail.missed()
        self._pending = growth.graft(self._pending)


def _reader_of_news(run: Run, growth: Growth) -> Reader:
    begun = growth.parts[: run.begun]
    since_step = max((at + 1 for at, part in enumerate(begun) if part.kind == "step"), default=0)
    waiting = [
        index
        for index, part in enumerate(begun)
        if part.waits or (index >= since_step and _has_ended_since(part))
    ]
    calls = any(part.call is not None for part in begun[since_step:])
    cut = None if calls or not begun or begun[-1].kind != "text" else _where_cut(run, begun)
    if cut is None:
        return Reader(len(begun), waiting)
    # A text that was cut off and goes on: what it had is its first piece.
    text = begun[-1].text
    begun[-1].pieces = [text[:cut], text[cut:]] if cut < len(text) else [text]
    return Reader(len(begun) - 1, waiting, pieces=1)


def _where_cut(run: Run, begun: Sequence[Part]) -> int | None:
    """Return how many characters the last text of *begun* had before *run*; None: not known."""
    text = begun[-1].text
    if not run.said_before:
        return None
    if len(begun) == 1:  # it was kept without parts
        return len(text.encode()[: run.said_before].decode("utf-8", "ignore"))
    grown = run.grown or 0
    cut = bisect_left(range(len(text) + 1), -grown, key=lambda at: -_bytes_as_kept(text[at:]))
    return cut if _bytes_as_kept(text[cut:]) == grown else None


def _bytes_as_kept(text: str) -> int:
    """How many bytes *text* has in the JSON that PostgreSQL keeps, which escapes as we do."""
    return len(msgspec.json.encode(text)) - 2


def _has_ended_since(part: Part) -> bool:
    """Whether a tool that has ended waited for the person, or to be given up, before it did."""
    return part.result is not None and (part.approved is not None or part.result.error == CUT_OFF)


def ending_of(run: Run) -> Ending:
    """Return how an ended *run* ended."""
    if not run.ended:
        raise ValueError("the run has not ended")
    return Ending(
        state=run.state,  # type: ignore[arg-type]  # the two unfinished states were ruled out
        finish_reason=run.finish_reason,
        error_code=run.error_code,
        model=run.model,
        prompt_tokens=run.prompt_tokens,
        completion_tokens=run.completion_tokens,
        cost=run.cost,
        cached_tokens=run.cached_tokens,
        reasoning_tokens=run.reasoning_tokens,
    )
