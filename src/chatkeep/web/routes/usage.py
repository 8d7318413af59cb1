"""`/api/usage`: what the caller has used, and what is left of their budgets."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from chatkeep.budgets.amounts import Limits
from chatkeep.budgets.overview import Budget, Used, overview
from chatkeep.web.auth import SignedIn
from chatkeep.web.problems import described
from chatkeep.web.services import Parts

router = APIRouter(prefix="/api/usage", tags=["usage"], responses=described(422))

_Money = Annotated[str, Field(description="US dollars, exact.", examples=["0.0123"])]


class UsedAnswer(BaseModel):
    """What answers have used."""

    answers: int
    prompt_tokens: int
    completion_tokens: int
    cost: _Money


class DayAnswer(UsedAnswer):
    """What was used on one day (UTC)."""

    day: date


class ModelAnswer(UsedAnswer):
    """What was used of one model."""

    model: str


class BudgetAnswer(BaseModel):
    """One budget of the caller."""

    name: str = Field(examples=["tokens-per-day"])
    unit: str = Field(description="`tokens` or `usd`.")
    limit: str
    used: str | None = Field(
        description="With what answers being made have reserved; null for one of each answer."
    )
    left: str
    resets_at: datetime | None = Field(description="Null for one of each answer.")


class UsageAnswer(BaseModel):
    """All of it; lists are empty when nothing was used, or nothing is limited."""

    days: int
    budgets: list[BudgetAnswer]
    this_month: UsedAnswer
    by_day: list[DayAnswer]
    by_model: list[ModelAnswer]


@router.get("")
async def usage(
    who: SignedIn,
    parts: Parts,
    days: Annotated[int, Query(ge=1, le=92, description="How many days back, with today.")] = 30,
) -> UsageAnswer:
    """Show what the caller has used, by day and by model, and what is left and until when."""
    found = await overview(parts.db, who, Limits.of(parts.settings), days=days)
    return UsageAnswer(
        days=days,
        budgets=[_budget(one) for one in found.budgets],
        this_month=UsedAnswer(**_used(found.this_month)),
        by_day=[DayAnswer(**_used(one), day=one.day) for one in found.by_day],
        by_model=[ModelAnswer(**_used(one), model=one.model) for one in found.by_model],
    )


def _used(one: Used) -> dict[str, Any]:
    return {
        "answers": one.answers,
        "prompt_tokens": one.prompt_tokens,
        "completion_tokens": one.completion_tokens,
        "cost": _plain(one.cost),
    }


def _budget(one: Budget) -> BudgetAnswer:
    return BudgetAnswer(
        name=one.name,
        unit="tokens" if one.name.startswith("tokens") else "usd",
        limit=_plain(one.limit),
        used=None if one.used is None else _plain(one.used),
        left=_plain(one.left),
        resets_at=one.resets_at,
    )


def _plain(amount: Decimal) -> str:
    """Write *amount* without an exponent and without zeros that say nothing."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
