"""What somebody is told whose budget has too little left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatkeep.budgets.amounts import BUDGETS, exhausted
from chatkeep.db import as_user

if TYPE_CHECKING:
    from datetime import datetime

    from chatkeep.db import ConstraintViolated, Database
    from chatkeep.errors import BudgetExhausted


@dataclass(frozen=True, slots=True)
class _Moment:
    now: datetime


async def refusal(
    db: Database, user_id: str, violated: ConstraintViolated
) -> BudgetExhausted | None:
    """Return the refusal that *violated* means to *user_id*; None when it is no budget's.

    When the budget begins anew says the clock by which it is counted: the database's.

    Raises:
        Unavailable: the database is away.
    """
    budget = BUDGETS.get(violated.name)
    if budget is None:
        return None
    (moment,) = await db.fetch(as_user(user_id), "select now() as now", (), row=_Moment)
    return exhausted(budget, moment.now)
