"""Who answers: by default a model and its tools; an application may answer itself.

A responder is given a turn and yields what happens until the answer is whole. It runs in a
task of the process, never of the request; what it yields is kept and told to readers. When
it is closed it stops at once.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from chatkeep.answering.parts import with_results
from chatkeep.answering.prompts import answer_messages, result_text
from chatkeep.events import ApprovalAsked, Done, NextStep, TextDelta, ToolCall, ToolResult
from chatkeep.ids import new_id
from chatkeep.llm.model import PromptMessage
from chatkeep.tools import ToolContext

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from chatkeep.answering.parts import Part
    from chatkeep.events import ModelEvent, ReplyEvent
    from chatkeep.llm.model import Model, Prompt
    from chatkeep.principal import Principal
    from chatkeep.runs import Address
    from chatkeep.tools import Tools

#: A model that asks for tools again and again is stopped after so many questions.
STEPS_AT_MOST: Final = 10
# Many providers refuse a conversation that ends with what their model has said, or begin anew.
_GO_ON: Final = (
    "Your last message was cut off. Go on exactly where it stops, in the middle of a word if it"
    " stops there. Repeat nothing of it, and say nothing about this."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One answer to give.

    *prompt* has the conversation, *who* asks it (None: somebody who is not signed in), *run*
    where the answer is kept. *begun* are the parts that an answer which goes on has already,
    and *paused* is what its responder left for then, if it did (`events.Paused`).
    *continues*: the answer was cut off, *prompt* ends with what is kept of it, and what comes
    now is joined to that.
    """

    prompt: Prompt
    who: Principal | None
    run: Address
    begun: Sequence[Part] = ()
    continues: bool = False
    paused: str | None = None

    @property
    def question(self) -> str:
        """What the person said last; empty where nobody has said anything."""
        said = (one.text for one in reversed(self.prompt.messages) if one.role == "user")
        return next(said, "")


class Responder(Protocol):
    """Something that answers a turn."""

    def respond(self, asked: Asked) -> AsyncGenerator[ReplyEvent, None]:
        """Yield what happens, and at its end exactly one `Done`.

        Raises the errors of `errors`, of which the `Model...` ones are for this; any other
        exception ends the answer as a failure of ours.
        """


class Responding(Protocol):
    """A function that is one."""

    def __call__(self, asked: Asked, /) -> AsyncGenerator[ReplyEvent, None]:
        """Do what `Responder.respond` does."""


def name_of(responder: object) -> str:
    """Return what its operator calls whoever answers, behind the checks that stand around it."""
    while (inner := getattr(responder, "inner", None)) is not None:
        responder = inner
    known = responder if hasattr(responder, "__qualname__") else type(responder)
    return f"{known.__module__}:{known.__qualname__}"


async def _anybody(_: Principal) -> None:
    """Let whoever asked go on."""


class ModelResponder:
    """A model, asked again with what its tools said until it asks for no more."""

    def __init__(
        self,
        model: Model,
        tools: Tools,
        *,
        still_stands: Callable[[Principal], Awaitable[None]] = _anybody,
    ) -> None:
        """Ask *model*, and offer it *tools*.

        *still_stands* is awaited before a tool is run for somebody and before the model hears
        what came of it, and raises where neither is to happen any more.
        """
        self._model = model
        self._tools = tools
        self._still_stands = still_stands

    def respond(self, asked: Asked) -> AsyncGenerator[ReplyEvent, None]:
        """Answer; see `Responder`.

        Tools that the request brought are its client's, and then ours are not offered. Who is
        not signed in has none. Where nothing is kept nobody could be asked: there are no tools
        that wait.
        """
        has_own = asked.who is None or bool(asked.prompt.tools)
        offered = () if has_own else self._tools.offered(waiting=bool(asked.run.id))
        prompt = replace(asked.prompt, tools=offered) if offered else asked.prompt
        runs_tools = not (has_own or self._tools.is_empty)
        if asked.begun:
            return self._resumed(prompt, asked, runs_tools=runs_tools)
        if asked.continues and prompt.messages[-1].role == "assistant":
            prompt = _after(prompt, [PromptMessage(role="user", text=_GO_ON)])
        # Each generator that the events pass through takes time from each of them.
        return self._steps(prompt, asked, runs_tools=runs_tools)

    async def _resumed(
        self, prompt: Prompt, asked: Asked, *, runs_tools: bool
    ) -> AsyncGenerator[ReplyEvent, None]:
        results = await self._resolve(asked)
        for result in results:
            yield result
        yield NextStep()
        prompt = _after(prompt, answer_messages(with_results(results, asked.begun)))
        async with aclosing(self._steps(prompt, asked, runs_tools=runs_tools)) as events:
            async for event in events:
                yield event

    async def _steps(
        self, prompt: Prompt, asked: Asked, *, runs_tools: bool
    ) -> AsyncGenerator[ReplyEvent, None]:
        for step in range(STEPS_AT_MOST):
            heard = _Heard(prompt)
            async with aclosing(self._model.stream(prompt)) as events:
                async for event in events:
                    if (shown := heard.take(event)) is not None:
                        yield shown
            if heard.done is None:
                return  # it broke off, which is a failure of the answer
            if not heard.calls or not runs_tools:
                yield heard.done
                return
            results = await self._run(heard.calls, asked)
            happened: list[ReplyEvent] = [*self._held(heard.calls), *results]
            for one in happened:
                yield one
            if len(results) < len(heard.calls) or step == STEPS_AT_MOST - 1:
                yield replace(heard.done, finish_reason="tool-calls")
                return
            prompt = _after(prompt, heard.messages(results))
            yield NextStep()

    def _waits(self, call: ToolCall) -> bool:
        """Whether somebody else must do something first: say yes, or run it."""
        known = self._tools.find(call.name)
        return known is not None and known.waits

    def _held(self, calls: Sequence[ToolCall]) -> list[ApprovalAsked]:
        """Ask for the person's yes where one is needed."""
        return [
            ApprovalAsked(call_id=call.call_id, approval_id=new_id())
            for call in calls
            if (known := self._tools.find(call.name)) is not None and known.needs_approval
        ]

    async def _resolve(self, asked: Asked) -> list[ToolResult]:
        """Run what the person has allowed since, and say what they have not."""
        waiting = [part for part in asked.begun if part.waits]
        allowed = [part.call for part in waiting if part.call is not None and part.approved]
        denied = [part.call for part in waiting if part.call is not None and not part.approved]
        refused = [ToolResult(call_id=call.call_id, denied=True) for call in denied]
        return [*await self._run(allowed, asked, approved=True), *refused]

    async def _run(
        self, calls: Sequence[ToolCall], asked: Asked, *, approved: bool = False
    ) -> list[ToolResult]:
        """Run side by side those of *calls* that wait for nobody."""
        who = asked.who
        wanted = [call for call in calls if approved or not self._waits(call)]
        if who is None or not wanted:
            return []
        await self._still_stands(who)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._tools.run(call, _context(call, who, asked.run)))
                for call in wanted
            ]
        await self._still_stands(who)
        return [task.result() for task in tasks]


class _Heard:
    """What one question to the model has brought."""

    def __init__(self, prompt: Prompt) -> None:
        self.calls: list[ToolCall] = []
        self.done: Done | None = None
        self._said: list[str] = []
        self._known = {call.call_id for one in prompt.messages for call in one.calls}

    def take(self, event: ModelEvent) -> ModelEvent | None:
        """Take note of *event*; return what readers hear of it now, if anything."""
        match event:
            case Done():
                self.done = event
                return None
            case ToolCall():
                self.calls.append(_told_apart(event, self._known))
                return self.calls[-1]
            case TextDelta(text=text):
                self._said.append(text)
        return event

    def messages(self, results: Sequence[ToolResult]) -> list[PromptMessage]:
        """Return what was said, and what the tools answered, for the next question."""
        asked = PromptMessage(role="assistant", text="".join(self._said), calls=tuple(self.calls))
        answers = [
            PromptMessage(role="tool", text=result_text(one), call_id=one.call_id)
            for one in results
        ]
        return [asked, *answers]


def _told_apart(call: ToolCall, known: set[str]) -> ToolCall:
    """Return *call* under an id that is none of those *known*, and note it there.

    Some providers give every call of an answer the same id, begin to count anew with each
    question, or give none: then nobody knew which of them an answer or a yes belongs to.
    """
    if call.call_id in known:
        call = replace(call, call_id=f"call_{new_id().replace('-', '')}")
    known.add(call.call_id)
    return call


def _after(prompt: Prompt, more: Sequence[PromptMessage]) -> Prompt:
    return replace(prompt, messages=[*prompt.messages, *more])


def _context(call: ToolCall, who: Principal, run: Address) -> ToolContext:
    return ToolContext(
        who=who, conversation_id=run.conversation_id, run_id=run.id, call_id=call.call_id
    )
