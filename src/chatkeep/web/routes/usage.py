"""`/api/usage`: what the caller has used, and what is left of their budgets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from chatkeep.budgets.amounts import Limits
from chatkeep.budgets.overview import Budget, overview
from chatkeep.web.auth import SignedIn
from chatkeep.web.problems import described
from chatkeep.web.services import ServicesDep
from chatkeep.web.usage import DayAnswer, UsedAnswer, plain, used_members

router = APIRouter(prefix="/api/usage", tags=["usage"], responses=described(422))


class UsedModelAnswer(UsedAnswer):
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
    by_model: list[UsedModelAnswer]


@router.get("")
async def usage(
    who: SignedIn,
    services: ServicesDep,
    days: Annotated[int, Query(ge=1, le=92, description="How many days back, with today.")] = 30,
) -> UsageAnswer:
    """Show what the caller has used, by day and by model, and what is left and until when."""
    found = await overview(services.db, who, Limits.of(services.settings), days=days)
    return UsageAnswer(
        days=days,
        budgets=[_budget(one) for one in found.budgets],
        this_month=UsedAnswer(**used_members(found.this_month)),
        by_day=[DayAnswer(**used_members(one), day=one.day) for one in found.by_day],
        by_model=[UsedModelAnswer(**used_members(one), model=one.model) for one in found.by_model],
    )


def _budget(one: Budget) -> BudgetAnswer:
    return BudgetAnswer(
        name=one.name,
        unit="tokens" if one.name.startswith("tokens") else "usd",
        limit=plain(one.limit),
        used=None if one.used is None else plain(one.used),
        left=plain(one.left),
        resets_at=one.resets_at,
    )
