"""What clients send to `/v1/responses` and `/v1/conversations`.

Whatever is asked for and cannot be had is refused by its name, so that no client believes
that it was done.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from chatkeep.errors import Invalid
from chatkeep.llm.model import Tool
from chatkeep.web.openai.bodies import AnyForm, Metadata, Name, Unsupported, storable
from chatkeep.web.openai.inputs import InputItem, StoredText
from chatkeep.web.schemas import MaxTokens, ModelId, Request, Temperature, TopP

_PREFIXED: Final = 300


#: A hint to the provider's accounts and caches, for which this server sends its own.
Hint = Annotated[str, Field(max_length=512)] | None
AnyId = Annotated[str, Field(max_length=_PREFIXED)]
Items = Annotated[list[InputItem], Field(max_length=2000)]


class FunctionTool(Request):
    """A function that the client runs itself."""

    type: Literal["function"]
    name: Name
    description: Annotated[str, Field(max_length=20_000), AfterValidator(storable)] | None = None
    parameters: AnyForm | None = None
    strict: bool | None = None
    defer_loading: Unsupported = None
    allowed_callers: Unsupported = None
    output_schema: Unsupported = None

    def as_tool(self) -> Tool:
        """Return the tool as a model is offered it."""
        return Tool(
            name=self.name,
            description=self.description,
            parameters=self.parameters or {},
            strict=self.strict,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the tool as a response shows it."""
        shown = self.model_dump(include={"type", "name", "description", "parameters", "strict"})
        return {**shown, "strict": self.strict is not False}


class ChosenFunction(Request):
    """The one function that is to be called."""

    type: Literal["function"]
    name: Name


class Reasoning(Request):
    """How long to think; what comes of it is always shown in full."""

    effort: Annotated[str, Field(pattern=r"^[a-z]{1,20}$")] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Unsupported = None
    mode: Unsupported = None


class TextFormat(Request):
    """In which form the answer is wanted."""

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    description: Annotated[str, Field(max_length=20_000), AfterValidator(storable)] | None = None
    schema_: Annotated[AnyForm | None, Field(alias="schema")] = None
    strict: bool | None = None

    def as_response_format(self) -> dict[str, Any] | None:
        """Return it as chat completions have it."""
        if self.type != "json_schema":
            return None if self.type == "text" else {"type": self.type}
        if self.schema_ is None or self.name is None:
            raise Invalid.of("text.format", "must have a name and a schema")
        named: dict[str, Any] = {"name": self.name, "schema": self.schema_}
        more = {"description": self.description, "strict": self.strict}
        named |= {key: value for key, value in more.items() if value is not None}
        return {"type": "json_schema", "json_schema": named}


class TextConfig(Request):
    """What kind of text is wanted."""

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class NamedConversation(Request):
    """A conversation by its id."""

    id: AnyId


class ResponseStreamOptions(Request):
    """How to stream; nothing is obfuscated here."""

    include_obfuscation: bool | None = None


class ResponsesRequest(Request):
    """`POST /v1/responses`."""

    input: StoredText | Items | None = None
    model: ModelId | None = None
    instructions: Annotated[str, Field(max_length=20_000), AfterValidator(storable)] | None = None
    conversation: AnyId | NamedConversation | None = None
    previous_response_id: AnyId | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_output_tokens: MaxTokens | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenFunction | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    text: TextConfig | None = None
    metadata: Metadata | None = None
    include: (
        Annotated[
            list[Literal["reasoning.encrypted_content", "message.input_image.image_url"]],
            Field(max_length=20),
        ]
        | None
    ) = None
    truncation: Literal["disabled"] | None = None
    service_tier: Literal["auto", "default"] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=0)] | None = None
    user: Hint = None
    safety_identifier: Hint = None
    prompt_cache_key: Hint = None
    prompt_cache_retention: Hint = None
    access_programs: Unsupported = None
    context_management: Unsupported = None
    image: Unsupported = None
    max_tool_calls: Unsupported = None
    moderation: Unsupported = None
    prompt: Unsupported = None
    prompt_cache_options: Unsupported = None

    @property
    def keeps(self) -> bool:
        """Whether the answer is stored: unless the client says no."""
        return self.store is not False

    @property
    def conversation_id(self) -> str | None:
        """The conversation that it names."""
        named = self.conversation
        return named.id if isinstance(named, NamedConversation) else named

    def wishes(self) -> dict[str, Any]:
        """Return what it asks of the operator's policy."""
        found = {
            "model": self.model,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_output_tokens,
            "system_prompt": self.instructions,
        }
        return {name: value for name, value in found.items() if value is not None}

    def more_settings(self) -> dict[str, Any]:
        """Return the settings that no policy limits."""
        choice = self.tool_choice
        if isinstance(choice, ChosenFunction):
            chosen: Any = {"type": "function", "function": {"name": choice.name}}
        else:
            chosen = choice
        text_format = self.text.format if self.text else None
        return {
            "reasoning_effort": self.reasoning.effort if self.reasoning else None,
            "response_format": text_format.as_response_format() if text_format else None,
            "tool_choice": chosen,
            "parallel_tool_calls": self.parallel_tool_calls,
        }

    def noted(self) -> dict[str, Any]:
        """Return what the response says of its request, from now on."""
        choice = self.tool_choice
        return {
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": self.metadata or {},
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": self.previous_response_id,
            "reasoning": {
                "effort": self.reasoning.effort if self.reasoning else None,
                "summary": self.reasoning.summary if self.reasoning else None,
            },
            "temperature": self.temperature,
            "text": _text_json(self.text),
            "tool_choice": choice.model_dump() if isinstance(choice, ChosenFunction) else choice,
            "tools": [one.as_json() for one in self.tools or ()],
            "top_p": self.top_p,
            "background": bool(self.background),
        }


class ConversationRequest(Request):
    """`POST /v1/conversations`."""

    items: Annotated[list[InputItem], Field(max_length=20)] | None = None
    metadata: Metadata | None = None


class ConversationChange(Request):
    """`POST /v1/conversations/{conversation_id}`: other notes in place of those before."""

    metadata: Metadata | None


class NewItems(Request):
    """`POST /v1/conversations/{conversation_id}/items`."""

    items: Annotated[list[InputItem], Field(min_length=1, max_length=20)]


def _text_json(config: TextConfig | None) -> dict[str, Any]:
    wanted = config.format if config else None
    if wanted is None:
        return {"format": {"type": "text"}}
    shown = wanted.model_dump(by_alias=True, exclude_none=True)
    return {"format": shown}
