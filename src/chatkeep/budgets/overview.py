"""What a person has used, by day and by model, and what is left of their budgets."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, LiteralString

from chatkeep.budgets.amounts import resets_at
from chatkeep.db import ADMIN, Query, as_user

if TYPE_CHECKING:
    from datetime import date, datetime

    from chatkeep.budgets.amounts import Limits
    from chatkeep.db import Database
    from chatkeep.principal import Principal

_MODELS_AT_MOST: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What answers have used. *cost* in US dollars."""

    answers: int
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedOnDay(Used):
    """What was used on one day (UTC)."""

    day: date


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedOfModel(Used):
    """What was used of one model."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One budget: *used* counts what answers being made have reserved; None for one answer."""

    name: str
    limit: Decimal
    used: Decimal | None
    left: Decimal
    resets_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All of it for one person."""

    budgets: list[Budget]
    this_month: Used
    by_day: list[UsedOnDay]
    by_model: list[UsedOfModel]


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    now: datetime
    tokens_per_day: Decimal
    tokens_per_month: Decimal
    tokens_per_run: Decimal
    cost_per_day: Decimal
    cost_per_month: Decimal
    cost_per_run: Decimal
    day_tokens: Decimal
    day_cost: Decimal
    month_tokens: Decimal
    month_cost: Decimal


async def overview(db: Database, who: Principal, limits: Limits, *, days: int) -> Overview:
    """Return what *who* used in the last *days* and this month; *limits* are everybody's."""
    values = {
        "user": who.user_id,
        "roles": list(who.all_roles),
        "days": days,
        "models": _MODELS_AT_MOST,
        "tokens_per_day": limits.tokens_per_day,
        "tokens_per_month": limits.tokens_per_month,
        "tokens_per_run": limits.tokens_per_run,
        "cost_per_day": limits.cost_per_day,
        "cost_per_month": limits.cost_per_month,
        "cost_per_run": limits.cost_per_run,
    }
    states, months, by_day, by_model = await db.fetch_all(
        as_user(who.user_id),
        Query(_STATE, values, _State),
        Query(_MONTH, values, Used),
        used_daily(who.user_id, days=days),
        Query(_BY_MODEL, values, UsedOfModel),
    )
    return Overview(
        budgets=_budgets(states[0]), this_month=months[0], by_day=by_day, by_model=by_model
    )


def used_daily(user_id: str, *, days: int) -> Query[UsedOnDay]:
    """Return the statement that adds up what *user_id* used, the newest day first."""
    return Query(_BY_DAY, {"user": user_id, "days": days}, UsedOnDay)


async def totals(db: Database, *, days: int) -> list[UsedOnDay]:
    """Return what everybody together used on each of the last *days*, for administrators."""
    return await db.fetch(ADMIN, _TOTALS, {"days": days}, row=UsedOnDay)


def _budgets(state: _State) -> list[Budget]:
    rows = (
        ("tokens-per-day", state.tokens_per_day, state.day_tokens),
        ("tokens-per-month", state.tokens_per_month, state.month_tokens),
        ("tokens-per-run", state.tokens_per_run, None),
        ("cost-per-day", state.cost_per_day, state.day_cost),
        ("cost-per-month", state.cost_per_month, state.month_cost),
        ("cost-per-run", state.cost_per_run, None),
    )
    return [
        Budget(
            name=name,
            limit=limit,
            used=used,
            left=max(Decimal(0), limit - (used or 0)),
            resets_at=resets_at(name, state.now),
        )
        for name, limit, used in rows
        if limit.is_finite()
    ]


_STATE = """
select now() as now,
  coalesce(u.tokens_per_day, r.tokens_per_day, %(tokens_per_day)s::numeric) as tokens_per_day,
  coalesce(u.tokens_per_month, r.tokens_per_month, %(tokens_per_month)s::numeric)
    as tokens_per_month,
  coalesce(u.tokens_per_run, r.tokens_per_run, %(tokens_per_run)s::numeric) as tokens_per_run,
  coalesce(u.cost_per_day, r.cost_per_day, %(cost_per_day)s::numeric) as cost_per_day,
  coalesce(u.cost_per_month, r.cost_per_month, %(cost_per_month)s::numeric) as cost_per_month,
  coalesce(u.cost_per_run, r.cost_per_run, %(cost_per_run)s::numeric) as cost_per_run,
  coalesce(case when b.day = today.day then b.day_tokens end, 0)::numeric as day_tokens,
  coalesce(case when b.day = today.day then b.day_cost end, 0) as day_cost,
  coalesce(case when date_trunc('month', b.day) = date_trunc('month', today.day)
    then b.month_tokens end, 0)::numeric as month_tokens,
  coalesce(case when date_trunc('month', b.day) = date_trunc('month', today.day)
    then b.month_cost end, 0) as month_cost
from (select (now() at time zone 'utc')::date as day) today
cross join (
  select max(tokens_per_day) as tokens_per_day, max(tokens_per_month) as tokens_per_month,
    max(tokens_per_run) as tokens_per_run, max(cost_per_day) as cost_per_day,
    max(cost_per_month) as cost_per_month, max(cost_per_run) as cost_per_run
  from chat.budget_limits where kind = 'role' and name = any(%(roles)s)
) r
left join chat.budget_limits u on u.kind = 'user' and u.name = %(user)s
left join chat.budgets b on b.user_id = %(user)s
"""

_MONTH = """
select coalesce(sum(answers), 0)::bigint as answers,
  coalesce(sum(prompt_tokens), 0)::bigint as prompt_tokens,
  coalesce(sum(completion_tokens), 0)::bigint as completion_tokens,
  coalesce(sum(cost), 0) as cost
from chat.usage
where user_id = %(user)s and day >= date_trunc('month', now() at time zone 'utc')::date
"""

_BY_DAY = """
select day, sum(answers)::bigint as answers, sum(prompt_tokens)::bigint as prompt_tokens,
  sum(completion_tokens)::bigint as completion_tokens, sum(cost) as cost
from chat.usage
where user_id = %(user)s and day > (now() at time zone 'utc')::date - %(days)s::int
group by day order by day desc
"""

_BY_MODEL = """
select model, sum(answers)::bigint as answers, sum(prompt_tokens)::bigint as prompt_tokens,
  sum(completion_tokens)::bigint as completion_tokens, sum(cost) as cost
from chat.usage
where user_id = %(user)s and day > (now() at time zone 'utc')::date - %(days)s::int
group by model order by sum(cost) desc, sum(prompt_tokens) desc, model limit %(models)s
"""

_TOTALS: LiteralString = """
select day, sum(answers)::bigint as answers, sum(prompt_tokens)::bigint as prompt_tokens,
  sum(completion_tokens)::bigint as completion_tokens, sum(cost) as cost
from chat.usage
where day > (now() at time zone 'utc')::date - %(days)s::int
group by day order by day desc
"""
