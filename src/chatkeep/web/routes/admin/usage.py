"""`/api/admin/users/…/usage`: what a person has used and may use, for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from chatkeep.administration.usage import read_usage
from chatkeep.budgets.amounts import LIMITS
from chatkeep.web.administrators import Administrator
from chatkeep.web.persons import UserId
from chatkeep.web.problems import described
from chatkeep.web.services import ServicesDep
from chatkeep.web.usage import DayAnswer, plain, used_members

router = APIRouter(prefix="/api/admin", tags=["administration"])

Days = Annotated[int, Query(ge=1, le=92, description="How many days back, with today.")]


class LimitOfSomebodyAnswer(BaseModel):
    """A limit that is this person's and not everybody's."""

    name: str = Field(examples=["tokens-per-day"])
    limit: str | None = Field(description="Null: there is no limit for them.")


class UsageOfAnswer(BaseModel):
    """What a person has used; `limits` are those said of them alone."""

    days: int
    by_day: list[DayAnswer]
    limits: list[LimitOfSomebodyAnswer]


@router.get("/users/{user_id:path}/usage", responses=described(404, 422))
async def usage_of(
    _: Administrator, user_id: UserId, services: ServicesDep, days: Days = 30
) -> UsageOfAnswer:
    """Show what a person of any issuer has used by day, and the limits that are theirs alone."""
    found = await read_usage(services.db, user_id, days=days)
    said = {name: getattr(found.limits, name) for name in LIMITS} if found.limits else {}
    return UsageOfAnswer(
        days=days,
        by_day=[DayAnswer(**used_members(one), day=one.day) for one in found.by_day],
        limits=[
            LimitOfSomebodyAnswer(
                name=name.replace("_", "-"), limit=plain(amount) if amount.is_finite() else None
            )
            for name, amount in said.items()
            if amount is not None
        ],
    )
