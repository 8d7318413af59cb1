"""Request and answer shapes of our own routes: strict, closed, and in the OpenAPI page."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Header
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from chatkeep.errors import Invalid

_MESSAGE_AT_MOST = 200_000
_MEMBERS_AT_MOST = 100


def _one_line(text: str) -> str:
    """Refuse line ends and other control characters, which would break whatever shows it."""
    if any(ord(character) < ord(" ") or character in "\x7f\u2028\u2029" for character in text):
        raise ValueError("must not contain control characters")
    return text


def _storable(text: str) -> str:
    """Refuse the one character that PostgreSQL cannot store."""
    if "\x00" in text:
        raise ValueError("must not contain the character NUL")
    return text


def _something(text: str) -> str:
    """Refuse what nobody could answer, or PostgreSQL store."""
    if not text.strip():
        raise ValueError("must have some text")
    return _storable(text)


def _is_storable(text: str) -> bool:
    """Whether PostgreSQL can store it: no NUL, no half of a surrogate pair."""
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


Line = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_one_line),
]
AnyId = Annotated[str, Field(max_length=200), AfterValidator(_storable)]
LongText = Annotated[str, Field(max_length=20_000), AfterValidator(_storable)]
MessageText = Annotated[
    str, Field(min_length=1, max_length=_MESSAGE_AT_MOST), AfterValidator(_something)
]
ConversationId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
MessageId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
MaxTokens = Annotated[int, Field(ge=1, le=1_000_000)]
IdempotencyKey = Annotated[
    str | None,
    Header(max_length=200, description="The same key again: the same request, done once."),
]
ModelId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}$")]


class Request(BaseModel):
    """A body: nothing but the named members, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few_members(cls, sent: object) -> object:
        """Refuse in one go what has thousands of members: each would be an error of its own."""
        if isinstance(sent, dict) and len(sent) > _MEMBERS_AT_MOST:
            raise ValueError("has too many members")
        return sent


class Overrides(Request):
    """How to make this one answer; beyond the operator's policy it is a 422."""

    model: ModelId | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_tokens: MaxTokens | None = None
    system_prompt: LongText | None = None

    def wishes(self) -> dict[str, Any]:
        """Return the overrides that were sent."""
        sent = self.model_dump(include=set(Overrides.model_fields))
        return {field: value for field, value in sent.items() if value is not None}


class StartRequest(Request):
    """Nothing is needed to start a conversation."""


class SendRequest(Overrides):
    """One message to a conversation."""

    conversation_id: AnyId
    message: MessageText
    client_message_id: MessageId | None = None
    when_busy: Annotated[
        Literal["refuse", "queue"],
        Field(description="While the conversation is being answered: refuse, or wait."),
    ] = "refuse"


class UiMessage(BaseModel):
    """A message as the AI SDK holds it; only its role, id and text parts are believed."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    id: MessageId | None = None
    role: Literal["system", "user", "assistant"]
    parts: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=1000)]

    @property
    def text(self) -> str:
        """The visible text of all parts."""
        texts = (part.get("text") for part in self.parts if part.get("type") == "text")
        return "\n\n".join(text for text in texts if isinstance(text, str))

    @property
    def files(self) -> list[dict[str, Any]]:
        """The parts that are files."""
        return [part for part in self.parts if part.get("type") == "file"]

    def question(self) -> str:
        """The text, where it is something to answer.

        Raises:
            Invalid: it is not: no user's, empty and without files, too long, or not storable.
        """
        if self.role != "user":
            raise Invalid.of(
                "messages", "must end with one of the user: this server offers no tools"
            )
        text = self.text
        if not text.strip() and not self.files:
            raise Invalid.of("messages", "must end with some text")
        if len(text) > _MESSAGE_AT_MOST:
            raise Invalid.of("messages", "must not end with a text of more than 200,000 characters")
        if not _is_storable(text):
            raise Invalid.of("messages", "must not end with a character that cannot be stored")
        return text


class ChatRequest(Overrides):
    """What the AI SDK sends, plus overrides. `messages` or just the last as `message`."""

    id: ConversationId
    messages: Annotated[list[UiMessage], Field(min_length=1, max_length=2000)] | None = None
    message: UiMessage | None = None
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    when_busy: Annotated[
        Literal["stop", "queue"],
        Field(description="While the conversation is being answered: stop that, or wait."),
    ] = "stop"
    go_on: Annotated[
        bool,
        Field(alias="continue", description="Go on with the answer that was cut off."),
    ] = False
    messageId: MessageId | None = None  # noqa: N815 -- the AI SDK's spelling

    @property
    def history(self) -> list[UiMessage]:
        """Every message that was sent; the last is the one to act on."""
        return [*(self.messages or ()), *((self.message,) if self.message else ())]


class ChangeConversationRequest(Request):
    """Rename, or show the branch through another message."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    title: Line | None = None
    head_id: MessageId | None = None


class SettingsRequest(Request):
    """Any subset; null clears a field."""

    version: Annotated[int, Field(ge=0)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_tokens: MaxTokens | None = None
    system_prompt: LongText | None = None
    default_model: ModelId | None = None
    custom_instructions: LongText | None = None
    display_name: Line | None = None
    theme: Literal["system", "light", "dark"] | None = None
    locale: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] | None = None


class Usage(BaseModel):
    """What an answer cost, as its provider counts it."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: float | None = None


class StartAnswer(BaseModel):
    """A new conversation and its first message."""

    conversation_id: str
    message: str


class SendAnswer(BaseModel):
    """The whole answer to a message."""

    conversation_id: str
    message: str
    message_id: str
    user_message_id: str
    run_id: str
    model: str
    usage: Usage | None
    status: Literal["done", "stopped", "failed", "interrupted"]


class ConversationAnswer(BaseModel):
    """One conversation in a list."""

    id: str
    title: str | None
    created_at: datetime
    updated_at: datetime


class ConversationsAnswer(BaseModel):
    """A page of the caller's conversations, newest first."""

    user_id: str
    conversations: list[ConversationAnswer]
    next_cursor: str | None


class MessageError(BaseModel):
    """Why an answer failed."""

    code: str
    message: str


class MessageAnswer(BaseModel):
    """One message of a conversation."""

    id: str
    role: Literal["system", "user", "assistant"]
    content: str
    created_at: datetime
    parts: list[dict[str, Any]]
    parent_id: str | None
    client_id: str | None
    status: Literal["queued", "running", "done", "stopped", "failed", "interrupted"]
    model: str | None
    run_id: str | None
    error: MessageError | None
    siblings: list[str]


class PageAnswer(BaseModel):
    """A conversation with a page of its messages, oldest first."""

    conversation_id: str
    title: str | None
    created_at: datetime
    updated_at: datetime
    active_run: str | None
    next_cursor: str | None
    messages: list[MessageAnswer]


class StopAnswer(BaseModel):
    """Which answer was stopped, if one was being made."""

    stopped: str | None


class ModelAnswer(BaseModel):
    """A model that can be chosen."""

    id: str
    name: str


class ModelsAnswer(BaseModel):
    """The models that can be chosen."""

    default: str
    models: list[ModelAnswer]


class EffectiveAnswer(BaseModel):
    """What an answer without overrides is made with now."""

    model: str
    temperature: float | None
    top_p: float | None
    max_tokens: int | None


class PolicyAnswer(BaseModel):
    """What the operator allows. `models` empty: any."""

    models: list[str]
    locked: list[str]
    temperature: dict[str, float]
    top_p: dict[str, float]
    max_tokens: dict[str, float]


class SettingsAnswer(BaseModel):
    """A person's settings; null is "no wish"."""

    version: int
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    system_prompt: str | None
    default_model: str | None
    custom_instructions: str | None
    display_name: str | None
    theme: Literal["system", "light", "dark"] | None
    locale: str | None
    effective: EffectiveAnswer
    policy: PolicyAnswer


class ProviderAnswer(BaseModel):
    """A provider to sign in with: what it is called, and what people are shown."""

    id: str
    title: str


class ConfigAnswer(BaseModel):
    """What a client needs before anybody signs in."""

    name: str
    version: str
    publishable_key: str
    signup: bool
    providers: list[ProviderAnswer]
    mail: bool
    passkeys: bool
    anonymous_chat: bool
    environment: Literal["development", "production"]


class HealthAnswer(BaseModel):
    """Alive, or ready. *upstreams* says how each provider of models fares."""

    status: Literal["ok"]
    upstreams: dict[str, Literal["up", "down", "trying"]] | None = None


class OutboxMail(BaseModel):
    """Mail that would have been sent: what it says, and what it lets its reader do."""

    id: int
    queued_at: datetime
    kind: str
    to: str
    subject: str
    link: str | None
    code: str | None
    text: str
    html: str


class OutboxAnswer(BaseModel):
    """The newest mails of development's outbox, newest first."""

    mails: list[OutboxMail]


Reason = Literal["expired", "not_active", "revoked", "wrong_audience", "no_expiry", "invalid"]


class ExpiryAnswer(BaseModel):
    """When a token ends. Seconds since 1970; null where the token does not verify."""

    expired: bool
    expires_at: int | None
    expires_in: int | None
    needs_refresh: bool


class ValidityAnswer(ExpiryAnswer):
    """Whether a token is valid, or why not."""

    valid: bool
    reason: Reason | None = None
    user_id: str | None = None
    issuer: str | None = None
    issued_at: int | None = None


class PersonAnswer(BaseModel):
    """Who the caller is."""

    id: str
    email: str | None
    name: str | None
    picture: str | None
    email_verified: bool
    issuer: str
    session_id: str | None
