"""What Chatkeep asks of a model: one protocol, whoever answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from decimal import Decimal

    from chatkeep.events import ModelEvent, ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFile:
    """A file that goes with a user's text; *url* is a `data:` address."""

    name: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMessage:
    """One message of the history that the model is given.

    *images* are addresses, `data:` ones among them, that go with a user's text; *files* are
    what is neither an image nor text, for models that read such. *calls* are
    the tools that an assistant asked for; *call_id* says which of them a message of the role
    "tool" answers with its text.
    """

    role: Literal["system", "user", "assistant", "tool"]
    text: str
    images: tuple[str, ...] = ()
    files: tuple[PromptFile, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may ask for; *parameters* is a JSON Schema."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """How to answer. None means: leave it out of the request, the provider decides.

    *response_format* and *tool_choice* are as in the chat-completions API.
    """

    model: str
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    reasoning_effort: str | None = None
    response_format: Mapping[str, Any] | None = None
    tool_choice: str | Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Everything a model needs for one answer.

    *tools* are what it may ask for. *user_key* is a pseudonym of the person (never an id or
    address); *conversation_id* lets the provider route the turns of one conversation to the
    same cache.
    """

    messages: Sequence[PromptMessage]
    settings: ModelSettings
    tools: Sequence[Tool] = ()
    user_key: str | None = None
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model that can be chosen; prices in US dollars a token, where its provider says them."""

    id: str
    name: str
    prompt_price: Decimal | None = None
    output_price: Decimal | None = None


class Model(Protocol):
    """Something that answers."""

    @property
    def name(self) -> str:
        """Say which provider or built-in answers, for people."""

    def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent, None]:
        """Answer *prompt*: deltas, then usage if known, then exactly one `Done`.

        Closing the iterator (or cancelling its task) closes the upstream connection at
        once. Raises the `Model...` errors of `errors`, before or after the first event.
        """

    async def list_models(self) -> Sequence[ModelInfo]:
        """List what can be chosen; may be empty when the provider has no list."""

    async def aclose(self) -> None:
        """Release connections."""
