"""Who may use more or less than everybody: kept in the database, of a role or of a person.

Each change is an entry of the audit log, in its transaction.
What is said of a person goes before what is said of their roles, of which the most generous
counts, and that before the settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, LiteralString

from chatkeep import audit
from chatkeep.budgets.amounts import LIMITS
from chatkeep.db import ADMIN, AUTH, Query

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from chatkeep.audit import Written
    from chatkeep.db import Database

Kind = Literal["role", "user"]
_AT_MOST: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLimits:
    """The limits of one role or person; None: not said here. "Infinity" is no limit."""

    kind: Kind
    name: str
    tokens_per_day: Decimal | None
    tokens_per_month: Decimal | None
    tokens_per_run: Decimal | None
    cost_per_day: Decimal | None
    cost_per_month: Decimal | None
    cost_per_run: Decimal | None


async def list_limits(db: Database) -> list[OwnLimits]:
    """List who has limits of their own; 500 at most."""
    return await db.fetch(ADMIN, _LIST, {"most": _AT_MOST}, row=OwnLimits)


def finding(kind: Kind, name: str) -> Query[OwnLimits]:
    """Return the statement that finds the limits of one role or person."""
    return Query(_FIND, [kind, name], OwnLimits)


async def set_limits(
    db: Database, kind: Kind, name: str, wishes: Mapping[str, Decimal | None]
) -> OwnLimits:
    """Set the named limits of a role or person; None takes one back. Counts at once."""
    values = {"kind": kind, "name": name, "named": list(wishes), **dict.fromkeys(LIMITS), **wishes}
    said = {limit: None if amount is None else str(amount) for limit, amount in wishes.items()}
    rows, _ = await db.fetch_each(
        (ADMIN, Query(_SET, values, OwnLimits)), (AUTH, _noted(kind, name, said))
    )
    limits: OwnLimits = rows[0]
    return limits


async def forget_limits(db: Database, kind: Kind, name: str) -> bool:
    """Let a role or person have what everybody has; return whether there was anything."""
    (found,) = await db.fetch_all(ADMIN, finding(kind, name))
    if not found:
        return False
    await db.fetch_each(
        (ADMIN, Query(_FORGET, [kind, name], OwnLimits)),
        (AUTH, _noted(kind, name, dict.fromkeys(LIMITS))),
    )
    return True


def _noted(kind: Kind, name: str, limits: Mapping[str, str | None]) -> Query[Written]:
    return audit.entry(
        "budget.changed",
        user_id=name if kind == "user" else None,
        actor="operator",
        details={"role": name, **limits} if kind == "role" else limits,
    )


_LIST: LiteralString = """
select kind, name, tokens_per_day, tokens_per_month, tokens_per_run, cost_per_day,
  cost_per_month, cost_per_run
from chat.budget_limits order by kind, name limit %(most)s
"""

_FIND: LiteralString = """
select kind, name, tokens_per_day, tokens_per_month, tokens_per_run, cost_per_day,
  cost_per_month, cost_per_run
from chat.budget_limits where kind = %s and name = %s
"""

_FORGET: LiteralString = """
delete from chat.budget_limits where kind = %s and name = %s
returning kind, name, tokens_per_day, tokens_per_month, tokens_per_run, cost_per_day,
  cost_per_month, cost_per_run
"""

_SET: LiteralString = """
insert into chat.budget_limits as l
  (kind, name, tokens_per_day, tokens_per_month, tokens_per_run, cost_per_day, cost_per_month,
   cost_per_run)
values (%(kind)s, %(name)s, %(tokens_per_day)s, %(tokens_per_month)s, %(tokens_per_run)s,
  %(cost_per_day)s, %(cost_per_month)s, %(cost_per_run)s)
on conflict (name, kind) do update set updated_at = now(),
  tokens_per_day = case when 'tokens_per_day' = any(%(named)s)
    then excluded.tokens_per_day else l.tokens_per_day end,
  tokens_per_month = case when 'tokens_per_month' = any(%(named)s)
    then excluded.tokens_per_month else l.tokens_per_month end,
  tokens_per_run = case when 'tokens_per_run' = any(%(named)s)
    then excluded.tokens_per_run else l.tokens_per_run end,
  cost_per_day = case when 'cost_per_day' = any(%(named)s)
    then excluded.cost_per_day else l.cost_per_day end,
  cost_per_month = case when 'cost_per_month' = any(%(named)s)
    then excluded.cost_per_month else l.cost_per_month end,
  cost_per_run = case when 'cost_per_run' = any(%(named)s)
    then excluded.cost_per_run else l.cost_per_run end
returning kind, name, tokens_per_day, tokens_per_month, tokens_per_run, cost_per_day,
  cost_per_month, cost_per_run
"""
