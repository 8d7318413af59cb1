"""What can happen while a model answers: one closed union, whoever the model is.

A model yields these in order and ends with exactly one `Done`; a failure is an
exception of `errors`. Surfaces translate them; a new kind of event must break the type
check in every surface (`assert_never`), not production.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from decimal import Decimal

FinishReason = Literal["stop", "length", "content-filter", "tool-calls", "error", "other"]


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
    """What the answer cost, as the provider counts it; *cost* in US dollars if it says so."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The model ended its answer. *model* is the one that really answered, if it says so."""

    finish_reason: FinishReason
    model: str | None = None


ModelEvent = TextDelta | ReasoningDelta | ToolCall | Usage | Done
