"""What one person has used, and what they may use apart from everybody else, for administrators."""

from __future__ import annotations

from dataclasses import dataclass

from chatkeep.budgets.administered import OwnLimits
from chatkeep.budgets.overview import UsedOnDay
from chatkeep.db import ADMIN, Database, Query


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageOf:
    """A person's days, the newest first; *limits* are None where they have none of their own."""

    by_day: tuple[UsedOnDay, ...]
    limits: OwnLimits | None


async def read_usage(db: Database, user_id: str, *, days: int) -> UsageOf:
    """Return what *user_id* has used in the last *days* with today, and their own limits.

    Raises:
        Unavailable: the database is away.
    """
    by_day, limits = await db.fetch_all(
        ADMIN,
        Query(
            "select day, sum(answers)::bigint as answers,"
            " sum(prompt_tokens)::bigint as prompt_tokens,"
            " sum(completion_tokens)::bigint as completion_tokens, sum(cost) as cost"
            " from chat.usage"
            " where user_id = %s and day > (now() at time zone 'utc')::date - %s::int"
            " group by day order by day desc",
            (user_id, days),
            UsedOnDay,
        ),
        Query(
            "select kind, name, tokens_per_day, tokens_per_month, tokens_per_run, cost_per_day,"
            " cost_per_month, cost_per_run from chat.budget_limits"
            " where kind = 'user' and name = %s",
            (user_id,),
            OwnLimits,
        ),
    )
    return UsageOf(by_day=tuple(by_day), limits=limits[0] if limits else None)
