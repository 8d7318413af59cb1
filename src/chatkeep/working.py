"""One answer while this process works on it: how it begins, and how it is said to have ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from chatkeep.events import ToolResult
from chatkeep.parts import unstored
from chatkeep.runs import Ending

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from chatkeep.charges import Charge
    from chatkeep.live import LiveAnswer
    from chatkeep.llm.model import Prompt
    from chatkeep.parts import Part
    from chatkeep.policies import Choices
    from chatkeep.turns import Said, Turn

_CUT_OFF: Final = "The answer was cut off before this tool had said whether it did its work."
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
            live.add(ToolResult(call_id=part.call.call_id, error=_CUT_OFF))
    return replace(said, parts=live.stored_parts())


def ended(
    live: LiveAnswer,
    state: Literal["done", "stopped", "failed", "interrupted"],
    *,
    finish_reason: str | None = None,
    error_code: str | None = None,
) -> Ending:
    """Return how *live* ended, with what it used."""
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


def within(wish: _Wish, charge: Charge) -> _Wish:
    """Return *wish*, for no longer an answer than one answer may cost."""
    allowed = charge.allowed_output()
    if allowed == wish.settings.max_tokens:
        return wish
    return replace(wish, settings=replace(wish.settings, max_tokens=allowed))
