"""An agent of the OpenAI Agents SDK as a responder, run by the SDK's own `Runner`.

The history is ours: the agent is given the conversation as it is stored, and needs no
session. Its tools, handoffs and guardrails are its own. The SDK sends what it does to OpenAI
as traces unless it is told not to; here it is told not to.
"""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import agents
import openai
from agents.items import MessageOutputItem, ToolCallItem, ToolCallOutputItem

from chatkeep.adapters.agent_pauses import asked_for, lost, refused, restored
from chatkeep.answering.parts import with_results
from chatkeep.answering.prompts import answer_messages
from chatkeep.errors import (
    AnswerRefused,
    MessageRefused,
    ModelBroken,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)
from chatkeep.events import (
    Done,
    NextStep,
    ReasoningDelta,
    Source,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
    is_web_address,
)
from chatkeep.llm.said import storable
from chatkeep.tools import OUTPUT_AT_MOST

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from agents import Agent, RunConfig
    from agents.stream_events import RawResponsesStreamEvent, RunItemStreamEvent
    from openai.types.responses import ResponseUsage

    from chatkeep.answering.parts import Part
    from chatkeep.answering.responders import Asked
    from chatkeep.errors import ChatkeepError
    from chatkeep.events import FinishReason, ReplyEvent
    from chatkeep.llm.model import PromptMessage

_log = logging.getLogger(__name__)


class AgentResponder:
    """Lets *agent* answer every turn.

    What its tools get as `wrapper.context` is made by *context* from the turn; by default it
    is the turn itself. *run_config* is the SDK's; without it nothing is traced.
    """

    def __init__(
        self,
        agent: Agent[Any],
        *,
        context: Callable[[Asked], object] | None = None,
        run_config: RunConfig | None = None,
        max_turns: int = 10,
    ) -> None:
        """Change nothing of *agent*."""
        self._agent = agent
        self._context = context
        self._run_config = run_config or agents.RunConfig(tracing_disabled=True)
        self._max_turns = max_turns

    async def respond(self, asked: Asked) -> AsyncGenerator[ReplyEvent, None]:
        """Answer; see `Responder`. When it is closed, the run is cancelled.

        Where nothing is kept nobody could be asked: what needs a yes is denied.
        """
        context = asked if self._context is None else self._context(asked)
        given = [item for one in asked.prompt.messages for item in _items(one)]
        state = None
        if asked.paused is not None:
            state = await restored(self._agent, asked.paused, given, asked.begun, context)
        heard = _Heard(asked.begun if state is not None else ())
        begun: Sequence[Part] = ()
        if asked.begun and state is None:
            for result in (results := list(lost(asked.begun))):
                yield result
            yield NextStep()
            begun = with_results(results, asked.begun)
        items = [*given, *(item for one in answer_messages(begun) for item in _items(one))]
        try:
            while True:
                run = self._begun(items, context) if state is None else self._resumed(state)
                async with aclosing(_told(run, heard)) as events:
                    async for event in events:
                        yield event
                if not run.interruptions or asked.run.id:
                    break
                state = refused(run)
            for result in heard.unsaid():
                yield result
            for event in asked_for(run, items, heard.open) if run.interruptions else ():
                yield event
        except (agents.AgentsException, openai.OpenAIError) as error:
            raise _ours(error) from error
        reason: FinishReason = "tool-calls" if run.interruptions else "stop"
        yield Done(finish_reason=reason, model=heard.model)

    def _begun(self, items: list[Any], context: object) -> agents.RunResultStreaming:
        return agents.Runner.run_streamed(
            self._agent,
            items,
            context=context,
            run_config=self._run_config,
            max_turns=self._max_turns,
        )

    def _resumed(self, state: agents.RunState[Any, Any]) -> agents.RunResultStreaming:
        return agents.Runner.run_streamed(self._agent, state, run_config=self._run_config)


async def _told(run: agents.RunResultStreaming, heard: _Heard) -> AsyncGenerator[ReplyEvent, None]:
    """Yield what happens in *run* in our words; when it is closed, the run is cancelled."""
    try:
        async with aclosing(run.stream_events()) as events:  # type: ignore[type-var]  # a generator, and typed as an iterator
            async for event in events:
                for one in heard.translated(event):
                    yield one
    finally:
        run.cancel()


class _Heard:
    """What one run has told so far; it goes on with an answer that has the parts *begun*.

    *open* are the calls that have no answer.
    """

    def __init__(self, begun: Sequence[Part]) -> None:
        self.model: str | None = None
        self.open: set[str] = set()
        self._decided = {
            part.call.call_id: bool(part.approved)
            for part in begun
            if part.call is not None and part.waits
        }
        self._tools_answered = False

    def unsaid(self) -> Iterator[ToolResult]:
        """Yield an answer for what the person decided and the SDK says no more of."""
        for call_id, approved in self._decided.items():
            yield ToolResult(call_id=call_id, denied=not approved)

    def translated(self, event: agents.StreamEvent) -> Iterator[ReplyEvent]:
        """Yield what *event* is in our words."""
        match event.type:
            case "raw_response_event":
                yield from self._raw(event)
            case "run_item_stream_event":
                yield from self._item(event)

    def _raw(self, event: RawResponsesStreamEvent) -> Iterator[ReplyEvent]:
        data = event.data
        match data.type:
            case "response.created" if self._tools_answered:
                self._tools_answered = False
                yield NextStep()
            case "response.output_text.delta" | "response.refusal.delta":
                yield TextDelta(text=data.delta)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                yield ReasoningDelta(text=data.delta)
            case "response.completed" | "response.incomplete":
                self.model = _known(data.response.model)
                if (used := data.response.usage) is not None:
                    yield _usage(used)

    def _item(self, event: RunItemStreamEvent) -> Iterator[ReplyEvent]:
        match event.item:
            case ToolCallItem(raw_item=called):
                call_id, name = _get(called, "call_id"), _get(called, "name")
                if call_id and name:  # a tool of the provider's own has neither
                    arguments = _get(called, "arguments") or "{}"
                    self.open.add(call_id)
                    yield ToolCall(call_id=call_id, name=name, arguments=arguments)
            case ToolCallOutputItem(raw_item=said, output=output):
                self._tools_answered = True
                yield self._answered(_get(said, "call_id"), output)
            case MessageOutputItem() as message:
                yield from _sources(message)

    def _answered(self, call_id: str, output: object) -> ToolResult:
        self.open.discard(call_id)
        if not self._decided.pop(call_id, True):
            return ToolResult(call_id=call_id, denied=True)
        text = output if isinstance(output, str) else str(output)
        return ToolResult(call_id=call_id, output=storable(text[:OUTPUT_AT_MOST]))


def _sources(message: MessageOutputItem) -> Iterator[Source]:
    for part in message.raw_item.content:
        for one in getattr(part, "annotations", None) or ():
            if one.type == "url_citation" and is_web_address(one.url):
                url = storable(one.url)
                yield Source(source_id=url, url=url, title=storable(one.title))


def _usage(used: ResponseUsage) -> Usage:
    before, said = used.input_tokens_details, used.output_tokens_details
    return Usage(
        prompt_tokens=used.input_tokens,
        completion_tokens=used.output_tokens,
        cached_tokens=before.cached_tokens or 0 if before else 0,
        reasoning_tokens=said.reasoning_tokens or 0 if said else 0,
    )


def _known(model: str) -> str | None:
    """Return which model it was; the SDK says nothing of those that are not OpenAI's."""
    return model or None


def _get(item: object, name: str) -> Any:  # noqa: ANN401 -- the SDK has these as models and as dictionaries
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)


def _items(message: PromptMessage) -> Iterator[Any]:
    """Return *message* as the SDK is given it."""
    if message.role == "tool":
        yield {
            "type": "function_call_output",
            "call_id": message.call_id,
            "output": message.text,
        }
        return
    if message.role == "user" and message.images:
        content: list[dict[str, Any]] = [{"type": "input_text", "text": message.text}]
        content += [
            {"type": "input_image", "image_url": url, "detail": "auto"} for url in message.images
        ]
        yield {"role": "user", "content": content}
    elif message.text:
        yield {"role": message.role, "content": message.text}
    for call in message.calls:
        yield {
            "type": "function_call",
            "call_id": call.call_id,
            "name": call.name,
            "arguments": call.arguments,
        }


def _ours(error: agents.AgentsException | openai.OpenAIError) -> ChatkeepError:  # noqa: PLR0911 -- a table, read line by line
    """Return our word for what went wrong; theirs stands in the log, without what was said."""
    _log.warning("the agent failed: %s", type(error).__name__)
    match error:
        case agents.InputGuardrailTripwireTriggered():
            return MessageRefused()
        case agents.OutputGuardrailTripwireTriggered():
            return AnswerRefused()
        case openai.RateLimitError():
            return ModelRateLimited()
        case openai.APITimeoutError():
            return ModelTimeout()
        case openai.AuthenticationError() | openai.PermissionDeniedError() | openai.NotFoundError():
            return ModelMisconfigured()
        case openai.BadRequestError() | openai.UnprocessableEntityError():
            return ModelRefused()
        case openai.APIConnectionError() | openai.InternalServerError():
            return ModelUnavailable()
        case _:
            return ModelBroken()
