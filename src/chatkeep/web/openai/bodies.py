"""What clients of the OpenAI API send: read strictly where it matters.

Members that we do not know are ignored, as OpenAI's clients send more with every version;
none of them can name a provider, an address or a key.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from chatkeep.errors import Invalid
from chatkeep.events import ToolCall
from chatkeep.llm.model import PromptMessage, Tool
from chatkeep.web.schemas import MaxTokens, ModelId, Temperature, TopP, is_storable

#: The member of `metadata` that names a conversation.
CONVERSATION_ID = "conversation_id"
_TEXT_AT_MOST = 1_000_000
_DEPTH_AT_MOST = 64
_IMAGE_SCHEMES = ("https://", "data:image/")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=_TEXT_AT_MOST)]
StopText = Annotated[str, Field(min_length=1, max_length=256)]


def storable(text: str) -> str:
    """Refuse the one character that PostgreSQL cannot store, and halves of others."""
    if not is_storable(text):
        raise ValueError("must not have a character that cannot be stored")
    return text


def not_too_deep(sent: Any) -> Any:  # noqa: ANN401 -- JSON can be anything
    """Refuse what is nested deeper than anybody means it, and than programs can follow."""
    level = [sent]
    for _ in range(_DEPTH_AT_MOST):
        inner = [one.values() if isinstance(one, dict) else one for one in level]
        level = [one for some in inner for one in some if isinstance(one, dict | list)]
        if not level:
            return sent
    raise ValueError(f"must not be nested more than {_DEPTH_AT_MOST} deep")


def _nothing(sent: object) -> None:
    if sent is not None:
        raise ValueError("is not supported by this server")


def _not_asked(sent: bool) -> bool:  # noqa: FBT001 -- pydantic hands it over so
    if sent:
        raise ValueError("is not supported by this server")
    return sent


#: What is said in JSON of any kind: a schema, or how an answer is to be formed.
AnyForm = Annotated[dict[str, Any], AfterValidator(not_too_deep)]
#: A member of the API that does nothing here, and must not be taken for done.
Unsupported = Annotated[None, BeforeValidator(_nothing, json_schema_input_type=None)]
_Key = Annotated[str, Field(max_length=64), AfterValidator(storable)]
_Value = Annotated[str, Field(max_length=512), AfterValidator(storable)]
Metadata = Annotated[dict[_Key, _Value], Field(max_length=16)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


def address_of_an_image(url: str) -> str:
    """Refuse an address that no provider should be sent to."""
    if not url.startswith(_IMAGE_SCHEMES):
        raise ValueError("must be an https address or a data: URL of an image")
    return url


class ImageUrl(_Body):
    """Where an image is; it is the provider that looks at it."""

    url: Annotated[str, Field(max_length=_TEXT_AT_MOST), AfterValidator(address_of_an_image)]


class ContentPart(_Body):
    """A part of a message: text, or an image."""

    type: Literal["text", "image_url"]
    text: Text | None = None
    image_url: ImageUrl | None = None


class CalledFunction(_Body):
    """What a model asked for; *arguments* is the JSON text that it wrote."""

    name: Name
    arguments: Text


class SentToolCall(_Body):
    """A tool that an earlier answer asked for."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    type: Literal["function"] = "function"
    function: CalledFunction


class SentMessage(_Body):
    """One message of the conversation that the client keeps."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[ContentPart], Field(max_length=1000)] | None = None
    tool_calls: Annotated[list[SentToolCall], Field(max_length=128)] | None = None
    tool_call_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None

    @property
    def text(self) -> str:
        """Everything that it says in words."""
        if isinstance(self.content, str):
            return self.content
        parts = self.content or ()
        return "\n\n".join(part.text for part in parts if part.type == "text" and part.text)

    def as_prompt(self) -> PromptMessage:
        """Return the message as a model is given it.

        Raises:
            Invalid: a member is there that its role does not have, or one is missing.
        """
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise Invalid.of("messages", "tool_call_id belongs to the role tool, and only there")
        images = () if isinstance(self.content, str) else self._images()
        if images and self.role != "user":
            raise Invalid.of("messages", "only a user's message may have images")
        return PromptMessage(
            role="system" if self.role == "developer" else self.role,
            text=self.text,
            images=images,
            calls=self._calls(),
            call_id=self.tool_call_id,
        )

    def _images(self) -> tuple[str, ...]:
        parts = self.content if isinstance(self.content, list) else ()
        return tuple(part.image_url.url for part in parts if part.image_url is not None)

    def _calls(self) -> tuple[ToolCall, ...]:
        if self.tool_calls and self.role != "assistant":
            raise Invalid.of("messages", "only an assistant's message may have tool_calls")
        return tuple(
            ToolCall(call_id=one.id, name=one.function.name, arguments=one.function.arguments)
            for one in self.tool_calls or ()
        )


class OfferedFunction(_Body):
    """A function of the client's that the model may ask for."""

    name: Name
    description: Annotated[str, Field(max_length=20_000)] | None = None
    parameters: AnyForm | None = None
    strict: bool | None = None


class OfferedTool(_Body):
    """A tool that the client runs itself."""

    type: Literal["function"]
    function: OfferedFunction

    def as_tool(self) -> Tool:
        """Return the tool as a model is offered it."""
        one = self.function
        return Tool(
            name=one.name,
            description=one.description,
            parameters=one.parameters or {},
            strict=one.strict,
        )


class StreamOptions(_Body):
    """What a stream should have beside the answer."""

    include_usage: bool | None = None


class ChatCompletionRequest(_Body):
    """`POST /v1/chat/completions`."""

    model: ModelId
    messages: Annotated[list[SentMessage], Field(min_length=1, max_length=2000)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    n: Annotated[int, Field(ge=1, le=1, description="One answer at a time.")] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    reasoning_effort: Annotated[str, Field(pattern=r"^[a-z]{1,20}$")] | None = None
    response_format: AnyForm | None = None
    tools: Annotated[list[OfferedTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | AnyForm | None = None
    parallel_tool_calls: bool | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    logprobs: Annotated[bool, AfterValidator(_not_asked)] | None = None
    audio: Unsupported = None
    function_call: Unsupported = None
    functions: Unsupported = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    moderation: Unsupported = None
    prediction: Unsupported = None
    top_logprobs: Unsupported = None
    web_search_options: Unsupported = None

    @property
    def conversation_id(self) -> str | None:
        """The conversation that a kept answer goes on in, as `metadata` names it."""
        return (self.metadata or {}).get(CONVERSATION_ID)

    @property
    def wants_usage(self) -> bool:
        """Whether the stream ends with what the answer cost."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def instructs(self) -> bool:
        """Whether it says itself how the model should behave."""
        return any(one.role in {"system", "developer"} for one in self.messages)

    def wishes(self) -> dict[str, Any]:
        """Return what it asks of the operator's policy."""
        found = {
            "model": self.model,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_completion_tokens or self.max_tokens,
        }
        return {name: value for name, value in found.items() if value is not None}
