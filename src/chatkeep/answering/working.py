"""One answer while this process works on it: how it begins, is made, and is said to have ended."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from chatkeep import tracing
from chatkeep.answering.parts import unstored
from chatkeep.answering.responders import name_of
from chatkeep.answering.sound import fault_in
from chatkeep.errors import ChatkeepError, ModelBroken, ResponderBroken, Unavailable
from chatkeep.events import NextStep, ToolResult
from chatkeep.runs import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chatkeep.answering.charges import Budgets, Charge
    from chatkeep.answering.history import Said
    from chatkeep.answering.live import LiveAnswer
    from chatkeep.answering.parts import Part
    from chatkeep.answering.responders import Asked, Responder
    from chatkeep.answering.turns import Turn
    from chatkeep.llm.model import Prompt
    from chatkeep.policies import Choices

_log = logging.getLogger(__name__)

#: What is said in place of a tool that was running when its answer was cut off.
CUT_OFF: Final = "The answer was cut off before this tool had said whether it did its work."
_Wish = TypeVar("_Wish", "Choices", "Prompt")


@dataclass(slots=True)
class Work:
    """A run this process works on; *named_by* takes its answer, the first of a conversation."""

    live: LiveAnswer
    renewed: float
    charge: Charge
    task: asyncio.Task[None] | None = None
    asking: bool = False
    stopped: bool = False
    is_waited_for: bool = False
    named_by: Callable[[str], None] | None = None

    def let_go(self) -> None:
        """Stop asking the model. Only then: cancelled earlier or later, nothing were kept."""
        if self.asking and self.task is not None:
            self.task.cancel()

    def cut_short(self) -> Ending:
        """Return how it ended, having been let go: by the person, or by our shutdown."""
        if self.stopped:
            return ended(self.live, "stopped")
        return ended(self.live, "interrupted", error_code="answer_interrupted")


async def answer(
    responder: Responder, budgets: Budgets, live: LiveAnswer, asked: Asked, charge: Charge
) -> Ending:
    """Let *responder* answer, add everything that happens to *live*, and say how it ended."""
    # As OpenTelemetry's conventions for generative AI call them.
    said = {"gen_ai.operation.name": "chat", "gen_ai.request.model": live.model}
    with tracing.span(f"chat {live.model}", said) as span:
        ending = await _answer(responder, budgets, live, asked, charge)
        span.set_attribute("gen_ai.response.model", live.model)
        span.set_attribute("gen_ai.usage.input_tokens", live.usage.prompt_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", live.usage.completion_tokens)
        if ending.error_code is not None:
            tracing.failed(span, ending.error_code)
    return ending


async def _answer(
    responder: Responder, budgets: Budgets, live: LiveAnswer, asked: Asked, charge: Charge
) -> Ending:
    charge.asked = True
    try:
        async with aclosing(responder.respond(asked)) as events:
            async for event in events:
                if (fault := fault_in(event)) is not None:
                    whose = name_of(responder)
                    _log.error("run %s: %s handed over %s", live.address.id, whose, fault)
                    raise ResponderBroken  # noqa: TRY301 -- one place words every failure
                live.add(event)
                if isinstance(event, NextStep):
                    await budgets.charge_step(charge, live)
        if live.done is None:
            raise ModelBroken  # noqa: TRY301 -- one place words every failure
    except ChatkeepError as error:
        _log.warning("run %s failed: %s", live.address.id, error.code)
        return ended(live, "failed", error_code=error.code, retry_after_s=error.retry_after_s)
    except Exception:  # noqa: BLE001 -- a bug must end the run too, said and logged
        _log.exception("run %s failed", live.address.id)
        return ended(live, "failed", error_code="internal")
    return ended(live, "done", finish_reason=live.done.finish_reason)


def refuse_when(closing: asyncio.Event) -> None:
    """Take nothing more to answer once *closing* is set.

    Raises:
        Unavailable: it is.
    """
    if closing.is_set():
        raise Unavailable("The server is restarting. Try again shortly.")


def now() -> float:
    """Return the time of the running loop, in seconds."""
    return asyncio.get_running_loop().time()


def is_first(turn: Turn, history: Sequence[Said]) -> bool:
    """Whether *turn* may be the first question of its conversation, as far as *history* tells."""
    goes_on = turn.continues is not None or bool(turn.has)
    return not goes_on and sum(one.role == "user" for one in history) == 1


def begun_parts(turn: Turn, history: Sequence[Said]) -> list[Part]:
    """Return the parts that the answer of *turn* has already."""
    if turn.continues is None or history[-1].role != "assistant":
        return unstored("", turn.has)
    return unstored(history[-1].content, history[-1].parts)


def cut_off(live: LiveAnswer, said: Said) -> Said:
    """Let no tool of an answer that was cut off be waited for; return what the model is told."""
    for part in list(live.parts):
        if part.call is not None and part.waits:
            live.add(ToolResult(call_id=part.call.call_id, error=CUT_OFF))
    return replace(said, parts=live.stored_parts())


def ended(
    live: LiveAnswer,
    state: Literal["done", "stopped", "failed", "interrupted"],
    *,
    finish_reason: str | None = None,
    error_code: str | None = None,
    retry_after_s: int | None = None,
) -> Ending:
    """Return how *live* ended, with what it used."""
    counted = live.usage.prompt_tokens or live.usage.completion_tokens
    return Ending(
        state=state,
        finish_reason=finish_reason,
        error_code=error_code,
        retry_after_s=retry_after_s,
        model=live.model,
        prompt_tokens=live.usage.prompt_tokens if counted else None,
        completion_tokens=live.usage.completion_tokens if counted else None,
        cost=live.usage.cost,
        cached_tokens=live.usage.cached_tokens if counted else None,
        reasoning_tokens=live.usage.reasoning_tokens if counted else None,
        paused=live.paused if state == "done" else None,
    )


def within(wish: _Wish, charge: Charge) -> _Wish:
    """Return *wish*, for no longer an answer than one answer may cost."""
    allowed = charge.allowed_output()
    if allowed == wish.settings.max_tokens:
        return wish
    return replace(wish, settings=replace(wish.settings, max_tokens=allowed))
