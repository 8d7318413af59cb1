"""Where a run of the Agents SDK stands while a person is asked, and going on from there.

The SDK writes it down itself (`RunState`), without the context, which is made anew from who
goes on, and without the conversation, which is kept already. What cannot be read back is no
failure: the tools that waited were not run, and the agent is told so.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

import agents

from chatkeep.errors import ModelBroken
from chatkeep.events import ApprovalAsked, Paused, ToolCall, ToolResult
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from agents import Agent, RunResultStreaming, RunState

    from chatkeep.answering.parts import Part
    from chatkeep.events import ReplyEvent

_log = logging.getLogger(__name__)

#: What agents have said and heard since the question; more would weigh on every server.
_AT_MOST: Final = 4 << 20
_ASKS: Final = "It asks the person first."
_LOST: Final = "It was not run: what was to be done is not known any more. Ask for it again."


def asked_for(
    run: RunResultStreaming, given: list[Any], calls: Collection[str]
) -> Iterator[ReplyEvent]:
    """Yield what the person is asked, and where *run*, which began with *given*, stands.

    *calls* were told and have no answer yet: those that wait themselves, and agents that are
    tools of this one and wait for what they have asked, which was not told before.

    Raises:
        ModelBroken: that is too much to be kept.
    """
    stands = Paused(state=_written(run, given))
    waiting = {str(one.call_id): one for one in run.interruptions}
    for call_id in set(calls) - waiting.keys():
        yield ToolResult(call_id=call_id, output=_ASKS)
    for call_id, one in waiting.items():
        if call_id not in calls:
            yield ToolCall(call_id=call_id, name=one.name or "", arguments=one.arguments or "{}")
        yield ApprovalAsked(call_id=call_id, approval_id=new_id())
    yield stands


async def restored(
    agent: Agent[Any], paused: str, given: list[Any], begun: Sequence[Part], context: object
) -> RunState[Any, Any] | None:
    """Return where a run stood, with what the person has decided since; None when it is lost."""
    try:
        written = json.loads(paused)
        if written["original_input"] is None:
            written["original_input"] = given
        state: RunState[Any, Any] = await agents.RunState.from_json(
            agent, written, context_deserializer=lambda _: context
        )
    except (agents.AgentsException, LookupError, TypeError, ValueError) as error:
        _log.warning("the agent %s cannot go on: %s", agent.name, type(error).__name__)
        return None
    allowed = {part.call.call_id for part in begun if part.call is not None and part.approved}
    for one in state.get_interruptions():
        if str(one.call_id) in allowed:
            state.approve(one)
        else:
            state.reject(one)
    return state


def refused(run: RunResultStreaming) -> RunState[Any, Any]:
    """Return where *run* stands, with everything denied, because there is nobody to ask."""
    state = run.to_state()
    for one in state.get_interruptions():
        state.reject(one)
    return state


def lost(begun: Sequence[Part]) -> Iterator[ToolResult]:
    """Yield what became of the tools that wait, where nobody knows how to run them."""
    for part in begun:
        if part.call is not None and part.waits:
            denied = part.approved is False
            yield ToolResult(
                call_id=part.call.call_id, error=None if denied else _LOST, denied=denied
            )


def _written(run: RunResultStreaming, given: list[Any]) -> str:
    state = run.to_state().to_json(context_serializer=lambda _: {}, strict_context=True)
    if state["original_input"] == given:
        state["original_input"] = None
    written = json.dumps(state)
    if len(written) > _AT_MOST:
        _log.error("where the agent stands takes %d bytes, which is too much", len(written))
        raise ModelBroken
    return written
