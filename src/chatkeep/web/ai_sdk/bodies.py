"""What the AI SDK sends: its messages, and what is to become of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from chatkeep.conversations import Role
from chatkeep.errors import Invalid
from chatkeep.web.schemas import MESSAGE_AT_MOST, ConversationId, MessageId, Overrides, is_storable


class UiMessage(BaseModel):
    """A message as the AI SDK holds it; only its role, id and text parts are believed."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    id: MessageId | None = None
    role: Role
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
            raise Invalid.of("messages", "must end with one of the user")
        text = self.text
        if not text.strip() and not self.files:
            raise Invalid.of("messages", "must end with some text")
        if len(text) > MESSAGE_AT_MOST:
            raise Invalid.of(
                "messages", f"must not end with a text of more than {MESSAGE_AT_MOST:,} characters"
            )
        if not is_storable(text):
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
