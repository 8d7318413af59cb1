"""What an answer cost: added up over its questions to the model, and shown to people."""

from __future__ import annotations

from decimal import Decimal

import pytest

from chatkeep.events import Usage
from chatkeep.runs import Ending
from chatkeep.web.usage import usage_json


def test_several_questions_to_the_model_add_up() -> None:
    """An answer with tools costs what all its steps cost."""
    first = Usage(prompt_tokens=1, completion_tokens=2, cost=Decimal("0.1"), cached_tokens=4)
    second = Usage(prompt_tokens=8, completion_tokens=16, cost=Decimal("0.2"), reasoning_tokens=32)
    assert first + second == Usage(
        prompt_tokens=9,
        completion_tokens=18,
        cost=Decimal("0.3"),
        cached_tokens=4,
        reasoning_tokens=32,
    )


def test_cost_that_nobody_said_is_not_nothing() -> None:
    """A cost is unknown where no step has one, and else the sum of those that do."""
    silent = Usage(prompt_tokens=1)
    assert (silent + silent).cost is None
    assert (silent + Usage(cost=Decimal(0))).cost == Decimal(0)
    assert (Usage(cost=Decimal("0.5")) + silent).cost == Decimal("0.5")


@pytest.mark.parametrize(
    ("usage", "holds"),
    [
        (Usage(), True),
        (Usage(prompt_tokens=100_000_000, cost=Decimal("999999.99")), True),
        (Usage(prompt_tokens=3_000_000_000), False),
        (Usage(completion_tokens=-1), False),
        (Usage(cached_tokens=2**31), False),
        (Usage(reasoning_tokens=-1), False),
        (Usage(cost=Decimal(1_000_000)), False),
        (Usage(cost=Decimal("-0.1")), False),
        (Usage(cost=Decimal("nan")), False),
        (Usage(cost=Decimal("inf")), False),
    ],
)
def test_what_no_question_can_have_cost_is_known(usage: Usage, *, holds: bool) -> None:
    """Whoever answers, a provider or an application: it could not be booked, or be a credit."""
    assert usage.is_plausible is holds


@pytest.mark.parametrize(
    ("ending", "shown"),
    [
        (Ending(state="done"), None),
        (Ending(state="done", cost=Decimal(1)), None),
        (
            Ending(state="done", prompt_tokens=3),
            {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3},
        ),
        (
            Ending(state="done", prompt_tokens=3, completion_tokens=4, cost=Decimal("0.5")),
            {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "cost": 0.5},
        ),
    ],
)
def test_usage_is_shown_where_it_was_counted(
    ending: Ending, shown: dict[str, object] | None
) -> None:
    """What the provider did not say is not made up."""
    assert usage_json(ending) == shown
