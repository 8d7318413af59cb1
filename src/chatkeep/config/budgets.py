"""Settings: how much everybody may use."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from chatkeep.config.reading import setting
from chatkeep.config.values import Refused, whole

_MOST_TOKENS: Final = 10**15
_MOST_DOLLARS: Final = Decimal(10**9)
_PLACES: Final = 12


def dollars(text: str) -> Decimal:
    """Read an amount of US dollars."""
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or not 0 <= value <= _MOST_DOLLARS or _places(value) > _PLACES:
        raise Refused("must be an amount of US dollars, such as 2.50")
    return value


def prices(text: str) -> tuple[tuple[str, Decimal, Decimal], ...]:
    """Read what models cost: `model=prompt/output`, dollars for a million tokens."""
    found = []
    for one in text.replace(",", " ").split():
        model, _, amounts = one.rpartition("=")
        prompt, slash, output = amounts.partition("/")
        if not model or not slash:
            raise Refused("must be like gpt-4o-mini=0.15/0.60, dollars for a million tokens")
        found.append((model, dollars(prompt), dollars(output)))
    return tuple(found)


def _places(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """How much everybody may use, in tokens and in US dollars; None: without a limit."""

    budget_tokens_per_day: int | None = setting("BUDGET_TOKENS_PER_DAY", whole(0, _MOST_TOKENS))
    budget_tokens_per_month: int | None = setting("BUDGET_TOKENS_PER_MONTH", whole(0, _MOST_TOKENS))
    budget_tokens_per_run: int | None = setting("BUDGET_TOKENS_PER_RUN", whole(1, _MOST_TOKENS))
    budget_cost_per_day: Decimal | None = setting("BUDGET_COST_PER_DAY", dollars)
    budget_cost_per_month: Decimal | None = setting("BUDGET_COST_PER_MONTH", dollars)
    budget_cost_per_run: Decimal | None = setting("BUDGET_COST_PER_RUN", dollars)
    budget_cost_per_day_total: Decimal | None = setting("BUDGET_COST_PER_DAY_TOTAL", dollars)
    model_prices: tuple[tuple[str, Decimal, Decimal], ...] = setting(
        "MODEL_PRICES", prices, default=()
    )

    @property
    def limits_money(self) -> bool:
        """Whether any of them is about money, so that prices must be known beforehand."""
        limits = (
            self.budget_cost_per_day,
            self.budget_cost_per_month,
            self.budget_cost_per_run,
            self.budget_cost_per_day_total,
        )
        return any(one is not None for one in limits)
