"""What is left of the caller's budgets, in headers of the answer that was charged to them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from chatkeep.budgets.ledger import Charged

BUDGET_HEADERS: Final = (
    "x-budget-remaining-tokens-day",
    "x-budget-remaining-tokens-month",
    "x-budget-remaining-cost-day",
    "x-budget-remaining-cost-month",
)


def budget_headers(charged: Charged | None) -> dict[str, str]:
    """Return what is left after a charge, of the budgets that there are; None has none."""
    if charged is None:
        return {}
    left = (
        charged.day_tokens_left,
        charged.month_tokens_left,
        charged.day_cost_left,
        charged.month_cost_left,
    )
    return {
        name: f"{max(Decimal(0), one):f}"
        for name, one in zip(BUDGET_HEADERS, left, strict=True)
        if one.is_finite()
    }
