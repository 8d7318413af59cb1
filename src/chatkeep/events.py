"""What can happen while an answer is made: closed unions, whoever the model is.

A model yields its events in order and ends with exactly one `Done`; a failure is an
exception of `errors`. Surfaces translate them; a new kind of event must break the type
check in every surface (`assert_never`), not production.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal
from urllib.parse import urlsplit

FinishReason = Literal["stop", "length", "content-filter", "tool-calls", "error", "other"]
#: What a model can have been given, or have said, for one question; many of them add up in 31 bits.
TOKENS_AT_MOST: Final = 100_000_000
#: In dollars, for one question.
COST_BELOW: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """More visible text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningDelta:
    """More of the model's reasoning, shown folded and never sent back as text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """The model asks for a tool; *arguments* is the JSON text it wrote, unchecked."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the answer cost, as the provider counts it; *cost* in US dollars if it says so.

    Of the prompt the *cached_tokens* were read before, and of what came the *reasoning_tokens*
    were thought.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def is_plausible(self) -> bool:
        """Whether one question to a model can have cost that, and it can be booked."""
        counts = (
            self.prompt_tokens,
            self.completion_tokens,
            self.cached_tokens,
            self.reasoning_tokens,
        )
        has_cost = self.cost is None or (self.cost.is_finite() and 0 <= self.cost < COST_BELOW)
        return has_cost and all(0 <= count <= TOKENS_AT_MOST for count in counts)

    def __add__(self, other: Usage) -> Usage:
        """Return what both cost; who does not say a cost adds nothing to one that was said."""
        costs = [usage.cost for usage in (self, other) if usage.cost is not None]
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cost=sum(costs, start=Decimal(0)) if costs else None,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


NO_USAGE: Final = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The model ended its answer. *model* is the one that really answered, if it says so."""

    finish_reason: FinishReason
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """Before anything else: *model* of *upstream* answers, in place of the name that was asked."""

    model: str
    upstream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a tool said: *output* as JSON can hold it, or in *error* why it said nothing.

    *denied*: the person did not let it run.
    """

    call_id: str
    output: Any = None
    error: str | None = None
    denied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAsked:
    """A tool waits for the person to say whether it may run."""

    call_id: str
    approval_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where something in the answer comes from.

    One whose *url* is no `is_web_address` is shown to nobody.
    """

    source_id: str
    url: str
    title: str | None = None


def is_web_address(url: str) -> bool:
    """Whether *url* leads to a page: clients make links of it, and a link can be a program."""
    try:
        return urlsplit(url).scheme in {"http", "https"}
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """The model is asked again, with what the tools said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """So many more bytes were said that readers do not see; fewer, when *size* is negative.

    They have been made, so they are charged.
    """

    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """Where a responder stands that waits for the person: `Asked.paused` when it goes on.

    *state* is its own affair, is kept with the run, and is shown to nobody.
    """

    state: str


ModelEvent = TextDelta | ReasoningDelta | ToolCall | Usage | Done | Answering
#: What happens while an answer is made, of which the model may be only a part.
ReplyEvent = ModelEvent | ToolResult | ApprovalAsked | Source | NextStep | Withheld | Paused
