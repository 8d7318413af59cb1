"""What a conversation and a message are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from chatkeep.runs import State

if TYPE_CHECKING:
    from datetime import datetime

Role = Literal["system", "user", "assistant"]
#: A message of a person, or one that was written in, is `done`.
Status = State


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One conversation of the caller. *active_run* is the answer being made right now."""

    id: str
    title: str | None
    created_at: datetime
    updated_at: datetime
    active_run: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. *parts* is None when it is plain text and nothing else.

    *finish_reason* is why the model ended an answer (`events.FinishReason`), where it did.
    """

    id: str
    parent_id: str | None
    role: Role
    content: str
    parts: list[dict[str, Any]] | None
    client_id: str | None
    created_at: datetime
    run_id: str | None
    status: Status
    model: str | None
    error_code: str | None
    finish_reason: str | None
    siblings: list[str]
