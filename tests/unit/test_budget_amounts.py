"""What budgets are counted in: dollars, prices, and when they begin anew."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from chatkeep.budgets.amounts import resets_at
from chatkeep.config.budgets import dollars, prices
from chatkeep.config.values import Refused
from chatkeep.llm.openai_compatible import _price


@pytest.mark.parametrize("text", ["-1", "NaN", "Infinity", "much", "1e99", "0.0000000000001", ""])
def test_what_is_no_amount_of_money_is_refused(text: str) -> None:
    """Nothing that compares oddly or cannot be kept exactly gets in."""
    with pytest.raises(Refused):
        dollars(text)


def test_prices_are_read_for_a_million_tokens() -> None:
    """Several, with model names as providers write them."""
    assert prices("a/b:free=0/0, gpt=0.15/0.60") == (
        ("a/b:free", Decimal(0), Decimal(0)),
        ("gpt", Decimal("0.15"), Decimal("0.60")),
    )
    with pytest.raises(Refused):
        prices("gpt=3")


@pytest.mark.parametrize(
    ("said", "price"),
    [("0.0000025", Decimal("0.0000025")), ("-1", None), ("NaN", None), (None, None), ([], None)],
)
def test_price_of_a_provider_is_taken_only_when_it_is_one(
    said: object, price: Decimal | None
) -> None:
    """OpenRouter's router has -1; others may put anything there."""
    assert _price(said) == price


def test_days_and_months_begin_anew_at_midnight_utc() -> None:
    """Also at the end of a year; an answer's own budget never."""
    now = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    new_year = datetime(2027, 1, 1, tzinfo=UTC)
    assert resets_at("tokens-per-day", now) == new_year
    assert resets_at("cost-per-month", now) == new_year
    assert resets_at("cost-per-day-total", now) == new_year
    assert resets_at("cost-per-run", now) is None
