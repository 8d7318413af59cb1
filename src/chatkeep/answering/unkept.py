"""Answers that are not kept: made while somebody reads them, and booked however they end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from chatkeep.answering.answers import INTERRUPTED
from chatkeep.answering.charges import ANONYMOUS
from chatkeep.answering.live import NOWHERE, LiveAnswer
from chatkeep.answering.responders import Asked
from chatkeep.answering.working import answer, refuse_when, within
from chatkeep.errors import ChatkeepError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep.answering.admission import Admission
    from chatkeep.answering.charges import Budgets, Charge
    from chatkeep.answering.reading import AnswerEvent
    from chatkeep.answering.responders import Responder
    from chatkeep.llm.model import Prompt
    from chatkeep.principal import Principal
    from chatkeep.runs import Ending

_log = logging.getLogger(__name__)

_STOP_WITHIN_S = 5.0


class UnkeptAnswers:
    """Every answer this process is making that nobody keeps."""

    def __init__(
        self,
        responder: Responder,
        budgets: Budgets,
        admission: Admission,
        *,
        closing: asyncio.Event,
    ) -> None:
        """Let *responder* answer until *closing* is set."""
        self._responder = responder
        self._budgets = budgets
        self._admission = admission
        self._closing = closing
        self._tasks: set[asyncio.Task[Ending]] = set()
        self._settling: set[asyncio.Task[None]] = set()

    async def charge(self, who: Principal | None, prompt: Prompt) -> Charge:
        """Let *who* begin an answer that is not kept, and charge it; see `answer`.

        Raises:
            Unavailable: the server is shutting down.
            BudgetExhausted: too little is left.
            RateLimited: the model was asked too often.
            ModelUnavailable: nobody who could answer is up.
        """
        refuse_when(self._closing)
        user_id = ANONYMOUS if who is None else who.user_id
        async with self._admission.of(user_id, prompt.settings.model):
            return await self._budgets.charge_unkept(who, prompt)

    def answer(
        self, prompt: Prompt, *, charge: Charge, who: Principal | None = None
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Answer *who* without keeping it: hanging up stops it.

        *charge* is what `charge` has made for *prompt*.

        Raises:
            Unavailable: the server is shutting down.
        """
        refuse_when(self._closing)
        live = LiveAnswer(user_id="", address=NOWHERE, model=prompt.settings.model)
        return self._follow(live, Asked(prompt=prompt, who=who, run=NOWHERE), charge)

    async def close(self, *, drain_s: float) -> None:
        """Let the running ones end, interrupt the rest, and book what all of them used."""
        tasks = [*self._tasks]
        if not tasks:
            return
        await asyncio.wait(tasks, timeout=drain_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.wait([*tasks, *self._settling], timeout=_STOP_WITHIN_S)
        if self._settling:  # those that were just cancelled
            await asyncio.wait(self._settling, timeout=_STOP_WITHIN_S)

    async def _follow(
        self, live: LiveAnswer, asked: Asked, charge: Charge
    ) -> AsyncGenerator[AnswerEvent, None]:
        # Begun by the first read: a reader who left before it leaves nothing running.
        asked = replace(asked, prompt=within(asked.prompt, charge))
        task = asyncio.create_task(self._answer(live, asked, charge))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(
            lambda done: live.end(INTERRUPTED if done.cancelled() else done.result())
        )
        try:
            async with aclosing(live.follow()) as events:
                async for event in events:
                    yield event
        finally:
            task.cancel()

    async def _answer(self, live: LiveAnswer, asked: Asked, charge: Charge) -> Ending:
        """Take everything that happens, and book what it used however it ends."""
        state = "interrupted"
        try:
            ending = await answer(self._responder, self._budgets, live, asked, charge)
            state = ending.state
        finally:
            settling = asyncio.create_task(self._settle(charge, live, state))
            self._settling.add(settling)
            settling.add_done_callback(self._settling.discard)
        await asyncio.shield(settling)  # whoever has read the end sees what it cost
        return ending

    async def _settle(self, charge: Charge, live: LiveAnswer, state: str) -> None:
        try:
            await self._budgets.settle(charge, live, state)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the answer has an end
            # The sweeper books what was charged beforehand.
            if isinstance(error, ChatkeepError):
                _log.warning("what an answer used is not booked: %s", error.code)
            else:
                _log.exception("what an answer used is not booked")
