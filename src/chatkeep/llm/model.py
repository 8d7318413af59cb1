"""What Chatkeep asks of a model: one protocol, whoever answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from chatkeep.events import ModelEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMessage:
    """One message of the history that the model is given."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """How to answer. None means: leave it out of the request, the provider decides."""

    model: str
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Everything a model needs for one answer.

    *user_key* is a pseudonym of the person (never an id or address); *conversation_id*
    lets the provider route the turns of one conversation to the same cache.
    """

    messages: Sequence[PromptMessage]
    settings: ModelSettings
    user_key: str | None = None
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model that can be chosen."""

    id: str
    name: str


class Model(Protocol):
    """Something that answers."""

    @property
    def name(self) -> str:
        """Say which provider or built-in answers, for people."""

    def stream(self, prompt: Prompt) -> AsyncIterator[ModelEvent]:
        """Answer *prompt*: deltas, then usage if known, then exactly one `Done`.

        Closing the iterator (or cancelling its task) closes the upstream connection at
        once. Raises the `Model...` errors of `errors`, before or after the first event.
        """

    async def list_models(self) -> Sequence[ModelInfo]:
        """List what can be chosen; may be empty when the provider has no list."""

    async def aclose(self) -> None:
        """Release connections."""
