"""What somebody is told whose budget has too little left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkeep.budgets.amounts import BUDGETS, exhausted

if TYPE_CHECKING:
    from chatkeep.db import ConstraintViolated, Database
    from chatkeep.errors import BudgetExhausted


async def refusal(db: Database, violated: ConstraintViolated) -> BudgetExhausted | None:
    """Return the refusal that *violated* means; None when it is no budget's.

    When the budget begins anew says the clock by which it is counted: the database's.

    Raises:
        Unavailable: the database is away.
    """
    budget = BUDGETS.get(violated.name)
    return None if budget is None else exhausted(budget, await db.now())
