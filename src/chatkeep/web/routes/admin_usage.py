"""`/api/admin`: what a person has used and may use, and in which turn the signing keys are."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from chatkeep.administration.usage import read_usage
from chatkeep.budgets.amounts import LIMITS
from chatkeep.signing_keys import changes
from chatkeep.web.administrators import Administrator
from chatkeep.web.problems import described
from chatkeep.web.routes.admin import UserId
from chatkeep.web.services import Parts

router = APIRouter(prefix="/api/admin", tags=["administration"])

Days = Annotated[int, Query(ge=1, le=92, description="How many days back, with today.")]


class DayAnswer(BaseModel):
    """What was used on one day (UTC)."""

    day: date
    answers: int
    prompt_tokens: int
    completion_tokens: int
    cost: str = Field(description="US dollars, exact.", examples=["0.0123"])


class LimitAnswer(BaseModel):
    """A limit that is this person's and not everybody's."""

    name: str = Field(examples=["tokens-per-day"])
    limit: str | None = Field(description="Null: there is no limit for them.")


class UsageOfAnswer(BaseModel):
    """What a person has used; `limits` are those said of them alone."""

    days: int
    by_day: list[DayAnswer]
    limits: list[LimitAnswer]


class SigningKeyAnswer(BaseModel):
    """A key that signs, will, or did. `until`: when it is taken out of the published set."""

    kid: str
    algorithm: str
    status: str
    created_at: datetime
    signs_since: datetime | None
    until: datetime | None


class SigningKeysAnswer(BaseModel):
    """All keys of our own issuer, the one that signs first."""

    keys: list[SigningKeyAnswer]


@router.get("/users/{user_id:path}/usage", responses=described(404, 422))
async def usage_of(
    _: Administrator, user_id: UserId, parts: Parts, days: Days = 30
) -> UsageOfAnswer:
    """Show what a person of any issuer has used by day, and the limits that are theirs alone."""
    found = await read_usage(parts.db, user_id, days=days)
    said = {name: getattr(found.limits, name) for name in LIMITS} if found.limits else {}
    return UsageOfAnswer(
        days=days,
        by_day=[
            DayAnswer(
                day=one.day,
                answers=one.answers,
                prompt_tokens=one.prompt_tokens,
                completion_tokens=one.completion_tokens,
                cost=_plain(one.cost),
            )
            for one in found.by_day
        ],
        limits=[
            LimitAnswer(
                name=name.replace("_", "-"), limit=_plain(amount) if amount.is_finite() else None
            )
            for name, amount in said.items()
            if amount is not None
        ],
    )


@router.get("/signing-keys")
async def signing_keys(_: Administrator, parts: Parts) -> SigningKeysAnswer:
    """Show the keys of our own issuer, without what signs: which does, and which is next."""
    return SigningKeysAnswer(
        keys=[
            SigningKeyAnswer(
                kid=one.kid,
                algorithm=one.algorithm,
                status=one.status,
                created_at=one.created_at,
                signs_since=one.signs_since,
                until=one.until,
            )
            for one in await changes.listed(parts.db)
        ]
    )


def _plain(amount: Decimal) -> str:
    """Write *amount* without an exponent and without zeros that say nothing."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
