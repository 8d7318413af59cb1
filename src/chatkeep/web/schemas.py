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

from chatkeep.config.upstreams import MODEL_ID
from chatkeep.conversations import Role, Status

MESSAGE_AT_MOST = 200_000
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


def is_storable(text: str) -> bool:
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
    str, Field(min_length=1, max_length=MESSAGE_AT_MOST), AfterValidator(_something)
]
ConversationId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
MessageId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
MaxTokens = Annotated[int, Field(ge=1, le=1_000_000)]
IdempotencyKey = Annotated[
    str,
    Header(max_length=200, description="The same key again: the same request, done once."),
]
ModelId = Annotated[str, Field(pattern=f"^{MODEL_ID.pattern}$")]


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


class ReasonRequest(Request):
    """Why, for the log."""

    reason: Line | None = None


class EndedAnswer(BaseModel):
    """How many sessions were ended."""

    revoked: int


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


class ChangeConversationRequest(Request):
    """Rename, or show the branch through another message."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    title: Line | None = None
    head_id: MessageId | None = None


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
    finish_reason: str | None


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
    role: Role
    content: str
    created_at: datetime
    parts: list[dict[str, Any]]
    parent_id: str | None
    client_id: str | None
    status: Status
    model: str | None
    run_id: str | None
    error: MessageError | None
    finish_reason: str | None
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


class HealthAnswer(BaseModel):
    """Alive, or ready. *upstreams* says how each provider of models fares."""

    status: Literal["ok"]
    upstreams: dict[str, Literal["up", "down", "trying"]] | None = None


class PersonAnswer(BaseModel):
    """Who the caller is."""

    id: str
    email: str | None
    name: str | None
    picture: str | None
    email_verified: bool
    issuer: str
    session_id: str | None
