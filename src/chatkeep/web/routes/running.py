"""Answers of a conversation while they are made: going on with one, and those that wait."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from chatkeep import conversations
from chatkeep.answering import waiting
from chatkeep.errors import NotFound, NotYourConversation
from chatkeep.web import rest_answers
from chatkeep.web.auth import SignedInOnRest
from chatkeep.web.continuing import continued
from chatkeep.web.once import Once
from chatkeep.web.problems import described
from chatkeep.web.schemas import MessageId, Overrides, SendAnswer
from chatkeep.web.services import ServicesDep

router = APIRouter(prefix="/api/v1/chat", tags=["conversations"], responses=described(403))

AnyId = Annotated[str, Path(max_length=200, description="A conversation of the caller.")]
RunId = Annotated[str, Path(max_length=200, description="An answer that waits.")]


class ContinueRequest(Overrides):
    """Which answer goes on, if not the one that is shown last, and how."""

    message_id: MessageId | None = None


class WaitingAnswer(BaseModel):
    """A question that waits to be answered; the first has place 1."""

    run_id: str
    message_id: str
    user_message_id: str
    place: int


class QueueAnswer(BaseModel):
    """What is being answered, and what waits behind it."""

    conversation_id: str
    active_run: str | None
    waiting: list[WaitingAnswer]


@router.post(
    "/{conversation_id}/continue",
    response_model=SendAnswer,
    responses={
        200: {
            "description": "The answer, whole or as events.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **described(409, 422, 429, 502, 504),
    },
)
async def go_on(
    request: Request,
    conversation_id: AnyId,
    who: SignedInOnRest,
    services: ServicesDep,
    once: Once,
    body: ContinueRequest | None = None,
) -> Response:
    """Go on with the last answer where it was stopped or interrupted, or its length limit ended it.

    What is said now is joined to what is kept, in the same message. The answer is given from
    its start.
    """
    marked = await once.mark(who)
    wishes = body or ContinueRequest()
    profile = await services.preferences.get_profile(who.user_id)
    choices = await services.offered_models.choose(who, profile, wishes.wishes())
    try:
        answer = await continued(
            services,
            who,
            conversation_id,
            choices,
            message_id=wishes.message_id,
            marked=marked,
        )
    except NotFound as error:
        raise NotYourConversation from error
    return await rest_answers.whole_or_streamed(request, answer)


@router.get("/{conversation_id}/queue")
async def list_queue(
    conversation_id: AnyId, who: SignedInOnRest, services: ServicesDep
) -> QueueAnswer:
    """List the questions of a conversation that wait to be answered, the next one first."""
    conversation, _ = await conversations.get_page(
        services.db, who.user_id, conversation_id, limit=1
    )
    found = await waiting.list_waiting(services.db, who.user_id, conversation_id)
    return QueueAnswer(
        conversation_id=conversation.id,
        active_run=conversation.active_run,
        waiting=[
            WaitingAnswer(
                run_id=one.id,
                message_id=one.message_id,
                user_message_id=one.user_message_id,
                place=one.place,
            )
            for one in found
        ],
    )


@router.delete("/{conversation_id}/queue/{run_id}", status_code=204, responses=described(409))
async def cancel(
    conversation_id: AnyId, run_id: RunId, who: SignedInOnRest, services: ServicesDep
) -> None:
    """Take a question out of the queue. It is kept, beside what is said after it."""
    try:
        await waiting.cancel(services.db, who.user_id, conversation_id, run_id)
    except NotFound as error:
        raise NotYourConversation from error
