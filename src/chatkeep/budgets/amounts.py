"""What can be limited, what a model costs, and how much a prompt is before anybody counts it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from chatkeep.errors import BudgetExhausted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chatkeep.config import Settings
    from chatkeep.llm.model import ModelSettings, Prompt, Tool

NO_LIMIT: Final = Decimal("Infinity")
#: What an answer is taken for beforehand when nobody limits its length.
ASSUMED_OUTPUT_TOKENS: Final = 1000
#: Bytes of UTF-8 in a token, at the low end of what tokenizers make of prose. The statement
#: of `ledger.charging` has it too.
BYTES_IN_A_TOKEN: Final = 3
#: What the frame of a message takes, and what a picture is taken for.
_TOKENS_A_MESSAGE: Final = 4
_TOKENS_A_FILE: Final = 1000

#: The constraint that refuses a charge: the budget's name.
BUDGETS: Final = {
    "budget_tokens_per_day": "tokens-per-day",
    "budget_cost_per_day": "cost-per-day",
    "budget_tokens_per_month": "tokens-per-month",
    "budget_cost_per_month": "cost-per-month",
    "budget_tokens_per_run": "tokens-per-run",
    "budget_cost_per_run": "cost-per-run",
    "budget_cost_per_day_total": "cost-per-day-total",
}
_OF_WHAT: Final = {
    "tokens-per-day": "Your tokens for today are used up",
    "cost-per-day": "Your budget for today is used up",
    "tokens-per-month": "Your tokens for this month are used up",
    "cost-per-month": "Your budget for this month is used up",
    "tokens-per-run": "This answer needs more tokens than one answer may use",
    "cost-per-run": "This answer costs more than one answer may",
    "cost-per-day-total": "This server's budget for today is used up",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one person may use; `NO_LIMIT` where nobody says. Money in US dollars."""

    tokens_per_day: Decimal = NO_LIMIT
    tokens_per_month: Decimal = NO_LIMIT
    tokens_per_run: Decimal = NO_LIMIT
    cost_per_day: Decimal = NO_LIMIT
    cost_per_month: Decimal = NO_LIMIT
    cost_per_run: Decimal = NO_LIMIT

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return what *settings* say for everybody."""
        return cls(
            tokens_per_day=_limit(settings.budget_tokens_per_day),
            tokens_per_month=_limit(settings.budget_tokens_per_month),
            tokens_per_run=_limit(settings.budget_tokens_per_run),
            cost_per_day=_limit(settings.budget_cost_per_day),
            cost_per_month=_limit(settings.budget_cost_per_month),
            cost_per_run=_limit(settings.budget_cost_per_run),
        )


#: What can be limited.
LIMITS: Final = tuple(one.name for one in fields(Limits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model costs, in US dollars for each token."""

    prompt: Decimal = Decimal(0)
    output: Decimal = Decimal(0)

    def of(self, prompt_tokens: int, output_tokens: int) -> Decimal:
        """Return what so many tokens cost."""
        return self.prompt * prompt_tokens + self.output * output_tokens


FREE: Final = Price()


def tokens_in(size: int) -> int:
    """Return how many tokens *size* bytes of UTF-8 are taken for: rather too many."""
    return math.ceil(size / BYTES_IN_A_TOKEN)


def tokens_of(prompt: Prompt) -> int:
    """Return how many tokens *prompt* is taken for."""
    texts = (one.text for one in prompt.messages)
    calls = (call.arguments for one in prompt.messages for call in one.calls)
    files = sum(len(one.images) + len(one.files) for one in prompt.messages)
    frames = _TOKENS_A_MESSAGE * len(prompt.messages) + _TOKENS_A_FILE * files
    size = _bytes_in(texts) + _bytes_in(calls) + forms_size(prompt.tools, prompt.settings)
    return tokens_in(size) + frames


def forms_size(tools: Iterable[Tool], settings: ModelSettings) -> int:
    """Return how many bytes of the prompt say what *tools* there are, and the answer's form."""
    forms = (settings.response_format, settings.tool_choice, settings.stop)
    return _bytes_in(str(one) for one in (*tools, *forms) if one)


def _bytes_in(texts: Iterable[str]) -> int:
    return sum(len(text.encode("utf-8", "replace")) for text in texts)


def resets_at(budget: str, now: datetime) -> datetime | None:
    """Return when *budget* begins anew (UTC); None for one that is of a single answer."""
    today = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    if "-per-day" in budget:
        return today + timedelta(days=1)
    if budget.endswith("-per-month"):
        return (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return None


def exhausted(budget: str, now: datetime) -> BudgetExhausted:
    """Return the refusal that names *budget* and says when it begins anew."""
    again = resets_at(budget, now)
    if again is None:
        return BudgetExhausted(f"{_OF_WHAT[budget]}.", budget=budget, resets_at=None)
    return BudgetExhausted(
        f"{_OF_WHAT[budget]}, or what is left of it is too little for this question."
        f" It begins anew at {again:%Y-%m-%d %H:%M} UTC.",
        retry_after_s=math.ceil((again - now).total_seconds()),
        budget=budget,
        resets_at=again.isoformat().replace("+00:00", "Z"),
    )


def _limit(value: Decimal | int | None) -> Decimal:
    return NO_LIMIT if value is None else Decimal(value)
