"""Answers: from a stored question to a stored answer, whatever happens to the reader.

A run is worked on by a task of this process, never of a request: closing the tab changes
nothing. Pieces go to a `LiveAnswer` that readers follow, and to the database every
`_CHECKPOINT_S`; the end is stored before any reader hears of it. No database connection
is held while a model speaks.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from chatkeep import runs, turns, waiting
from chatkeep.admission import Admission
from chatkeep.answers import INTERRUPTED, RemoteAnswer
from chatkeep.budgets.amounts import refusal
from chatkeep.charges import ANONYMOUS, Budgets
from chatkeep.db import ConstraintViolated
from chatkeep.errors import (
    BudgetExhausted,
    ChatkeepError,
    ModelBroken,
    ModelUnavailable,
    RateLimited,
    RunInProgress,
    Unavailable,
)
from chatkeep.events import NextStep
from chatkeep.live import LiveAnswer
from chatkeep.prompts import prompt_of
from chatkeep.responders import Asked
from chatkeep.runs import Address, Checkpoint, Ending
from chatkeep.tails import Tails
from chatkeep.titles import title_from
from chatkeep.turns import AlreadyStarted, Turn
from chatkeep.working import Work, begun_parts, cut_off, ended, is_first, within

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from chatkeep.answers import Answer
    from chatkeep.budgets.ledger import Charged
    from chatkeep.charges import Charge
    from chatkeep.db import Database, Query
    from chatkeep.live import AnswerEvent
    from chatkeep.llm.model import Prompt
    from chatkeep.parts import Part
    from chatkeep.policies import Choices
    from chatkeep.principal import Principal
    from chatkeep.responders import Responder
    from chatkeep.titling import Titling
    from chatkeep.turns import Said

_log = logging.getLogger(__name__)

_CHECKPOINT_S = 0.25
_CHECKPOINTS_TOGETHER = 32
_LEASE_RENEWAL_S = 4.0
_STOP_WITHIN_S = 5.0
_STOPS_AT_MOST = 3
_STORE_PAUSES_S = (0.1, 0.3, 1.0, 3.0, 5.0, 10.0)


class Replies:
    """Every answer this process is making."""

    def __init__(
        self,
        db: Database,
        responder: Responder,
        *,
        pseudonym: Callable[[str], str],
        budgets: Budgets | None = None,
        admission: Admission | None = None,
        tails: Tails | None = None,
        titling: Titling | None = None,
    ) -> None:
        """Let *responder* answer; *pseudonym* names a user to its provider, and not who it is.

        *budgets* charge each answer; without them nothing is limited, and use is counted.
        *tails* tell other nodes what is new; *titling* names conversations after their first
        answer.
        """
        self.tails = tails or Tails()
        self._titling = titling
        self.budgets = budgets or Budgets(db)
        self._admission = admission or Admission()
        self._db = db
        self._responder = responder
        self.pseudonym = pseudonym
        self._work: dict[str, Work] = {}
        self._unkept: set[asyncio.Task[Ending]] = set()
        self._settling: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    async def begin(self, who: Principal, turn: Turn, choices: Choices) -> Answer:
        """Store the question of *who* and start answering it; a repeated request joins its run.

        Raises:
            RunInProgress: the conversation is being answered already.
            NotFound: no such conversation of this user.
            BudgetExhausted: too little is left for this question.
            RateLimited: its model was asked too often.
            Unavailable: the server is shutting down, or nobody who could answer is up.
        """
        self._refuse_when_closing()
        user_id = who.user_id
        try:
            async with self._admission.of(user_id, choices.settings.model):
                history, charged = await self._start(who, turn, choices)
        except AlreadyStarted as same:
            return await self.join(user_id, same.run_id)
        except (RateLimited, ModelUnavailable):
            if (repeated := await self._find_repeated(user_id, turn)) is None:
                raise
            return repeated
        return self._launch(who, turn, choices, history, charged)

    async def begin_or_wait(self, who: Principal, turn: Turn, choices: Choices) -> Answer:
        """Begin as `begin`, or let *turn*, a question, wait until the conversation is answered.

        Raises as `begin`, but for `RunInProgress` `QueueFull`: too many wait already.
        """
        try:
            return await self.begin(who, turn, choices)
        except RunInProgress:
            if turn.content is None:
                raise
        try:
            async with self._admission.of(who.user_id, choices.settings.model):
                await waiting.enqueue(self._db, who, turn, choices)
        except AlreadyStarted as same:
            return await self.join(who.user_id, same.run_id)
        # What was in the way may have ended before anybody could see that this one waits.
        await self.begin_next(who.user_id, turn.conversation_id)
        return await self.join(who.user_id, turn.run_id)

    async def begin_next(self, user_id: str, conversation_id: str) -> None:
        """Begin the answer whose turn it is in a conversation, unless somebody else does."""
        while not self._closing.is_set():
            waited = await waiting.find_next(self._db, user_id, conversation_id)
            if waited is None:
                return
            who, choices = waiting.asked_by(user_id, waited)
            turn = Turn(
                conversation_id=conversation_id,
                run_id=waited.id,
                message_id=waited.message_id,
                user_message_id=waited.user_message_id,
                model=waited.model,
                content=waited.content,
            )
            also = self.budgets.charging(who, turn, choices)
            try:
                claimed = await turns.claim(self._db, user_id, turn, also)
            except ConstraintViolated as violated:
                code = _refused(violated).code
                await waiting.give_up(self._db, user_id, waited.id, code)
                continue
            if claimed is not None:
                history, rows = claimed
                self._launch(who, turn, choices, history, rows[0][0])
            return

    async def begin_instead(self, who: Principal, turn: Turn, choices: Choices) -> Answer:
        """Begin as `begin`, first stopping what the conversation is being answered with."""
        for _ in range(_STOPS_AT_MOST):
            try:
                return await self.begin(who, turn, choices)
            except RunInProgress:
                await self.stop(who.user_id, turn.conversation_id)
        return await self.begin(who, turn, choices)

    async def join(self, user_id: str, run_id: str) -> Answer:
        """Return an answer of *user_id* that was begun before, running or ended."""
        live = self._find_here(user_id, run_id)
        if live is not None:
            return live
        run = await runs.get_run(self._db, user_id, run_id)
        return RemoteAnswer(
            self._db,
            user_id,
            run,
            closing=self._closing,
            tails=self.tails,
            here=partial(self._find_here, user_id, run_id),
        )

    async def find_running(self, user_id: str, conversation_id: str) -> Answer | None:
        """Return the answer being made in a conversation now, on whichever node."""
        run_id = await runs.find_active(self._db, user_id, conversation_id)
        return None if run_id is None else await self.join(user_id, run_id)

    async def stop(self, user_id: str, conversation_id: str) -> str | None:
        """Stop the answer being made, keep what was said, and return its run's id.

        What waits behind it does not wait any more. Returns when the answer has ended, wherever
        it is made.
        """
        run_id = await runs.find_active(self._db, user_id, conversation_id)
        if run_id is None:
            return None
        if run_id in await waiting.cancel(self._db, user_id, conversation_id, None):
            return run_id
        await self.stop_run(user_id, run_id)
        return run_id

    async def stop_run(self, user_id: str, run_id: str) -> None:
        """Stop one answer of *user_id*, keep what was said, and wait until it has ended.

        Raises:
            NotFound: they have no such run.
        """
        answer = await self.join(user_id, run_id)
        if not self.stop_here(run_id):
            await runs.request_stop(self._db, user_id, run_id)
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                async for _ in answer.follow():
                    pass
        except TimeoutError:
            raise Unavailable("The running answer could not be stopped yet.") from None

    def stop_here(self, run_id: str) -> bool:
        """Stop a run if this process works on it; return whether it does."""
        work = self._work.get(run_id)
        if work is None:
            return False
        work.stopped = True
        work.let_go()
        return True

    def told_to_stop(self, run_id: str) -> None:
        """Take note that somebody, on any node, asked to stop *run_id*."""
        self.stop_here(run_id)

    async def charge_unkept(self, who: Principal | None, prompt: Prompt) -> Charge:
        """Let *who* begin an answer that is not kept, and charge it; see `answer_unkept`.

        Raises:
            BudgetExhausted: too little is left.
            RateLimited: the model was asked too often.
            ModelUnavailable: nobody who could answer is up.
        """
        user_id = ANONYMOUS if who is None else who.user_id
        async with self._admission.of(user_id, prompt.settings.model):
            return await self.budgets.charge_unkept(who, prompt)

    def answer_unkept(
        self,
        prompt: Prompt,
        *,
        charge: Charge,
        who: Principal | None = None,
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Answer *who* without keeping it: hanging up stops it.

        *charge* is what `charge_unkept` has made for *prompt*.

        Raises:
            Unavailable: the server is shutting down.
        """
        self._refuse_when_closing()
        address = Address(id="", conversation_id="", message_id="", user_message_id="")
        live = LiveAnswer(user_id="", address=address, model=prompt.settings.model)
        return self._follow_unkept(live, Asked(prompt=prompt, who=who, run=address), charge)

    async def keep_checkpoints(self) -> None:
        """Store what is new of every answer, and renew the leases, until cancelled."""
        while True:
            await asyncio.sleep(_CHECKPOINT_S)
            due = [work for work in self._work.values() if work.asking and self._is_due(work)]
            for first in range(0, len(due), _CHECKPOINTS_TOGETHER):
                await self._checkpoint(due[first : first + _CHECKPOINTS_TOGETHER])

    async def keep_tails(self) -> None:
        """Exchange news of answers with other nodes, until cancelled."""
        await asyncio.gather(self.tails.keep_sending(self._parts_of), self.tails.keep_reading())

    def _telling(self, live: LiveAnswer) -> list[Query[Any]]:
        run_id = live.address.id
        return [runs.telling(run_id)] if self.tails.tells(run_id) else []

    def _parts_of(self, run_id: str) -> Sequence[Part] | None:
        work = self._work.get(run_id)
        return None if work is None else work.live.parts

    async def sweep(self) -> int:
        """Mark what died with another process; return how many runs that were.

        Where somebody waited behind one of them, the next is begun here.
        """
        swept = await runs.sweep(self._db)
        await self.budgets.sweep()
        for held in await waiting.find_held(self._db):
            await self.begin_next(held.user_id, held.conversation_id)
        return swept

    async def close(self, *, drain_s: float) -> None:
        """Take no new turns, let the running ones end, interrupt the rest and keep them."""
        self._closing.set()
        self.tails.missed()  # whoever follows an answer made elsewhere is let go
        await asyncio.sleep(0)  # whoever was just begun takes its first step, and can be let go
        tasks = [*self._unkept, *(work.task for work in self._work.values() if work.task)]
        if not tasks:
            return
        await asyncio.wait(tasks, timeout=drain_s)
        for work in self._work.values():
            work.let_go()
        for task in self._unkept:
            task.cancel()
        await asyncio.wait([*tasks, *self._settling], timeout=_STOP_WITHIN_S)
        if self._settling:  # those that were just cancelled
            await asyncio.wait(self._settling, timeout=_STOP_WITHIN_S)

    async def _find_repeated(self, user_id: str, turn: Turn) -> Answer | None:
        """Find the answer that the same request has begun, which no limit keeps it from."""
        if turn.request_key is None or turn.may_recur:
            return None
        same = await runs.find_by_request(self._db, user_id, turn.request_key)
        if same is None or turn.content not in {None, same.question}:
            return None
        return await self.join(user_id, same.id)

    def _find_here(self, user_id: str, run_id: str) -> LiveAnswer | None:
        work = self._work.get(run_id)
        return work.live if work is not None and work.live.user_id == user_id else None

    def _refuse_when_closing(self) -> None:
        if self._closing.is_set():
            raise Unavailable("The server is restarting. Try again shortly.")

    def _launch(
        self, who: Principal, turn: Turn, choices: Choices, history: list[Said], charged: Charged
    ) -> LiveAnswer:
        """Begin to answer what is stored and charged."""
        address = Address(
            id=turn.run_id,
            conversation_id=turn.conversation_id,
            message_id=turn.message_id,
            user_message_id=turn.user_message_id,
        )
        begun = begun_parts(turn, history)
        live = LiveAnswer(
            user_id=who.user_id,
            address=address,
            model=turn.model,
            parts=begun,
            was_cut_off=turn.continues is not None,
        )
        charge = self.budgets.admitted(who, charged, choices, begun)
        live.charged = charged
        if begun and turn.continues is not None:
            history = [*history[:-1], cut_off(live, history[-1])]
        prompt = prompt_of(
            history,
            within(choices, charge),
            user_key=self.pseudonym(who.user_id),
            conversation_id=address.conversation_id,
        )
        self._work[turn.run_id] = work = Work(live, _now(), charge)
        asked = Asked(
            prompt=prompt,
            who=who,
            run=address,
            begun=begun if turn.has else (),
            continues=bool(begun) and turn.continues is not None,
        )
        if self._titling is not None and is_first(turn, history):
            work.named_by = partial(_name, self._titling, who, live, history[-1].content)
        work.task = asyncio.create_task(self._answer(work, asked, question=turn.content or ""))
        self.tails.told(turn.run_id)  # whoever waited with it here reads it here
        return live

    async def _start(
        self, who: Principal, turn: Turn, choices: Choices
    ) -> tuple[list[Said], Charged]:
        also = self.budgets.charging(who, turn, choices)
        try:
            history, rows = await turns.start_with(self._db, who.user_id, turn, also)
        except BudgetExhausted as exhausted:
            await self.budgets.refuse(who.user_id, exhausted)
            raise
        except AlreadyStarted as same:
            if not turn.may_recur:
                raise
            await runs.forget_request(self._db, who.user_id, same.run_id)
            history, rows = await turns.start_with(self._db, who.user_id, turn, also)
        return history, rows[0][0]

    async def _follow_unkept(
        self,
        live: LiveAnswer,
        asked: Asked,
        charge: Charge,
    ) -> AsyncGenerator[AnswerEvent, None]:
        # Begun by the first read: a reader who left before it leaves nothing running.
        asked = replace(asked, prompt=within(asked.prompt, charge))
        task = asyncio.create_task(self._pump_unkept(live, asked, charge))
        self._unkept.add(task)
        task.add_done_callback(self._unkept.discard)
        task.add_done_callback(
            lambda done: live.end(INTERRUPTED if done.cancelled() else done.result())
        )
        try:
            async with aclosing(live.follow()) as events:
                async for event in events:
                    yield event
        finally:
            task.cancel()

    def _is_due(self, work: Work) -> bool:
        return work.live.changed or _now() - work.renewed > _LEASE_RENEWAL_S

    async def _checkpoint(self, some: list[Work]) -> None:
        for work in some:
            work.live.changed, work.renewed = False, _now()
        try:
            stops = await runs.checkpoint_each(self._db, [self._said(work) for work in some])
        except ChatkeepError as error:
            if len(some) > 1 and not isinstance(error, Unavailable):
                for work in some:  # one of them is what the database does not take
                    await self._checkpoint([work])
                return
            # The answers go on; what is missing is in the next checkpoint or the end.
            for work in some:
                work.live.changed = True
            _log.warning("checkpoints of %d runs failed: %s", len(some), error.code)
            return
        for work, stop in zip(some, stops, strict=True):
            if stop:
                self.stop_here(work.live.address.id)

    def _said(self, work: Work) -> Checkpoint:
        live = work.live
        return Checkpoint(
            user_id=live.user_id,
            run=live.address,
            content=live.content,
            parts=live.stored_parts(),
            tells=self.tails.tells(live.address.id),
        )

    async def _answer(self, work: Work, asked: Asked, *, question: str) -> None:
        """Work on one run from the first piece to its stored end."""
        live = work.live
        ending = await self._ask(work, asked)
        try:
            ending = await self._store(work, ending, question)
        finally:
            del self._work[live.address.id]
            live.end(ending)
        if work.named_by is not None and ending.state == "done":
            work.named_by(live.content)
        await self.tails.ended(live.address.id)
        if work.is_waited_for:
            await self._let_next(live)

    async def _let_next(self, live: LiveAnswer) -> None:
        try:
            await self.begin_next(live.user_id, live.address.conversation_id)
        except ChatkeepError as error:
            # It goes on waiting, and the sweeper finds it.
            _log.warning("what waits behind run %s does not begin: %s", live.address.id, error.code)

    async def _ask(self, work: Work, asked: Asked) -> Ending:
        """Let the model answer until it has ended, or is let go."""
        if work.stopped:
            return work.cut_short()
        work.asking = True
        try:
            return await self._pump(work.live, asked, work.charge)
        except asyncio.CancelledError:
            return work.cut_short()
        finally:
            work.asking = False

    async def _pump_unkept(self, live: LiveAnswer, asked: Asked, charge: Charge) -> Ending:
        """Take everything that happens, and book what it used however it ends."""
        state = "interrupted"
        try:
            ending = await self._pump(live, asked, charge)
            state = ending.state
        finally:
            settling = asyncio.create_task(self._settle(charge, live, state))
            self._settling.add(settling)
            settling.add_done_callback(self._settling.discard)
        await asyncio.shield(settling)  # whoever has read the end sees what it cost
        return ending

    async def _settle(self, charge: Charge, live: LiveAnswer, state: str) -> None:
        try:
            await self.budgets.settle(charge, live, state)
        except ChatkeepError as error:
            # The sweeper books what was charged beforehand.
            _log.warning("what an answer used is not booked: %s", error.code)

    async def _pump(self, live: LiveAnswer, asked: Asked, charge: Charge) -> Ending:
        """Take everything that happens; say how it ended."""
        charge.asked = True
        try:
            async with aclosing(self._responder.respond(asked)) as events:
                async for event in events:
                    live.add(event)
                    if isinstance(event, NextStep):
                        await self.budgets.charge_step(charge, live)
            if live.done is None:
                raise ModelBroken  # noqa: TRY301 -- one place words every failure
        except ChatkeepError as error:
            _log.warning("run %s failed: %s", live.address.id, error.code)
            return ended(live, "failed", error_code=error.code)
        except Exception:  # noqa: BLE001 -- a bug must end the run too, said and logged
            _log.exception("run %s failed", live.address.id)
            return ended(live, "failed", error_code="internal")
        return ended(live, "done", finish_reason=live.done.finish_reason)

    async def _store(self, work: Work, ending: Ending, question: str) -> Ending:
        """Keep the end; while the database is away, try again for a while."""
        live = work.live
        settling = self.budgets.settling(work.charge, live, ending.state)
        for pause in (*_STORE_PAUSES_S, None):
            try:
                work.is_waited_for = await runs.finish(
                    self._db,
                    live.user_id,
                    live.address,
                    ending,
                    content=live.content,
                    parts=live.stored_parts(),
                    title=title_from(question, live.content),
                    also=[*settling, *self._telling(live)],
                )
            except Unavailable as error:
                if pause is None:
                    break
                _log.warning("the end of run %s is not kept yet: %s", live.address.id, error.code)
                await asyncio.sleep(pause)
            except ChatkeepError as error:
                _log.error("the end of run %s cannot be kept: %s", live.address.id, error.code)
                return ended(live, "failed", error_code=error.code)
            else:
                return ending
        _log.error("the end of run %s was lost: the database stayed away", live.address.id)
        return ended(live, "failed", error_code="database_unavailable")


def _refused(violated: ConstraintViolated) -> ChatkeepError:
    refused = refusal(violated)
    if refused is None:
        raise violated
    return refused


def _name(titling: Titling, who: Principal, live: LiveAnswer, question: str, answer: str) -> None:
    titling.begin(who, live.address.conversation_id, question=question, answer=answer)


def _now() -> float:
    return asyncio.get_running_loop().time()
