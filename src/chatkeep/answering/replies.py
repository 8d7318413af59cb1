"""Answers: from a stored question to a stored answer, whatever happens to the reader.

A run is worked on by a task of this process, never of a request: closing the tab changes
nothing. Pieces go to a `LiveAnswer` that readers follow, and through the `Keeper` to the
database every `_CHECKPOINT_S`; the end is stored before any reader hears of it. No database
connection is held while a model speaks.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from chatkeep import runs
from chatkeep.answering import refusals, turns, waiting
from chatkeep.answering.admission import Admission
from chatkeep.answering.answers import RemoteAnswer
from chatkeep.answering.charges import Budgets
from chatkeep.answering.keeper import Keeper
from chatkeep.answering.live import LiveAnswer
from chatkeep.answering.prompts import prompt_of
from chatkeep.answering.refusals import AlreadyStarted
from chatkeep.answering.responders import Asked
from chatkeep.answering.tails import Tails
from chatkeep.answering.turns import Started, Turn
from chatkeep.answering.unkept import UnkeptAnswers
from chatkeep.answering.working import (
    Work,
    answer,
    begun_parts,
    cut_off,
    ended,
    is_first,
    now,
    refuse_when,
    within,
)
from chatkeep.budgets.amounts import BUDGETS
from chatkeep.db import ConstraintViolated
from chatkeep.errors import (
    BudgetExhausted,
    ChatkeepError,
    ModelUnavailable,
    RateLimited,
    RunInProgress,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chatkeep.answering.answers import Answer
    from chatkeep.answering.parts import Part
    from chatkeep.answering.responders import Responder
    from chatkeep.answering.titling import Titling
    from chatkeep.db import Database
    from chatkeep.policies import Choices
    from chatkeep.principal import Principal
    from chatkeep.runs import Ending

_log = logging.getLogger(__name__)

_CHECKPOINT_S = 0.25
_STOP_WITHIN_S = 5.0
_STOPS_AT_MOST = 3


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
        self._closing = asyncio.Event()
        self._keeper = Keeper(db, self.tails, self.budgets, stop=self.stop_here)
        self.unkept = UnkeptAnswers(responder, self.budgets, self._admission, closing=self._closing)

    async def begin(self, who: Principal, turn: Turn, choices: Choices) -> Answer:
        """Store the question of *who* and start answering it; a repeated request joins its run.

        Raises:
            RunInProgress: the conversation is being answered already.
            NotFound: no such conversation of this user.
            BudgetExhausted: too little is left for this question.
            RateLimited: its model was asked too often.
            Unavailable: the server is shutting down, or nobody who could answer is up.
        """
        refuse_when(self._closing)
        user_id = who.user_id
        try:
            async with self._admission.of(user_id, choices.settings.model):
                started = await self._start(who, turn, choices)
        except AlreadyStarted as same:
            return await self.join(user_id, same.run_id)
        except (RateLimited, ModelUnavailable):
            if (repeated := await self.find_repeated(user_id, turn)) is None:
                raise
            return repeated
        return self._launch(who, turn, choices, started)

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
                started = await turns.claim(self._db, user_id, turn, also)
            except ConstraintViolated as violated:
                if violated.name not in BUDGETS:
                    raise
                await waiting.give_up(self._db, user_id, waited.id, BudgetExhausted.code)
                continue
            if started is not None:
                self._launch(who, turn, choices, started)
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

    async def find_repeated(self, user_id: str, turn: Turn) -> Answer | None:
        """Find the answer that the same request has begun, which no limit keeps it from.

        None where that was another question's, or *turn* may recur.
        """
        if turn.may_recur:
            return None
        same = await refusals.find_repeated(self._db, user_id, turn)
        return await self.join(user_id, same.run_id) if isinstance(same, AlreadyStarted) else None

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
                await answer.whole()
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

    async def keep_checkpoints(self) -> None:
        """Store what is new of every answer, and renew the leases, until cancelled."""
        await self._keeper.keep_on(lambda: list(self._work.values()), every_s=_CHECKPOINT_S)

    async def keep_tails(self) -> None:
        """Exchange news of answers with other nodes, until cancelled."""
        await asyncio.gather(self.tails.keep_sending(self._parts_of), self.tails.keep_reading())

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
        await asyncio.gather(self.unkept.close(drain_s=drain_s), self._close(drain_s=drain_s))

    async def _close(self, *, drain_s: float) -> None:
        await asyncio.sleep(0)  # whoever was just begun takes its first step, and can be let go
        tasks = [work.task for work in self._work.values() if work.task]
        if not tasks:
            return
        await asyncio.wait(tasks, timeout=drain_s)
        for work in self._work.values():
            work.let_go()
        await asyncio.wait(tasks, timeout=_STOP_WITHIN_S)

    def _find_here(self, user_id: str, run_id: str) -> LiveAnswer | None:
        work = self._work.get(run_id)
        return work.live if work is not None and work.live.user_id == user_id else None

    def _launch(self, who: Principal, turn: Turn, choices: Choices, started: Started) -> LiveAnswer:
        """Begin to answer what is stored, and charged by the first of what was done also."""
        history, charged = started.history, started.rows[0][0]
        begun = begun_parts(turn, history)
        continues = bool(begun) and turn.continues is not None
        live = LiveAnswer(
            user_id=who.user_id,
            address=turn.address,
            model=turn.model,
            parts=begun,
            was_cut_off=continues,
        )
        live.charged = charged
        charge = self.budgets.admitted(who, charged, choices, begun)
        if continues:
            history = [*history[:-1], cut_off(live, history[-1])]
        prompt = prompt_of(
            history,
            within(choices, charge),
            user_key=self.pseudonym(who.user_id),
            conversation_id=turn.conversation_id,
        )
        asked = Asked(
            prompt=prompt,
            who=who,
            run=live.address,
            begun=begun if turn.has else (),
            continues=continues,
            paused=started.paused,
        )
        self._work[turn.run_id] = work = Work(live, now(), charge)
        if self._titling is not None and is_first(turn, history):
            work.named_by = partial(_name, self._titling, who, live, history[-1].content)
        # A question that names a title has given it to the conversation already.
        question = None if turn.content and turn.title else turn.content or ""
        work.task = asyncio.create_task(self._answer(work, asked, question=question))
        self.tails.told(turn.run_id)  # whoever waited with it here reads it here
        return live

    async def _start(self, who: Principal, turn: Turn, choices: Choices) -> Started:
        also = self.budgets.charging(who, turn, choices)
        try:
            return await turns.start(self._db, who.user_id, turn, also)
        except BudgetExhausted as exhausted:
            await self.budgets.refuse(who.user_id, exhausted)
            raise
        except AlreadyStarted as same:
            if not turn.may_recur:
                raise
            await runs.forget_request(self._db, who.user_id, same.run_id)
            return await turns.start(self._db, who.user_id, turn, also)

    async def _answer(self, work: Work, asked: Asked, *, question: str | None) -> None:
        """Work on one run from the first piece to its stored end."""
        live = work.live
        ending: Ending | None = None
        try:
            ending = await self._ask(work, asked)
            ending = await self._keeper.keep_end(work, ending, question)
        finally:
            del self._work[live.address.id]
            live.end(ending or ended(live, "failed", error_code="internal"))
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
            return await answer(self._responder, self.budgets, work.live, asked, work.charge)
        except asyncio.CancelledError:
            return work.cut_short()
        finally:
            work.asking = False


def _name(titling: Titling, who: Principal, live: LiveAnswer, question: str, answer: str) -> None:
    titling.begin(who, live.address.conversation_id, question=question, answer=answer)
