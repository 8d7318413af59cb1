"""Forking a conversation at a message."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from chatkeep import forking
from chatkeep.web import rest_answers
from chatkeep.web.auth import SignedInOnRest
from chatkeep.web.problems import described
from chatkeep.web.schemas import ConversationAnswer, IdempotencyKey, MessageId, Request
from chatkeep.web.services import Parts

router = APIRouter(prefix="/api/v1/chat", tags=["conversations"], responses=described(403, 409))


class ForkRequest(Request):
    """Where the copy ends."""

    message_id: MessageId | None = None


@router.post("/{conversation_id}/fork")
async def fork(
    conversation_id: Annotated[
        str, Path(max_length=200, description="A conversation of the caller.")
    ],
    who: SignedInOnRest,
    parts: Parts,
    body: ForkRequest | None = None,
    idempotency_key: IdempotencyKey = None,
) -> ConversationAnswer:
    """Copy a branch into a new conversation, which goes on by itself."""
    made = await forking.fork(
        parts.db,
        who.user_id,
        conversation_id,
        message_id=body.message_id if body else None,
        key=idempotency_key,
    )
    return ConversationAnswer(**rest_answers.conversation_json(made))
