"""Answers as their readers see them, wherever they are being made.

One that this process makes is a `live.LiveAnswer`; one of another process, or an ended one,
is seen through the database.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from chatkeep import runs
from chatkeep.errors import ChatkeepError
from chatkeep.live import Ended, Reader, StillWorking
from chatkeep.parts import Growth, unstored
from chatkeep.runs import Address, Ending

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep.budgets.ledger import Charged
    from chatkeep.db import Database
    from chatkeep.live import AnswerEvent
    from chatkeep.runs import Run

_REMOTE_POLL_S = 0.25
_REMOTE_HEARTBEAT_POLLS = 40

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


class RemoteAnswer:
    """An answer made by another process, or ended: seen through the database."""

    def __init__(self, db: Database, user_id: str, run: Run, closing: asyncio.Event) -> None:
        """Follow *run*; let readers go when this process is *closing*."""
        self._db = db
        self._user_id = user_id
        self._run = run
        self._closing = closing
        self.charged: Charged | None = None
        self.model = run.model
        self.address = Address(
            id=run.id,
            conversation_id=run.conversation_id,
            message_id=run.message_id,
            user_message_id=run.user_message_id or "",
        )

    async def follow(
        self,
        *,
        only_new: bool = False,  # noqa: ARG002 -- where one run ended is not kept
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Replay what is stored, then each checkpoint's growth, until the end."""
        run, reader, growth = self._run, Reader(), Growth()
        polls = 0
        while True:
            growth.take(unstored(run.content, run.parts))
            for event in reader.advance(growth.parts, ended=run.ended):
                polls = 0
                yield event
            if run.ended or self._closing.is_set():
                yield Ended(ending=ending_of(run) if run.ended else INTERRUPTED)
                return
            await asyncio.sleep(_REMOTE_POLL_S)
            polls += 1
            if polls % _REMOTE_HEARTBEAT_POLLS == 0:
                yield StillWorking()
            try:
                run = await runs.get_run(self._db, self._user_id, run.id)
            except ChatkeepError as error:
                yield Ended(ending=Ending(state="failed", error_code=error.code))
                return


def ending_of(run: Run) -> Ending:
    """Return how an ended *run* ended."""
    if run.state in {"queued", "running"}:
        raise ValueError("the run has not ended")
    return Ending(
        state=run.state,  # type: ignore[arg-type]  # the two unfinished states were ruled out
        finish_reason=run.finish_reason,
        error_code=run.error_code,
        model=run.model,
        prompt_tokens=run.prompt_tokens,
        completion_tokens=run.completion_tokens,
        cost=run.cost,
    )
