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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from chatkeep import runs, turns
from chatkeep.errors import ChatkeepError, ModelBroken, RunInProgress, Unavailable
from chatkeep.live import Ended, Growth, LiveAnswer, Reader, StillWorking, unstored
from chatkeep.llm.model import Prompt, PromptMessage
from chatkeep.runs import Address, Ending
from chatkeep.titles import title_from
from chatkeep.turns import AlreadyStarted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from chatkeep.db import Database
    from chatkeep.live import AnswerEvent
    from chatkeep.llm.model import Model
    from chatkeep.policies import Choices
    from chatkeep.runs import Run
    from chatkeep.turns import Said, Turn

_log = logging.getLogger(__name__)

_CHECKPOINT_S = 0.25
_LEASE_RENEWAL_S = 4.0
_REMOTE_POLL_S = 0.25
_REMOTE_HEARTBEAT_POLLS = 40
_STOP_WITHIN_S = 5.0
_STOPS_AT_MOST = 3
_STORE_PAUSES_S = (0.1, 0.3, 1.0, 3.0, 5.0, 10.0)


class Answer(Protocol):
    """An answer that can be followed from its start, wherever it is being made."""

    address: Address
    model: str

    def follow(self) -> AsyncGenerator[AnswerEvent, None]:
        """Replay, then go on live, until `Ended`."""


class RemoteAnswer:
    """An answer made by another process, or ended: seen through the database."""

    def __init__(self, db: Database, user_id: str, run: Run, closing: asyncio.Event) -> None:
        """Follow *run*; let readers go when this process is *closing*."""
        self._db = db
        self._user_id = user_id
        self._run = run
        self._closing = closing
        self.model = run.model
        self.address = Address(
            id=run.id,
            conversation_id=run.conversation_id,
            message_id=run.message_id,
            user_message_id=run.user_message_id or "",
        )

    async def follow(self) -> AsyncGenerator[AnswerEvent, None]:
        """Replay what is stored, then each checkpoint's growth, until the end."""
        run, reader, growth = self._run, Reader(), Growth()
        polls = 0
        while True:
            growth.take(unstored(run.content, run.parts))
            for event in reader.advance(growth.parts, ended=run.ended):
                polls = 0
                yield event
            if run.ended or self._closing.is_set():
                yield Ended(ending=ending_of(run) if run.ended else _INTERRUPTED)
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


_INTERRUPTED = Ending(state="interrupted", error_code="answer_interrupted")


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


@dataclass(slots=True)
class _Work:
    """A run this process works on."""

    live: LiveAnswer
    renewed: float
    task: asyncio.Task[None] | None = None
    asking: bool = False
    stopped: bool = False

    def let_go(self) -> None:
        """Stop asking the model. Only then: cancelled earlier or later, nothing were kept."""
        if self.asking and self.task is not None:
            self.task.cancel()

    def cut_short(self) -> Ending:
        """Return how it ended, having been let go: by the person, or by our shutdown."""
        if self.stopped:
            return _ended(self.live, "stopped")
        return _ended(self.live, "interrupted", error_code="answer_interrupted")


class Replies:
    """Every answer this process is making."""

    def __init__(self, db: Database, model: Model, *, pseudonym: Callable[[str], str]) -> None:
        """Ask *model*; *pseudonym* names a user to its provider without telling who it is."""
        self._db = db
        self._model = model
        self._pseudonym = pseudonym
        self._work: dict[str, _Work] = {}
        self._unkept: set[asyncio.Task[Ending]] = set()
        self._closing = asyncio.Event()

    async def begin(self, user_id: str, turn: Turn, choices: Choices) -> Answer:
        """Store the question and start answering it; a repeated request joins its run.

        Raises:
            RunInProgress: the conversation is being answered already.
            NotFound: no such conversation of this user.
            Unavailable: the server is shutting down.
        """
        self._refuse_when_closing()
        try:
            history = await self._start(user_id, turn)
        except AlreadyStarted as same:
            return await self.join(user_id, same.run_id)
        address = Address(
            id=turn.run_id,
            conversation_id=turn.conversation_id,
            message_id=turn.message_id,
            user_message_id=turn.user_message_id,
        )
        live = LiveAnswer(user_id=user_id, address=address, model=turn.model)
        prompt = self._prompt(history, choices, address.conversation_id, user_id)
        self._work[turn.run_id] = work = _Work(live, _now())
        work.task = asyncio.create_task(self._answer(work, prompt, question=turn.content or ""))
        return live

    async def begin_instead(self, user_id: str, turn: Turn, choices: Choices) -> Answer:
        """Begin as `begin`, first stopping what the conversation is being answered with."""
        for _ in range(_STOPS_AT_MOST):
            try:
                return await self.begin(user_id, turn, choices)
            except RunInProgress:
                await self.stop(user_id, turn.conversation_id)
        return await self.begin(user_id, turn, choices)

    async def join(self, user_id: str, run_id: str) -> Answer:
        """Return an answer of *user_id* that was begun before, running or ended."""
        work = self._work.get(run_id)
        if work is not None and work.live.user_id == user_id:
            return work.live
        run = await runs.get_run(self._db, user_id, run_id)
        return RemoteAnswer(self._db, user_id, run, self._closing)

    async def find_running(self, user_id: str, conversation_id: str) -> Answer | None:
        """Return the answer being made in a conversation now, on whichever node."""
        run_id = await runs.find_active(self._db, user_id, conversation_id)
        return None if run_id is None else await self.join(user_id, run_id)

    async def stop(self, user_id: str, conversation_id: str) -> str | None:
        """Stop the answer being made, keep what was said, and return its run's id.

        Waits until it has ended, wherever it is made.
        """
        run_id = await runs.find_active(self._db, user_id, conversation_id)
        if run_id is None:
            return None
        if not self.stop_here(run_id):
            await runs.request_stop(self._db, user_id, run_id)
        answer = await self.join(user_id, run_id)
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                async for _ in answer.follow():
                    pass
        except TimeoutError:
            raise Unavailable("The running answer could not be stopped yet.") from None
        return run_id

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

    def answer_unkept(
        self, said: Sequence[Said], choices: Choices
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Answer somebody who is not signed in: nothing is kept, hanging up stops it.

        Raises:
            Unavailable: the server is shutting down.
        """
        self._refuse_when_closing()
        address = Address(id="", conversation_id="", message_id="", user_message_id="")
        live = LiveAnswer(user_id="", address=address, model=choices.settings.model)
        return self._follow_unkept(live, self._prompt(said, choices, None, None))

    async def keep_checkpoints(self) -> None:
        """Store what is new of every answer, and renew the leases, until cancelled."""
        while True:
            await asyncio.sleep(_CHECKPOINT_S)
            for work in list(self._work.values()):
                if work.asking and self._is_due(work):
                    await self._checkpoint(work)

    async def sweep(self) -> int:
        """Mark what died with another process; return how many runs that were."""
        return await runs.sweep(self._db)

    async def close(self, *, drain_s: float) -> None:
        """Take no new turns, let the running ones end, interrupt the rest and keep them."""
        self._closing.set()
        await asyncio.sleep(0)  # whoever was just begun takes its first step, and can be let go
        tasks = [*self._unkept, *(work.task for work in self._work.values() if work.task)]
        if not tasks:
            return
        await asyncio.wait(tasks, timeout=drain_s)
        for work in self._work.values():
            work.let_go()
        for task in self._unkept:
            task.cancel()
        await asyncio.wait(tasks, timeout=_STOP_WITHIN_S)

    def _refuse_when_closing(self) -> None:
        if self._closing.is_set():
            raise Unavailable("The server is restarting. Try again shortly.")

    async def _start(self, user_id: str, turn: Turn) -> list[Said]:
        try:
            return await turns.start(self._db, user_id, turn)
        except AlreadyStarted as same:
            if not turn.may_recur:
                raise
            await runs.forget_request(self._db, user_id, same.run_id)
        return await turns.start(self._db, user_id, turn)

    async def _follow_unkept(
        self, live: LiveAnswer, prompt: Prompt
    ) -> AsyncGenerator[AnswerEvent, None]:
        # Begun by the first read: a reader who left before it leaves nothing running.
        task = asyncio.create_task(self._pump(live, prompt))
        self._unkept.add(task)
        task.add_done_callback(self._unkept.discard)
        task.add_done_callback(
            lambda done: live.end(_INTERRUPTED if done.cancelled() else done.result())
        )
        try:
            async with aclosing(live.follow()) as events:
                async for event in events:
                    yield event
        finally:
            task.cancel()

    def _is_due(self, work: _Work) -> bool:
        return work.live.changed or _now() - work.renewed > _LEASE_RENEWAL_S

    async def _checkpoint(self, work: _Work) -> None:
        live = work.live
        live.changed, work.renewed = False, _now()
        try:
            stop = await runs.checkpoint(
                self._db,
                live.user_id,
                live.address,
                content=live.content,
                parts=live.stored_parts(),
            )
        except ChatkeepError as error:
            # The answer goes on; what is missing is in the next checkpoint or the end.
            live.changed = True
            _log.warning("a checkpoint of run %s failed: %s", live.address.id, error.code)
            return
        if stop:
            self.stop_here(live.address.id)

    async def _answer(self, work: _Work, prompt: Prompt, *, question: str) -> None:
        """Work on one run from the first piece to its stored end."""
        live = work.live
        ending = await self._ask(work, prompt)
        try:
            ending = await self._store(live, ending, question)
        finally:
            del self._work[live.address.id]
            live.end(ending)

    async def _ask(self, work: _Work, prompt: Prompt) -> Ending:
        """Let the model answer until it has ended, or is let go."""
        if work.stopped:
            return work.cut_short()
        work.asking = True
        try:
            return await self._pump(work.live, prompt)
        except asyncio.CancelledError:
            return work.cut_short()
        finally:
            work.asking = False

    async def _pump(self, live: LiveAnswer, prompt: Prompt) -> Ending:
        """Take everything the model says; say how it ended."""
        try:
            async for event in self._model.stream(prompt):
                live.add(event)
            if live.done is None:
                raise ModelBroken  # noqa: TRY301 -- one place words every failure
        except ChatkeepError as error:
            _log.warning("run %s failed: %s", live.address.id, error.code)
            return _ended(live, "failed", error_code=error.code)
        except Exception:  # noqa: BLE001 -- a bug must end the run too, said and logged
            _log.exception("run %s failed", live.address.id)
            return _ended(live, "failed", error_code="internal")
        return _ended(live, "done", finish_reason=live.done.finish_reason)

    async def _store(self, live: LiveAnswer, ending: Ending, question: str) -> Ending:
        """Keep the end; while the database is away, try again for a while."""
        for pause in (*_STORE_PAUSES_S, None):
            try:
                await runs.finish(
                    self._db,
                    live.user_id,
                    live.address,
                    ending,
                    content=live.content,
                    parts=live.stored_parts(),
                    title=title_from(question, live.content),
                )
            except Unavailable as error:
                if pause is None:
                    break
                _log.warning("the end of run %s is not kept yet: %s", live.address.id, error.code)
                await asyncio.sleep(pause)
            except ChatkeepError as error:
                _log.error("the end of run %s cannot be kept: %s", live.address.id, error.code)
                return _ended(live, "failed", error_code=error.code)
            else:
                return ending
        _log.error("the end of run %s was lost: the database stayed away", live.address.id)
        return _ended(live, "failed", error_code="database_unavailable")

    def _prompt(
        self,
        said: Sequence[Said],
        choices: Choices,
        conversation_id: str | None,
        user_id: str | None,
    ) -> Prompt:
        system = (
            [PromptMessage(role="system", text=choices.system_prompt)]
            if choices.system_prompt
            else []
        )
        return Prompt(
            messages=[*system, *(PromptMessage(role=one.role, text=one.content) for one in said)],
            settings=choices.settings,
            user_key=None if user_id is None else self._pseudonym(user_id),
            conversation_id=conversation_id,
        )


def _ended(
    live: LiveAnswer,
    state: Literal["done", "stopped", "failed", "interrupted"],
    *,
    finish_reason: str | None = None,
    error_code: str | None = None,
) -> Ending:
    counted = live.usage.prompt_tokens or live.usage.completion_tokens
    return Ending(
        state=state,
        finish_reason=finish_reason,
        error_code=error_code,
        model=live.model,
        prompt_tokens=live.usage.prompt_tokens if counted else None,
        completion_tokens=live.usage.completion_tokens if counted else None,
        cost=live.usage.cost,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
