"""What answers used and cost, as people are shown it."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from decimal import Decimal

    from chatkeep.budgets.overview import Used
    from chatkeep.runs import Ending

Money = Annotated[str, Field(description="US dollars, exact.", examples=["0.0123"])]


class UsedAnswer(BaseModel):
    """What answers have used."""

    answers: int
    prompt_tokens: int
    completion_tokens: int
    cost: Money


class DayAnswer(UsedAnswer):
    """What was used on one day (UTC)."""

    day: date


def used_members(used: Used) -> dict[str, Any]:
    """Return the members of a `UsedAnswer`."""
    return {
        "answers": used.answers,
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "cost": plain(used.cost),
    }


def plain(amount: Decimal) -> str:
    """Write *amount* without an exponent and without zeros that say nothing."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def usage_json(ending: Ending) -> dict[str, Any] | None:
    """Return usage in the words of chat completions, None when the provider did not say."""
    if ending.prompt_tokens is None and ending.completion_tokens is None:
        return None
    prompt, said = ending.prompt_tokens or 0, ending.completion_tokens or 0
    shown: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": said,
        "total_tokens": prompt + said,
    }
    return shown if ending.cost is None else {**shown, "cost": float(ending.cost)}
