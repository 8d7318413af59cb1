"""Forking a conversation at a message."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from chatkeep.conversations import forking
from chatkeep.web import rest_answers
from chatkeep.web.auth import SignedInOnRest
from chatkeep.web.once import Once
from chatkeep.web.problems import described
from chatkeep.web.schemas import ConversationAnswer, MessageId, Request
from chatkeep.web.services import ServicesDep

router = APIRouter(
    prefix="/api/v1/chat", tags=["conversations"], responses=described(403, 409, 422)
)


class ForkRequest(Request):
    """Where the copy ends."""

    message_id: MessageId | None = None


@router.post("/{conversation_id}/fork", response_model=ConversationAnswer)
async def fork(
    conversation_id: Annotated[
        str, Path(max_length=200, description="A conversation of the caller.")
    ],
    who: SignedInOnRest,
    services: ServicesDep,
    once: Once,
    body: ForkRequest | None = None,
) -> ConversationAnswer | Response:
    """Copy a branch into a new conversation, which goes on by itself."""

    async def make(fork_id: str) -> ConversationAnswer:
        await services.limits.spend("import", who.user_id)
        made = await forking.fork(
            services.db,
            who.user_id,
            conversation_id,
            message_id=body.message_id if body else None,
            fork_id=fork_id,
        )
        return ConversationAnswer(**rest_answers.conversation_json(made))

    return await once.answer(who, make)
