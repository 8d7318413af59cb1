"""The statements that book what answers use. Every lock is taken in one order.

That is: the charge, the person's budget, the server's total. A charge is refused by a check
of its own row, of the person's or of the total's, under the lock of that row: parallel
requests on any number of nodes are admitted one by one, and the refused leave nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, LiteralString

from chatkeep.budgets.amounts import ASSUMED_OUTPUT_TOKENS, NO_LIMIT
from chatkeep.db import Query

if TYPE_CHECKING:
    from collections.abc import Collection
    from decimal import Decimal

    from chatkeep.budgets.amounts import Limits, Price

#: An answer that is not kept has no lease: after this long its server is taken for dead.
UNKEPT_EXPIRES_S: Final = 7200


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """A charge that was admitted, and what is left after it."""

    id: str
    prompt_tokens: int
    output_tokens: int
    tokens_per_day: Decimal
    tokens_per_month: Decimal
    tokens_per_run: Decimal
    cost_per_day: Decimal
    cost_per_month: Decimal
    cost_per_run: Decimal
    day_tokens_left: Decimal
    day_cost_left: Decimal
    month_tokens_left: Decimal
    month_cost_left: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What an answer uses altogether."""

    prompt_tokens: int
    output_tokens: int
    prompt_cost: Decimal
    cost: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """That something was booked."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """A charge whose answer nobody makes any more. *said* in bytes."""

    user_id: str
    id: str
    model: str
    prompt_tokens: int
    output_tokens: int
    prompt_cost: Decimal
    cost: Decimal
    said: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What a charge is for.

    *size* is what of the prompt is not in the database, in bytes. When it is *kept*, the rest is
    the branch that was read before in this transaction (`history.reading`); else *size* is all.
    """

    id: str
    model: str
    size: int
    max_tokens: int | None
    kept: bool = False


def charging(
    user_id: str,
    roles: Collection[str],
    asking: Asking,
    *,
    limits: Limits,
    price: Price,
    counts_total: bool,
) -> Query[Charged]:
    """Return the statement that charges *user_id*, after the run was made if it is kept.

    It yields nothing where no run was made. A refusal is a violated constraint of
    `amounts.BUDGETS`.
    """
    values: dict[str, Any] = {
        "user": user_id,
        "roles": list(roles),
        "id": asking.id,
        "model": asking.model,
        "size": asking.size,
        "output": asking.max_tokens or ASSUMED_OUTPUT_TOKENS,
        "kept": asking.kept,
        "prompt_price": price.prompt,
        "output_price": price.output,
        "counts_total": counts_total,
        "expires": UNKEPT_EXPIRES_S,
        "tokens_per_day": limits.tokens_per_day,
        "tokens_per_month": limits.tokens_per_month,
        "tokens_per_run": limits.tokens_per_run,
        "cost_per_day": limits.cost_per_day,
        "cost_per_month": limits.cost_per_month,
        "cost_per_run": limits.cost_per_run,
    }
    return Query(_CHARGE, values, Charged)


def charging_total(user_id: str, charge_id: str, ceiling: Decimal) -> Query[Booked]:
    """Return the statement that puts a charge of this transaction into the server's total."""
    return Query(_TOTAL, {"user": user_id, "id": charge_id, "ceiling": ceiling}, Booked)


def charging_more(
    user_id: str, charged: Charged, sums: Sums, *, total: Decimal | None
) -> tuple[Query[Booked], ...]:
    """Return the statements that raise a charge to *sums*, or are refused as it was.

    *total*: what the server may spend in a day, where that is counted.
    """
    values = {
        "user": user_id,
        "id": charged.id,
        "prompt": sums.prompt_tokens,
        "output": sums.output_tokens,
        "prompt_cost": sums.prompt_cost,
        "cost": sums.cost,
        "tokens_per_day": charged.tokens_per_day,
        "tokens_per_month": charged.tokens_per_month,
        "cost_per_day": charged.cost_per_day,
        "cost_per_month": charged.cost_per_month,
    }
    more = Query(_MORE, values, Booked)
    return (more,) if total is None else (more, _moving_total(user_id, charged.id, total))


def settling(
    user_id: str, charge_id: str, model: str, sums: Sums, *, only_open: bool = False
) -> tuple[Query[Booked], Query[Booked]]:
    """Return the statements that set a charge right: *sums* is what was really used.

    Once more is right too (a sweeper gave the answer up, and its server was only slow):
    then it is corrected. Not with *only_open*.
    """
    values = {
        "user": user_id,
        "id": charge_id,
        "model": model,
        "prompt": sums.prompt_tokens,
        "output": sums.output_tokens,
        "cost": sums.cost,
        "only_open": only_open,
    }
    return Query(_SETTLE, values, Booked), _moving_total(user_id, charge_id, NO_LIMIT)


def _moving_total(user_id: str, charge_id: str, ceiling: Decimal) -> Query[Booked]:
    """Return the statement that lets the server's total follow a charge that was changed."""
    return Query(_MOVE_TOTAL, {"user": user_id, "id": charge_id, "ceiling": ceiling}, Booked)


def finding_dead() -> Query[Dead]:
    """Return the statement that finds charges whose answer is not being made."""
    return Query(_DEAD, [], Dead)


# Where the branch was not read before, its bytes are no number, and nobody is charged too little.
_CHARGE: LiteralString = """
with plan as materialized (
  select given.*, prompt_tokens + output_tokens as tokens,
    prompt_cost + output_tokens * %(output_price)s::numeric as cost
  from (
    select prompt_tokens, prompt_cost, allowed.*, (now() at time zone 'utc')::date as day,
      greatest(1, least(%(output)s::numeric, tokens_per_run - prompt_tokens,
        case when %(output_price)s::numeric > 0
          then floor((cost_per_run - prompt_cost) / %(output_price)s::numeric) end))::bigint
        as output_tokens
    from (
      select tokens::bigint as prompt_tokens, tokens * %(prompt_price)s::numeric as prompt_cost
      from (
        select ceil((%(size)s + case when %(kept)s
          then current_setting('chatkeep.branch_bytes')::bigint else 0 end) / 3.0) as tokens
      ) prompt
      where not %(kept)s or exists
        -- `offset 0`: found by its key, not among all that are running.
        (select from (
          select state from chat.runs where user_id = %(user)s and id = %(id)s offset 0
        ) run where state = 'running')
    ) prompt cross join (
      select
        coalesce(u.tokens_per_day, r.tokens_per_day, %(tokens_per_day)s::numeric)
          as tokens_per_day,
        coalesce(u.tokens_per_month, r.tokens_per_month, %(tokens_per_month)s::numeric)
          as tokens_per_month,
        coalesce(u.tokens_per_run, r.tokens_per_run, %(tokens_per_run)s::numeric)
          as tokens_per_run,
        coalesce(u.cost_per_day, r.cost_per_day, %(cost_per_day)s::numeric) as cost_per_day,
        coalesce(u.cost_per_month, r.cost_per_month, %(cost_per_month)s::numeric)
          as cost_per_month,
        coalesce(u.cost_per_run, r.cost_per_run, %(cost_per_run)s::numeric) as cost_per_run
      from (
        select max(tokens_per_day) as tokens_per_day, max(tokens_per_month) as tokens_per_month,
          max(tokens_per_run) as tokens_per_run, max(cost_per_day) as cost_per_day,
          max(cost_per_month) as cost_per_month, max(cost_per_run) as cost_per_run
        from chat.budget_limits where kind = 'role' and name = any(%(roles)s)
      ) r left join chat.budget_limits u on u.kind = 'user' and u.name = %(user)s
    ) allowed
  ) given
), counted as (
  insert into chat.budgets as b
    (user_id, day, day_tokens, day_cost, month_tokens, month_cost,
     day_tokens_ceiling, day_cost_ceiling, month_tokens_ceiling, month_cost_ceiling)
  select %(user)s, day, tokens, cost, tokens, cost,
    tokens_per_day, cost_per_day, tokens_per_month, cost_per_month
  from plan
  on conflict (user_id) do update set day = excluded.day,
    day_tokens = excluded.day_tokens
      + case when b.day = excluded.day then b.day_tokens else 0 end,
    day_cost = excluded.day_cost + case when b.day = excluded.day then b.day_cost else 0 end,
    month_tokens = excluded.month_tokens + case
      when date_trunc('month', b.day) = date_trunc('month', excluded.day)
      then b.month_tokens else 0 end,
    month_cost = excluded.month_cost + case
      when date_trunc('month', b.day) = date_trunc('month', excluded.day)
      then b.month_cost else 0 end,
    day_tokens_ceiling = excluded.day_tokens_ceiling,
    day_cost_ceiling = excluded.day_cost_ceiling,
    month_tokens_ceiling = excluded.month_tokens_ceiling,
    month_cost_ceiling = excluded.month_cost_ceiling
  returning day_tokens_ceiling - day_tokens as day_tokens_left,
    day_cost_ceiling - day_cost as day_cost_left,
    month_tokens_ceiling - month_tokens as month_tokens_left,
    month_cost_ceiling - month_cost as month_cost_left
), charged as (
  insert into chat.charges
    (user_id, id, day, model, prompt_tokens, output_tokens, prompt_cost, cost, total_cost,
     tokens_ceiling, cost_ceiling, expires_at)
  select %(user)s, %(id)s, day, %(model)s, prompt_tokens, output_tokens, prompt_cost, cost,
    case when %(counts_total)s then 0 end, tokens_per_run, cost_per_run,
    now() + make_interval(secs => %(expires)s)
  from plan
)
select %(id)s as id, prompt_tokens, output_tokens, tokens_per_day, tokens_per_month,
  tokens_per_run, cost_per_day, cost_per_month, cost_per_run,
  day_tokens_left, day_cost_left, month_tokens_left, month_cost_left
from plan, counted
"""

_TOTAL: LiteralString = """
with mine as (
  update chat.charges set total_cost = cost where user_id = %(user)s and id = %(id)s
  returning id, day, cost
), total as (
  insert into chat.budget_totals as t (day, cost, ceiling)
  select day, cost, %(ceiling)s from mine
  on conflict (day) do update
    set cost = t.cost + excluded.cost, ceiling = excluded.ceiling
)
select id from mine
"""

_MORE: LiteralString = """
with old as materialized (
  -- Not `settled_at is null`: it is found by its key, not among all that are open.
  select * from chat.charges
  where user_id = %(user)s and id = %(id)s and coalesce(settled_at, 'infinity') = 'infinity'
  for update
), more as (
  select day, %(prompt)s::bigint + %(output)s::bigint - prompt_tokens - output_tokens as tokens,
    %(cost)s::numeric - cost as cost
  from old
), counted as (
  update chat.budgets b set
    day_tokens = b.day_tokens + case when b.day = m.day then m.tokens else 0 end,
    day_cost = b.day_cost + case when b.day = m.day then m.cost else 0 end,
    month_tokens = b.month_tokens + case
      when date_trunc('month', b.day) = date_trunc('month', m.day) then m.tokens else 0 end,
    month_cost = b.month_cost + case
      when date_trunc('month', b.day) = date_trunc('month', m.day) then m.cost else 0 end,
    day_tokens_ceiling = %(tokens_per_day)s, day_cost_ceiling = %(cost_per_day)s,
    month_tokens_ceiling = %(tokens_per_month)s, month_cost_ceiling = %(cost_per_month)s
  from more m where b.user_id = %(user)s
)
update chat.charges c set prompt_tokens = %(prompt)s, output_tokens = %(output)s,
  prompt_cost = %(prompt_cost)s, cost = %(cost)s
from old where c.user_id = old.user_id and c.id = %(id)s
returning c.id
"""

_SETTLE: LiteralString = """
with old as materialized (
  select * from chat.charges
  where user_id = %(user)s and id = %(id)s and (settled_at is null or not %(only_open)s)
  for update
), more as (
  select day, %(prompt)s::bigint + %(output)s::bigint - prompt_tokens - output_tokens as tokens,
    %(cost)s::numeric - cost as cost
  from old
), counted as (
  update chat.budgets b set
    day_tokens = case when b.day = m.day then greatest(0, b.day_tokens + m.tokens)
      else b.day_tokens end,
    day_cost = case when b.day = m.day then greatest(0, b.day_cost + m.cost)
      else b.day_cost end,
    month_tokens = case when date_trunc('month', b.day) = date_trunc('month', m.day)
      then greatest(0, b.month_tokens + m.tokens) else b.month_tokens end,
    month_cost = case when date_trunc('month', b.day) = date_trunc('month', m.day)
      then greatest(0, b.month_cost + m.cost) else b.month_cost end,
    day_tokens_ceiling = 'infinity', day_cost_ceiling = 'infinity',
    month_tokens_ceiling = 'infinity', month_cost_ceiling = 'infinity'
  from more m where b.user_id = %(user)s
), used as (
  insert into chat.usage as u
    (user_id, day, model, answers, prompt_tokens, completion_tokens, cost)
  select user_id, day, case when settled_at is null then %(model)s else model end,
    (settled_at is null)::int,
    %(prompt)s::bigint - case when settled_at is null then 0 else prompt_tokens end,
    %(output)s::bigint - case when settled_at is null then 0 else output_tokens end,
    %(cost)s::numeric - case when settled_at is null then 0 else cost end
  from old
  on conflict (user_id, day, model) do update set answers = u.answers + excluded.answers,
    prompt_tokens = u.prompt_tokens + excluded.prompt_tokens,
    completion_tokens = u.completion_tokens + excluded.completion_tokens,
    cost = u.cost + excluded.cost
)
update chat.charges c set settled_at = coalesce(c.settled_at, now()),
  model = case when c.settled_at is null then %(model)s else c.model end,
  prompt_tokens = %(prompt)s, output_tokens = %(output)s, cost = %(cost)s,
  tokens_ceiling = 'infinity', cost_ceiling = 'infinity'
from old where c.user_id = old.user_id and c.id = %(id)s
returning c.id
"""

# The charge is locked by the statement before.
_MOVE_TOTAL: LiteralString = """
with moved as materialized (
  select user_id, id, day, cost, cost - total_cost as more from chat.charges
  where user_id = %(user)s and id = %(id)s and total_cost is not null
), mine as (
  update chat.charges c set total_cost = m.cost from moved m
  where c.user_id = m.user_id and c.id = %(id)s
)
update chat.budget_totals t set cost = greatest(0, t.cost + m.more), ceiling = %(ceiling)s
from moved m where t.day = m.day
returning m.id
"""

_DEAD: LiteralString = """
select c.user_id, c.id, c.model, c.prompt_tokens, c.output_tokens, c.prompt_cost, c.cost,
  coalesce(r.said, 0) as said
from chat.charges c left join chat.runs r on r.user_id = c.user_id and r.id = c.id
where c.settled_at is null
  and (r.state not in ('queued', 'running') or r.id is null and c.expires_at < now())
order by c.expires_at limit 100
"""
